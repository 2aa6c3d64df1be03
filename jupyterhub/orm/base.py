"""What all tables share: the declarative base, JSON columns, and rows that expire or hold a hashed secret."""

from __future__ import annotations

import base64
import json
import warnings
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar

from sqlalchemy import MetaData, Text, or_, select
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.types import TypeDecorator

from ..core import secrets
from ..core.clock import is_expired, utcnow
from ..core.errors import TokenExists

__all__ = [
    "TABLE_OPTIONS",
    "Base",
    "Expiring",
    "Hashed",
    "JSONDict",
    "JSONList",
    "naive_now",
    "nullable_column",
]

#: How constraints and indexes are called (database §2).
_NAMES = {
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "ix": "ix_%(table_name)s_%(column_0_name)s",
}

#: On MySQL, unique texts of 255 characters need this row format (database §1).
TABLE_OPTIONS = {"mysql_row_format": "DYNAMIC"}

_BYTES_MARK = "__jupyterhub_bytes__"


class Base(DeclarativeBase):
    """The base of the hub's tables, and of the tables that plugins hang beside them (plugins §8.2)."""

    metadata = MetaData(naming_convention=_NAMES)
    # Plugins annotate class attributes in the old manner; those are not columns, and not an error.
    __allow_unmapped__ = True


def nullable_column(*arguments: Any, **options: Any) -> Any:
    """A mapped column that may be NULL, as nearly all of this schema may."""
    return mapped_column(*arguments, nullable=True, **options)


def naive_now() -> datetime:
    """Now, as the database keeps times: UTC without saying so (database §2)."""
    return utcnow(with_tz=False)


class JSONDict(TypeDecorator[Any]):
    """A mapping kept as JSON text. Bytes survive; what JSON cannot hold becomes null, with a warning (database §5)."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value, default=_encode_other)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value, object_hook=_decode_bytes)


class JSONList(JSONDict):
    """A list kept as JSON text. Sets are stored sorted, NULL reads as an empty list (database §5)."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        if isinstance(value, (set, frozenset)):
            value = sorted(value)
        elif isinstance(value, tuple):
            value = list(value)
        return super().process_bind_param(value, dialect)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        found = super().process_result_value(value, dialect)
        return [] if found is None else found


def _encode_other(value: Any) -> Any:
    if isinstance(value, bytes):
        return {_BYTES_MARK: True, "data": base64.encodebytes(value).decode("ascii")}
    warnings.warn(
        f"A value of type {type(value).__name__} cannot be stored as JSON; null is stored", stacklevel=2
    )
    return None


def _decode_bytes(found: dict[str, Any]) -> Any:
    if not found.get(_BYTES_MARK):
        return found
    try:
        return base64.decodebytes(found["data"].encode("ascii"))
    except (KeyError, AttributeError, ValueError):
        warnings.warn("A stored bytes value cannot be read; null is used", stacklevel=2)
        return None


RowType = TypeVar("RowType", bound="Expiring")
HashedType = TypeVar("HashedType", bound="Hashed")


class Expiring:
    """A row with `expires_at`: a naive UTC time, or NULL for never."""

    expires_at: Mapped[Any]

    @classmethod
    def now(cls) -> Any:
        """Now, in the unit of `expires_at`."""
        return naive_now()

    @property
    def expires_in(self) -> int | None:
        """Whole seconds left, at least 0; None when the row never expires."""
        if self.expires_at is None:
            return None
        left = self.expires_at - self.now()
        return max(int(left.total_seconds() if isinstance(left, timedelta) else left), 0)

    @classmethod
    def purge_expired(cls, db: Session) -> int:
        """Delete and commit what has expired; return how many rows went."""
        rows = db.scalars(select(cls).where(cls.expires_at.is_not(None), cls.expires_at <= cls.now())).all()
        for row in rows:
            db.delete(row)
        if rows:
            db.commit()
        return len(rows)


class Hashed(Expiring):
    """A row that knows a secret by its hash, and by the first characters of it to find the row (database §4)."""

    #: Rounds for secrets that were given from outside; those made here take `generated_rounds`.
    rounds: ClassVar[int] = secrets.USER_PROVIDED_ROUNDS
    generated_rounds: ClassVar[int] = secrets.GENERATED_ROUNDS
    #: Whether the next secret to be set was made by the hub.
    generated: bool = True

    hashed: Mapped[Any]
    prefix: Mapped[Any]

    @property
    def token(self) -> str:
        """Set to store a secret. It cannot be read back."""
        raise AttributeError("A stored secret cannot be read")

    @token.setter
    def token(self, token: str) -> None:
        self.prefix = secrets.token_prefix(token)
        rounds = self.generated_rounds if self.generated else self.rounds
        self.hashed = secrets.hash_token(token, rounds=rounds)

    def match(self, token: str) -> bool:
        """Whether `token` is the secret."""
        stored = self.hashed or ""
        return secrets.compare_token(stored, token)

    @classmethod
    def check_token(cls, db: Session, token: str) -> None:
        """Raise InvalidRequest for a secret of bad length, TokenExists for one that is in use."""
        secrets.check_token_text(token)
        if cls.find(db, token) is not None:
            raise TokenExists()

    @classmethod
    def find_prefix(cls: type[HashedType], db: Session, token: str) -> list[HashedType]:
        """Rows not expired whose secret begins like `token`."""
        alive = or_(cls.expires_at.is_(None), cls.expires_at > cls.now())
        return list(db.scalars(select(cls).where(cls.prefix == secrets.token_prefix(token), alive)))

    @classmethod
    def find(cls: type[HashedType], db: Session, token: str) -> HashedType | None:
        """The row of a secret that has not expired, or None."""
        for row in cls.find_prefix(db, token):
            if row.match(token) and not is_expired(row.expires_at, utcnow()):
                return row
        return None
