"""What a failed start means: for its owner, for whoever waits, and for the Hub when many fail in a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tornado import web

from ..core import admission, classify
from ..core.clock import utcnow
from ..core.errors import StartCancelled, StartFailed
from ..core.lifecycle import Failure

if TYPE_CHECKING:
    from .context import HubContext
    from .launch import Launch


def explain(
    launch: Launch, error: BaseException, phase: str, output: list[str], cancelled: bool
) -> tuple[Failure, Exception]:
    """Return the classified failure of a start and the exception for whoever waits for it."""
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


def lease_lost(error: Exception) -> Failure:
    """Return the failure of a server that another Hub owns by now."""
    return Failure(
        cause="lease-lost",
        message="Another Hub has taken over this server.",
        phase="",
        at=utcnow(),
        detail=str(error),
    )


class FailureTally:
    """Counts the starts that failed one after the other, and says when there were too many."""

    def __init__(self, context: HubContext) -> None:
        self._context = context
        self._count = admission.FailureCount()
        #: Called with a sentence when `consecutive_failure_limit` starts in a row have failed.
        self.on_limit: Callable[[str], None] | None = None

    def forget(self) -> None:
        """A start succeeded."""
        self._count = self._count.after_success()

    def count(self, launch: Launch, failure: Failure, error: BaseException) -> None:
        """Report a failed start. What the plugin or a policy refused on purpose is no sign of a broken system."""
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
        self._count = admission.FailureCount(limit, self._count.in_a_row).after_failure()
        if self._count.should_warn:
            self._context.log.warning("%i starts in a row have failed", self._count.in_a_row)
        if self._count.should_exit and self.on_limit is not None:
            self.on_limit(
                f"{self._count.in_a_row} starts in a row have failed, the limit is "
                f"{type(launch.spawner).__name__}.consecutive_failure_limit = {limit}"
            )
