"""Statements for one row, kept once built: building one costs more than executing it.

They go past the session's rows, so the callers note what they change.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, cached_property
from typing import Any

from sqlalchemy import Connection, bindparam
from sqlalchemy.orm import Session

from .changes import note_change

__all__ = ["StoreSession", "change_row", "connection_of", "delete_rows", "insert_row"]


class StoreSession(Session):
    """A session of ours: lives for one transaction, on one thread."""

    @cached_property
    def core(self) -> Connection:
        """The connection of that transaction."""
        return self.connection()


def connection_of(session: Session) -> Connection:
    """Return the connection of a session's transaction, for statements that need no rows of the session.

    What is pending in the session is not flushed.
    """
    return session.core if isinstance(session, StoreSession) else session.connection()


def _where(table: Any, keys: tuple[str, ...]) -> Any:
    return (table.c[key] == bindparam(f"key_{key}") for key in keys)


@cache
def _update(model: Any, keys: tuple[str, ...], columns: tuple[str, ...]) -> Any:
    table = model.__table__
    return table.update().where(*_where(table, keys)).values({column: bindparam(f"new_{column}") for column in columns})


@cache
def _insert(model: Any, columns: tuple[str, ...]) -> Any:
    return model.__table__.insert().values({column: bindparam(column) for column in columns})


@cache
def _delete(model: Any, keys: tuple[str, ...]) -> Any:
    table = model.__table__
    return table.delete().where(*_where(table, keys))


def change_row(session: Session, model: Any, keys: Mapping[str, Any], values: Mapping[str, Any]) -> int:
    """Change columns of the row with these keys. Returns how many rows there were."""
    parameters = {f"key_{key}": value for key, value in keys.items()}
    parameters.update({f"new_{column}": value for column, value in values.items()})
    return int(connection_of(session).execute(_update(model, tuple(keys), tuple(values)), parameters).rowcount)


def insert_row(session: Session, model: Any, **values: Any) -> Any:
    """Insert one row and note it. Returns the first column of its key."""
    result: Any = connection_of(session).execute(_insert(model, tuple(values)), values)
    key = result.inserted_primary_key[0]
    note_change(session, model, key if isinstance(key, int) else None)
    return key


def delete_rows(session: Session, model: Any, **keys: Any) -> int:
    """Delete the rows with these values. Returns how many there were."""
    parameters = {f"key_{key}": value for key, value in keys.items()}
    return int(connection_of(session).execute(_delete(model, tuple(keys)), parameters).rowcount)
