"""Who owns a server now: this Hub process, its heartbeat, and the processes that are gone."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from ..store import leases as lease_store

if TYPE_CHECKING:
    from .context import HubContext

#: Seconds between two heartbeats.
HEARTBEAT_SECONDS = 10.0
#: Seconds without a heartbeat after which a process counts as cut off.
DEAD_AFTER_SECONDS = 45.0


class Leases:
    """This process in the table of Hub processes. Servers point to it with their fencing number."""

    def __init__(self, context: HubContext) -> None:
        self._context = context
        self.process_id: int | None = None
        self._key = lease_store.new_key()
        self._url = ""

    def register(self, url: str = "") -> None:
        """Announce this process. Blocks; part of start-up."""
        database = self._context.database
        self._url = url
        # The lock comes first: a row whose lock nobody holds is that of a dead process.
        locked = database.hold_advisory_lock(self._key)
        self.process_id = database.run_sync(
            lease_store.register_process,
            hostname=socket.gethostname(),
            pid=os.getpid(),
            url=url,
            key=self._key if locked else None,
            alone=database.exclusive,
        )

    async def heartbeat(self) -> None:
        """Say that this process lives. One that others took for dead, after a long cut, announces itself anew."""
        if self.process_id is None:
            return
        database = self._context.database
        locked = await database.hold_process_lock(self._key)
        if not await database.run(lease_store.heartbeat, self.process_id):
            self._context.log.error("Other Hubs took this process for dead; servers they have taken over are theirs")
            self.process_id = await database.run(
                lease_store.register_process,
                hostname=socket.gethostname(),
                pid=os.getpid(),
                url=self._url,
                key=self._key if locked else None,
            )

    async def dead_owners(self) -> list[int] | None:
        """Return the processes that no longer live, or None when nobody else can be alive."""
        database = self._context.database
        if database.exclusive:
            return None
        processes = await database.read(lease_store.dead_processes, DEAD_AFTER_SECONDS)
        return [process for process in processes if process != self.process_id]

    async def living_others(self) -> set[int]:
        """Return the other Hub processes on this database that live."""
        database = self._context.database
        if database.exclusive:
            return set()
        known = {process.id for process in await database.read(lease_store.list_processes)}
        return known - {self.process_id} - set(await database.read(lease_store.dead_processes, DEAD_AFTER_SECONDS))

    async def unregister(self) -> None:
        """Take this process out of the table; its servers belong to nobody, and to whoever starts next."""
        if self.process_id is not None:
            await self._context.database.run(lease_store.unregister_process, self.process_id)
            self.process_id = None
