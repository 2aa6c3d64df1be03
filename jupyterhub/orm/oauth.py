"""OAuth clients and the codes they exchange for tokens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import ForeignKey, Integer, Unicode, select
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from .base import TABLE_OPTIONS, Base, Expiring, JSONList, nullable_column

if TYPE_CHECKING:
    from .servers import Spawner
    from .services import Service
    from .tokens import APIToken
    from .users import User


class OAuthClient(Base):
    """Something people are sent to the hub by: a server, a service, or the hub itself."""

    __tablename__ = "oauth_clients"
    __table_args__ = TABLE_OPTIONS

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    identifier: Mapped[Any] = nullable_column(Unicode(255), unique=True)
    description: Mapped[Any] = nullable_column(Unicode(1023))
    #: A hash; empty for a client that cannot authenticate.
    secret: Mapped[Any] = nullable_column(Unicode(255))
    redirect_uri: Mapped[Any] = nullable_column(Unicode(1023))
    allowed_scopes: Mapped[Any] = nullable_column(JSONList, default=list)

    spawner: Mapped[Spawner | None] = relationship(back_populates="oauth_client", uselist=False)
    service: Mapped[Service | None] = relationship(back_populates="oauth_client", uselist=False)
    access_tokens: Mapped[list[APIToken]] = relationship(
        back_populates="oauth_client", cascade="all, delete-orphan", passive_deletes=True
    )
    codes: Mapped[list[OAuthCode]] = relationship(
        back_populates="client", cascade="all, delete-orphan", passive_deletes=True
    )

    @property
    def client_id(self) -> str:
        """The identifier, by the name that OAuth libraries use."""
        return str(self.identifier)

    def __repr__(self) -> str:
        return f"<OAuthClient({self.identifier!r})>"


class OAuthCode(Expiring, Base):
    """An authorisation code; good once and for a few minutes. Its times are whole Unix seconds."""

    __tablename__ = "oauth_codes"
    __table_args__ = TABLE_OPTIONS

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    client_id: Mapped[Any] = nullable_column(ForeignKey("oauth_clients.identifier", ondelete="CASCADE"))
    code: Mapped[Any] = nullable_column(Unicode(36))
    expires_at: Mapped[Any] = nullable_column(Integer)
    redirect_uri: Mapped[Any] = nullable_column(Unicode(1023))
    session_id: Mapped[Any] = nullable_column(Unicode(255))
    user_id: Mapped[Any] = nullable_column(ForeignKey("users.id", ondelete="CASCADE"))
    scopes: Mapped[Any] = nullable_column(JSONList, default=list)
    code_challenge: Mapped[Any] = nullable_column(Unicode(255))
    code_challenge_method: Mapped[Any] = nullable_column(Unicode(64))

    client: Mapped[OAuthClient | None] = relationship(back_populates="codes")
    user: Mapped[User | None] = relationship(back_populates="oauth_codes")

    @classmethod
    def now(cls) -> float:
        return time.time()

    @classmethod
    def find(cls, db: Session, code: str) -> OAuthCode | None:
        """The row of a code that has not expired, or None."""
        return db.scalars(select(cls).where(cls.code == code, cls.expires_at > cls.now())).first()
