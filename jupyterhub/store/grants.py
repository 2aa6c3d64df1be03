"""Roles and their scopes, as the runtime asks for them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from .. import orm
from ..core.errors import RoleNotFound
from . import runs
from .users import role_scopes_of_user
from .values import ServerRecord

_ROLES = orm.Role.__table__.c
_SCOPES_OF_ROLE = select(_ROLES.scopes).where(_ROLES.name == bindparam("name"))


def scopes_of_roles(session: Session, names: Collection[str]) -> list[str]:
    """Return the raw scopes of several roles together. Raises RoleNotFound."""
    found: set[str] = set()
    for name in names:
        role = session.execute(_SCOPES_OF_ROLE, {"name": name}).first()
        if role is None:
            raise RoleNotFound(name)
        found.update(role.scopes or ())
    return sorted(found)


def scopes_for_start(session: Session, user_id: int, role_names: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the raw scopes of these roles and those of the user's. Raises RoleNotFound."""
    return scopes_of_roles(session, role_names), raw_scopes_of_user(session, user_id)


def begin_run(
    session: Session, /, spawner_id: int, user_id: int, role_names: Collection[str], **wish: Any
) -> tuple[ServerRecord, tuple[list[str], list[str]]]:
    """Begin a run (`runs.begin`), and look up in the same transaction what its token may hold (`scopes_for_start`)."""
    record = runs.begin(session, spawner_id, **wish)
    return record, scopes_for_start(session, user_id, role_names)


def raw_scopes_of_user(session: Session, user_id: int) -> list[str]:
    """Return the raw scopes of the user's roles, those of its groups included."""
    return sorted(role_scopes_of_user(session, user_id))
