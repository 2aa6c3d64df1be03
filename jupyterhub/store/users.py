"""Users: find, list, create, change, delete; what they may do, as raw scopes."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import and_, bindparam, exists, func, insert, or_, select, union_all, update
from sqlalchemy import delete as sql_delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from .. import orm
from ..core.clock import aware
from ..core.errors import UserExists
from ..core.scopes.algebra import AllType, FilterSet
from ..orm.own import Run
from . import loading, runs
from .changes import note_change
from .values import IdentityRecord, ServerRecord, UserRecord


def _naive(moment: datetime) -> datetime:
    return aware(moment).astimezone(timezone.utc).replace(tzinfo=None)


def find(session: Session, name: str) -> UserRecord | None:
    """Return the user of this name, or None."""
    found = loading.load_user(session, name)
    return found[0] if found else None


def find_by_id(session: Session, user_id: int) -> UserRecord | None:
    """Return the user of this row id, or None."""
    found = loading.load_user(session, user_id)
    return found[0] if found else None


def names_after(session: Session, user_id: int, limit: int) -> list[tuple[int, str]]:
    """Return (id, name) of the next users in the order of their ids."""
    rows = session.execute(
        select(orm.User.id, orm.User.name).where(orm.User.id > user_id).order_by(orm.User.id).limit(limit)
    )
    return [(row.id, row.name) for row in rows]


def groups_of(session: Session, name: str) -> list[str]:
    """Return the names of a user's groups; none for an unknown user."""
    table = orm.user_group_map
    return list(
        session.scalars(
            select(orm.Group.name)
            .join(table, table.c.group_id == orm.Group.id)
            .join(orm.User, orm.User.id == table.c.user_id)
            .where(orm.User.name == name)
        )
    )


# Who somebody is and what they may do


# Built once: this is asked for every credential that no cache knows, and building costs as much as executing.
_WHO = select(orm.User.id, orm.User.name, orm.User.admin, orm.User.cookie_id, orm.User.last_activity)
_WHO_BY_ID = _WHO.where(orm.User.id == bindparam("key"))
_WHO_BY_COOKIE_ID = _WHO.where(orm.User.cookie_id == bindparam("key"))
_GROUP_NAMES = (
    select(orm.Group.name)
    .join(orm.user_group_map, orm.user_group_map.c.group_id == orm.Group.id)
    .where(orm.user_group_map.c.user_id == bindparam("user"))
)
#: Two selects of the scopes of roles: those of the user, and those of the user's groups.
ROLES_OF_USER = (
    select(orm.Role.scopes)
    .join(orm.user_role_map, orm.user_role_map.c.role_id == orm.Role.id)
    .where(orm.user_role_map.c.user_id == bindparam("user")),
    select(orm.Role.scopes)
    .join(orm.group_role_map, orm.group_role_map.c.role_id == orm.Role.id)
    .join(orm.user_group_map, orm.user_group_map.c.group_id == orm.group_role_map.c.group_id)
    .where(orm.user_group_map.c.user_id == bindparam("user")),
)
_ROLE_SCOPES = union_all(*ROLES_OF_USER)
_SHARE_SCOPES = select(orm.Share.scopes).where(
    or_(
        orm.Share.user_id == bindparam("user"),
        orm.Share.group_id.in_(
            select(orm.user_group_map.c.group_id).where(orm.user_group_map.c.user_id == bindparam("user"))
        ),
    ),
    or_(orm.Share.expires_at.is_(None), orm.Share.expires_at > bindparam("now")),
)


def _joined(session: Session, query: Any, **values: Any) -> set[str]:
    return {scope for scopes in session.execute(query, values).scalars() for scope in scopes or ()}


def role_scopes_of_user(session: Session, user_id: int) -> set[str]:
    """Return the raw scopes of a user's roles, those of the user's groups included."""
    return _joined(session, _ROLE_SCOPES, user=user_id)


def identity_of_user(session: Session, user_id: int) -> IdentityRecord | None:
    """Return everything needed to say what a user may do."""
    return _identity(session, _WHO_BY_ID, user_id)


