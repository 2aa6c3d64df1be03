"""One move of a server → one log line, one metric, one event. Every change of state passes here."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import metrics
from ..core.lifecycle import Failure

if TYPE_CHECKING:
    from .context import HubContext

SERVER_ACTION_SCHEMA = "https://schema.jupyter.org/jupyterhub/events/server-action"


#: What would move the cursor of whoever reads the log in a terminal, or begin a line.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


def _advice(failure: Failure) -> str:
    return f"\n  What to do: {failure.next_step}" if failure.next_step else ""


def _quoted(output: Sequence[str]) -> str:
    """Return the last lines of a server marked as its own, so that none can pass for a line of the Hub's log."""
    if not output:
        return ""
    lines = (_UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", line) for line in output)
    return "".join(["\n  The last that it said:", *(f"\n  | {line}" for line in lines)])


def _some(names: Sequence[str], most: int = 20) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


class Reporting:
    """Tells operators what happened to servers (metrics §1.1, §5)."""

    def __init__(self, context: HubContext) -> None:
        self._context = context

    def start_refused(self, log_name: str, reason: str, sentence: str) -> None:
        """A start was not admitted. `reason` is the metric's label (throttled, too-many-users, already-pending)."""
        self._context.log.warning("Start of %s refused (%s): %s", log_name, reason, sentence)
        metrics.SERVER_SPAWN_DURATION_SECONDS.labels(status=metrics.ServerSpawnStatus.failure, reason=reason).observe(0)

    def start_requested(self, log_name: str, requested_by: str) -> None:
        """A start was admitted."""
        self._context.log.info("Starting server %s%s", log_name, f" for {requested_by}" if requested_by else "")
        metrics.RUNNING_SERVERS.inc()

    def answered(self, log_name: str, began: float) -> None:
        """A server answers. `began` is the monotonic time of the request that started it."""
        took = time.monotonic() - began
        self._context.log.info("Server %s answers, %.3f s after the request", log_name, took)
        metrics.SERVER_SPAWN_DURATION_SECONDS.labels(status=metrics.ServerSpawnStatus.success, reason="").observe(took)

    def ready(self, log_name: str, user_name: str, server_name: str) -> None:
        """A server is ready and routed."""
        self._context.log.debug("Server %s is ready", log_name)
        self._emit("start", user_name, server_name)

    def start_failed(
        self,
        log_name: str,
        failure: Failure,
        *,
        status: str,
        reason: str,
        began: float,
        error: BaseException | None,
        output: Sequence[str],
        expected: bool,
    ) -> None:
        """A start failed. An expected failure (a refusal by policy, an HTTP error below 500) has no traceback."""
        log = self._context.log
        metrics.SERVER_FAILURES_TOTAL.labels(cause=failure.cause).inc()
        text = (
            f"Server {log_name} did not start: {failure.message} [{failure.cause}, phase {failure.phase or 'unknown'}]"
            f"{_advice(failure)}{'' if expected else _quoted(output)}"
        )
        if expected or error is None:
            log.warning("%s", text)
        else:
            log.error("%s", text, exc_info=(type(error), error, error.__traceback__))
        metrics.SERVER_SPAWN_DURATION_SECONDS.labels(
            status=getattr(metrics.ServerSpawnStatus, status), reason=reason
        ).observe(time.monotonic() - began)

    def undo_failed(self, log_name: str, step: str, error: Exception) -> None:
        """Taking back one step failed; the others are still taken back."""
        self._context.log.error(
            "While cleaning up server %s the step '%s' failed: %s",
            log_name,
            step,
            error,
            exc_info=(type(error), error, error.__traceback__),
        )

    def exited(self, log_name: str, status: int) -> None:
        """A poll found that a server is gone."""
        self._context.log.warning("Server %s is gone, exit status %s", log_name, status)

    def ended(self, log_name: str, failure: Failure, output: Sequence[str]) -> None:
        """Why a server that had been ready is gone."""
        metrics.SERVER_FAILURES_TOTAL.labels(cause=failure.cause).inc()
        self._context.log.warning(
            "Server %s: %s [%s]%s%s", log_name, failure.message, failure.cause, _advice(failure), _quoted(output)
        )

    def stopping(self, log_name: str, why: str) -> None:
        """A server is about to be stopped."""
        self._context.log.info("Stopping server %s%s", log_name, f" ({why})" if why else "")

    def stopped(
        self, log_name: str, user_name: str, server_name: str, *, took: float, requested: bool, problem: str
    ) -> None:
        """A server is stopped. `requested` tells a person's stop from an exit or a shutdown; only that is an event."""
        metrics.RUNNING_SERVERS.dec()
        if problem:
            self._context.log.error("Server %s: %s", log_name, problem)
        else:
            self._context.log.info("Server %s stopped in %.3f s", log_name, took)
        if requested:
            status = metrics.ServerStopStatus.failure if problem else metrics.ServerStopStatus.success
            metrics.SERVER_STOP_DURATION_SECONDS.labels(status=status).observe(took)
            if not problem:
                self._emit("stop", user_name, server_name)

    def waiting_for_stops(self, log_names: Sequence[str], timeout: float) -> None:
        """The Hub ends, and waits for servers, at most `timeout` seconds."""
        until = time.strftime("%H:%M:%S", time.localtime(time.time() + timeout))
        self._context.log.info(
            "Waiting until %s at the latest for %i servers to stop: %s", until, len(log_names), _some(log_names)
        )

    def left_stopping(self, log_names: Sequence[str], timeout: float) -> None:
        """The Hub ends without having seen the end of some servers."""
        self._context.log.error(
            "%i servers have not stopped within %g s, and are left to the next Hub: %s",
            len(log_names),
            timeout,
            _some(log_names),
        )

    def adopted(self, log_name: str, url: str) -> None:
        """A server that ran while no Hub did is ours again."""
        self._context.log.debug("Server %s still runs at %s", log_name, url)

    def unhealthy(self, log_name: str, failed: int, problem: str) -> None:
        """A server fails its health checks."""
        self._context.log.warning("Server %s failed %i health checks in a row: %s", log_name, failed, problem)

    def healthy_again(self, log_name: str) -> None:
        """A server passes its health checks again."""
        self._context.log.info("Server %s passes its health checks again", log_name)

    def restarted(
        self, log_name: str, user_name: str, server_name: str, reason: metrics.ServerRestartReason, why: str
    ) -> None:
        """A server is started again although nobody asked for it."""
        self._context.log.warning("Server %s is restarted (%s): %s", log_name, reason, why)
        metrics.SERVER_RESTARTS_TOTAL.labels(reason=reason).inc()
        self._emit("restart", user_name, server_name)

    def plugin_mistake(self, plugin: str, what: str) -> None:
        """A plugin broke its contract."""
        self._context.log.error("Mistake of the plugin %s: %s", plugin, what)

    def _emit(self, action: str, user_name: str, server_name: str) -> None:
        eventlog: Any = self._context.eventlog
        if eventlog is None:
            return
        try:
            eventlog.emit(
                schema_id=SERVER_ACTION_SCHEMA,
                data={"action": action, "username": user_name, "servername": server_name},
            )
        except Exception:
            self._context.log.exception("The event '%s %s/%s' could not be written", action, user_name, server_name)
