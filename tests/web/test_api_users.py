"""Users, identity and activity (rest-api §4.3 to §4.5)."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from jupyterhub.core.lifecycle import State
from jupyterhub.store import tokens as token_store

from .live_hub import PAGINATION, LiveHub, PickyAuthenticator, page, query, segment


def names(answer: Any) -> list[str]:
    return [model["name"] for model in answer.json]


# Identity


async def test_whom_credentials_stand_for(live: LiveHub) -> None:
    """A token names its owner, itself and its scopes; a cookie has no token (rest-api §3.6)."""
    own = (await live.as_("alice", "GET", "/user")).json
    assert (own["kind"], own["name"], own["admin"], own["groups"]) == ("user", "alice", False, [])
    assert own["token_id"].startswith("a") and own["session_id"] is None
    assert own["scopes"] == sorted(own["scopes"]) and "read:users!user=alice" in own["scopes"]
    small = (await live.call("GET", "/user", token=await live.token("alice", "access:servers!user"))).json
    assert set(small["scopes"]) == {
        "access:servers!user=alice", "read:users:name!user=alice", "read:users:groups!user=alice",
    }
    assert set(small) == {"kind", "name", "admin", "user_info", "groups", "token_id", "session_id", "scopes"}
    browser = await live.browser("alice")
    assert b'"token_id": null' in (await browser.get("/hub/api/user")).body


@pytest.mark.parametrize(
    "live", [{"services": [{"name": "svc", "api_token": "s" * 20}, {"name": "shown", "api_token": "t" * 20, "info": {"a": 1}}]}],
    indirect=True,
)
async def test_a_service_without_roles_can_still_say_who_it_is(live: LiveHub) -> None:
    """Scopes are empty then, and the name is there all the same; what its definition does not give is null."""
    answer = (await live.call("GET", "/user", token="s" * 20)).json
    assert answer["kind"] == "service" and answer["name"] == "svc" and answer["scopes"] == []
    assert (await live.call("GET", "/users/admin", token="s" * 20)).status == 403
    await live.grant("admin", "read:services")
    owner = (await live.as_("admin", "GET", f"/authorizations/token/{'t' * 20}")).json
    assert owner["info"] == {"a": 1} and owner["url"] is None and owner["display"] is None


async def test_old_ways_to_ask_whom_something_stands_for(live: LiveHub) -> None:
    """Tokens and cookies may be looked up by whoever has a token, never by cookie (rest-api §4.12)."""
    alice, admin = await live.token("alice"), await live.token("admin")
    model = (await live.call("GET", f"/authorizations/token/{alice}", token=admin)).json
    assert model["name"] == "alice" and "servers" in model
    small = (await live.call("GET", f"/authorizations/token/{alice}", token=await live.token("admin", "shutdown"))).json
    assert set(small) == {"kind", "name", "admin", "user_info", "groups"}
    assert (await live.call("GET", "/authorizations/token/unknown", token=admin)).status == 404
    browser = await live.browser("alice")
    assert (await browser.get(f"/hub/api/authorizations/token/{alice}")).code == 403
    gone = await live.call("POST", "/authorizations/token", {})
    assert gone.status == 404 and gone.message
    cookie = browser.cookie("jupyterhub-hub-login")
    assert cookie
    path = "/authorizations/cookie/jupyterhub-hub-login"
    assert (await live.call("GET", f"{path}/{segment(cookie)}", token=admin)).json["name"] == "alice"
    assert (await live.call("GET", path, raw=cookie, token=admin)).json["name"] == "alice"
    assert (await live.call("GET", path, raw=cookie, token=await live.token("admin", "shutdown"))).json == {}
    for bad in ("x", f"{cookie}x"):
        assert (await live.call("GET", f"{path}/{segment(bad)}", token=admin)).status == 404
    assert (await live.call("GET", f"{path}/{segment(cookie)}")).status == 403
    await live.context.logins.end_login(cookie)
    assert (await live.call("GET", f"{path}/{segment(cookie)}", token=admin)).status == 404


# Lists


async def test_which_users_are_listed(small: LiveHub) -> None:
    """Rows 22 to 27: sort, state and name filters, and scopes that reach some users only."""
    for bad in ("sort=--name", "sort=age", "state=Active"):
        assert (await small.as_("admin", "GET", f"/users?{bad}")).status == 400
    assert names(await small.as_("admin", "GET", "/users?state=")) == ["admin", "alice", "bob", "carol"]
    assert names(await small.as_("admin", "GET", "/users?sort=-name")) == ["carol", "bob", "alice", "admin"]
    assert names(await small.as_("admin", "GET", "/users" + query(name_filter="%"))) == ["admin", "alice", "bob", "carol"]
    assert names(await small.as_("admin", "GET", "/users" + query(name_filter="A_I"))) == ["alice"]
    groups = ["list:users!group=g1", "list:users!user=carol"]
    assert names(await small.with_scopes(groups, "GET", "/users")) == ["alice", "bob", "carol"]
    assert (await small.with_scopes(["list:users!user=nope"], "GET", "/users")).json == []
    refused = await small.with_scopes(["list:users!server=alice/"], "GET", "/users")
    assert (refused.status, refused.message) == (403, None)
    activity = {"last_activity": (datetime.now(timezone.utc) + timedelta(minutes=5)).isoformat()}
    assert (await small.as_("admin", "POST", "/users/bob/activity", activity)).status == 200
    await small.context.activity.flush()
    assert names(await small.as_("admin", "GET", "/users?sort=-last_activity"))[0] == "bob"
    assert names(await small.as_("admin", "GET", "/users?sort=last_activity"))[:2] == ["alice", "carol"]


async def test_users_by_the_state_of_their_servers(small: LiveHub) -> None:
    """Active counts starts under way, ready does not, inactive is the rest."""
    await small.run_server("alice")
    small.behaviour.start_when.clear()
    user = await small.user("bob")
    start = await small.context.servers.start(user)
    await asyncio.sleep(0)
    accept = {"Accept": PAGINATION}
    for state, expected in (("active", ["alice", "bob"]), ("ready", ["alice"]), ("inactive", ["admin", "carol"])):
        answer = await small.as_("admin", "GET", f"/users?state={state}", headers=accept)
        assert [item["name"] for item in answer.json["items"]] == expected
        assert page(answer)["total"] == len(expected)
    bob = (await small.as_("admin", "GET", "/users/bob")).json
    assert (bob["pending"], bob["server"]) == ("spawn", None)
    assert (bob["servers"][""]["ready"], bob["servers"][""]["stopped"]) == (False, False)
    small.behaviour.start_when.set()
    await start.done
    assert (await small.as_("admin", "GET", "/users/bob")).json["server"] == "/user/bob/"


async def test_a_list_does_not_need_the_users_in_memory(small: LiveHub) -> None:
    """Users that nobody has asked for are shown from their rows, and stay out of the cache."""
    await small.run_server("alice")
    cached = {model["name"]: model for model in (await small.as_("admin", "GET", "/users")).json}
    for name in ("alice", "bob", "carol"):
        small.context.users.forget(await small.user(name))
    read = {model["name"]: model for model in (await small.as_("admin", "GET", "/users")).json}
    assert read == cached
    assert read["alice"]["servers"][""]["ready"]
    assert small.context.users.cached("bob") is None


# What is shown


async def test_what_scopes_show_of_a_user(small: LiveHub) -> None:
    """Rows 28 to 31: members follow scopes; without any there is no user."""
    assert (await small.with_scopes(["admin:auth_state"], "GET", "/users/alice")).status == 404
    activity = await small.with_scopes(["read:users:activity"], "GET", "/users/alice")
    assert set(activity.json) == {"kind", "name", "last_activity"}
    roles = await small.with_scopes(["read:roles:users"], "GET", "/users/alice")
    assert set(roles.json) == {"kind", "name", "admin", "roles"} and roles.json["roles"] == ["user"]
    groups = await small.with_scopes(["read:users:groups!group=g1"], "GET", "/users/alice")
    assert groups.json == {"kind": "user", "name": "alice", "groups": ["g1"]}
    servers = await small.with_scopes(["read:servers"], "GET", "/users/alice")
    assert set(servers.json) == {"kind", "name", "admin", "user_info", "servers"} and servers.json["servers"] == {}
    assert (await small.with_scopes(["read:users:name!group=g1"], "GET", "/users/nobody")).message
    missing = await small.with_scopes(["read:users:name"], "GET", "/users/nobody")
    assert (missing.status, missing.message) == (404, None)
    foreign = await small.with_scopes(["list:users!user=alice", "read:servers!server=alice/zz"], "GET", "/users")
    assert [set(model) & {"servers", "name"} for model in foreign.json] == [{"name"}]


async def test_stopped_servers_are_shown_on_demand(small: LiveHub) -> None:
    """Row 32: the flag without a value counts; 0 and false do not; the bare name of a server is a filter as well."""
    assert (await small.as_("alice", "PUT", "/users/alice/servers/n1", {"x": 1})).status == 201
    for flag, shown in (("include_stopped_servers", {"", "n1"}), ("include_stopped_servers=FALSE", set()), ("", set())):
        model = (await small.as_("alice", "GET", f"/users/alice?{flag}")).json
        assert set(model["servers"]) == shown, flag
    bare = await small.with_scopes(
        ["read:users:name", "read:servers!server=n1"], "GET", "/users/alice?include_stopped_servers"
    )
    assert set(bare.json["servers"]) == {"n1"}
    assert (await small.with_scopes(["read:servers!server=n1"], "GET", "/users/alice/servers/n1")).status == 404
    (server,) = bare.json["servers"].values()
    assert server["user_options"] == {"x": 1} and server["display_name"] == "n1" and server["full_name"] == "alice/n1"
    assert server["progress_url"] == "/hub/api/users/alice/servers/n1/progress"
    assert server["started"] is None and server["stopped"] and not server["ready"] and "state" not in server


# Making and changing


async def test_making_several_users(small: LiveHub) -> None:
    """Rows 33 to 37: existing ones are skipped, one bad name stops all, only administrators make administrators."""
    taken = await small.as_("admin", "POST", "/users", {"usernames": ["alice", "BOB"]})
    assert taken.status == 409 and "2" in taken.message
    bad = await small.as_("admin", "POST", "/users", {"usernames": ["alice", "NewOne ", "new2"]})
    assert bad.status == 400 and "newone " in bad.message
    assert await small.context.directory.find("new2") is None
    made = await small.as_("admin", "POST", "/users", {"usernames": "xyx"})
    assert made.status == 201 and names(made) == ["x", "y", "x"]
    for body in ({}, [], {"usernames": []}, {"usernames": ["q"], "admin": "yes"}, {"usernames": ["q"], "color": 1}, {"usernames": [1]}):
        assert (await small.as_("admin", "POST", "/users", body)).status == 400, body
    assert (await small.with_scopes(["admin:users!group=g1"], "POST", "/users", {"usernames": ["q"]})).status == 403
    admins = await small.as_("admin", "POST", "/users", {"usernames": ["boss", "alice"], "admin": True})
    assert [(model["name"], model["admin"], model["roles"]) for model in admins.json] == [("boss", True, ["admin", "user"])]


async def test_a_user_whom_the_authenticator_refuses_is_not_left_behind(live: LiveHub) -> None:
    """Its reason is told; users made before in the same request stay."""
    PickyAuthenticator.refused = {"second"}
    answer = await live.as_("admin", "POST", "/users", {"usernames": ["first", "second", "third"]})
    assert answer.status == 400 and "no home for this one" in answer.message
    found = [name for name in ("first", "second", "third") if await live.context.directory.find(name)]
    assert found == ["first"]
    assert (await live.as_("admin", "POST", "/users/second")).status == 400


async def test_making_one_user(small: LiveHub) -> None:
    """Rows 38 to 40: the name is taken as it is; a scope for exactly that name is enough."""
    assert (await small.as_("admin", "POST", "/users/SingleTwo")).status == 201
    assert (await small.as_("admin", "POST", "/users/singletwo")).json["name"] == "singletwo"
    assert (await small.as_("admin", "POST", "/users/singletwo")).status == 409
    assert (await small.as_("admin", "POST", "/users/a%2Fb")).status == 400
    assert (await small.with_scopes(["admin:users!user=ga1"], "POST", "/users/ga1")).status == 201
    assert (await small.with_scopes(["admin:users!group=g1"], "POST", "/users/ga2")).status == 404
    assert (await small.as_("admin", "POST", "/users/ga3", ["x"])).status == 400


async def test_changing_a_user(small: LiveHub) -> None:
    """Rows 41, 42: nothing changes nothing; a new name is normalised and everything stays attached to it."""
    token = await small.token("bob")
    before = (await small.as_("admin", "GET", "/users/bob")).json
    unchanged = await small.as_("admin", "PATCH", "/users/bob", {})
    assert unchanged.status == 200 and {**unchanged.json, "last_activity": None} == {**before, "last_activity": None}
    assert (await small.as_("admin", "PATCH", "/users/bob", {"name": "bob"})).status == 200
    renamed = await small.as_("admin", "PATCH", "/users/bob", {"name": "Bob Z"})
    assert (renamed.status, renamed.json["name"], renamed.json["groups"]) == (200, "bob z", ["g1"])
    assert (await small.call("GET", "/user", token=token)).json["name"] == "bob z"
    assert (await small.as_("admin", "GET", "/users/bob")).status == 404
    for body in ({"name": "alice"}, {"name": "b/c"}, {"groups": []}, {"roles": []}, {"auth_state": []}, [], {"x": 1}):
        answer = await small.as_("admin", "PATCH", f"/users/{segment('bob z')}", body)
        assert answer.status == 400 and answer.message, body
    assert (await small.as_("admin", "PATCH", "/users/alice")).status == 400
    assert (await small.as_("admin", "PATCH", "/users/nobody", {})).status == 404
    made = await small.as_("admin", "PATCH", "/users/alice", {"admin": True})
    assert made.json["admin"] and made.json["roles"] == ["admin", "user"]
    unmade = await small.as_("admin", "PATCH", "/users/alice", {"admin": False})
    assert not unmade.json["admin"] and unmade.json["roles"] == ["user"]


async def test_only_administrators_touch_administrators(small: LiveHub) -> None:
    """Row 98: whoever holds admin:users without the flag makes and changes ordinary users only."""
    await small.grant("carol", "admin:users")
    assert (await small.as_("carol", "POST", "/users/x", {"admin": True})).status == 403
    assert (await small.as_("carol", "POST", "/users", {"usernames": ["x"], "admin": True})).status == 403
    assert (await small.as_("carol", "PATCH", "/users/alice", {"admin": True})).status == 403
    assert (await small.as_("carol", "PATCH", "/users/admin", {})).status == 403
    assert (await small.as_("carol", "PATCH", "/users/alice", {"name": "alix"})).status == 200


@pytest.mark.parametrize("live", [{"Authenticator__enable_auth_state": True, "CryptKeeper__keys": [b"k" * 32]}], indirect=True)
async def test_authentication_state_is_stored_and_shown_to_few(live: LiveHub) -> None:
    """It is encrypted in the database, real in one user's model for admin:auth_state, null in lists."""
    await live.user("alice")
    answer = await live.as_("admin", "PATCH", "/users/alice", {"auth_state": {"secret": 1}})
    assert answer.json["auth_state"] == {"secret": 1}
    assert (await live.as_("admin", "GET", "/users/alice")).json["auth_state"] == {"secret": 1}
    listed = {model["name"]: model for model in (await live.as_("admin", "GET", "/users")).json}
    assert listed["alice"]["auth_state"] is None
    assert "auth_state" not in (await live.as_("alice", "GET", "/users/alice")).json


