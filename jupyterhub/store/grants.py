"""Roles and their scopes, as the runtime asks for them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import bindparam, literal, select, union_all
from sqlalchemy.orm import Session

from .. import orm
from ..core.errors import RoleNotFound
from ..core.scopes.expand import Resolution
from . import runs
from .statements import connection_of
from .users import ROLES_OF_USER, role_scopes_of_user
from .values import ServerRecord

_ROLES = orm.Role.__table__.c
_SCOPES_OF_ROLE = select(_ROLES.scopes).where(_ROLES.name == bindparam("name"))
_SCOPES_FOR_START = union_all(
    select(orm.Role.name, orm.Role.scopes).where(orm.Role.name == bindparam("name")),
    *(roles.with_only_columns(literal(""), orm.Role.scopes) for roles in ROLES_OF_USER),
)


def scopes_of_roles(session: Session, names: Collection[str]) -> list[str]:
    """Return the raw scopes of several roles together. Raises RoleNotFound."""
    found: set[str] = set()
    for name in names:
        role = session.execute(_SCOPES_OF_ROLE, {"name": name}).first()
        if role is None:
            raise RoleNotFound(name)
        found.update(role.scopes or ())
    return sorted(found)


def scopes_for_start(session: Session, user_id: int, role_name: str) -> tuple[list[str], list[str]]:
    """Return the raw scopes of this role ("" for none) and those of the user's. Raises RoleNotFound."""
    of_role: set[str] | None = None if role_name else set()
    of_user: set[str] = set()
    for name, scopes in connection_of(session).execute(_SCOPES_FOR_START, {"user": user_id, "name": role_name}):
        if name:
            of_role = set(scopes or ())
        else:
            of_user.update(scopes or ())
    if of_role is None:
        raise RoleNotFound(role_name)
    return sorted(of_role), sorted(of_user)


def begin_run(
    session: Session,
    /,
    spawner_id: int,
    user_id: int,
    role_name: str,
    decide: Callable[[list[str], list[str]], Resolution],
    **wish: Any,
) -> tuple[ServerRecord, tuple[list[str], list[str]], Resolution | None]:
    """Begin a run (`runs.begin`), and look up in the same transaction what its token may hold (`scopes_for_start`).

    Where the wish has `secrets`, `decide` says at once which scopes the token gets; it must not wait for anything.
    """
    scopes = scopes_for_start(session, user_id, role_name)
    granted = decide(*scopes) if wish.get("secrets") else None
    record = runs.begin(session, spawner_id, token_scopes=granted.granted if granted else (), **wish)
    return record, scopes, granted


def raw_scopes_of_user(session: Session, user_id: int) -> list[str]:
    """Return the raw scopes of the user's roles, those of its groups included."""
    return sorted(role_scopes_of_user(session, user_id))
