"""Start failures get a cause, a sentence and a next step."""

from __future__ import annotations

import errno
import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub.core import classify as package
from jupyterhub.core.classify import CAUSES, Evidence, Verdict, title_of

#: Causes that no rule finds: the Hub knows them without looking at an error.
KNOWN_OTHERWISE = {"interrupted", "lease-lost", "not-stopped", "unhealthy"}


def classify(**known: Any) -> Verdict:
    return package.classify(Evidence(**known))


def refused_by_cluster(message: str) -> str:
    """The text of an error of the client for Kubernetes."""
    status = {"kind": "Status", "status": "Failure", "message": message, "reason": "Forbidden", "code": 403}
    return f"(403)\nReason: Forbidden\nHTTP response headers: <CIMultiDictProxy()>\nHTTP response body: {json.dumps(status)}\n"


QUOTA = refused_by_cluster('pods "p" is forbidden: exceeded quota: rq, requested: pods=1, used: pods=0, limited: pods=0')
NOT_PERMITTED = refused_by_cluster(
    'pods is forbidden: User "hub" cannot create resource "pods" in API group "" in the namespace "jupyterhub"'
)
CLUSTER_AWAY = {
    "error_type": "ClientConnectorError",
    "errno": errno.ECONNREFUSED,
    "message": "Cannot connect to host 10.0.0.1:443 ssl:default [Connect call failed ('10.0.0.1', 443)]",
}

REGISTRY_AWAY = (
    "500 Server Error for http+docker://localhost/v1.41/images/create?tag=latest&fromImage=registry%3A5000%2Flabb: Internal "
    'Server Error ("Get "https://registry:5000/v2/": dial tcp: lookup registry on 127.0.0.53:53: no such host")'
)

