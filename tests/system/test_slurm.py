"""Servers as jobs of a real Slurm, by the released batchspawner: waiting, running, adopted, cancelled, refused."""

from __future__ import annotations

import json
import os
import pwd
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from .hub_process import HubProcess, wait_for
from .person import Person
from .public_environment import public_environment
from .slurm_cluster import SlurmCluster, missing_programs
from .system_users import system_users
from .test_browser import ARGUMENTS as CHROMIUM_ARGUMENTS
from .test_browser import CHROMIUM

MISSING = missing_programs()

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: jobs run under other accounts"),
    pytest.mark.skipif(
        bool(MISSING), reason=f"needs Slurm (Debian's packages are slurm-wlm, munge and sudo): no {', '.join(MISSING)}"
    ),
]

ADA, GRACE = "hubslurmada", "hubslurmgrace"

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/batch/slurm.py"

#: The example as it stands, with shorter intervals and profiles for these tests.
CONFIG = """
load_subconfig({example!r})
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 0}}
c.Spawner.poll_interval = 1
c.Spawner.profiles += [
    {{"display_name": "Tiny", "overrides": {{"cmd": [{tiny_server!r}]}}}},
    {{
        "display_name": "Silent",
        "overrides": {{"batchspawner_singleuser_cmd": "sleep 60; nothing-of-that-name", "start_timeout": 5}},
    }},
    {{"display_name": "Impossible", "overrides": {{"req_memory": "900G"}}}},
]
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    with SlurmCluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def hub(cluster: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    commands = public_environment("batchspawner")
    tiny_server = cluster.directory / "tiny_server.py"
    shutil.copy(Path(__file__).parent / "tiny_server.py", tiny_server)
    tiny_server.chmod(0o755)
    config = CONFIG.format(example=str(EXAMPLE), tiny_server=str(tiny_server))
    hub = HubProcess(tmp_path_factory.mktemp("slurm"), config, bin_dir=commands, env=cluster.environment)
    with system_users(ADA, GRACE):
        hub.start()
        for name in (ADA, GRACE):
            hub.api("POST", f"/users/{name}")
        try:
            yield hub
        finally:
            hub.clean_up()
            # Homes go with the accounts: first what runs in them.
            cluster.cancel(cluster.jobs())


def job_of(hub: HubProcess, name: str) -> str:
    job: str = hub.server(name)["state"]["job_id"]
    return job


def started_at(hub: HubProcess, name: str) -> str:
    """Ask JupyterLab's server, through the proxy, since when it runs."""
    answer = hub.request("GET", f"/user/{name}/api/status", token=hub.token)
    assert answer.status == 200, answer
    started: str = answer.json()["started"]
    return started


@pytest.fixture(scope="module")
def jupyterlab(hub: HubProcess) -> str:
    """Ada's server in a job; returns the number of the job."""
    assert hub.start_server(ADA, options={"profile": "small"}).status in (201, 202)
    hub.wait_ready(ADA)
    return job_of(hub, ADA)


def test_a_server_is_a_job_of_its_user(hub: HubProcess, cluster: SlurmCluster, jupyterlab: str) -> None:
    assert cluster.jobs("-o", "%i %u %T") == [f"{jupyterlab} {ADA} RUNNING"]
    assert started_at(hub, ADA)
    servers = [
        process
        for process in psutil.process_iter(["uids", "cmdline"])
        if process.info["uids"].real == pwd.getpwnam(ADA).pw_uid
        and "jupyterhub-singleuser" in " ".join(process.info["cmdline"] or [])
    ]
    assert servers, "the server's process runs as its user"
    environment = servers[-1].environ()
    assert environment["SLURM_JOB_ID"] == jupyterlab
    assert environment["HOME"] == pwd.getpwnam(ADA).pw_dir


def test_a_killed_hub_finds_the_job_again(hub: HubProcess, cluster: SlurmCluster, jupyterlab: str) -> None:
    before = started_at(hub, ADA)
    hub.kill()
    hub.start()
    hub.wait_ready(ADA)
    assert started_at(hub, ADA) == before
    assert job_of(hub, ADA) == jupyterlab and cluster.jobs() == [jupyterlab]


@pytest.mark.parametrize(
    "program, complaint",
    [("slurmctld", "Unable to contact slurm controller"), ("munged", "Protocol authentication error")],
)
def test_a_scheduler_that_is_away_costs_nobody_their_server(
    hub: HubProcess, cluster: SlurmCluster, jupyterlab: str, program: str, complaint: str
) -> None:
    before = started_at(hub, ADA)
    cluster.stop(program)
    complaints = hub.log_path.read_text().count(complaint)
    try:
        wait_for(lambda: hub.log_path.read_text().count(complaint) >= complaints + 2, "two polls have failed", 60)
        model = hub.server(ADA)
        assert model and model["ready"] and not model.get("failure")
        assert started_at(hub, ADA) == before
    finally:
        cluster.start_again(program)
    assert cluster.jobs("-o", "%i %T") == [f"{jupyterlab} RUNNING"]
    assert hub.server(ADA)["ready"] and started_at(hub, ADA) == before
    assert job_of(hub, ADA) == jupyterlab


def failure_of(hub: HubProcess, name: str) -> Any:
    servers = hub.api("GET", f"/users/{name}?include_stopped_servers").json()["servers"]
    return servers.get("", {}).get("failure")


