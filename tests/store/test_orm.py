"""Rows as plugins know them: column types, relationships, and the names they import."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from jupyterhub import orm
from jupyterhub.store.database import Database

Opener = Callable[..., Database]


@pytest.fixture
def db(url: str, opened: Opener) -> Session:
    """The plugins' session on an empty database."""
    return opened(url).plugin_session


@pytest.mark.parametrize(
    ("value", "stored", "read"),
    [
        (None, None, None),
        ({}, "{}", {}),
        ({"a": [1, "ü"]}, '{"a": [1, "\\u00fc"]}', {"a": [1, "ü"]}),
        ({"b": b"hi"}, '{"b": {"__jupyterhub_bytes__": true, "data": "aGk=\\n"}}', {"b": b"hi"}),
    ],
)
def test_dicts_are_json_text_with_bytes_marked(db: Session, value: Any, stored: str | None, read: Any) -> None:
    user = orm.User(name="ada", state=value)
    db.add(user)
    db.commit()
    assert db.execute(text("SELECT state FROM users")).scalar() == stored
    db.refresh(user)
    assert user.state == read


def test_what_json_cannot_hold_becomes_null_with_a_warning(db: Session) -> None:
    """A set in the options of a start must not break the start (database, corner case 14)."""
    user = orm.User(name="ada", state={"s": {1, 2}})
    db.add(user)
    with pytest.warns(UserWarning, match="set cannot be stored"):
        db.commit()
    db.refresh(user)
    assert user.state == {"s": None}


def test_bytes_that_cannot_be_read_become_null_with_a_warning(db: Session) -> None:
    db.add(orm.User(name="ada"))
    db.commit()
    db.execute(text("""UPDATE users SET state = '{"b": {"__jupyterhub_bytes__": true}}'"""))
    db.commit()
    with pytest.warns(UserWarning, match="cannot be read"):
        assert db.query(orm.User.state).scalar() == {"b": None}


def test_lists_are_sorted_when_they_come_from_sets_and_null_reads_as_empty(db: Session) -> None:
    db.add(orm.Role(name="r", scopes={"b", "a"}))
    db.add(orm.Role(name="s", scopes=("b", "a")))
    db.add(orm.Role(name="t"))
    db.commit()
    stored = db.execute(text("SELECT scopes FROM roles ORDER BY name")).scalars().all()
    assert stored == ['["a", "b"]', '["b", "a"]', "[]"]
    db.execute(text("UPDATE roles SET scopes = NULL WHERE name = 't'"))
    db.commit()
    db.expire_all()
    found = orm.Role.find(db, "t")
    assert found is not None and found.scopes == []


def test_times_are_naive_utc(db: Session) -> None:
    user = orm.User(name="ada")
    db.add(user)
    db.commit()
    db.refresh(user)
    assert user.created is not None and user.created.tzinfo is None


def test_relationships_have_the_names_that_plugins_use(db: Session) -> None:
    user = orm.User(name="ada")
    server = orm.Server(proto="http", ip="10.0.0.1", port=80, base_url="/user/ada/", cookie_name="c")
    spawner = orm.Spawner(name="lab", user=user, server=server, state={"pid": 1})
    group = orm.Group(name="class", users=[user], properties={"size": 1})
    role = orm.Role(name="r", users=[user], groups=[group])
    db.add_all([user, spawner, group, role])
    db.commit()
    assert user.orm_spawners == {"lab": spawner}
    assert user.orm_spawners["lab"].server is server and server.spawner is spawner
    assert spawner.orm_spawner is spawner and (spawner.active, spawner.pending, spawner.ready) == (False, None, False)
    assert (user.groups, user.roles, group.roles) == ([group], [role], [role])
    assert orm.Group.find(db, "class") is group
    assert orm.User.find(db, "nobody") is None


def test_a_server_gets_a_free_port_if_none_is_given(db: Session) -> None:
    db.add(orm.Server())
    db.commit()
    row = db.query(orm.Server).one()
    assert (row.proto, row.ip, row.base_url, row.cookie_name) == ("http", "", "/", "cookie")
    assert 1024 <= row.port <= 65535


