"""Services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Boolean, ForeignKey, Integer, Unicode, select
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from .base import TABLE_OPTIONS, Base, JSONDict, JSONList, nullable_column

if TYPE_CHECKING:
    from .grants import Role
    from .oauth import OAuthClient
    from .servers import Server
    from .tokens import APIToken


class Service(Base):
    """A service. Columns that its definition does not give stay NULL (database §3)."""

    __tablename__ = "services"
    __table_args__ = TABLE_OPTIONS

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    name: Mapped[Any] = nullable_column(Unicode(255), unique=True)
    admin: Mapped[Any] = nullable_column(Boolean(create_constraint=False), default=False)
    url: Mapped[Any] = nullable_column(Unicode(2047))
    oauth_client_allowed_scopes: Mapped[Any] = nullable_column(JSONList)
    info: Mapped[Any] = nullable_column(JSONDict)
    display: Mapped[Any] = nullable_column(Boolean(create_constraint=False))
    oauth_no_confirm: Mapped[Any] = nullable_column(Boolean(create_constraint=False))
    command: Mapped[Any] = nullable_column(JSONList)
    cwd: Mapped[Any] = nullable_column(Unicode(4095))
    environment: Mapped[Any] = nullable_column(JSONDict)
    user: Mapped[Any] = nullable_column(Unicode(255))
    timeout: Mapped[int] = mapped_column(Integer, default=30, nullable=False)
    from_config: Mapped[Any] = nullable_column(Boolean(create_constraint=False), default=True)
    _server_id: Mapped[Any] = nullable_column(ForeignKey("servers.id", ondelete="SET NULL"))
    pid: Mapped[Any] = nullable_column(Integer)
    oauth_client_id: Mapped[Any] = nullable_column(
        ForeignKey("oauth_clients.identifier", ondelete="SET NULL")
    )

    server: Mapped[Server | None] = relationship(
        single_parent=True, back_populates="service", cascade="all, delete-orphan"
    )
    oauth_client: Mapped[OAuthClient | None] = relationship(
        single_parent=True, back_populates="service", cascade="all, delete-orphan"
    )
    roles: Mapped[list[Role]] = relationship(
        secondary="service_role_map", back_populates="services", passive_deletes=True
    )
    api_tokens: Mapped[list[APIToken]] = relationship(
        back_populates="service", cascade="all, delete-orphan", passive_deletes=True
    )

    def __repr__(self) -> str:
        return f"<Service({self.name!r})>"

    @classmethod
    def find(cls, db: Session, name: str) -> Service | None:
        """The service of this name, or None."""
        return db.scalars(select(cls).where(cls.name == name)).first()

    def new_api_token(self, token: str | None = None, **kwargs: Any) -> str:
        """Issue a token for this service and return its text; keywords as for `APIToken.new`."""
        from .tokens import APIToken

        return str(APIToken.new(token=token, service=self, **kwargs))
