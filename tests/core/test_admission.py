"""May a server start now."""

from __future__ import annotations

from typing import Any

import pytest

from jupyterhub.core.admission import (
    FailureCount,
    Limits,
    Load,
    check_new_server,
    counts_as_failure,
    decide_start,
    rounded_delay,
)
from jupyterhub.core.errors import (
    HubError,
    InvalidName,
    NamedServersDisabled,
    StartFailed,
    TooManyNamedServers,
    UserExists,
)
from jupyterhub.core.lifecycle import State


def at_least(low: int, high: int) -> int:
    return low


@pytest.mark.parametrize(
    ("load", "limits", "state", "cause", "retry_after"),
    [
        ((0, 0), (100, 0), State.STOPPED, "", None),
        ((99, 200), (100, 0), State.STOPPED, "", None),
        ((100, 200), (100, 0), State.STOPPED, "too-many-starts", 30),
        ((500, 500), (0, 0), State.STOPPED, "", None),
        ((0, 10), (100, 10), State.STOPPED, "too-many-servers", None),
        ((0, 9), (100, 10), State.STOPPED, "", None),
        ((1, 1), (1, 1), State.STOPPED, "too-many-starts", 30),
        ((5, 5), (1, 1), State.STARTING, "server-busy", None),
        ((0, 1), (1, 9), State.UNDOING, "server-busy", None),
        ((0, 1), (1, 9), State.READY, "server-running", None),
    ],
)
def test_limits_are_looked_at_in_their_order(
    load: tuple[int, int], limits: tuple[int, int], state: State, cause: str, retry_after: int | None
) -> None:
    decision = decide_start(Limits(limits[0], limits[1]), Load(*load), state, draw=at_least)
    assert decision.cause == cause
    assert decision.retry_after == retry_after
    assert bool(decision) is not bool(cause)


def test_those_refused_together_do_not_come_back_together() -> None:
    crowd = Load(pending_starts=1, active_servers=1)
    drawn = {decide_start(Limits(concurrent_spawn_limit=1), crowd).retry_after for _ in range(200)}
    assert len(drawn) > 5
    assert all(seconds is not None and 30 <= seconds <= 60 for seconds in drawn)


def test_a_range_the_wrong_way_round_still_works() -> None:
    assert decide_start(Limits(1, retry_range=(9.5, 3)), Load(1, 1)).retry_after == 9


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1, "10 seconds"),
        (30, "30 seconds"),
        (31, "40 seconds"),
        (90, "90 seconds"),
        (91, "2 minutes"),
        (180, "3 minutes"),
    ],
)
def test_delays_are_rounded_up_for_people(seconds: int, text: str) -> None:
    assert rounded_delay(seconds) == text


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"enabled": False, "name": "!", "stored_count": 9, "limit": 1}, NamedServersDisabled),
        ({"name": "!", "stored_count": 1, "limit": 1}, TooManyNamedServers),
        ({"name": "Lab", "stored_count": 0, "limit": 1, "display_name": " "}, InvalidName),
        ({"name": "lab", "stored_count": 0, "limit": 1, "display_name": " lab"}, InvalidName),
    ],
)
def test_new_named_servers_are_refused_in_the_order_of_the_checks(
    given: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        check_new_server(**{"enabled": True, "user": "ada", **given})


@pytest.mark.parametrize(
    "given",
    [
        {"name": "lab", "stored_count": 0, "limit": 0},
        {"name": "lab", "stored_count": 99, "limit": 0, "display_name": "My lab"},
        {"name": "Old Name", "stored_count": 3, "limit": 3, "exists": True},
    ],
)
def test_named_servers_that_may_be_used(given: dict[str, Any]) -> None:
    check_new_server(enabled=True, **given)


def test_failures_in_a_row_end_with_any_success() -> None:
    count = FailureCount(limit=3)
    count = count.after_failure()
    assert not count.should_warn
    count = count.after_failure()
    assert count.should_warn
    assert not count.should_exit
    assert count.after_failure().should_exit
    assert count.after_success().in_a_row == 0
    assert not FailureCount(limit=0, in_a_row=99).should_exit


@pytest.mark.parametrize(
    ("status", "policy", "error", "counts"),
    [
        (None, False, None, True),
        (500, False, None, True),
        (503, False, None, True),
        (400, False, None, False),
        (429, False, None, False),
        (500, True, None, False),
        (None, False, StartFailed(), True),
        (None, False, UserExists(), False),
        (None, False, HubError(), True),
    ],
)
def test_refusals_do_not_count(status: int | None, policy: bool, error: object, counts: bool) -> None:
    assert counts_as_failure(status, is_policy_refusal=policy, error=error) is counts
