"""The public side of one process: its clients, their targets, and what happens to all of them together."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Coroutine, Iterable
from time import monotonic
from typing import Any

from .connection import ClientConnection
from .drain import Drain
from .exchange import Forwarding
from .log import Log
from .metrics import Metrics
from .options import Options
from .pages import ErrorPages
from .pool import Pool
from .pump import FILES, Pump
from .sockets import BACKLOG, most_connections, most_idle
from .table import Routes
from .tls import client_context, reload_context, server_context
from .websocket import Splice

__all__ = ["DataPlane"]


class DataPlane:
    """Made on its event loop; `listen` once, then it serves until `drain` and `close`.

    Raises TLSProblem when the certificates cannot be used.
    """

    def __init__(self, options: Options, log: Log, routes: Routes, metrics: Metrics) -> None:
        self.options = options
        self.log = log
        self.routes = routes
        self.metrics = metrics
        self.pool = Pool(most_idle())
        routes.released = self.pool.drop
        self.forwarding = Forwarding(options)
        self.rewrites_location = bool(options.auto_rewrite or options.protocol_rewrite)
        self.pages = ErrorPages(self)
        self.clients: set[ClientConnection] = set()
        self.splices: set[Splice] = set()
        self._most_connections = most_connections()
        #: True once the process is to end: no connection is kept for another request.
        self.draining = False
        self._drain = Drain(self)
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._client_context: ssl.SSLContext | None = None
        self._public_context = server_context(options.public_tls, options)
        if options.client_tls.given:
            self.client_context()
        self._sweeper: asyncio.TimerHandle | None = None

    async def listen(self, sockets: Iterable[socket.socket]) -> None:
        """Take clients from these sockets, which are bound already. Raises OSError."""
        loop = asyncio.get_running_loop()
        secure = self._public_context is not None
        tls: dict[str, Any] = {"ssl": self._public_context}
        if secure:
            tls["ssl_handshake_timeout"] = 20
        for bound in sockets:
            make: Any = loop.create_unix_server if bound.family == socket.AF_UNIX else loop.create_server
            server = await make(lambda: ClientConnection(self, secure=secure), sock=bound, backlog=BACKLOG, **tls)
            self._servers.append(server)
        self._sweep()

    def client_context(self) -> ssl.SSLContext:
        """TLS towards https targets, made on first use: the list of authorities is megabytes."""
        if self._client_context is None:
            self._client_context = client_context(self.options)
        return self._client_context

    # While it runs

    def admits(self) -> bool:
        """Whether there is room for one more client; those that say nothing have to leave for it."""
        limit = self.options.max_connections or self._most_connections - Pump.working * FILES // 2
        if len(self.clients) + len(self.splices) // 2 < limit:
            return True
        silent = [(since, client) for client in self.clients if (since := client.silent_since) is not None]
        silent.sort(key=lambda pair: pair[0])
        # Several at once, so that a flood does not sort all of them for each of its connections.
        for _, client in silent[: max(1, len(silent) // 20)]:
            client.make_room()
        return bool(silent)

    def may_pump(self) -> bool:
        """Whether there are files to spare for a pump. A client needs two."""
        used = len(self.clients) + len(self.splices) // 2 + Pump.working * FILES // 2
        return used < self._most_connections * 9 // 10

    async def reload(self) -> None:
        """Like `reload_now`, for whoever may have to wait for other processes instead."""
        self.reload_now()

    def reload_now(self) -> None:
        """Read the certificates again; connections that exist stay as they are.

        Raises TLSProblem, OSError or ssl.SSLError; then they stay in use as they were.
        """
        if self._public_context is not None:
            reload_context(self._public_context, self.options.public_tls)
        if self._client_context is not None:
            self._client_context = client_context(self.options)

    def own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside; it is cancelled when the process ends, and its failure is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.log.error(f"A mistake in the proxy itself: {task.exception()!r}")

    def _sweep(self) -> None:
        options = self.options
        limits = (
            *(options.timeout, options.proxy_timeout, options.keep_alive_timeout, options.websocket_timeout),
            *(options.head_timeout, options.body_timeout, 10.0),
        )
        shortest = min(limit for limit in limits if limit)
        # The next time first: whatever goes wrong in this one must not be the end of all time limits.
        self._sweeper = asyncio.get_running_loop().call_later(min(1.0, max(0.05, shortest / 5)), self._sweep)
        now = monotonic()
        everything: list[Any] = [*self.clients, *self.splices, self.pool]
        for waiting in everything:
            waiting.sweep(now)

    # End

    async def drain(self, timeout: float) -> None:
        """Take nobody new; return when what has begun is finished, after `timeout` seconds, or by `give_up`."""
        await self._drain.wait(timeout)

    def give_up(self) -> None:
        """Do not wait for requests any longer."""
        self._drain.give_up()

    def stop_listening(self) -> None:
        """Take no new connection from outside."""
        for server in self._servers:
            server.close()

    def drained(self) -> None:
        """A client has left while the process is ending."""
        self._drain.look()

    def close(self) -> None:
        """Let go of every connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self.stop_listening()
        for task in tuple(self._tasks):
            task.cancel()
        for client in tuple(self.clients):
            client.abort()
        for splice in tuple(self.splices):
            splice.hang_up()
        self.pool.close()
