"""Users and their servers as values, read column by column: rows with all their machinery cost ten times as much."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, bindparam, literal, select, union_all
from sqlalchemy.orm import Session

from .. import orm
from ..core.clock import aware
from ..core.errors import ServerNotFound
from ..orm.own import Run
from ..orm.users import user_group_map
from .statements import connection_of
from .values import RunRecord, ServerAddress, ServerRecord, UserRecord

__all__ = ["find", "load_servers", "load_user", "load_users", "servers_of"]

_ROLE_MAP = orm.Base.metadata.tables["user_role_map"]
_USERS, _SPAWNERS, _SERVERS, _RUNS = (
    orm.User.__table__.c,
    orm.Spawner.__table__.c,
    orm.Server.__table__.c,
    Run.__table__.c,
)


def _aware(moment: datetime | None) -> datetime | None:
    return None if moment is None else aware(moment)


# Servers

_SERVER_COLUMNS: tuple[Any, ...] = (
    _SPAWNERS.id,
    _SPAWNERS.user_id,
    _USERS.name.label("user_name"),
    _SPAWNERS.name,
    _SPAWNERS.display_name,
    _SPAWNERS.state,
    _SPAWNERS.started,
    _SPAWNERS.last_activity,
    _SPAWNERS.user_options,
    _SPAWNERS.oauth_client_id,
    _SERVERS.id.label("address_id"),
    _SERVERS.proto,
    _SERVERS.ip,
    _SERVERS.port,
    _SERVERS.base_url,
    _SERVERS.cookie_name,
    _RUNS.state.label("run_state"),
    _RUNS.fence,
    _RUNS.owner_id,
    _RUNS.failure,
    _RUNS.phases,
    _RUNS.data,
    _RUNS.output_tail,
    _RUNS.requested_by,
    _RUNS.updated,
)


def _with_addresses_and_runs(query: Any) -> Any:
    return (
        query.outerjoin(orm.Server.__table__, _SERVERS.id == _SPAWNERS.server_id)
        # Never by id alone: SQLite gives the id of a deleted last row to the next one (ARCHITECTURE §6).
        .outerjoin(Run.__table__, and_(_RUNS.spawner_id == _SPAWNERS.id, _RUNS.cookie_id == _USERS.cookie_id))
    )


_SELECT_SERVERS = _with_addresses_and_runs(
    select(*_SERVER_COLUMNS).join_from(orm.Spawner.__table__, orm.User.__table__, _USERS.id == _SPAWNERS.user_id)
)
_ONE_SERVER = _SELECT_SERVERS.where(_SPAWNERS.id == bindparam("server"))
_SERVERS_OF = _SELECT_SERVERS.where(_SPAWNERS.user_id == bindparam("user")).order_by(_SPAWNERS.name)
_SERVERS_BY_ID = _SELECT_SERVERS.where(_SPAWNERS.id.in_(bindparam("servers", expanding=True)))
_SERVERS_OF_MANY = _SELECT_SERVERS.where(_SPAWNERS.user_id.in_(bindparam("users", expanding=True))).order_by(
    _SPAWNERS.name
)


def _server_record(row: Any) -> ServerRecord:
    address = run = None
    if row.address_id is not None:
        address = ServerAddress(row.address_id, row.proto, row.ip, row.port, row.base_url, row.cookie_name)
    if row.run_state is not None:
        run = RunRecord(
            state=row.run_state,
            fence=row.fence,
            owner=row.owner_id,
            failure=row.failure,
            phases=tuple(row.phases or ()),
            data=dict(row.data or {}),
            output_tail=tuple(row.output_tail or ()),
            requested_by=row.requested_by or "",
            updated=_aware(row.updated),
        )
    return ServerRecord(
        id=row.id,
        user_id=row.user_id,
        user_name=row.user_name,
        name=row.name or "",
        display_name=row.display_name,
        state=dict(row.state or {}),
        started=_aware(row.started),
        last_activity=_aware(row.last_activity),
        user_options=dict(row.user_options or {}),
        oauth_client_id=row.oauth_client_id,
        address=address,
        run=run,
    )


def find(session: Session, spawner_id: int) -> ServerRecord:
    """Return one server by its row id. Raises ServerNotFound."""
    row = session.execute(_ONE_SERVER, {"server": spawner_id}).first()
    if row is None:
        raise ServerNotFound()
    return _server_record(row)


def servers_of(session: Session, user_id: int) -> list[ServerRecord]:
    """Return a user's servers, running or not, the default one first."""
    return [_server_record(row) for row in connection_of(session).execute(_SERVERS_OF, {"user": user_id})]


