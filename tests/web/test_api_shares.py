"""Shares and share codes (rest-api §4.11)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from jupyterhub import orm
from jupyterhub.core.errors import ShareCodeNotFound
from jupyterhub.orm.base import naive_now
from jupyterhub.store import shares as share_store

from .live_hub import LiveHub, page, query

ALICE = "/shares/alice/"
ACCESS = "access:servers!server=alice/"


@pytest.fixture
async def sharing(small: LiveHub) -> AsyncIterator[LiveHub]:
    """The small Hub, where alice may share her servers and look for people and groups."""
    await small.grant("alice", "shares!user", "read:users:name", "read:groups:name")
    await (await small.user("alice")).ensure_server("lab")
    yield small


def items(answer: Any) -> list[Any]:
    assert answer.status == 200, answer
    found: list[Any] = answer.json["items"]
    return found


async def test_granting_and_extending(sharing: LiveHub) -> None:
    """The list of scopes grows until it is revoked; the model says what is shared with whom."""
    first = await sharing.as_("alice", "POST", ALICE, {"user": "bob"})
    assert first.status == 200
    assert first.json["scopes"] == [ACCESS]
    assert (first.json["kind"], first.json["user"], first.json["group"]) == ("user", {"name": "bob"}, None)
    assert first.json["server"] == {
        "user": {"name": "alice"}, "name": "", "url": "/user/alice/", "full_url": None, "ready": False,
    }
    more = await sharing.as_("alice", "POST", ALICE, {"user": "bob", "scopes": ["read:servers"]})
    assert more.json["scopes"] == [ACCESS, "read:servers!server=alice/"]
    assert more.json["created_at"] == first.json["created_at"]
    group = await sharing.as_("alice", "POST", "/shares/alice/lab", {"group": "g2"})
    assert (group.json["kind"], group.json["group"], group.json["user"]) == ("group", {"name": "g2"}, None)
    assert (await sharing.as_("bob", "GET", "/user")).json["scopes"].count(ACCESS) == 1
    assert "access:servers!server=alice/lab" in (await sharing.as_("carol", "GET", "/user")).json["scopes"]
    assert (await sharing.as_("bob", "GET", "/users/alice/server")).status == 200


async def test_what_cannot_be_shared(sharing: LiveHub) -> None:
    """Rows 86 to 88: bodies, scopes, servers, permissions, recipients, in that order."""
    for body in (
        None, {}, [], {"user": "bob", "group": "g1"}, {"user": "bob", "x": 1}, {"user": 5},
        {"user": "bob", "scopes": "x"}, {"user": "bob", "scopes": ["nope"]},
        {"user": "bob", "scopes": ["access:servers!server=alice/lab"]}, {"user": "bob", "scopes": ["access:servers!user=alice"]},
    ):
        answer = await sharing.as_("alice", "POST", ALICE, body)
        assert answer.status == 400 and answer.message, body
    assert (await sharing.as_("alice", "POST", "/shares/alice/none", {"user": "bob"})).status == 404
    too_much = await sharing.as_("bob", "POST", "/shares/bob/", {"user": "alice"})
    assert too_much.status == 403 and "[shares]" in too_much.message
    foreign = await sharing.as_("alice", "POST", ALICE, {"user": "bob", "scopes": ["admin:server_state"]})
    assert foreign.status == 403 and "admin:server_state" in foreign.message
    assert (await sharing.as_("alice", "POST", ALICE, {"user": "nobody"})).status == 400
    assert (await sharing.as_("alice", "POST", ALICE, {"group": "none"})).status == 400
    blind = await sharing.call(
        "POST", ALICE, {"user": "bob"}, token=await sharing.token("alice", "shares!user=alice", "access:servers!user=alice")
    )
    assert blind.status == 403 and "bob" in blind.message
    for method in ("POST", "PATCH", "DELETE"):
        assert (await sharing.as_("alice", method, "/shares/alice", {})).status == 405
        assert (await sharing.as_("carol", method, "/shares/carol", {})).status == 403


async def test_revoking(sharing: LiveHub) -> None:
    """Row 89: a part by its exact text, all without any; what is not there is no error."""
    await sharing.as_("alice", "POST", ALICE, {"user": "bob", "scopes": ["access:servers", "read:servers"]})
    path = ALICE
    kept = await sharing.as_("alice", "PATCH", path, {"user": "bob", "scopes": ["read:servers"]})
    assert len(kept.json["scopes"]) == 2
    part = await sharing.as_("alice", "PATCH", path, {"user": "bob", "scopes": ["read:servers!server=alice/"]})
    assert part.json["scopes"] == [ACCESS]
    for user in ("bob", "bob", "nosuch"):
        answer = await sharing.as_("alice", "PATCH", path, {"user": user})
        assert (answer.status, answer.json) == (200, {})
    assert ACCESS not in (await sharing.as_("bob", "GET", "/user")).json["scopes"]
    assert (await sharing.as_("alice", "PATCH", path, {})).status == 400
    await sharing.as_("alice", "POST", ALICE, {"user": "bob"})
    await sharing.as_("alice", "POST", ALICE, {"group": "g2"})
    for _ in range(2):
        assert (await sharing.as_("alice", "DELETE", ALICE)).status == 204
    assert items(await sharing.as_("alice", "GET", ALICE)) == []
    assert (await sharing.as_("alice", "DELETE", "/shares/alice/none")).status == 404


async def test_lists_of_the_owner(sharing: LiveHub) -> None:
    """Row 91: always pages; all servers need a scope that covers the user."""
    await sharing.as_("alice", "POST", ALICE, {"user": "bob"})
    await sharing.as_("alice", "POST", "/shares/alice/lab", {"user": "bob"})
    every = await sharing.as_("alice", "GET", "/shares/alice")
    assert page(every)["total"] == 2 and page(every)["limit"] == 5
    assert [share["server"]["name"] for share in items(every)] == ["", "lab"]
    assert len(items(await sharing.as_("alice", "GET", "/shares/alice?limit=1"))) == 1
    assert [share["server"]["name"] for share in items(await sharing.as_("alice", "GET", "/shares/alice/lab"))] == ["lab"]
    one = await sharing.token("alice", "shares!server=alice/")
    assert (await sharing.call("GET", "/shares/alice", token=one)).status == 404
    assert (await sharing.call("GET", ALICE, token=one)).status == 200
    assert (await sharing.as_("alice", "GET", "/shares/alice/none")).status == 404
    assert (await sharing.as_("admin", "GET", "/shares/nobody")).message is None


async def test_the_recipients_side(sharing: LiveHub) -> None:
    """Users see what came through their groups as well; one share is found only where it was granted directly."""
    await sharing.as_("alice", "POST", ALICE, {"user": "bob"})
    await sharing.as_("alice", "POST", "/shares/alice/lab", {"group": "g1"})
    assert [share["kind"] for share in items(await sharing.as_("bob", "GET", "/users/bob/shared"))] == ["user", "group"]
    assert (await sharing.as_("bob", "GET", "/users/bob/shared/alice/")).json["scopes"] == [ACCESS]
    assert (await sharing.as_("bob", "GET", "/users/bob/shared/alice/lab")).status == 404
    assert (await sharing.as_("bob", "GET", "/users/alice/shared")).status == 404
    assert len(items(await sharing.as_("admin", "GET", "/groups/g1/shared"))) == 1
    assert (await sharing.as_("admin", "GET", "/groups/g1/shared/alice/lab")).json["group"] == {"name": "g1"}
    assert (await sharing.as_("admin", "GET", "/groups/none/shared")).status == 404
    assert (await sharing.as_("admin", "DELETE", "/groups/g1/shared/alice/lab")).status == 204
    assert (await sharing.as_("admin", "DELETE", "/groups/g1/shared/alice/lab")).status == 404
    assert (await sharing.as_("bob", "DELETE", "/users/bob/shared/alice/")).status == 204
    assert (await sharing.as_("bob", "DELETE", "/users/bob/shared/alice/")).status == 404
    assert ACCESS not in (await sharing.as_("bob", "GET", "/user")).json["scopes"]


async def test_shares_follow_names(sharing: LiveHub) -> None:
    """Renaming the server or its owner takes the stored scopes along (rbac §11, 39)."""
    await sharing.as_("alice", "POST", "/shares/alice/lab", {"user": "bob"})
    assert (await sharing.as_("alice", "PATCH", "/users/alice/servers/lab", {"name": "den"})).status == 200
    (share,) = items(await sharing.as_("bob", "GET", "/users/bob/shared"))
    assert share["scopes"] == ["access:servers!server=alice/den"]
    assert (await sharing.as_("admin", "PATCH", "/users/alice", {"name": "alix"})).status == 200
    (share,) = items(await sharing.as_("bob", "GET", "/users/bob/shared"))
    assert share["scopes"] == ["access:servers!server=alix/den"] and share["server"]["user"] == {"name": "alix"}
    assert "access:servers!server=alix/den" in (await sharing.as_("bob", "GET", "/user")).json["scopes"]


async def test_making_and_listing_share_codes(sharing: LiveHub) -> None:
    """Row 90: from a minute to a year; the text is in the first answer alone."""
    path = "/share-codes/alice/"
    for value in (59, 31536001, None, "x", True):
        answer = await sharing.as_("alice", "POST", path, {"expires_in": value})
        assert answer.status == 400 and answer.message, value
    for value in (60, 31536000, "100"):
        assert (await sharing.as_("alice", "POST", path, {"expires_in": value})).status == 200, value
    made = await sharing.as_("alice", "POST", path)
    assert len(made.json["code"]) == 43 and made.json["id"].startswith("sc_") and made.json["scopes"] == [ACCESS]
    assert made.json["accept_url"] == f"/hub/accept-share?code={made.json['code']}"
    assert made.json["full_accept_url"] is None
    listed = items(await sharing.as_("alice", "GET", path))
    assert len(listed) == 4 and not any("code" in each for each in listed)
    assert (listed[-1]["exchange_count"], listed[-1]["last_exchanged_at"]) == (0, None)
    assert len(items(await sharing.as_("alice", "GET", "/share-codes/alice"))) == 4
    for body in ({"user": "bob"}, {"scopes": ["read:hub!server=x"]}, []):
        assert (await sharing.as_("alice", "POST", path, body)).status == 400, body
    assert (await sharing.as_("alice", "POST", "/share-codes/alice/none")).status == 404
    assert (await sharing.as_("alice", "POST", path, {"scopes": ["admin:server_state"]})).status == 403
    for method in ("POST", "DELETE"):
        assert (await sharing.as_("alice", method, "/share-codes/alice", {})).status == 405


async def test_deleting_share_codes(sharing: LiveHub) -> None:
    """One by its text or its id, or all."""
    path = "/share-codes/alice/"
    first, second, _ = [(await sharing.as_("alice", "POST", path)).json for _ in range(3)]
    for arguments in ({"code": "unknown"}, {"id": "sc_999"}, {"id": "7"}, {"id": "sc_x"}):
        assert (await sharing.as_("alice", "DELETE", path + query(**arguments))).status == 404, arguments
    assert (await sharing.as_("alice", "DELETE", path + query(code=first["code"]))).status == 204
    assert (await sharing.as_("alice", "DELETE", path + query(id=second["id"]))).status == 204
    assert len(items(await sharing.as_("alice", "GET", path))) == 1
    for _ in range(2):
        assert (await sharing.as_("alice", "DELETE", path)).status == 204


async def test_exchanging_codes(sharing: LiveHub) -> None:
    """As often as one likes until it expires; not by the owner."""
    code = (await sharing.as_("alice", "POST", "/share-codes/alice/")).json["code"]
    bob, alice = await sharing.user("bob"), await sharing.user("alice")
    database = sharing.context.database
    for count in (1, 2):
        share = await database.run(share_store.exchange_code, code, bob.id)
        assert share.scopes == (ACCESS,) and share.user == "bob"
        (listed,) = items(await sharing.as_("alice", "GET", "/share-codes/alice/"))
        assert listed["exchange_count"] == count and listed["last_exchanged_at"]
    with pytest.raises(ValueError, match="own server"):
        await database.run(share_store.exchange_code, code, alice.id)

    def expire(session: Any) -> None:
        session.execute(update(orm.ShareCode).values(expires_at=naive_now() - timedelta(seconds=1)))

    await database.run(expire)
    with pytest.raises(ShareCodeNotFound):
        await database.run(share_store.exchange_code, code, bob.id)
    assert items(await sharing.as_("alice", "GET", "/share-codes/alice/")) == []