identify_by_id = identity_of_user


def identify_by_cookie_id(session: Session, cookie_id: str) -> IdentityRecord | None:
    """Return whose log-in cookie holds this id."""
    return _identity(session, _WHO_BY_COOKIE_ID, cookie_id)


def _identity(session: Session, query: Any, key: int | str) -> IdentityRecord | None:
    row = session.execute(query, {"key": key}).first()
    if row is None:
        return None
    return IdentityRecord(
        kind="user",
        id=row.id,
        name=row.name,
        admin=bool(row.admin),
        groups=tuple(sorted(session.execute(_GROUP_NAMES, {"user": row.id}).scalars())),
        role_scopes=tuple(sorted(role_scopes_of_user(session, row.id))),
        share_scopes=tuple(sorted(_joined(session, _SHARE_SCOPES, user=row.id, now=orm.Share.now()))),
        cookie_id=row.cookie_id,
        last_activity=aware(row.last_activity) if row.last_activity else None,
    )


# Changing


def create(session: Session, name: str, *, admin: bool = False, default_roles: bool = True) -> UserRecord:
    """Create a user, with the roles `user` and, for an administrator, `admin`. Raises UserExists."""
    row = orm.User(name=name, admin=admin)
    session.add(row)
    _flush_name(session, name)
    if default_roles:
        assign_default_roles(session, row.id, admin=admin)
    session.add(orm.Spawner(user_id=row.id, name="", display_name=""))
    session.flush()
    found = find_by_id(session, row.id)
    assert found is not None
    return found


def _flush_name(session: Session, name: str) -> None:
    """Write a user's name. Whoever looked before may still have been overtaken: the database decides."""
    try:
        session.flush()
    except IntegrityError as error:
        raise UserExists(name) from error


def assign_default_roles(session: Session, user_id: int, *, admin: bool) -> None:
    """The role `user` always; `admin` follows the flag."""
    grant(session, user_id, "user")
    if admin:
        grant(session, user_id, "admin")
    else:
        strip(session, user_id, "admin")


def grant(session: Session, user_id: int, role_name: str, *, managed: bool = False) -> None:
    """Put a user into a role."""
    table = orm.user_role_map
    role_id = session.scalar(select(orm.Role.id).where(orm.Role.name == role_name))
    if role_id is None:
        return
    there = session.execute(
        select(table.c.role_id).where(table.c.user_id == user_id, table.c.role_id == role_id)
    ).first()
    if there is None:
        session.execute(insert(table).values(user_id=user_id, role_id=role_id, managed_by_auth=managed))
        note_change(session, orm.User, user_id)


def strip(session: Session, user_id: int, role_name: str) -> None:
    """Take a user out of a role."""
    table = orm.user_role_map
    role_id = session.scalar(select(orm.Role.id).where(orm.Role.name == role_name))
    result = session.execute(sql_delete(table).where(table.c.user_id == user_id, table.c.role_id == role_id))
    if result.rowcount:  # type: ignore[attr-defined]
        note_change(session, orm.User, user_id)


def rename(session: Session, user_id: int, name: str) -> None:
    """Give a user another name. Raises UserExists.

    Scopes of shares name the server they are for, so those on this user's servers are written anew.
    """
    row = session.get(orm.User, user_id)
    if row is None or row.name == name:
        return
    old, row.name = row.name, name
    _flush_name(session, name)
    for server_id, server in session.execute(
        select(orm.Spawner.id, orm.Spawner.name).where(orm.Spawner.user_id == user_id)
    ).all():
        runs.rewrite_shares(session, server_id, f"{old}/{server}", f"{name}/{server}")


def set_admin(session: Session, user_id: int, admin: bool) -> None:
    """Set the admin flag and the role that goes with it."""
    row = session.get(orm.User, user_id)
    if row is not None:
        row.admin = admin
        (grant if admin else strip)(session, user_id, "admin")


def delete(session: Session, user_id: int) -> None:
    """Delete a user with everything that belongs to it (database §6)."""
    row = session.get(orm.User, user_id)
    if row is not None:
        session.delete(row)
        note_change(session, orm.User, user_id, deleted=True)