def load_servers(session: Session, spawner_ids: Sequence[int]) -> list[ServerRecord]:
    """Return the servers with these row ids."""
    return [_server_record(row) for row in session.execute(_SERVERS_BY_ID, {"servers": list(spawner_ids)})]


# Users

_USER_COLUMNS = (
    _USERS.id.label("account_id"),
    _USERS.name.label("account_name"),
    _USERS.admin,
    _USERS.created,
    _USERS.last_activity.label("account_last_activity"),
    _USERS.cookie_id,
    _USERS.user_info,
    _USERS.encrypted_auth_state.is_not(None).label("has_auth_state"),
)
_USERS_AND_SERVERS = _with_addresses_and_runs(
    select(*_SERVER_COLUMNS, *_USER_COLUMNS)
    .join_from(orm.User.__table__, orm.Spawner.__table__, _SPAWNERS.user_id == _USERS.id, isouter=True)
    .order_by(_SPAWNERS.name)
)
_USER_BY_NAME = _USERS_AND_SERVERS.where(_USERS.name == bindparam("key"))
_USER_BY_ID = _USERS_AND_SERVERS.where(_USERS.id == bindparam("key"))
_USERS_BY_ID = select(*_USER_COLUMNS).where(_USERS.id.in_(bindparam("users", expanding=True)))


def _select_memberships(condition: Any) -> Any:
    groups, roles = orm.Group.__table__.c, orm.Role.__table__.c
    return union_all(
        select(user_group_map.c.user_id, literal("group").label("kind"), groups.name)
        .join_from(user_group_map, orm.Group.__table__, groups.id == user_group_map.c.group_id)
        .where(condition(user_group_map.c.user_id)),
        select(_ROLE_MAP.c.user_id, literal("role").label("kind"), roles.name)
        .join_from(_ROLE_MAP, orm.Role.__table__, roles.id == _ROLE_MAP.c.role_id)
        .where(condition(_ROLE_MAP.c.user_id)),
    )


_MEMBERSHIPS_OF = _select_memberships(lambda user_id: user_id == bindparam("user"))
_MEMBERSHIPS_OF_MANY = _select_memberships(lambda user_id: user_id.in_(bindparam("users", expanding=True)))


def _user_record(row: Any, memberships: Iterable[tuple[str, str]]) -> UserRecord:
    known = sorted(memberships)
    return UserRecord(
        id=row.account_id,
        name=row.account_name,
        admin=bool(row.admin),
        created=_aware(row.created),
        last_activity=_aware(row.account_last_activity),
        cookie_id=row.cookie_id,
        user_info=row.user_info,
        has_auth_state=bool(row.has_auth_state),
        groups=tuple(name for kind, name in known if kind == "group"),
        roles=tuple(name for kind, name in known if kind == "role"),
    )


def load_user(session: Session, key: str | int) -> tuple[UserRecord, list[ServerRecord]] | None:
    """Return one user, by name or by id, with all servers; None if there is none."""
    connection = connection_of(session)
    rows = connection.execute(_USER_BY_NAME if isinstance(key, str) else _USER_BY_ID, {"key": key}).all()
    if not rows:
        return None
    memberships = connection.execute(_MEMBERSHIPS_OF, {"user": rows[0].account_id})
    user = _user_record(rows[0], ((kind, name) for _, kind, name in memberships))
    return user, [_server_record(row) for row in rows if row.id is not None]


def load_users(session: Session, user_ids: Sequence[int]) -> list[tuple[UserRecord, list[ServerRecord]]]:
    """Return several users with all their servers, in a fixed number of queries per 500 users."""
    found: list[tuple[UserRecord, list[ServerRecord]]] = []
    for first in range(0, len(user_ids), 500):
        found += _load_batch(session, list(user_ids[first : first + 500]))
    return found


def _load_batch(session: Session, ids: list[int]) -> list[tuple[UserRecord, list[ServerRecord]]]:
    memberships: dict[int, list[tuple[str, str]]] = {}
    for user_id, kind, name in session.execute(_MEMBERSHIPS_OF_MANY, {"users": ids}):
        memberships.setdefault(user_id, []).append((kind, name))
    servers: dict[int, list[ServerRecord]] = {}
    for row in session.execute(_SERVERS_OF_MANY, {"users": ids}):
        servers.setdefault(row.user_id, []).append(_server_record(row))
    return [
        (_user_record(row, memberships.get(row.account_id, ())), servers.get(row.account_id, []))
        for row in session.execute(_USERS_BY_ID, {"users": ids})
    ]
