"""The plugins of the how-to pages: their own tests pass as an author runs them, and nothing is left over."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import psutil
import pytest

from jupyterhub.auth import Authenticator
from jupyterhub.spawner import Spawner

tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")

PLUGINS = Path(__file__).parents[2] / "examples" / "plugins"
BASES = {"jupyterhub.spawners": Spawner, "jupyterhub.authenticators": Authenticator}


@pytest.fixture(params=sorted(path.parent.name for path in PLUGINS.glob("*/pyproject.toml")))
def plugin(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the plugin, so that nothing is written among the examples."""
    return Path(shutil.copytree(PLUGINS / request.param, tmp_path / request.param))


@pytest.mark.timeout(150)
def test_its_suite_passes(plugin: Path):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"],
        cwd=plugin,
        capture_output=True,
        text=True,
        timeout=140,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    # Servers of the suite run below its own temporary directory or with the plugin's files.
    left = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    assert [command for command in left if command and any(str(plugin) in word for word in command)] == []


def test_what_it_registers_is_a_class_of_the_right_kind(plugin: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(plugin)
    groups = tomllib.loads((plugin / "pyproject.toml").read_text())["project"]["entry-points"]
    for group, names in groups.items():
        for name, value in names.items():
            cls = EntryPoint(name, value, group).load()
            assert issubclass(cls, BASES[group]) and cls.__doc__
            importlib.invalidate_caches()
            sys.modules.pop(cls.__module__)
