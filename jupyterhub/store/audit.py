"""Who did what to whom. Entries are only ever added, and dropped by age."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from ..core.clock import aware
from ..orm.base import naive_now
from ..orm.own import AuditEntry
from .values import AuditRecord

__all__ = ["append", "drop_before", "latest"]

_ACTION, _ACTOR, _TARGET = 64, 255, 512


def append(
    session: Session, action: str, *, actor: str = "", target: str = "", details: Mapping[str, Any] | None = None
) -> None:
    """Add an entry. Texts that are too long are cut: an entry must not fail what it speaks of."""
    session.execute(
        insert(AuditEntry).values(
            at=naive_now(),
            action=action[:_ACTION],
            actor=actor[:_ACTOR],
            target=target[:_TARGET],
            details=dict(details or {}),
        )
    )


def latest(session: Session, *, limit: int = 100, before: int | None = None) -> list[AuditRecord]:
    """The newest entries first; `before` is the id of the last entry of the page before."""
    query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditEntry.id < before)
    return [
        AuditRecord(row.id, aware(row.at), row.action, row.actor, row.target, dict(row.details or {}))
        for row in session.scalars(query)
    ]


def drop_before(session: Session, moment: datetime) -> int:
    """Drop entries older than `moment` (an aware time); returns how many."""
    limit = aware(moment).astimezone(timezone.utc).replace(tzinfo=None)
    result = session.execute(delete(AuditEntry).where(AuditEntry.at < limit))
    return int(result.rowcount)  # type: ignore[attr-defined]
