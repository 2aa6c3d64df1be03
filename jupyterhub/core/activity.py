"""Which of two activity times counts (config §13, rest-api §4.5)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from .clock import aware, isoformat
from .errors import InvalidRequest

__all__ = [
    "FUTURE_TOLERANCE",
    "SERVER_TOKEN_NOTE",
    "check_reported",
    "counts_for_owner",
    "is_newer",
    "latest",
]

FUTURE_TOLERANCE: Final = timedelta(minutes=59)
"""How far ahead of the hub's clock a report may be.

Less than an hour, so that a wrong time zone is noticed.
"""

SERVER_TOKEN_NOTE: Final = "Server at "
"""How the note of a server's own token begins."""


def latest(*moments: datetime | None) -> datetime | None:
    """The latest of the times that are known, aware; None when none is."""
    known = [aware(moment) for moment in moments if moment is not None]
    return max(known, default=None)


def is_newer(reported: datetime, stored: datetime | None, resolution: float = 0) -> bool:
    """Whether `reported` moves the stored time forward, by at least `resolution` seconds."""
    if stored is None:
        return True
    step = aware(reported) - aware(stored)
    return step > timedelta(0) and step >= timedelta(seconds=resolution)


def check_reported(moment: datetime, now: datetime) -> datetime:
    """The reported time, aware. Raises InvalidRequest when it lies too far in the future."""
    moment = aware(moment)
    if moment > aware(now) + FUTURE_TOLERANCE:
        raise InvalidRequest(
            f"Activity at {isoformat(moment)} lies in the future; the hub's time is {isoformat(now)}. "
            "Check the clock and the time zone of the sender"
        )
    return moment


def counts_for_owner(token_note: str | None) -> bool:
    """Whether a request with a token shows that its owner is active; a server's own token does not."""
    return not (token_note or "").startswith(SERVER_TOKEN_NOTE)
