"""Shares of servers, and codes that give one (rest-api §4.11)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session

from .. import orm
from ..core import secrets
from ..core.clock import aware
from ..core.errors import InvalidRequest, ServerNotFound, ShareCodeNotFound, ShareNotFound
from ..core.shares import merged_scopes, remaining_scopes
from ..orm.base import naive_now
from .values import ShareCodeRecord, ShareRecord

# Values


def _where(row: orm.Share | orm.ShareCode) -> dict[str, Any]:
    assert row.owner is not None and row.spawner is not None
    return {"owner": row.owner.name, "server": row.spawner.name or "", "spawner_id": row.spawner_id}


def _share(row: orm.Share) -> ShareRecord:
    return ShareRecord(
        id=row.id,
        scopes=tuple(sorted(row.scopes or ())),
        created_at=aware(row.created_at),
        expires_at=aware(row.expires_at) if row.expires_at else None,
        user=row.user.name if row.user is not None else None,
        group=row.group.name if row.group is not None else None,
        **_where(row),
    )


def _code(row: orm.ShareCode) -> ShareCodeRecord:
    return ShareCodeRecord(
        id=row.id,
        scopes=tuple(sorted(row.scopes or ())),
        created_at=aware(row.created_at),
        expires_at=aware(row.expires_at) if row.expires_at else None,
        exchange_count=row.exchange_count or 0,
        last_exchanged_at=aware(row.last_exchanged_at) if row.last_exchanged_at else None,
        **_where(row),
    )


def _valid(model: type[orm.Share] | type[orm.ShareCode]) -> Any:
    """The condition that a row has not expired, and belongs to a server that is still there."""
    return (model.expires_at.is_(None) | (model.expires_at > naive_now())) & model.spawner_id.is_not(None)


def _server(session: Session, owner: str, server: str) -> orm.Spawner:
    row = session.scalars(
        select(orm.Spawner).join(orm.User, orm.User.id == orm.Spawner.user_id).where(
            orm.User.name == owner, orm.Spawner.name == server
        )
    ).first()
    if row is None:
        raise ServerNotFound(owner, server)
    return row


def check_server(session: Session, owner: str, server: str) -> None:
    """Raise ServerNotFound for a server that is not stored."""
    _server(session, owner, server)


def check_group(session: Session, name: str) -> bool:
    """Whether there is a group of this name."""
    return session.scalar(select(orm.Group.id).where(orm.Group.name == name)) is not None


# Lists


def _page(session: Session, query: Select[Any], model: Any, offset: int, limit: int) -> tuple[list[Any], int]:
    total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    return list(session.scalars(query.order_by(model.id).offset(offset).limit(limit))), total


def _of_owner(model: Any, owner: str, server: str | None) -> Select[Any]:
    query = select(model).join(orm.User, orm.User.id == model.owner_id).where(orm.User.name == owner, _valid(model))
    if server is not None:
        query = query.join(orm.Spawner, orm.Spawner.id == model.spawner_id).where(orm.Spawner.name == server)
    return query


def granted_by(
    session: Session, owner: str, server: str | None, *, offset: int, limit: int
) -> tuple[list[ShareRecord], int]:
    """Return a page of the shares of a user's servers, or of one of them, and how many there are.

    Raises ServerNotFound.
    """
    if server is not None:
        _server(session, owner, server)
    rows, total = _page(session, _of_owner(orm.Share, owner, server), orm.Share, offset, limit)
    return [_share(row) for row in rows], total


def granted_to_user(session: Session, user: str, *, offset: int, limit: int) -> tuple[list[ShareRecord], int]:
    """Return a page of what was granted to a user or to one of the user's groups, and how many there are."""
    user_id = session.scalar(select(orm.User.id).where(orm.User.name == user))
    groups = select(orm.user_group_map.c.group_id).where(orm.user_group_map.c.user_id == user_id)
    query = select(orm.Share).where(
        or_(orm.Share.user_id == user_id, orm.Share.group_id.in_(groups)), _valid(orm.Share)
    )
    rows, total = _page(session, query, orm.Share, offset, limit)
    return [_share(row) for row in rows], total


def granted_to_group(session: Session, group: str, *, offset: int, limit: int) -> tuple[list[ShareRecord], int]:
    """Return a page of what was granted to a group, and how many there are."""
    query = select(orm.Share).join(orm.Group, orm.Group.id == orm.Share.group_id).where(
        orm.Group.name == group, _valid(orm.Share)
    )
    rows, total = _page(session, query, orm.Share, offset, limit)
    return [_share(row) for row in rows], total


# One share


def _recipient(session: Session, user: str | None, group: str | None) -> orm.User | orm.Group | None:
    if user is not None:
        return orm.User.find(session, user)
    return orm.Group.find(session, group) if group is not None else None


def _row(session: Session, spawner: orm.Spawner, recipient: orm.User | orm.Group) -> orm.Share | None:
    same = orm.Share.user_id if isinstance(recipient, orm.User) else orm.Share.group_id
    return session.scalars(
        select(orm.Share).where(orm.Share.spawner_id == spawner.id, same == recipient.id, _valid(orm.Share))
    ).first()


def _find(session: Session, owner: str, server: str, user: str | None, group: str | None) -> orm.Share:
    recipient = _recipient(session, user, group)
    try:
        row = _row(session, _server(session, owner, server), recipient) if recipient is not None else None
    except ServerNotFound:
        row = None
    if row is None:
        raise ShareNotFound(f"The server {owner}/{server} is not shared with {user or group}")
    return row


