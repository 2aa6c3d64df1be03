"""From an exception to a failure: what plugins may raise, and what becomes of it for people, programs and the log."""

from __future__ import annotations

import asyncio
import errno
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from tornado import web

from jupyterhub.core.errors import StartCancelled, StartFailed
from jupyterhub.core.lifecycle import Failure
from jupyterhub.net import ServerAnswer, ServerExited, ServerSilent
from jupyterhub.runtime.failures import exit_number, explain, explain_exit, not_stopped
from jupyterhub.runtime.reporting import Reporting
from jupyterhub.spawning.fakes import StartsNothing


def explained(error: BaseException, phase: str = "starting", output: str = "", **known: Any) -> Failure:
    launch: Any = SimpleNamespace(**{"spawner": StartsNothing(), "calling": "start", "auth_state_missing": False, **known})
    failure, outcome = explain(launch, error, phase, output.splitlines(), cancelled=False)
    assert isinstance(outcome, Exception)
    return failure


def raised_from(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("status", "number"),
    [
        (None, None),
        (0, 0),
        (-9, -9),
        ("ExitCode=137, Error='', FinishedAt=2026-01-01T00:00:00Z", 137),
        ("ExitCode=0, Error=''", 0),
        ({"terminated": {"exitCode": 2}}, 2),
        ("gone", 1),
    ],
)
def test_what_polls_give_has_a_number(status: Any, number: int | None) -> None:
    assert exit_number(status) == number


@pytest.mark.parametrize(
    ("told", "number"),
    [
        ("code=exited, status=3/NOTIMPLEMENTED", 3),
        ("code=killed, status=9/KILL", -9),
        ("code=dumped, status=11/SEGV", -11),
    ],
)
def test_systemd_knows_better_than_a_poll_how_a_unit_ended(told: str, number: int) -> None:
    output = [f"ada.service: Main process exited, {told}", "ada.service: Failed with result 'exit-code'."]
    assert exit_number(1, output) == number
    assert exit_number(2, output) == 2, "whoever knows is believed"
    assert exit_number(1, ["an ordinary line"]) == 1


def test_the_error_below_is_looked_at() -> None:
    below = OSError(errno.ENOSPC, "No space left on device")
    failure = explained(raised_from(RuntimeError("no volume"), raised_from(ValueError("x"), below)))
    assert failure.cause == "disk-full"
    assert failure.detail == "no volume"


def test_errors_that_are_raised_from_each_other_end_somewhere() -> None:
    first, second = RuntimeError("first"), RuntimeError("second")
    first.__cause__, second.__cause__ = second, first
    assert explained(first).cause == "unexplained"


def test_an_error_on_purpose_is_shown_as_its_author_wrote_it() -> None:
    failure = explained(web.HTTPError(403, "Only %i of %s", 3, "these"))
    assert (failure.cause, failure.status, failure.message) == ("refused", 403, "Only 3 of these")
    failure = explained(web.HTTPError(403))
    assert (failure.cause, failure.status) == ("refused", 403) and failure.message


def test_whoever_waits_gets_the_authors_error_or_ours_with_the_failure() -> None:
    launch: Any = SimpleNamespace(spawner=StartsNothing(), calling="", auth_state_missing=False)
    theirs = web.HTTPError(418, "tea")
    failure, outcome = explain(launch, theirs, "starting", [], cancelled=False)
    assert outcome is theirs and theirs.failure is failure  # type: ignore[attr-defined]
    failure, outcome = explain(launch, KeyError("x"), "starting", [], cancelled=False)
    assert isinstance(outcome, StartFailed) and outcome.failure is failure
    _, outcome = explain(launch, asyncio.CancelledError(), "starting", [], cancelled=True)
    assert isinstance(outcome, StartCancelled)


def test_every_kind_of_time_out_counts() -> None:
    for error in (TimeoutError("x"), asyncio.TimeoutError(), ServerSilent("http://x", 1, "nothing", None)):
        assert explained(error, "connecting").cause == "port-never-opened"


def test_the_last_answer_of_a_server_is_known() -> None:
    answer = ServerAnswer(502, "Bad Gateway")
    failure = explained(ServerSilent("http://x", 1, "it answered 502", answer), "connecting")
    assert failure.cause == "bad-answer" and "502" in failure.message


def test_a_container_that_ended_is_explained_by_its_engines_words() -> None:
    status = "ExitCode=127, Error='exec: \"lab\": executable file not found in $PATH', FinishedAt=0"
    failure = explained(ServerExited("http://x", status), "connecting")
    assert failure.cause == "command-not-found" and "'lab'" in failure.message


def test_a_running_server_that_ended_is_explained() -> None:
    assert explain_exit(1, ["MemoryError"]).cause == "out-of-memory"
    assert explain_exit("ExitCode=137, Error='OOMKilled'", []).cause == "out-of-memory"
    failure = explain_exit(3, ["last words"])
    assert (failure.cause, failure.phase) == ("exited", "running") and "3: last words" in failure.message


def test_what_could_not_be_stopped_is_told_beside_what_had_failed() -> None:
    before = Failure(cause="disk-full", message="No space.")
    after = not_stopped(before, "no")
    assert (after.cause, after.message) == (before.cause, before.message) and after.left_behind.endswith("no")
    alone = not_stopped(None, "no")
    assert alone.cause == "not-stopped" and alone.left_behind == alone.message


def test_a_servers_words_cannot_pass_for_the_hubs(caplog: pytest.LogCaptureFixture) -> None:
    context: Any = SimpleNamespace(log=logging.getLogger("test"))
    failure = Failure(cause="exited", message="It ended.", phase="running", next_step="Look.")
    Reporting(context).ended("ada", failure, ["\x1b[2J", "x\r[E forged]", "y\x85[E forged]", "tab\there", "ünï"])
    (record,) = caplog.records
    lines = record.getMessage().splitlines()
    assert lines[:2] == ["Server ada: It ended. [exited]", "  What to do: Look."]
    assert [line[:4] for line in lines[3:]] == ["  | "] * 5
    assert "\x1b" not in record.getMessage() and lines[-2:] == ["  | tab\there", "  | ünï"]
