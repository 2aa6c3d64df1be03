"""ServerManager: start, stop, rename, check, adopt. The only writer of a server's state.

A request claims a server synchronously (no await between looking at its state and changing it), writes the wish
under a lease with a fencing number, and leaves the work to a task of the manager. Nobody else starts, stops or
polls a server.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TYPE_CHECKING, Any

from tornado import web

from ..core import admission, classify, lifecycle
from ..core.clock import utcnow
from ..core.errors import (
    AuthenticationStale,
    HubShuttingDown,
    LeaseLost,
    ServerBusy,
    ServerNotFound,
    ServerNotRunning,
    ServerRunning,
    StartCancelled,
    StartFailed,
    TooManyServers,
    TooManyStarts,
)
from ..core.lifecycle import Event, Failure, State
from ..store import runs
from .following import TAIL_LINES, failed_event, follow_start
from .handles import Handle, ServerStatus, Start, Stop, new_future
from .launch import ALL_STEPS, PHASE_OF_STEP, STEPS, Launch, call_plugin, check_still_running
from .steps import Step, finish_despite_cancellation, run_steps, undo_steps

if TYPE_CHECKING:
    from ..spawner import Spawner
    from ..user import User
    from .access import Caller
    from .context import HubContext

#: States in which a start is under way.
STARTING = frozenset({State.STARTING, State.CONNECTING, State.ROUTING})
#: Seconds between tries to write the end of a run while the database is away.
END_RETRY_SECONDS = (0.2, 0.5, 1, 2, 5, 10, 30, 60)


class ServerManager:
    """Owns the life of every server of this Hub."""

    def __init__(self, context: HubContext) -> None:
        self._context = context
        self._handles: dict[int, Handle] = {}
        self._counts: Counter[State] = Counter()
        self._failures = admission.FailureCount()
        #: Called with a sentence when `consecutive_failure_limit` starts in a row have failed.
        self.on_failure_limit: Callable[[str], None] | None = None

    # Looking

    def count_pending_starts(self) -> int:
        return sum(self._counts[state] for state in STARTING)

    def count_active(self) -> int:
        return sum(number for state, number in self._counts.items() if lifecycle.is_active(state))

    def active_handles(self) -> list[Handle]:
        return [handle for handle in self._handles.values() if lifecycle.is_active(handle.state)]

    def status(self, user: User, server_name: str = "") -> ServerStatus:
        """Return what is known about a server of this user; unknown servers are simply stopped."""
        record = user.records.get(server_name)
        state = record.lifecycle if record else State.STOPPED
        handle = self._handles.get(record.id) if record else None
        return ServerStatus(
            state=state,
            pending=lifecycle.pending(state),
            ready=lifecycle.is_ready(state),
            active=lifecycle.is_active(state),
            failure=record.failure if record else None,
            phases=self._phases(handle),
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
        """Return the last lines of the server's output, as far as its spawner can tell."""
        record = user.records.get(server_name)
        if record is None:
            return []
        handle = self._handles.get(record.id)
        if lifecycle.is_active(record.lifecycle):
            return await self.read_output(user.spawners[server_name], lines)
        return (handle.output if handle else list(record.output_tail))[-lines:]

    async def read_output(self, spawner: Spawner, lines: int) -> list[str]:
        logs = getattr(spawner, "logs", None)
        if logs is None:
            return []
        try:
            value = await call_plugin(self._context, f"{type(spawner).__name__}.logs", lambda: logs(lines), 5)
        except Exception as error:
            self._context.reporting.plugin_mistake(type(spawner).__name__, f"logs() failed: {error}")
            return []
        text = value.splitlines() if isinstance(value, str) else list(value or [])
        return [str(line) for line in text][-lines:]

    def start_of(self, user: User, server_name: str = "") -> Start | None:
        """Return the start under way, or the last one that failed, if this process knows it."""
        record = user.records.get(server_name)
        handle = self._handles.get(record.id) if record else None
        return handle.start if handle else None

    def stop_of(self, user: User, server_name: str = "") -> Stop | None:
        """Return the stop under way, if any."""
        record = user.records.get(server_name)
        handle = self._handles.get(record.id) if record else None
        return handle.stop if handle else None

    def _handle(self, user: User, server_name: str) -> Handle:
        record = user.records.get(server_name)
        if record is None:
            raise ServerNotFound(user.name, server_name)
        handle = self._handles.get(record.id)
        if handle is None or handle.record is not record:
            handle = self._handles[record.id] = Handle(user, server_name, record)
            self._counts[record.lifecycle] += 1
        return handle

    def _forget(self, handle: Handle) -> None:
        """Drop the handle of a server that is stopped; its facts are in the record and in the database."""
        if self._handles.get(handle.record.id) is handle:
            del self._handles[handle.record.id]
            self._counts[handle.state] -= 1

    def _set_state(self, handle: Handle, state: State) -> None:
        self._counts[handle.state] -= 1
        self._counts[state] += 1
        handle.record.lifecycle = state

    async def _move(self, handle: Handle, event: Event | str, **changes: Any) -> None:
        """One legal move: first the row, under our fence, then what this process believes.

        Raises IllegalMove, or LeaseLost when another Hub owns the server by now.
        """
        state = lifecycle.move(handle.state, Event(event))
        assert handle.launch is not None
        await self._context.database.run(
            runs.move,
            handle.record.id,
            handle.launch.fence,
            state=state.value,
            phases=[phase.to_dict() for phase in handle.launch.phases],
            **changes,
        )
        self._set_state(handle, state)
        if "spawner_state" in changes:
            handle.record.state = changes["spawner_state"]

    # Starting

    async def start(
        self,
        user: User,
        server_name: str = "",
        *,
        display_name: str = "",
        options: dict[str, Any] | None = None,
        handler: Any = None,
        requested_by: Caller | None = None,
    ) -> Start:
        """Admit a start and begin it. Returns at once; the work goes on in a task of the manager.

        Raises ServerBusy, ServerRunning, AuthenticationStale, TooManyStarts, TooManyServers,
        HubShuttingDown or ServerNotFound.
        """
        context = self._context
        if context.shutting_down:
            raise HubShuttingDown()
        await user.ensure_server(server_name, display_name)
        handle = self._handle(user, server_name)
        if lifecycle.is_active(handle.state):
            pending = lifecycle.pending(handle.state)
            if pending is None:
                raise ServerRunning(user.name, server_name)
            if pending == "spawn":
                context.reporting.start_refused(handle.log_name, "already-pending", "it is starting already")
            raise ServerBusy(user.name, server_name, pending=pending)
        previous = handle.record.failure
        self._set_state(handle, lifecycle.move(handle.state, Event.START))
        try:
            await self._admit(handle, handler)
            spawner = user.renew_spawner(server_name)
            row = await context.database.run(
                runs.begin,
                handle.record.id,
                owner=context.leases.process_id,
                options=options,
                base_url=user.server_path(server_name),
                requested_by=requested_by.name if requested_by else "",
            )
        except BaseException:
            self._set_state(handle, State.STOPPED)
            if previous is None:
                self._forget(handle)
            raise
        handle.record.take(row)
        launch = Launch(
            context,
            user,
            spawner,
            handle.record.id,
            handle.record.fence,
            context.bulletin.open(handle.record.id),
            options=options,
            handler=handler,
            requested_by=requested_by.name if requested_by else "",
        )
        launch.move = lambda event, **changes: self._move(handle, event, **changes)
        handle.launch, handle.cancelled, handle.stop = launch, False, None
        handle.output, handle.phases = [], []
        handle.start = Start(user, server_name, new_future())
        spawner._spawn_future = handle.start.done
        context.reporting.start_requested(handle.log_name, launch.requested_by)
        launch.board.post({"progress": 0, "message": "Server requested"})
        handle.task = context.background.start(self._run_start(handle, launch), name=f"start {handle.log_name}")
        return handle.start

    async def _admit(self, handle: Handle, handler: Any) -> None:
        context = self._context
        if context.authenticator.refresh_pre_spawn:
            fresh = await context.logins.refresh(handle.user, handler, force=True)
            if fresh is None:
                raise AuthenticationStale()
        # This server has been claimed already and must not count against itself.
        decision = admission.decide_start(
            admission.Limits(
                context.concurrent_spawn_limit, context.active_server_limit, context.spawn_throttle_retry_range
            ),
            admission.Load(self.count_pending_starts() - 1, self.count_active() - 1),
        )
        if decision:
            return
        if decision.retry_after is not None:
            context.reporting.start_refused(handle.log_name, "throttled", decision.reason)
            raise TooManyStarts(decision.reason, retry_after=decision.retry_after)
        context.reporting.start_refused(handle.log_name, "too-many-users", decision.reason)
        raise TooManyServers(decision.reason, limit=context.active_server_limit)

    async def _run_start(self, handle: Handle, launch: Launch, steps: Sequence[Step[Launch]] = STEPS) -> None:
        assert handle.start is not None
        done = handle.start.done
        began_undo = False
        try:
            async with handle.lock:
                try:
                    if handle.record.state and handle.record.failure and handle.record.failure.cause == "not-stopped":
                        await check_still_running(launch)
                    await run_steps(steps, launch, begun=launch.begun, entering=self._enter(launch))
                    launch.end_phases()
                    await self._move(handle, Event.ROUTED)
                except LeaseLost:
                    raise
                except BaseException as error:
                    began_undo = True
                    await finish_despite_cancellation(self._abandon(handle, launch, error))
                    return
        except LeaseLost as error:
            # Another Hub owns the server now; ours must not touch it any more.
            self._context.log.error("Server %s belongs to another Hub by now: %s", handle.log_name, error)
            done.set_exception(StartFailed(_lost(error)))
            self._forget(handle)
            return
        finally:
            if not began_undo:
                launch.board.close()
        handle.record.failure = None
        self._failures = self._failures.after_success()
        self._context.reporting.ready(handle.log_name, launch.user.name, handle.name)
        self._watch(handle, launch)
        if not done.done():
            done.set_result(None)
        await self._after_ready(launch)

    async def _after_ready(self, launch: Launch) -> None:
        """The plugin's own hook after a successful start; its failure is its own, the server stays."""
        try:
            await launch.plugin("post_spawn_hook", launch.spawner.run_post_spawn_hook)
        except Exception as error:
            self._context.reporting.plugin_mistake(type(launch.spawner).__name__, f"post_spawn_hook failed: {error}")

    def _enter(self, launch: Launch) -> Callable[[Any], None]:
        def enter(step: Any) -> None:
            phase = PHASE_OF_STEP.get(step.name)
            if phase:
                launch.enter_phase(phase)

        return enter

    async def _abandon(self, handle: Handle, launch: Launch, error: BaseException) -> None:
        """A start failed or was cancelled: say why, take back what was done, and end the run."""
        cancelled = handle.cancelled or isinstance(error, asyncio.CancelledError)
        phase = launch.phase
        launch.end_phases()
        spawner = launch.spawner
        handle.output = await self.read_output(spawner, TAIL_LINES)
        failure, outcome = self._explain(launch, error, phase, handle.output, cancelled)
        handle.record.failure = failure
        await self._move_or_lose(handle, Event.STOP if cancelled else Event.FAILED, failure=failure.to_dict())
        if not cancelled:
            await self._tell_error_hook(launch, error)
        # Whoever waits hears of it now; the clean-up may take minutes.
        launch.board.post(failed_event(failure, handle.output))
        launch.board.close()
        if not cancelled:
            self._count_failure(launch, failure, outcome, error)
        spawner._failed = not cancelled
        await self._take_back(handle, launch, failure=failure)
        assert handle.start is not None
        if not handle.start.done.done():
            handle.start.done.set_exception(outcome)

    async def _tell_error_hook(self, launch: Launch, error: BaseException) -> None:
        if not isinstance(error, Exception):
            return
        try:
            await launch.plugin("spawn_error_hook", lambda: launch.spawner.run_spawn_error_hook(error))
        except Exception as problem:
            self._context.reporting.plugin_mistake(type(launch.spawner).__name__, f"spawn_error_hook failed: {problem}")

    def _explain(
        self, launch: Launch, error: BaseException, phase: str, output: list[str], cancelled: bool
    ) -> tuple[Failure, Exception]:
        """Return the classified failure and the exception for whoever waits on the start."""
        if cancelled:
            failure = Failure(cause="cancelled", message="The start was cancelled.", phase=phase, at=utcnow())
            return failure, StartCancelled(failure)
        verdict = classify.classify(
            error_type=type(error).__name__,
            message=str(error),
            errno=getattr(error, "errno", None),
            exit_status=getattr(error, "exit_status", None),
            output=output,
            phase=phase,
            plugin=type(launch.spawner).__name__,
            start_timeout=float(launch.spawner.start_timeout),
            http_timeout=float(launch.spawner.http_timeout),
        )
        own_message = getattr(error, "jupyterhub_message", "") or ""
        html = getattr(error, "jupyterhub_html_message", "") or ""
        status = error.status_code if isinstance(error, web.HTTPError) else 500
        text = own_message or (error.log_message if isinstance(error, web.HTTPError) and error.log_message else "")
        failure = Failure(
            cause=verdict.cause,
            message=text or verdict.sentence,
            next_step=verdict.next_step,
            html_message=html,
            phase=phase,
            status=status,
            detail=str(error),
            at=utcnow(),
        )
        if isinstance(error, web.HTTPError) or own_message or html:
            assert isinstance(error, Exception)
            return failure, error
        outcome = StartFailed(failure)
        outcome.__cause__ = error
        return failure, outcome

    def _count_failure(self, launch: Launch, failure: Failure, outcome: Exception, error: BaseException) -> None:
        reason = getattr(error, "reason", None) if isinstance(error, web.HTTPError) else None
        is_refusal = isinstance(error, web.HTTPError) and error.status_code < 500
        is_policy = type(error).__name__ == "SpawnException" or hasattr(error, "spawn_refused")
        if is_policy:
            status, label = "failure", str(reason or "error")
        elif isinstance(error, web.HTTPError):
            status, label = ("failure" if is_refusal else "error"), "error"
        else:
            status, label = "error", ""
        self._context.reporting.start_failed(
            launch.log_name,
            failure,
            status=status,
            reason=label,
            began=launch.began,
            error=error,
            expected=is_policy or is_refusal,
        )
        if is_policy or is_refusal:
            return
        limit = int(launch.spawner.consecutive_failure_limit or 0)
        self._failures = admission.FailureCount(limit, self._failures.in_a_row).after_failure()
        if self._failures.should_warn:
            self._context.log.warning("%i starts in a row have failed", self._failures.in_a_row)
        if self._failures.should_exit and self.on_failure_limit is not None:
            self.on_failure_limit(
                f"{self._failures.in_a_row} starts in a row have failed, the limit is "
                f"{type(launch.spawner).__name__}.consecutive_failure_limit = {limit}"
            )

    # Stopping

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
        handle = self._handle(user, server_name)
        context = self._context
        if handler is not None and context.authenticator.refresh_pre_stop:
            fresh = await context.logins.refresh(user, handler, force=True)
            if fresh is None and (requested_by is None or requested_by.name == user.name):
                raise AuthenticationStale()
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
        handle.stop = Stop(user, server_name, new_future())
        if state in STARTING:
            context.reporting.stopping(handle.log_name, "while it was starting")
            handle.cancelled = True
            if handle.task is not None:
                handle.task.cancel()
            return handle.stop
        self._begin_stop(handle, Event.STOP, requested=True, why=why)
        return handle.stop

    def _begin_stop(self, handle: Handle, event: Event, *, requested: bool, why: str) -> None:
        """Claim a ready server for stopping, in memory and at once; the task writes it down first thing."""
        if handle.stop is None or handle.stop.done.done():
            handle.stop = Stop(handle.user, handle.name, new_future())
        before = handle.state
        self._set_state(handle, lifecycle.move(before, event))
        handle.task = self._context.background.start(
            self._run_stop(handle, requested=requested, why=why), name=f"stop {handle.log_name}"
        )

    async def _run_stop(self, handle: Handle, *, requested: bool, why: str) -> None:
        launch = self.recovered_launch(handle)
        began = time.monotonic()
        self._context.reporting.stopping(handle.log_name, why)
        async with handle.lock:
            try:
                await self._context.database.run(
                    runs.move, handle.record.id, launch.fence, state=State.STOPPING.value, phases=None
                )
            except LeaseLost as error:
                self._lost_lease(handle, error)
                return
            failure = None
            if not requested and launch.process_gone:
                handle.output = await self.read_output(launch.spawner, TAIL_LINES)
            await self._take_back(handle, launch, failure=failure, requested=requested, began=began)

    async def _take_back(
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
            failure = Failure(
                cause="not-stopped",
                message=f"The server may still be running: {problem}",
                phase="stopping",
                at=utcnow(),
                next_step="Start it again: the old one is looked for first.",
            )
        handle.phases = [phase.to_dict() for phase in launch.phases]
        try:
            await self._end_run(handle, launch, failure)
        except LeaseLost as error:
            self._lost_lease(handle, error)
            return
        handle.record.failure = failure
        handle.record.output_tail = list(handle.output)
        handle.launch = None
        self._set_state(handle, State.STOPPED)
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
            self._forget(handle)
        if handle.remove_when_stopped and handle.name:
            handle.remove_when_stopped = False
            await self.remove(launch.user, handle.name)
        stop = handle.stop
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
        handle.record.server = None
        handle.record.started = None

    async def _move_or_lose(self, handle: Handle, event: Event, **changes: Any) -> None:
        try:
            await self._move(handle, event, **changes)
        except LeaseLost:
            raise
        except Exception as error:
            # Taking back must go on even when the database is away; the end of the run is written with patience.
            self._context.log.error("The move '%s' of %s is not stored: %s", event.value, handle.log_name, error)
            self._set_state(handle, lifecycle.move(handle.state, event))

    def _lost_lease(self, handle: Handle, error: LeaseLost) -> None:
        self._context.log.error("Server %s belongs to another Hub by now: %s", handle.log_name, error)
        if handle.stop is not None and not handle.stop.done.done():
            handle.stop.done.set_exception(error)
        if handle.start is not None and not handle.start.done.done():
            handle.start.done.set_exception(StartFailed(_lost(error)))
        self._forget(handle)

    # Watching

    def _watch(self, handle: Handle, launch: Launch) -> None:
        """React to what the spawner's own polling finds: the server is gone, or was started anew by its plugin."""
        launch.spawner.add_poll_callback(self._found_gone, handle)
        handle.record.on_polled = lambda: self._polled(handle)

    async def _polled(self, handle: Handle) -> None:
        """The spawner polled by itself: settle what its plugin left in the database, and follow a restart."""
        database = self._context.database
        if database.has_plugin_session:
            database.settle_plugin_session(f"poll of {handle.log_name}")
        await self.note_new_address(handle)

    def _found_gone(self, handle: Handle) -> None:
        """Called by the spawner's own polling once its `poll` no longer says "running"."""
        if handle.state is not State.READY or handle.launch is None:
            return
        handle.launch.process_gone = True
        self._context.reporting.exited(handle.log_name, getattr(handle.launch.spawner, "_exit_status", 0) or 0)
        self._begin_stop(handle, Event.EXITED, requested=False, why="it is gone")

    async def check(self, user: User, server_name: str = "") -> bool:
        """Poll a server that is believed to be ready. Returns whether it really runs; a dead one is settled first."""
        handle = self._handle(user, server_name)
        if handle.state is not State.READY:
            return False
        launch = self.recovered_launch(handle)
        async with handle.lock:
            if handle.state is not State.READY:
                return False
            try:
                status = await launch.plugin("poll", launch.spawner.poll_once, 30)
            except Exception as error:
                # Not knowing is no reason to take somebody's server away.
                self._context.log.error("poll of %s failed: %s", handle.log_name, error)
                return True
            await self.note_new_address(handle)
            if status is None:
                return True
            launch.process_gone = True
            self._context.reporting.exited(handle.log_name, status)
            self._begin_stop(handle, Event.EXITED, requested=False, why="it is gone")
        assert handle.stop is not None
        await handle.stop.wait(self._context.slow_stop_timeout)
        return False

    async def note_new_address(self, handle: Handle) -> None:
        """Store and route the address of a server that its plugin restarted by itself, inside `poll` (S9)."""
        record, launch = handle.record, handle.launch
        if launch is None or not record.address_changed or record.server is None:
            return
        record.address_changed = False
        server, state = record.server, launch.spawner.get_state()
        await self._context.database.run(
            runs.move,
            record.id,
            launch.fence,
            state=State.READY.value,
            phases=None,
            address=(server.proto, server.ip, server.port),
            spawner_state=state,
        )
        record.state = state
        await self._context.routes.add_server(handle.user, launch.spawner)
        self._context.log.info("Server %s was restarted by its spawner, now at %s", handle.log_name, server.url)

    # Following

    async def progress(self, user: User, server_name: str = "") -> AsyncGenerator[dict[str, Any], None]:
        """Yield the events of a start: what is known so far, then new ones, then exactly one terminal event.

        Members: progress, message, html_message (rest-api §4.7), and ours: phase, phases, log, failure.
        Raises ServerNotFound or ServerNotRunning when there is nothing to follow.
        """
        async for event in follow_start(self._context, self._handle(user, server_name), self.read_output):
            yield event

    # Renaming and removing

    async def rename(self, user: User, server_name: str, new_name: str) -> None:
        """Rename a stopped server. The spawner may veto by raising.

        Raises ServerBusy unless it is stopped, ServerNotFound.
        """
        handle = self._handle(user, server_name)
        if handle.state is not State.STOPPED:
            raise ServerBusy(user.name, server_name, pending=lifecycle.pending(handle.state) or "check")
        self._set_state(handle, lifecycle.move(handle.state, Event.RENAME))
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
            self._set_state(handle, State.STOPPED)
            self._forget(handle)

    async def remove(self, user: User, server_name: str) -> None:
        """Delete a stopped named server for good: the plugin's clean-up first, then its row.

        Raises ServerBusy unless it is stopped, ServerNotFound.
        """
        handle = self._handle(user, server_name)
        if handle.state is not State.STOPPED:
            raise ServerBusy(user.name, server_name, pending=lifecycle.pending(handle.state) or "check")
        async with handle.lock:
            await self.clean_up_forever(user, server_name)
            await self._context.database.run(runs.remove, handle.record.id)
            self._context.bulletin.drop(handle.record.id)
            self._forget(handle)
            user.note_removed(server_name)

    async def clean_up_forever(self, user: User, server_name: str) -> None:
        """Let the spawner delete what it keeps for a server; its failure is logged and stops nothing."""
        spawner = user.spawners[server_name]
        try:
            await call_plugin(self._context, f"{type(spawner).__name__}.delete_forever", spawner.delete_forever, 120)
        except Exception as error:
            self._context.reporting.plugin_mistake(type(spawner).__name__, f"delete_forever failed: {error}")
        user.drop_spawner(server_name)

    # After a restart, and at the end

    def adopt(self, user: User, server_name: str) -> Handle:
        """Take over a server found in the database; the recovery brings it to ready or stopped."""
        return self._handle(user, server_name)

    def recovered_launch(self, handle: Handle) -> Launch:
        """Return the run of a server that an earlier Hub process started: everything begun, nothing remembered."""
        if handle.launch is None:
            launch = Launch(
                self._context,
                handle.user,
                handle.spawner,
                handle.record.id,
                handle.record.fence,
                self._context.bulletin.board(handle.record.id) or self._context.bulletin.open(handle.record.id),
                begun=list(ALL_STEPS),
            )
            launch.move = lambda event, **changes: self._move(handle, event, **changes)
            handle.launch = launch
        return handle.launch

    def resume_start(self, handle: Handle, first_step: str) -> None:
        """Go on with a start that an earlier Hub process could not finish, from `first_step` on."""
        launch = self.recovered_launch(handle)
        names = [step.name for step in STEPS]
        launch.begun = names[: names.index(first_step)]
        handle.start = Start(handle.user, handle.name, new_future())
        launch.spawner._spawn_future = handle.start.done
        steps = STEPS[names.index(first_step) :]
        handle.task = self._context.background.start(
            self._run_start(handle, launch, steps), name=f"resume {handle.log_name}"
        )

    def fail_interrupted(self, handle: Handle, failure: Failure) -> None:
        """Take back a start that an earlier Hub process did not finish and that cannot be gone on with."""
        launch = self.recovered_launch(handle)
        handle.record.failure = failure
        handle.task = self._context.background.start(
            self._run_take_back(handle, launch, failure), name=f"clean up {handle.log_name}"
        )

    def take_back_again(self, handle: Handle) -> None:
        """Repeat the clean-up that an earlier Hub process had begun; its failure, if any, stays the reason."""
        launch = self.recovered_launch(handle)
        handle.task = self._context.background.start(
            self._run_take_back(handle, launch, handle.record.failure), name=f"clean up {handle.log_name}"
        )

    async def _run_take_back(self, handle: Handle, launch: Launch, failure: Failure | None) -> None:
        async with handle.lock:
            try:
                if handle.state in STARTING:
                    await self._move_or_lose(handle, Event.FAILED, failure=failure.to_dict() if failure else None)
            except LeaseLost as error:
                self._lost_lease(handle, error)
                return
            launch.board.close()
            await self._take_back(handle, launch, failure=failure)

    async def accept_running(self, handle: Handle) -> None:
        """A server that ran while no Hub did is ready again: poll it, and react when it goes."""
        launch = self.recovered_launch(handle)
        if handle.state is State.CHECKING:
            await self._move(handle, Event.ALIVE)
        launch.spawner.start_polling()
        self._watch(handle, launch)
        self._context.reporting.adopted(handle.log_name, handle.record.server.url if handle.record.server else "")

    def found_dead(self, handle: Handle, *, process_gone: bool, why: str) -> None:
        """A server believed to run does not, or does not answer: stop it."""
        self.recovered_launch(handle).process_gone = process_gone
        event = Event.DEAD if handle.state is State.CHECKING else Event.EXITED
        self._begin_stop(handle, event, requested=False, why=why)

    async def stop_all(self, timeout: float) -> None:
        """Stop every active server, as far as `timeout` seconds allow. For `cleanup_servers` at shutdown."""
        stops = []
        for handle in self.active_handles():
            try:
                stops.append((await self.stop(handle.user, handle.name, why="the Hub shuts down")).done)
            except (ServerNotRunning, ServerBusy) as error:
                self._context.log.warning("Not stopped at shutdown: %s", error)
        if stops:
            await asyncio.wait(stops, timeout=timeout)

    def let_go(self) -> None:
        """Forget everything without touching a server: the Hub ends, servers stay."""
        for handle in list(self._handles.values()):
            if handle.launch is not None and handle.state is State.READY:
                handle.launch.spawner.stop_polling()


def _lost(error: Exception) -> Failure:
    return Failure(
        cause="lease-lost",
        message="Another Hub has taken over this server.",
        phase="",
        at=utcnow(),
        detail=str(error),
    )
