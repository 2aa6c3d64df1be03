"""Starting servers: admission, the claim, the steps, and what follows when one of them fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..core import admission, lifecycle
from ..core.errors import (
    AuthenticationStale,
    HubShuttingDown,
    LeaseLost,
    ServerBusy,
    ServerRunning,
    TooManyServers,
    TooManyStarts,
)
from ..core.lifecycle import Event, State
from ..store import starts
from .failures import FailureTally, explain
from .following import begin_progress, failed_event, last_words
from .handles import Handle, Start, new_future
from .launch import PHASE_OF_STEP, STEPS, Launch, check_still_running
from .server_secrets import SERVER_ROLE, decide_token_scopes, secrets_to_begin_with, warn_of_refused
from .steps import Step, finish_despite_cancellation, run_steps
from .stopping import Stops
from .table import ServerTable
from .watching import Watch

if TYPE_CHECKING:
    from ..user import User
    from .access import Caller
    from .context import HubContext


class Starts:
    """Everything that brings a server to ready."""

    def __init__(
        self, context: HubContext, table: ServerTable, stops: Stops, watch: Watch, failures: FailureTally
    ) -> None:
        self._context = context
        self._table = table
        self._stops = stops
        self._watch = watch
        self._failures = failures

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
        handle = self._table.handle(user, server_name)
        if lifecycle.is_active(handle.state):
            pending = lifecycle.pending(handle.state)
            if pending is None:
                raise ServerRunning(user.name, server_name)
            if pending == "spawn":
                context.reporting.start_refused(handle.log_name, "already-pending", "it is starting already")
            raise ServerBusy(user.name, server_name, pending=pending)
        previous = handle.record.failure
        self._table.set_state(handle, lifecycle.move(handle.state, Event.START))
        # From here on somebody may want to stop it, and must not be overheard.
        handle.cancelled, handle.stop, handle.task = False, None, None
        try:
            await self._admit(handle, handler)
            spawner = user.renew_spawner(server_name)
            left_behind = previous.left_behind if previous else ""
            asked: Any = spawner.server_token_scopes
            # What an earlier run has left is looked for first, with the token that it has.
            secrets = None if left_behind else secrets_to_begin_with(user, spawner)
            begun = await context.database.run(
                starts.begin,
                handle.record.id,
                role="" if asked else SERVER_ROLE,
                secrets=secrets,
                decide=lambda of_role, held: decide_token_scopes(user, spawner, asked or of_role, held),
                owner=context.leases.process_id,
                options=options,
                base_url=user.server_path(server_name),
                requested_by=requested_by.name if requested_by else "",
            )
        except BaseException:
            self._table.set_state(handle, State.STOPPED)
            if previous is None:
                self._table.forget(handle)
            await self._stops.finish(handle)
            raise
        handle.record.take(begun.server)
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
            scopes=(begun.role_scopes, begun.held),
            secrets=secrets,
            left_behind=left_behind,
        )
        if begun.granted is not None:
            # Also a start that is cancelled before its first step has these to take back.
            launch.begun = ["close", "secrets"]
            warn_of_refused(launch, begun.granted)
        self._table.bind(handle, launch)
        handle.output, handle.phases = [], []
        handle.start = Start(user, server_name, new_future())
        spawner._spawn_future = handle.start.done
        context.reporting.start_requested(handle.log_name, launch.requested_by)
        launch.board.post({"progress": 0, "message": "Server requested"})
        handle.task = context.background.start(self._run(handle, launch), name=f"start {handle.log_name}")
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
            admission.Load(self._table.count_pending_starts() - 1, self._table.count_active() - 1),
        )
        if decision:
            return
        if decision.retry_after is not None:
            context.reporting.start_refused(handle.log_name, "throttled", decision.reason)
            raise TooManyStarts(decision.reason, retry_after=decision.retry_after)
        context.reporting.start_refused(handle.log_name, "too-many-users", decision.reason)
        raise TooManyServers(decision.reason, limit=context.active_server_limit)

    def resume(self, handle: Handle, first_step: str) -> None:
        """Go on with a start that an earlier Hub process could not finish, from `first_step` on."""
        launch = self._table.launch_of(handle)
        names = [step.name for step in STEPS]
        launch.begun = names[: names.index(first_step)]
        handle.start = Start(handle.user, handle.name, new_future())
        launch.spawner._spawn_future = handle.start.done
        steps = STEPS[names.index(first_step) :]
        handle.task = self._context.background.start(self._run(handle, launch, steps), name=f"resume {handle.log_name}")

    async def _run(self, handle: Handle, launch: Launch, steps: Sequence[Step[Launch]] = STEPS) -> None:
        assert handle.start is not None
        done = handle.start.done
        began_undo = False
        messages: asyncio.Task[None] | None = None
        enter = self._enter(launch)

        def entering(step: Any) -> None:
            nonlocal messages
            enter(step)
            if step.name == "process":
                messages = begin_progress(self._context, launch)

        launch.entered = True
        try:
            try:
                await _acquire(handle.lock)
                if handle.cancelled:
                    raise asyncio.CancelledError()
                if handle.record.state and launch.left_behind:
                    await check_still_running(launch)
                await run_steps(steps, launch, begun=launch.begun, entering=entering)
                launch.end_phases()
                await self._table.move(handle, Event.ROUTED)
            except LeaseLost:
                raise
            except BaseException as error:
                began_undo = True
                await finish_despite_cancellation(self._abandon(handle, launch, error))
                return
            finally:
                handle.lock.release()
        except LeaseLost as error:
            self._stops.lose(handle, error)
            return
        finally:
            if messages is not None:
                messages.cancel()
            if not began_undo:
                launch.board.close()
        handle.record.failure = None
        self._failures.forget()
        self._context.reporting.ready(handle.log_name, launch.user.name, handle.name)
        self._watch.begin(handle)
        if not done.done():
            done.set_result(None)
        # Thousands may run for weeks: what only the start needed goes.
        launch.spawner._keep_less()
        handle.launch = handle.start = handle.task = launch.spawner._spawn_future = None
        self._context.bulletin.drop(handle.record.id)
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

    # Failing

    async def _abandon(self, handle: Handle, launch: Launch, error: BaseException) -> None:
        """A start failed or was cancelled: say why, take back what was done, and end the run."""
        cancelled = handle.cancelled or isinstance(error, asyncio.CancelledError)
        phase = launch.phase
        launch.end_phases()
        spawner = launch.spawner
        handle.output = await last_words(self._context, launch)
        handle.phases = [each.to_dict() for each in launch.phases]
        failure, outcome = explain(launch, error, phase, handle.output, cancelled)
        handle.record.failure = failure
        await self._table.move_or_go_on(handle, Event.STOP if cancelled else Event.FAILED, failure=failure.to_dict())
        # Whoever waits hears of it now; a hook or the clean-up may take minutes.
        launch.board.post(failed_event(failure, handle.output, handle.phases))
        launch.board.close()
        if not cancelled:
            self._failures.count(launch, failure, error, handle.output)
            await self._tell_error_hook(launch, error)
        spawner._failed = not cancelled
        await self._stops.take_back(handle, launch, failure=failure)
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


async def _acquire(lock: asyncio.Lock) -> None:
    """Acquire a lock; it is held also when this is cancelled."""
    if lock.locked():
        await finish_despite_cancellation(_acquire_patiently(lock))
    else:
        await lock.acquire()


async def _acquire_patiently(lock: asyncio.Lock) -> None:
    await lock.acquire()
