"""Servers and the events of their starts (rest-api §4.6, §4.7)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from tornado import web
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from jupyterhub import orm
from jupyterhub.apihandlers.users import SpawnProgressAPIHandler, UserServerAPIHandler
from jupyterhub.core.errors import AuthenticationStale, StartCancelled
from jupyterhub.core.lifecycle import State
from jupyterhub.spawner import SpawnException

from .live_hub import LiveHub

SERVER = "/users/alice/server"


async def test_making_servers(small: LiveHub) -> None:
    """Rows 44 to 47: the default server is always there; names have to be names; odd bodies mean no options."""
    assert (await small.as_("alice", "PUT", SERVER)).status == 409
    assert (await small.as_("alice", "GET", SERVER)).json["stopped"]
    for name in ("a--b", "1a", "bad_name", "a" * 31, "A", "a-"):
        answer = await small.as_("alice", "PUT", f"/users/alice/servers/{name}")
        assert answer.status == 400 and answer.message, name
    assert (await small.as_("alice", "PUT", f"/users/alice/servers/{'a' * 30}")).status == 201
    made = await small.as_("alice", "PUT", "/users/alice/servers/n3", {"x": 2})
    assert (made.status, made.json["user_options"], made.json["url"]) == (201, {"x": 2}, "/user/alice/n3/")
    assert (await small.as_("alice", "PUT", "/users/alice/servers/n3")).status == 409
    assert (await small.as_("alice", "PUT", "/users/alice/servers/n4", [])).status == 201
    assert (await small.as_("alice", "PUT", "/users/alice/servers/n5", [1])).status == 400
    named = {"display_name": "My Lab", "user_options": {"a": 1}, "other": 1}
    answer = await small.as_("alice", "PUT", "/users/alice/servers/n5", named)
    assert (answer.json["display_name"], answer.json["user_options"]) == ("My Lab", {"a": 1})
    for body in ({"display_name": None}, {"display_name": " x"}, {"user_options": 1}):
        assert (await small.as_("alice", "PUT", "/users/alice/servers/n6", body)).status == 400, body
    assert (await small.as_("alice", "GET", "/users/alice/servers/n9")).message is None
    assert (await small.as_("alice", "PUT", "/users/bob/servers/n1")).status == 404


async def test_there_is_a_limit_to_named_servers(small: LiveHub) -> None:
    """Row 60: the seventh of six, for the servers stored, running or not; a limit may be worked out per request."""
    for number in range(6):
        assert (await small.as_("alice", "PUT", f"/users/alice/servers/n{number}")).status == 201
    for method in ("PUT", "POST"):
        answer = await small.as_("alice", method, "/users/alice/servers/n6")
        assert answer.status == 400 and "6" in answer.message
    assert (await small.as_("alice", "PATCH", SERVER, {"name": "n7"})).status == 400
    small.settings["named_server_limit_per_user"] = lambda handler: 7
    assert (await small.as_("alice", "PUT", "/users/alice/servers/n6")).status == 201


async def test_named_servers_may_be_off(live: LiveHub) -> None:
    """Then all that is about them is 400, and the default server's options can still be changed."""
    path = "/users/alice/servers/n1"
    await live.user("alice")
    for method in ("PUT", "POST", "DELETE"):
        answer = await live.as_("alice", method, path)
        assert answer.status == 400 and answer.message, method
    assert (await live.as_("alice", "PATCH", SERVER, {"name": "n1"})).status == 400
    assert (await live.as_("alice", "PATCH", SERVER, {"user_options": {"a": 1}})).json["user_options"] == {"a": 1}
    for path in (SERVER, "/users/alice/servers/"):
        assert (await live.as_("alice", "POST", path)).status == (201 if path == SERVER else 400)


async def test_a_start_and_what_is_said_about_it(small: LiveHub) -> None:
    """Rows 48, 52: 201 when it is quick, 400 when it runs; the answer has no body."""
    answer = await small.as_("alice", "POST", SERVER)
    assert (answer.status, answer.text, answer.headers["Content-Type"]) == (201, "", "text/plain")
    model = (await small.as_("alice", "GET", SERVER)).json
    assert model["ready"] and model["pending"] is None and model["started"]
    assert "state" not in model and (await small.as_("admin", "GET", SERVER)).json["state"] == {"place": "here"}
    again = await small.as_("alice", "POST", SERVER)
    assert again.status == 400 and "running" in again.message


