"""What every spawner promises to the Hub, on a spawner of real processes and on the fakes (plugins §3.3)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tornado import web

from jupyterhub.core.errors import PluginMistake
from jupyterhub.core.lifecycle import State
from jupyterhub.net import wait_for_answer
from jupyterhub.spawner import Spawner, SpawnException
from jupyterhub.spawning import fakes
from jupyterhub.spawning.results import interpret_start_result

from .spawner_world import LocalForTests, make_record, make_spawner

WORKING = [LocalForTests, fakes.StartsNothing, fakes.FoundByName]


@pytest.fixture(params=WORKING, ids=lambda cls: cls.__name__)
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    made = []

    def one(**more: Any) -> Any:
        spawner = make_spawner(request.param, tmp_path, **more)
        made.append(spawner)
        return spawner

    yield one
    for spawner in made:
        if await spawner.poll() is None:
            await spawner.stop(now=True)


async def test_is_not_running_before_a_start(make: Any) -> None:
    assert isinstance(await make().poll(), int)


async def test_start_returns_an_address_the_hub_understands_and_poll_says_running(make: Any) -> None:
    spawner = make()
    proto, ip, port = interpret_start_result(await spawner.start(), spawner)
    assert (proto, ip) == ("http", "127.0.0.1")
    assert 0 < port < 65536
    assert await spawner.poll() is None


async def test_address_is_noted_whoever_calls_start(make: Any) -> None:
    spawner = make()
    assert spawner.url == ""
    await spawner.start()
    assert spawner.url == f"http://127.0.0.1:{spawner.port}/user/ada"


async def test_poll_says_running_during_start(make: Any) -> None:
    spawner = make()
    starting = asyncio.ensure_future(spawner.start())
    await asyncio.sleep(0)
    assert await spawner.poll() is None
    await starting


async def test_state_survives_json_and_finds_the_server_again_in_another_object(make: Any) -> None:
    first = make()
    await first.start()
    stored = json.loads(json.dumps(first.get_state()))
    second = make(_record=make_record(state=stored))
    assert await second.poll() is None
    await second.stop()
    assert isinstance(await second.poll(), int)


async def test_stop_ends_it_and_may_be_called_again(make: Any) -> None:
    spawner = make()
    await spawner.start()
    await spawner.stop()
    assert isinstance(await spawner.poll(), int)
    await spawner.stop()


async def test_stop_now_ends_it(make: Any) -> None:
    spawner = make()
    await spawner.start()
    await spawner.stop(now=True)
    assert isinstance(await spawner.poll(), int)


async def test_clear_state_forgets_the_run(make: Any) -> None:
    spawner = make(api_token="secret")
    await spawner.start()
    await spawner.stop()
    spawner.clear_state()
    assert spawner.api_token == ""
    assert spawner.get_state() == {}


async def test_can_be_started_again_after_a_stop(make: Any) -> None:
    spawner = make()
    await spawner.start()
    await spawner.stop()
    spawner.clear_state()
    await spawner.start()
    assert await spawner.poll() is None


async def test_environment_is_texts_only(make: Any) -> None:
    env = make(environment={"NUMBER": 5, "GONE": None}).get_env()
    assert all(isinstance(value, str) for value in env.values())
    assert env["NUMBER"] == "5"
    assert "GONE" not in env


async def test_progress_gives_dictionaries(make: Any) -> None:
    spawner = make()
    events = [event async for event in spawner._generate_progress()]
    assert events
    assert all("progress" in event and "ready" not in event for event in events)


async def test_a_gone_server_is_told_once_to_everybody_who_asked(make: Any) -> None:
    spawner = make()
    told: list[Any] = []

    async def slow_callback(word: str, *, more: int) -> None:
        told.append((word, more))

    spawner.add_poll_callback(slow_callback, "gone", more=1)
    spawner.add_poll_callback(told.append, "also gone")
    await spawner.start()
    assert await spawner.poll_and_notify() is None
    assert told == []
    await spawner.stop()
    assert isinstance(await spawner.poll_and_notify(), int)
    await spawner.poll_and_notify()
    assert told == [("gone", 1), "also gone"]


# -- the failing fakes do what their names say --


async def test_fails_to_start() -> None:
    with pytest.raises(RuntimeError):
        await make_spawner(fakes.FailsToStart).start()


async def test_refuses_to_start_with_a_text_for_the_user() -> None:
    with pytest.raises(SpawnException) as raised:
        await make_spawner(fakes.RefusesToStart).start()
    assert isinstance(raised.value, web.HTTPError)
    assert (raised.value.status_code, raised.value.reason) == (403, "allowance")
    assert raised.value.jupyterhub_message == "Your allowance is used up"


async def test_never_starts_but_can_be_cancelled() -> None:
    spawner = make_spawner(fakes.NeverStarts)
    starting = asyncio.ensure_future(spawner.start())
    await asyncio.sleep(0)
    assert await spawner.poll() is None
    starting.cancel()
    await asyncio.wait([starting])
    assert starting.cancelled()


async def test_dies_at_once() -> None:
    spawner = make_spawner(fakes.DiesAtOnce)
    await spawner.start()
    assert await spawner.poll() == 3


async def test_answers_nowhere() -> None:
    spawner = make_spawner(fakes.AnswersNowhere)
    await spawner.start()
    with pytest.raises(TimeoutError, match="did not answer"):
        await wait_for_answer(spawner.url, timeout=0.05)


@pytest.mark.parametrize("cls", [fakes.ReturnsNonsense, fakes.ForgetsToReturn])
async def test_a_wrong_result_of_start_is_the_mistake_of_that_plugin_by_name(cls: Any) -> None:
    spawner = make_spawner(cls)
    result = await spawner.start()
    with pytest.raises(PluginMistake, match=cls.__name__):
        interpret_start_result(result, spawner)


async def test_fails_to_stop_and_goes_on() -> None:
    spawner = make_spawner(fakes.FailsToStop)
    await spawner.start()
    with pytest.raises(RuntimeError):
        await spawner.stop()
    assert await spawner.poll() is None


async def test_poll_fails_once_started() -> None:
    spawner = make_spawner(fakes.PollFails)
    assert await spawner.poll() == 0
    await spawner.start()
    with pytest.raises(ConnectionError):
        await spawner.poll()


# -- what `start` may return (plugins §3.5) --


@pytest.mark.parametrize(
    ("result", "meaning"),
    [
        (("10.0.0.1", 8888), ("http", "10.0.0.1", 8888)),
        (["10.0.0.1", "8888"], ("http", "10.0.0.1", 8888)),
        (("::1", 8888), ("http", "::1", 8888)),
        (("[::1]", 8888), ("http", "::1", 8888)),
        (("", 8888), ("http", "127.0.0.1", 8888)),
        (8888, ("http", "127.0.0.1", 8888)),
        ("http://host.example:99/any/path", ("http", "host.example", 99)),
        ("https://host.example", ("https", "host.example", 443)),
        ("http://host.example", ("http", "host.example", 80)),
    ],
)
def test_meaning_of_a_result(result: Any, meaning: tuple[str, str, int]) -> None:
    assert interpret_start_result(result, make_spawner(fakes.StartsNothing)) == meaning


def test_pair_means_https_with_internal_tls() -> None:
    spawner = make_spawner(fakes.StartsNothing, internal_ssl=True)
    assert interpret_start_result(("10.0.0.1", 8888), spawner)[0] == "https"


def test_nothing_means_the_address_that_the_plugin_filled_in() -> None:
    spawner = make_spawner(fakes.StartsNothing)
    spawner.server.ip, spawner.server.port = "10.0.0.1", 8888
    assert interpret_start_result(None, spawner) == ("http", "10.0.0.1", 8888)


@pytest.mark.parametrize(
    "result", [True, {}, (1, 2, 3), ("10.0.0.1", "x"), ("10.0.0.1", 70000), "host:80", "http://:80", 0, 3.5]
)
def test_nonsense_is_named(result: Any) -> None:
    with pytest.raises(PluginMistake, match="StartsNothing"):
        interpret_start_result(result, make_spawner(fakes.StartsNothing))


# -- the class itself --


def test_a_spawner_without_its_methods_is_refused_when_it_is_defined() -> None:
    with pytest.raises(NotImplementedError, match=r"Half.*stop\(\), poll\(\)"):

        class Half(Spawner):
            async def start(self) -> Any:
                return ("127.0.0.1", 1)


def test_a_mixin_may_bring_the_methods() -> None:
    class Methods:
        async def start(self) -> Any:
            return ("127.0.0.1", 1)

        async def stop(self, now: bool = False) -> None:
            pass

        async def poll(self) -> int | None:
            return 0

    class Whole(Methods, Spawner):
        pass

    assert Whole().name == ""


def test_can_be_made_with_nothing_and_with_a_user_that_has_only_a_name() -> None:
    bare = fakes.StartsNothing()
    assert (bare.name, bare.server, bare.pending, bare.ready, bare.active, bare.url) == (
        "", None, None, False, False, "",
    )  # fmt: skip
    with pytest.warns(DeprecationWarning, match="_mock"):
        assert fakes.StartsNothing(mem_limit="1G", db=None, _mock=True).mem_limit == 1024**3


@pytest.mark.parametrize(
    ("state", "pending", "ready"),
    [
        (State.STOPPED, None, False),
        (State.STARTING, "spawn", False),
        (State.CONNECTING, "spawn", False),
        (State.ROUTING, "spawn", False),
        (State.UNDOING, "stop", False),
        (State.READY, None, True),
        (State.CHECKING, "check", False),
        (State.STOPPING, "stop", False),
        (State.RENAMING, "rename", False),
    ],
)
def test_old_names_follow_from_the_state_and_cannot_change_it(state: State, pending: Any, ready: bool) -> None:
    spawner = make_spawner(fakes.StartsNothing, _record=make_record(lifecycle=state))
    spawner._spawn_pending = not spawner._spawn_pending
    spawner._stop_pending = not spawner._stop_pending
    assert (spawner.pending, spawner.ready) == (pending, ready)
    assert spawner.active == bool(pending or ready)
    assert spawner._spawn_pending == (pending == "spawn")
    assert spawner._stop_pending == (pending == "stop")
    assert spawner._check_pending == (pending == "check")
    assert spawner._start_pending == (state is State.STARTING)
    assert spawner._proxy_pending == (state is State.ROUTING)
    assert spawner._waiting_for_response == (state is State.CONNECTING)


def test_without_a_hub_old_names_can_be_assigned() -> None:
    spawner = fakes.StartsNothing()
    spawner._spawn_pending = True
    assert (spawner.pending, spawner.active) == ("spawn", True)


def test_last_activity_is_known_while_active_and_can_be_assigned() -> None:
    spawner = make_spawner(fakes.StartsNothing)
    assert spawner.last_activity is not None
    earlier = spawner.last_activity.replace(year=2001)
    spawner.last_activity = earlier
    assert spawner.last_activity == earlier


# -- plugins' rows --


def test_the_row_is_loaded_when_a_plugin_looks_and_not_before() -> None:
    loaded: list[str] = []
    row = object()

    def load() -> Any:
        loaded.append("row")
        return row

    spawner = make_spawner(fakes.StartsNothing, _load_orm_spawner=load)
    assert (spawner.name, spawner.pending, loaded) == ("", "spawn", [])
    assert spawner.orm_spawner is row
    assert spawner.orm_spawner is row
    assert loaded == ["row"]


def test_the_session_is_opened_when_a_plugin_looks_and_not_before(caplog: pytest.LogCaptureFixture) -> None:
    opened: list[str] = []

    def open_session() -> str:
        opened.append("session")
        return "session"

    spawner = make_spawner(fakes.StartsNothing, _deprecated_db_session=open_session)
    spawner.log.propagate = True
    assert opened == []
    assert spawner.db == "session"
    assert "deprecated" in caplog.text
    assert spawner._deprecated_db_session == "session"
