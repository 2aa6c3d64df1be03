"""The rows of servers, and of one run of a server, to its end. Every write is fenced (ARCHITECTURE §4).

A run begins in `starts`. One that is not stopped has: its row in `hub7_runs`, a row in `servers`, `spawners.started`,
a token and an OAuth client. `forget_secrets` and `end` take all of it back.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import and_, bindparam, delete, exists, func, insert, or_, select, update
from sqlalchemy.orm import Session

from .. import orm
from ..core import lifecycle
from ..core.errors import LeaseLost, ServerExists, ServerNotFound
from ..core.secrets import USER_PROVIDED_ROUNDS, hash_token, token_prefix
from ..core.shares import renamed_scopes
from ..orm.base import naive_now
from ..orm.own import Run
from . import loading
from .changes import note_change
from .leases import ADVISORY_CLASS, forget_processes
from .statements import change_row, connection_of, delete_rows
from .values import ServerRecord

_STOPPED = lifecycle.State.STOPPED.value
_KEEP: Any = object()


# Rows of servers


def ensure(session: Session, user_id: int, name: str, display_name: str = "") -> ServerRecord:
    """Return a user's server of this name, made if there is none; a display name that is given is stored."""
    spawner = session.scalars(
        select(orm.Spawner).where(orm.Spawner.user_id == user_id, orm.Spawner.name == name)
    ).first()
    if spawner is None:
        spawner = orm.Spawner(user_id=user_id, name=name, display_name=display_name or name)
        session.add(spawner)
        session.flush()
    elif display_name and spawner.display_name != display_name:
        spawner.display_name = display_name
        session.flush()
    return loading.find(session, spawner.id)


def rename(session: Session, spawner_id: int, new_name: str) -> None:
    """Give a stopped server another name. Raises ServerNotFound, or ServerExists when its owner has one of that name.

    Scopes of shares name the server they are for, so those of this one are written anew.
    """
    spawner = session.get(orm.Spawner, spawner_id)
    if spawner is None:
        raise ServerNotFound()
    owner = session.scalar(select(orm.User.name).where(orm.User.id == spawner.user_id)) or ""
    taken = session.scalar(
        select(orm.Spawner.id).where(orm.Spawner.user_id == spawner.user_id, orm.Spawner.name == new_name)
    )
    if taken is not None:
        raise ServerExists(owner, new_name)
    old = spawner.name or ""
    if spawner.display_name in (None, "", old):
        spawner.display_name = new_name
    spawner.name = new_name
    rewrite_shares(session, spawner_id, f"{owner}/{old}", f"{owner}/{new_name}")
    note_change(session, orm.User, spawner.user_id)


def rewrite_shares(session: Session, spawner_id: int, old: str, new: str) -> None:
    """Let the stored scopes of shares and codes follow a server from one `owner/server` to another (rest-api §3.7)."""
    models: tuple[Any, ...] = (orm.Share, orm.ShareCode)
    for model in models:
        for row in session.scalars(select(model).where(model.spawner_id == spawner_id)).all():
            row.scopes = list(renamed_scopes(row.scopes or (), old, new))


def remove(session: Session, spawner_id: int) -> None:
    """Delete a stopped server with everything that hangs on it (database §6)."""
    spawner = session.get(orm.Spawner, spawner_id)
    if spawner is not None:
        note_change(session, orm.User, spawner.user_id)
        session.delete(spawner)


def save_options(session: Session, spawner_id: int, options: Mapping[str, Any]) -> None:
    """Store the options of a server that is not started now."""
    session.execute(update(orm.Spawner).where(orm.Spawner.id == spawner_id).values(user_options=dict(options)))
    note_change(session, orm.Spawner, spawner_id)


# One run

_SPAWNERS, _USERS, _RUNS = orm.Spawner.__table__.c, orm.User.__table__.c, Run.__table__.c
OWNER_AND_ADDRESS_OF = select(_SPAWNERS.user_id, _SPAWNERS.server_id).where(_SPAWNERS.id == bindparam("server"))


def hold(session: Session, spawner_id: int, fence: int, **values: Any) -> None:
    """Change the run's row if the fence is still ours. Raises LeaseLost otherwise."""
    values["updated"] = naive_now()
    if change_row(session, Run, {"spawner_id": spawner_id, "fence": fence}, values) != 1:
        raise LeaseLost(f"the fencing number {fence} of server row {spawner_id} is not the current one")


def change_spawner(session: Session, spawner_id: int, **values: Any) -> None:
    """Change columns of a server's row, and note it."""
    change_row(session, orm.Spawner, {"id": spawner_id}, values)
    note_change(session, orm.Spawner, spawner_id)


