"""API tokens."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import DateTime, ForeignKey, Integer, Unicode
from sqlalchemy.orm import Mapped, Session, mapped_column, object_session, relationship

from ..core import secrets
from ..core.errors import InvalidRequest, RoleNotFound
from ..core.scopes.expand import OwnerRef, check_requestable, expand
from .base import TABLE_OPTIONS, Base, Hashed, JSONList, naive_now, nullable_column

if TYPE_CHECKING:
    from .oauth import OAuthClient
    from .services import Service
    from .users import User


class APIToken(Hashed, Base):
    """A token of a user or of a service; the text itself is nowhere (database §3, §4)."""

    __tablename__ = "api_tokens"
    __table_args__ = TABLE_OPTIONS

    user_id: Mapped[Any] = nullable_column(ForeignKey("users.id", ondelete="CASCADE"))
    service_id: Mapped[Any] = nullable_column(ForeignKey("services.id", ondelete="CASCADE"))
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    hashed: Mapped[Any] = nullable_column(Unicode(255), unique=True)
    prefix: Mapped[Any] = nullable_column(Unicode(16), index=True)
    client_id: Mapped[Any] = nullable_column(ForeignKey("oauth_clients.identifier", ondelete="CASCADE"))
    session_id: Mapped[Any] = nullable_column(Unicode(255))
    created: Mapped[datetime | None] = mapped_column(DateTime, default=naive_now)
    expires_at: Mapped[Any] = nullable_column(DateTime)
    last_activity: Mapped[datetime | None] = mapped_column(DateTime)
    note: Mapped[Any] = nullable_column(Unicode(1023))
    scopes: Mapped[Any] = nullable_column(JSONList, default=list)

    user: Mapped[User | None] = relationship(back_populates="api_tokens")
    service: Mapped[Service | None] = relationship(back_populates="api_tokens")
    oauth_client: Mapped[OAuthClient | None] = relationship(back_populates="access_tokens")

    @property
    def api_id(self) -> str:
        """The id that the REST API shows."""
        return f"a{self.id}"

    @property
    def owner(self) -> User | Service | None:
        """The user or service it belongs to."""
        return self.user or self.service

    def __repr__(self) -> str:
        owner = self.owner
        return f"<APIToken({self.prefix}... of {owner.name if owner else None})>"

    @classmethod
    def find(cls, db: Session, token: str, *, kind: str | None = None) -> APIToken | None:
        """The row of a token that has not expired, or None; `kind` limits it to ``"user"`` or ``"service"``.

        A token that belongs to no OAuth client is of a schema long gone; it is deleted instead of found.
        """
        if kind not in (None, "user", "service"):
            raise ValueError(f"kind must be 'user' or 'service', not {kind!r}")
        for row in cls.find_prefix(db, token):
            if kind is not None and getattr(row, f"{kind}_id") is None:
                continue
            if row.match(token):
                if row.client_id is not None:
                    return row
                db.delete(row)
                db.commit()
        return None

    @classmethod
    def new(
        cls,
        token: str | None = None,
        *,
        user: User | None = None,
        service: Service | None = None,
        roles: Iterable[Any] | None = None,
        scopes: Iterable[str] | None = None,
        note: str = "",
        generated: bool = True,
        session_id: str | None = None,
        expires_in: float | None = None,
        client_id: str | None = None,
        oauth_client: OAuthClient | None = None,
        return_orm: bool = False,
    ) -> str | APIToken:
        """Issue a token for exactly one owner, commit it, and return its text (its row with `return_orm`).

        Without `token` one is made. `scopes` are raw; `roles` (names or rows) stand for their scopes; without
        either, those of the role `token`. `expires_in` is in seconds. Raises InvalidRequest, TokenExists,
        RoleNotFound, ScopeNotFound or ScopesNotHeld.
        """
        if (user is None) == (service is None):
            raise InvalidRequest("A token needs exactly one owner: a user or a service")
        owner = user if user is not None else service
        db = object_session(owner)
        if db is None:
            raise InvalidRequest("The owner of a token must be a row of a session")
        if token is None:
            token = secrets.new_token()
        else:
            cls.check_token(db, token)
        if roles is not None and scopes is not None:
            raise InvalidRequest("Give scopes or roles, not both")
        raw = cls._raw_scopes(db, roles, scopes)
        if user is not None:
            _check_held(raw, user)
        row = cls(user=user, service=service, note=note or "", session_id=session_id, scopes=raw)
        row.client_id = oauth_client.identifier if oauth_client is not None else client_id or "jupyterhub"
        row.generated = generated
        row.token = token
        if expires_in is not None:
            row.expires_at = naive_now() + timedelta(seconds=expires_in)
        db.add(row)
        db.commit()
        return row if return_orm else token

    @staticmethod
    def _raw_scopes(db: Session, roles: Iterable[Any] | None, scopes: Iterable[str] | None) -> list[str]:
        from .grants import Role

        if scopes is not None:
            return sorted(set(scopes))
        if roles is None:
            template = Role.find(db, "token")
            return sorted(template.scopes) if template is not None else ["inherit"]
        found: set[str] = set()
        for role in roles:
            row = role if isinstance(role, Role) else Role.find(db, role)
            if row is None:
                raise RoleNotFound(role)
            found.update(row.scopes)
        return sorted(found)


def _check_held(raw: list[str], user: User) -> None:
    roles = {*user.roles, *(role for group in user.groups for role in group.roles)}
    owner = OwnerRef.user(user.name)
    held = expand({scope for role in roles for scope in role.scopes}, owner, drop_unknown=True).scopes
    groups = {group.name for group in user.groups}
    check_requestable(raw, held, owner, groups_of=lambda name: groups if name == user.name else ())
