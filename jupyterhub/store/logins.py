"""What a log-in stores, and log-ins that were ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from .. import orm
from ..orm.base import naive_now
from ..orm.own import EndedLogin
from . import users


def store_login(
    session: Session,
    user_id: int,
    *,
    admin: bool | None,
    user_info: Mapping[str, Any] | None,
    groups: Collection[str] | None,
    roles: Sequence[Mapping[str, Any]] | None,
) -> None:
    """Store what an authenticator says of a user; None means "nothing said" (config §8.1, §8.7)."""
    row = session.get(orm.User, user_id)
    if row is None:
        return
    if admin is not None and bool(row.admin) != bool(admin):
        row.admin = bool(admin)
    if user_info is not None and row.user_info != dict(user_info):
        row.user_info = dict(user_info)
    session.flush()
    users.assign_default_roles(session, user_id, admin=bool(row.admin))
    if groups is not None:
        users.sync_groups(session, user_id, groups)
    if roles is not None:
        users.sync_roles(session, user_id, roles)


def end_login(session: Session, digest: str, expires_at: datetime) -> None:
    """Remember that the cookie with this digest was logged out, until it would have expired."""
    if session.get(EndedLogin, digest) is None:
        session.add(EndedLogin(digest=digest, expires_at=expires_at.astimezone(timezone.utc).replace(tzinfo=None)))


def login_ended(session: Session, digest: str) -> bool:
    """Whether the cookie with this digest was logged out."""
    return session.scalar(select(EndedLogin.digest).where(EndedLogin.digest == digest)) is not None


def purge_ended_logins(session: Session) -> None:
    """Forget log-ins that would have expired by now."""
    session.execute(delete(EndedLogin).where(EndedLogin.expires_at <= naive_now()))
