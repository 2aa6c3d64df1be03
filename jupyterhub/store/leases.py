"""Hub processes: who lives, who is gone. All times are the database's own clock (ARCHITECTURE §9)."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, and_, cast, delete, func, insert, or_, select, text, update
from sqlalchemy.orm import Session

from ..core.clock import aware
from ..orm.base import naive_now
from ..orm.own import HubProcess
from .values import ProcessRecord

__all__ = [
    "ADVISORY_CLASS",
    "dead_processes",
    "forget_processes",
    "heartbeat",
    "list_processes",
    "new_key",
    "register_process",
    "unregister_process",
]

#: The first half of the advisory locks of hub processes on PostgreSQL; the second is the process's key.
ADVISORY_CLASS = 0x48554237


def _clock(session: Session) -> Any:
    """Now, as the database sees it: the clocks of several hosts differ by more than a heartbeat may be late."""
    dialect = session.get_bind().dialect.name
    if dialect == "postgresql":
        return func.timezone("utc", func.clock_timestamp())
    if dialect in ("mysql", "mariadb"):
        return func.utc_timestamp()
    return naive_now()


def new_key() -> int:
    """A number by which a process is known while it lives: that of its advisory lock, taken before it registers."""
    return secrets.randbelow(2**31 - 1) + 1


def register_process(
    session: Session, *, hostname: str, pid: int, url: str = "", key: int | None = None, alone: bool = False
) -> int:
    """Announce a process and return its row's id. `url` is where other processes reach it.

    `key` is the number of the advisory lock that the process holds; without one it is only missed by its
    heartbeat. With `alone` nobody else can be alive, and rows that earlier processes left behind are removed.
    """
    if alone:
        session.execute(delete(HubProcess))
    now = session.scalar(select(_clock(session))) if session.get_bind().dialect.name != "sqlite" else naive_now()
    # A number below zero stands for "holds no lock".
    text_key = str(key if key is not None else -new_key())
    result = session.execute(
        insert(HubProcess).values(key=text_key, hostname=hostname, pid=pid, url=url, started=now, heartbeat=now)
    )
    return int(result.inserted_primary_key[0])  # type: ignore[attr-defined]


def heartbeat(session: Session, process_id: int) -> bool:
    """Say that a process lives. Returns False when others took it for dead: its servers are theirs by now."""
    result = session.execute(
        update(HubProcess)
        .where(HubProcess.id == process_id)
        .values(heartbeat=_clock(session))
        .execution_options(synchronize_session=False)
    )
    return bool(result.rowcount)  # type: ignore[attr-defined]


def dead_processes(session: Session, after_seconds: float) -> list[int]:
    """The processes that are gone: no heartbeat for `after_seconds`, or on PostgreSQL no advisory lock any more.

    A killed process loses its lock at once, one that was cut off is missed by its heartbeat. When the server
    itself was started again after a heartbeat, the locks of that time say nothing.
    """
    dialect = session.get_bind().dialect.name
    limit: Any
    if dialect == "sqlite":
        limit = naive_now() - timedelta(seconds=after_seconds)
    else:
        now: Any = session.scalar(select(_clock(session)))
        limit = now - timedelta(seconds=after_seconds)
    gone = HubProcess.heartbeat < limit
    if dialect == "postgresql":
        held = (
            select(text("objid::bigint"))
            .select_from(text("pg_locks"))
            .where(
                text(
                    f"locktype = 'advisory' AND classid = {ADVISORY_CLASS} AND granted AND database = "
                    "(SELECT oid FROM pg_database WHERE datname = current_database())"
                )
            )
        )
        meaningful = HubProcess.heartbeat > func.timezone("utc", func.pg_postmaster_start_time())
        key = cast(HubProcess.key, BigInteger)
        gone = or_(gone, and_(meaningful, key > 0, key.not_in(held)))
    return list(session.scalars(select(HubProcess.id).where(gone)))


def list_processes(session: Session) -> list[ProcessRecord]:
    """All processes that have announced themselves and were not forgotten."""
    return [
        ProcessRecord(row.id, row.hostname, row.pid, row.url, aware(row.started), aware(row.heartbeat))
        for row in session.scalars(select(HubProcess).order_by(HubProcess.id))
    ]


def forget_processes(session: Session, process_ids: Collection[int]) -> None:
    """Remove processes that are gone; their servers belong to nobody then."""
    if process_ids:
        session.execute(delete(HubProcess).where(HubProcess.id.in_(list(process_ids))))


def unregister_process(session: Session, process_id: int) -> None:
    """Take a process out of the table, at its orderly end."""
    forget_processes(session, [process_id])
