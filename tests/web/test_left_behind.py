"""A server that could not be stopped is not forgotten: the next start looks for it, and tries to stop it again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from jupyterhub.core.lifecycle import State

from .live_hub import LiveHub, ObedientSpawner

SERVER = "/users/ada/server"


class SpawnerWithAnEngine(ObedientSpawner):
    """Knows its servers by a number in its state; the engine may be away."""

    engine: ClassVar[set[int]] = set()
    away: ClassVar[bool] = False
    number = 0
    started: ClassVar[int] = 0

    def ask(self) -> None:
        if type(self).away:
            raise RuntimeError("the engine is away")

    async def start(self) -> tuple[str, int]:
        self.ask()
        type(self).started += 1
        self.number = type(self).started
        self.engine.add(self.number)
        return "127.0.0.1", self.behaviour.port

    async def poll(self) -> int | None:
        # An engine that is away makes nobody's server gone.
        return None if type(self).away or self.number in self.engine else 0

    async def stop(self, now: bool = False) -> None:
        self.ask()
        self.engine.discard(self.number)

    def get_state(self) -> dict[str, Any]:
        return {"number": self.number} if self.number else {}

    def load_state(self, state: dict[str, Any]) -> None:
        self.number = state.get("number", 0)

    def clear_state(self) -> None:
        self.number = 0


@pytest.fixture(autouse=True)
def empty_engine() -> Iterator[None]:
    SpawnerWithAnEngine.engine.clear()
    SpawnerWithAnEngine.away, SpawnerWithAnEngine.started = False, 0
    yield


async def start(live: LiveHub) -> Any:
    answer = await live.as_("admin", "POST", SERVER)
    if answer.status != 201:
        await live.settle("ada", "", State.STOPPED)
    return answer


@pytest.mark.parametrize("live", [{"spawner_class": SpawnerWithAnEngine}], indirect=True)
async def test_it_is_looked_for_until_it_is_gone(live: LiveHub) -> None:
    await live.user("ada")
    assert (await start(live)).status == 201
    SpawnerWithAnEngine.away = True
    await live.as_("admin", "DELETE", SERVER)
    await live.settle("ada", "", State.STOPPED)
    for _ in range(2):
        answer = await start(live)
        assert answer.status == 500 and "the engine is away" in answer.json["failure"]["detail"], answer
        assert "may still be running" in (await live.as_("admin", "GET", SERVER)).json["failure"]["left_behind"]
        assert SpawnerWithAnEngine.engine == {1}
    SpawnerWithAnEngine.away = False
    assert (await start(live)).status == 201
    assert SpawnerWithAnEngine.engine == {2}, "the old server was stopped before the new one was started"
    assert "failure" not in (await live.as_("admin", "GET", SERVER)).json


@pytest.mark.parametrize("live", [{"spawner_class": SpawnerWithAnEngine}], indirect=True)
async def test_one_that_went_by_itself_is_no_obstacle(live: LiveHub) -> None:
    await live.user("ada")
    assert (await start(live)).status == 201
    SpawnerWithAnEngine.away = True
    await live.as_("admin", "DELETE", SERVER)
    await live.settle("ada", "", State.STOPPED)
    SpawnerWithAnEngine.away = False
    SpawnerWithAnEngine.engine.clear()
    assert (await start(live)).status == 201
    assert SpawnerWithAnEngine.engine == {2}