def test_deleting_rows_as_plugins_do_takes_along_what_belongs_to_them(db: Session) -> None:
    """`db.delete(user)`: servers with address and client, tokens; groups and roles stay (database §6)."""
    client = orm.OAuthClient(identifier="jupyterhub-user-ada")
    user = orm.User(
        name="ada",
        groups=[orm.Group(name="class")],
        roles=[orm.Role(name="r")],
        _orm_spawners=[orm.Spawner(name="", server=orm.Server(port=1), oauth_client=client)],
    )
    db.add_all([user, orm.OAuthClient(identifier="jupyterhub")])
    db.commit()
    db.add(orm.APIToken(user=user, client_id="jupyterhub-user-ada", hashed="x", scopes=[]))
    db.commit()
    db.delete(user)
    db.commit()
    count = lambda model: db.query(model).count()
    assert [count(model) for model in (orm.User, orm.Spawner, orm.Server, orm.APIToken)] == [0, 0, 0, 0]
    assert [count(model) for model in (orm.Group, orm.Role, orm.OAuthClient)] == [1, 1, 1]


@pytest.mark.parametrize("hand_made", ["DELETE FROM users", "DELETE FROM oauth_clients"])
def test_deletions_by_hand_are_followed_by_the_database(db: Session, hand_made: str) -> None:
    user = orm.User(name="ada", groups=[orm.Group(name="class")])
    db.add_all([user, orm.OAuthClient(identifier="jupyterhub")])
    db.commit()
    db.add(orm.APIToken(user=user, client_id="jupyterhub", hashed="x", scopes=[]))
    db.commit()
    db.execute(text(hand_made))
    db.commit()
    assert db.query(orm.APIToken).count() == 0


def test_expiry_counts_down_and_purges(db: Session) -> None:
    now = orm.Share.now()
    assert isinstance(now, datetime)
    spawner = orm.Spawner(name="", user=orm.User(name="ada"))
    for seconds in (-1, 100, None):
        expires = None if seconds is None else now + timedelta(seconds=seconds)
        db.add(orm.Share(owner=spawner.user, spawner=spawner, user=spawner.user, scopes=[], expires_at=expires))
    db.commit()
    assert orm.Share.purge_expired(db) == 1
    assert orm.Share.purge_expired(db) == 0
    left = {share.expires_in for share in db.query(orm.Share)}
    assert None in left and all(seconds is None or 90 <= seconds <= 100 for seconds in left)


def test_a_share_code_is_found_by_its_text_and_lasts_a_day(db: Session) -> None:
    spawner = orm.Spawner(name="", user=orm.User(name="ada"))
    db.add(spawner)
    db.commit()
    row, code = orm.ShareCode.new(db, spawner, scopes=["access:servers!server=ada/"])
    assert orm.ShareCode.find(db, code) is row
    assert row.expires_in is not None and 86000 < row.expires_in <= 86400
    _, expired = orm.ShareCode.new(db, spawner, scopes=[], expires_in=-1)
    assert orm.ShareCode.find(db, expired) is None


def test_oauth_codes_expire_in_unix_seconds(db: Session) -> None:
    db.add(orm.OAuthClient(identifier="c"))
    db.commit()
    now = int(orm.OAuthCode.now())
    db.add_all([orm.OAuthCode(client_id="c", code=str(left), expires_at=now + left) for left in (-5, 300)])
    db.commit()
    found = orm.OAuthCode.find(db, "300")
    assert found is not None and found.client is not None and found.client.client_id == "c"
    assert found.expires_in is not None and 290 <= found.expires_in <= 300
    assert orm.OAuthCode.find(db, "-5") is None


def test_every_name_that_third_parties_import_is_there() -> None:
    names = """
        Base User Group Spawner Server Service APIToken Role OAuthClient OAuthCode Share ShareCode JSONDict JSONList
        new_session_factory check_db_revision Expiring Hashed Boolean Column DateTime ForeignKey Integer Unicode
        relationship
    """
    for name in names.split():
        assert hasattr(orm, name), name


def test_the_models_are_configured_without_a_warning() -> None:
    from sqlalchemy.orm import configure_mappers

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        configure_mappers()
