"""One of several workers: a data plane that does what its parent says, and ends when that is gone.

Its first argument are the descriptors it was given: the way to the parent, then the sockets to listen on.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import sys
from typing import Any

from .channel import Channel, open_channel
from .log import Log
from .metrics import Metrics
from .options import Options, parse_options
from .process import allow_many_files, new_loop, quieten_collector
from .server import DataPlane
from .table import Routes
from .tls import TLSProblem

__all__ = ["main"]


class _Worker:
    def __init__(self, options: Options, log: Log, sockets: list[socket.socket]) -> None:
        self._sockets = sockets
        self._routes = Routes(host_routing=options.host_routing)
        self._metrics = Metrics(enabled=options.metrics is not None)
        self._plane = DataPlane(options, log, self._routes, self._metrics)
        self._drain_timeout = options.drain_timeout
        self._over = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None
        self.channel: Channel

    async def run(self, end: socket.socket) -> None:
        self.channel = await open_channel(end, self._told, self._over.set)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._end)
        await self._over.wait()
        self._plane.close()
        # Closed transports say their last word in the next turn of the loop.
        await asyncio.sleep(0)

    def _told(self, message: Any) -> None:
        number, verb, *arguments = message
        result: Any = None
        if verb == "add":
            self._routes.add(*arguments)
        elif verb == "delete":
            self._routes.delete(*arguments)
        elif verb == "report":
            result = {"used": self._routes.used(), "metrics": self._metrics.snapshot()}
        elif verb == "begin":
            for route in arguments[0]:
                self._routes.add(*route)
            self._plane.own(self._begin(number))
            return
        elif verb == "reload":
            try:
                self._plane.reload_now()
            except (TLSProblem, OSError, ssl.SSLError) as error:
                result = str(error)
        elif verb == "end":
            self._end()
        self.channel.send([number, result])

    async def _begin(self, number: int) -> None:
        await self._plane.listen(self._sockets)
        self.channel.send([number, None])

    def _end(self) -> None:
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._finish())
        else:
            self._plane.give_up()

    async def _finish(self) -> None:
        await self._plane.drain(self._drain_timeout)
        # The last words about routes and counters.
        self.channel.send([0, {"used": self._routes.used(), "metrics": self._metrics.snapshot()}])
        await asyncio.sleep(0)
        self._over.set()


async def _serve(options: Options, log: Log, descriptors: list[int]) -> int:
    way, *sockets = (socket.socket(fileno=descriptor) for descriptor in descriptors)
    try:
        worker = _Worker(options, log, sockets)
    except TLSProblem as error:
        log.error(str(error))
        return 1
    await worker.run(way)
    return 0


def main() -> None:
    """Run until the parent says otherwise or is gone."""
    # The parent decides; what the terminal sends to everybody is meant for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    descriptors = [int(number) for number in sys.argv[1].split(",")]
    options = parse_options(sys.argv[2:], told=False)
    allow_many_files()
    loop = new_loop()
    quieten_collector()
    try:
        status = loop.run_until_complete(_serve(options, Log(options.log_level), descriptors))
    finally:
        loop.close()
    sys.exit(status)


if __name__ == "__main__":
    main()
