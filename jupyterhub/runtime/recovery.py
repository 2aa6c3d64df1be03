"""After a restart: compare database, spawner and proxy for every server that was in motion or running.

Taking over is one transaction, whatever the number of servers; asking each spawner happens in the background, so
that the Hub answers before the last of a thousand servers has been looked at.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from .. import metrics
from ..core.clock import utcnow
from ..core.lifecycle import Failure, State
from ..core.urls import url_path_join
from ..net import wait_for_answer
from ..store import loading, runs
from .launch import call_plugin, server_ssl_context, take_internal_pair

if TYPE_CHECKING:
    from .context import HubContext
    from .handles import Handle

#: Servers read from the database at a time.
BATCH = 100
#: Servers looked at side by side.
CONCURRENCY = 20
#: Seconds one look (`poll`) may take before the server counts as running, for now.
FIRST_POLL_TIMEOUT = 60.0


class Recovery:
    """Brings every server of the database to ready or stopped, with a reason."""

    def __init__(self, context: HubContext) -> None:
        self._context = context
        self.settled = asyncio.Event()

    async def take_over(self) -> list[Handle]:
        """Take the lease of every active server nobody alive owns, and make its owner's wrapper known."""
        context = self._context
        ids = await context.database.run(
            runs.take_over, context.leases.process_id, dead_owners=await context.leases.dead_owners()
        )
        handles = []
        # Some at a time: what is read for all of them at once stays in the size of this process for good.
        for first in range(0, len(ids), BATCH):
            rows = await context.database.read(loading.load_servers, ids[first : first + BATCH])
            users = await context.directory.load_owners(rows)
            for row in rows:
                user = users.get(row.user_id)
                if user is None:
                    continue
                user.records[row.name].take(row)
                handles.append(context.servers.adopt(user, row.name))
        return handles

    async def settle_all(self, handles: list[Handle]) -> None:
        """Look at all of them, a few at a time. One that cannot be settled is logged and does not stop the rest."""
        began = time.monotonic()
        waiting = iter(handles)

        async def settle_some() -> None:
            for handle in waiting:
                try:
                    await self._settle(handle)
                except Exception:
                    self._context.log.exception("Server %s could not be checked", handle.log_name)

        try:
            await asyncio.gather(*(settle_some() for _ in range(min(CONCURRENCY, len(handles)))))
            if handles:
                running = sum(handle.state is State.READY for handle in handles)
                self._context.log.info("%i of %i servers still run", running, len(handles))
        finally:
            metrics.INIT_SPAWNERS_DURATION_SECONDS.observe(time.monotonic() - began)
            self.settled.set()

    async def _settle(self, handle: Handle) -> None:
        manager = self._context.servers
        state = handle.state
        if state in (State.UNDOING, State.STOPPING):
            manager.take_back_again(handle)
        elif state is State.STARTING:
            self._find_orphan(handle)
            manager.fail_interrupted(handle, interrupted())
        elif state in (State.CONNECTING, State.ROUTING):
            if await self._runs(handle) is False:
                manager.fail_interrupted(handle, interrupted())
            else:
                manager.resume_start(handle, "answer" if state is State.CONNECTING else "route")
        elif state in (State.READY, State.CHECKING):
            await self._settle_running(handle)
        task = handle.task
        if task is not None:
            await asyncio.wait([task])

    def _find_orphan(self, handle: Handle) -> None:
        """Let the spawner look for what a killed Hub had just made and not yet written down."""
        find = getattr(handle.spawner, "find_orphan", None)
        if find is not None:
            find()

    async def _runs(self, handle: Handle) -> bool | None:
        """Ask `poll`: True runs, False does not, None when it cannot be known."""
        spawner = handle.spawner
        began = time.monotonic()
        try:
            status = await call_plugin(self._context, f"{type(spawner).__name__}.poll", spawner.poll_once, FIRST_POLL_TIMEOUT)
        except Exception as error:
            # A scheduler or engine that is away for a while must not cost anybody their server.
            self._context.log.error("poll of %s failed after the restart: %s", handle.log_name, error)
            return None
        label = metrics.ServerPollStatus.from_status(status)
        metrics.SERVER_POLL_DURATION_SECONDS.labels(status=label).observe(time.monotonic() - began)
        return status is None

    async def _settle_running(self, handle: Handle) -> None:
        manager, context = self._context.servers, self._context
        runs_now = await self._runs(handle)
        if handle.state not in (State.READY, State.CHECKING):
            return
        if runs_now is False:
            manager.found_dead(handle, process_gone=True, why="it ended while no Hub was running")
            return
        spawner, address = handle.spawner, handle.record.address
        if address is None:
            manager.found_dead(handle, process_gone=False, why="its address is not known")
            return
        take_internal_pair(spawner, context)
        if runs_now:
            try:
                url = await call_plugin(context, f"{type(spawner).__name__}.get_url", spawner.get_url, 60)
                if url and url.rstrip("/") != address.url.rstrip("/"):
                    await self._move_address(handle, url)
                await wait_for_answer(
                    url_path_join(address.url, "api"),
                    timeout=float(spawner.http_timeout),
                    ssl_context=server_ssl_context(context),
                    gone=lambda: None,
                )
            except Exception as error:
                manager.found_dead(handle, process_gone=False, why=f"it does not answer: {error}")
                return
        await manager.accept_running(handle)

    async def _move_address(self, handle: Handle, url: str) -> None:
        from urllib.parse import urlparse

        address = handle.record.address
        assert address is not None
        parsed = urlparse(url)
        address.proto, address.ip = parsed.scheme, parsed.hostname or address.ip
        address.port = parsed.port or (443 if parsed.scheme == "https" else 80)
        await self._context.database.run(
            runs.move,
            handle.record.id,
            handle.record.fence,
            state=handle.state.value,
            phases=None,
            address=(address.proto, address.ip, address.port),
        )
        await self._context.routes.add_server(handle.user, handle.spawner)


def interrupted() -> Failure:
    """Return the failure of a start during which the Hub itself ended."""
    return Failure(
        cause="interrupted",
        message="The Hub was restarted while this server was starting.",
        next_step="Start it again.",
        phase="starting",
        at=utcnow(),
    )
