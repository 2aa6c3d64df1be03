"""Servers as services of a real Docker Swarm of three nodes, by the released dockerspawner; the Hub is a service too."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from .docker_engine import IMAGE, REGISTRY, run
from .fault_checks import CHECKS
from .fault_report import Page, Reading, produce
from .faults import Fault
from .hub_process import HubProcess, wait_for
from .person import Person
from .swarm_cluster import SwarmCluster, SwarmNode, swarm_cluster, why_not
from .test_docker import answer_of, started_at, stop
from .test_internal_tls import with_server
from .upstream import NotAvailable

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/swarm"
PASSWORD = "for-this-test"
#: Where the stack has the Hub's directory.
FILES = "/srv/jupyterhub"
CONFIG = f"""
c.JupyterHub.db_url = "sqlite:///jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = "cookie_secret"
c.ConfigurableHTTPProxy.pid_file = "proxy.pid"
load_subconfig("{FILES}/example.py")
c.Spawner.poll_interval = 1
c.JupyterHub.extra_log_file = "hub.log"
c.Spawner.consecutive_failure_limit = 0
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 0}}

def choose(spawner, options):
    machine = options.get("machine")
    place = f"node.labels.machine == {{machine}}" if machine else "node.role == worker"
    spawner.extra_placement_spec = {{"constraints": [place]}}
    # What is different for each user who is called like a fault.
    for setting, value in {{
        "image-missing": {{"image": "{REGISTRY}/no-such-image:1"}},
        "command-missing": {{"cmd": ["no-such-notebook"]}},
        # Not at once: whether the spawner had seen it run would be anybody's guess.
        "exit-with-message": {{"cmd": ["sh", "-c", "sleep 4; echo 'the key file is empty' >&2; exit 3"], "http_timeout": 10}},
        "too-large": {{"mem_guarantee": 1 << 50, "mem_limit": 1 << 50}},
    }}.get(spawner.user.name, {{}}).items():
        setattr(spawner, setting, value)
    if spawner.user.name in ("nowhere", "image-missing", "too-large"):
        # The swarm goes on looking for a place, and the released spawner waits for it.
        spawner.start_timeout = 6
