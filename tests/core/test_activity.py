"""Which of two activity times counts."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from jupyterhub.core.activity import check_reported, counts_for_owner, is_newer, latest
from jupyterhub.core.errors import InvalidRequest

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
NAIVE = NOON.replace(tzinfo=None)


@pytest.mark.parametrize(
    ("reported", "stored", "resolution", "newer"),
    [
        (NOON, None, 30, True),
        (NOON, NOON, 0, False),
        (NOON, NAIVE - timedelta(seconds=1), 0, True),
        (NOON, NOON - timedelta(seconds=29), 30, False),
        (NOON, NOON - timedelta(seconds=30), 30, True),
        (NOON, NOON + timedelta(seconds=30), 0, False),
    ],
)
def test_times_only_move_forward(
    reported: datetime, stored: datetime | None, resolution: float, newer: bool
) -> None:
    assert is_newer(reported, stored, resolution) is newer


def test_the_latest_known_time_counts() -> None:
    assert latest(None, NAIVE - timedelta(seconds=1), NOON, None) == NOON
    assert latest(None) is None
    assert latest() is None


@pytest.mark.parametrize("minutes", [-600, 0, 59])
def test_reports_near_enough_are_taken(minutes: int) -> None:
    assert check_reported(NAIVE + timedelta(minutes=minutes), NOON) == NOON + timedelta(minutes=minutes)


def test_reports_from_the_future_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="time zone"):
        check_reported(NOON + timedelta(minutes=59, seconds=1), NOON)


@pytest.mark.parametrize(
    ("note", "counts"), [("Server at /user/ada/", False), ("mine", True), (None, True), ("", True)]
)
def test_a_servers_own_token_shows_nothing_about_its_owner(note: str | None, counts: bool) -> None:
    assert counts_for_owner(note) is counts
