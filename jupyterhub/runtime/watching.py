"""Noticing what becomes of running servers: gone, restarted by their plugin at another address, or fine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.clock import utcnow
from ..core.lifecycle import Event, Failure, State
from ..metrics import ServerRestartReason
from ..store import runs
from .failures import exit_number
from .handles import Handle
from .health import Health
from .launch import POLL_TIMEOUT, call_plugin
from .stopping import Stops
from .table import ServerTable

if TYPE_CHECKING:
    from ..user import User
    from .context import HubContext


class Watch:
    """Follows servers from the moment they are ready."""

    def __init__(self, context: HubContext, table: ServerTable, stops: Stops, health: Health) -> None:
        self._context = context
        self._table = table
        self._stops = stops
        self._health = health

    def begin(self, handle: Handle) -> None:
        """React to what the spawner's own polling finds: the server is gone, or was started anew by its plugin."""
        handle.spawner.add_poll_callback(self._found_gone, handle)
        handle.record.on_polled = lambda: self._polled(handle)
        self._health.begin(handle)

    async def _polled(self, handle: Handle) -> None:
        """The spawner polled by itself: settle what its plugin left in the database, and follow a restart."""
        database = self._context.database
        if database.has_plugin_session:
            database.settle_plugin_session(f"poll of {handle.log_name}")
        await self.note_new_address(handle)
        record = handle.record
        if record.state_changed and handle.state is State.READY:
            record.state_changed = False
            state = handle.spawner.get_state()
            await database.run(runs.save_state, record.id, record.fence, state)
            record.state = state

    def _found_gone(self, handle: Handle) -> None:
        """Called by the spawner's own polling once its `poll` no longer says "running"."""
        if handle.state is State.READY:
            self._gone(handle, getattr(handle.spawner, "_exit_status", 0) or 0)

    def _gone(self, handle: Handle, status: int) -> None:
        self._context.reporting.exited(handle.log_name, status)
        why = f"It ended by itself with exit status {status}"
        # Spawners of containers say in words with which status a server ended.
        failed = exit_number(status) != 0
        if failed and self._health.may_restart(handle):
            self._health.restart(handle, ServerRestartReason.exited, why, process_gone=True)
            return
        failure = None
        if failed:
            # A server that its owner shuts down from within ends with 0, and nobody has to be told.
            failure = Failure(cause="exited", message=f"{why}.", next_step="Start it again.", at=utcnow())
        self._stops.begin(handle, Event.EXITED, requested=False, process_gone=True, why="it is gone", failure=failure)

    async def check(self, user: User, server_name: str = "") -> bool:
        """Poll a server that is believed to be ready. Returns whether it really runs; a dead one is settled first."""
        handle = self._table.handle(user, server_name)
        if handle.state is not State.READY:
            return False
        async with handle.lock:
            if handle.state is not State.READY:
                return False
            spawner = handle.spawner
            try:
                status = await call_plugin(
                    self._context, f"{type(spawner).__name__}.poll", spawner.poll_once, POLL_TIMEOUT
                )
            except Exception as error:
                # Not knowing is no reason to take somebody's server away.
                self._context.log.error("poll of %s failed: %s", handle.log_name, error)
                return True
            await self.note_new_address(handle)
            if status is None:
                return True
            self._gone(handle, status)
        assert handle.stop is not None
        await handle.stop.wait(self._context.slow_stop_timeout)
        return False

    async def note_new_address(self, handle: Handle) -> None:
        """Store and route the address of a server that its plugin restarted by itself, inside `poll` (S9)."""
        record = handle.record
        if not record.address_changed or record.address is None:
            return
        record.address_changed = False
        spawner = handle.spawner
        address, state = record.address, spawner.get_state()
        await self._context.database.run(
            runs.move,
            record.id,
            record.fence,
            state=State.READY.value,
            phases=None,
            address=(address.proto, address.ip, address.port),
            spawner_state=state,
        )
        record.state = state
        await self._context.routes.add_server(handle.user, spawner)
        await self._health.note_restart(handle, ServerRestartReason.spawner, "Its spawner started it again")

    # After a restart

    async def accept_running(self, handle: Handle) -> None:
        """A server that ran while no Hub did is ready again: poll it, and react when it goes."""
        if handle.state is State.CHECKING:
            await self._table.move(handle, Event.ALIVE)
        handle.spawner.start_polling()
        handle.spawner._keep_less()
        self.begin(handle)
        self._context.reporting.adopted(handle.log_name, handle.record.address.url if handle.record.address is not None else "")

    def found_dead(self, handle: Handle, *, process_gone: bool, why: str) -> None:
        """A server believed to run does not, or does not answer: stop it."""
        event = Event.DEAD if handle.state is State.CHECKING else Event.EXITED
        self._stops.begin(handle, event, requested=False, process_gone=process_gone, why=why)

    def let_go(self) -> None:
        """Poll no more, without touching a server: the Hub ends, servers stay."""
        for handle in self._table.every_handle():
            if handle.state is State.READY:
                handle.spawner.stop_polling()
