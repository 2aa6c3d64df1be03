"""Stopping servers, and taking back what a start that failed or was cut short had begun."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ..core import lifecycle
from ..core.errors import AuthenticationStale, LeaseLost, ServerBusy, ServerNotRunning, StartFailed
from ..core.lifecycle import Event, Failure, State
from ..store import runs
from .failures import exit_reason, explain_exit, lease_lost, not_stopped
from .following import TAIL_LINES, read_output
from .handles import Handle, Stop, new_future
from .launch import STEPS, Launch
from .steps import undo_steps
from .table import STARTING, ServerTable

if TYPE_CHECKING:
    from ..user import User
    from .access import Caller
    from .context import HubContext

#: Seconds between tries to write the end of a run while the database is away.
END_RETRY_SECONDS = (0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Stops:
    """Everything that ends a run."""

    def __init__(
        self, context: HubContext, table: ServerTable, *, remove: Callable[[User, str], Awaitable[None]]
    ) -> None:
        self._context = context
        self._table = table
        self._remove = remove

    async def stop(
        self,
        user: User,
        server_name: str = "",
        *,
        requested_by: Caller | None = None,
        handler: Any = None,
        remove: bool = False,
        why: str = "",
    ) -> Stop:
        """Begin to stop a server, cancelling a start under way. Returns at once.

        Raises ServerNotRunning when it is stopped, ServerBusy while it is renamed or checked, AuthenticationStale.
        """
        handle = self._table.handle(user, server_name)
        context = self._context
        if handler is not None and context.authenticator.refresh_pre_stop:
            fresh = await context.logins.refresh(user, handler, force=True)
            if fresh is None and (requested_by is None or requested_by.name == user.name):
                raise AuthenticationStale()
        handle.restart = False
        if remove:
            handle.remove_when_stopped = True
        state = handle.state
        if state is State.STOPPED:
            handle.remove_when_stopped = False
            raise ServerNotRunning(user.name, server_name)
        if state in (State.UNDOING, State.STOPPING):
            if handle.stop is None:
                handle.stop = Stop(user, server_name, new_future())
            return handle.stop
        if state in (State.RENAMING, State.CHECKING):
            raise ServerBusy(user.name, server_name, pending=lifecycle.pending(state) or "check")
        if state in STARTING and handle.stop is not None:
            return handle.stop
        handle.stop = Stop(user, server_name, new_future())
        if state in STARTING:
            context.reporting.stopping(handle.log_name, "while it was starting")
            handle.cancelled = True
            if handle.task is not None and handle.launch is not None and handle.launch.entered:
                handle.task.cancel()
            return handle.stop
        self.begin(handle, Event.STOP, requested=True, why=why)
        return handle.stop

    def begin(
        self,
        handle: Handle,
        event: Event,
        *,
        requested: bool,
        why: str,
        process_gone: bool = False,
        failure: Failure | None = None,
    ) -> None:
        """Claim a ready server for stopping, in memory and at once; the task writes it down first thing.

        `failure` is what its owner reads afterwards.
        """
        if handle.stop is None or handle.stop.done.done():
            handle.stop = Stop(handle.user, handle.name, new_future())
        before = handle.state
        self._table.set_state(handle, lifecycle.move(before, event))
        handle.task = self._context.background.start(
            self._run(handle, requested=requested, why=why, process_gone=process_gone, failure=failure),
            name=f"stop {handle.log_name}",
        )

    async def stop_all(self, timeout: float) -> None:
        """Stop every active server of this Hub, as far as `timeout` seconds allow. For `cleanup_servers` at shutdown."""
        stops: dict[asyncio.Future[None], str] = {}
        # Somebody may have asked this Hub about a server that another one runs.
        others = await self._context.leases.living_others()
        for handle in self._table.active_handles():
            if handle.record.owner in others:
                continue
            try:
                stop = await self.stop(handle.user, handle.name, why="the Hub shuts down")
                stops[stop.done] = handle.log_name
            except (ServerNotRunning, ServerBusy) as error:
                self._context.log.warning("Not stopped at shutdown: %s", error)
        if not stops:
            return
        self._context.reporting.waiting_for_stops(list(stops.values()), timeout)
        _, left = await asyncio.wait(stops, timeout=timeout)
        if left:
            self._context.reporting.left_stopping([stops[done] for done in stops if done in left], timeout)

    # Taking back

    async def _run(
        self, handle: Handle, *, requested: bool, why: str, process_gone: bool, failure: Failure | None
    ) -> None:
        launch = self._table.launch_of(handle)
        launch.process_gone = process_gone
        began = time.monotonic()
        self._context.reporting.stopping(handle.log_name, why)
        async with handle.lock:
            try:
                await self._context.database.run(
                    runs.move, handle.record.id, launch.fence, state=State.STOPPING.value, phases=None
                )
            except LeaseLost as error:
                self.lose(handle, error)
                return
            if not requested and (launch.process_gone or failure is not None):
                handle.output = await read_output(self._context, launch.spawner, TAIL_LINES)
                status, reason = launch.spawner._exit_status, exit_reason(launch.spawner)
                unexplained = status is not None and failure is not None and failure.cause == "exited"
                if (unexplained or reason) and not handle.restart:
                    failure = explain_exit(status, handle.output, reason)
                    self._context.reporting.ended(handle.log_name, failure, handle.output)
            await self.take_back(handle, launch, failure=failure, requested=requested, began=began)

    async def take_back(
        self,
        handle: Handle,
        launch: Launch,
        *,
        failure: Failure | None,
        requested: bool = False,
        began: float | None = None,
    ) -> None:
        """Undo the begun steps, end the run in the database, tell whoever waits."""
        context = self._context
        await undo_steps(
            STEPS,
            launch,
            begun=launch.begun,
            report=lambda step, error: context.reporting.undo_failed(launch.log_name, step, error),
        )
        problem = launch.stop_problem
        if problem:
            failure = not_stopped(failure, problem)
        handle.phases = [phase.to_dict() for phase in launch.phases]
        try:
            await self._end_run(handle, launch, failure)
        except LeaseLost as error:
            self.lose(handle, error)
            return
        handle.record.failure = failure
        handle.record.output_tail = list(handle.output)
        handle.launch = None
        context.bulletin.drop(handle.record.id)
        self._table.set_state(handle, State.STOPPED)
        context.reporting.stopped(
            launch.log_name,
            launch.user.name,
            handle.name,
            took=time.monotonic() - (began or launch.began),
            requested=requested,
            problem=problem,
        )
        launch.user.drop_spawner(handle.name, keep=bool(failure))
        if failure is None:
            self._table.forget(handle)
        await self.finish(handle)

    async def finish(self, handle: Handle) -> None:
        """The server is stopped, or its start was refused: forget it if that was asked for, and answer whoever waits."""
        stop = handle.stop
        try:
            if handle.remove_when_stopped and handle.name:
                handle.remove_when_stopped = False
                await self._remove(handle.user, handle.name)
        finally:
            if stop is not None and not stop.done.done():
                stop.done.set_result(None)

    async def _end_run(self, handle: Handle, launch: Launch, failure: Failure | None) -> None:
        """Write the end of the run. The database may be away for a while; a run must not stay half-ended for that."""
        state = launch.final_state
        for pause in (*END_RETRY_SECONDS, None):
            try:
                await self._context.database.run(
                    runs.end,
                    handle.record.id,
                    launch.fence,
                    spawner_state=state,
                    failure=failure.to_dict() if failure else None,
                    phases=handle.phases,
                    output_tail=handle.output,
                )
                break
            except LeaseLost:
                raise
            except Exception as error:
                if pause is None:
                    raise
                self._context.log.error("The end of server %s cannot be stored yet: %s", handle.log_name, error)
                await asyncio.sleep(pause)
        if state is not None:
            handle.record.state = state
        handle.record.address = None
        handle.record.started = None

    def lose(self, handle: Handle, error: LeaseLost) -> None:
        """Another Hub owns the server: tell whoever waits, and touch it no more."""
        self._context.log.error("Server %s belongs to another Hub by now: %s", handle.log_name, error)
        if handle.stop is not None and not handle.stop.done.done():
            handle.stop.done.set_exception(error)
        if handle.start is not None and not handle.start.done.done():
            handle.start.done.set_exception(StartFailed(lease_lost(error)))
        self._table.forget(handle)

    # What an earlier Hub process had begun

    def fail_interrupted(self, handle: Handle, failure: Failure) -> None:
        """Take back a start that an earlier Hub process did not finish and that cannot be gone on with."""
        launch = self._table.launch_of(handle)
        handle.record.failure = failure
        handle.task = self._context.background.start(
            self._run_take_back(handle, launch, failure), name=f"clean up {handle.log_name}"
        )

    def take_back_again(self, handle: Handle) -> None:
        """Repeat the clean-up that an earlier Hub process had begun; its failure, if any, stays the reason."""
        launch = self._table.launch_of(handle)
        handle.task = self._context.background.start(
            self._run_take_back(handle, launch, handle.record.failure), name=f"clean up {handle.log_name}"
        )

    async def _run_take_back(self, handle: Handle, launch: Launch, failure: Failure | None) -> None:
        async with handle.lock:
            try:
                if handle.state in STARTING:
                    await self._table.move_or_go_on(
                        handle, Event.FAILED, failure=failure.to_dict() if failure else None
                    )
            except LeaseLost as error:
                self.lose(handle, error)
                return
            launch.board.close()
            await self.take_back(handle, launch, failure=failure)
