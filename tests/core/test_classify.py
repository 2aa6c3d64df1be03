"""Start failures get a cause, a sentence and a next step."""

from __future__ import annotations

import errno
import inspect
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub.core import classify as module
from jupyterhub.core.classify import CAUSES, classify

TABLE: list[tuple[str, dict[str, Any]]] = [
    ("refused", {"error_type": "SpawnException", "message": "Not on Sundays", "phase": "starting"}),
    ("cancelled", {"error_type": "CancelledError", "phase": "starting"}),
    ("still-running", {"error_type": "ServerStillRunning", "message": "still there"}),
    ("log-in-stale", {"error_type": "AuthenticationStale"}),
    ("option-refused", {"error_type": "TraitError", "message": "bad cpu", "phase": "preparing"}),
    ("option-refused", {"error_type": "ValueError", "message": "unknown profile 'x'", "phase": "preparing"}),
    ("hook-failed", {"error_type": "RuntimeError", "message": "no volume", "phase": "preparing"}),
    ("hook-failed", {"error_type": "AttributeError", "message": "x", "phase": "preparing"}),
    ("disk-full", {"error_type": "OSError", "errno": errno.ENOSPC, "phase": "preparing"}),
    ("disk-full", {"exit_status": 1, "output": "OSError: [Errno 28] No space left on device"}),
    ("out-of-memory", {"exit_status": -9, "output": "oom-kill: killed process"}),
    ("out-of-memory", {"error_type": "MemoryError"}),
    (
        "out-of-memory",
        {"error_type": "RuntimeError", "message": "pod failed: OOMKilled", "phase": "starting"},
    ),
    ("killed", {"exit_status": -9}),
    ("killed", {"exit_status": 137}),
    ("killed", {"exit_status": -15}),
    (
        "module-missing",
        {"exit_status": 1, "output": ["Traceback", "ModuleNotFoundError: No module named 'pandas'"]},
    ),
    (
        "module-missing",
        {"exit_status": 1, "output": "/usr/bin/python3: No module named jupyterhub.singleuser"},
    ),
    (
        "image-missing",
        {"error_type": "ImageNotFound", "message": "404 Client Error: Not Found", "phase": "starting"},
    ),
    ("image-missing", {"message": "manifest for jupyter/none:7.0 not found", "phase": "starting"}),
    (
        "no-account",
        {"error_type": "KeyError", "message": "\"getpwnam(): name not found: 'ada'\"", "phase": "starting"},
    ),
    ("port-taken", {"exit_status": 1, "output": "OSError: [Errno 98] Address already in use"}),
    (
        "command-not-found",
        {
            "error_type": "FileNotFoundError",
            "errno": errno.ENOENT,
            "phase": "starting",
            "message": "[Errno 2] No such file or directory: 'jupyterhub-singleuser'",
        },
    ),
    (
        "command-not-found",
        {"exit_status": 127, "output": "bash: line 1: jupyterhub-singleuser: command not found"},
    ),
    ("command-not-found", {"exit_status": 127}),
    ("permission-denied", {"error_type": "PermissionError", "errno": errno.EACCES, "phase": "starting"}),
    ("permission-denied", {"exit_status": 126}),
    ("permission-denied", {"exit_status": 1, "output": "mkdir: cannot create directory: Permission denied"}),
    ("start-timeout", {"error_type": "TimeoutError", "phase": "starting", "start_timeout": 60.0}),
    ("port-never-opened", {"error_type": "TimeoutError", "phase": "connecting", "http_timeout": 30.0}),
    ("route-timeout", {"error_type": "TimeoutError", "phase": "routing"}),
    ("prepare-timeout", {"error_type": "TimeoutError", "phase": "preparing"}),
    ("exited", {"error_type": "TimeoutError", "phase": "connecting", "exit_status": 1}),
    ("exited", {"exit_status": 3, "output": "boom\n\n"}),
    ("exited", {"exit_status": 0}),
    ("proxy-failed", {"error_type": "HTTPError", "message": "HTTP 503", "phase": "routing"}),
    (
        "unreachable",
        {"error_type": "ConnectionRefusedError", "errno": errno.ECONNREFUSED, "phase": "starting"},
    ),
    ("plugin-mistake", {"error_type": "PluginMistake", "message": "Mistake of X: start returned 3"}),
    (
        "plugin-mistake",
        {"error_type": "TypeError", "message": "'NoneType' …", "phase": "starting", "plugin": "MySpawner"},
    ),
    ("unexplained", {"error_type": "RuntimeError", "message": "who knows", "phase": "starting"}),
    ("unexplained", {}),
]


@pytest.mark.parametrize(("cause", "evidence"), TABLE)
def test_causes(cause: str, evidence: dict[str, Any]) -> None:
    verdict = classify(**evidence)
    assert verdict.cause == cause
    assert verdict.sentence
    assert verdict.next_step or cause in ("refused",)


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        ({"exit_status": 1, "output": "No module named 'pandas'"}, "'pandas'"),
        (
            {"exit_status": 127, "output": "sh: 1: jupyterhub-singleuser: not found"},
            "'jupyterhub-singleuser'",
        ),
        ({"error_type": "TimeoutError", "phase": "starting", "start_timeout": 60.0}, "60 seconds"),
        ({"error_type": "TimeoutError", "phase": "connecting", "http_timeout": 1.5}, "1.5 seconds"),
        ({"exit_status": 3, "output": "first\nlast words\n"}, "3: last words"),
        ({"exit_status": -15}, "SIGTERM"),
        ({"exit_status": 255}, "signal 127"),
        ({"error_type": "SpawnException", "message": "Not on Sundays"}, "Not on Sundays"),
        ({"error_type": "RuntimeError", "message": "who\n  knows"}, "RuntimeError: who knows"),
    ],
)
def test_sentences_name_the_thing(evidence: dict[str, Any], words: str) -> None:
    assert words in classify(**evidence).sentence


def test_a_missing_file_later_on_is_not_a_missing_command() -> None:
    verdict = classify(
        error_type="FileNotFoundError", errno=errno.ENOENT, message="/srv/ca.pem", phase="preparing"
    )
    assert verdict.cause == "hook-failed"


def test_time_outs_say_which_setting_to_raise() -> None:
    verdict = classify(error_type="TimeoutError", phase="starting", plugin="DockerSpawner", start_timeout=60)
    assert "DockerSpawner.start_timeout" in verdict.next_step


def test_the_list_of_causes_is_complete_and_tested() -> None:
    named = set(re.findall(r'Verdict\(\s*"([a-z-]+)"', inspect.getsource(module))) | {
        "out-of-memory",
        "killed",
    }
    assert named == CAUSES
    assert {cause for cause, _ in TABLE} == CAUSES


@given(
    st.text(),
    st.text(),
    st.none() | st.integers(-70, 260),
    st.none() | st.integers(0, 140),
    st.text(),
    st.sampled_from(["", "preparing", "starting", "connecting", "routing"]),
)
def test_every_failure_gets_a_known_cause(
    error_type: str, message: str, exit_status: int | None, number: int | None, output: str, phase: str
) -> None:
    verdict = classify(
        error_type=error_type,
        message=message,
        exit_status=exit_status,
        errno=number,
        output=output,
        phase=phase,
    )
    assert verdict.cause in CAUSES
    assert verdict.sentence
