"""Servers in pods, by the released kubespawner, on the stand-in for a cluster whose pods really run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kubernetes_validate
import pytest
import requests
import yaml

from .docker_engine import IMAGE, REGISTRY, DockerEngine, docker_engine, why_not
from .fault_checks import CHECKS
from .fault_report import Reading, produce
from .faults import Fault
from .hub_process import HubProcess, wait_for
from .kubernetes import Cluster
from .packages_environment import packages_environment
from .person import Person
from .public_environment import public_environment
from .test_docker import answer_of, started_at, stop
from .test_internal_tls import kernel_of, with_server
from .test_kubernetes_standin import Client
from .test_survival import execute
from .upstream import NotAvailable

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]

Object = dict[str, Any]
EXAMPLE = Path(__file__).resolve().parents[2] / "examples/kubernetes"
NAMESPACE = "/api/v1/namespaces/jupyterhub"
PODS, CLAIMS = f"{NAMESPACE}/pods", f"{NAMESPACE}/persistentvolumeclaims"
MISSING = f"{REGISTRY}/no-such-image:1"

#: Waits for whoever connects first: that is the Hub, once it has seen the pod run.
FIRST_VISIT = "import socket; socket.create_server(('', 8888)).accept(); "

#: What differs from the example: where this Hub is, and for each user, who is called like the fault, what is wrong.
CONFIG = """
load_subconfig({example!r})
c.JupyterHub.bind_url = {url!r}
c.JupyterHub.hub_ip = c.JupyterHub.hub_connect_ip = {ip!r}
c.JupyterHub.authenticator_class = "dummy"
c.Spawner.poll_interval = 1
c.Spawner.consecutive_failure_limit = 0
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 0}}
c.JupyterHub.concurrent_spawn_limit = 0
def broken(spawner):
    for setting, value in {{
        "image-missing": {{"image": {missing!r}, "image_pull_policy": "Never", "start_timeout": 6}},
        "registry-away": {{"image": {missing!r}, "start_timeout": 6}},
        "command-missing": {{"cmd": ["no-such-notebook"]}},
        "exit-at-once": {{"cmd": ["sh", "-c", "echo 'the key file is empty' >&2; exit 1"]}},
        "exit-with-message": {{"cmd": ["python", "-c", {first_visit!r} + "raise SystemExit('the key file is empty')"]}},
        "port-never-opens": {{"cmd": ["sh", "-c", "trap exit TERM; sleep 600 & wait"]}},
        "out-of-memory": {{
            "cmd": ["python", "-c", {first_visit!r} + "held = bytearray(1 << 30)"],
            "mem_limit": 100 * 1024**2, "mem_guarantee": 100 * 1024**2,
        }},
        "over-quota": {{"mem_limit": 100 * 1024**3}},
        "no-room": {{"mem_limit": 20 * 1024**3, "mem_guarantee": 20 * 1024**3, "start_timeout": 6}},
    }}.get(spawner.user.name, {{}}).items():
        setattr(spawner, setting, value)
        spawner.http_timeout = 6
c.Spawner.pre_spawn_hook = broken
"""
FAULTS = {
    "image-missing": Fault("There is no such image in the cluster", "image-missing", "starting", ("no-such-image",)),
    "registry-away": Fault("The registry cannot be reached", "image-missing", "starting", ("no-such-image",)),
    "command-missing": Fault("The image lacks the command", "command-not-found", "starting", ("'no-such-notebook'",)),
    "exit-at-once": Fault("The pod ends before it was seen running", "exited", "starting", ("the key file is empty",)),
    "exit-with-message": Fault("The pod ends with status 1 and says why", "exited", "connecting", ("the key file is empty",)),
    "port-never-opens": Fault("The pod runs and never opens its port", "port-never-opened", "connecting", ("6 seconds",)),
    "out-of-memory": Fault(
        "The server needs more memory than its pod may have", "out-of-memory", "connecting", ("memory limit 100 MiB",)
    ),
    "over-quota": Fault("The namespace's quota is used up", "limit-reached", "starting", ("exceeded quota: everybody",)),
    "no-room": Fault("No node has room for the pod", "no-capacity", "starting", ("Insufficient memory",)),
}  # fmt: skip
CLUSTER_DOWN = {"cluster-down": Fault("The cluster's API server does not answer", "engine-unreachable", "starting")}


def manifests() -> dict[str, Object]:
    """Return the objects of the example by their kinds."""
    return {each["kind"]: each for each in yaml.safe_load_all((EXAMPLE / "hub.yaml").read_text())}


@pytest.fixture(scope="module")
def commands() -> Path:
    """Where the Hub's command is, with kubespawner and its client beside it."""
    try:
        return packages_environment()
    except NotAvailable as reason:
        pytest.skip(f"NOT RUN, as the packages could not be had: {reason}")


