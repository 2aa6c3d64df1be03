"""The mechanisms that this machine has, each with a place of its own for a test, which must be empty afterwards."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Literal

from jupyterhub.spawning.limits import Group, LimitMechanism
from jupyterhub.spawning.limits.cgroup1 import ControlGroups1
from jupyterhub.spawning.limits.cgroup2 import OWN_GROUP, ControlGroups2
from jupyterhub.spawning.limits.fakes import RememberedLimits
from jupyterhub.spawning.limits.files import Hierarchies
from jupyterhub.spawning.limits.systemd import SystemdScopes


@dataclass
class LimitWorld:
    """`left` names what is there of a group; `is_real` tells whether the kernel enforces anything."""

    mechanism: LimitMechanism
    left: Callable[[Group], list[str]]
    is_real: bool = True


def _directories_of(group: Group) -> list[str]:
    return [path for path in group.places.values() if os.path.isdir(path)]


@contextmanager
def _fake() -> Iterator[LimitWorld]:
    mechanism = RememberedLimits()
    yield LimitWorld(mechanism, lambda group: [name for name in mechanism.members if name == group.name], is_real=False)
    assert not mechanism.members


@contextmanager
def own_groups1() -> Iterator[dict[str, Path]]:
    """A group for a test in each hierarchy of version 1."""
    found = Hierarchies.of_this_process().by_controller
    name = f"jupyterhub-tests-{secrets.token_hex(4)}"
    roots = {}
    for controller in ("memory", "cpu", "cpuacct", "pids"):
        if controller in found:
            # The top, because our own may belong to whatever runs the tests.
            roots[controller] = _mount_of(found[controller]) / name
    try:
        for path in roots.values():
            path.mkdir()
        yield roots
        assert [str(each) for path in roots.values() for each in path.iterdir() if each.is_dir()] == []
    finally:
        for path in roots.values():
            with suppress(OSError):
                path.rmdir()


def _mount_of(path: Path) -> Path:
    while not os.path.ismount(path):
        path = path.parent
    return path


@contextmanager
def _cgroup1() -> Iterator[LimitWorld]:
    with own_groups1() as parents:
        yield LimitWorld(ControlGroups1(Hierarchies(None, parents)), _directories_of)


@contextmanager
def own_group2() -> Iterator[Path]:
    """A group for a test, as if it were delegated to us."""
    own = Hierarchies.of_this_process().unified
    assert own is not None
    top = _mount_of(own)
    for controller in ("memory", "cpu", "pids"):
        (top / "cgroup.subtree_control").write_text(f"+{controller}")
    parent = top / f"jupyterhub-tests-{secrets.token_hex(4)}"
    parent.mkdir()
    try:
        yield parent
        assert [str(each) for each in parent.iterdir() if each.is_dir()] == []
    finally:
        with suppress(OSError):
            parent.rmdir()


@contextmanager
def _cgroup2() -> Iterator[LimitWorld]:
    with own_group2() as parent:
        yield LimitWorld(ControlGroups2(Hierarchies(parent, {})), _directories_of)


def _slices(pattern: str) -> list[str]:
    # Unlike `glob`, this bears that groups go meanwhile.
    return [path for path, _, _ in os.walk("/sys/fs/cgroup") if fnmatch(os.path.basename(path), pattern)]


@contextmanager
def _systemd(bus: Literal["system", "user"] = "system") -> Iterator[LimitWorld]:
    yield LimitWorld(SystemdScopes(bus), lambda group: _slices(group.places["slice"]))


# -- where a whole Hub runs, for the system tests


@dataclass
class HubPlace:
    """`put` is called with the id of a Hub that was just started; `left` names what there is of servers' groups."""

    put: Callable[[int], None]
    left: Callable[[], list[str]]


@contextmanager
def _hub_in_cgroup1() -> Iterator[HubPlace]:
    with own_groups1() as roots:

        def put(pid: int) -> None:
            for path in roots.values():
                (path / "cgroup.procs").write_text(str(pid))

        yield HubPlace(put, lambda: [str(each) for path in roots.values() for each in path.iterdir() if each.is_dir()])


@contextmanager
def _hub_in_cgroup2() -> Iterator[HubPlace]:
    with own_group2() as parent:
        place = HubPlace(
            lambda pid: put_into(parent, pid),
            lambda: [str(each) for each in parent.iterdir() if each.is_dir() and each.name != OWN_GROUP],
        )
        yield place
        # What the Hub made for itself is its own to keep.
        with suppress(OSError):
            (parent / OWN_GROUP).rmdir()


def put_into(parent: Path, pid: int) -> None:
    """Start a Hub as a unit with DelegateSubgroup= does from the second time on, where groups have limits already."""
    own = parent / OWN_GROUP
    ((own if own.is_dir() else parent) / "cgroup.procs").write_text(str(pid))


@contextmanager
def _hub_with_systemd() -> Iterator[HubPlace]:
    yield HubPlace(lambda pid: None, lambda: _slices("jupyterhub_*.slice"))


HUB_PLACES = {
    "cgroup v1": _hub_in_cgroup1,
    "cgroup v2": _hub_in_cgroup2,
    "systemd": _hub_with_systemd,
    "systemd --user": _hub_with_systemd,
}
"""By the name of the mechanism."""


_REAL = {
    "cgroup1": (ControlGroups1(), _cgroup1),
    "cgroup2": (ControlGroups2(), _cgroup2),
    "systemd": (SystemdScopes("system"), _systemd),
    "systemd-user": (SystemdScopes("user"), partial(_systemd, "user")),
}

WORLDS = {"fake": _fake, **{name: world for name, (probe, world) in _REAL.items() if not probe.why_not()}}
