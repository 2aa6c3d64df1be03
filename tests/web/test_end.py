"""The end of a Hub that stops its servers: who is waited for, for how long, and what the log says meanwhile (cli §1.8)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import ClassVar

import pytest

from jupyterhub.core.lifecycle import State
from jupyterhub.runtime import launch

from .live_hub import LiveHub, ObedientSpawner


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def about(self, words: str) -> str:
        """The lines with these words."""
        return "\n".join(line for line in self.lines if words in line)


class PollHangs(ObedientSpawner):
    """`poll` does not come back once the server runs; `engine` is what really runs."""

    engine: ClassVar[list[str]] = []
    polling: ClassVar[asyncio.Event]
    cancelled: ClassVar[list[str]] = []
    log_at_stop: ClassVar[list[str]] = []
    kept: ClassVar[Kept]

    async def start(self) -> tuple[str, int]:
        self.engine.append(self._log_name)
        return await super().start()

    async def poll(self) -> int | None:
        if not self.running:
            return 0
        self.polling.set()
        try:
            await self.hang()
        except asyncio.CancelledError:
            self.cancelled.append(self._log_name)
            raise
        # What it was about to do by itself.
        await self.start()
        return None

    async def hang(self) -> None:
        await asyncio.Event().wait()

    async def stop(self, now: bool = False) -> None:
        self.log_at_stop[:] = self.kept.lines
        await super().stop(now)
        self.engine.remove(self._log_name)


class PollHangsAndStopFails(PollHangs):
    """And the server cannot be stopped."""

    async def stop(self, now: bool = False) -> None:
        raise RuntimeError("the engine is away")


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "POLL_TIMEOUT", 0.05)


@pytest.fixture
def kept() -> Iterator[Kept]:
    PollHangs.kept, PollHangs.polling = Kept(), asyncio.Event()
    for known in (PollHangs.engine, PollHangs.cancelled, PollHangs.log_at_stop):
        known.clear()
    yield PollHangs.kept


@pytest.fixture
async def hub(request: pytest.FixtureRequest, kept: Kept) -> AsyncIterator[LiveHub]:
    live = LiveHub(spawner_class=request.param, Spawner__poll_interval=0)
    await live.start()
    level = live.app.log.level
    live.app.log.addHandler(kept)
    live.app.log.setLevel(logging.INFO)
    yield live
    await live.close()
    live.app.log.removeHandler(kept)
    live.app.log.setLevel(level)


@pytest.mark.parametrize("hub", [PollHangs], indirect=True)
async def test_a_poll_that_hangs_does_not_hold_up_the_end(hub: LiveHub, kept: Kept) -> None:
    await hub.run_server("ada")
    await hub.run_server("bob")
    await asyncio.wait_for(hub.app.cleanup(), 30)
    assert PollHangs.engine == []
    assert sorted(PollHangs.cancelled) == ["ada", "bob"], "what a poll still might do must not meet the stop"
    said = "\n".join(line for line in PollHangs.log_at_stop if "Waiting until" in line)
    assert "for 2 servers to stop: ada, bob" in said, "it is said at once"
    assert "did not finish within 0.05 seconds" in kept.about("'poll'")
    assert not kept.about("left to the next Hub")


@pytest.mark.parametrize("hub", [PollHangsAndStopFails], indirect=True)
async def test_what_could_not_be_stopped_is_still_known(hub: LiveHub) -> None:
    await hub.run_server("ada")
    ada = await hub.user("ada")
    await (await hub.context.servers.stop(ada, "")).done
    record = ada.records[""]
    assert record.state == {"place": "here"}
    assert record.failure is not None and "the engine is away" in record.failure.left_behind


@pytest.mark.parametrize("hub", [PollHangs], indirect=True)
async def test_whoever_else_waits_for_the_poll_hears_that_it_was_given_up(hub: LiveHub) -> None:
    await hub.run_server("ada")
    ada = await hub.user("ada")
    looking = asyncio.ensure_future(ada.spawners[""].poll_and_notify())
    await PollHangs.polling.wait()
    await (await hub.context.servers.stop(ada, "")).done
    with pytest.raises(RuntimeError, match="poll took too long"):
        await looking
    assert await hub.state("ada") is State.STOPPED
    assert PollHangs.engine == []


@pytest.mark.parametrize("hub", [ObedientSpawner], indirect=True)
async def test_who_is_not_waited_for_any_longer_is_named(hub: LiveHub, kept: Kept) -> None:
    for number in range(22):
        await hub.run_server(f"user-{number:02}")
    hub.behaviour.stop_when.clear()
    await hub.context.servers.stop_all(0.05)
    named = ", ".join(f"user-{number:02}" for number in range(20))
    assert f"22 servers have not stopped within 0.05 s, and are left to the next Hub: {named} and 2 more" in kept.about("left")
