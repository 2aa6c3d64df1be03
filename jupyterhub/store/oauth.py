"""OAuth clients and codes (oauth §2, §5)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from .. import orm
from ..core import secrets
from ..core.clock import utcnow
from ..core.scopes.expand import ClientRef
from . import tokens, users
from .values import IdentityRecord, OAuthClientRecord, OAuthCodeRecord

#: Seconds that a code is good for.
CODE_LIFETIME = 300


# Clients


def client_refs(session: Session, identifiers: Collection[str]) -> dict[str, ClientRef]:
    """Return what clients stand for: a server or a service. Those that stand for nothing are left out."""
    found: dict[str, ClientRef] = {}
    wanted = sorted(identifiers)
    servers = session.execute(
        select(orm.Spawner.oauth_client_id, orm.User.name, orm.Spawner.name)
        .join(orm.User, orm.User.id == orm.Spawner.user_id)
        .where(orm.Spawner.oauth_client_id.in_(wanted))
    )
    for identifier, user, server in servers:
        found[identifier] = ClientRef(identifier, user=user, server=server or "")
    services = session.execute(
        select(orm.Service.oauth_client_id, orm.Service.name).where(orm.Service.oauth_client_id.in_(wanted))
    )
    for identifier, service in services:
        found[identifier] = ClientRef(identifier, service=service)
    return found


def _client(session: Session, identifier: str) -> orm.OAuthClient | None:
    return session.scalars(select(orm.OAuthClient).where(orm.OAuthClient.identifier == identifier)).first()


def find_client(session: Session, identifier: str) -> OAuthClientRecord | None:
    """Return a client by its identifier, or None."""
    row = _client(session, identifier)
    if row is None:
        return None
    ref = client_refs(session, [identifier]).get(identifier)
    return OAuthClientRecord(
        identifier=row.identifier,
        description=row.description or "",
        secret=row.secret or "",
        redirect_uri=row.redirect_uri or "",
        allowed_scopes=tuple(row.allowed_scopes or ()),
        user=ref.user if ref else None,
        server=ref.server if ref else None,
        service=ref.service if ref else None,
    )


def store_client(
    session: Session, identifier: str, *, secret: str, redirect_uri: str, scopes: Iterable[str], description: str
) -> None:
    """Make a client or change the one there is. `secret` is the stored hash; empty means it cannot authenticate."""
    row = _client(session, identifier)
    if row is None:
        row = orm.OAuthClient(identifier=identifier)
        session.add(row)
    row.secret, row.redirect_uri, row.description = secret, redirect_uri, description
    row.allowed_scopes = sorted(set(scopes))


def delete_client(session: Session, identifier: str) -> None:
    """Delete a client with the tokens and codes that it issued."""
    row = _client(session, identifier)
    if row is not None:
        session.delete(row)


def scopes_granted_before(session: Session, user_id: int, identifier: str) -> set[str]:
    """Return the raw scopes of the tokens that a user has of a client, together; expired ones do not count."""
    rows = session.scalars(
        select(orm.APIToken.scopes).where(
            orm.APIToken.user_id == user_id,
            orm.APIToken.client_id == identifier,
            orm.APIToken.expires_at.is_(None) | (orm.APIToken.expires_at > orm.APIToken.now()),
        )
    )
    return {scope for scopes in rows for scope in scopes or ()}


def scopes_of_roles(session: Session, names: Collection[str]) -> dict[str, list[str]]:
    """Return the raw scopes of those of the names that are roles."""
    rows = session.scalars(select(orm.Role).where(orm.Role.name.in_(sorted(names))))
    return {row.name: list(row.scopes or ()) for row in rows}


# Codes


def find_code(session: Session, code: str, *, lock: bool = False) -> OAuthCodeRecord | None:
    """Return a code that has not expired, or None. With `lock` nobody else can take it before we are done."""
    query = select(orm.OAuthCode).where(orm.OAuthCode.code == code)
    row = session.scalars(query.with_for_update() if lock else query).first()
    if row is None or row.user is None or (row.expires_at is not None and row.expires_at <= orm.OAuthCode.now()):
        return None
    return OAuthCodeRecord(
        client_id=row.client_id,
        code=row.code,
        expires_at=int(row.expires_at or 0),
        redirect_uri=row.redirect_uri or "",
        session_id=row.session_id or "",
        user_id=row.user_id,
        user_name=row.user.name,
        scopes=tuple(row.scopes or ()),
        code_challenge=row.code_challenge,
        code_challenge_method=row.code_challenge_method,
    )


def store_code(session: Session, code: OAuthCodeRecord) -> None:
    """Store a code."""
    session.add(
        orm.OAuthCode(
            client_id=code.client_id, code=code.code, expires_at=code.expires_at, redirect_uri=code.redirect_uri,
            session_id=code.session_id, user_id=code.user_id, scopes=sorted(code.scopes),
            code_challenge=code.code_challenge, code_challenge_method=code.code_challenge_method,
        )
    )
    session.flush()


def delete_code(session: Session, code: str) -> None:
    """Delete a code: it is good for one token."""
    for row in session.scalars(select(orm.OAuthCode).where(orm.OAuthCode.code == code)).all():
        session.delete(row)


# What comes of it


def issue_token(session: Session, code: OAuthCodeRecord, text: str, expires_at: datetime) -> None:
    """Issue the token that a code stands for. Its text was made by us, so one round of hashing is enough."""
    tokens.issue(
        session, user_id=code.user_id, scopes=code.scopes, note="", expires_at=expires_at, client_id=code.client_id,
        session_id=code.session_id or None, token=text, rounds=secrets.GENERATED_ROUNDS,
    )


def identity_for_client(session: Session, user_id: int, ref: ClientRef) -> IdentityRecord | None:
    """Return what a user may do, as somebody whom a client asks."""
    identity = users.identity_of_user(session, user_id)
    if identity is None:
        return None
    return replace(identity, client_user=ref.user, client_server=ref.server, client_service=ref.service)


def new_code_record(
    *, client_id: str, code: str, redirect_uri: str, session_id: str, user_id: int, user_name: str,
    scopes: Iterable[str], challenge: str | None, method: str | None,
) -> OAuthCodeRecord:
    """Return a code that begins its life now. A challenge without a method is a plain one."""
    values: dict[str, Any] = {}
    if challenge:
        values = {"code_challenge": challenge, "code_challenge_method": method or "plain"}
    return OAuthCodeRecord(
        client_id=client_id, code=code, expires_at=int(utcnow().timestamp()) + CODE_LIFETIME,
        redirect_uri=redirect_uri, session_id=session_id, user_id=user_id, user_name=user_name,
        scopes=tuple(sorted(set(scopes))), **values,
    )
