"""Health checks, and restarts nobody asked for (spawner-system S9)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from jupyterhub.core.lifecycle import State
from jupyterhub.metrics import SERVER_RESTARTS_TOTAL
from jupyterhub.runtime.health import checks_health
from jupyterhub.spawner import Spawner

from .fakes import text_of
from .live_hub import LiveHub, ObedientSpawner

#: Checks follow each other so closely that a test need not wait for them.
HASTY: dict[str, Any] = {
    "Spawner__health_interval": 0.1, "Spawner__health_failure_limit": 2, "Spawner__health_timeout": 5,
}


class Patient:
    """What the health checks of all servers find."""

    def __init__(self) -> None:
        self.well = True
        self.asked = 0

    def check(self, spawner: Spawner) -> bool:
        self.asked += 1
        return self.well


@pytest.fixture
def patient() -> Patient:
    return Patient()


@pytest.fixture
async def hub(request: pytest.FixtureRequest, patient: Patient) -> AsyncIterator[LiveHub]:
    """A Hub that checks its servers, with more settings by `@pytest.mark.parametrize("hub", [{…}], indirect=True)`."""
    settings = {"Spawner__health_check": lambda spawner: patient.check(spawner), **HASTY, **getattr(request, "param", {})}
    live = LiveHub(**settings)
    await live.start()
    yield live
    await live.close()


RESTARTS = pytest.mark.parametrize("hub", [{"Spawner__restart_policy": "on-failure"}], indirect=True)


def restarts_counted(reason: str) -> float:
    return float(SERVER_RESTARTS_TOTAL.labels(reason=reason)._value.get())


async def server_of(hub: LiveHub, name: str) -> dict[str, Any]:
    answer = await hub.as_("admin", "GET", f"/users/{name}?include_stopped_servers")
    server: dict[str, Any] = answer.json["servers"][""]
    return server


async def until(condition: Any) -> None:
    """Wait until an async condition holds."""
    async def wait() -> None:
        while not await condition():
            await asyncio.sleep(0.02)

    await asyncio.wait_for(wait(), 20)


async def test_off_unless_asked_for() -> None:
    assert ObedientSpawner.class_traits()["health_check"].default_value is False
    assert ObedientSpawner.class_traits()["restart_policy"].default_value == "never"


async def test_without_a_policy_the_owner_is_told_and_the_server_stays(hub: LiveHub, patient: Patient) -> None:
    await hub.run_server("ada")
    patient.well = False
    browser = await hub.browser("ada")

    async def shown() -> bool:
        return "has not answered its health checks" in text_of(await browser.get("/hub/home"))

    await until(shown)
    assert await hub.state("ada") is State.READY
    assert "restarts" not in await server_of(hub, "ada")
    patient.well = True

    async def well_again() -> bool:
        return not await shown()

    await until(well_again)


@RESTARTS
async def test_a_server_that_fails_is_started_again_with_its_options(hub: LiveHub, patient: Patient) -> None:
    ada = await hub.user("ada")
    await (await hub.context.servers.start(ada, "", options={"size": "small"})).done
    before, counted = ada.records[""].fence, restarts_counted("unhealthy")
    patient.well = False

    async def restarted() -> bool:
        if ada.records[""].fence != before:
            patient.well = True
        return bool((await server_of(hub, "ada")).get("restarts")) and await hub.state("ada") is State.READY

    await until(restarted)
    server = await server_of(hub, "ada")
    assert server["user_options"] == {"size": "small"}
    assert "2 health checks" in server["restarts"][0]["reason"] and server["restarts"][0]["at"]
    assert restarts_counted("unhealthy") > counted
    page = text_of(await (await hub.browser("ada")).get("/hub/home"))
    assert "It was started again" in page and "2 health checks" in page


@RESTARTS
@pytest.mark.parametrize("shut_down", [0, "ExitCode=0, Error='', FinishedAt=0"])
async def test_a_server_that_ends_by_itself_is_started_again_unless_it_was_shut_down(
    shut_down: int | str, hub: LiveHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit status 0 is a person's own doing, also in the words of a spawner of containers."""
    await hub.run_server("ada")
    await hub.run_server("bob")
    ada, bob = await hub.user("ada"), await hub.user("bob")
    status: dict[str, int | str] = {"ada": 3, "bob": shut_down}
    gone = set(status)

    async def poll(spawner: ObedientSpawner) -> int | str | None:
        name = spawner.user.name
        return status[name] if name in gone else None

    monkeypatch.setattr(ObedientSpawner, "poll", poll)
    for user in (ada, bob):
        await user.spawners[""].poll_and_notify()
    gone.clear()

    async def settled() -> bool:
        ready = await hub.state("ada") is State.READY and bool((await server_of(hub, "ada")).get("restarts"))
        return ready and await hub.state("bob") is State.STOPPED

    await until(settled)
    assert "exit status 3" in (await server_of(hub, "ada"))["restarts"][0]["reason"]
    assert "failure" not in await server_of(hub, "bob")


