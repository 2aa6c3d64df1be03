"""Time, and what "expired" means."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from jupyterhub.core.clock import Clock, TurnableClock, expiry_after, is_expired, isoformat, utcnow

NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (None, None),
        (NOON, "2026-01-31T12:00:00Z"),
        (NOON.replace(tzinfo=None, microsecond=123456), "2026-01-31T12:00:00.123456Z"),
        (datetime(2026, 1, 31, 14, tzinfo=timezone(timedelta(hours=2))), "2026-01-31T12:00:00Z"),
    ],
)
def test_times_are_written_in_utc(moment: datetime | None, text: str | None) -> None:
    assert isoformat(moment) == text


@pytest.mark.parametrize(
    ("expires_at", "expired"),
    [
        (None, False),
        (NOON, True),
        (NOON + timedelta(microseconds=1), False),
        (NOON.replace(tzinfo=None) - timedelta(seconds=1), True),
    ],
)
def test_the_moment_of_expiry_is_too_late(expires_at: datetime | None, expired: bool) -> None:
    assert is_expired(expires_at, NOON) is expired


def test_a_clock_that_is_turned() -> None:
    clock = TurnableClock(NOON)
    expires_at = expiry_after(60, clock.now())
    assert not is_expired(expires_at, clock.now())
    clock.turn(60)
    assert is_expired(expires_at, clock.now())
    assert clock.monotonic() == 60
    clock.turn(-10)
    assert clock.monotonic() == 60
    assert expiry_after(None, NOON) is None


def test_the_real_clock_moves_on() -> None:
    clock = Clock()
    before, ticks = clock.now(), clock.monotonic()
    assert before <= utcnow()
    assert ticks <= clock.monotonic()
    assert utcnow(with_tz=False).tzinfo is None
