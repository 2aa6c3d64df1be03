"""Roles, by the names that others import from here. Nothing inside imports this module.

Every function with `db` works on rows in that session and commits, as plugins that call them expect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from . import orm
from .core.errors import RoleNotFound
from .core.roles import DEFAULT_ROLES, check_role, default_roles

__all__ = [
    "assign_default_roles",
    "create_role",
    "delete_role",
    "get_default_roles",
    "grant_role",
    "roles_to_scopes",
    "strip_role",
    "update_roles",
]


def get_default_roles() -> list[dict[str, Any]]:
    """Return the definitions of the roles that every Hub has."""
    return default_roles()


def roles_to_scopes(roles: Iterable[Any]) -> set[str]:
    """Return the raw scopes of several rows together."""
    return {scope for role in roles for scope in role.scopes or ()}


def _find(db: Any, role: Any) -> Any:
    found = orm.Role.find(db, role) if isinstance(role, str) else role
    if found is None:
        raise RoleNotFound(str(role))
    return found


def create_role(db: Any, role_dict: Mapping[str, Any], *, commit: bool = True, reset_to_defaults: bool = True) -> Any:
    """Make a role, or bring the one of that name up to date; returns its row.

    Raises KeyError without a name, InvalidName, InvalidDefinition or ScopeNotFound. With `reset_to_defaults`, what
    the definition leaves out is emptied in a role that exists.
    """
    definition = check_role(role_dict)
    role = orm.Role.find(db, definition.name)
    if role is None:
        role = orm.Role(name=definition.name, description=definition.description, scopes=list(definition.scopes or ()))
        db.add(role)
    else:
        if definition.description is not None or reset_to_defaults:
            role.description = definition.description
        if definition.scopes is not None or reset_to_defaults:
            role.scopes = list(definition.scopes or ())
    role.managed_by_auth = bool(role_dict.get("managed_by_auth", False))
    if commit:
        db.commit()
    return role


def delete_role(db: Any, rolename: str) -> None:
    """Delete a role. Raises RoleNotFound, or ValueError for one that every Hub has."""
    if rolename in DEFAULT_ROLES:
        raise ValueError(f"Role {rolename!r} belongs to every hub and cannot be deleted")
    db.delete(_find(db, rolename))
    db.commit()


def grant_role(db: Any, entity: Any, role: Any, managed: bool = False, commit: bool = True) -> None:
    """Give a role to a user, group or service. Raises RoleNotFound."""
    found = _find(db, role)
    row = getattr(entity, "orm_user", entity)
    if found not in row.roles:
        row.roles.append(found)
        if managed:
            db.flush()
            _mark_managed(db, row, found)
    if commit:
        db.commit()


def _mark_managed(db: Any, row: Any, role: Any) -> None:
    """Note that the authenticator granted the role, so that it may take it back."""
    kind = {"users": "user", "groups": "group", "services": "service"}[row.__tablename__]
    table = orm.Base.metadata.tables[f"{kind}_role_map"]
    owner = table.c[f"{kind}_id"]
    db.execute(table.update().where(owner == row.id, table.c.role_id == role.id).values(managed_by_auth=True))


def strip_role(db: Any, entity: Any, role: Any, commit: bool = True) -> None:
    """Take a role from a user, group or service. Raises RoleNotFound."""
    found = _find(db, role)
    row = getattr(entity, "orm_user", entity)
    if found in row.roles:
        row.roles.remove(found)
    if commit:
        db.commit()


def assign_default_roles(db: Any, entity: Any) -> None:
    """Give a user the role `user`, and an administrator the role `admin`; take `admin` from others (rbac §5)."""
    row = getattr(entity, "orm_user", entity)
    if row.__tablename__ == "groups":
        return
    if row.__tablename__ == "users":
        grant_role(db, row, "user", commit=False)
    change = grant_role if row.admin else strip_role
    change(db, row, "admin", commit=False)
    db.commit()


def update_roles(db: Any, entity: Any, roles: Iterable[str]) -> None:
    """Give an entity the named roles beside those it has. Raises RoleNotFound, and then changes nothing."""
    found = [_find(db, role) for role in roles]
    for role in found:
        grant_role(db, entity, role, commit=False)
    db.commit()
