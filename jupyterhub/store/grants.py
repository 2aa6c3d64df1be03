"""Roles and their scopes, as the runtime asks for them."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from .. import orm
from ..core.errors import RoleNotFound
from .users import role_scopes_of_user

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


def raw_scopes_of_user(session: Session, user_id: int) -> list[str]:
    """Return the raw scopes of the user's roles, those of its groups included."""
    return sorted(role_scopes_of_user(session, user_id))
