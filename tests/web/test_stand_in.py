"""A spawner that cannot be made, as its engine is away: nobody's page breaks, no server is lost, and the Hub comes up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from jupyterhub.core.lifecycle import State

from .live_hub import LiveHub, ObedientSpawner

SERVER = "/users/ada/server"


class SpawnerOfAnEngine(ObedientSpawner):
    """Asks the engine as soon as it is made."""

    away: ClassVar[bool] = False
    running: ClassVar[set[str]] = set()  # type: ignore[assignment]
    asked: ClassVar[int] = 0

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        if self.away:
            raise RuntimeError("Cannot connect to the Docker daemon")

    async def start(self) -> tuple[str, int]:
        self.running.add(self.user.name)
        return "127.0.0.1", self.behaviour.port

    async def poll(self) -> int | None:
        type(self).asked += 1
        return None if self.user.name in self.running else 0

    async def stop(self, now: bool = False) -> None:
        self.running.discard(self.user.name)

    def get_state(self) -> dict[str, Any]:
        return {"name": self.user.name}


@pytest.fixture(autouse=True)
def engine() -> Iterator[None]:
    SpawnerOfAnEngine.away, SpawnerOfAnEngine.asked = False, 0
    SpawnerOfAnEngine.running.clear()
    yield


@pytest.mark.parametrize("live", [{"spawner_class": SpawnerOfAnEngine}], indirect=True)
async def test_a_start_fails_in_words_and_the_next_makes_the_real_one(live: LiveHub) -> None:
    await live.user("ada")
    SpawnerOfAnEngine.away = True
    answer = await live.as_("admin", "POST", SERVER)
    assert answer.status == 500 and answer.json["failure"]["cause"] == "engine-unreachable", answer
    await live.settle("ada", "", State.STOPPED)
    assert (await live.as_("admin", "GET", SERVER)).json["failure"]["cause"] == "engine-unreachable"
    SpawnerOfAnEngine.away = False
    assert (await live.as_("admin", "POST", SERVER)).status == 201
    assert SpawnerOfAnEngine.running == {"ada"}
    assert (await live.as_("admin", "DELETE", SERVER)).status == 204
    assert SpawnerOfAnEngine.running == set()


async def test_a_hub_that_is_started_meanwhile_keeps_what_runs(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "spawner_class": SpawnerOfAnEngine,
        "db_url": f"sqlite:///{tmp_path / 'hub.sqlite'}",
        "cleanup_servers": False,
        "Spawner__poll_interval": 1,
    }
    first = LiveHub(**settings)
    await first.start()
    await first.user("ada")
    assert (await first.as_("admin", "POST", SERVER)).status == 201
    await first.close()
    SpawnerOfAnEngine.away, SpawnerOfAnEngine.asked = True, 0
    second = LiveHub(**settings)
    await second.start()
    try:
        await second.settle("ada", "", State.READY)
        model = (await second.as_("admin", "GET", "/users/ada")).json["servers"][""]
        assert model["ready"] and model["state"] == {"name": "ada"}
        SpawnerOfAnEngine.away = False
        while not SpawnerOfAnEngine.asked:
            await asyncio.sleep(0.01)
        assert (await second.as_("admin", "DELETE", SERVER)).status == 204
        assert SpawnerOfAnEngine.running == set()
    finally:
        await second.close()
