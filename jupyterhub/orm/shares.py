"""Shares of servers, and codes that give one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import DateTime, ForeignKey, Integer, Unicode
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from ..core import secrets
from ..core.shares import DEFAULT_LIFETIME
from .base import TABLE_OPTIONS, Base, Expiring, Hashed, JSONList, naive_now, nullable_column

if TYPE_CHECKING:
    from .servers import Spawner
    from .users import Group, User


class Share(Expiring, Base):
    """Scopes on one server for one user or one group."""

    __tablename__ = "shares"
    __table_args__ = TABLE_OPTIONS

    user_id: Mapped[Any] = nullable_column(ForeignKey("users.id", ondelete="CASCADE"))
    group_id: Mapped[Any] = nullable_column(ForeignKey("groups.id", ondelete="CASCADE"))
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    created_at: Mapped[datetime] = mapped_column(DateTime, nullable=False, default=naive_now)
    scopes: Mapped[Any] = nullable_column(JSONList)
    expires_at: Mapped[Any] = nullable_column(DateTime)
    owner_id: Mapped[Any] = nullable_column(ForeignKey("users.id", ondelete="CASCADE"))
    spawner_id: Mapped[Any] = nullable_column(ForeignKey("spawners.id", ondelete="CASCADE"))

    user: Mapped[User | None] = relationship(back_populates="shared_with_me", foreign_keys=user_id)
    group: Mapped[Group | None] = relationship(back_populates="shared_with_me")
    owner: Mapped[User | None] = relationship(back_populates="shares", foreign_keys=owner_id)
    spawner: Mapped[Spawner | None] = relationship(back_populates="shares")


def _default_expiry() -> datetime:
    return naive_now() + timedelta(seconds=DEFAULT_LIFETIME)


class ShareCode(Hashed, Base):
    """A code that gives a share to whoever exchanges it. Made here, long and random, so one round is enough."""

    __tablename__ = "share_codes"
    __table_args__ = TABLE_OPTIONS

    hashed: Mapped[Any] = nullable_column(Unicode(255), unique=True)
    prefix: Mapped[Any] = nullable_column(Unicode(16), index=True)
    exchange_count: Mapped[Any] = nullable_column(Integer, default=0)
    last_exchanged_at: Mapped[datetime | None] = mapped_column(DateTime)
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    created_at: Mapped[datetime] = mapped_column(DateTime, nullable=False, default=naive_now)
    scopes: Mapped[Any] = nullable_column(JSONList)
    expires_at: Mapped[Any] = nullable_column(DateTime, default=_default_expiry)
    owner_id: Mapped[Any] = nullable_column(ForeignKey("users.id", ondelete="CASCADE"))
    spawner_id: Mapped[Any] = nullable_column(ForeignKey("spawners.id", ondelete="CASCADE"))

    owner: Mapped[User | None] = relationship(back_populates="share_codes")
    spawner: Mapped[Spawner | None] = relationship(back_populates="share_codes")

    @classmethod
    def new(
        cls, db: Session, spawner: Spawner, *, scopes: Iterable[str], expires_in: float | None = None
    ) -> tuple[ShareCode, str]:
        """Make a code for a server, commit it, and return its row and its text. `expires_in` is in seconds."""
        code = secrets.new_share_code()
        row = cls(owner=spawner.user, spawner=spawner, scopes=sorted(set(scopes)))
        row.token = code
        if expires_in is not None:
            row.expires_at = naive_now() + timedelta(seconds=expires_in)
        db.add(row)
        db.commit()
        return row, code
