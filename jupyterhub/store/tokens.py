"""API tokens: issue, find, list, revoke (database §4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import bindparam, or_, select
from sqlalchemy.orm import Session

from .. import orm
from ..core import secrets
from ..core.clock import aware
from ..core.errors import TokenExists
from . import users as user_store
from .values import IdentityRecord, TokenRecord


def _aware(moment: datetime | None) -> datetime | None:
    return None if moment is None else aware(moment)


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(timezone.utc).replace(tzinfo=None) if moment.tzinfo else moment


def record_of(row: orm.APIToken) -> TokenRecord:
    """Return the value of a row; what it points to is loaded if need be."""
    user, service, client = row.user, row.service, row.oauth_client
    return _record(
        row,
        user.name if user is not None else None,
        service.name if service is not None else None,
        client.description if client is not None else None,
    )


def _record(
    row: orm.APIToken, user_name: str | None, service_name: str | None, client_description: str | None
) -> TokenRecord:
    return TokenRecord(
        id=row.id,
        user_id=row.user_id,
        user_name=user_name,
        service_id=row.service_id,
        service_name=service_name,
        client_id=row.client_id,
        client_description=client_description or "",
        session_id=row.session_id,
        created=_aware(row.created),
        expires_at=_aware(row.expires_at),
        last_activity=_aware(row.last_activity),
        note=row.note or "",
        scopes=tuple(row.scopes or ()),
    )


def issue(
    session: Session,
    *,
    scopes: Iterable[str],
    user_id: int | None = None,
    service_id: int | None = None,
    note: str = "",
    expires_at: datetime | None = None,
    client_id: str = "jupyterhub",
    session_id: str | None = None,
    token: str | None = None,
    rounds: int | None = None,
) -> tuple[str, TokenRecord]:
    """Store a token and return its text and its record. A token that is given is checked for length and for being new.

    Raises InvalidRequest or TokenExists.
    """
    if token is None:
        token, rounds = secrets.new_token(), rounds or secrets.GENERATED_ROUNDS
    else:
        secrets.check_token_text(token)
        if orm.APIToken.find(session, token) is not None:
            raise TokenExists()
    row = orm.APIToken(
        user_id=user_id,
        service_id=service_id,
        prefix=secrets.token_prefix(token),
        hashed=secrets.hash_token(token, rounds=rounds or secrets.USER_PROVIDED_ROUNDS),
        client_id=client_id,
        session_id=session_id,
        expires_at=_naive(expires_at) if expires_at else None,
        note=note,
        scopes=sorted(scopes),
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return token, record_of(row)


# One query for a token with the names that go with it; built once, as the parts of an identity in `users`.
_TOKENS = (
    select(orm.APIToken, orm.User.name, orm.Service.name, orm.OAuthClient.description)
    .outerjoin(orm.User, orm.User.id == orm.APIToken.user_id)
    .outerjoin(orm.Service, orm.Service.id == orm.APIToken.service_id)
    .outerjoin(orm.OAuthClient, orm.OAuthClient.identifier == orm.APIToken.client_id)
)
_CANDIDATES = _TOKENS.where(
    orm.APIToken.prefix == bindparam("prefix"),
    or_(orm.APIToken.expires_at.is_(None), orm.APIToken.expires_at > bindparam("now")),
)
_OF_USER = _TOKENS.where(orm.APIToken.user_id == bindparam("user"))


def find_by_token(session: Session, token: str) -> IdentityRecord | None:
    """Return whom a token stands for, with everything that decides what it may do; None for an unknown one.

    A token without a client is of a schema long gone; it is deleted instead of accepted (database §3).
    """
    candidates = session.execute(_CANDIDATES, {"prefix": secrets.token_prefix(token), "now": orm.APIToken.now()})
    for row, *names in candidates.all():
        if not secrets.compare_token(row.hashed or "", token):
            continue
        if row.client_id is not None:
            return _identity(session, row, _record(row, *names))
        session.delete(row)
    return None


def _identity(session: Session, row: orm.APIToken, record: TokenRecord) -> IdentityRecord | None:
    if row.user_id is not None:
        identity = user_store.identity_of_user(session, row.user_id)
    elif row.service_id is not None:
        identity = identity_of_service(session, row.service_id)
    else:
        return None
    if identity is None:
        return None
    client: dict[str, Any] = {}
    if row.client_id != "jupyterhub":
        client = client_target(session, row.client_id)
    return replace(identity, token=record, **client)


def client_target(session: Session, client_id: str) -> dict[str, Any]:
    """Return what an OAuth client stands for: `client_user` and `client_server`, or `client_service`."""
    server = session.execute(
        select(orm.User.name, orm.Spawner.name)
        .join(orm.Spawner, orm.Spawner.user_id == orm.User.id)
        .where(orm.Spawner.oauth_client_id == client_id)
    ).first()
    if server is not None:
        return {"client_user": server[0], "client_server": server[1] or ""}
    service = session.scalar(select(orm.Service.name).where(orm.Service.oauth_client_id == client_id))
    return {"client_service": service} if service is not None else {}


def identity_of_service(session: Session, service_id: int) -> IdentityRecord | None:
    """Return everything needed to say what a service may do."""
    row = session.get(orm.Service, service_id)
    if row is None:
        return None
    scopes: set[str] = set()
    for found in session.scalars(
        select(orm.Role.scopes)
        .join(orm.service_role_map, orm.service_role_map.c.role_id == orm.Role.id)
        .where(orm.service_role_map.c.service_id == service_id)
    ):
        scopes.update(found or ())
    return IdentityRecord(
        kind="service", id=row.id, name=row.name, admin=bool(row.admin), role_scopes=tuple(sorted(scopes))
    )


def list_for_user(session: Session, user_id: int) -> list[TokenRecord]:
    """Return a user's tokens, oldest use first; expired ones are deleted on the way."""
    now = orm.APIToken.now()
    kept = []
    for row, *names in session.execute(_OF_USER, {"user": user_id}).all():
        if row.expires_at is not None and row.expires_at <= now:
            session.delete(row)
        else:
            kept.append(_record(row, *names))
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    return sorted(kept, key=lambda token: (token.last_activity or token.created or epoch, token.id))


def revoke(session: Session, token_id: int) -> None:
    """Delete a token; one issued through OAuth takes all of its owner's tokens of that client along (database §7)."""
    row = session.get(orm.APIToken, token_id)
    if row is None:
        return
    if row.client_id and row.client_id != "jupyterhub" and row.user_id is not None:
        for other in session.scalars(
            select(orm.APIToken).where(orm.APIToken.user_id == row.user_id, orm.APIToken.client_id == row.client_id)
        ).all():
            session.delete(other)
    else:
        session.delete(row)


def revoke_by_session(session: Session, user_id: int, session_id: str) -> None:
    """Delete what was issued in one browser session."""
    for row in session.scalars(
        select(orm.APIToken).where(orm.APIToken.user_id == user_id, orm.APIToken.session_id == session_id)
    ).all():
        session.delete(row)


def purge_expired(session: Session) -> int:
    """Delete expired tokens, codes, shares and share codes; returns how many rows went."""
    count = 0
    for model in (orm.APIToken, orm.OAuthCode, orm.Share, orm.ShareCode):
        for row in session.scalars(
            select(model).where(model.expires_at.is_not(None), model.expires_at <= model.now())
        ).all():
            session.delete(row)
            count += 1
    return count


def touch_activity(session: Session, tokens: Mapping[int, datetime]) -> None:
    """Move the times of last use forward, never back."""
    user_store.move_times_forward(session, orm.APIToken, tokens)
