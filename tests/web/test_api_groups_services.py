"""Groups (rest-api §4.9) and services (§4.10)."""

from __future__ import annotations

from typing import Any

import pytest

from .live_hub import LiveHub

# Groups


def names(answer: Any) -> list[str]:
    return [model["name"] for model in answer.json]


async def test_which_groups_are_listed(small: LiveHub) -> None:
    """Row 78: in the order of their creation, those that the scope reaches, and no foreign kinds of filters."""
    assert names(await small.as_("admin", "GET", "/groups")) == ["g1", "g2"]
    assert names(await small.with_scopes(["list:groups!group=g2"], "GET", "/groups")) == ["g2"]
    refused = await small.with_scopes(["list:groups!user=alice"], "GET", "/groups")
    assert (refused.status, refused.message) == (403, None)
    assert names(await small.as_("admin", "GET", "/groups?offset=1&limit=1")) == ["g2"]


async def test_what_scopes_show_of_a_group(small: LiveHub) -> None:
    """Members and properties for read:groups, roles for read:roles:groups, the name for any."""
    full = (await small.as_("admin", "GET", "/groups/g1")).json
    assert full == {"kind": "group", "name": "g1", "users": ["alice", "bob"], "properties": {}, "roles": []}
    name = await small.with_scopes(["read:groups:name"], "GET", "/groups/g1")
    assert name.json == {"kind": "group", "name": "g1"}
    roles = await small.with_scopes(["read:roles:groups"], "GET", "/groups/g1")
    assert roles.json == {"kind": "group", "name": "g1", "roles": []}
    assert (await small.with_scopes(["read:groups!group=g2"], "GET", "/groups/g1")).status == 404
    assert (await small.as_("admin", "GET", "/groups/none")).message


async def test_making_groups(small: LiveHub) -> None:
    """Rows 79, 80: the first existing one ends the request, what came before stays; unknown keys are refused."""
    taken = await small.as_("admin", "POST", "/groups", {"groups": ["gc", "g1", "gd"]})
    assert taken.status == 409 and "g1" in taken.message
    assert names(await small.as_("admin", "GET", "/groups")) == ["g1", "g2", "gc"]
    made = await small.as_("admin", "POST", "/groups", {"groups": ["ge", "gf"], "users": ["Carol"]})
    assert made.status == 201 and [model["users"] for model in made.json] == [["carol"], ["carol"]]
    for body in ({}, {"groups": []}, {"groups": ["x"], "properties": {}}, {"groups": [1]}, {"groups": ["x"], "users": ["nobody"]}):
        assert (await small.as_("admin", "POST", "/groups", body)).status == 400, body
    assert (await small.as_("admin", "POST", "/groups/gu", {"properties": {}})).status == 400
    assert (await small.as_("admin", "POST", "/groups/gu")).status == 201
    assert (await small.as_("admin", "POST", "/groups/gu")).status == 409
    assert (await small.with_scopes(["admin:groups!group=gv"], "POST", "/groups/gv")).status == 201


async def test_members(small: LiveHub) -> None:
    """Row 81: one unknown user, and nobody is added; adding and removing again changes nothing."""
    path = "/groups/g2/users"
    bad = await small.as_("admin", "POST", path, {"users": ["alice", "nobody"]})
    assert bad.status == 400 and "nobody" in bad.message
    assert (await small.as_("admin", "GET", "/groups/g2")).json["users"] == ["carol"]
    for _ in range(2):
        assert (await small.as_("admin", "POST", path, {"users": ["ALICE"]})).json["users"] == ["alice", "carol"]
    assert (await small.as_("admin", "GET", "/users/alice")).json["groups"] == ["g1", "g2"]
    for _ in range(2):
        answer = await small.as_("admin", "DELETE", path, {"users": ["alice"]})
        assert answer.status == 200 and answer.json["users"] == ["carol"]
    assert (await small.as_("admin", "GET", "/users/alice")).json["groups"] == ["g1"]
    for body in (None, {}, {"users": "alice"}, {"users": [1]}, {"x": []}, []):
        assert (await small.as_("admin", "POST", path, body)).status == 400, body
    assert (await small.as_("admin", "POST", "/groups/none/users", {"users": ["alice"]})).status == 404


