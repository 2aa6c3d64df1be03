"""Spawners for tests: one that starts nothing, one per way to fail, and one that finds its server by name.

They are named for what they do, and are complete spawners: whatever the Hub promises to a spawner it must promise to
these. Plugins and deployments may use them in their own tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, ClassVar

from traitlets import Float, Unicode

from ..net import random_port
from ..spawner import Spawner
from .options import SpawnException

__all__ = [
    "AnswersNowhere",
    "DiesAtOnce",
    "FailsToStart",
    "FailsToStop",
    "ForgetsToReturn",
    "FoundByName",
    "NeverStarts",
    "PollFails",
    "RefusesToStart",
    "ReturnsNonsense",
    "StartsNothing",
]


class StartsNothing(Spawner):
    """Starts nothing, and claims that it runs at `address` until it is stopped or `die` is called.

    `calls` are the names of the methods that were called, in order.
    """

    address = Unicode("127.0.0.1", help="Where the server is said to listen.").tag(config=True)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.calls: list[str] = []
        self.running = False
        self.exit_status = 0
        super().__init__(*args, **kwargs)

    def load_state(self, state: dict[str, Any]) -> None:
        """It runs if it ran."""
        super().load_state(state)
        self.running = bool(state.get("running", False))
        self.port = int(state.get("port", self.port))

    def get_state(self) -> dict[str, Any]:
        """Whether it runs."""
        state = super().get_state()
        if self.running:
            state.update(running=True, port=self.port)
        return state

    def clear_state(self) -> None:
        """It does not run."""
        super().clear_state()
        self.calls.append("clear_state")
        self.running = False

    async def start(self) -> Any:
        """Pretend."""
        self.calls.append("start")
        self.port = self.port or random_port()
        self.running = True
        return (self.address, self.port)

    async def stop(self, now: bool = False) -> None:
        """Pretend no longer."""
        self.calls.append("stop")
        self.running = False

    async def poll(self) -> int | None:
        """What is pretended."""
        self.calls.append("poll")
        return None if self.running or self._start_guard.depth else self.exit_status

    def die(self, exit_status: int = 1) -> None:
        """Let the next poll find the server gone."""
        self.running, self.exit_status = False, exit_status


class FailsToStart(StartsNothing):
    """`start` raises RuntimeError."""

    async def start(self) -> Any:
        """Fail."""
        self.calls.append("start")
        raise RuntimeError("no room at the inn")


class RefusesToStart(StartsNothing):
    """`start` raises SpawnException: a refusal by policy, with a text for the user."""

    async def start(self) -> Any:
        """Refuse."""
        self.calls.append("start")
        raise SpawnException("Your allowance is used up", reason="allowance", status_code=403)


class NeverStarts(StartsNothing):
    """`start` goes on until it is cancelled; the server counts as running meanwhile."""

    async def start(self) -> Any:
        """Wait for ever."""
        self.calls.append("start")
        self.running = True
        await asyncio.Event().wait()


class DiesAtOnce(StartsNothing):
    """`start` returns an address, and the server is gone right away, with exit status 3."""

    async def start(self) -> Any:
        """Start, and be gone."""
        address = await super().start()
        self.die(3)
        return address


class AnswersNowhere(StartsNothing):
    """The server runs, but at its address (port 1 of this machine) nobody answers."""

    async def start(self) -> Any:
        """Name an address at which nothing listens."""
        await super().start()
        return ("127.0.0.1", 1)


class ReturnsNonsense(StartsNothing):
    """`start` returns something that is no address."""

    async def start(self) -> Any:
        """Return a dictionary."""
        await super().start()
        return {"address": "somewhere"}


class ForgetsToReturn(StartsNothing):
    """`start` returns nothing, and has not filled in the address by itself."""

    async def start(self) -> Any:
        """Return nothing."""
        self.calls.append("start")
        self.running = True


class FailsToStop(StartsNothing):
    """`stop` raises, and the server goes on."""

    async def stop(self, now: bool = False) -> None:
        """Fail."""
        self.calls.append("stop")
        raise RuntimeError("it would not listen")


class PollFails(StartsNothing):
    """`poll` raises once the server has been started, as when a scheduler is away."""

    async def poll(self) -> int | None:
        """Fail, once there is something to look at."""
        if self.running:
            raise ConnectionError("the scheduler is away")
        return await super().poll()


class FoundByName(Spawner):
    """Finds its server again by name, as spawners of containers do; every step takes up to `delay` seconds.

    The engine is a dictionary that all objects share: whatever a Hub remembers, a server exists while its name is in
    there. Starting a name that exists is an error, as it is for container engines.
    """

    engine: ClassVar[dict[str, int]] = {}

    delay = Float(0.0, help="Seconds that every step takes.").tag(config=True)
    engine_name = Unicode(help="The server's name in the engine.")

    @property
    def container(self) -> str:
        """The name under which the engine knows the server."""
        return f"{self.user.name}--{self.name}"

    async def _step(self) -> None:
        await asyncio.sleep(self.delay)

    def load_state(self, state: dict[str, Any]) -> None:
        """The name, nothing else."""
        super().load_state(state)
        self.engine_name = str(state.get("name", ""))

    def get_state(self) -> dict[str, Any]:
        """The name, as soon as there is something by that name."""
        state = super().get_state()
        if self.engine_name:
            state["name"] = self.engine_name
        return state

    def clear_state(self) -> None:
        """Forget the name; the engine forgets nothing."""
        super().clear_state()
        self.engine_name = ""

    async def progress(self) -> AsyncGenerator[dict[str, Any], None]:
        """Two steps."""
        yield {"progress": 20, "message": "Asking the engine"}
        await self._step()
        yield {"progress": 60, "message": "The engine is at work"}

    async def start(self) -> Any:
        """Let the engine make a server by this name."""
        await self._step()
        if self.container in self.engine:
            raise RuntimeError(f"there is a container {self.container} already")
        self.port = self.port or random_port()
        self.engine[self.container] = self.port
        self.engine_name = self.container
        await self._step()
        return ("127.0.0.1", self.port)

    async def poll(self) -> int | None:
        """Ask the engine, by name."""
        await self._step()
        return None if self.container in self.engine or self._start_guard.depth else 0

    async def stop(self, now: bool = False) -> None:
        """Let the engine remove it, by name."""
        await self._step()
        self.engine.pop(self.container, None)
        await self._step()