async def test_a_slow_start_goes_on(small: LiveHub) -> None:
    """Row 48: 202 and pending; asking again is 202, changing is 400."""
    small.settings["slow_spawn_timeout"] = 0.05
    small.behaviour.start_when.clear()
    for _ in range(2):
        answer = await small.as_("bob", "POST", "/users/bob/server")
        assert (answer.status, answer.text) == (202, "")
    model = (await small.as_("bob", "GET", "/users/bob/server")).json
    assert (model["pending"], model["ready"], model["stopped"]) == ("spawn", False, False)
    assert (await small.as_("bob", "PATCH", "/users/bob/server", {"user_options": {}})).status == 400
    small.behaviour.start_when.set()
    await small.settle("bob", "", State.READY)


async def test_without_patience_every_start_is_accepted(small: LiveHub) -> None:
    """`slow_spawn_timeout` 0 makes every answer 202."""
    small.settings["slow_spawn_timeout"] = 0
    assert (await small.as_("bob", "POST", "/users/bob/server")).status == 202
    await small.settle("bob", "", State.READY)


async def test_a_dead_server_is_started_again(small: LiveHub) -> None:
    """Before it says that a server runs, the Hub looks."""
    await small.run_server("alice")
    small.behaviour.dead.add("alice")
    assert (await small.as_("alice", "POST", SERVER)).status == 201
    assert (await small.as_("alice", "GET", SERVER)).json["ready"]


@pytest.mark.parametrize(
    ("error", "status", "reason", "message"),
    [
        (web.HTTPError(418, "I am a teapot"), 418, "error", "I am a teapot"),
        (SpawnException("Choose an image", reason="image"), 400, "image", "Choose an image"),
        (SpawnException("Full", reason="capacity", status_code=503), 503, "capacity", "Full"),
    ],
)
async def test_a_spawner_may_choose_the_answer(
    small: LiveHub, error: Exception, status: int, reason: str, message: str
) -> None:
    """Rows 49, 50: status, text and phrase are the spawner's."""
    small.behaviour.fail_with = error
    answer = await small.as_("alice", "POST", SERVER)
    assert (answer.status, answer.reason, answer.message) == (status, reason, message)
    assert answer.json["failure"]["phase"] == "starting"


async def test_an_exception_may_bring_headers_and_a_text(small: LiveHub) -> None:
    """`headers` and `jupyterhub_message` on any exception are passed on (rest-api §1.3)."""
    error = RuntimeError("secret")
    error.jupyterhub_message = "All seats are taken"  # type: ignore[attr-defined]
    error.headers = {"Retry-After": "7"}  # type: ignore[attr-defined]
    small.behaviour.fail_with = error
    answer = await small.as_("alice", "POST", SERVER)
    assert (answer.status, answer.message, answer.headers["Retry-After"]) == (500, "All seats are taken", "7")


async def test_an_unexpected_failure_is_explained(small: LiveHub) -> None:
    """Row 51: 500 with a classified sentence; the progress shows the exception's text; the model says why."""
    small.behaviour.fail_with = ValueError("the disk is full of eels")
    answer = await small.as_("alice", "POST", SERVER)
    assert answer.status == 500 and answer.message == answer.json["failure"]["message"]
    assert answer.json["failure"]["next_step"]
    await small.settle("alice", "", State.STOPPED)
    (event,) = await small.events(f"{SERVER}/progress", token=await small.token("alice"))
    assert event["failed"] and event["progress"] == 100 and "the disk is full of eels" in event["message"]
    model = (await small.as_("alice", "GET", SERVER)).json
    assert model["stopped"] and model["failure"]["message"] and model["failure"]["cause"]
    small.behaviour.fail_with = None
    assert (await small.as_("alice", "POST", SERVER)).status == 201
    assert "failure" not in (await small.as_("alice", "GET", SERVER)).json