NO_RIGHT = "Error while fetching server API version: ('Connection aborted.', PermissionError(13, 'Permission denied'))"
NO_MUNGE = """\
sbatch: error: If munged is up, restart with --num-threads=10
sbatch: error: Munge encode failed: Failed to access "/run/munge/munge.socket.2": No such file or directory (Did you start munged?)
sbatch: error: Batch job submission failed: Protocol authentication error"""
NO_HUB = "[E JupyterHubSingleUser] No Hub at http://hub:8081/hub/api (attempt 1 of 5): [Errno -2] Name or service not known"

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
    ("exited", {"error_type": "RuntimeError", "message": "Failed to get port info for 23e2", "phase": "starting"}),
    ("out-of-memory", {"exit_status": -9, "output": "a.service: Failed with result 'signal'.\nkilled: memory limit 2 GiB"}),
    ("home-unusable", {"exit_status": 200, "output": "a.service: Main process exited, code=exited, status=200/CHDIR"}),
    ("command-not-found", {"exit_status": 203, "output": "a.service: Main process exited, code=exited, status=203/EXEC"}),
    ("command-not-found", {"output": "Failed to find executable /no/such: No such file or directory"}),
    ("killed", {"exit_status": -9}),
    ("killed", {"exit_status": 137}),
    ("killed", {"exit_status": -15}),
    (
        "module-missing",
        {"exit_status": 1, "output": "Traceback\nModuleNotFoundError: No module named 'pandas'"},
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
        "image-missing",
        {
            "error_type": "TimeoutError",
            "phase": "starting",
            "output": '[Warning] Container image "lab:9" is not present with pull policy of Never\n[Warning] Error: ErrImageNeverPull',
        },
    ),
    ("unreachable", {"error_type": "APIError", "phase": "starting", "message": REGISTRY_AWAY}),
    ("limit-reached", {"error_type": "ApiException", "phase": "starting", "message": QUOTA}),
    ("scheduler-refused", {"error_type": "ApiException", "phase": "starting", "message": NOT_PERMITTED}),
    ("scheduler-refused", {"error_type": "ApiException", "phase": "starting", "message": "(403)\nReason: Forbidden\n"}),
    ("engine-unreachable", {**CLUSTER_AWAY, "plugin": "KubeSpawner", "phase": "starting"}),
    ("unreachable", {**CLUSTER_AWAY, "plugin": "OtherSpawner", "phase": "starting"}),
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
    ("command-not-executable", {"exit_status": 126}),
    (
        "command-not-executable",
        {
            "error_type": "PermissionError",
            "errno": errno.EACCES,
            "phase": "starting",
            "command": "notes",
            "message": "[Errno 13] Permission denied: '/opt/notes'",
        },
    ),
    ("command-not-executable", {"exit_status": 1, "output": "exec /usr/bin/tini: exec format error"}),
    (
        "permission-denied",
        {
            "error_type": "PermissionError",
            "errno": errno.EACCES,
            "phase": "starting",
            "command": "notes",
            "message": "[Errno 13] Permission denied: '/srv/secret'",
        },
    ),
    ("permission-denied", {"exit_status": 1, "output": "mkdir: cannot create directory: Permission denied"}),
    ("start-timeout", {"error_type": "TimeoutError", "phase": "starting", "start_timeout": 60.0}),
    ("port-never-opened", {"error_type": "TimeoutError", "phase": "connecting", "http_timeout": 30.0}),
    ("unreachable", {"error_type": "TimeoutError", "phase": "connecting", "http_timeout": 30.0, "output": NO_HUB}),
    ("unreachable", {"phase": "connecting", "exit_status": 1, "output": f"{NO_HUB}\nNo Hub answers at http://hub:8081/hub/api. Can"}),
    (
        "unreachable",
        {"error_type": "TimeoutError", "phase": "connecting", "output": "[E] Failed to connect to my Hub at http://hub/ (attempt 1/5)"},
    ),
    ("port-never-opened", {"error_type": "TimeoutError", "phase": "connecting", "output": f"{NO_HUB}\nJupyter is running at:"}),
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
    (
        "auth-state-missing",
        {
            "error_type": "TypeError",
            "message": "'NoneType' object is not subscriptable",
            "phase": "preparing",
            "call": "auth_state_hook",
            "auth_state_missing": True,
        },
    ),
    (
        "hook-failed",
        {
            "error_type": "RuntimeError",
            "message": "no volume",
            "phase": "preparing",
            "call": "pre_spawn_hook",
            "auth_state_missing": True,
        },
    ),
    ("refused", {"error_type": "HTTPError", "message": "Not yours", "http_status": 403, "phase": "preparing"}),
    (
        "option-refused",
        {"error_type": "OptionRefused", "message": "too much", "http_status": 400, "phase": "preparing"},
    ),
    ("hook-failed", {"error_type": "HTTPError", "message": "away", "http_status": 503, "phase": "preparing"}),
    (
        "home-unusable",
        {
            "error_type": "RuntimeError",
            "phase": "starting",
            "message": "The process could not be prepared: PermissionError: [Errno 13] Permission denied: '/home/a'",
        },
    ),
    (
        "directory-missing",
        {
            "phase": "connecting",
            "exit_status": 1,
            "output": "[C] Bad config encountered during initialization: No such directory: ''/home/a/notebooks''\n",
        },
    ),
    ("exited", {"exit_status": 1, "output": "mkdir: No such directory: 'x'\nboom"}),
    ("disk-full", {"exit_status": 1, "output": "cp: error writing 'x': Disk quota exceeded"}),
    ("wrong-version", {"exit_status": 1, "output": "ImportError: cannot import name 'x' from 'jupyterhub.utils'"}),
    ("wrong-version", {"exit_status": 2, "output": "notes: error: unrecognized arguments: --ip=127.0.0.1"}),
    (
        "wrong-version",
        {
            "error_type": "TimeoutError",
            "phase": "connecting",
            "answer_status": 500,
            "server_version": "2.3.1",
            "hub_version": "6.1.1",
        },
    ),
    ("bad-answer", {"error_type": "TimeoutError", "phase": "connecting", "answer_status": 502}),
    (
        "bad-answer",
        {
            "error_type": "TimeoutError",
            "phase": "connecting",
            "message": "… did not answer within 9 seconds: http://127.0.0.1:9/ does not speak HTTP; it said 'login:'",
        },
    ),
    (
        "image-denied",
        {
            "error_type": "APIError",
            "phase": "starting",
            "message": "pull access denied for a/b, repository does not exist or may require 'docker login'",
        },
    ),
    (
        "engine-unreachable",
        {
            "error_type": "DockerException",
            "phase": "starting",
            "message": "Error while fetching server API version: ('Connection aborted.', PermissionError(13, 'Permission "
            "denied'))",
        },
    ),
    (
        "engine-unreachable",
        {
            "error_type": "RuntimeError",
            "phase": "starting",
            "message": "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
        },
    ),
    (
        "scheduler-refused",
        {
            "error_type": "RuntimeError",
            "phase": "starting",
            "message": "sbatch: error: Batch job submission failed: Requested node configuration is not available",
        },
    ),
    (
        "limit-reached",
        {
            "error_type": "RuntimeError",
            "phase": "starting",
            "message": "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed",
        },
    ),
    (
        "limit-reached",
        {
            "error_type": "ApiException",
            "phase": "starting",
            "message": 'pods "jupyter-ada" is forbidden: exceeded quota: compute, requested: limits.memory=8Gi',
        },
    ),
    (
        "no-capacity",
        {
            "error_type": "TimeoutError",
            "phase": "starting",
            "output": "[Warning] 0/3 nodes are available: 3 Insufficient memory.",
        },
    ),
    (
        "no-capacity",
        {
            "error_type": "TimeoutError",
            "phase": "starting",
            "output": "pending: no suitable node (scheduling constraints not satisfied on 3 nodes)",
        },
    ),
    ("machine-lost", {"message": "The machine node2 is down (heartbeat failure).", "exit_status": 1, "phase": "running"}),
    (
        "exited",
        {
            "error_type": "RuntimeError",
            "phase": "starting",
            "message": "Service jupyter-ada not running: {'ContainerStatus': {'ContainerID': 'd5',\n  'ExitCode': 3}}",
        },
    ),
    (
        "no-capacity",
        {
            "error_type": "TimeoutError",
            "phase": "starting",
            "output": "Unknown status...\nPending in queue... PENDING (Resources)",
        },
    ),
    (
        "start-timeout",
        {
            "error_type": "TimeoutError",
            "phase": "starting",
            "output": "Pending in queue... PENDING (Resources)\nCluster job running... waiting to connect RUNNING (None) n1",
        },
    ),
    (
        "name-not-found",
        {
            "error_type": "gaierror",
            "phase": "starting",
            "message": "[Errno -2] Name or service not known",
        },
    ),
    (
        "unreachable",
        {
            "error_type": "RuntimeError",
            "phase": "starting",
            "because": "ConnectionRefusedError: [Errno 111] Connection refused",
            "errno": errno.ECONNREFUSED,
        },
    ),
    ("exited", {"exit_status": 3, "phase": "running"}),
    ("exited", {"exit_status": 1, "output": "FileNotFoundError: [Errno 2] No such file or directory: 'notes.csv'"}),
    (
        "unexplained",
        {
            "error_type": "FileNotFoundError",
            "errno": errno.ENOENT,
            "phase": "starting",
            "command": "notes",
            "message": "[Errno 2] No such file or directory: '/srv/template.yaml'",
        },
    ),
    (
        "port-never-opened",
        {"error_type": "TimeoutError", "phase": "connecting", "output": "No module named 'an_extension', skipped"},
    ),
    ("unexplained", {"error_type": "RuntimeError", "message": "who knows", "phase": "starting"}),
    ("unexplained", {}),
]


