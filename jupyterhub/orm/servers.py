"""Addresses, and the servers of users."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import DateTime, ForeignKey, Integer, Unicode
from sqlalchemy.orm import Mapped, mapped_column, relationship

from .base import TABLE_OPTIONS, Base, JSONDict, nullable_column

if TYPE_CHECKING:
    from .oauth import OAuthClient
    from .services import Service
    from .shares import Share, ShareCode
    from .users import User


def _free_port() -> int:
    from ..net import random_port

    return int(random_port())


class Server(Base):
    """Where something listens. For a user's server the row exists exactly while it is active (database §3)."""

    __tablename__ = "servers"
    __table_args__ = TABLE_OPTIONS

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    proto: Mapped[Any] = nullable_column(Unicode(15), default="http")
    ip: Mapped[Any] = nullable_column(Unicode(255), default="")
    port: Mapped[Any] = nullable_column(Integer, default=_free_port)
    base_url: Mapped[Any] = nullable_column(Unicode(255), default="/")
    cookie_name: Mapped[Any] = nullable_column(Unicode(255), default="cookie")

    spawner: Mapped[Spawner | None] = relationship(back_populates="server", uselist=False)
    service: Mapped[Service | None] = relationship(back_populates="server", uselist=False)

    def __repr__(self) -> str:
        return f"<Server({self.ip}:{self.port})>"


class Spawner(Base):
    """A server of a user, running or not; the default one is named ''."""

    __tablename__ = "spawners"
    __table_args__ = TABLE_OPTIONS

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    user_id: Mapped[Any] = nullable_column(ForeignKey("users.id", ondelete="CASCADE"))
    server_id: Mapped[Any] = nullable_column(ForeignKey("servers.id", ondelete="SET NULL"))
    state: Mapped[Any] = nullable_column(JSONDict)
    name: Mapped[Any] = nullable_column(Unicode(255))
    display_name: Mapped[Any] = nullable_column(Unicode(255))
    started: Mapped[datetime | None] = mapped_column(DateTime)
    last_activity: Mapped[datetime | None] = mapped_column(DateTime)
    user_options: Mapped[Any] = nullable_column(JSONDict)
    oauth_client_id: Mapped[Any] = nullable_column(
        ForeignKey("oauth_clients.identifier", ondelete="SET NULL")
    )

    user: Mapped[User | None] = relationship(back_populates="_orm_spawners")
    server: Mapped[Server | None] = relationship(
        single_parent=True, back_populates="spawner", cascade="all, delete-orphan"
    )
    oauth_client: Mapped[OAuthClient | None] = relationship(
        single_parent=True, back_populates="spawner", cascade="all, delete-orphan"
    )
    shares: Mapped[list[Share]] = relationship(
        back_populates="spawner", cascade="all, delete-orphan", passive_deletes=True
    )
    share_codes: Mapped[list[ShareCode]] = relationship(
        back_populates="spawner", cascade="all, delete-orphan", passive_deletes=True
    )

    # Templates and lists show rows of stopped servers beside live spawners and ask both the same.
    active = False
    running = False
    ready = False
    pending = None

    def __repr__(self) -> str:
        return f"<Spawner({self.name!r} of user {self.user_id})>"

    @property
    def orm_spawner(self) -> Spawner:
        """This row, so that a row and a spawner can be asked alike."""
        return self