async def test_options_are_remembered(small: LiveHub) -> None:
    """Row 53: without options those of the last time hold; an empty object clears them."""
    await small.as_("alice", "POST", SERVER, {"image": "a"})
    for body, expected in ((None, {"image": "a"}), ({"user_options": None}, {"image": "a"}), ({"user_options": {}}, {})):
        assert (await small.as_("alice", "DELETE", SERVER)).status == 204
        assert (await small.as_("alice", "POST", SERVER, body)).status == 201
        assert (await small.as_("alice", "GET", SERVER)).json["user_options"] == expected


async def test_stopping(small: LiveHub) -> None:
    """Rows 54 to 57: 204 when stopped, 202 while stopping, starts are cancelled, named servers can be forgotten."""
    assert (await small.as_("alice", "DELETE", SERVER)).status == 204
    small.behaviour.start_when.clear()
    small.settings["slow_spawn_timeout"] = 0
    assert (await small.as_("alice", "POST", SERVER)).status == 202
    assert (await small.as_("alice", "DELETE", SERVER)).status == 204
    assert (await small.as_("alice", "GET", SERVER)).json["stopped"]
    small.behaviour.start_when.set()
    await small.run_server("alice")
    small.settings["slow_stop_timeout"] = 0.05
    small.behaviour.stop_when.clear()
    for _ in range(2):
        answer = await small.as_("alice", "DELETE", SERVER)
        assert (answer.status, answer.text) == (202, "")
    busy = await small.as_("alice", "POST", SERVER)
    assert busy.status == 400 and busy.message
    assert (await small.as_("admin", "DELETE", "/users/alice")).status == 400
    small.behaviour.stop_when.set()
    await small.settle("alice", "", State.STOPPED)
    assert (await small.as_("alice", "DELETE", SERVER, {"remove": True})).status == 400
    assert (await small.as_("alice", "DELETE", SERVER, [1])).status == 400
    named = "/users/alice/servers/n1"
    assert (await small.as_("alice", "DELETE", named)).message
    await small.run_server("alice", "n1")
    small.settings["slow_stop_timeout"] = 2
    assert (await small.as_("alice", "DELETE", named, {"remove": True})).status == 204
    assert (await small.as_("alice", "GET", named)).status == 404
    assert small.behaviour.forgotten == ["alice:n1"]


async def test_a_stopped_servers_token_is_dead(small: LiveHub) -> None:
    """Its own token and its client go with the server."""
    await small.run_server("alice")
    user = await small.user("alice")
    token = user.spawners[""].api_token
    model = (await small.call("GET", "/user", token=token)).json
    assert model["name"] == "alice" and "access:servers!server=alice/" in model["scopes"]
    assert (await small.as_("alice", "DELETE", SERVER)).status == 204
    assert (await small.call("GET", "/user", token=token)).status == 403
    assert await small.app.oauth_provider.find_client("jupyterhub-user-alice") is None


async def test_changing_a_stopped_server(small: LiveHub) -> None:
    """Rows 58, 59: names, display names and options; the default server may become a named one."""
    await small.as_("alice", "PUT", "/users/alice/servers/n1")
    path = "/users/alice/servers/n1"
    for body in ({}, {"x": 1}, [], {"name": 5}, {"user_options": None}, {"user_options": []}, {"name": None}, {"name": "A"}):
        answer = await small.as_("alice", "PATCH", path, body)
        assert answer.status == 400 and answer.message, body
    assert (await small.as_("alice", "PATCH", path)).status == 400
    assert (await small.as_("alice", "PATCH", path, {"name": "n1"})).status == 409
    assert (await small.as_("alice", "PATCH", "/users/alice/servers/n9", {"name": "n8"})).message
    changed = await small.as_("alice", "PATCH", path, {"name": "n2", "display_name": " odd ", "user_options": {"a": 1}})
    assert changed.headers["Content-Type"] == "application/json; charset=UTF-8"
    assert (changed.json["name"], changed.json["display_name"], changed.json["user_options"]) == ("n2", " odd ", {"a": 1})
    assert (await small.as_("alice", "GET", path)).status == 404
    await small.as_("alice", "PATCH", SERVER, {"user_options": {"b": 2}})
    renamed = await small.as_("alice", "PATCH", SERVER, {"name": "fromdef"})
    assert (renamed.status, renamed.json["name"], renamed.json["user_options"]) == (200, "fromdef", {"b": 2})
    fresh = (await small.as_("alice", "GET", SERVER)).json
    assert (fresh["name"], fresh["user_options"]) == ("", {})