def new_cookie_id(session: Session, user_id: int) -> None:
    """Make every log-in cookie of the user worthless."""
    row = session.get(orm.User, user_id)
    if row is None:
        return
    row.cookie_id = uuid.uuid4().hex
    # Runs name it, so that they are not taken for those of another user with the same row id.
    servers = select(orm.Spawner.id).where(orm.Spawner.user_id == user_id)
    session.execute(
        update(Run)
        .where(Run.spawner_id.in_(servers))
        .values(cookie_id=row.cookie_id)
        .execution_options(synchronize_session=False)
    )


def set_auth_state(session: Session, user_id: int, encrypted: bytes | None) -> None:
    """Store the encrypted authentication state; None deletes it."""
    session.execute(
        update(orm.User)
        .where(orm.User.id == user_id)
        .values(encrypted_auth_state=encrypted)
        .execution_options(synchronize_session=False)
    )


def get_auth_state(session: Session, user_id: int) -> bytes | None:
    """Return the encrypted authentication state, if there is one."""
    return session.scalar(select(orm.User.encrypted_auth_state).where(orm.User.id == user_id))


def touch_activity(session: Session, users: Mapping[int, datetime], servers: Mapping[int, datetime]) -> None:
    """Move activity times of users and servers (by row id) forward, never back."""
    move_times_forward(session, orm.User, users)
    move_times_forward(session, orm.Spawner, servers)


def move_times_forward(session: Session, model: Any, times: Mapping[int, datetime]) -> None:
    """Set `last_activity` of many rows in one statement, except where it is later already."""
    if not times:
        return
    table = model.__table__
    session.connection().execute(
        table.update()
        .where(
            table.c.id == bindparam("row"),
            or_(table.c.last_activity.is_(None), table.c.last_activity < bindparam("moment")),
        )
        .values(last_activity=bindparam("moment")),
        [{"row": row_id, "moment": _naive(when)} for row_id, when in times.items()],
    )


def sync_groups(session: Session, user_id: int, names: Collection[str]) -> bool:
    """Make the user's groups exactly these, creating missing ones. Returns whether anything changed."""
    table = orm.user_group_map
    present = {
        row.name: row.id
        for row in session.execute(
            select(orm.Group.name, orm.Group.id)
            .join(table, table.c.group_id == orm.Group.id)
            .where(table.c.user_id == user_id)
        )
    }
    wanted = set(names)
    for name in wanted - set(present):
        group = orm.Group.find(session, name)
        if group is None:
            group = orm.Group(name=name)
            session.add(group)
            session.flush()
        session.execute(insert(table).values(user_id=user_id, group_id=group.id))
    for name in set(present) - wanted:
        session.execute(sql_delete(table).where(table.c.user_id == user_id, table.c.group_id == present[name]))
    changed = wanted != set(present)
    if changed:
        note_change(session, orm.User, user_id)
    return changed


def sync_roles(session: Session, user_id: int, roles: Sequence[Mapping[str, Any]]) -> None:
    """Make the user's direct roles exactly these, as an authenticator says it (rbac §7)."""
    from ..core.roles import check_role

    wanted = []
    for each in roles:
        definition = check_role(each)
        row = session.scalars(select(orm.Role).where(orm.Role.name == definition.name)).first()
        if row is None:
            row = orm.Role(name=definition.name, managed_by_auth=True, scopes=[])
            session.add(row)
        if definition.description:
            row.description = definition.description
        if definition.scopes:
            row.scopes = sorted(definition.scopes)
        session.flush()
        wanted.append(definition.name)
    table = orm.user_role_map
    present = set(
        session.scalars(
            select(orm.Role.name).join(table, table.c.role_id == orm.Role.id).where(table.c.user_id == user_id)
        )
    )
    for name in wanted:
        if name not in present:
            grant(session, user_id, name, managed=True)
    for name in present - set(wanted):
        strip(session, user_id, name)
        _drop_unused_managed_role(session, name)