async def test_membership_counts_at_once(small: LiveHub) -> None:
    """A filter for a group reaches a user from the moment of joining to that of leaving, or of the group's end."""
    scopes = ["read:users!group=g2"]
    assert (await small.with_scopes(scopes, "GET", "/users/alice")).status == 404
    await small.as_("admin", "POST", "/groups/g2/users", {"users": ["alice"]})
    assert (await small.with_scopes(scopes, "GET", "/users/alice")).status == 200
    assert (await small.as_("admin", "DELETE", "/groups/g2")).status == 204
    assert (await small.with_scopes(scopes, "GET", "/users/alice")).status == 404
    assert (await small.as_("admin", "GET", "/users/alice")).json["groups"] == ["g1"]
    assert (await small.as_("admin", "DELETE", "/groups/g2")).status == 404


async def test_properties(small: LiveHub) -> None:
    """Row 82: an object replaces all of them; anything else is refused."""
    path = "/groups/g1/properties"
    assert (await small.as_("admin", "PUT", path, {"a": [1], "b": 2})).json["properties"] == {"a": [1], "b": 2}
    for body in ([], "x", None):
        assert (await small.as_("admin", "PUT", path, body)).status == 400, body
    assert (await small.as_("admin", "PUT", path, {})).json["properties"] == {}
    assert (await small.as_("admin", "PUT", "/groups/none/properties", {})).status == 404


# Services

CONFIGURED = {
    "services": [
        {"name": "web", "url": "http://127.0.0.1:9", "api_token": "w" * 20, "info": {"a": 1}, "timeout": 1},
        {"name": "cron", "api_token": "c" * 20, "display": False},
    ],
    "load_roles": [{"name": "reader", "scopes": ["read:hub"], "services": ["cron"]}],
}
configured = pytest.mark.parametrize("live", [CONFIGURED], indirect=True)


@configured
async def test_which_services_are_listed(live: LiveHub) -> None:
    """Row 83: by name; a filter names those that are shown, and foreign kinds show nothing."""
    every = (await live.as_("admin", "GET", "/services")).json
    assert set(every) == {"web", "cron"}
    assert every["web"] == {
        "kind": "service", "name": "web", "admin": False, "roles": [], "url": "http://127.0.0.1:9",
        "prefix": "/services/web/", "command": [], "pid": 0, "info": {"a": 1}, "display": True,
    }
    assert (every["cron"]["prefix"], every["cron"]["display"], every["cron"]["roles"]) == ("", False, ["reader"])
    some = await live.with_scopes(["list:services!service=cron"], "GET", "/services")
    assert some.json == {"cron": {"kind": "service", "name": "cron", "admin": False}}
    assert (await live.with_scopes(["list:services!user=alice"], "GET", "/services")).json == {}


@configured
async def test_what_scopes_show_of_a_service(live: LiveHub) -> None:
    """The name for any; roles for read:roles:services; everything else for read:services."""
    names_only = (await live.with_scopes(["read:services:name"], "GET", "/services/web")).json
    assert set(names_only) == {"kind", "name", "admin"}
    roles = (await live.with_scopes(["read:roles:services"], "GET", "/services/cron")).json
    assert roles == {"kind": "service", "name": "cron", "admin": False, "roles": ["reader"]}
    without_roles = (await live.with_scopes(["read:services"], "GET", "/services/web")).json
    assert "roles" not in without_roles and without_roles["info"] == {"a": 1}
    assert (await live.as_("admin", "GET", "/services/none")).message


