"""Other people's packages at their current releases, unmodified, in an environment of their own with this checkout.

They are fetched once by way of the extras in ``pyproject.toml``, and again when that file changes; the checkout is
installed in place, so it is always current. JUPYTERHUB_TEST_CACHE says where (default ``~/.cache/jupyterhub-tests``).
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

from jupyterhub.core.known_plugins import KNOWN_PACKAGES

from .upstream import VERSION, _run, cache_directory

#: A cluster that nobody asks anything: KubeSpawner wants to know of one when it is made.
CLUSTER = """
apiVersion: v1
kind: Config
current-context: none
contexts: [{name: none, context: {cluster: none, user: none}}]
clusters: [{name: none, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: none, user: {}}]
"""

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = sorted({package.extra for packages in KNOWN_PACKAGES.values() for package in packages} | {"culler", "singleuser"})


def packages_environment() -> Path:
    """Return the directory with the commands. Raises NotAvailable."""
    environment = cache_directory() / f"packages-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}"
    stamp = environment / "complete"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(environment, ignore_errors=True)
        environment.parent.mkdir(parents=True, exist_ok=True)
        _run(sys.executable, "-m", "venv", environment)
        # One of the classes behind `oauth` needs a package that oauthenticator leaves to those who use it.
        here = f"{ROOT}[{','.join(EXTRAS)}]"
        _run(environment / "bin/pip", "install", "--quiet", "--editable", here, "oauthenticator[mediawiki]")
        stamp.write_text(wanted)
    return environment / "bin"


def environment_beside_upstream(packages: list[str]) -> Path:
    """Return the commands of an environment with these requirements beside JupyterHub 6.1.1. Raises NotAvailable."""
    digest = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:8]
    environment = cache_directory() / f"packages-upstream-{VERSION}-{digest}"
    stamp = environment / "complete"
    if not stamp.exists():
        shutil.rmtree(environment, ignore_errors=True)
        environment.parent.mkdir(parents=True, exist_ok=True)
        _run(sys.executable, "-m", "venv", environment)
        _run(environment / "bin/pip", "install", "--quiet", f"jupyterhub=={VERSION}", *packages)
        stamp.touch()
    return environment / "bin"
