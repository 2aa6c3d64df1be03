"""ServerManager: start, stop, check, follow, rename, remove, adopt. Nobody else starts, stops or polls a server.

A request claims a server synchronously (no await between looking at its state and changing it), writes the wish
under a lease with a fencing number, and leaves the work to a task. The parts: `table` (who is in which state; the
only writer), `starting`, `stopping`, `watching`, `failures`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from ..core import lifecycle
from ..core.errors import ServerBusy
from ..core.lifecycle import Event, State
from ..store import runs
from .failures import FailureTally
from .following import TAIL_LINES, follow_start, read_output
from .handles import Handle, ServerStatus
from .health import Health
from .launch import call_plugin
from .starting import Starts
from .stopping import Stops
from .table import ServerTable
from .watching import Watch

if TYPE_CHECKING:
    from ..user import User
    from .context import HubContext


class ServerManager:
    """Owns the life of every server of this Hub."""

    def __init__(self, context: HubContext) -> None:
        self._context = context
        self._table = ServerTable(context)
        self.failures = FailureTally(context)
        stops = Stops(context, self._table, remove=self.remove)
        health = Health(context, self._table, stops, start=lambda user, name: self.start(user, name))
        watch = Watch(context, self._table, stops, health)
        starts = Starts(context, self._table, stops, watch, self.failures)
        self.count_pending_starts = self._table.count_pending_starts
        self.count_active = self._table.count_active
        self.active_handles = self._table.active_handles
        self.start = starts.start
        self.stop = stops.stop
        self.stop_all = stops.stop_all
        self.check = watch.check
        self.let_go = watch.let_go
        # After a restart: what the recovery decides about each server it finds.
        self.adopt = self._table.handle
        self.resume_start = starts.resume
        self.fail_interrupted = stops.fail_interrupted
        self.take_back_again = stops.take_back_again
        self.accept_running = watch.accept_running
        self.found_dead = watch.found_dead

    # Looking

    def status(self, user: User, server_name: str = "") -> ServerStatus:
        """Return what is known about a server of this user; unknown servers are simply stopped."""
        record = user.records.get(server_name)
        state = record.lifecycle if record else State.STOPPED
        handle = self._table.find(user, server_name)
        return ServerStatus(
            state=state,
            pending=lifecycle.pending(state),
            ready=lifecycle.is_ready(state),
            active=lifecycle.is_active(state),
            failure=record.failure if record else None,
            phases=self._phases(handle),
            restarts=tuple(record.restarts) if record else (),
            unhealthy_since=record.unhealthy_since if record and lifecycle.is_ready(state) else None,
        )

    state_of = status

    @staticmethod
    def _phases(handle: Handle | None) -> list[dict[str, Any]]:
        if handle is None:
            return []
        if handle.launch is not None:
            return [phase.to_dict() for phase in handle.launch.phases]
        return handle.phases

    async def output_tail(self, user: User, server_name: str = "", lines: int = TAIL_LINES) -> list[str]:
        """Return the last lines of the server's output, as far as its spawner can tell.

        After a failure they are those that were there then, not what the clean-up makes the server say.
        """
        record = user.records.get(server_name)
        if record is None:
            return []
        handle = self._table.find(user, server_name)
        if lifecycle.is_active(record.lifecycle) and record.lifecycle is not State.UNDOING:
            return await read_output(self._context, user.spawners[server_name], lines)
        return (handle.output if handle else list(record.output_tail))[-lines:]

    # Following

    async def progress(self, user: User, server_name: str = "") -> AsyncGenerator[dict[str, Any], None]:
        """Yield the events of a start: what is known so far, then new ones, then exactly one terminal event.

        Members: progress, message, html_message (rest-api §4.7), and ours: phase, phases, log, failure.
        Raises ServerNotFound or ServerNotRunning when there is nothing to follow.
        """
        async for event in follow_start(self._context, self._table.handle(user, server_name)):
            yield event

    # Renaming and removing

    async def rename(self, user: User, server_name: str, new_name: str) -> None:
        """Rename a stopped server. The spawner may veto by raising.

        Raises ServerBusy unless it is stopped, ServerNotFound.
        """
        handle = self._table.handle(user, server_name)
        if handle.state is not State.STOPPED:
            raise ServerBusy(user.name, server_name, pending=lifecycle.pending(handle.state) or "check")
        self._table.set_state(handle, lifecycle.move(handle.state, Event.RENAME))
        try:
            async with handle.lock:
                spawner = user.spawners[server_name]
                await call_plugin(
                    self._context,
                    f"{type(spawner).__name__}.rename",
                    lambda: spawner.rename(server_name, new_name),
                    60,
                )
                await self._context.database.run(runs.rename, handle.record.id, new_name)
                user.note_renamed(server_name, new_name)
        finally:
            self._table.set_state(handle, State.STOPPED)
            self._table.forget(handle)

    async def remove(self, user: User, server_name: str) -> None:
        """Delete a stopped named server for good: the plugin's clean-up first, then its row.

        Raises ServerBusy unless it is stopped, ServerNotFound.
        """
        handle = self._table.handle(user, server_name)
        if handle.state is not State.STOPPED:
            raise ServerBusy(user.name, server_name, pending=lifecycle.pending(handle.state) or "check")
        async with handle.lock:
            await self.clean_up_forever(user, server_name)
            await self._context.database.run(runs.remove, handle.record.id)
            self._context.bulletin.drop(handle.record.id)
            self._table.forget(handle)
            user.note_removed(server_name)

    async def clean_up_forever(self, user: User, server_name: str) -> None:
        """Let the spawner delete what it keeps for a server; its failure is logged and stops nothing."""
        spawner = user.spawners[server_name]
        try:
            await call_plugin(self._context, f"{type(spawner).__name__}.delete_forever", spawner.delete_forever, 120)
        except Exception as error:
            self._context.reporting.plugin_mistake(type(spawner).__name__, f"delete_forever failed: {error}")
        user.drop_spawner(server_name)