async def test_limits(small: LiveHub) -> None:
    """Rows 61, 62: 429, with a time to wait where waiting helps."""
    small.behaviour.start_when.clear()
    small.settings.update(slow_spawn_timeout=0, concurrent_spawn_limit=1)
    assert (await small.as_("alice", "POST", SERVER)).status == 202
    full = await small.as_("bob", "POST", "/users/bob/server")
    assert full.status == 429 and 30 <= int(full.headers["Retry-After"]) <= 60 and full.message
    small.settings.update(concurrent_spawn_limit=0, active_server_limit=1)
    full = await small.as_("bob", "POST", "/users/bob/server")
    assert full.status == 429 and "Retry-After" not in full.headers and full.message
    assert (await small.as_("bob", "GET", "/users/bob/server")).json["stopped"]


async def test_permissions_for_servers(small: LiveHub) -> None:
    """A filter for one server opens that one; one for its user or a group of theirs all of the user's."""
    await small.as_("alice", "PUT", "/users/alice/servers/n1")
    for scopes, reached in (
        (["read:servers!server=alice/n1"], {"/users/alice/servers/n1"}),
        (["read:servers!server=alice/"], {SERVER, "/users/alice/servers/"}),
        (["read:servers!group=g1"], {SERVER, "/users/alice/servers/", "/users/alice/servers/n1"}),
        (["read:servers!user=bob"], set()),
    ):
        for path in (SERVER, "/users/alice/servers/", "/users/alice/servers/n1"):
            answer = await small.with_scopes(scopes, "GET", path)
            assert answer.status == (200 if path in reached else 404), (scopes, path)
    refused = await small.with_scopes(["read:servers"], "DELETE", SERVER)
    assert refused.status == 403 and "[delete:servers]" in refused.message


# Progress


async def test_the_progress_of_a_ready_and_of_a_stopped_server(small: LiveHub) -> None:
    """Rows 63, 64: one event for a ready one, an error for a stopped one and for one that is not there."""
    path, token = f"{SERVER}/progress", await small.token("alice")
    assert (await small.call("GET", path, token=token)).status in (400, 404)
    assert (await small.call("GET", "/users/alice/servers/n9/progress", token=token)).message is None
    await small.run_server("alice")
    for each in (path, "/users/alice/servers//progress"):
        answer = await small.call("GET", each, token=token)
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-cache"
        (event,) = [json.loads(line[6:]) for line in answer.text.splitlines() if line]
        assert (event["progress"], event["ready"], event["url"]) == (100, True, "/user/alice/")


async def test_a_start_can_be_followed_by_several(small: LiveHub) -> None:
    """First that it was requested, then the spawner's events without `ready`, then exactly one at the end."""
    small.behaviour.start_when.clear()
    small.behaviour.progress = [{"progress": 50, "message": "half", "ready": True, "extra": 1}]
    user = await small.user("alice")
    await small.context.servers.start(user)
    token = await small.token("alice")
    followers = [asyncio.ensure_future(small.events(f"{SERVER}/progress", token=token)) for _ in range(2)]
    await asyncio.sleep(0.1)
    small.behaviour.start_when.set()
    for events in await asyncio.gather(*followers):
        assert events[0]["progress"] == 0 and events[0]["message"]
        (half,) = [event for event in events if event.get("progress") == 50]
        assert half == {"progress": 50, "message": "half", "extra": 1}
        assert [event.get("ready") for event in events[:-1]] == [None] * (len(events) - 1)
        assert events[-1]["ready"] is True


async def test_the_progress_of_a_cancelled_start_ends_as_failed(small: LiveHub) -> None:
    """It says that it was cancelled, and never that the server is ready."""
    small.behaviour.start_when.clear()
    user = await small.user("alice")
    await small.context.servers.start(user)
    following = asyncio.ensure_future(small.events(f"{SERVER}/progress", token=await small.token("alice")))
    await asyncio.sleep(0.1)
    assert (await small.as_("alice", "DELETE", SERVER)).status == 204
    events = await following
    assert events[-1]["failed"] and "cancelled" in events[-1]["message"]
    assert not any(event.get("ready") for event in events)


