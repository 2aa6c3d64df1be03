"""Limits by control groups of version 1: one hierarchy per controller, a group of the same name in each."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .files import Hierarchies, counter, number, put, remove_groups
from .mechanism import CPU, MEMORY, PROCESSES, Group, LimitError, Limits, Usage

__all__ = ["ControlGroups1", "usage_in"]

_CONTROLLER: Final = {MEMORY: "memory", CPU: "cpu", PROCESSES: "pids"}
_JOINED: Final = ("memory", "cpu", "cpuacct", "pids")
"""Groups are made in all of these that there are, because they also count and help to remove."""
_PERIOD: Final = 100_000
"""Microseconds over which the kernel counts a CPU limit, its own default."""


class ControlGroups1:
    """Groups below the Hub's own, so that what the Hub itself may use bounds all its servers together."""

    name = "cgroup v1"

    def __init__(self, hierarchies: Hierarchies | None = None) -> None:
        self._own = hierarchies

    def _parents(self) -> dict[str, Path]:
        own = self._own or Hierarchies.of_this_process()
        return {name: path for name, path in own.by_controller.items() if name in _JOINED}

    def why_not(self) -> dict[str, str]:
        """A hierarchy may be missing, or not be ours to write to."""
        parents = self._parents()
        reasons = {}
        for kind, controller in _CONTROLLER.items():
            parent = parents.get(controller)
            if parent is None:
                reasons[kind] = f"cgroup v1 has no hierarchy for {controller} here"
            elif not os.access(parent, os.W_OK):
                reasons[kind] = f"{parent} is not writable for the Hub"
        return reasons

    def plan(self, name: str, limits: Limits) -> Group:
        """Everywhere that we may."""
        places = {
            controller: parent / name for controller, parent in self._parents().items() if os.access(parent, os.W_OK)
        }
        for kind in limits.kinds:
            if _CONTROLLER[kind] not in places:
                raise LimitError(self.why_not().get(kind, f"no limit of {kind} can be set"))
        return Group(self.name, name, limits, {controller: str(path) for controller, path in places.items()})

    def create(self, group: Group) -> Group:
        """Make the directories and set the limits."""
        self.remove(group)
        places = {controller: Path(path) for controller, path in group.places.items()}
        try:
            for path in places.values():
                # Two controllers may share one hierarchy.
                path.mkdir(exist_ok=True)
            self._set(places, group.limits)
        except (OSError, LimitError) as error:
            self.remove(group)
            raise error if isinstance(error, LimitError) else LimitError(str(error)) from error
        return group

    def _set(self, places: Mapping[str, Path], limits: Limits) -> None:
        if limits.memory is not None:
            put(places["memory"] / "memory.limit_in_bytes", str(limits.memory))
            with contextlib.suppress(LimitError):
                # Memory and swap together; there is no such file where the kernel does not count swap.
                put(places["memory"] / "memory.memsw.limit_in_bytes", str(limits.memory))
        if limits.processes is not None:
            put(places["pids"] / "pids.max", str(limits.processes))
        if limits.cpu is not None:
            put(places["cpu"] / "cpu.cfs_period_us", str(_PERIOD))
            put(places["cpu"] / "cpu.cfs_quota_us", str(max(1000, int(limits.cpu * _PERIOD))))

    def place(self, group: Group, pid: int) -> None:
        """Enter it everywhere."""
        for path in group.places.values():
            put(Path(path) / "cgroup.procs", str(pid))

    def usage(self, group: Group) -> Usage:
        """Read the counters."""
        return usage_in({key: Path(path) for key, path in group.places.items()})

    def remove(self, group: Group) -> None:
        """Kill and remove."""
        remove_groups(Path(path) for path in group.places.values())


def usage_in(places: Mapping[str, Path]) -> Usage:
    """Return what groups of version 1 say, by controller."""
    nowhere = Path("/nonexistent")
    memory, pids = places.get("memory", nowhere), places.get("pids", nowhere)
    return Usage(
        memory=number(memory / "memory.usage_in_bytes"),
        cpu_seconds=number(places.get("cpuacct", nowhere) / "cpuacct.usage") / 1e9,
        processes=number(pids / "pids.current"),
        memory_kills=counter(memory / "memory.oom_control", "oom_kill"),
        refused_processes=counter(pids / "pids.events", "max"),
    )