@pytest.mark.parametrize(("cause", "evidence"), TABLE)
def test_causes(cause: str, evidence: dict[str, Any]) -> None:
    verdict = classify(**evidence)
    assert verdict.cause == cause
    assert verdict.sentence
    assert verdict.next_step


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
        ({"error_type": "APIError", "message": REGISTRY_AWAY}, "container image registry:5000/labb is not there"),
        ({"output": "code=exited, status=203/EXEC", "command": "notes"}, "'notes' was not found"),
        (
            {"output": '[Warning] Failed to pull image "lab:9": Get "https://registry/v2/": lookup registry: no such host'},
            'image for the server could not be fetched: [Warning] Failed to pull image "lab:9"',
        ),
        ({"error_type": "DockerException", "message": NO_RIGHT}, "The Hub may not use the system that runs the servers"),
        ({"error_type": "RuntimeError", "message": NO_MUNGE}, "does not answer: sbatch: error: Munge encode failed: Failed to"),
        ({"exit_status": 1, "phase": "connecting", "output": NO_HUB}, "could not reach the Hub at http://hub:8081/hub/api."),
        ({"error_type": "SpawnException", "message": "Not on Sundays"}, "Not on Sundays"),
        ({"error_type": "RuntimeError", "message": "who\n  knows"}, "RuntimeError: who knows"),
    ],
)
def test_sentences_name_the_thing(evidence: dict[str, Any], words: str) -> None:
    assert words in classify(**evidence).sentence