def find(
    session: Session, owner: str, server: str, *, user: str | None = None, group: str | None = None
) -> ShareRecord:
    """Return what was granted directly to a user or to a group on a server. Raises ShareNotFound."""
    return _share(_find(session, owner, server, user, group))


def leave(session: Session, owner: str, server: str, *, user: str | None = None, group: str | None = None) -> None:
    """Delete what was granted directly to a user or to a group on a server. Raises ShareNotFound."""
    session.delete(_find(session, owner, server, user, group))


def grant(
    session: Session, owner: str, server: str, scopes: Iterable[str], *, user: str | None = None,
    group: str | None = None,
) -> ShareRecord:
    """Grant scopes on a server, beside those granted before. Raises ServerNotFound, or InvalidRequest for an unknown
    recipient.
    """
    spawner = _server(session, owner, server)
    recipient = _recipient(session, user, group)
    if recipient is None:
        kind, name = ("user", user) if user is not None else ("group", group)
        raise InvalidRequest(f"There is no {kind} {name!r}")
    row = _row(session, spawner, recipient)
    if row is None:
        row = orm.Share(owner_id=spawner.user_id, spawner_id=spawner.id, scopes=[])
        if isinstance(recipient, orm.User):
            row.user_id = recipient.id
        else:
            row.group_id = recipient.id
        session.add(row)
    row.scopes = list(merged_scopes(row.scopes or (), scopes))
    session.flush()
    session.refresh(row)
    return _share(row)


def revoke(
    session: Session, owner: str, server: str, scopes: Iterable[str], *, user: str | None = None,
    group: str | None = None,
) -> ShareRecord | None:
    """Revoke scopes, all without any, and return what is left of the share, or None. Raises ServerNotFound."""
    spawner = _server(session, owner, server)
    recipient = _recipient(session, user, group)
    row = _row(session, spawner, recipient) if recipient is not None else None
    if row is None:
        return None
    left = remaining_scopes(row.scopes or (), scopes)
    if not left:
        session.delete(row)
        return None
    row.scopes = list(left)
    session.flush()
    return _share(row)


def revoke_all(session: Session, owner: str, server: str) -> None:
    """Delete all shares of a server. Raises ServerNotFound."""
    spawner = _server(session, owner, server)
    for row in session.scalars(select(orm.Share).where(orm.Share.spawner_id == spawner.id)).all():
        session.delete(row)


# Codes


def codes_of(
    session: Session, owner: str, server: str | None, *, offset: int, limit: int
) -> tuple[list[ShareCodeRecord], int]:
    """Return a page of the codes for a user's servers, or for one of them, and how many. Raises ServerNotFound."""
    if server is not None:
        _server(session, owner, server)
    rows, total = _page(session, _of_owner(orm.ShareCode, owner, server), orm.ShareCode, offset, limit)
    return [_code(row) for row in rows], total


def new_code(
    session: Session, owner: str, server: str, scopes: Iterable[str], expires_in: float
) -> tuple[str, ShareCodeRecord]:
    """Make a code and return its text, which is stored nowhere, and its record. Raises ServerNotFound."""
    spawner = _server(session, owner, server)
    text = secrets.new_share_code()
    row = orm.ShareCode(
        owner_id=spawner.user_id, spawner_id=spawner.id, scopes=sorted(set(scopes)), exchange_count=0,
        expires_at=naive_now() + timedelta(seconds=expires_in), prefix=secrets.token_prefix(text),
        hashed=secrets.hash_token(text, rounds=secrets.GENERATED_ROUNDS),
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return text, _code(row)


def _code_row(session: Session, text: str) -> orm.ShareCode | None:
    rows = session.scalars(
        select(orm.ShareCode).where(orm.ShareCode.prefix == secrets.token_prefix(text), _valid(orm.ShareCode))
    )
    return next((row for row in rows if secrets.compare_token(row.hashed, text)), None)


def find_code(session: Session, text: str) -> ShareCodeRecord:
    """Return a code by its text. Raises ShareCodeNotFound, also for one that has expired."""
    row = _code_row(session, text)
    if row is None:
        raise ShareCodeNotFound()
    return _code(row)


def exchange_code(session: Session, text: str, user_id: int) -> ShareRecord:
    """Give a user what a code is for. Raises ShareCodeNotFound, or InvalidRequest for one's own server."""
    row = _code_row(session, text)
    user = session.get(orm.User, user_id)
    if row is None or user is None:
        raise ShareCodeNotFound()
    if row.owner_id == user_id:
        raise InvalidRequest("This code is for your own server, to which you have access anyway")
    row.exchange_count = (row.exchange_count or 0) + 1
    row.last_exchanged_at = naive_now()
    where = _where(row)
    return grant(session, where["owner"], where["server"], row.scopes or (), user=user.name)


def delete_codes(
    session: Session, owner: str, server: str, *, text: str | None = None, code_id: int | None = None
) -> None:
    """Delete one code of a server, by text or by number, or all of them. Raises ServerNotFound, ShareCodeNotFound."""
    spawner = _server(session, owner, server)
    rows = session.scalars(select(orm.ShareCode).where(orm.ShareCode.spawner_id == spawner.id)).all()
    if text is not None:
        rows = [row for row in rows if secrets.compare_token(row.hashed, text)]
    elif code_id is not None:
        rows = [row for row in rows if row.id == code_id]
    if not rows and (text is not None or code_id is not None):
        raise ShareCodeNotFound()
    for row in rows:
        session.delete(row)
