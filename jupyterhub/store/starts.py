"""The first transaction of a run: the wish, the lease, and what the server is given to be known by.

Everything a start has to know is read in one look, and all of its rows are written at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, literal_column, null, select, type_coerce, union_all
from sqlalchemy.orm import Session

from .. import orm
from ..core import lifecycle
from ..core.clock import aware
from ..core.errors import RoleNotFound, ServerBusy, ServerNotFound
from ..core.scopes.expand import Resolution
from ..core.secrets import hash_token, token_prefix
from ..orm.base import naive_now
from ..orm.own import Run
from .runs import OWNER_AND_ADDRESS_OF, change_spawner, delete_token, hold
from .statements import change_row, connection_of, delete_rows, insert_row
from .users import ROLES_OF_USER
from .values import RunRecord, ServerAddress, ServerRecord

__all__ = ["Begun", "ServerSecrets", "begin", "register_secrets"]


@dataclass(frozen=True, slots=True)
class ServerSecrets:
    """A server's own token and its OAuth client, whose secret is the same random text. Scopes are raw."""

    token: str
    note: str
    client_id: str
    redirect_uri: str
    client_scopes: Sequence[str]
    access_scope: str


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that has begun.

    `role_scopes` are the raw scopes of the role that was asked for, `held` those of all the owner's roles; `granted`
    says which its token got, if it has one already.
    """

    server: ServerRecord
    role_scopes: list[str]
    held: list[str]
    granted: Resolution | None = None


def begin(
    session: Session,
    spawner_id: int,
    *,
    owner: int | None,
    options: Mapping[str, Any] | None,
    base_url: str,
    requested_by: str = "",
    role: str = "",
    secrets: ServerSecrets | None = None,
    decide: Callable[[list[str], list[str]], Resolution] | None = None,
) -> Begun:
    """Write the wish and take the lease: state, options, address row with placeholders, a new fencing number.

    `options` None keeps the stored ones. With `secrets` they are stored as `register_secrets` does; `decide` is asked,
    with the scopes of `role` and those the owner holds, which of them the token gets, and must not wait for anything.
    Raises ServerBusy when another Hub process has the server in motion, ServerNotFound, or RoleNotFound.
    """
    # Two processes that want the same server take turns here, and the second sees what the first has done.
    server = connection_of(session).execute(_LOCKED_SERVER, {"server": spawner_id}).first()
    if server is None:
        raise ServerNotFound()
    found = _look(session, spawner_id, server.user_id, role, secrets)
    if found.state is not None and found.state != lifecycle.State.STOPPED.value:
        pending = lifecycle.pending(lifecycle.State(found.state))
        raise ServerBusy("", server.name or "", pending=pending or "check")
    now = naive_now()
    stored_now = aware(now)
    # Never a number that was used before, also when the row itself was dropped in between.
    fence = max(found.fence, int(time.time() * 1000)) + 1
    if server.server_id is not None:
        delete_rows(session, orm.Server, id=server.server_id)
    address = ServerAddress(insert_row(session, orm.Server, base_url=base_url, port=0), base_url=base_url)
    changed: dict[str, Any] = {"server_id": address.id, "started": now, "last_activity": now}
    if options is not None:
        changed["user_options"] = dict(options)
    granted = None
    if secrets is not None and decide is not None:
        granted = decide(found.role_scopes, found.held)
        _store_secrets(session, server.user_id, secrets, granted.granted, found)
        changed["oauth_client_id"] = secrets.client_id
    change_spawner(session, spawner_id, **changed)
    values = {
        "cookie_id": server.cookie_id,
        "started": now,
        "state": lifecycle.State.STARTING.value,
        "fence": fence,
        "owner_id": owner,
        "failure": None,
        "phases": [],
        "data": {},
        "output_tail": [],
        "requested_by": requested_by,
        "updated": now,
    }
    if found.state is None:
        insert_row(session, Run, spawner_id=spawner_id, **values)
    else:
        change_row(session, Run, {"spawner_id": spawner_id}, values)
    record = ServerRecord(
        id=spawner_id,
        user_id=server.user_id,
        user_name=server.user_name,
        name=server.name or "",
        display_name=server.display_name,
        state=dict(server.state or {}),
        started=stored_now,
        last_activity=stored_now,
        user_options=dict((server.user_options if options is None else options) or {}),
        oauth_client_id=changed.get("oauth_client_id", server.oauth_client_id),
        address=address,
        run=RunRecord(values["state"], fence, owner, requested_by=requested_by, updated=stored_now),
    )
    return Begun(record, found.role_scopes, found.held, granted)


def register_secrets(
    session: Session, spawner_id: int, fence: int, secrets: ServerSecrets, token_scopes: Iterable[str]
) -> None:
    """Store the server's own token and its OAuth client. Raises LeaseLost."""
    hold(session, spawner_id, fence)
    owner = connection_of(session).execute(OWNER_AND_ADDRESS_OF, {"server": spawner_id}).one().user_id
    _store_secrets(session, owner, secrets, token_scopes, _look(session, spawner_id, owner, "", secrets))
    change_spawner(session, spawner_id, oauth_client_id=secrets.client_id)


