"""JupyterHub 6.1.1 from the package registry, in an environment of its own, for tests of running beside it.

Variables: JUPYTERHUB_TEST_UPSTREAM names the ``bin`` directory of an existing environment;
JUPYTERHUB_TEST_CACHE is where one is made otherwise (default ``~/.cache/jupyterhub-tests``), together with
the Node proxy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

VERSION = "6.1.1"
PROXY_VERSION = "5"


class NotAvailable(Exception):
    """The environment cannot be made here; the text says what is missing."""


@dataclass(frozen=True)
class Upstream:
    """Where things are: `bin` has the commands of JupyterHub, `proxy` is the command
    configurable-http-proxy.
    """

    bin: Path
    proxy: Path


def cache_directory() -> Path:
    """Return where environments are kept between runs."""
    return Path(os.environ.get("JUPYTERHUB_TEST_CACHE") or Path.home() / ".cache/jupyterhub-tests")


def _run(*command: str | Path) -> None:
    try:
        done = subprocess.run(
            [str(word) for word in command], check=False, capture_output=True, text=True, timeout=900
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotAvailable(f"{command[0]}: {error}") from error
    if done.returncode:
        raise NotAvailable(f"{' '.join(str(word) for word in command)}: {done.stderr.strip()[-500:]}")


def _python_environment() -> Path:
    given = os.environ.get("JUPYTERHUB_TEST_UPSTREAM")
    if given:
        commands = Path(given)
        if not (commands / "jupyterhub").exists():
            raise NotAvailable(f"JUPYTERHUB_TEST_UPSTREAM={given} has no command jupyterhub")
        return commands
    environment = cache_directory() / f"upstream-{VERSION}"
    done = environment / "complete"
    if not done.exists():
        shutil.rmtree(environment, ignore_errors=True)
        environment.parent.mkdir(parents=True, exist_ok=True)
        _run(sys.executable, "-m", "venv", environment)
        _run(environment / "bin/pip", "install", "--quiet", f"jupyterhub=={VERSION}", "jupyterlab>=4")
        done.touch()
    return environment / "bin"


def node_proxy() -> Path:
    """Return the command configurable-http-proxy: the one on PATH, or one that npm fetches."""
    found = shutil.which("configurable-http-proxy")
    if found:
        return Path(found)
    directory = cache_directory() / f"proxy-{PROXY_VERSION}"
    command = directory / "node_modules/.bin/configurable-http-proxy"
    if not command.exists():
        if shutil.which("npm") is None:
            raise NotAvailable("neither configurable-http-proxy nor npm is on PATH")
        directory.mkdir(parents=True, exist_ok=True)
        _run("npm", "install", "--silent", "--prefix", directory, f"configurable-http-proxy@{PROXY_VERSION}")
    return command


def upstream_environment() -> Upstream:
    """Return JupyterHub 6.1.1 and its proxy; they are fetched once. Raises NotAvailable."""
    return Upstream(bin=_python_environment(), proxy=node_proxy())
