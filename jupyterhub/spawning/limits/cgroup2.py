"""Limits by control groups of version 2, in a part of the tree that is given over ("delegated") to the Hub."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import Final

from .files import Hierarchies, counter, number, put, remove_groups
from .mechanism import CPU, MEMORY, PROCESSES, Group, LimitError, Limits, Usage

__all__ = ["ControlGroups2", "controllers_in", "usage_in"]

_CONTROLLER: Final = {MEMORY: "memory", CPU: "cpu", PROCESSES: "pids"}
_PERIOD: Final = 100_000
"""Microseconds over which the kernel counts a CPU limit, its own default."""
OWN_GROUP: Final = "jupyterhub"
"""The group into which the Hub moves itself."""

_preparing = threading.Lock()


def controllers_in(group: Path) -> set[str]:
    """Return the controllers that may be given to groups below this one."""
    try:
        return set((group / "cgroup.controllers").read_text().split())
    except OSError:
        return set()


class ControlGroups2:
    """Groups beside the Hub's own, below the group that the Hub was started in.

    A group that has processes cannot limit the groups below it. So the Hub, with what it has started, first moves
    to a group of its own there.
    """

    name = "cgroup v2"

    def __init__(self, hierarchies: Hierarchies | None = None) -> None:
        self._own = hierarchies

    def _base(self) -> Path | None:
        group = (self._own or Hierarchies.of_this_process()).unified
        return group.parent if group is not None and group.name == OWN_GROUP else group

    def why_not(self) -> dict[str, str]:
        """It may not be there, lack a controller, or not be delegated."""
        base = self._base()
        if base is None:
            return dict.fromkeys(_CONTROLLER, "cgroup v2 is not mounted")
        given = controllers_in(base)
        files = (base, base / "cgroup.procs", base / "cgroup.subtree_control")
        closed = [path for path in files if not os.access(path, os.W_OK)]
        reasons = {}
        for kind, controller in _CONTROLLER.items():
            if controller not in given:
                reasons[kind] = f"cgroup v2 does not have {controller} in {base}"
            elif closed:
                reasons[kind] = f"{closed[0]} is not writable for the Hub (not delegated)"
        return reasons

    def _prepare(self, base: Path) -> None:
        """Let groups below `base` have the controllers."""
        wanted = controllers_in(base) & set(_CONTROLLER.values())
        control = base / "cgroup.subtree_control"
        with _preparing:
            for attempt in range(10):
                missing = wanted - set(control.read_text().split())
                if not missing:
                    return
                # Only the root of all may have processes beside such groups; it has no cgroup.type.
                if (base / "cgroup.type").exists():
                    self._move_aside(base)
                try:
                    put(control, " ".join(f"+{name}" for name in sorted(missing)))
                except LimitError:
                    # A process that was begun meanwhile is in the way.
                    if attempt == 9:
                        raise

    @staticmethod
    def _move_aside(base: Path) -> None:
        own = base / OWN_GROUP
        for pid in (base / "cgroup.procs").read_text().split():
            own.mkdir(exist_ok=True)
            try:
                put(own / "cgroup.procs", pid)
            except LimitError as error:
                if not isinstance(error.__cause__, ProcessLookupError):
                    raise

    def plan(self, name: str, limits: Limits) -> Group:
        """Beside the Hub's own."""
        base, reasons = self._base(), self.why_not()
        for kind in limits.kinds:
            if kind in reasons:
                raise LimitError(reasons[kind])
        if base is None:
            raise LimitError("cgroup v2 is not mounted")
        return Group(self.name, name, limits, {"path": str(base / name)})

    def create(self, group: Group) -> Group:
        """Make the directory and set the limits."""
        self.remove(group)
        path = Path(group.places["path"])
        try:
            self._prepare(path.parent)
            path.mkdir()
            self._set(path, group.limits)
        except (OSError, LimitError) as error:
            self.remove(group)
            raise error if isinstance(error, LimitError) else LimitError(str(error)) from error
        return group

    @staticmethod
    def _set(path: Path, limits: Limits) -> None:
        if limits.memory is not None:
            put(path / "memory.max", str(limits.memory))
            with contextlib.suppress(LimitError):
                # There is no such file where the kernel does not count swap.
                put(path / "memory.swap.max", "0")
        if limits.processes is not None:
            put(path / "pids.max", str(limits.processes))
        if limits.cpu is not None:
            put(path / "cpu.max", f"{max(1000, int(limits.cpu * _PERIOD))} {_PERIOD}")

    def place(self, group: Group, pid: int) -> None:
        """Enter it."""
        put(Path(group.places["path"]) / "cgroup.procs", str(pid))

    def usage(self, group: Group) -> Usage:
        """Read the counters."""
        return usage_in(Path(group.places["path"]))

    def remove(self, group: Group) -> None:
        """Kill and remove."""
        remove_groups([Path(group.places["path"])])


def usage_in(group: Path) -> Usage:
    """Return what a group of version 2 says, those below it included."""
    return Usage(
        memory=number(group / "memory.current"),
        cpu_seconds=counter(group / "cpu.stat", "usage_usec") / 1e6,
        processes=number(group / "pids.current"),
        memory_kills=counter(group / "memory.events", "oom_kill"),
        refused_processes=counter(group / "pids.events", "max"),
    )
