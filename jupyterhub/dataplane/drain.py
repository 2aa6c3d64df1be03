"""The end of the process: nothing new, but what has begun may finish."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .server import DataPlane

__all__ = ["Drain"]


class Drain:
    """Waits for requests under way.

    WebSockets have no end of their own and are closed when the requests are done.
    """

    def __init__(self, server: DataPlane) -> None:
        self._server = server
        self._done = asyncio.Event()

    async def wait(self, timeout: float) -> None:
        """Return when the last request has been answered, after `timeout` seconds, or by `give_up`."""
        self._server.draining = True
        self._server.stop_listening()
        for client in tuple(self._server.clients):
            client.drain()
        self.look()
        try:
            await asyncio.wait_for(self._done.wait(), timeout)
        except asyncio.TimeoutError:
            self._server.log.warn(f"{len(self._server.clients)} connections were still busy after {timeout:g} s")

    def look(self) -> None:
        """See whether anybody is left."""
        if not any(client.busy for client in self._server.clients):
            self._done.set()

    def give_up(self) -> None:
        """Do not wait any longer."""
        self._done.set()
