"""`jupyterhub.scopes` and `jupyterhub.roles`: what plugins import from there, on rows in a session of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from jupyterhub import orm, roles, scopes
from jupyterhub.core.clock import utcnow
from jupyterhub.core.errors import RoleNotFound


@pytest.fixture
def db() -> Iterator[Session]:
    """A session on tables in memory, with the roles that every Hub has."""
    engine = create_engine("sqlite:///:memory:")
    orm.Base.metadata.create_all(engine)
    session = Session(engine)
    for role in roles.get_default_roles():
        session.add(orm.Role(name=role["name"], description=role["description"], scopes=role["scopes"]))
    session.commit()
    yield session
    session.close()
    engine.dispose()


def add(db: Session, row: Any) -> Any:
    db.add(row)
    db.commit()
    return row


def test_parsed_scopes_tell_all_from_some() -> None:
    parsed = scopes.parse_scopes({"users", "servers!user=ada", "servers!group=lab"})
    assert parsed == {"users": scopes.Scope.ALL, "servers": {"user": {"ada"}, "group": {"lab"}}}
    assert scopes.has_scope("users!user=bob", parsed)
    assert scopes.has_scope("servers!server=ada/x", parsed)
    assert not scopes.has_scope("servers!user=bob", parsed)
    assert scopes.has_scope("servers", ["servers!user=ada"], post_filter=True)


def test_groups_count_where_a_session_is_given(db: Session) -> None:
    add(db, orm.User(name="ada", groups=[orm.Group(name="lab")]))
    assert scopes.has_scope("servers!user=ada", ["servers!group=lab"], db=db)
    assert not scopes.has_scope("servers!user=ada", ["servers!group=lab"])


def test_roles_are_granted_and_taken(db: Session) -> None:
    ada = add(db, orm.User(name="ada", admin=True))
    roles.assign_default_roles(db, ada)
    assert {role.name for role in ada.roles} == {"user", "admin"}
    ada.admin = False
    roles.assign_default_roles(db, ada)
    assert {role.name for role in ada.roles} == {"user"}
    roles.create_role(db, {"name": "reader", "scopes": ["read:users"], "description": "reads"})
    roles.grant_role(db, ada, "reader", managed=True)
    assert "read:users" in scopes.get_scopes_for(ada)
    roles.create_role(db, {"name": "reader", "scopes": ["read:groups"]})
    assert roles.roles_to_scopes([orm.Role.find(db, "reader")]) == {"read:groups"}
    roles.strip_role(db, ada, "reader")
    assert "read:groups" not in scopes.get_scopes_for(ada)
    with pytest.raises(RoleNotFound):
        roles.update_roles(db, ada, ["reader", "no-such-role"])
    roles.delete_role(db, "reader")
    with pytest.raises(ValueError, match="cannot be deleted"):
        roles.delete_role(db, "admin")


def test_a_token_is_bounded_by_its_owner(db: Session) -> None:
    ada = add(db, orm.User(name="ada"))
    roles.assign_default_roles(db, ada)
    expires = utcnow().replace(tzinfo=None) + timedelta(hours=1)
    token = add(
        db,
        orm.APIToken(user=ada, prefix="abcd", hashed="x", scopes=["read:users", "servers!user"], expires_at=expires),
    )
    found = scopes.get_scopes_for(token)
    assert "servers!user=ada" in found and "read:users" not in found
    assert "read:users:name!user=ada" in found


def test_what_is_said_of_scopes() -> None:
    assert scopes.identify_scopes() == {"read:users:name!user", "read:users:groups!user"}
    assert scopes.identify_scopes(orm.User(name="ada")) == {
        "read:users:name!user=ada",
        "read:users:groups!user=ada",
    }
    assert scopes.identify_scopes(orm.Service(name="x")) == {"read:services:name!service=x"}
    assert scopes.access_scopes(service=orm.Service(name="x")) == {"access:services!service=x"}
    assert "read:users:name" in scopes.expand_scopes(["read:users"])
    assert scopes.describe_raw_scopes(["servers!user=ada"], username="ada")[0]["filter"] == "only you"
    scopes._check_scopes_exist(["servers"])
    with pytest.raises(scopes.ScopeNotFound):
        scopes._check_scopes_exist(["nonsense"], "test")


def test_the_catalogue_is_the_one_that_decides() -> None:
    from jupyterhub.core.scopes import catalogue

    assert scopes.scope_definitions is catalogue.scope_definitions
