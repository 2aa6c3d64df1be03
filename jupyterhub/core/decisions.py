"""A decision is a value that is true or false and says why."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["YES", "Decision", "no"]


@dataclass(frozen=True, slots=True)
class Decision:
    """Yes or no, with the reason.

    `cause` is a short slug for programs (``"scope-missing"``), `reason` a sentence for people, `retry_after`
    whole seconds after which asking again makes sense, or None.
    """

    allowed: bool
    cause: str = ""
    reason: str = ""
    retry_after: int | None = None

    def __bool__(self) -> bool:
        return self.allowed


YES = Decision(True)
"""The plain yes. One object, because most decisions on a hot path are this one."""


def no(cause: str, reason: str, *, retry_after: int | None = None) -> Decision:
    """A refusal with its cause and its sentence."""
    return Decision(False, cause, reason, retry_after)
