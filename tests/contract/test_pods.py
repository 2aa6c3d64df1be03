"""What a spawner of pods does not say: that its copy of the cluster is stale, and why a pod ended."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest
from tornado.log import app_log

from jupyterhub.spawning import pods
from jupyterhub.spawning.pods import PodEnded, before_poll, before_progress, pod_logs, start

pytestmark = pytest.mark.timeout(20)
TOKEN = "token-of-this-run"


class Reflector:
    """A copy of a cluster's pods that could be loaded, and is watched."""

    def __init__(self, *found: dict[str, Any]) -> None:
        self.pods = {f"ns/{each['metadata']['name']}": each for each in found}
        self.first_load_future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.first_load_future.set_result(None)
        self.watch_task: asyncio.Future[None] | None = asyncio.get_running_loop().create_future()


class Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"({status})")
        self.status = status


class Api:
    """The part of the API server that gives logs."""

    def __init__(self, written: str = "", refused: int = 0) -> None:
        self.written, self.refused, self.asked = written, refused, 0

    async def read_namespaced_pod_log(self, name: str, namespace: str, *, container: str, tail_lines: int) -> str:
        self.asked += 1
        if self.refused:
            raise Refused(self.refused)
        return "\n".join(self.written.splitlines()[-tail_lines:])


class PodSpawner:
    """Made like kubespawner's: reflectors are shared by the class."""

    reflectors: ClassVar[dict[Any, Any]] = {}
    log, _log_name = app_log, "ada"
    namespace, pod_name, api_token, mem_limit = "ns", "jupyter-ada", TOKEN, 2 * 1024**3
    never_running = False

    def __init__(self, api: Api | None = None) -> None:
        self.api = api or Api()
        self.started = asyncio.Event()

    @property
    def pod_reflector(self) -> Any:
        return self.reflectors.get(("pods", "ns"))

    async def start(self) -> str:
        self.started.set()
        if self.never_running:
            await asyncio.sleep(3600)
        return "http://10.0.0.7:8888"


class WaitingPodSpawner(PodSpawner):
    never_running = True


class PlainSpawner:
    async def start(self) -> str:
        return "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def no_reflectors() -> None:
    PodSpawner.reflectors.clear()


def pod(phase: str = "Running", state: dict[str, Any] | None = None, *, uid: str = "1", token: str = TOKEN, **status: Any) -> dict[str, Any]:
    env = [{"name": "JUPYTERHUB_API_TOKEN", "value": token}]
    states = [{"name": "sidecar", "state": {"running": {}}}, {"name": "notebook", "state": state}] if state else []
    return {
        "metadata": {"name": "jupyter-ada", "namespace": "ns", "uid": uid},
        "spec": {"containers": [{"name": "notebook", "env": env}, {"name": "sidecar"}]},
        "status": {"phase": phase, "containerStatuses": states, **status},
    }


def ended(code: int, reason: str = "Error", **more: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, **more}}


# Copies that are not current


async def test_a_copy_that_is_current_or_being_loaded_is_kept() -> None:
    loading = Reflector()
    loading.first_load_future = asyncio.get_running_loop().create_future()
    PodSpawner.reflectors.update({("pods", "ns"): Reflector(), ("events", "ns"): loading})
    await before_poll(PodSpawner())
    assert set(PodSpawner.reflectors) == {("pods", "ns"), ("events", "ns")}


async def test_a_copy_that_could_not_be_loaded_or_is_no_longer_watched_is_dropped() -> None:
    failed, given_up, never_watched = Reflector(), Reflector(), Reflector()
    failed.first_load_future = asyncio.get_running_loop().create_future()
    failed.first_load_future.set_exception(OSError("the API server is away"))
    assert given_up.watch_task is not None
    given_up.watch_task.set_result(None)
    never_watched.watch_task = None
    for reflector in (failed, given_up, never_watched):
        PodSpawner.reflectors[("pods", "ns")] = reflector
        await before_poll(PodSpawner())
        assert PodSpawner.reflectors == {}


# Why a pod ended


async def test_the_last_lines_of_a_pod_are_kept_before_a_poll_deletes_it() -> None:
    spawner = PodSpawner(Api("one\ntwo"))
    PodSpawner.reflectors[("pods", "ns")] = Reflector(pod("Failed", ended(1)))
    await before_poll(spawner)
    PodSpawner.reflectors[("pods", "ns")] = Reflector()
    logs = pod_logs(spawner)
    assert logs is not None and await logs(10) == ["one", "two"] and await logs(1) == ["two"]
    assert spawner.api.asked == 1
    assert getattr(spawner, "exit_reason", "") == ""