@pytest.fixture(scope="module")
def engine(commands: Path) -> Iterator[DockerEngine]:
    # The image of the servers is the Hub's as well.
    public_environment("jupyterhub-kubespawner")
    with docker_engine() as engine:
        engine.docker("tag", IMAGE, manifests()["Deployment"]["spec"]["template"]["spec"]["containers"][0]["image"])
        yield engine


@pytest.fixture(scope="module")
def cluster(engine: DockerEngine) -> Iterator[Cluster]:
    with Cluster(engine, ip=engine.address) as cluster:
        admin = Client(cluster, cluster.admin)
        admin.create("/api/v1/namespaces", manifests()["Namespace"])
        quota = {"metadata": {"name": "everybody"}, "spec": {"hard": {"limits.memory": "64Gi"}}}
        admin.create(f"{NAMESPACE}/resourcequotas", quota)
        yield cluster


@pytest.fixture(scope="module")
def admin(cluster: Cluster) -> Client:
    return Client(cluster, cluster.admin)


@pytest.fixture(scope="module")
def hub(cluster: Cluster, commands: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A Hub outside of the cluster, with the example's configuration and the permissions of the example's role."""
    directory = tmp_path_factory.mktemp("kubernetes")
    hub = HubProcess(directory, bin_dir=commands, hub_ip=cluster.ip)
    config = CONFIG.format(example=str(EXAMPLE / "jupyterhub_config.py"), url=hub.url, ip=cluster.ip, missing=MISSING, first_visit=FIRST_VISIT)
    with hub.config_path.open("a") as file:
        file.write(config)
    token = cluster.service_account("jupyterhub", "hub", manifests()["Role"]["rules"])
    (directory / "kubeconfig").write_text(cluster.kubeconfig(token))
    hub.env.update(KUBECONFIG=str(directory / "kubeconfig"), HUB_DATA=str(directory), HUB_PASSWORD="for this test")
    try:
        hub.start()
        yield hub
    finally:
        hub.clean_up()


def names(admin: Client, path: str) -> set[str]:
    return {each["metadata"]["name"] for each in admin.ask("GET", path).json()["items"]}


def pod_of(admin: Client, name: str) -> Object:
    answer = admin.ask("GET", f"{PODS}/{name}")
    assert answer.status_code == 200, answer.text
    found: Object = answer.json()
    return found


# The stand-in's pods: the rows of the table that are about containers


def simple_pod(name: str, command: str, restart: str = "Never", **container: Any) -> Object:
    main = {"name": "c", "image": IMAGE, "command": ["sh", "-c", command], **container}
    return {"metadata": {"name": name}, "spec": {"restartPolicy": restart, "containers": [main]}}


def wait_for_pod(admin: Client, name: str, condition: Callable[[Object], Any]) -> Object:
    try:
        found: Object = wait_for(lambda: (pod := pod_of(admin, name)) and condition(pod) and pod, f"{name} is as wanted", 30, 0.1)
    except AssertionError as error:
        status = json.dumps(pod_of(admin, name)["status"])
        # Those that come after it find an empty namespace.
        admin.ask("DELETE", f"{PODS}/{name}", params={"gracePeriodSeconds": 0})
        raise AssertionError(f"{error}\n{status}") from None
    return found


def state_of(pod: Object) -> Object:
    states: list[Object] = pod["status"].get("containerStatuses") or [{"state": {}}]
    return states[0]


HUNGRY = "python -c 'held = bytearray(1 << 30)'"
LITTLE = {"limits": {"memory": "50Mi"}}


def test_a_container_over_its_memory_limit_is_killed_and_its_pod_has_failed(admin: Client) -> None:
    admin.create(PODS, simple_pod("hungry", f"exec {HUNGRY}", resources=LITTLE))
    pod = wait_for_pod(admin, "hungry", lambda pod: pod["status"]["phase"] == "Failed")
    terminated = state_of(pod)["state"]["terminated"]
    assert (terminated["reason"], terminated["exitCode"]) == ("OOMKilled", 137)
    admin.ask("DELETE", f"{PODS}/hungry")
    wait_for(lambda: "hungry" not in names(admin, PODS), "a pod that has ended goes at once")


def test_an_absent_image_that_may_not_be_fetched_leaves_its_pod_pending(admin: Client) -> None:
    admin.create(PODS, simple_pod("absent", "true", image=MISSING, imagePullPolicy="Never", resources=LITTLE))
    pod = wait_for_pod(admin, "absent", lambda pod: "reason" in state_of(pod)["state"].get("waiting", {}) and "Err" in str(state_of(pod)))
    assert pod["status"]["phase"] == "Pending"
    assert state_of(pod)["state"]["waiting"]["reason"] == "ErrImageNeverPull"
    events = admin.ask("GET", f"{NAMESPACE}/events", params={"fieldSelector": "involvedObject.name=absent"}).json()["items"]
    assert ("Warning", "ErrImageNeverPull") in {(each["type"], each["reason"]) for each in events}
    admin.ask("DELETE", f"{PODS}/absent")
    wait_for(lambda: "absent" not in names(admin, PODS), "it goes")


def test_a_container_is_started_again_in_its_pod_where_that_is_wanted(admin: Client) -> None:
    """Why the example asks for `Never`: a server that is killed comes back at the same address, and nobody is told."""
    code = f"test -e /kept/once && exec sleep 60; touch /kept/once; exec {HUNGRY}"
    pod = simple_pod("again", code, "OnFailure", resources=LITTLE, volumeMounts=[{"name": "kept", "mountPath": "/kept"}])
    pod["spec"]["volumes"] = [{"name": "kept", "emptyDir": {}}]
    address = admin.create(PODS, pod) and wait_for_pod(admin, "again", lambda pod: pod["status"].get("podIP"))["status"]["podIP"]
    found = wait_for_pod(admin, "again", lambda pod: state_of(pod).get("restartCount") and "running" in state_of(pod)["state"])
    assert (found["status"]["phase"], found["status"]["podIP"]) == ("Running", address)
    assert state_of(found)["lastState"]["terminated"]["reason"] == "OOMKilled"
    # It ends within the time that whoever deletes it gives.
    admin.ask("DELETE", f"{PODS}/again", params={"gracePeriodSeconds": 1})
    assert pod_of(admin, "again")["metadata"]["deletionGracePeriodSeconds"] == 1
    wait_for(lambda: "again" not in names(admin, PODS), "its containers have ended", 20)


# The released kubespawner


def test_kubespawner_runs_jupyterlab_and_a_killed_hub_finds_its_pod(hub: HubProcess, admin: Client) -> None:
    ada = with_server(hub, "ada")
    assert ada.get("/user/ada/lab").status_code == 200
    assert answer_of(ada, "import os; print(6 * 7, os.getuid(), os.environ['JUPYTERHUB_USER'])") == "42 1000 ada"
    answer_of(ada, "open('/home/jovyan/work/kept', 'w').close(); open('/home/jovyan/lost', 'w').close()")
    pod, began = pod_of(admin, "jupyter-ada"), started_at(hub, "ada")
    assert pod["status"]["phase"] == "Running" and pod["status"]["podIP"]
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"memory": "2147483648", "cpu": "1"}
    hub.kill()
    hub.start()
    hub.wait_ready("ada")
    assert (started_at(hub, "ada"), pod_of(admin, "jupyter-ada")["metadata"]["uid"]) == (began, pod["metadata"]["uid"])
    stop(hub, "ada")
    assert names(admin, PODS) == set()
    ada = with_server(hub, "ada")
    assert answer_of(ada, "import os; print(os.path.exists('/home/jovyan/lost'))") == "False"
    files = ada.get("/user/ada/api/contents").json()["content"]
    assert [each["name"] for each in files] == ["kept"], "what lies in the volume outlives the pod"
    stop(hub, "ada")


def test_whoever_waits_reads_what_the_cluster_does(hub: HubProcess) -> None:
    hub.api("POST", "/users/grace")
    hub.start_server("grace")
    request = hub.request("GET", "/hub/api/users/grace/server/progress", token=hub.token, timeout=60)
    events = [json.loads(line[5:]) for line in request.body.splitlines() if line.startswith(b"data:")]
    told = "\n".join(event.get("message", "") for event in events)
    for words in ("Successfully assigned jupyterhub/jupyter-grace to node-1", "Started container notebook"):
        assert words in told, told
    assert events[-1]["ready"]
    stop(hub, "grace")


def test_named_servers_have_pods_and_volumes_of_their_own_and_go_with_them(
    hub: HubProcess, admin: Client, engine: DockerEngine
) -> None:
    hub.api("POST", "/users/grace")
    for server in ("", "lab"):
        assert hub.start_server("grace", server).status in (201, 202)
    for server in ("", "lab"):
        hub.wait_ready("grace", server)
    assert names(admin, PODS) == {"jupyter-grace", "jupyter-grace--lab"}
    assert {"work-grace", "work-grace--lab"} <= names(admin, CLAIMS)
    for server, path in (("", "/user/grace"), ("lab", "/user/grace/lab")):
        assert hub.request("GET", f"{path}/api/status", token=hub.token).status == 200, server
    assert hub.api("DELETE", "/users/grace/servers/lab", {"remove": True}).status in (202, 204)
    wait_for(lambda: names(admin, PODS) == {"jupyter-grace"}, "the pod is deleted")
    wait_for(lambda: "work-grace--lab" not in names(admin, CLAIMS), "its volume is deleted")
    assert "work-grace" in names(admin, CLAIMS)
    stop(hub, "grace")
    wait_for(lambda: not engine.docker("ps", "--quiet"), "no container is left")


def test_a_server_killed_at_its_memory_limit_is_told_to_its_owner(
    hub: HubProcess, admin: Client, engine: DockerEngine
) -> None:
    ada = with_server(hub, "ada")
    uid = pod_of(admin, "jupyter-ada")["metadata"]["uid"]
    container = f"k8s_notebook_jupyter-ada_{uid}_0"
    engine.docker("update", "--memory=300m", "--memory-swap=300m", container)
    # The kernel kills whoever is the easiest to spare; that is usually the one that asks, here it is the server.
    bomb = "open('/proc/1/oom_score_adj', 'w').write('1000'); held = bytearray(1 << 30)"
    with closing(kernel_of(ada)) as kernel:
        kernel.send(json.dumps(execute(bomb)))
        hub.wait_stopped("ada")
    answer = hub.api("GET", "/users/ada?include_stopped_servers").json()["servers"][""]
    assert answer["failure"]["cause"] == "out-of-memory", answer
    page = ada.get("/hub/spawn-pending/ada").text
    assert "killed: memory limit 2 GiB" in page and "Jupyter Server" in page, page
    assert names(admin, PODS) == set()
    with_server(hub, "ada")
    stop(hub, "ada")


@pytest.fixture(scope="module")
def readings(hub: HubProcess, cluster: Cluster) -> dict[str, Reading]:
    readings = produce(hub, FAULTS)
    with cluster.away():
        return readings | produce(hub, CLUSTER_DOWN)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", [*FAULTS, *CLUSTER_DOWN])
def test_every_fault_explains_itself(
    readings: dict[str, Reading], name: str, check: Callable[[Reading], None]
) -> None:
    check(readings[name])


def test_what_has_failed_leaves_no_pod(readings: dict[str, Reading], admin: Client) -> None:
    wait_for(lambda: names(admin, PODS) == set(), "no pod is left")


@pytest.mark.parametrize("restarted", [False, True], ids=["the Hub goes on", "the Hub is restarted meanwhile"])
def test_an_api_server_that_is_away_costs_nobody_their_server(
    hub: HubProcess, admin: Client, cluster: Cluster, restarted: bool
) -> None:
    with_server(hub, "ada")
    uid, began = pod_of(admin, "jupyter-ada")["metadata"]["uid"], started_at(hub, "ada")
    seen = len(hub.log_path.read_text())
    with cluster.away():
        if restarted:
            hub.kill()
            hub.start()
            hub.wait_ready("ada")
        wait_for(lambda: polls_failed(hub, seen), "three polls find nobody to ask", 40)
        assert started_at(hub, "ada") == began
    assert hub.server("ada"), "not knowing is no reason to take a server away"
    # The pod is found again, and people can start others.
    if restarted:
        with_server(hub, "grace")
        stop(hub, "grace")
    assert (pod_of(admin, "jupyter-ada")["metadata"]["uid"], started_at(hub, "ada")) == (uid, began)
    admin.ask("DELETE", f"{PODS}/jupyter-ada")
    hub.wait_stopped("ada")


def polls_failed(hub: HubProcess, seen: int) -> bool:
    return hub.log_path.read_text()[seen:].count("Cannot connect to host") >= 3


def test_all_that_was_sent_holds_to_the_schemas_and_all_that_was_asked_for_is_in_the_role(
    readings: dict[str, Reading], cluster: Cluster
) -> None:
    kinds = {each["kind"] for each in cluster.server.received}
    assert {"Pod", "PersistentVolumeClaim"} <= kinds
    assert cluster.complaints == []
    asked = {(verb, what) for user, verb, what in cluster.server.asked if user != "admin"}
    assert {("create", "pods"), ("watch", "events"), ("get", "pods/log"), ("delete", "persistentvolumeclaims")} <= asked
    assert cluster.server.not_permitted == set()


# The example as it stands, in the cluster


@pytest.mark.parametrize("version", ["1.25", "1.31", "1.37"])
def test_the_manifests_hold_to_the_schemas(version: str) -> None:
    for each in manifests().values():
        kubernetes_validate.validate(each, version, strict=True)


def test_the_example_runs_in_the_cluster_and_its_hub_can_be_replaced(
    cluster: Cluster, admin: Client
) -> None:
    found = manifests()
    cluster.service_account("jupyterhub", "hub", found["Role"]["rules"])
    files = {"jupyterhub_config.py": (EXAMPLE / "jupyterhub_config.py").read_text()}
    admin.create(f"{NAMESPACE}/configmaps", {"metadata": {"name": "hub"}, "data": files})
    admin.create(f"{NAMESPACE}/secrets", {"metadata": {"name": "hub"}, "stringData": {"HUB_PASSWORD": "for this test"}})
    admin.create(CLAIMS, found["PersistentVolumeClaim"])
    admin.create(f"{NAMESPACE}/services", found["Service"])
    ada = Person(SimpleNamespace(url=run_hub_pod(admin, found["Deployment"])), "ada")  # type: ignore[arg-type]
    assert ada.log_in("a wrong password").status_code == 403
    ada.log_in("for this test")
    assert ada.get("/hub/spawn").status_code == 200
    # JupyterLab itself, not the page that tells to wait for it.
    wait_for(lambda: "/user/ada/lab" in ada.get("/user/ada/lab").url, "ada's server answers", 60, 0.3)
    uid, began = pod_of(admin, "jupyter-ada")["metadata"]["uid"], ada.get("/user/ada/api/status").json()["started"]
    # What a Deployment does for a new version of the Hub.
    admin.ask("DELETE", f"{PODS}/hub")
    wait_for(lambda: "hub" not in names(admin, PODS), "the Hub's pod is gone", 40, 0.2)
    ada.hub.url = run_hub_pod(admin, found["Deployment"])
    assert (ada.get("/user/ada/api/status").json()["started"], pod_of(admin, "jupyter-ada")["metadata"]["uid"]) == (began, uid)
    for name in ("jupyter-ada", "hub"):
        admin.ask("DELETE", f"{PODS}/{name}")
    wait_for(lambda: names(admin, PODS) == set(), "no pod is left", 40, 0.2)
    assert cluster.complaints == [] and cluster.server.not_permitted == set()


def run_hub_pod(admin: Client, deployment: Object) -> str:
    """Run the pod of a Deployment, wait until its Hub answers to the probe, and return the address."""
    template = deployment["spec"]["template"]
    probe = template["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"]
    metadata = {**template["metadata"], "name": "hub"}
    admin.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})

    def answers() -> str:
        url = f"http://{pod_of(admin, 'hub')['status'].get('podIP')}:8000"
        try:
            return url if requests.get(f"{url}{probe}", timeout=2).status_code == 200 else ""
        except requests.RequestException:
            return ""

    try:
        return str(wait_for(answers, "the Hub in its pod answers", 60, 0.3))
    except AssertionError as error:
        raise AssertionError(f"{error}\n{admin.ask('GET', f'{PODS}/hub').text}\n{admin.ask('GET', f'{PODS}/hub/log').text}") from None