def _drop_unused_managed_role(session: Session, name: str) -> None:
    row = session.scalars(select(orm.Role).where(orm.Role.name == name)).first()
    if row is None or not row.managed_by_auth:
        return
    for table in (orm.user_role_map, orm.group_role_map, orm.service_role_map):
        if session.execute(select(table.c.role_id).where(table.c.role_id == row.id)).first() is not None:
            return
    session.delete(row)


# Lists


def scope_condition(filters: FilterSet) -> Any:
    """Return the SQL condition for the users that a scope reaches."""
    if isinstance(filters, AllType):
        return None
    conditions: list[Any] = []
    users = set(filters.get("user", ()))
    # A filter on a server shows its owner, with that server only.
    users |= {server.partition("/")[0] for server in filters.get("server", ())}
    if users:
        conditions.append(orm.User.name.in_(sorted(users)))
    if filters.get("group"):
        table = orm.user_group_map
        conditions.append(
            exists().where(
                and_(
                    table.c.user_id == orm.User.id,
                    table.c.group_id == orm.Group.id,
                    orm.Group.name.in_(sorted(filters["group"])),
                )
            )
        )
    return or_(*conditions) if conditions else False


def list_page(
    session: Session,
    *,
    offset: int = 0,
    limit: int | None = None,
    state: str | None = None,
    sort: str = "id",
    name_filter: str = "",
    filters: FilterSet = AllType.ALL,
) -> tuple[list[UserRecord], int]:
    """Return one page of users and the number of all that match; arguments as for `page_with_servers`."""
    rows, total = page_with_servers(
        session, offset=offset, limit=limit, state=state, sort=sort, name_filter=name_filter, filters=filters
    )
    return [record for record, _ in rows], total


def page_with_servers(
    session: Session,
    *,
    offset: int = 0,
    limit: int | None = None,
    state: str | None = None,
    sort: str = "id",
    name_filter: str = "",
    filters: FilterSet = AllType.ALL,
) -> tuple[list[tuple[UserRecord, list[ServerRecord]]], int]:
    """Return one page of users with all their servers, and the number of all users that match.

    `state` is active, ready or inactive; `sort` a column name, with `-` before it for the other direction, unset values
    first, last in the other direction; `name_filter` a part of the name with `%` and `_` as wildcards; `filters` what
    the caller's scope reaches.
    """
    query = select(orm.User.id)
    condition = scope_condition(filters)
    if condition is not None:
        query = query.where(condition)
    if name_filter:
        query = query.where(orm.User.name.ilike(f"%{name_filter}%"))
    running = exists().where(and_(orm.Spawner.user_id == orm.User.id, orm.Spawner.server_id.is_not(None)))
    if state == "active":
        query = query.where(running)
    elif state == "ready":
        query = query.where(
            exists().where(
                and_(orm.Spawner.user_id == orm.User.id, Run.spawner_id == orm.Spawner.id, Run.state == "ready")
            )
        )
    elif state == "inactive":
        query = query.where(~running)
    total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    column = {"id": orm.User.id, "name": orm.User.name, "last_activity": orm.User.last_activity}.get(
        sort.lstrip("-"), orm.User.id
    )
    descending = sort.startswith("-")
    order = [column.desc() if descending else column.asc(), orm.User.id]
    if column is orm.User.last_activity:
        # Databases do not agree on where unset values belong.
        order.insert(0, column.is_(None) if descending else column.is_not(None))
    query = query.order_by(*order).offset(offset)
    if limit is not None:
        query = query.limit(limit)
    ids = list(session.scalars(query))
    loaded = {record.id: (record, servers) for record, servers in loading.load_users(session, ids)}
    return [loaded[user_id] for user_id in ids if user_id in loaded], total


def list_with_servers(session: Session, ids: Iterable[int]) -> Any:
    """Return users with their servers."""
    return loading.load_users(session, list(ids))


def count_active_since(session: Session, when: datetime) -> int:
    """Return how many users were active since then."""
    return session.scalar(select(func.count()).select_from(orm.User).where(orm.User.last_activity >= _naive(when))) or 0