c.SwarmSpawner.apply_user_options = choose
"""


class SwarmHub(HubProcess):
    """The Hub as the example has it, a service that the swarm starts again when it is killed."""

    def __init__(self, directory: Path, cluster: SwarmCluster) -> None:
        super().__init__(directory / "hub", CONFIG)
        self.cluster = cluster
        self.homes = directory / "homes"
        self.homes.mkdir()
        shutil.copy(EXAMPLE / "jupyterhub_config.py", self.directory / "example.py")
        self.hub_ip, self.hub_port = cluster.manager.address, 8000
        self.url = f"http://{self.hub_ip}:{self.hub_port}"

    def start(self, *, wait: bool = True) -> float:
        manager = self.cluster.manager
        words = ("stack", "deploy", "--resolve-image", "never", "--compose-file", str(EXAMPLE / "stack.yml"), "trial")
        settings = {
            "HUB_IMAGE": IMAGE,
            "SERVER_IMAGE": IMAGE,
            "HUB_PASSWORD": PASSWORD,
            "HUB_FILES": str(self.directory),
            "HOMES": str(self.homes),
            "DOCKER_SOCKET": str(manager.directory / "socket"),
        }
        run("docker", *words, environment={**manager.environment, **settings})
        self.wait_until_up(60)
        return 0.0

    def wait_until_up(self, timeout: float = 60) -> None:
        super().wait_until_up(timeout)

    def kill(self) -> None:
        """SIGKILL the Hub; its container, with the proxy in it, ends with it."""
        docker = self.cluster.manager.docker
        container = docker("ps", "--quiet", "--filter", "label=com.docker.swarm.service.name=trial_hub")
        process = psutil.Process(int(docker("inspect", "--format", "{{.State.Pid}}", container)))
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    def log_tail(self, lines: int = 60) -> str:
        return self.cluster.manager.docker("service", "ps", "--no-trunc", "trial_hub") + super().log_tail(lines)


@pytest.fixture(scope="module")
def cluster() -> Iterator[SwarmCluster]:
    try:
        with swarm_cluster("dockerspawner") as cluster:
            yield cluster
    except NotAvailable as reason:
        pytest.skip(f"NOT RUN, as no swarm can be had: {reason}")


@pytest.fixture(scope="module")
def hub(cluster: SwarmCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwarmHub]:
    docker = cluster.manager.docker
    docker("network", "create", "--driver", "overlay", "jupyterhub")
    docker("node", "update", "--label-add", "hub=true", cluster.manager.name)
    hub = SwarmHub(tmp_path_factory.mktemp("swarm"), cluster)
    hub.start()
    yield hub


def with_server_on(hub: SwarmHub, name: str, machine: str) -> Person:
    """Log in and start a server on the machine that its owner chooses."""
    person = Person(hub, name)
    assert person.log_in(PASSWORD).status_code == 200
    assert hub.start_server(name, options={"machine": machine}).status in (201, 202)
    hub.wait_ready(name)
    return person


def other_worker(cluster: SwarmCluster, name: str) -> SwarmNode:
    return next(node for node in cluster.nodes[1:] if node.name != name)


def test_jupyterlab_runs_on_the_machine_that_was_chosen_and_outlives_a_killed_hub(
    hub: SwarmHub, cluster: SwarmCluster
) -> None:
    assert Person(hub, "ada").log_in("wrong-password").status_code == 403
    ada = with_server_on(hub, "ada", "node2")
    assert cluster.node_of("jupyter-ada") == "node2"
    assert ada.get("/user/ada/lab").status_code == 200
    assert answer_of(ada, "print(6 * 7)") == "42"
    began, service = started_at(hub, "ada"), cluster.service_id("jupyter-ada")
    hub.kill()
    hub.wait_until_up()
    hub.wait_ready("ada")
    assert (started_at(hub, "ada"), cluster.service_id("jupyter-ada")) == (began, service)
    assert answer_of(ada, "print(6 * 7)") == "42"
    stop(hub, "ada")
    assert cluster.services() == {"trial_hub"}


def test_a_server_that_its_owner_shuts_down_stays_down(hub: SwarmHub, cluster: SwarmCluster) -> None:
    ada = with_server(hub, "ada", PASSWORD)
    service = cluster.service_id("jupyter-ada")
    assert hub.request("POST", "/user/ada/api/shutdown", b"", token=hub.token).status == 200
    hub.wait_stopped("ada")
    assert "failure" not in hub.api("GET", "/users/ada?include_stopped_servers").json()["servers"].get("", {})
    ada = with_server(hub, "ada", PASSWORD)
    assert ada.get("/user/ada/lab").status_code == 200
    assert cluster.service_id("jupyter-ada") != service
    stop(hub, "ada")
    assert cluster.services() == {"trial_hub"}


FAULTS = {
    "nowhere": Fault(
        "No machine meets a constraint",
        "no-capacity",
        "starting",
        ("No machine meets the conditions", "constraints not satisfied on 3 nodes"),
        options={"machine": "nowhere"},
    ),
    "too-large": Fault("No machine has as much memory", "no-capacity", "starting", ("insufficient resources",)),
    "image-missing": Fault("The image is on no machine", "image-missing", "starting", ("no-such-image",)),
    "command-missing": Fault("The image lacks the command", "command-not-found", "starting", ("'no-such-notebook'",)),
    "exit-with-message": Fault(
        "The server ends with status 3 and says why", "exited", "connecting", ("status 3", "the key file is empty")
    ),
}


@pytest.fixture(scope="module")
def readings(hub: SwarmHub) -> dict[str, Reading]:
    return produce(hub, FAULTS, PASSWORD)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_explains_itself(readings: dict[str, Reading], name: str, check: Callable[[Reading], None]) -> None:
    check(readings[name])


# The last: a manager may take the logs of a machine that was away for a moment for out of reach, until it connects anew.
def test_a_machine_that_dies_costs_only_the_servers_on_it(hub: SwarmHub, cluster: SwarmCluster) -> None:
    lise = with_server(hub, "lise", PASSWORD)
    answer_of(lise, "open('/home/jovyan/work/kept', 'w').close()")
    dying = next(node for node in cluster.nodes if node.name == cluster.node_of("jupyter-lise"))
    other = other_worker(cluster, dying.name)
    with_server_on(hub, "grace", other.name)
    began = started_at(hub, "grace")
    with dying.unplugged():
        hub.wait_stopped("lise")
        failure = hub.api("GET", "/users/lise?include_stopped_servers").json()["servers"][""]["failure"]
        assert (failure["cause"], failure["phase"]) == ("machine-lost", "running"), failure
        page = Page(0, lise.get("/hub/spawn-pending/lise").text)
        assert page.title == "The server's machine is gone"
        assert f"The machine {dying.name} is down" in page.sentence
        assert page.next_step.startswith("Start it again, on another machine.")
        lise = with_server(hub, "lise", PASSWORD)
        assert cluster.node_of("jupyter-lise") == other.name
        kept = answer_of(lise, "import os; print(os.listdir('/home/jovyan/work'))")
        assert kept == "['kept']", "what lies in the shared directory is on the other machine, too"
        assert started_at(hub, "grace") == began
    wait_for(lambda: cluster.state_of(dying) == "ready", "the machine is back")
    # The services of failed starts are still there; the next start replaces them.
    wait_for(lambda: not any("lise" in name for name in dying.containers()), "what ran on the machine is taken away")
    for name in ("lise", "grace"):
        stop(hub, name)
    assert not cluster.services() & {"jupyter-lise", "jupyter-grace"}
