"""Our additions to the schema, in tables of our own (ARCHITECTURE §6).

JupyterHub 6 works beside them and never looks at them; dropping them leaves a database that it opens. So
every foreign key here gives way (CASCADE or SET NULL), no column here is needed to insert into its tables,
and no row here is believed by its id alone: SQLite gives the id of a deleted last row to the next one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, ForeignKey, Integer, MetaData, Unicode
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from .base import _NAMES, TABLE_OPTIONS, JSONDict, JSONList, naive_now
from .servers import Spawner

__all__ = ["OWN_VERSION", "AuditEntry", "EndedLogin", "HubProcess", "OwnBase", "OwnVersion", "Run"]

#: The version of the tables below, kept in `hub7_version`.
OWN_VERSION = 1


class OwnBase(DeclarativeBase):
    """Apart from `Base`, so that whoever reflects or drops the public tables does not meet ours."""

    metadata = MetaData(naming_convention=_NAMES)


class OwnVersion(OwnBase):
    """One row: the version of our tables."""

    __tablename__ = "hub7_version"
    __table_args__ = TABLE_OPTIONS

    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)


class HubProcess(OwnBase):
    """A hub process. Times are the database's clock; a row whose heartbeat is old belongs to nobody alive."""

    __tablename__ = "hub7_processes"
    __table_args__ = TABLE_OPTIONS

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    #: A random number, which does not come back as an id may. On PostgreSQL also that of the process's lock.
    key: Mapped[str] = mapped_column(Unicode(64), unique=True)
    hostname: Mapped[str] = mapped_column(Unicode(255), default="")
    pid: Mapped[int] = mapped_column(Integer, default=0)
    url: Mapped[str] = mapped_column(Unicode(2047), default="")
    started: Mapped[datetime] = mapped_column(DateTime, default=naive_now)
    heartbeat: Mapped[datetime] = mapped_column(DateTime, default=naive_now)


class Run(OwnBase):
    """The life of a server: its state, who moves it, what is needed to take a start back.

    `cookie_id` and `started` are copies from the user and the server, and must agree with them.
    """

    __tablename__ = "hub7_runs"
    __table_args__ = TABLE_OPTIONS

    spawner_id: Mapped[int] = mapped_column(
        ForeignKey(Spawner.__table__.c.id, ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    cookie_id: Mapped[str] = mapped_column(Unicode(255))
    started: Mapped[datetime | None] = mapped_column(DateTime)
    state: Mapped[str] = mapped_column(Unicode(32), index=True)
    fence: Mapped[int] = mapped_column(BigInteger)
    owner_id: Mapped[int | None] = mapped_column(
        ForeignKey("hub7_processes.id", ondelete="SET NULL"), index=True
    )
    failure: Mapped[Any] = mapped_column(JSONDict, nullable=True)
    phases: Mapped[Any] = mapped_column(JSONList, default=list, nullable=True)
    data: Mapped[Any] = mapped_column(JSONDict, default=dict, nullable=True)
    output_tail: Mapped[Any] = mapped_column(JSONList, default=list, nullable=True)
    requested_by: Mapped[str] = mapped_column(Unicode(255), default="")
    updated: Mapped[datetime] = mapped_column(DateTime, default=naive_now)


class EndedLogin(OwnBase):
    """A log-in cookie that its owner has logged out, until it would have expired by itself."""

    __tablename__ = "hub7_ended_logins"
    __table_args__ = TABLE_OPTIONS

    #: SHA-256 of the cookie's whole signed value, as hex digits.
    digest: Mapped[str] = mapped_column(Unicode(64), primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(DateTime, index=True)


class AuditEntry(OwnBase):
    """Who did what to whom. Names, not references: it must outlive those it speaks of."""

    __tablename__ = "hub7_audit"
    __table_args__ = TABLE_OPTIONS

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(DateTime, default=naive_now, index=True)
    action: Mapped[str] = mapped_column(Unicode(64))
    actor: Mapped[str] = mapped_column(Unicode(255), default="")
    target: Mapped[str] = mapped_column(Unicode(512), default="")
    details: Mapped[Any] = mapped_column(JSONDict, nullable=True)