async def test_deleting_a_user(small: LiveHub) -> None:
    """Row 43: not oneself; running servers are stopped first, named ones too, and tokens die with the user."""
    assert (await small.as_("admin", "DELETE", "/users/admin")).status == 400
    token = await small.token("bob")
    await small.run_server("bob")
    await small.run_server("bob", "n1")
    assert (await small.as_("admin", "DELETE", "/users/bob")).status == 204
    assert sorted(small.behaviour.forgotten) == ["bob", "bob:n1"]
    assert (await small.as_("admin", "DELETE", "/users/bob")).status == 404
    assert (await small.call("GET", "/user", token=token)).status == 403


async def test_a_user_whose_server_takes_long_to_stop_stays(small: LiveHub) -> None:
    """The stop goes on, and meanwhile the user cannot be deleted."""
    small.settings["slow_stop_timeout"] = 0.05
    await small.run_server("bob")
    small.behaviour.stop_when.clear()
    for _ in range(2):
        answer = await small.as_("admin", "DELETE", "/users/bob")
        assert answer.status == 400 and answer.message
    small.behaviour.stop_when.set()
    await small.settle("bob", "", State.STOPPED)
    assert (await small.as_("admin", "DELETE", "/users/bob")).status == 204


# Activity


async def test_reported_activity(small: LiveHub) -> None:
    """Rows 65 to 67: times move forward only, not beyond the hour, and the scope has to cover the user."""
    await small.run_server("alice")
    path, now = "/users/alice/activity", datetime.now(timezone.utc)
    for body in (
        {}, {"last_activity": ""}, {"servers": {}}, {"last_activity": 5}, {"last_activity": "soon"}, [],
        {"last_activity": "2099-01-01T00:00:00Z"}, {"servers": {"nope": {"last_activity": now.isoformat()}}},
        {"servers": {"": {}}}, {"servers": []}, {"last_activity": (now + timedelta(minutes=70)).isoformat()},
    ):
        answer = await small.as_("alice", "POST", path, body)
        assert answer.status == 400 and answer.message, body
    late = now + timedelta(minutes=50)
    assert (await small.as_("alice", "POST", path, {"last_activity": late.isoformat()})).status == 200
    early = {"last_activity": "2020-01-01", "servers": {"": {"last_activity": "2020-01-01T00:00:00Z"}}}
    answer = await small.as_("alice", "POST", path, early)
    assert (answer.status, answer.text) == (200, "")
    server_time = (now + timedelta(minutes=10)).isoformat()
    assert (await small.as_("alice", "POST", path, {"servers": {"": {"last_activity": server_time}}})).status == 200
    for _ in range(2):
        model = (await small.as_("admin", "GET", "/users/alice")).json
        assert model["last_activity"] == late.replace(tzinfo=None).isoformat() + "Z"
        assert model["servers"][""]["last_activity"] == server_time.replace("+00:00", "Z")
        await small.context.activity.flush()
    assert (await small.with_scopes(["users:activity!server=alice/"], "POST", path, early)).status == 404
    assert (await small.as_("admin", "POST", "/users/nobody/activity", early)).message
    assert (await small.as_("bob", "POST", path, early)).status in (403, 404)


async def test_a_servers_own_token_does_not_make_its_user_active(small: LiveHub) -> None:
    """What a server does by itself is no sign of a person."""
    user = await small.user("carol")
    text, _ = await small.context.database.run(
        token_store.issue, user_id=user.id, scopes=["users:activity!user", "read:users!user"], note="Server at /user/carol/"
    )
    assert (await small.call("GET", "/user", token=text)).json["last_activity"] is None
    assert (await small.as_("carol", "GET", "/user")).json["last_activity"] is not None


async def test_admin_access_is_a_matter_of_the_past(live: LiveHub) -> None:
    """Off by default; switched on, it says yes and does nothing."""
    await live.user("alice")
    off = await live.as_("admin", "POST", "/users/alice/admin-access")
    assert off.status == 403 and off.message
    live.settings["admin_access"] = True
    assert (await live.as_("admin", "POST", "/users/alice/admin-access")).status == 200
    assert (await live.as_("admin", "POST", "/users/nobody/admin-access")).status == 404