@configured
async def test_registering_a_service(live: LiveHub) -> None:
    """Row 84: it is there at once, with its token and its client; what cannot be is refused and leaves nothing."""
    for body in (
        None, {}, [], {"command": ["ls"]}, {"url": "ftp://x"}, {"oauth_client_id": "x", "oauth_redirect_uri": "/x"},
        {"oauth_no_confirm": True}, {"timeout": 5}, {"admin": 1}, {"api_token": "short"},
        {"oauth_client_allowed_scopes": ["nope"]}, {"info": []},
    ):
        answer = await live.as_("admin", "POST", "/services/x", body)
        assert answer.status == 400 and answer.message, body
        assert (await live.as_("admin", "GET", "/services/x")).status == 404
    assert (await live.as_("admin", "POST", f"/services/{'%20x'}", {"info": {}})).status == 400
    definition = {
        "command": [], "api_token": "t" * 20, "info": {"b": 2}, "oauth_redirect_uri": "http://127.0.0.1:9/cb",
        "oauth_no_confirm": True, "oauth_client_allowed_scopes": ["read:users!user"], "name": "other",
    }
    made = await live.as_("admin", "POST", "/services/x", definition)
    assert made.status == 201 and made.json["name"] == "x" and made.json["info"] == {"b": 2}
    assert (await live.as_("admin", "POST", "/services/x", {"info": {}})).status == 409
    assert (await live.call("GET", "/user", token="t" * 20)).json["name"] == "x"
    client = await live.app.oauth_provider.find_client("service-x")
    assert client is not None and set(client.allowed_scopes) == {"read:users!user", "access:services!service=x"}
    assert "service-x" in live.settings["oauth_no_confirm_list"]
    assert (await live.as_("alice", "POST", "/services/y", {"info": {}})).status == 403


@configured
async def test_nobody_gives_a_service_more_than_they_have(live: LiveHub) -> None:
    """Scopes of its client and the admin role have to be held by whoever registers it."""
    await live.grant("carol", "admin:services")
    for body in ({"oauth_client_allowed_scopes": ["admin:users"]}, {"admin": True}):
        answer = await live.as_("carol", "POST", "/services/x", body)
        assert answer.status == 400 and answer.message, body
    assert (await live.as_("carol", "POST", "/services/x", {"info": {}})).status == 201
    assert (await live.as_("admin", "POST", "/services/boss", {"admin": True})).json["admin"] is True


@configured
async def test_deleting_a_service(live: LiveHub) -> None:
    """Row 85: those of the configuration stay; one made here goes with its token, its client and its consent."""
    kept = await live.as_("admin", "DELETE", "/services/web")
    assert kept.status == 405 and kept.message
    assert (await live.as_("admin", "DELETE", "/services/none")).status == 404
    definition = {"api_token": "t" * 20, "oauth_redirect_uri": "/cb", "oauth_no_confirm": True}
    assert (await live.as_("admin", "POST", "/services/x", definition)).status == 201
    gone = await live.as_("admin", "DELETE", "/services/x")
    assert (gone.status, gone.text) == (200, "")
    assert (await live.call("GET", "/user", token="t" * 20)).status == 403
    assert await live.app.oauth_provider.find_client("service-x") is None
    assert "service-x" not in live.settings["oauth_no_confirm_list"]
    assert (await live.as_("admin", "POST", "/services/x", definition)).status == 201


async def test_services_made_here_are_there_after_a_restart(tmp_path: Any) -> None:
    """They are in the database, and the next start takes them over."""
    settings = {"db_url": f"sqlite:///{tmp_path}/hub.sqlite"}
    first = LiveHub(**settings)
    await first.start()
    body = {"info": {"a": 1}, "api_token": "t" * 20, "oauth_redirect_uri": "/cb", "display": False}
    assert (await first.as_("admin", "POST", "/services/x", body)).status == 201
    await first.close()
    second = LiveHub(**settings)
    await second.start()
    model = (await second.as_("admin", "GET", "/services/x")).json
    assert (model["info"], model["display"]) == ({"a": 1}, False)
    assert (await second.call("GET", "/user", token="t" * 20)).json["name"] == "x"
    assert (await second.as_("admin", "DELETE", "/services/x")).status == 200
    await second.close()


async def test_a_service_with_an_address_is_waited_for(live: LiveHub) -> None:
    """Row 99: the answer comes when it answers; its route with the next check of all routes."""
    url = f"http://127.0.0.1:{live.behaviour.port}"
    made = await live.as_("admin", "POST", "/services/x", {"url": url})
    assert made.status == 201 and made.json["prefix"] == "/services/x/"
    assert "/services/x/" not in live.app.proxy.routes
    assert (await live.as_("admin", "POST", "/proxy")).status == 200
    assert live.app.proxy.routes["/services/x/"]["target"] == url
    assert (await live.as_("admin", "DELETE", "/services/x")).status == 200
    assert (await live.as_("admin", "POST", "/proxy")).status == 200
    assert "/services/x/" not in live.app.proxy.routes