@pytest.mark.parametrize(("limit", "reason"), [(2 * 1024**3, "killed: memory limit 2 GiB"), (None, "killed: memory limit")])
async def test_a_pod_at_its_memory_limit_says_so(limit: int | None, reason: str) -> None:
    spawner: Any = PodSpawner()
    spawner.mem_limit = limit
    PodSpawner.reflectors[("pods", "ns")] = Reflector(pod("Failed", ended(137, "OOMKilled")))
    await before_poll(spawner)
    assert spawner.exit_reason == reason


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (pod("Failed", ended(127, "ContainerCannotRun", message="exec: no such file")), "exec: no such file"),
        (pod("Failed", reason="Evicted", message="The node was low on resource: memory."), "The node was low on resource: memory."),
    ],
)
async def test_what_the_cluster_says_of_an_end_stands_in_the_last_lines(found: dict[str, Any], line: str) -> None:
    spawner = PodSpawner()
    PodSpawner.reflectors[("pods", "ns")] = Reflector(found)
    logs = pod_logs(spawner)
    assert logs is not None and await logs(10) == [line]


async def test_a_running_pod_is_asked_and_one_that_waits_is_not() -> None:
    spawner = PodSpawner(Api("serving"))
    logs = pod_logs(spawner)
    assert logs is not None and await logs(10) == []
    PodSpawner.reflectors[("pods", "ns")] = Reflector(pod("Pending", {"waiting": {"reason": "ContainerCreating"}}))
    assert await logs(10) == [] and spawner.api.asked == 0
    PodSpawner.reflectors[("pods", "ns")] = Reflector(pod("Running", {"running": {}}))
    assert await logs(10) == ["serving"]


async def test_a_hub_that_may_not_read_logs_asks_once() -> None:
    spawner = PodSpawner(Api(refused=403))
    PodSpawner.reflectors[("pods", "ns")] = Reflector(pod("Running", {"running": {}}))
    logs = pod_logs(spawner)
    assert logs is not None
    assert [await logs(10), await logs(10), spawner.api.asked] == [[], [], 1]


# Starts


async def test_a_start_returns_what_the_spawner_returns() -> None:
    assert await start(PlainSpawner()) == "http://127.0.0.1:1"
    assert await start(PodSpawner()) == "http://10.0.0.7:8888"


async def test_a_start_whose_pod_has_ended_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "LOOK_INTERVAL", 0.01)
    spawner = WaitingPodSpawner()
    # That of the last run, with another token, says nothing of this one.
    PodSpawner.reflectors[("pods", "ns")] = Reflector(pod("Failed", ended(9), uid="0", token="an older one"))
    starting = asyncio.ensure_future(start(spawner))
    await asyncio.sleep(0.1)
    assert not starting.done()
    PodSpawner.reflectors[("pods", "ns")] = Reflector(pod("Failed", ended(3), uid="1"))
    with pytest.raises(PodEnded) as caught:
        await starting
    assert caught.value.exit_status == 3


async def test_a_start_that_is_given_up_ends_the_spawners_own() -> None:
    spawner = WaitingPodSpawner()
    starting = asyncio.ensure_future(start(spawner))
    await spawner.started.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert len(asyncio.all_tasks()) == 1


# What the cluster tells during a start


class TellingPodSpawner(PodSpawner):
    """Has events as kubespawner does: those after the one that is noted as the last of the old ones."""

    events_enabled = True
    _last_event: str | None = None

    def __init__(self, *events: str) -> None:
        super().__init__()
        self.known: list[str] = []
        self.loaded = list(events)

    async def _start_watching_events(self) -> None:
        if self.loaded == ["away"]:
            raise OSError("the API server is away")
        self.known, self.loaded = self.known + self.loaded, []

    @property
    def events(self) -> list[dict[str, Any]]:
        first = self.known.index(self._last_event) + 1 if self._last_event else 0
        return [{"metadata": {"uid": uid}} for uid in self.known[first:]]


async def test_a_progress_tells_of_this_start_only() -> None:
    spawner = TellingPodSpawner("pulled-yesterday", "killed-yesterday")
    await before_progress(spawner)
    spawner.known.append("failed-now")
    assert spawner.events == [{"metadata": {"uid": "failed-now"}}]
    await before_progress(spawner)
    assert spawner.events == []


async def test_a_cluster_that_is_away_or_has_nothing_to_tell_is_no_obstacle() -> None:
    for spawner in (TellingPodSpawner("away"), TellingPodSpawner()):
        await before_progress(spawner)
        assert spawner._last_event is None
    await before_progress(PodSpawner())
    await before_progress(PlainSpawner())


async def test_others_are_left_alone() -> None:
    spawner = PlainSpawner()
    await before_poll(spawner)
    assert pod_logs(spawner) is None and vars(spawner) == {}