@pytest.mark.parametrize("moment", ["before the wish is stored", "before the first step"])
async def test_a_start_that_is_stopped_at_once_leaves_nothing(small: LiveHub, moment: str) -> None:
    """However early the wish to stop it comes: the start ends as cancelled, and no token, client or address stays."""
    user, servers = await small.user("alice"), small.context.servers
    before = await small.context.database.read(rows_of_servers)
    if moment == "before the first step":
        start = await servers.start(user)
        stops = [await servers.stop(user), await servers.stop(user)]
    else:
        admitted = asyncio.Event()
        authenticator = small.context.authenticator

        async def refresh(*args: Any, **kwargs: Any) -> bool:
            await admitted.wait()
            return True

        authenticator.refresh_pre_spawn, authenticator.refresh_user = True, refresh
        starting = asyncio.ensure_future(servers.start(user))
        while not servers.status(user).active:
            await asyncio.sleep(0)
        stops = [await servers.stop(user), await servers.stop(user)]
        admitted.set()
        start = await starting
    with pytest.raises(StartCancelled):
        await start.wait(5)
    assert [await stop.wait(5) for stop in stops] == [True, True]
    assert servers.status(user).stopped
    assert await small.context.database.read(rows_of_servers) == before


async def test_a_server_whose_start_is_refused_is_removed_if_that_was_asked_meanwhile(small: LiveHub) -> None:
    user, servers, authenticator = await small.user("alice"), small.context.servers, small.context.authenticator
    asked = asyncio.Event()

    async def refuse(*args: Any, **kwargs: Any) -> bool:
        await asked.wait()
        return False

    authenticator.refresh_pre_spawn, authenticator.refresh_user = True, refuse
    starting = asyncio.ensure_future(servers.start(user, "n1"))
    while "n1" not in user.records or not servers.status(user, "n1").active:
        await asyncio.sleep(0)
    stop = await servers.stop(user, "n1", remove=True)
    asked.set()
    with pytest.raises(AuthenticationStale):
        await starting
    assert await stop.wait(5)
    assert (await small.as_("alice", "GET", "/users/alice/servers/n1")).status == 404


def rows_of_servers(session: Session) -> list[int]:
    models: list[Any] = [orm.Server, orm.APIToken, orm.OAuthClient]
    return [session.scalar(select(func.count()).select_from(model)) or 0 for model in models]


async def test_a_quiet_stream_is_kept_alive_and_ends_with_its_listener(
    small: LiveHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blank lines come while nothing happens; when the listener goes, its work on our side is over."""
    monkeypatch.setattr(SpawnProgressAPIHandler, "keepalive_interval", 0.02)
    small.behaviour.start_when.clear()
    user = await small.user("alice")
    await small.context.servers.start(user)
    token = await small.token("alice")
    received: list[bytes] = []
    enough = asyncio.Event()

    def take(chunk: bytes) -> None:
        received.append(chunk)
        if b"".join(received).count(b"\n\n") > 5:
            enough.set()
            raise ConnectionAbortedError("heard enough")

    request = HTTPRequest(
        f"{small.url}/hub/api{SERVER}/progress", headers={"Authorization": f"token {token}"}, streaming_callback=take
    )
    client = AsyncHTTPClient(force_instance=True)
    fetching = asyncio.ensure_future(client.fetch(request, raise_error=False))
    await asyncio.wait_for(enough.wait(), 5)
    client.close()
    fetching.cancel()
    background: Any = small.context.background

    def streams() -> list[str]:
        return [task.get_name() for task in asyncio.all_tasks() if "progress stream" in task.get_name()]

    for _ in range(500):
        if not streams():
            break
        await asyncio.sleep(0.01)
    assert streams() == [] and background is not None
    small.behaviour.start_when.set()
    await small.settle("alice", "", State.READY)


def test_handlers_are_found_where_plugins_look_for_them() -> None:
    """The paths of classes are labels of metrics; they are those that dashboards know."""
    for handler in (SpawnProgressAPIHandler, UserServerAPIHandler):
        assert handler.__module__ == "jupyterhub.apihandlers.users"