def adopt_token(
    session: Session, spawner_id: int, fence: int, *, token: str, replaced: str, note: str, client_id: str
) -> bool:
    """A resumed server came with a token of its own: drop ours, take over the other (config §9.1, step 14).

    Returns False when the token is somebody else's; that token is revoked, because it is in the wrong hands.
    """
    hold(session, spawner_id, fence)
    user_id = session.scalar(select(orm.Spawner.user_id).where(orm.Spawner.id == spawner_id))
    ours = orm.APIToken.find(session, replaced)
    if ours is not None:
        session.delete(ours)
    found = orm.APIToken.find(session, token)
    if found is not None and found.user_id != user_id:
        session.delete(found)
        return False
    if found is None:
        session.add(
            orm.APIToken(
                user_id=user_id,
                hashed=hash_token(token, rounds=USER_PROVIDED_ROUNDS),
                prefix=token_prefix(token),
                client_id="jupyterhub",
                note=note,
                scopes=["inherit"],
            )
        )
    client = session.scalars(select(orm.OAuthClient).where(orm.OAuthClient.identifier == client_id)).first()
    if client is not None:
        client.secret = hash_token(token, rounds=1)
    return True


def save_state(session: Session, spawner_id: int, fence: int, state: Mapping[str, Any]) -> None:
    """Store what the spawner needs in order to find its server again."""
    hold(session, spawner_id, fence)
    change_spawner(session, spawner_id, state=dict(state))


def note_restarts(session: Session, spawner_id: int, fence: int, restarts: Sequence[Mapping[str, str]]) -> None:
    """Store which restarts of a server nobody asked for. Raises LeaseLost."""
    hold(session, spawner_id, fence, data={"restarts": [dict(restart) for restart in restarts]})


def move(
    session: Session,
    spawner_id: int,
    fence: int,
    *,
    state: str,
    phases: Sequence[Mapping[str, Any]] | None = None,
    failure: Mapping[str, Any] | None = _KEEP,
    address: tuple[str, str, int] | None = None,
    spawner_state: Mapping[str, Any] | None = None,
) -> None:
    """Write one move of the life cycle, with what became known by it. Raises LeaseLost."""
    values: dict[str, Any] = {"state": state}
    if phases is not None:
        values["phases"] = list(phases)
    if failure is not _KEEP:
        values["failure"] = None if failure is None else dict(failure)
    hold(session, spawner_id, fence, **values)
    if address is not None:
        proto, ip, port = address
        connection_of(session).execute(
            _MOVE_ADDRESS, {"server": spawner_id, "new_proto": proto, "new_ip": ip, "new_port": port}
        )
        note_change(session, orm.Server, None)
    if spawner_state is not None:
        change_spawner(session, spawner_id, state=dict(spawner_state))


_ADDRESSES: Any = orm.Server.__table__
_MOVE_ADDRESS = (
    update(_ADDRESSES)
    .where(
        _ADDRESSES.c.id == select(_SPAWNERS.server_id).where(_SPAWNERS.id == bindparam("server")).scalar_subquery()
    )
    .values(proto=bindparam("new_proto"), ip=bindparam("new_ip"), port=bindparam("new_port"))
)
_TOKENS = orm.APIToken.__table__.c
_TOKENS_OF_SERVER = select(_TOKENS.id).where(_TOKENS.user_id == bindparam("user"), _TOKENS.note == bindparam("note"))


_TOKENS_OF_CLIENT = select(_TOKENS.id).where(_TOKENS.client_id == bindparam("client"))


def delete_token(session: Session, token_id: int) -> None:
    """Delete one API token, and note it."""
    delete_rows(session, orm.APIToken, id=token_id)
    note_change(session, orm.APIToken, token_id)


def _delete_tokens(session: Session, user_id: int | None, note: str) -> None:
    for token_id in session.execute(_TOKENS_OF_SERVER, {"user": user_id, "note": note}).scalars().all():
        delete_token(session, token_id)


def forget_secrets(session: Session, spawner_id: int, fence: int, *, note: str, client_id: str, keep: bool) -> None:
    """Delete the address, and unless the server will resume its tokens and OAuth client too.

    Tokens are found by note and owner: after a restart nobody remembers their text (database §7).
    """
    hold(session, spawner_id, fence, started=None)
    row = connection_of(session).execute(OWNER_AND_ADDRESS_OF, {"server": spawner_id}).one()
    change_spawner(session, spawner_id, server_id=None, started=None, last_activity=naive_now())
    if row.server_id is not None:
        delete_rows(session, orm.Server, id=row.server_id)
        note_change(session, orm.Server, row.server_id)
    if keep:
        return
    _delete_tokens(session, row.user_id, note)
    change_spawner(session, spawner_id, oauth_client_id=None)
    # Tokens and codes issued through the client go with it.
    for token_id in session.execute(_TOKENS_OF_CLIENT, {"client": client_id}).scalars().all():
        delete_token(session, token_id)
    delete_rows(session, orm.OAuthCode, client_id=client_id)
    delete_rows(session, orm.OAuthClient, identifier=client_id)


