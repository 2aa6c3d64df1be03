"""Tokens (rest-api §4.8)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from jupyterhub import orm

from .live_hub import LiveHub


async def issue(hub: LiveHub, body: Any = None, *, name: str = "alice", by: str = "alice", **arguments: Any) -> Any:
    return await hub.as_(by, "POST", f"/users/{name}/tokens", body, **arguments)


async def test_a_new_token_works_at_once_and_is_shown_once(live: LiveHub) -> None:
    """Its text is 32 hexadecimal digits; what the request says about it does not count."""
    answer = await issue(live, {"note": "mine", "token": "chosen-by-somebody"})
    assert answer.status == 201
    token = answer.json["token"]
    assert len(token) == 32 and int(token, 16) >= 0
    assert (answer.json["note"], answer.json["user"], answer.json["oauth_client"]) == ("mine", "alice", "JupyterHub")
    assert (await live.call("GET", "/user", token=token)).json["token_id"] == answer.json["id"]
    one = await live.as_("alice", "GET", f"/users/alice/tokens/{answer.json['id']}")
    assert one.status == 200 and "token" not in one.json and one.json["scopes"]
    listed = (await live.as_("alice", "GET", "/users/alice/tokens")).json["api_tokens"]
    assert answer.json["id"] in [each["id"] for each in listed]


async def test_scopes_of_new_tokens(live: LiveHub) -> None:
    """Rows 68 to 72: nothing identifies, the owner's scopes are the limit, what cannot be resolved is left out."""
    await live.user("bob")
    nothing = await issue(live, {"scopes": []})
    assert nothing.status == 201
    assert set(nothing.json["scopes"]) == {"read:users:name!user=alice", "read:users:groups!user=alice"}
    dropped = await issue(live, {"scopes": ["access:servers!server"]})
    assert dropped.status == 201 and len(dropped.json["scopes"]) == 2
    for scopes in (["all"], ["nope"], ["read:users!foo=bar"], ["read:users!user="], ["inherit", "admin:users"], ["(no_scope)"], "x", [1]):
        answer = await issue(live, {"scopes": scopes})
        assert answer.status == 400 and answer.message, scopes
    both = await issue(live, {"scopes": [], "roles": []})
    assert both.status == 400
    beyond = await issue(live, {"scopes": ["read:users!user=bob"]}, by="admin")
    assert beyond.status == 400 and "read:users!user=bob" in beyond.message
    roles = await issue(live, {"roles": ["user"]})
    assert roles.status == 201 and "read:servers!user=alice" in roles.json["scopes"]
    assert (await issue(live, {"roles": ["nope"]})).status == 400


async def test_how_long_tokens_live(live: LiveHub) -> None:
    """Row 73: whole seconds, true counts as one, and a Hub may have a longest time."""
    for value in (0, 1.5, "10", -3, 10**30):
        answer = await issue(live, {"expires_in": value})
        assert answer.status == 400 and answer.message, value
    second = await issue(live, {"expires_in": True})
    assert second.status == 201
    created, expires = (datetime.fromisoformat(second.json[name].rstrip("Z")) for name in ("created", "expires_at"))
    assert timedelta(0) < expires - created < timedelta(seconds=2)
    assert (await issue(live, {"expires_in": None})).json["expires_at"] is None
    live.settings["token_expires_in_max_seconds"] = 60
    assert (await issue(live, {})).json["expires_at"] is not None
    assert (await issue(live, {"expires_in": 61})).status == 400
    assert (await issue(live, {"expires_in": 60})).status == 201


async def test_notes_say_who_asked(live: LiveHub) -> None:
    """Empty counts as missing; scalars become texts; objects are refused."""
    assert (await issue(live)).json["note"] == "Requested via api"
    assert (await issue(live, {"note": ""}, by="admin")).json["note"] == "Requested via api by user admin"
    assert (await issue(live, {"note": 5})).json["note"] == "5"
    assert (await issue(live, {"note": {}})).status == 400
    assert (await issue(live, [])).status == 400


async def test_who_may_issue_tokens(live: LiveHub) -> None:
    """Row 74: not for strangers, and not for those who are not there, which looks the same."""
    await live.user("bob")
    for name in ("bob", "nosuch"):
        answer = await issue(live, {}, name=name)
        assert answer.status == 403 and name in answer.message and "alice" in answer.message
    assert (await issue(live, {}, name="nosuch", by="admin")).status == 403
    assert (await live.call("POST", "/users/bob/tokens", {})).message is None


