"""What every way to enforce limits does, and the plain values it does it with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ...traitlets import ByteSpecification

__all__ = [
    "CPU",
    "KINDS",
    "MEMORY",
    "PROCESSES",
    "Group",
    "LimitError",
    "LimitMechanism",
    "Limits",
    "Usage",
    "format_bytes",
    "notices",
    "unenforced_in",
]

MEMORY: Final = "memory"
CPU: Final = "cpu"
PROCESSES: Final = "processes"
KINDS: Final = (MEMORY, CPU, PROCESSES)

SETTINGS: Final[Mapping[str, str]] = {MEMORY: "mem_limit", CPU: "cpu_limit", PROCESSES: "process_limit"}
"""The setting that gives each kind of limit."""


class LimitError(RuntimeError):
    """A limit could not be set, or a group not be removed; the text says why."""


def format_bytes(amount: int) -> str:
    """Return an amount of bytes for people: ``2 GiB``, ``1.5 GiB``, ``300 MiB``."""
    size, unit = float(amount), "bytes"
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.2f}".rstrip("0").rstrip(".") + f" {unit}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server may use; None is no limit."""

    memory: int | None = None
    """Bytes; swap counts as memory."""
    cpu: float | None = None
    """Cores."""
    processes: int | None = None
    """Processes and threads."""

    @classmethod
    def of(cls, mem_limit: Any, cpu_limit: Any, process_limit: Any = None) -> Limits:
        """Make them of settings as people write them (``"2G"``, ``"0.5"``); empty and 0 are no limit.

        Raises traitlets.TraitError or ValueError for what is no amount.
        """
        return cls(
            memory=ByteSpecification().validate(None, mem_limit) if mem_limit else None,
            cpu=float(cpu_limit) if cpu_limit else None,
            processes=int(process_limit) if process_limit else None,
        )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that are limited."""
        return tuple(kind for kind in KINDS if getattr(self, kind) is not None)

    def without(self, kinds: Mapping[str, Any]) -> Limits:
        """Return them less some kinds."""
        return Limits(**{kind: getattr(self, kind) for kind in self.kinds if kind not in kinds})

    def describe(self, kind: str) -> str:
        """Words for one of them, such as ``memory limit 2 GiB``."""
        if kind == MEMORY:
            return f"memory limit {format_bytes(self.memory or 0)}"
        if kind == CPU:
            return f"CPU limit {self.cpu:g}"
        return f"limit of {self.processes} processes"


@dataclass(frozen=True, slots=True)
class Group:
    """One server's group, as it is kept in the server's state. `places` is for the mechanism that made it."""

    mechanism: str
    name: str
    limits: Limits
    places: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        limits = {kind: getattr(self.limits, kind) for kind in self.limits.kinds}
        return {"mechanism": self.mechanism, "name": self.name, "limits": limits, "places": dict(self.places)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Group | None:
        """Make one from what `to_dict` gave; None for anything else."""
        try:
            return cls(
                mechanism=str(stored["mechanism"]),
                name=str(stored["name"]),
                limits=Limits(**stored["limits"]),
                places={str(key): str(value) for key, value in stored["places"].items()},
            )
        except (AttributeError, KeyError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a group uses now, and what has happened in it since it was made; what is not known is 0."""

    memory: int = 0
    """Bytes."""
    cpu_seconds: float = 0
    """Processor time of all its processes, past ones too."""
    processes: int = 0
    """Processes and threads."""
    memory_kills: int = 0
    """Processes that were killed because the memory limit was reached."""
    refused_processes: int = 0
    """Processes and threads that were not begun because of the limit on their number."""


class LimitMechanism(Protocol):
    """One way to enforce limits. All methods block, for milliseconds; none is for the event loop's own thread."""

    name: str
    """What it is called in stored groups, in logs and on pages."""

    def why_not(self) -> dict[str, str]:
        """Return, for each kind of limit that cannot be enforced here, the reason; changes nothing."""

    def plan(self, name: str, limits: Limits) -> Group:
        """Return the group that `create` would make; enough for `remove`. Raises LimitError."""

    def create(self, group: Group) -> Group:
        """Make a planned group, empty, and return it. One of that name that is left from earlier is removed first.

        Raises LimitError, and then nothing is left of it.
        """

    def place(self, group: Group, pid: int) -> None:
        """Put a process, which has no children and is held before its exec, into the group. Raises LimitError."""

    def usage(self, group: Group) -> Usage:
        """Return what the group uses; all 0 when it is not there."""

    def remove(self, group: Group) -> None:
        """Kill all that is in the group, and remove it; nothing happens when it is not there. Raises LimitError."""


def notices(state: Any) -> list[str]:
    """Return what people should know of a running server's limits, from its stored state: sentences."""
    stored = state.get("limits") if isinstance(state, Mapping) else None
    if not isinstance(stored, Mapping):
        return []
    said = [str(text) for text in stored.get("unenforced") or ()]
    group = Group.from_dict(stored)
    kills = stored.get("memory_kills")
    if group is not None and isinstance(kills, int) and kills > 0:
        times = "once" if kills == 1 else f"{kills} times"
        said.append(f"A process of this server was killed: {group.limits.describe(MEMORY)} ({times}).")
    return said


def unenforced_in(limits: Limits, reasons: Mapping[str, str]) -> list[str]:
    """Return a sentence for each of the limits that is not enforced."""
    found = []
    for kind in limits.kinds:
        if kind in reasons:
            words = limits.describe(kind)
            found.append(f"The {words} of this server is not enforced: {reasons[kind]}.")
    return found
