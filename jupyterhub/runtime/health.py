"""Health checks of running servers, and starting those again that fail (spawner-system S9).

Off unless a spawner's settings ask for it. A server is judged from the moment it is ready to the moment it is stopped,
never while it boots.
"""

from __future__ import annotations

import asyncio
import inspect
import types
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ..core.clock import utcnow
from ..core.errors import HubError
from ..core.lifecycle import Event, Failure, State
from ..core.urls import url_path_join
from ..metrics import ServerRestartReason
from ..net import fetch_head
from ..store import runs
from .handles import Handle, Start
from .launch import call_plugin, server_ssl_context
from .stopping import Stops
from .table import ServerTable

if TYPE_CHECKING:
    from ..spawner import Spawner
    from ..user import User
    from .context import HubContext

#: Restarts that are remembered, for the owner's page.
KEPT_RESTARTS = 10


class Health:
    """Asks servers whether they work; restarts the ones that do not, if their spawner says so."""

    def __init__(
        self,
        context: HubContext,
        table: ServerTable,
        stops: Stops,
        *,
        start: Callable[[User, str], Awaitable[Start]],
    ) -> None:
        self._context = context
        self._table = table
        self._stops = stops
        self._start = start

    # Checking

    def begin(self, handle: Handle) -> None:
        """Look after a server that is ready, for as long as this run of it lasts."""
        handle.record.unhealthy_since = None
        if checks_health(handle.spawner):
            self._context.background.start(self._look_after(handle), name=f"health of {handle.log_name}")

    async def _look_after(self, handle: Handle) -> None:
        record, fence = handle.record, handle.record.fence
        failed = 0
        while True:
            await asyncio.sleep(float(handle.spawner.health_interval))
            if handle.state is not State.READY or record.fence != fence:
                return
            spawner = handle.spawner
            problem = await self._problem_of(spawner)
            if handle.state is not State.READY or record.fence != fence:
                return
            if problem is None:
                failed = 0
                if record.unhealthy_since is not None:
                    record.unhealthy_since = None
                    self._context.reporting.healthy_again(handle.log_name)
                continue
            failed += 1
            self._context.log.debug("Health check %i of %s failed: %s", failed, handle.log_name, problem)
            if failed < spawner.health_failure_limit or record.unhealthy_since is not None:
                continue
            record.unhealthy_since = utcnow()
            self._context.reporting.unhealthy(handle.log_name, failed, problem)
            if self.may_restart(handle):
                self.restart(handle, ServerRestartReason.unhealthy, f"It failed {failed} health checks: {problem}")

    async def _problem_of(self, spawner: Spawner) -> str | None:
        """Return what is wrong with a server, or None."""
        check: Any = spawner.health_check
        timeout = float(spawner.health_timeout)
        try:
            if callable(check):
                name = f"{type(spawner).__name__}.health_check"
                if await call_plugin(self._context, name, lambda: check(spawner), timeout):
                    return None
                return "health_check says so"
            url = url_path_join(spawner.url, "api")
            answer = await fetch_head(url, timeout=timeout, ssl_context=server_ssl_context(self._context))
        except Exception as error:
            return str(error) or type(error).__name__
        return None if answer.code < 500 else f"{url} answered {answer.code} {answer.reason}".rstrip()

    # Restarting

    def may_restart(self, handle: Handle) -> bool:
        """Return whether the spawner's settings let a server be started again now; says so when it was too often."""
        spawner = handle.spawner
        if spawner.restart_policy != "on-failure" or self._context.shutting_down:
            return False
        since = utcnow() - timedelta(seconds=float(spawner.restart_window))
        lately = sum(datetime.fromisoformat(restart["at"]) > since for restart in handle.record.restarts)
        if lately < spawner.restart_limit:
            return True
        self._context.log.error(
            "Server %s was restarted %i times in %g s and is not restarted again",
            handle.log_name,
            lately,
            spawner.restart_window,
        )
        return False

    def restart(self, handle: Handle, reason: ServerRestartReason, why: str, *, process_gone: bool = False) -> None:
        """Stop a server and start it again, in the background. A person who stops it meanwhile has the last word."""
        handle.restart = True
        failure = Failure(
            cause="unhealthy" if reason is ServerRestartReason.unhealthy else "exited",
            message=f"{why}. It was stopped in order to be started again",
            next_step="Start it again if it is not running by now.",
            at=utcnow(),
        )
        self._stops.begin(handle, Event.EXITED, requested=False, why=why, process_gone=process_gone, failure=failure)
        self._context.background.start(self._start_again(handle, reason, why), name=f"restart {handle.log_name}")

    async def _start_again(self, handle: Handle, reason: ServerRestartReason, why: str) -> None:
        context, record = self._context, handle.record
        restarts = list(record.restarts)
        assert handle.stop is not None
        try:
            await handle.stop.done
            if not handle.restart or context.shutting_down:
                return
            await self._start(handle.user, handle.name)
        except HubError as error:
            context.log.error("Server %s could not be started again: %s", handle.log_name, error)
            return
        await self.note_restart(handle, reason, why, restarts)

    async def note_restart(
        self, handle: Handle, reason: ServerRestartReason, why: str, before: list[dict[str, str]] | None = None
    ) -> None:
        """Tell owner and operators of a restart nobody asked for. `before` are earlier ones, by default the record's."""
        record = handle.record
        known = record.restarts if before is None else before
        record.restarts = [*known, {"at": utcnow().isoformat(), "reason": why}][-KEPT_RESTARTS:]
        self._context.reporting.restarted(handle.log_name, handle.user.name, handle.name, reason, why)
        await self._context.database.run(runs.note_restarts, record.id, record.fence, record.restarts)


def checks_health(spawner: Spawner) -> bool:
    """Return whether the Hub is to check a server. A method of the class is for the class's own use (S9)."""
    own = isinstance(inspect.getattr_static(type(spawner), "health_check"), types.FunctionType)
    return not own and bool(spawner.health_check)
