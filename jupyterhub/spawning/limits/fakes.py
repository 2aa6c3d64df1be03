"""A mechanism for tests that limits nothing and remembers everything."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import psutil

from .mechanism import KINDS, Group, LimitError, Limits, Usage

__all__ = ["RememberedLimits"]


class RememberedLimits:
    """Keeps groups in memory. `missing` are the kinds that it says it cannot enforce."""

    def __init__(self, missing: Iterable[str] = (), reason: str = "this machine lacks it", name: str = "fake") -> None:
        self.name = name
        self._missing: dict[str, str] = {kind: reason for kind in KINDS if kind in set(missing)}
        self.members: dict[str, list[psutil.Process]] = {}
        self.limits: dict[str, Limits] = {}
        self.kills: dict[str, int] = {}

    def why_not(self) -> dict[str, str]:
        """What the test said is missing."""
        return dict(self._missing)

    def plan(self, name: str, limits: Limits) -> Group:
        """Refuse what the test said is missing."""
        for kind in limits.kinds:
            if kind in self._missing:
                raise LimitError(self._missing[kind])
        return Group(self.name, name, limits)

    def create(self, group: Group) -> Group:
        """Remember a group."""
        self.remove(group)
        self.members[group.name], self.limits[group.name], self.kills[group.name] = [], group.limits, 0
        return group

    def place(self, group: Group, pid: int) -> None:
        """Remember a process."""
        if group.name not in self.members:
            raise LimitError(f"there is no group {group.name}")
        self.members[group.name].append(psutil.Process(pid))

    def _processes(self, name: str) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for process in self.members.get(name, []):
            with contextlib.suppress(psutil.Error):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    found += [process, *process.children(recursive=True)]
        return found

    def kill_for_memory(self, group: Group) -> None:
        """Do what the kernel does when the memory limit is reached."""
        for process in self._processes(group.name):
            with contextlib.suppress(psutil.Error):
                process.kill()
            self.kills[group.name] += 1

    def usage(self, group: Group) -> Usage:
        """What the processes say of themselves."""
        memory, seconds, count = 0, 0.0, 0
        for process in self._processes(group.name):
            with contextlib.suppress(psutil.Error):
                memory += process.memory_info().rss
                seconds += sum(process.cpu_times()[:2])
                count += 1
        return Usage(memory, seconds, count, memory_kills=self.kills.get(group.name, 0))

    def remove(self, group: Group) -> None:
        """Kill and forget."""
        for process in self._processes(group.name):
            with contextlib.suppress(psutil.Error):
                process.kill()
        for known in (self.members, self.limits, self.kills):
            known.pop(group.name, None)
