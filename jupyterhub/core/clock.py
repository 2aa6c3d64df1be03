"""What time it is and what "expired" means; the one place that reads the clock."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import overload

__all__ = ["Clock", "TurnableClock", "aware", "expiry_after", "is_expired", "isoformat", "utcnow"]


def utcnow(*, with_tz: bool = True) -> datetime:
    """Now, in UTC; without `with_tz` as a naive time, which is how the database keeps it."""
    now = datetime.now(timezone.utc)
    return now if with_tz else now.replace(tzinfo=None)


def aware(moment: datetime) -> datetime:
    """The same moment in UTC. A naive time is taken as UTC."""
    if moment.tzinfo is None:
        return moment.replace(tzinfo=timezone.utc)
    return moment.astimezone(timezone.utc)


@overload
def isoformat(moment: None) -> None: ...
@overload
def isoformat(moment: datetime) -> str: ...
def isoformat(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with a final ``Z``, as the REST API writes times (rest-api §1.8); None stays None."""
    if moment is None:
        return None
    return aware(moment).replace(tzinfo=None).isoformat() + "Z"


def is_expired(expires_at: datetime | None, now: datetime) -> bool:
    """Whether `expires_at` has been reached. None never expires."""
    return expires_at is not None and aware(expires_at) <= aware(now)


def expiry_after(seconds: float | None, now: datetime) -> datetime | None:
    """The moment `seconds` from now; None for no expiry. Raises OverflowError beyond the calendar's end."""
    return None if seconds is None else now + timedelta(seconds=seconds)


class Clock:
    """Reads the time. Passed in wherever time matters, so that tests can turn it."""

    def now(self) -> datetime:
        """Now, aware, in UTC."""
        return utcnow()

    def monotonic(self) -> float:
        """Seconds that never go backwards, for measuring."""
        return time.monotonic()


class TurnableClock(Clock):
    """A clock that stands still until it is turned."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=timezone.utc)) -> None:
        self._now = aware(start)
        self._elapsed = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    def turn(self, seconds: float) -> datetime:
        """Let `seconds` pass (a negative number sets the wall clock back only) and return the new time."""
        self._now += timedelta(seconds=seconds)
        self._elapsed += max(seconds, 0.0)
        return self._now