async def test_a_password_gives_the_first_token(live: LiveHub) -> None:
    """Rows 75, 76: the owner and an administrator by password, nobody else, and no log-in comes of it."""
    await live.user("alice")
    await live.user("bob")
    for name, status in (("alice", 201), ("admin", 201), ("bob", 403), ("nobody", 403)):
        answer = await live.call("POST", "/users/alice/tokens", {"auth": {"username": name, "password": "x"}})
        assert answer.status == status, name
        assert "Set-Cookie" not in answer.headers
    assert await live.context.directory.find("nobody") is None
    for auth in (None, "x", {}):
        answer = await live.call("POST", "/users/alice/tokens", {"auth": auth})
        assert (answer.status, answer.message) == (403, None), auth
    browser = await live.browser("alice")
    refused = await browser.fetch(
        "/hub/api/users/alice/tokens", "POST", body='{"auth": {"username": "alice", "password": "x"}}',
        headers={"Content-Type": "application/json"},
    )
    assert refused.code == 403 and b"_xsrf" in refused.body


async def test_tokens_of_others_and_wrong_ids_are_not_there(live: LiveHub) -> None:
    """404 for another user's id, a wrong prefix and what is no number."""
    mine = (await issue(live)).json["id"]
    await live.user("bob")
    for path in (f"/users/bob/tokens/{mine}", f"/users/alice/tokens/{mine[1:]}", "/users/alice/tokens/ax", "/users/alice/tokens/a999"):
        for method in ("GET", "DELETE"):
            assert (await live.as_("admin", method, path)).status == 404, path
    assert (await live.as_("alice", "GET", "/users/alice/tokens/")).status == 200


async def test_revoked_tokens_are_dead_at_once(live: LiveHub) -> None:
    """A token may revoke itself if it holds tokens; the next request with it is a stranger's."""
    token = await live.token("alice", "tokens!user", "read:tokens!user")
    own = (await live.call("GET", "/user", token=token)).json["token_id"]
    assert (await live.call("DELETE", f"/users/alice/tokens/{own}", token=token)).status == 204
    assert (await live.call("GET", "/user", token=token)).status == 403


async def test_revoking_one_token_of_an_application_revokes_all(live: LiveHub) -> None:
    """Row 77: people think of the application, not of its tokens."""
    user = await live.user("alice")

    def store(session: Any) -> None:
        session.add(orm.OAuthClient(identifier="service-app", description="The App", secret="x", redirect_uri="/x"))
        session.flush()
        for number in range(2):
            session.add(orm.APIToken(user_id=user.id, client_id="service-app", hashed=f"h{number}", prefix="none", scopes=[]))

    await live.context.database.run(store)
    tokens = (await live.as_("alice", "GET", "/users/alice/tokens")).json["api_tokens"]
    of_app = [each for each in tokens if each["oauth_client"] == "The App"]
    assert len(of_app) == 2
    assert (await live.as_("alice", "DELETE", f"/users/alice/tokens/{of_app[0]['id']}")).status == 204
    left = (await live.as_("alice", "GET", "/users/alice/tokens")).json["api_tokens"]
    assert [each for each in left if each["oauth_client"] == "The App"] == []


async def test_a_token_never_does_more_than_its_owner(live: LiveHub) -> None:
    """Losing a role takes effect with the next request (rbac §8.2)."""
    await live.grant("alice", "list:users", "read:users")
    token = await live.token("alice", "list:users", "read:users")
    assert (await live.call("GET", "/users", token=token)).status == 200
    await live.context.database.run(_take_roles_from, "alice")
    assert (await live.call("GET", "/users", token=token)).status == 403


def _take_roles_from(session: Any, name: str) -> None:
    user = orm.User.find(session, name)
    assert user is not None
    user.roles = [role for role in user.roles if role.name == "user"]


@pytest.mark.parametrize("live", [{"services": [{"name": "svc", "api_token": "s" * 20}], "load_roles": [{"name": "maker", "scopes": ["tokens", "read:users:name"], "services": ["svc"]}]}], indirect=True)
async def test_services_may_issue_tokens_for_users(live: LiveHub) -> None:
    """The note says which service it was."""
    await live.user("alice")
    answer = await live.call("POST", "/users/alice/tokens", token="s" * 20)
    assert answer.status == 201 and answer.json["note"] == "Requested via api by service svc"
