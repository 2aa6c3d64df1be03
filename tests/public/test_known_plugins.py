"""Plugins by name: what a package registers, the short names of known packages, and what to install for them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from traitlets import TraitError

from jupyterhub.app import JupyterHub
from jupyterhub.core.known_plugins import KNOWN_PACKAGES, KnownPackage, find_by_module, find_by_name

tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")

ROOT = Path(__file__).parents[2]
PACKAGES = [package for packages in KNOWN_PACKAGES.values() for package in packages]

#: A complete spawner, as the file of some package.
SPAWNER = """
from jupyterhub.spawning.fakes import StartsNothing

class {name}(StartsNothing):
    pass
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install a module, with what its package registers, for this test."""

    def install(module: str, text: str, **registered: str) -> None:
        monkeypatch.delitem(sys.modules, module, raising=False)
        (tmp_path / f"{module}.py").write_text(text)
        information = tmp_path / f"{module}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in registered.items()]
        (information / "entry_points.txt").write_text("\n".join(["[jupyterhub.spawners]", *lines]))
        monkeypatch.syspath_prepend(tmp_path)

    return install


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have a module not installed, for this test."""
    return lambda module: monkeypatch.setitem(sys.modules, module, None)


def spawner_class(value: Any) -> Any:
    return JupyterHub(spawner_class=value).spawner_class


def extras() -> dict[str, set[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {
        extra: {Requirement(each).name for each in needed} for extra, needed in project["optional-dependencies"].items()
    }


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.distribution)
def test_the_extra_that_is_named_brings_the_package_in(package: KnownPackage):
    assert extras()[package.extra] == {package.distribution}
    assert f'"jupyterhub[{package.extra}]"' in package.advice


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.distribution)
def test_the_reference_lists_it(package: KnownPackage):
    rows = (ROOT / "docs/reference/plugins.md").read_text().splitlines()
    (row,) = [row for row in rows if row.startswith(f"| [{package.distribution}]")]
    assert f"`{package.extra}`" in row
    names = set(re.findall(r"`([^`]+)`", row.split("|")[3]))
    # Most of those that begin with "local-" are described, not listed.
    assert {name for name in package.classes if not name.startswith("local-")} == names - {"local-", "mwoauth"}


def test_names_are_in_lower_case_and_lead_to_one_package():
    for packages in KNOWN_PACKAGES.values():
        names = [name for package in packages for name in package.classes]
        assert len(names) == len(set(names)) and all(name == name.lower() for name in names)
        assert all(path.count(".") >= 1 for package in packages for path in package.classes.values())


def test_packages_are_found_by_name_and_by_path():
    by_name = find_by_name("jupyterhub.spawners", "Slurm")
    assert by_name is not None and by_name.distribution == "batchspawner"
    by_path = find_by_module("jupyterhub.authenticators", "oauthenticator.okpy.OkpyOAuthenticator")
    assert by_path is not None and by_path.extra == "oauth"
    assert find_by_name("jupyterhub.authenticators", "slurm") is None
    assert find_by_module("jupyterhub.spawners", "mine.Spawner") is None


@pytest.mark.parametrize("name", ["kubernetes", "KUBE", "kubespawner.KubeSpawner"])
def test_a_short_name_stands_for_a_class_that_nobody_registers(installed: Callable[..., None], name: str):
    installed("kubespawner", SPAWNER.format(name="KubeSpawner"))
    assert spawner_class(name) is sys.modules["kubespawner"].KubeSpawner


def test_what_a_package_registers_goes_before_the_table(installed: Callable[..., None], missing: Callable[[str], None]):
    missing("kubespawner")
    installed("another_kubespawner", SPAWNER.format(name="Mine"), kubernetes="another_kubespawner:Mine")
    assert spawner_class("kubernetes") is sys.modules["another_kubespawner"].Mine


@pytest.mark.parametrize("name", ["kubernetes", "kubespawner.KubeSpawner"])
def test_a_missing_package_is_told_with_its_extra(missing: Callable[[str], None], name: str):
    missing("kubespawner")
    with pytest.raises(TraitError) as caught:
        spawner_class(name)
    assert "The 'spawner_class' trait" in str(caught.value) and repr(name) in str(caught.value)
    assert "jupyterhub-kubespawner is not installed" in str(caught.value)
    assert 'pip install "jupyterhub[kubernetes]"' in str(caught.value)


def test_a_package_that_is_there_and_broken_is_not_called_missing(installed: Callable[..., None]):
    installed("kubespawner", "import no_such_module_of_its_own")
    with pytest.raises(TraitError, match=r"KubeSpawner cannot be imported: .*no_such_module_of_its_own") as caught:
        spawner_class("kubernetes")
    assert "pip install" not in str(caught.value)


def test_a_class_of_another_kind_is_refused(installed: Callable[..., None]):
    installed("kubespawner", "class KubeSpawner: ...")
    with pytest.raises(TraitError, match=r"must be a class derived from jupyterhub\.spawner\.Spawner"):
        spawner_class("kubernetes")


def test_the_hub_says_at_its_start_what_to_install_and_where_the_name_stands(tmp_path: Path):
    (tmp_path / "without_it.py").write_text(
        "import sys\nsys.modules['batchspawner'] = None\nfrom jupyterhub.app import main\nmain()\n"
    )
    (tmp_path / "jupyterhub_config.py").write_text("\nc.JupyterHub.spawner_class = 'slurm'\n")
    done = subprocess.run(
        [sys.executable, "without_it.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "slurm" in line]
    assert 'pip install "jupyterhub[batch]"' in line and "jupyterhub_config.py, line 2" in line
    assert "Traceback" not in done.stderr


def test_an_older_sqlalchemy_is_told_before_anything_else_goes_wrong(tmp_path: Path):
    """Packages that need one can be installed beside this one; the Hub itself cannot run with it."""
    (tmp_path / "sqlalchemy.py").write_text("__version__ = '1.4.54'\n")
    done = subprocess.run(
        [sys.executable, "-c", "import jupyterhub.app"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: The Hub needs SQLAlchemy 2.0 or newer, and 1.4.54 is")
