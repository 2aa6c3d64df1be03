"""Groups: find, list, create, change, delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from .. import orm
from ..core.errors import GroupExists, GroupNotFound, InvalidRequest
from ..core.scopes.algebra import AllType, FilterSet
from .changes import note_change
from .values import GroupRecord


def _record(session: Session, row: orm.Group) -> GroupRecord:
    members = orm.user_group_map
    users = session.scalars(
        select(orm.User.name).join(members, members.c.user_id == orm.User.id).where(members.c.group_id == row.id)
    )
    return GroupRecord(
        id=row.id,
        name=row.name,
        properties=dict(row.properties or {}),
        users=tuple(sorted(users)),
        roles=tuple(sorted(role.name for role in row.roles)),
    )


def find(session: Session, name: str) -> GroupRecord | None:
    """Return the group of this name with its members, or None."""
    row = orm.Group.find(session, name)
    return None if row is None else _record(session, row)


def list_page(
    session: Session, *, offset: int, limit: int, filters: FilterSet = AllType.ALL
) -> tuple[list[GroupRecord], int]:
    """Return one page of groups and the number of all that match."""
    query = select(orm.Group)
    if not isinstance(filters, AllType):
        query = query.where(orm.Group.name.in_(sorted(filters.get("group", ()))))
    total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    rows = session.scalars(query.order_by(orm.Group.id).offset(offset).limit(limit)).all()
    return [_record(session, row) for row in rows], total


def create(
    session: Session, name: str, users: Sequence[str], *, properties: Mapping[str, Any] | None = None
) -> GroupRecord:
    """Make a group with these members. Raises GroupExists, or InvalidRequest for an unknown user."""
    row = orm.Group(name=name, properties=dict(properties or {}))
    session.add(row)
    try:
        session.flush()
    except IntegrityError as error:
        raise GroupExists(name) from error
    _add(session, row, users)
    return _record(session, row)


def _group(session: Session, name: str) -> orm.Group:
    row = orm.Group.find(session, name)
    if row is None:
        raise GroupNotFound(name)
    return row


def _ids(session: Session, names: Sequence[str]) -> dict[str, int]:
    found = {
        row.name: row.id for row in session.execute(select(orm.User.name, orm.User.id).where(orm.User.name.in_(names)))
    }
    missing = [name for name in names if name not in found]
    if missing:
        raise InvalidRequest(f"There is no user {', '.join(map(repr, missing))}")
    return found


def _add(session: Session, row: orm.Group, names: Sequence[str]) -> None:
    table = orm.user_group_map
    there = set(session.scalars(select(table.c.user_id).where(table.c.group_id == row.id)))
    for user_id in _ids(session, names).values():
        if user_id not in there:
            session.execute(insert(table).values(user_id=user_id, group_id=row.id))
            note_change(session, orm.User, user_id)


def add_users(session: Session, name: str, users: Sequence[str]) -> GroupRecord:
    """Put users into a group. Raises InvalidRequest for an unknown user."""
    row = _group(session, name)
    _add(session, row, users)
    return _record(session, row)


def remove_users(session: Session, name: str, users: Sequence[str]) -> GroupRecord:
    """Take users out of a group. Raises InvalidRequest for an unknown user."""
    row = _group(session, name)
    table = orm.user_group_map
    for user_id in _ids(session, users).values():
        session.execute(sql_delete(table).where(table.c.user_id == user_id, table.c.group_id == row.id))
        note_change(session, orm.User, user_id)
    return _record(session, row)


def set_properties(session: Session, name: str, properties: Mapping[str, Any]) -> GroupRecord:
    """Replace a group's properties."""
    row = _group(session, name)
    row.properties = dict(properties)
    session.flush()
    return _record(session, row)


def delete(session: Session, name: str) -> None:
    """Delete a group; its members stay."""
    session.delete(_group(session, name))
