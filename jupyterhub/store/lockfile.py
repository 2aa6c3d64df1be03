"""One Hub per SQLite file, proved by an exclusive lock on a file beside it, held for life (ARCHITECTURE §9)."""

from __future__ import annotations

import fcntl
import os

from ..core.errors import HubError


class HubAlreadyRunning(HubError):
    """Another Hub has this database open."""

    reason = "hub-already-running"


class FileLock:
    """A lock that the kernel releases when the process ends, however it ends."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor

    @classmethod
    def beside(cls, database: str) -> FileLock:
        """Lock `<database>.lock`. Raises HubAlreadyRunning, which names the process that has it."""
        path = f"{os.path.abspath(database)}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise HubAlreadyRunning(
                f"Another Hub uses the database {database}"
                f"{f' (process {holder})' if holder else ''}; stop it first, or use PostgreSQL for several Hubs"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        return cls(path, descriptor)

    def release(self) -> None:
        """Give the lock back; the file stays, so that no two processes ever lock different ones."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
