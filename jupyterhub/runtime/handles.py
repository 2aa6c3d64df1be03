"""What this process holds about servers in motion: handles, never the only copy of a fact."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..core.lifecycle import Failure, State

if TYPE_CHECKING:
    from ..spawner import Spawner
    from ..spawning.record import SpawnerRecord
    from ..user import User
    from .launch import Launch


@dataclass
class Start:
    """A start under way. `done` ends with None, or with the exception that whoever waits should see."""

    user: User
    server_name: str
    done: asyncio.Future[None]

    async def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds. Returns whether it is over; raises the failure when it failed."""
        return await _wait(self.done, timeout)


@dataclass
class Stop:
    """A stop under way, with the same shape as a start."""

    user: User
    server_name: str
    done: asyncio.Future[None]

    async def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds. Returns whether it is over; raises the failure when it failed."""
        return await _wait(self.done, timeout)


async def _wait(future: asyncio.Future[None], timeout: float) -> bool:
    if timeout > 0 or future.done():
        await asyncio.wait([future], timeout=max(timeout, 0))
    if not future.done():
        return False
    future.result()
    return True


def new_future() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    # A failure nobody waited for is in the record, the log and the metrics already.
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


@dataclass(frozen=True)
class ServerStatus:
    """What pages and the API say about one server."""

    state: State
    pending: str | None
    ready: bool
    active: bool
    failure: Failure | None
    phases: list[dict[str, Any]]
    #: Restarts of this run nobody asked for, oldest first: ``{"at": ISO time, "reason": text}``.
    restarts: Sequence[dict[str, str]] = ()
    #: Since when a ready server fails its health checks.
    unhealthy_since: datetime | None = None

    @property
    def stopped(self) -> bool:
        return not self.active


@dataclass(slots=True)
class Handle:
    """What this process holds about one server: handles, never the only copy of a fact."""

    user: User
    name: str
    record: SpawnerRecord
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    launch: Launch | None = None
    task: asyncio.Task[None] | None = None
    start: Start | None = None
    stop: Stop | None = None
    cancelled: bool = False
    remove_when_stopped: bool = False
    #: It is stopped in order to be started again; a person's wish to stop it takes this back.
    restart: bool = False
    phases: list[dict[str, Any]] = field(default_factory=list)
    output: list[str] = field(default_factory=list)

    @property
    def state(self) -> State:
        return self.record.lifecycle

    @property
    def spawner(self) -> Spawner:
        return self.user.spawners[self.name]

    @property
    def log_name(self) -> str:
        return f"{self.user.name}:{self.name}" if self.name else self.user.name
