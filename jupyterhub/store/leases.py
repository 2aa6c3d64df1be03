"""Hub processes: who lives, who is gone. Times are the database's own clock."""

from __future__ import annotations

import secrets
from datetime import timedelta

from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from ..orm.base import naive_now
from ..orm.own import HubProcess


def register_process(session: Session, *, hostname: str, pid: int, url: str) -> int:
    """Announce a process and return its row's id."""
    row = HubProcess(key=secrets.token_hex(16), hostname=hostname, pid=pid, url=url)
    session.add(row)
    session.flush()
    return row.id


def heartbeat(session: Session, process_id: int) -> None:
    """Say that a process lives."""
    session.execute(
        update(HubProcess)
        .where(HubProcess.id == process_id)
        .values(heartbeat=naive_now())
        .execution_options(synchronize_session=False)
    )


def dead_processes(session: Session, after_seconds: float) -> list[int]:
    """Return processes whose heartbeat is older than `after_seconds`."""
    from sqlalchemy import select

    limit = naive_now() - timedelta(seconds=after_seconds)
    return list(session.scalars(select(HubProcess.id).where(HubProcess.heartbeat < limit)))


def unregister_process(session: Session, process_id: int) -> None:
    """Take a process out of the table."""
    session.execute(delete(HubProcess).where(HubProcess.id == process_id))
