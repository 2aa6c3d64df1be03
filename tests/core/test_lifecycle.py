"""The life of a server: stories of events, and laws of the table."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub.core.errors import IllegalMove
from jupyterhub.core.lifecycle import (
    TRANSITIONS,
    Event,
    Failure,
    State,
    allowed_events,
    diagram,
    is_active,
    is_ready,
    move,
    pending,
)


def test_the_table_has_nine_states_and_twenty_moves() -> None:
    assert len(TRANSITIONS) == len(State) == 9
    assert sum(map(len, TRANSITIONS.values())) == 20
    assert {event for moves in TRANSITIONS.values() for event in moves} == set(Event)


def reachable(start: State) -> set[State]:
    found, waiting = {start}, [start]
    while waiting:
        for target in TRANSITIONS[waiting.pop()].values():
            if target not in found:
                found.add(target)
                waiting.append(target)
    return found


def test_every_state_can_be_reached() -> None:
    assert reachable(State.STOPPED) == set(State)


@pytest.mark.parametrize("state", State)
def test_a_server_can_always_get_back_to_stopped(state: State) -> None:
    assert State.STOPPED in reachable(state)


@pytest.mark.parametrize(
    ("events", "states"),
    [
        ("start process_up answered routed stop gone", "starting connecting routing ready stopping stopped"),
        ("start failed undone", "starting undoing stopped"),
        ("start process_up stop undone", "starting connecting undoing stopped"),
        ("start process_up answered failed undone", "starting connecting routing undoing stopped"),
        ("check alive exited gone", "checking ready stopping stopped"),
        ("check dead gone", "checking stopping stopped"),
        ("rename renamed start", "renaming stopped starting"),
        ("start process_up answered routed check alive", "starting connecting routing ready checking ready"),
    ],
)
def test_stories(events: str, states: str) -> None:
    state = State.STOPPED
    passed = []
    for event in events.split():
        state = move(state, Event(event))
        passed.append(state.value)
    assert passed == states.split()


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_a_move_is_in_the_table_or_raises(state: State, event: Event) -> None:
    if event in allowed_events(state):
        assert move(state, event) is TRANSITIONS[state][event]
    else:
        with pytest.raises(IllegalMove, match=f"{state.value}.*{event.value}"):
            move(state, event)


@given(st.lists(st.sampled_from(Event), max_size=30))
def test_whatever_happens_derived_values_agree(events: list[Event]) -> None:
    state = State.STOPPED
    for event in events:
        try:
            state = move(state, event)
        except IllegalMove:
            pass
        assert is_active(state) == (pending(state) is not None or is_ready(state))
        assert not (pending(state) and is_ready(state))


@pytest.mark.parametrize(
    ("state", "what"),
    [
        ("stopped", None),
        ("starting", "spawn"),
        ("connecting", "spawn"),
        ("routing", "spawn"),
        ("undoing", "stop"),
        ("ready", None),
        ("checking", "check"),
        ("stopping", "stop"),
        ("renaming", "rename"),
    ],
)
def test_pending_is_what_pages_show(state: str, what: str | None) -> None:
    assert pending(State(state)) == what
    assert is_ready(State(state)) is (state == "ready")


def test_states_are_plain_text_where_text_is_wanted() -> None:
    assert str(State.READY) == f"{State.READY}" == "ready"
    assert move("stopped", "start") is State.STARTING  # type: ignore[arg-type]
    with pytest.raises(IllegalMove):
        move("stopped", "explode")  # type: ignore[arg-type]


failures = st.builds(
    Failure,
    cause=st.text(),
    message=st.text(),
    html_message=st.text(),
    phase=st.text(),
    at=st.none() | st.datetimes(timezones=st.just(timezone.utc)),
    status=st.integers(400, 599),
    next_step=st.text(),
    left_behind=st.text(),
)


@given(failures)
def test_a_failure_survives_being_stored(failure: Failure) -> None:
    assert Failure.from_dict(failure.to_dict()) == failure


def test_a_failure_from_elsewhere_is_read_kindly() -> None:
    failure = Failure.from_dict({"cause": "exited", "new": 1, "at": "2026-01-01T00:00:00Z"})
    assert failure.status == 500
    assert failure.at == datetime(2026, 1, 1, tzinfo=timezone.utc)


def test_the_drawing_shows_every_state_and_move() -> None:
    drawn = diagram()
    assert drawn.startswith("stateDiagram-v2\n")
    for state, moves in TRANSITIONS.items():
        for event, target in moves.items():
            assert any(
                line.strip().startswith(f"{state.value} --> {target.value}:") and event.value in line
                for line in drawn.splitlines()
            )
    assert "starting --> undoing: failed / stop" in drawn