def end(
    session: Session,
    spawner_id: int,
    fence: int,
    *,
    spawner_state: Mapping[str, Any] | None,
    failure: Mapping[str, Any] | None,
    phases: Sequence[Mapping[str, Any]],
    output_tail: Sequence[str],
) -> None:
    """The run is over: stopped, with a failure or without. `spawner_state` None leaves what is stored."""
    hold(
        session,
        spawner_id,
        fence,
        state=_STOPPED,
        owner_id=None,
        failure=None if failure is None else dict(failure),
        phases=list(phases),
        output_tail=list(output_tail),
        started=None,
    )
    if spawner_state is not None:
        change_spawner(session, spawner_id, state=dict(spawner_state), started=None)


def drop_strays(session: Session) -> None:
    """Drop runs in motion that are not of the server they point to.

    Another program may have stopped that server, started it anew, or deleted it without our foreign keys in
    force. A run goes with its user's `cookie_id` and with its server's `started`, which do not come back.
    """
    matching = (
        select(orm.Spawner.id)
        .join(orm.User, orm.User.id == orm.Spawner.user_id)
        .where(
            orm.Spawner.id == Run.spawner_id,
            orm.User.cookie_id == Run.cookie_id,
            or_(orm.Spawner.started == Run.started, and_(orm.Spawner.started.is_(None), Run.started.is_(None))),
        )
    )
    session.execute(
        delete(Run)
        .where(Run.state != _STOPPED, ~exists(matching.correlate(Run)))
        .execution_options(synchronize_session=False)
    )


def take_over(session: Session, owner: int | None, *, dead_owners: Collection[int] | None = None) -> list[int]:
    """Take the lease of every server that is not stopped and whose owner is dead; return the ids of all of `owner`'s.

    `dead_owners` None means that nobody else can be alive (one Hub per SQLite file). Servers that JupyterHub 6 left
    running have no run yet; they get one, to be checked. A server that was being renamed is stopped: a rename is one
    transaction. Each server gets a new fencing number, so whoever had it before can no longer write.
    """
    if session.get_bind().dialect.name == "postgresql":
        # One process at a time, or two would make runs for the same servers.
        session.execute(select(func.pg_advisory_xact_lock(ADVISORY_CLASS, 0)))
    drop_strays(session)
    orphaned = Run.state != _STOPPED
    if dead_owners is not None:
        orphaned = orphaned & or_(Run.owner_id.is_(None), Run.owner_id.in_(list(dead_owners)))
    session.execute(
        update(Run)
        .where(orphaned, Run.state == lifecycle.State.RENAMING.value)
        .values(state=_STOPPED, owner_id=None)
        .execution_options(synchronize_session=False)
    )
    session.execute(
        update(Run)
        .where(orphaned)
        .values(fence=Run.fence + 1, owner_id=owner, updated=naive_now())
        .execution_options(synchronize_session=False)
    )
    if dead_owners is not None:
        forget_processes(session, list(dead_owners))
    now, base = naive_now(), int(time.time() * 1000)
    strangers = session.execute(
        select(orm.Spawner.id, orm.Spawner.started, orm.User.cookie_id)
        .join(orm.User, orm.User.id == orm.Spawner.user_id)
        .outerjoin(Run, Run.spawner_id == orm.Spawner.id)
        .where(orm.Spawner.server_id.is_not(None), or_(Run.spawner_id.is_(None), Run.state == _STOPPED))
    ).all()
    if strangers:
        session.execute(delete(Run).where(Run.spawner_id.in_([row.id for row in strangers])))
        session.execute(
            insert(Run),
            [
                {
                    "spawner_id": row.id,
                    "cookie_id": row.cookie_id,
                    "started": row.started,
                    "state": lifecycle.State.CHECKING.value,
                    "fence": base + 1,
                    "owner_id": owner,
                    "phases": [],
                    "data": {},
                    "output_tail": [],
                    "requested_by": "",
                    "updated": now,
                }
                for row in strangers
            ],
        )
    session.expire_all()
    owned = Run.owner_id.is_(None) if owner is None else Run.owner_id == owner
    return list(session.execute(select(Run.spawner_id).where(Run.state != _STOPPED, owned)).scalars())
