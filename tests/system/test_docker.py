"""Servers in containers of a real Docker engine: by the example of a spawner, and by the released dockerspawner."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from .docker_engine import IMAGE, REGISTRY, DockerEngine, docker_engine, why_not
from .fault_checks import CHECKS
from .fault_report import Reading, produce
from .faults import Fault
from .hub_process import HubProcess, wait_for
from .packages_environment import packages_environment
from .person import Person
from .test_internal_tls import kernel_of, with_server
from .test_interop_upstream_hub import run_cell
from .test_survival import execute
from .upstream import NotAvailable

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PASSWORD = "for-this-test"


@pytest.fixture(scope="module")
def commands() -> Path:
    """Where the Hub's command is, with dockerspawner and Docker's client for Python beside it."""
    try:
        return packages_environment()
    except NotAvailable as reason:
        pytest.skip(f"NOT RUN, as the packages could not be had: {reason}")


@pytest.fixture(scope="module")
def engine(commands: Path) -> Iterator[DockerEngine]:
    with docker_engine() as engine:
        # The names that the examples give to their images.
        for name in ("jupyter/scipy-notebook", "jupyterhub-lab"):
            engine.docker("tag", IMAGE, name)
        yield engine


def hub_with(example: str, engine: DockerEngine, directory: Path, commands: Path, more: str = "") -> HubProcess:
    """A Hub with an example as it is, but for the address of this engine."""
    return HubProcess(
        directory,
        f"load_subconfig({str(EXAMPLES / example)!r})\nc.JupyterHub.hub_ip = {engine.address!r}\n{more}",
        bin_dir=commands,
        env=engine.environment,
        hub_ip=engine.address,
    )


def started_at(hub: HubProcess, name: str) -> str:
    """Ask JupyterLab's server, through the proxy, since when it runs."""
    answer = hub.request("GET", f"/user/{name}/api/status", token=hub.token)
    assert answer.status == 200, answer
    started: str = answer.json()["started"]
    return started


def answer_of(person: Person, code: str) -> str:
    """Run a cell as JupyterLab does and return what it printed."""
    with closing(kernel_of(person)) as kernel:
        return run_cell(kernel, code).strip()


def stop(hub: HubProcess, name: str) -> None:
    assert hub.stop_server(name).status in (202, 204)
    hub.wait_stopped(name)


# The example S5


