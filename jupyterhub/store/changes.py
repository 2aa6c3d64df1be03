"""What a transaction has changed, told after it is committed, so that caches and the plugins' rows can follow."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import event, inspect
from sqlalchemy.orm import ORMExecuteState, Session

__all__ = ["Change", "note_change", "take_changes", "watch"]

_KEY = "hub_changes"


class Change(NamedTuple):
    """A row that was inserted, changed or deleted. `id` None stands for any row of the table.

    `deleted` is only set where it is known; `by_plugin` when a plugin did it in its own session.
    """

    model: type[Any]
    id: int | None
    deleted: bool = False
    by_plugin: bool = False

    @property
    def table(self) -> str:
        """The table's name: ``"users"``, ``"api_tokens"``, …"""
        return str(self.model.__tablename__)


def note_change(session: Session, model: type[Any], row_id: int | None, *, deleted: bool = False) -> None:
    """Note a row that a bulk statement has changed; what goes through the session's rows is noted by itself."""
    session.info.setdefault(_KEY, {})[(model, row_id)] = deleted


def take_changes(session: Session, *, by_plugin: bool = False) -> frozenset[Change]:
    """The changes noted since the last call."""
    found = session.info.pop(_KEY, {})
    return frozenset(Change(model, row_id, deleted, by_plugin) for (model, row_id), deleted in found.items())


def watch(target: Session | type[Session], *, statements: bool = False) -> None:
    """Note what a session, or every session of a class, flushes; with `statements` also what bulk statements do."""

    @event.listens_for(target, "after_flush")
    def note_flushed(session: Session, context: Any) -> None:
        for rows, deleted in ((session.new, False), (session.dirty, False), (session.deleted, True)):
            for row in rows:
                # `dirty` is a guess: rows whose attributes were assigned the same value are in it as well.
                if rows is session.dirty and not session.is_modified(row):
                    continue
                note_change(session, type(row), _row_id(row), deleted=deleted)

    if not statements:
        return

    @event.listens_for(target, "do_orm_execute")
    def note_statement(state: ORMExecuteState) -> None:
        if state.is_select:
            return
        mapper = state.bind_mapper
        if mapper is not None:
            note_change(state.session, mapper.class_, None)
        elif not state.is_orm_statement:
            # Text, or a table without a model: nobody knows what it does, so everything may have changed.
            note_change(state.session, _Anything, None)


class _Anything:
    """Stands for every table."""

    __tablename__ = "*"


def _row_id(row: Any) -> int | None:
    identity = inspect(row).identity
    if identity is None:
        # Inserted just now: the identity is set once the flush is over, the key is there already.
        identity = tuple(inspect(row).mapper.primary_key_from_instance(row))
    first = identity[0] if identity else None
    return first if isinstance(first, int) else None
