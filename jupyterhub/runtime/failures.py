"""What a failed start means: for its owner, for whoever waits, and for the Hub when many fail in a row."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tornado import web

from .._version import INTERFACE_VERSION
from ..core import admission
from ..core.classify import Evidence, classify
from ..core.clock import utcnow
from ..core.errors import StartCancelled, StartFailed
from ..core.lifecycle import Failure

if TYPE_CHECKING:
    from .context import HubContext
    from .launch import Launch


TIMEOUTS = (TimeoutError, asyncio.TimeoutError)


def explain(
    launch: Launch, error: BaseException, phase: str, output: list[str], cancelled: bool
) -> tuple[Failure, Exception]:
    """Return the classified failure of a start and the exception for whoever waits for it."""
    if cancelled:
        failure = Failure(cause="cancelled", message="The start was cancelled.", phase=phase, at=utcnow())
        return failure, StartCancelled(failure)
    spawner = launch.spawner
    answer = getattr(error, "answer", None)
    verdict = classify(
        Evidence(
            error_type="TimeoutError" if isinstance(error, TIMEOUTS) else type(error).__name__,
            message=_text_of(error),
            because="\n".join(f"{type(each).__name__}: {each}" for each in _causes_of(error)),
            errno=_first_errno(error),
            exit_status=exit_number(getattr(error, "exit_status", None), output),
            reason=exit_reason(spawner),
            output="\n".join(output),
            phase=phase,
            call=launch.calling,
            command=next(iter(spawner.cmd or []), ""),
            plugin=type(spawner).__name__,
            start_timeout=float(spawner.start_timeout),
            http_timeout=float(spawner.http_timeout),
            http_status=error.status_code if isinstance(error, web.HTTPError) else None,
            answer_status=answer.code if answer is not None else None,
            server_version=answer.headers.get("X-JupyterHub-Version", "") if answer is not None else "",
            hub_version=INTERFACE_VERSION,
            auth_state_missing=launch.auth_state_missing,
        )
    )
    own_message = getattr(error, "jupyterhub_message", "") or ""
    html = getattr(error, "jupyterhub_html_message", "") or ""
    status = error.status_code if isinstance(error, web.HTTPError) else 500
    text = own_message or (_text_of(error) if isinstance(error, web.HTTPError) and error.log_message else "")
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
        # The error is the plugin's own, and answered as it wants; programs find the rest beside it.
        error.failure = failure  # type: ignore[attr-defined]
        return failure, error
    outcome = StartFailed(failure)
    outcome.__cause__ = error
    return failure, outcome


def _text_of(error: BaseException) -> str:
    """Return what an exception says, without the phrases that Tornado puts around the text of an HTTP error."""
    if isinstance(error, web.HTTPError) and error.log_message:
        return error.log_message % error.args if error.args else error.log_message
    return str(error)


def _causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions that an exception was raised from, the nearest first."""
    seen = {id(error)}
    cause = error.__cause__
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__


def _first_errno(error: BaseException) -> int | None:
    numbers = (getattr(each, "errno", None) for each in (error, *_causes_of(error)))
    return next((number for number in numbers if isinstance(number, int)), None)


def exit_number(status: Any, output: Sequence[str] = ()) -> int | None:
    """Return the number in what a `poll` gave; spawners of containers give a sentence with it.

    Those of systemd's units give 1 in any case: systemd itself says in the journal how the unit ended.
    """
    if status == 1:
        for line in reversed(output):
            if told := re.search(r"Main process exited, code=(exited|killed|dumped), status=(\d+)/", line):
                return int(told.group(2)) * (1 if told.group(1) == "exited" else -1)
    if status is None or isinstance(status, int):
        return status
    found = re.search(r"Exit ?Code['\"]?[=:] ?(-?\d+)", str(status), re.IGNORECASE)
    return int(found.group(1)) if found else 1


def exit_reason(spawner: Any) -> str:
    """Return why a server ended, where its spawner says so in the optional attribute `exit_reason`."""
    return str(getattr(spawner, "exit_reason", "") or "")


def explain_exit(status: Any, output: list[str], reason: str = "") -> Failure:
    """Return the failure of a server that was ready and has ended by itself; `reason` is what its spawner knows."""
    verdict = classify(
        Evidence(
            message="" if status is None or isinstance(status, int) else str(status),
            reason=reason,
            exit_status=exit_number(status, output),
            output="\n".join(output),
            phase="running",
        )
    )
    return Failure(
        cause=verdict.cause,
        message=verdict.sentence,
        next_step=verdict.next_step,
        phase="running",
        detail=reason or f"It ended by itself with exit status {status}.",
        at=utcnow(),
    )


def not_stopped(failure: Failure | None, problem: str) -> Failure:
    """Return the failure of a server that could not be stopped; why it had failed before is what its owner reads."""
    sentence = f"The server may still be running: {problem}"
    if failure is not None:
        return replace(failure, left_behind=sentence)
    return Failure(
        cause="not-stopped",
        message=sentence,
        phase="stopping",
        at=utcnow(),
        next_step="Start it again: the old one is looked for first.",
        left_behind=sentence,
    )


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

    def count(self, launch: Launch, failure: Failure, error: BaseException, output: list[str]) -> None:
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
            output=output,
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