@pytest.fixture(scope="module")
def example(engine: DockerEngine, commands: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    directory = tmp_path_factory.mktemp("s5")
    hub = hub_with("spawners/s5_containers.py", engine, directory, commands, "c.Spawner.poll_interval = 1")
    hub.env.update(EXAMPLE_URL=hub.url, EXAMPLE_DIR=str(directory / "files"), EXAMPLE_PASSWORD=PASSWORD)
    try:
        hub.start()
        yield hub
    finally:
        hub.clean_up()


def test_the_example_runs_jupyterlab_for_two_people_and_a_killed_hub_finds_their_containers(
    example: HubProcess, engine: DockerEngine
) -> None:
    assert Person(example, "ada").log_in("wrong").status_code == 403
    people = [with_server(example, name, PASSWORD) for name in ("ada", "grace")]
    for person in people:
        assert answer_of(person, "import os; print(6 * 7, os.environ['JUPYTERHUB_USER'])") == f"42 {person.name}"
    containers = {"jupyter-ada-", "jupyter-grace-"}
    assert engine.containers() == containers
    before = [engine.inspect(name)["Id"] for name in sorted(containers)]
    began = [started_at(example, person.name) for person in people]
    example.kill()
    example.start()
    for person in people:
        example.wait_ready(person.name)
    assert [started_at(example, person.name) for person in people] == began
    assert [engine.inspect(name)["Id"] for name in sorted(engine.containers())] == before
    stop(example, "ada")
    # The engine removes a container when it has ended, which is a little later.
    wait_for(lambda: engine.containers() == {"jupyter-grace-"}, "the container is removed")
    assert started_at(example, "grace") == began[1]
    stop(example, "grace")
    wait_for(lambda: not engine.containers(), "the container is removed")


def test_the_example_notices_a_container_that_ends_by_itself(example: HubProcess, engine: DockerEngine) -> None:
    with_server(example, "ada", PASSWORD)
    engine.docker("kill", "jupyter-ada-")
    example.wait_stopped("ada")
    with_server(example, "ada", PASSWORD)
    stop(example, "ada")


@pytest.mark.parametrize("spawner", ["example", "hub"])
def test_an_engine_that_is_away_while_the_hub_is_restarted_costs_nobody_their_server(
    spawner: str, request: pytest.FixtureRequest, engine: DockerEngine
) -> None:
    hub: HubProcess = request.getfixturevalue(spawner)
    with_server(hub, "ada", PASSWORD)
    began = started_at(hub, "ada")
    with engine.unreachable():
        hub.kill()
        hub.start()
        hub.wait_ready("ada")
        assert started_at(hub, "ada") == began
        grace = Person(hub, "grace")
        grace.log_in(PASSWORD)
        hub.start_server("grace")
        hub.wait_stopped("grace")
        assert "The system that runs the servers does not answer" in grace.get("/hub/spawn-pending/grace").text
    assert started_at(hub, "ada") == began
    stop(hub, "ada")
    wait_for(lambda: not engine.containers(), "the container is removed")
    with_server(hub, "grace", PASSWORD)
    stop(hub, "grace")
    wait_for(lambda: not engine.containers(), "the container is removed")


# The released dockerspawner

#: What is different for each user, who is called like the fault.
BROKEN = f"""
def broken(spawner):
    for setting, value in {{
        "image-missing": {{"image": "{REGISTRY}/no-such-image:1", "pull_policy": "never"}},
        "registry-away": {{"image": "{REGISTRY}/no-such-image:1"}},
        "command-missing": {{"cmd": ["no-such-notebook"]}},
        "exit-at-once": {{"cmd": ["sh", "-c", "echo 'the key file is empty' >&2; exit 1"]}},
        "exit-with-message": {{"cmd": ["sh", "-c", "sleep 4; echo 'the key file is empty' >&2; exit 1"]}},
        # It ends when it is told to: dockerspawner does one thing after the other, and the others would wait for it.
        "port-never-opens": {{"cmd": ["sh", "-c", "trap exit TERM; sleep 600 & wait"]}},
        "out-of-memory": {{
            "cmd": ["python", "-c", "import time; time.sleep(4); held = bytearray(1 << 30)"],
            "mem_limit": 100 * 1024**2,
        }},
    }}.get(spawner.user.name, {{}}).items():
        setattr(spawner, setting, value)
        spawner.http_timeout = 8
    if spawner.user.name == "exit-at-once":
        start_object = spawner.start_object
        async def start_until_the_end():
            await start_object()
            await spawner.docker("wait", spawner.container_id)
        spawner.start_object = start_until_the_end
c.Spawner.pre_spawn_hook = broken
c.Spawner.poll_interval = 1
c.Spawner.consecutive_failure_limit = 0
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 0}}
"""
FAULTS = {
    "image-missing": Fault("There is no such image", "image-missing", "starting", ("no-such-image",)),
    "registry-away": Fault("The registry cannot be reached", "unreachable", "starting", (REGISTRY,)),
    "command-missing": Fault("The image lacks the command", "command-not-found", "starting", ("'no-such-notebook'",)),
    "exit-at-once": Fault(
        "The container ends before it is asked for its port", "exited", "starting", ("the key file is empty",)
    ),
    "exit-with-message": Fault(
        "The container ends with status 1 and says why", "exited", "connecting", ("the key file is empty",)
    ),
    "port-never-opens": Fault(
        "The container runs and never opens its port", "port-never-opened", "connecting", ("8 seconds",)
    ),
    "out-of-memory": Fault(
        "The server needs more memory than its container may have", "out-of-memory", "connecting", ("memory",)
    ),
}
ENGINE_DOWN = {"engine-down": Fault("The Docker engine does not run", "engine-unreachable", "starting")}


@pytest.fixture(scope="module")
def hub(engine: DockerEngine, commands: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    hub = hub_with("docker/jupyterhub_config.py", engine, tmp_path_factory.mktemp("docker"), commands, BROKEN)
    try:
        hub.start()
        yield hub
    finally:
        hub.clean_up()


def test_dockerspawner_runs_jupyterlab_and_a_killed_hub_finds_its_container(
    hub: HubProcess, engine: DockerEngine
) -> None:
    ada = with_server(hub, "ada")
    assert ada.get("/user/ada/lab").status_code == 200
    assert answer_of(ada, "print(6 * 7)") == "42"
    answer_of(ada, "open('/home/jovyan/work/kept', 'w').close(); open('/home/jovyan/lost', 'w').close()")
    assert engine.inspect("jupyter-ada")["HostConfig"]["Memory"] == 2 * 1024**3
    began, before = started_at(hub, "ada"), engine.inspect("jupyter-ada")["Id"]
    hub.kill()
    hub.start()
    hub.wait_ready("ada")
    assert (started_at(hub, "ada"), engine.inspect("jupyter-ada")["Id"]) == (began, before)
    stop(hub, "ada")
    assert engine.containers() == set()
    ada = with_server(hub, "ada")
    assert answer_of(ada, "import os; print(os.path.exists('/home/jovyan/lost'))") == "False"
    files = ada.get("/user/ada/api/contents").json()["content"]
    assert [each["name"] for each in files] == ["kept"], "what lies in the volume outlives the container"
    stop(hub, "ada")


def test_a_server_killed_at_its_memory_limit_is_told_to_its_owner(hub: HubProcess, engine: DockerEngine) -> None:
    ada = with_server(hub, "ada")
    engine.docker("update", "--memory=300m", "--memory-swap=300m", "jupyter-ada")
    # The kernel kills whoever is the easiest to spare; that is usually the one that asks, here it is the server.
    bomb = "open('/proc/1/oom_score_adj', 'w').write('1000'); held = bytearray(1 << 30)"
    with closing(kernel_of(ada)) as kernel:
        kernel.send(json.dumps(execute(bomb)))
        hub.wait_stopped("ada")
    page = ada.get("/hub/home").text
    assert "The server ran out of memory while it was running" in page, page
    answer = hub.api("GET", "/users/ada?include_stopped_servers").json()["servers"][""]
    assert answer["failure"]["cause"] == "out-of-memory"
    assert "memory limit of 300 MiB" in ada.get("/hub/spawn-pending/ada").text
    with_server(hub, "ada")
    stop(hub, "ada")
    assert engine.containers() == set()


@pytest.fixture(scope="module")
def readings(hub: HubProcess, engine: DockerEngine) -> dict[str, Reading]:
    readings = produce(hub, FAULTS)
    engine.stop()
    try:
        return readings | produce(hub, ENGINE_DOWN)
    finally:
        engine.start()


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", [*FAULTS, *ENGINE_DOWN])
def test_every_fault_explains_itself(
    readings: dict[str, Reading], name: str, check: Callable[[Reading], None]
) -> None:
    check(readings[name])


def test_what_a_failed_start_leaves_ends_with_the_next(
    readings: dict[str, Reading], hub: HubProcess, engine: DockerEngine
) -> None:
    assert engine.docker("ps", "--quiet") == "", "no container runs"
    left = engine.inspect("jupyter-exit-2dwith-2dmessage")["Id"]
    produce(hub, {"exit-with-message": FAULTS["exit-with-message"]})
    assert engine.inspect("jupyter-exit-2dwith-2dmessage")["Id"] != left