async def test_without_a_policy_an_end_has_a_reason(hub: LiveHub, monkeypatch: pytest.MonkeyPatch) -> None:
    await hub.run_server("ada")
    ada = await hub.user("ada")

    async def poll(spawner: ObedientSpawner) -> int | None:
        return -9

    monkeypatch.setattr(ObedientSpawner, "poll", poll)
    await ada.spawners[""].poll_and_notify()
    await hub.settle("ada", "", State.STOPPED)
    assert "exit status -9" in (await server_of(hub, "ada"))["failure"]["detail"]


@pytest.mark.parametrize(
    "hub", [{"Spawner__restart_policy": "on-failure", "Spawner__restart_limit": 2}], indirect=True
)
async def test_not_restarted_for_ever(hub: LiveHub, patient: Patient) -> None:
    """After `restart_limit` restarts it is left alone, and the owner is told that it does not work."""
    await hub.run_server("ada")
    patient.well = False
    browser = await hub.browser("ada")

    async def given_up() -> bool:
        page = text_of(await browser.get("/hub/home"))
        return "happened 2 times" in page and "has not answered its health checks" in page

    await until(given_up)
    asked = patient.asked

    async def asked_again() -> bool:
        return patient.asked > asked + 3

    await until(asked_again)
    assert len((await server_of(hub, "ada"))["restarts"]) == 2


@RESTARTS
async def test_whoever_stops_it_meanwhile_has_the_last_word(hub: LiveHub, patient: Patient) -> None:
    await hub.run_server("ada")
    ada = await hub.user("ada")
    hub.behaviour.stop_when.clear()
    patient.well = False
    await hub.settle("ada", "", State.STOPPING)
    stop = await hub.context.servers.stop(ada, "")
    hub.behaviour.stop_when.set()
    await stop.done
    await hub.settle("ada", "", State.STOPPED)
    asked = patient.asked
    patient.well = True
    await hub.run_server("ada")
    assert patient.asked == asked or await hub.state("ada") is State.READY
    assert "restarts" not in await server_of(hub, "ada")


@pytest.mark.parametrize("hub", [{"Spawner__health_check": True}], indirect=True)
async def test_true_asks_the_server_itself(hub: LiveHub) -> None:
    await hub.run_server("ada")
    ada = await hub.user("ada")
    record = ada.records[""]
    assert record.server is not None
    record.server.port = 1  # nobody listens there

    async def noticed() -> bool:
        return record.unhealthy_since is not None

    await until(noticed)
    record.server.port = hub.behaviour.port

    async def well() -> bool:
        return record.unhealthy_since is None

    await until(well)


def test_a_method_of_the_class_is_its_own_business() -> None:
    """S9's class checks in its own poll; the Hub does not call the method a second time."""

    class Monitored(ObedientSpawner):
        async def health_check(self) -> bool:
            raise AssertionError("called by the Hub")

    assert not checks_health(Monitored())
    asked = ObedientSpawner()
    assert not checks_health(asked)
    asked.health_check = True
    assert checks_health(asked)