def progress_messages(hub: HubProcess, name: str, *, until: str) -> list[str]:
    """Follow a start in the user's own session, as the page does, until a message contains `until`."""
    person = Person(hub, name)
    person.log_in("anything")
    messages = []
    path = f"/hub/api/users/{name}/server/progress?_xsrf={person.xsrf()}"
    with person.get(path, stream=True, headers={"Accept": "text/event-stream"}) as stream:
        assert stream.status_code == requests.codes.ok, stream.text
        for line in stream.iter_lines(chunk_size=1):
            if line.startswith(b"data:"):
                messages.append(str(json.loads(line[5:]).get("message", "")))
                if until in messages[-1]:
                    return messages
    raise AssertionError(f"nothing said {until!r}: {messages}")


@contextmanager
def pending_page(hub: HubProcess, name: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        page = chromium.new_page(base_url=hub.url)
        page.set_default_timeout(30_000)
        page.goto(f"/hub/login?next=/hub/spawn-pending/{name}")
        page.fill("#username_input", name)
        page.fill("#password_input", "anything")
        page.click("#login_submit")
        yield page
        chromium.close()


@pytest.fixture(scope="module")
def waiting(hub: HubProcess, cluster: SlurmCluster, jupyterlab: str) -> str:
    """Grace's server that wants both processors of the node, of which Ada has one; returns the number of its job."""
    assert hub.start_server(GRACE, options={"profile": "large"}).status == 202
    (job,) = wait_for(lambda: cluster.jobs("-t", "PENDING", "-u", GRACE, "-o", "%i"), "the job waits", 30)
    return str(job)


def test_whoever_waits_reads_state_and_reason(hub: HubProcess, waiting: str) -> None:
    assert "Pending in queue" in progress_messages(hub, GRACE, until="PENDING (Resources)")[-1]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian's package is called chromium)")
def test_the_page_shows_them(hub: HubProcess, waiting: str) -> None:
    with pending_page(hub, GRACE) as page:
        page.locator("#progress-message", has_text="PENDING (Resources)").wait_for()


def test_a_hub_killed_while_a_job_waits_leaves_no_job(hub: HubProcess, cluster: SlurmCluster, waiting: str) -> None:
    """The number of the job was stored while it waited."""
    hub.kill()
    hub.start()
    wait_for(lambda: waiting not in cluster.jobs(), f"the job is cancelled\n{hub.log_tail()}", 30, 0.2)
    hub.wait_stopped(GRACE)
    assert failure_of(hub, GRACE)["cause"] == "interrupted"
    hub.wait_ready(ADA)


def test_stopping_cancels_the_job(hub: HubProcess, cluster: SlurmCluster, jupyterlab: str) -> None:
    hub.stop_server(ADA)
    hub.wait_stopped(ADA)
    assert cluster.run("squeue", "-h", "-t", "all", "-j", jupyterlab, "-o", "%T") == "CANCELLED"


def test_a_cancelled_job_is_noticed_and_told(hub: HubProcess, cluster: SlurmCluster) -> None:
    hub.start_server(GRACE, options={"profile": "tiny"})
    hub.wait_ready(GRACE)
    cluster.cancel([job_of(hub, GRACE)])
    hub.wait_stopped(GRACE)
    grace = Person(hub, GRACE)
    grace.log_in("anything")
    page = grace.get("/hub/home").text
    assert "It ended by itself with exit status 1" in page, page


def test_a_stop_while_slurm_is_away_is_made_good_by_the_next_start(hub: HubProcess, cluster: SlurmCluster) -> None:
    hub.start_server(GRACE, options={"profile": "tiny"})
    hub.wait_ready(GRACE)
    job = job_of(hub, GRACE)
    cluster.stop("slurmctld")
    try:
        hub.stop_server(GRACE)
        hub.wait_stopped(GRACE)
        assert failure_of(hub, GRACE)["cause"] == "not-stopped"
    finally:
        cluster.start_again("slurmctld")
    assert cluster.jobs("-u", GRACE, "-o", "%i %T") == [f"{job} RUNNING"]
    hub.start_server(GRACE, options={"profile": "tiny"})
    hub.wait_ready(GRACE)
    assert cluster.jobs("-u", GRACE, "-o", "%i") == [job_of(hub, GRACE)] != [job]
    hub.stop_server(GRACE)
    hub.wait_stopped(GRACE)


def test_what_the_scheduler_refuses_is_told_in_words(hub: HubProcess, cluster: SlurmCluster) -> None:
    hub.start_server(GRACE, options={"profile": "impossible"})
    failure = wait_for(lambda: failure_of(hub, GRACE), "the start has failed")
    assert failure["cause"] == "scheduler-refused"
    assert "Memory specification can not be satisfied" in failure["message"]
    assert failure["next_step"]
    assert cluster.jobs() == []


def test_a_job_that_runs_but_never_tells_its_port(hub: HubProcess, cluster: SlurmCluster) -> None:
    hub.start_server(GRACE, options={"profile": "silent"})
    wait_for(lambda: cluster.jobs("-t", "RUNNING", "-u", GRACE), "the job runs")
    hub.wait_stopped(GRACE)
    failure = failure_of(hub, GRACE)
    assert failure["cause"] == "start-timeout", failure
    assert "Cluster job running" in failure["message"]
    assert cluster.jobs() == []
