"""Users and groups."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Boolean, Column, DateTime, ForeignKey, Integer, LargeBinary, Table, Unicode, select
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from .base import TABLE_OPTIONS, Base, JSONDict, naive_now, nullable_column

if TYPE_CHECKING:
    from .grants import Role
    from .oauth import OAuthCode
    from .servers import Spawner
    from .shares import Share, ShareCode
    from .tokens import APIToken

user_group_map = Table(
    "user_group_map",
    Base.metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("group_id", ForeignKey("groups.id", ondelete="CASCADE"), primary_key=True),
    mysql_row_format="DYNAMIC",
)


class Group(Base):
    """Users under one name, with properties that spawners and plugins read."""

    __tablename__ = "groups"
    __table_args__ = TABLE_OPTIONS

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    name: Mapped[Any] = nullable_column(Unicode(255), unique=True)
    properties: Mapped[Any] = nullable_column(JSONDict, default=dict)

    users: Mapped[list[User]] = relationship(
        secondary=user_group_map, back_populates="groups", passive_deletes=True
    )
    roles: Mapped[list[Role]] = relationship(
        secondary="group_role_map", back_populates="groups", passive_deletes=True
    )
    shared_with_me: Mapped[list[Share]] = relationship(
        back_populates="group", cascade="all, delete-orphan", passive_deletes=True
    )

    def __repr__(self) -> str:
        return f"<Group({self.name!r})>"

    @classmethod
    def find(cls, db: Session, name: str) -> Group | None:
        """The group of this name, or None."""
        return db.scalars(select(cls).where(cls.name == name)).first()


class User(Base):
    """A person known to the hub."""

    __tablename__ = "users"
    __table_args__ = TABLE_OPTIONS

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    name: Mapped[Any] = nullable_column(Unicode(255), unique=True)
    user_info: Mapped[Any] = nullable_column(JSONDict)
    admin: Mapped[Any] = nullable_column(Boolean(create_constraint=False), default=False)
    created: Mapped[datetime | None] = mapped_column(DateTime, default=naive_now)
    last_activity: Mapped[datetime | None] = mapped_column(DateTime)
    #: Changing it makes every log-in cookie of the user worthless.
    cookie_id: Mapped[str] = mapped_column(
        Unicode(255), default=lambda: uuid.uuid4().hex, nullable=False, unique=True
    )
    state: Mapped[Any] = nullable_column(JSONDict)
    encrypted_auth_state: Mapped[Any] = nullable_column(LargeBinary)

    _orm_spawners: Mapped[list[Spawner]] = relationship(
        back_populates="user", cascade="all, delete-orphan", passive_deletes=False
    )
    groups: Mapped[list[Group]] = relationship(
        secondary=user_group_map, back_populates="users", passive_deletes=True
    )
    roles: Mapped[list[Role]] = relationship(
        secondary="user_role_map", back_populates="users", passive_deletes=True
    )
    api_tokens: Mapped[list[APIToken]] = relationship(
        back_populates="user", cascade="all, delete-orphan", passive_deletes=True
    )
    oauth_codes: Mapped[list[OAuthCode]] = relationship(
        back_populates="user", cascade="all, delete-orphan", passive_deletes=True
    )
    shares: Mapped[list[Share]] = relationship(
        back_populates="owner",
        cascade="all, delete-orphan",
        passive_deletes=True,
        foreign_keys="Share.owner_id",
    )
    share_codes: Mapped[list[ShareCode]] = relationship(
        back_populates="owner", cascade="all, delete-orphan", passive_deletes=True
    )
    shared_with_me: Mapped[list[Share]] = relationship(
        back_populates="user",
        cascade="all, delete-orphan",
        passive_deletes=True,
        foreign_keys="Share.user_id",
    )

    def __repr__(self) -> str:
        return f"<User({self.name!r})>"

    @property
    def orm_spawners(self) -> dict[str, Spawner]:
        """Rows of the user's servers by name; the default server's name is ''."""
        return {row.name: row for row in self._orm_spawners}

    @classmethod
    def find(cls, db: Session, name: str) -> User | None:
        """The user of this name, or None."""
        return db.scalars(select(cls).where(cls.name == name)).first()

    def new_api_token(self, token: str | None = None, **kwargs: Any) -> str:
        """Issue a token for this user and return its text; keywords as for `APIToken.new`."""
        from .tokens import APIToken

        return str(APIToken.new(token=token, user=self, **kwargs))
