"""The life of one server: nine states, twenty moves, one table.

Everything that decides how a server may change state is in this file, and the file knows nothing else: no
spawner, no proxy, no clock. A move that is not in `TRANSITIONS` raises `IllegalMove` and changes nothing.
What pages, plugins and the REST API read (pending, ready, active) is derived from the state and stored
nowhere.

The drawing in the documentation is made by `diagram()` from the same table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from .classify.causes import title_of
from .errors import IllegalMove

__all__ = [
    "TRANSITIONS",
    "Event",
    "Failure",
    "State",
    "allowed_events",
    "diagram",
    "is_active",
    "is_ready",
    "move",
    "pending",
]


class State(str, Enum):
    """Where a server is in its life."""

    STOPPED = "stopped"
    STARTING = "starting"
    """Steps up to and with `Spawner.start`."""
    CONNECTING = "connecting"
    """The process is up; waiting for it to answer over HTTP."""
    ROUTING = "routing"
    """It answers; the proxy is being told."""
    UNDOING = "undoing"
    """The start failed or was cancelled; its steps are being taken back."""
    READY = "ready"
    CHECKING = "checking"
    """Finding out whether it still runs, after a restart of the hub or before saying "already running"."""
    STOPPING = "stopping"
    RENAMING = "renaming"

    __str__ = str.__str__


class Event(str, Enum):
    """What can happen to a server."""

    START = "start"
    CHECK = "check"
    RENAME = "rename"
    PROCESS_UP = "process_up"
    ANSWERED = "answered"
    ROUTED = "routed"
    FAILED = "failed"
    STOP = "stop"
    UNDONE = "undone"
    EXITED = "exited"
    ALIVE = "alive"
    DEAD = "dead"
    GONE = "gone"
    RENAMED = "renamed"

    __str__ = str.__str__


TRANSITIONS: Final[Mapping[State, Mapping[Event, State]]] = MappingProxyType(
    {
        State.STOPPED: {
            Event.START: State.STARTING,
            Event.CHECK: State.CHECKING,
            Event.RENAME: State.RENAMING,
        },
        State.STARTING: {
            Event.PROCESS_UP: State.CONNECTING,
            Event.FAILED: State.UNDOING,
            Event.STOP: State.UNDOING,
        },
        State.CONNECTING: {
            Event.ANSWERED: State.ROUTING,
            Event.FAILED: State.UNDOING,
            Event.STOP: State.UNDOING,
        },
        State.ROUTING: {
            Event.ROUTED: State.READY,
            Event.FAILED: State.UNDOING,
            Event.STOP: State.UNDOING,
        },
        State.UNDOING: {Event.UNDONE: State.STOPPED},
        State.READY: {
            Event.STOP: State.STOPPING,
            Event.EXITED: State.STOPPING,
            Event.CHECK: State.CHECKING,
        },
        State.CHECKING: {Event.ALIVE: State.READY, Event.DEAD: State.STOPPING},
        State.STOPPING: {Event.GONE: State.STOPPED},
        State.RENAMING: {Event.RENAMED: State.STOPPED},
    }
)

_PENDING: Final[Mapping[State, str]] = {
    State.STARTING: "spawn",
    State.CONNECTING: "spawn",
    State.ROUTING: "spawn",
    State.UNDOING: "stop",
    State.STOPPING: "stop",
    State.CHECKING: "check",
    State.RENAMING: "rename",
}


def move(state: State, event: Event) -> State:
    """The state after `event`. Raises IllegalMove when the table has no such move."""
    try:
        return TRANSITIONS[State(state)][Event(event)]
    except (KeyError, ValueError):
        raise IllegalMove(str(state), str(event)) from None


def allowed_events(state: State) -> frozenset[Event]:
    """The events that can happen in `state`."""
    return frozenset(TRANSITIONS[state])


def pending(state: State) -> str | None:
    """What the server is in the middle of: ``"spawn"``, ``"stop"``, ``"check"``, ``"rename"`` or None."""
    return _PENDING.get(state)


def is_ready(state: State) -> bool:
    """Whether the server runs and is reachable through the proxy."""
    return state is State.READY


def is_active(state: State) -> bool:
    """Whether the server runs or is in the middle of something."""
    return state is not State.STOPPED


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a server is stopped although somebody wanted it to run.

    `status` is a hint for whoever has to answer a request; `at` is an aware time; `next_step` says what the
    reader can do; `phase` is the name of the step that failed; `detail` is the text of the exception; `left_behind`
    is a sentence when the server may still be running after all that was tried.
    """

    cause: str
    message: str
    html_message: str = ""
    phase: str = ""
    at: datetime | None = None
    status: int = 500
    next_step: str = ""
    detail: str = ""
    left_behind: str = ""

    @property
    def title(self) -> str:
        """The heading under which the owner reads it."""
        return title_of(self.cause)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; empty members are left out."""
        found: dict[str, Any] = {
            "cause": self.cause, "title": self.title, "message": self.message, "status": self.status
        }  # fmt: skip
        for name in ("html_message", "phase", "next_step", "detail", "left_behind"):
            if value := getattr(self, name):
                found[name] = value
        if self.at is not None:
            found["at"] = self.at.isoformat()
        return found

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Failure:
        """Read what `to_dict` wrote. Unknown members are ignored, missing ones get defaults."""
        at = stored.get("at")
        return cls(
            cause=str(stored.get("cause", "unknown")),
            message=str(stored.get("message", "")),
            html_message=str(stored.get("html_message", "")),
            phase=str(stored.get("phase", "")),
            # A "Z" is understood from Python 3.11 on only.
            at=datetime.fromisoformat(at.replace("Z", "+00:00")) if isinstance(at, str) and at else None,
            status=int(stored.get("status", 500)),
            next_step=str(stored.get("next_step", "")),
            detail=str(stored.get("detail", "")),
            left_behind=str(stored.get("left_behind", "")),
        )


def diagram() -> str:
    """The table as a Mermaid state diagram; events with the same ends share an arrow."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.STOPPED.value}"]
    for state, moves in TRANSITIONS.items():
        arrows: dict[State, list[str]] = {}
        for event, target in moves.items():
            arrows.setdefault(target, []).append(event.value)
        lines += [f"    {state.value} --> {to.value}: {' / '.join(names)}" for to, names in arrows.items()]
    return "\n".join(lines) + "\n"
