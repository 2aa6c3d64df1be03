"""The kernel's files about control groups: where ours are, reading them, emptying and removing a group."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .mechanism import LimitError

__all__ = ["REMOVE_TIMEOUT", "Hierarchies", "counter", "number", "put", "remove_groups"]

REMOVE_TIMEOUT = 5.0
"""Seconds that killed processes have to be gone."""


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """This process's own groups."""

    unified: Path | None
    """In cgroup v2, None where that is not mounted."""
    by_controller: Mapping[str, Path]
    """In cgroup v1, by the name of the controller."""

    @classmethod
    def of_this_process(cls, proc: Path = Path("/proc/self")) -> Hierarchies:
        """Read them; on a system without control groups there are none."""
        try:
            mounts = (proc / "mountinfo").read_text().splitlines()
            memberships = (proc / "cgroup").read_text().splitlines()
        except OSError:
            return cls(None, {})
        own = {}
        for line in memberships:
            _, controllers, path = line.split(":", 2)
            own.update(dict.fromkeys(controllers.split(","), path))
        unified: Path | None = None
        by_controller: dict[str, Path] = {}
        for line in mounts:
            before, _, after = line.partition(" - ")
            root, point = (_unescape(text) for text in before.split()[3:5])
            kind, _, options = after.split(" ", 2)
            if kind == "cgroup2" and "" in own:
                unified = unified or _below(point, root, own[""])
            elif kind == "cgroup":
                for name in options.split(","):
                    if name in own:
                        by_controller.setdefault(name, _below(point, root, own[name]))
        return cls(unified, by_controller)


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


def _below(point: str, root: str, path: str) -> Path:
    """Return where a group is seen, when the mount shows the hierarchy from `root` on."""
    inside = path[len(root) :] if root != "/" and (path + "/").startswith(root + "/") else path
    return Path(point) / inside.strip("/")


def put(path: Path, text: str) -> None:
    """Write to one of the kernel's files. Raises LimitError that names it."""
    try:
        # Not `write_text`: the file must never be created.
        descriptor = os.open(path, os.O_WRONLY)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise LimitError(f"{text} could not be written to {path}: {error.strerror}") from error


def number(path: Path) -> int:
    """Return the number in a file, 0 if there is none."""
    try:
        return int(path.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def counter(path: Path, name: str) -> int:
    """Return the number after a name in a file of names and numbers, 0 if it is not there."""
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0


def _members(groups: Iterable[Path]) -> set[int]:
    found: set[int] = set()
    for group in groups:
        for directory, _, _ in os.walk(group):
            with contextlib.suppress(OSError):
                found.update(int(line) for line in Path(directory, "cgroup.procs").read_text().split())
    # 0 stands for processes outside our own view.
    return found - {0, os.getpid()}


def remove_groups(groups: Iterable[Path], timeout: float = REMOVE_TIMEOUT) -> None:
    """Kill all that is in the groups, and remove them with those below them. Raises LimitError after `timeout` s."""
    left = [group for group in groups if group.is_dir()]
    for group in left:
        # So that what forks faster than we kill cannot go on.
        with contextlib.suppress(LimitError):
            put(group / "pids.max", "0")
    deadline = time.monotonic() + timeout
    pause = 0.001
    while left:
        for group in left:
            with contextlib.suppress(LimitError):
                put(group / "cgroup.kill", "1")
        for pid in _members(left):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        left = [group for group in left if not _removed(group)]
        if left and time.monotonic() > deadline:
            raise LimitError(f"{left[0]} is still in use {timeout:g} s after its processes were killed")
        if left:
            time.sleep(pause)
            pause = min(pause * 2, 0.1)


def _removed(group: Path) -> bool:
    for directory, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    return not group.is_dir()