@dataclass(slots=True)
class _Found:
    """What there is already; `state` None means that the server never ran."""

    state: str | None = None
    fence: int = 0
    token_ids: list[int] = field(default_factory=list)
    has_client: bool = False
    role_scopes: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)


def _look(session: Session, spawner_id: int, user_id: int, role: str, secrets: ServerSecrets | None) -> _Found:
    found, held, has_role = _Found(), set[str](), not role
    keys = {
        "server": spawner_id,
        "user": user_id,
        "role": role,
        "note": secrets.note if secrets else None,
        "client": secrets.client_id if secrets else None,
    }
    for kind, number, text, scopes in connection_of(session).execute(_LOOK, keys):
        if kind == "run":
            found.state, found.fence = text, number
        elif kind == "token":
            found.token_ids.append(number)
        elif kind == "client":
            found.has_client = True
        elif kind == "role":
            found.role_scopes, has_role = sorted(scopes or ()), True
        else:
            held.update(scopes or ())
    if not has_role:
        raise RoleNotFound(role)
    found.held = sorted(held)
    return found


def _store_secrets(
    session: Session, user_id: int, secrets: ServerSecrets, token_scopes: Iterable[str], found: _Found
) -> None:
    """One round of hashing is enough for 128 random bits; sixteen thousand cost more than the rest of a start
    (ARCHITECTURE §9).
    """
    # What an earlier run may have left behind, under JupyterHub 6 for instance.
    for token_id in found.token_ids:
        delete_token(session, token_id)
    client = {
        "description": secrets.note,
        "secret": hash_token(secrets.token, rounds=1),
        "redirect_uri": secrets.redirect_uri,
        "allowed_scopes": sorted({*secrets.client_scopes, secrets.access_scope}),
    }
    if found.has_client:
        change_row(session, orm.OAuthClient, {"identifier": secrets.client_id}, client)
    else:
        insert_row(session, orm.OAuthClient, identifier=secrets.client_id, **client)
    insert_row(
        session,
        orm.APIToken,
        user_id=user_id,
        hashed=hash_token(secrets.token),
        prefix=token_prefix(secrets.token),
        client_id="jupyterhub",
        created=naive_now(),
        note=secrets.note,
        scopes=sorted(token_scopes),
    )


_SPAWNERS, _USERS, _RUNS = orm.Spawner.__table__.c, orm.User.__table__.c, Run.__table__.c
_TOKENS, _CLIENTS, _ROLES = orm.APIToken.__table__.c, orm.OAuthClient.__table__.c, orm.Role.__table__.c
_LOCKED_SERVER = (
    select(orm.Spawner.__table__, _USERS.cookie_id, _USERS.name.label("user_name"))
    .join_from(orm.Spawner.__table__, orm.User.__table__, _USERS.id == _SPAWNERS.user_id)
    .where(_SPAWNERS.id == bindparam("server"))
    .with_for_update(of=orm.Spawner.__table__)
)
_NO_SCOPES = type_coerce(null(), _ROLES.scopes.type)


def _kind(name: str) -> Any:
    return literal_column(f"'{name}'")


# A query of its own after the lock: what is joined to a row that is locked may be older than the lock.
_LOOK = union_all(
    select(_kind("run"), _RUNS.fence, _RUNS.state, _NO_SCOPES).where(_RUNS.spawner_id == bindparam("server")),
    select(_kind("token"), _TOKENS.id, null(), null()).where(
        _TOKENS.user_id == bindparam("user"), _TOKENS.note == bindparam("note")
    ),
    select(_kind("client"), _CLIENTS.id, null(), null()).where(_CLIENTS.identifier == bindparam("client")),
    select(_kind("role"), _ROLES.id, null(), _ROLES.scopes).where(_ROLES.name == bindparam("role")),
    *(roles.with_only_columns(_kind("held"), orm.Role.id, null(), orm.Role.scopes) for roles in ROLES_OF_USER),
)
