"""Tokens: issued, found, listed, revoked, expired; and as plugins issue and find them through the rows."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from jupyterhub import orm
from jupyterhub.core import secrets
from jupyterhub.core.errors import InvalidRequest, RoleNotFound, ScopesNotHeld, TokenExists
from jupyterhub.store import tokens
from jupyterhub.store.database import Database
from jupyterhub.store.values import TokenRecord, UserRecord

from .people import make_user


def now() -> datetime:
    return datetime.now(timezone.utc)


@pytest.fixture
async def ada(database: Database) -> UserRecord:
    return await database.run(make_user)


async def test_a_token_is_issued_once_and_found_by_its_text(database: Database, ada: UserRecord) -> None:
    text, record = await database.run(
        tokens.issue, scopes=["self", "read:users"], user_id=ada.id, note="for a script", session_id="s1"
    )
    assert len(text) == 32 and text not in str(record)
    identity = await database.run(tokens.find_by_token, text)
    assert identity is not None and identity.token == record
    assert (identity.kind, identity.id, identity.role_scopes) == ("user", ada.id, ("self",))
    assert (record.public_id, record.user_name, record.client_id) == (f"a{record.id}", "ada", "jupyterhub")
    assert (record.scopes, record.note, record.session_id) == (("read:users", "self"), "for a script", "s1")
    assert record.created is not None and abs(now() - record.created) < timedelta(minutes=1)
    assert await database.run(tokens.find_by_token, text[:-1] + "!") is None
    assert await database.run(tokens.find_by_token, "") is None


@pytest.mark.parametrize(("length", "accepted"), [(7, False), (8, True), (64, True), (65, False)])
async def test_the_length_of_a_given_token(database: Database, ada: UserRecord, length: int, accepted: bool) -> None:
    text = "x" * length
    if not accepted:
        with pytest.raises(InvalidRequest):
            await database.run(tokens.issue, scopes=[], user_id=ada.id, token=text)
        return
    await database.run(tokens.issue, scopes=[], user_id=ada.id, token=text)
    assert await database.run(tokens.find_by_token, text) is not None
    with pytest.raises(TokenExists):
        await database.run(tokens.issue, scopes=[], user_id=ada.id, token=text)


async def test_rounds_of_hashing_depend_on_who_made_the_token(database: Database, ada: UserRecord) -> None:
    await database.run(tokens.issue, scopes=[], user_id=ada.id)
    await database.run(tokens.issue, scopes=[], user_id=ada.id, token="chosen-by-hand")
    await database.run(tokens.issue, scopes=[], user_id=ada.id, token="trusted-by-setting", rounds=1)
    hashes = await database.read(lambda session: list(session.scalars(select(orm.APIToken.hashed))))
    assert sorted(text.split(":")[1] for text in hashes) == ["1", "1", "16384"]


async def test_hashes_of_other_algorithms_are_honoured_as_written(database: Database, ada: UserRecord) -> None:
    """Vector of database §4, and an algorithm that nobody writes any more."""
    import hashlib

    old = "sha256:2:aa:" + hashlib.sha256(b"aa" + b"old-token" * 2).hexdigest()

    def store(session: Session) -> None:
        for text, hashed in (
            ("abcd1234", secrets.hash_token("abcd1234", salt="00112233")),
            ("old-token", old),
        ):
            session.add(orm.APIToken(user_id=ada.id, client_id="jupyterhub", prefix=text[:4], hashed=hashed, scopes=[]))

    await database.run(store)
    for text in ("abcd1234", "old-token"):
        assert await database.run(tokens.find_by_token, text) is not None
    assert await database.run(tokens.find_by_token, "abcd1235") is None


async def test_an_expired_token_is_not_found_and_purged(database: Database, ada: UserRecord) -> None:
    live, _ = await database.run(tokens.issue, scopes=[], user_id=ada.id, expires_at=now() + timedelta(hours=1))
    dead, _ = await database.run(tokens.issue, scopes=[], user_id=ada.id, expires_at=now() - timedelta(seconds=1))
    assert await database.run(tokens.find_by_token, dead) is None
    assert await database.run(tokens.find_by_token, live) is not None
    assert await database.run(tokens.purge_expired) == 1
    assert await database.run(tokens.purge_expired) == 0


async def test_everything_that_expires_is_purged(database: Database, ada: UserRecord) -> None:
    def litter(session: Session) -> None:
        past = datetime(2000, 1, 1)
        server = session.scalar(select(orm.Spawner.id))
        session.add(orm.OAuthCode(client_id="jupyterhub", code="c", expires_at=1, user_id=ada.id))
        session.add(orm.Share(owner_id=ada.id, spawner_id=server, user_id=ada.id, scopes=[], expires_at=past))
        session.add(orm.ShareCode(owner_id=ada.id, spawner_id=server, scopes=[], expires_at=past, hashed="x"))
        session.add(orm.ShareCode(owner_id=ada.id, spawner_id=server, scopes=[], hashed="y"))

    await database.run(litter)
    assert await database.run(tokens.purge_expired) == 3
    assert await database.read(lambda session: session.scalar(select(orm.ShareCode.hashed))) == "y"


async def test_a_token_without_a_client_is_deleted_instead_of_accepted(database: Database, ada: UserRecord) -> None:
    await database.run(
        lambda session: session.add(
            orm.APIToken(user_id=ada.id, prefix="olde", hashed=secrets.hash_token("older-than-2.0"), scopes=[])
        )
    )
    assert await database.run(tokens.find_by_token, "older-than-2.0") is None
    assert await database.read(lambda session: session.scalars(select(orm.APIToken)).first() is None)


async def test_a_list_of_tokens_begins_with_the_longest_unused_and_loses_the_expired(
    database: Database, ada: UserRecord
) -> None:
    issued: list[TokenRecord] = []
    for number in range(3):
        _, record = await database.run(tokens.issue, scopes=[], user_id=ada.id, note=str(number))
        issued.append(record)
    await database.run(tokens.issue, scopes=[], user_id=ada.id, expires_at=now() - timedelta(days=1))
    await database.run(tokens.touch_activity, {issued[0].id: now() + timedelta(hours=1)})
    await database.run(tokens.touch_activity, {issued[0].id: now() - timedelta(hours=1)})
    found = await database.run(tokens.list_for_user, ada.id)
    assert [record.note for record in found] == ["1", "2", "0"]
    assert found[-1].last_activity is not None and found[-1].last_activity > now()
    assert await database.run(tokens.purge_expired) == 0


async def test_revoking_an_oauth_token_takes_all_of_that_client_along(database: Database, ada: UserRecord) -> None:
    await database.run(lambda session: session.add(orm.OAuthClient(identifier="service-x", secret="")))
    bob = await database.run(make_user, "bob")
    _, plain = await database.run(tokens.issue, scopes=[], user_id=ada.id)
    _, other = await database.run(tokens.issue, scopes=[], user_id=ada.id)
    _, granted = await database.run(tokens.issue, scopes=[], user_id=ada.id, client_id="service-x")
    await database.run(tokens.issue, scopes=[], user_id=ada.id, client_id="service-x")
    await database.run(tokens.issue, scopes=[], user_id=bob.id, client_id="service-x")
    await database.run(tokens.revoke, granted.id)
    await database.run(tokens.revoke, plain.id)
    await database.run(tokens.revoke, 4711)
    assert [record.id for record in await database.run(tokens.list_for_user, ada.id)] == [other.id]
    assert len(await database.run(tokens.list_for_user, bob.id)) == 1


async def test_the_end_of_a_browser_session_revokes_what_was_issued_in_it(database: Database, ada: UserRecord) -> None:
    for session_id in ("s1", "s1", "s2", None):
        await database.run(tokens.issue, scopes=[], user_id=ada.id, session_id=session_id)
    await database.run(tokens.revoke_by_session, ada.id, "s1")
    assert {record.session_id for record in await database.run(tokens.list_for_user, ada.id)} == {"s2", None}


async def test_the_token_of_a_service_stands_for_the_service(database: Database) -> None:
    def store(session: Session) -> int:
        service = orm.Service(name="cull", roles=[orm.Role(name="culler", scopes=["admin:servers"])])
        session.add(service)
        session.flush()
        return service.id

    service_id = await database.run(store)
    text, record = await database.run(tokens.issue, scopes=["inherit"], service_id=service_id)
    identity = await database.run(tokens.find_by_token, text)
    assert identity is not None
    assert (identity.kind, identity.name, identity.role_scopes) == ("service", "cull", ("admin:servers",))
    assert (record.service_name, record.user_id) == ("cull", None)


# -- as plugins do it -----------------------------------------------------------------------------------------


def test_plugins_issue_and_find_tokens_through_the_rows(database: Database) -> None:
    database.run_sync(make_user)
    db = database.plugin_session
    user = orm.User.find(db, "ada")
    assert user is not None
    text = user.new_api_token(note="from a plugin", expires_in=60)
    row = orm.APIToken.find(db, text)
    assert row is not None and row.user is user and row in user.api_tokens
    assert (row.note, row.scopes, row.api_id) == ("from a plugin", ["inherit"], f"a{row.id}")
    assert row.client_id == "jupyterhub"
    assert row.expires_in is not None and 0 < row.expires_in <= 60
    assert orm.APIToken.find(db, text, kind="user") is row
    assert orm.APIToken.find(db, text, kind="service") is None
    with pytest.raises(ValueError, match="kind"):
        orm.APIToken.find(db, text, kind="robot")
    assert orm.APIToken.find(db, "nonsense") is None
    with pytest.raises(AttributeError):
        _ = row.token


@pytest.mark.parametrize(
    ("keywords", "refusal"),
    [
        ({"scopes": ["admin:users"]}, ScopesNotHeld),
        ({"roles": ["nothing"]}, RoleNotFound),
        ({"roles": ["user"], "scopes": ["self"]}, InvalidRequest),
        ({"token": "short"}, InvalidRequest),
        ({"scopes": ["no:such:scope"]}, InvalidRequest),
    ],
)
def test_plugins_get_no_token_that_makes_no_sense(
    database: Database, keywords: dict[str, Any], refusal: type[Exception]
) -> None:
    database.run_sync(make_user)
    user = orm.User.find(database.plugin_session, "ada")
    assert user is not None
    with pytest.raises(refusal):
        user.new_api_token(**keywords)
    with pytest.raises(InvalidRequest, match="exactly one owner"):
        orm.APIToken.new()


def test_roles_of_a_token_stand_for_their_scopes(database: Database) -> None:
    database.run_sync(make_user)
    db = database.plugin_session
    user = orm.User.find(db, "ada")
    assert user is not None
    row = orm.APIToken.new(user=user, roles=["user"], return_orm=True)
    assert isinstance(row, orm.APIToken) and row.scopes == ["self"]
    service = orm.Service(name="cull")
    db.add(service)
    db.commit()
    assert orm.APIToken.find(db, service.new_api_token(token="given-by-hand", generated=False)) is not None
    stored = db.query(orm.APIToken).filter(orm.APIToken.service_id == service.id).one()
    assert stored.hashed.startswith("sha512:16384:")
    assert stored.owner is service
