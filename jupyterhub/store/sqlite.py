"""What only SQLite files need: a lock for the hub's life, and write-ahead logging where it can be had."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, exc

from ..core.errors import HubError

__all__ = ["FileLock", "HubAlreadyRunning", "create_private", "only_read", "write_ahead"]

log = logging.getLogger("jupyterhub")

#: File systems that other hosts share: the shared memory beside a write-ahead log does not reach them.
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "lustre", "afs", "9p", "gpfs"})


class HubAlreadyRunning(HubError):
    """Another hub has this database open."""

    reason = "hub-already-running"

    def __init__(self, path: str = "", pid: int | None = None) -> None:
        self.path = path
        self.pid = pid
        who = f"the process {pid}" if pid else "another process"
        super().__init__(
            f"{who[0].upper()}{who[1:]} is a hub with the database {path} open. Stop it first, or give this hub a "
            "database of its own (JupyterHub.db_url)."
        )


def create_private(database: str) -> None:
    """Make the file, for its owner alone, if there is none; SQLite makes those beside it with the same mode.

    It holds hashes of secrets, what plugins keep, and who works when. One that is there keeps its mode.
    """
    if database.startswith("file:"):
        # A URI, which only SQLite knows how to read.
        return
    # Where it cannot be made, SQLite says so when it is opened.
    with contextlib.suppress(OSError):
        os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


class FileLock:
    """An exclusive lock on a file beside a database. The system takes it back when the process ends."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def beside(cls, database: str) -> FileLock:
        """Lock `<database>.lock` and write our pid into it. Raises HubAlreadyRunning naming the holder's pid."""
        path = Path(os.path.abspath(f"{database}.lock"))
        try:
            import fcntl
        except ImportError:
            return cls(path, None)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise HubAlreadyRunning(database, int(holder) if holder.isdigit() else None) from None
        except OSError as error:
            os.close(descriptor)
            log.warning("%s cannot be locked (%s): do not start a second hub on this database", path, error)
            return cls(path, None)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))
        return cls(path, descriptor)

    def release(self) -> None:
        """Give the lock up. The file stays: removing it could remove somebody else's lock."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)


def only_read(connection: Any) -> None:
    """Make a driver connection refuse every write, so that a reader with a mistake in it is found at once."""
    connection.execute("PRAGMA query_only=ON")


def write_ahead(engine: Engine) -> str:
    """Turn write-ahead logging on, so that readers and the writer do not wait for each other.

    Returns the mode in force. Where it cannot be had (network file systems) the mode is ``delete``, and the log
    says so.
    """
    path = engine.url.database or ""
    kind = file_system_of(path)
    wanted = "delete" if kind in _NETWORK else "wal"
    mode = _set_mode(engine, wanted)
    if mode == "wal":
        return mode
    if wanted == "wal":
        mode = _set_mode(engine, "delete")
    log.warning(
        "The database %s is on a file system (%s) without write-ahead logging, so reading and writing wait for each "
        "other. Put it on a local disk, or use PostgreSQL.",
        path,
        kind or "unknown",
    )
    return mode


def _set_mode(engine: Engine, mode: str) -> str:
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        found = str(cursor.execute(f"PRAGMA journal_mode={mode}").fetchone()[0])
        # The mode may be accepted and the shared memory fail only when it is needed.
        cursor.execute("BEGIN IMMEDIATE")
        cursor.execute("ROLLBACK")
        cursor.close()
        return found
    except (exc.SQLAlchemyError, engine.dialect.dbapi.OperationalError):  # type: ignore[union-attr]
        return "unusable"
    finally:
        connection.close()


def file_system_of(path: str) -> str:
    """The kind of file system a path is on, as Linux names it; empty when it cannot be known."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    target = os.path.realpath(path)
    best, kind = "", ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) < 5 or not right:
            continue
        mount = fields[4].encode("ascii", "replace").decode("unicode_escape")
        inside = target == mount or target.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, right.split()[0]
    return kind