def test_what_a_cluster_says_is_told_without_what_its_client_writes_around_it() -> None:
    limit = classify(error_type="ApiException", phase="starting", message=QUOTA).sentence
    assert limit.endswith('pods "p" is forbidden: exceeded quota: rq, requested: pods=1, used: pods=0, limited: pods=0')
    refused = classify(error_type="ApiException", phase="starting", message=NOT_PERMITTED)
    assert refused.sentence == (
        "The cluster does not let the Hub start servers: "
        'User "hub" cannot create resource "pods" in API group "" in the namespace "jupyterhub"'
    )
    assert "Role" in refused.next_step


def test_a_missing_file_later_on_is_not_a_missing_command() -> None:
    verdict = classify(
        error_type="FileNotFoundError", errno=errno.ENOENT, message="/srv/ca.pem", phase="preparing"
    )
    assert verdict.cause == "hook-failed"


def test_time_outs_say_which_setting_to_raise() -> None:
    verdict = classify(error_type="TimeoutError", phase="starting", plugin="DockerSpawner", start_timeout=60)
    assert "DockerSpawner.start_timeout" in verdict.next_step


def test_the_list_of_causes_is_complete_and_tested() -> None:
    found = {cause for cause, _ in TABLE}
    assert found | KNOWN_OTHERWISE == set(CAUSES)
    sources = "".join(file.read_text() for file in Path(inspect.getfile(package)).parent.glob("*.py"))
    named = set(re.findall(r'(?:Verdict|Saying)\(\s*"([a-z-]+)"', sources))
    assert named == found


def test_titles_are_different_and_one_is_there_for_what_nobody_knows() -> None:
    assert len({cause.title for cause in CAUSES.values()}) == len(CAUSES)
    assert title_of("of a later version") == title_of("unexplained")


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


def test_a_refusal_in_words_of_its_own_is_told_in_them() -> None:
    words = "The Hub does not run as root and cannot start processes of ada"
    verdict = classify(error_type="PermissionError", message=words, phase="starting")
    assert verdict.cause == "permission-denied" and verdict.sentence == f"{words}."


def test_a_missing_jupyter_says_which_extra_brings_it() -> None:
    verdict = classify(exit_status=1, output="There is no Jupyter to run: No module named 'jupyter_server'. Install it")
    assert "'jupyter_server' is missing" in verdict.sentence and "jupyterhub[singleuser]" in verdict.next_step
