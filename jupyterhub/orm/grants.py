"""Roles, and who has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Boolean, Column, ForeignKey, Integer, Table, Unicode, select
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from .base import TABLE_OPTIONS, Base, JSONList, nullable_column

if TYPE_CHECKING:
    from .services import Service
    from .users import Group, User


def _role_map(kind: str, table: str) -> Table:
    return Table(
        f"{kind}_role_map",
        Base.metadata,
        Column(f"{kind}_id", ForeignKey(f"{table}.id", ondelete="CASCADE"), primary_key=True),
        Column("role_id", ForeignKey("roles.id", ondelete="CASCADE"), primary_key=True),
        # True when the authenticator granted it.
        Column("managed_by_auth", Boolean(create_constraint=False), default=False, nullable=False),
        mysql_row_format="DYNAMIC",
    )


user_role_map = _role_map("user", "users")
service_role_map = _role_map("service", "services")
group_role_map = _role_map("group", "groups")


class Role(Base):
    """A named list of raw scopes."""

    __tablename__ = "roles"
    __table_args__ = TABLE_OPTIONS

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    name: Mapped[Any] = nullable_column(Unicode(255), unique=True)
    description: Mapped[Any] = nullable_column(Unicode(1023))
    scopes: Mapped[Any] = nullable_column(JSONList, default=list)
    managed_by_auth: Mapped[bool] = mapped_column(
        Boolean(create_constraint=False), default=False, nullable=False
    )

    users: Mapped[list[User]] = relationship(
        secondary=user_role_map, back_populates="roles", passive_deletes=True
    )
    services: Mapped[list[Service]] = relationship(
        secondary=service_role_map, back_populates="roles", passive_deletes=True
    )
    groups: Mapped[list[Group]] = relationship(
        secondary=group_role_map, back_populates="roles", passive_deletes=True
    )

    def __repr__(self) -> str:
        return f"<Role({self.name!r})>"

    @classmethod
    def find(cls, db: Session, name: str) -> Role | None:
        """The role of this name, or None."""
        return db.scalars(select(cls).where(cls.name == name)).first()
