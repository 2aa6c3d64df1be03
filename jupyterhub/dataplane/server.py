"""The running proxy: its ports, its connections, and what happens to all of them together."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import ssl
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any

from .api import RouteAPI, metrics_reply, redirect_reply
from .connection import ClientConnection
from .drain import Drain
from .exchange import Forwarding
from .log import Log
from .metrics import CONTENT_TYPE, Metrics
from .options import Listen, Options
from .pages import ErrorPages
from .pool import Pool
from .smallhttp import Request, SmallServer
from .sockets import most_connections, remove_stale_socket, watch_peer
from .table import Journal, Routes
from .tls import TLSProblem, client_context, reload_context, server_context
from .websocket import Splice

__all__ = ["CannotListen", "DataPlane"]

#: Seconds between two writings of the routes' last use to disk.
ACTIVITY_INTERVAL = 60.0
_BACKLOG = 2048


class CannotListen(Exception):
    """An address cannot be listened on. The message names it and says why."""


class DataPlane:
    """One proxy process. Made on its event loop; `start` once, then `run` until a signal ends it."""

    def __init__(self, options: Options, log: Log) -> None:
        self.options = options
        self.log = log
        self.metrics = Metrics(enabled=options.metrics is not None)
        journal = None
        if options.state_file:
            journal = Journal(options.state_file, host_routing=options.host_routing, log=log)
        self.routes = Routes(host_routing=options.host_routing, journal=journal)
        self.pool = Pool()
        self.routes.released = self.pool.drop
        self.forwarding = Forwarding(options)
        self.rewrites_location = bool(options.auto_rewrite or options.protocol_rewrite)
        self.pages = ErrorPages(self)
        self.clients: set[ClientConnection] = set()
        self.splices: set[Splice] = set()
        self.ready = False
        self._connection_limit = options.max_connections or most_connections()
        self._drain = Drain(self)
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._public: list[asyncio.Server] = []
        self._small: list[SmallServer] = []
        self._sockets: list[str] = []
        self._client_context: ssl.SSLContext | None = None
        self._public_context: ssl.SSLContext | None = None
        self._api_context: ssl.SSLContext | None = None
        self._ending = asyncio.Event()
        self._sweeper: asyncio.TimerHandle | None = None
        self._flushed_at = monotonic()

    # Start

    async def start(self) -> None:
        """Listen on every port, take the routes from disk, then accept. Raises CannotListen or TLSProblem."""
        options = self.options
        self._public_context = server_context(options.public_tls, options)
        self._api_context = server_context(options.api_tls, options)
        if options.client_tls.given:
            self.client_context()
        secure = self._public_context is not None
        try:
            await self._listen_public(secure)
            api = RouteAPI(self.routes, self.metrics, self.log, options.auth_token)
            await self._listen_small("REST API", options.api, api.answer, self._api_context)
            if options.metrics is not None:
                await self._listen_small(
                    "metrics", options.metrics, lambda r: metrics_reply(self.metrics, CONTENT_TYPE, r)
                )
            await self._listen_redirects()
        except BaseException:
            self.close()
            raise
        # Only the process that has the ports may touch the file with the routes.
        restored = self.routes.restore()
        if restored:
            self.log.info(f"Restored {restored} routes from {options.state_file}")
        if options.default_target and "/" not in self.routes.entries:
            self.routes.add("/", {"target": options.default_target})
        # The API is the sign that everything else is there.
        for server in (*self._public, *(s for s in self._servers if s not in self._public)):
            await server.start_serving()
        if not options.auth_token:
            self.log.warn("REST API is not authenticated: CONFIGPROXY_AUTH_TOKEN is not set")
        self._write_pid()
        self._sweep()
        self.ready = True
        where = f"{'https' if secure else 'http'}://{options.public}"
        self.log.info(f"Proxying {where} to {options.default_target or '(no default)'}")
        self.log.info(f"Proxy API at {'https' if self._api_context else 'http'}://{options.api}/api/routes")

    async def _listen_public(self, secure: bool) -> None:
        server = await self._listen(
            "public",
            self.options.public,
            lambda: ClientConnection(self, secure=secure),
            self._public_context,
        )
        self._public.append(server)

    async def _listen_redirects(self) -> None:
        options = self.options
        public = options.public
        if options.redirect_port is None or public.socket or public.port == 80:
            return
        port: int | None = options.redirect_to
        if port is None:
            port = None if public.port == 443 else public.port
        place = Listen(public.ip, options.redirect_port)
        await self._listen_small("redirect", place, lambda request: redirect_reply(port, request))

    async def _listen_small(
        self,
        name: str,
        where: Listen,
        answer: Callable[[Request], Any],
        context: ssl.SSLContext | None = None,
    ) -> None:
        small = SmallServer(answer, self.log.error)
        self._small.append(small)
        await self._listen(name, where, small.protocol, context)

    async def _listen(
        self,
        name: str,
        where: Listen,
        factory: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext | None,
    ) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        tls: dict[str, Any] = {"ssl": context}
        if context is not None:
            tls["ssl_handshake_timeout"] = 20
        try:
            if where.socket:
                remove_stale_socket(where.socket)
                server = await loop.create_unix_server(
                    factory, where.socket, start_serving=False, backlog=_BACKLOG, **tls
                )
                self._sockets.append(where.socket)
            else:
                server = await loop.create_server(
                    factory,
                    where.ip,
                    where.port,
                    start_serving=False,
                    backlog=_BACKLOG,
                    reuse_address=True,
                    **tls,
                )
                for listening in server.sockets:
                    # Connections inherit it.
                    watch_peer(listening)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                reason = "it is in use by another process"
            elif error.errno == errno.EACCES:
                reason = "this user may not (ports below 1024 need a privilege)"
            else:
                reason = str(error)
            raise CannotListen(f"Cannot listen on {where} ({name}): {reason}") from None
        self._servers.append(server)
        return server

    def _write_pid(self) -> None:
        path = self.options.pid_file
        if path:
            with open(path, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")

    def client_context(self) -> ssl.SSLContext:
        """TLS towards https targets, made on first use: the list of authorities is megabytes."""
        if self._client_context is None:
            self._client_context = client_context(self.options)
        return self._client_context

    # While it runs

    async def run(self) -> int:
        """Serve until a signal says otherwise; return the process's exit status (services-and-proxy D: 2)."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_end, signal.Signals(number).name)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        await self._ending.wait()
        await self._drain.wait(self.options.drain_timeout)
        for number in (signal.SIGTERM, signal.SIGINT):
            # Impatience must not turn an orderly end into a kill at the last moment.
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
        self.close()
        # Closed transports say their last word in the next turn of the loop.
        await asyncio.sleep(0)
        return 2

    def _told_to_end(self, name: str) -> None:
        if self._ending.is_set():
            self.log.warn(f"{name} again: not waiting any longer")
            self._drain.give_up()
        else:
            self.log.warn(f"{name}: letting requests finish")
            self._ending.set()

    @property
    def draining(self) -> bool:
        """True once the process is to end: no connection is kept for another request."""
        return self._drain.begun

    def stop_listening(self) -> None:
        """Take no new connection from outside."""
        for server in self._public:
            server.close()

    def drained(self) -> None:
        """A client has left while the process is ending."""
        self._drain.look()

    def reload(self) -> None:
        """Read the certificates again; connections that exist stay as they are."""
        options = self.options
        try:
            if self._public_context is not None:
                reload_context(self._public_context, options.public_tls)
            if self._api_context is not None:
                reload_context(self._api_context, options.api_tls)
            if self._client_context is not None:
                self._client_context = client_context(options)
            self.log.info("Certificates read again")
        except (TLSProblem, OSError, ssl.SSLError) as error:
            self.log.error(f"The certificates stay as they were: {error}")

    def admits(self) -> bool:
        """Whether there is room for one more client; those that say nothing have to leave for it."""
        if len(self.clients) + len(self.splices) // 2 < self._connection_limit:
            return True
        silent = [(since, client) for client in self.clients if (since := client.silent_since) is not None]
        silent.sort(key=lambda pair: pair[0])
        # Several at once, so that a flood does not sort all of them for each of its connections.
        for _, client in silent[: max(1, len(silent) // 20)]:
            client.make_room()
        return bool(silent)

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
        everything: list[Any] = [*self.clients, *self.splices, *self._small, self.pool]
        for waiting in everything:
            waiting.sweep(now)
        if now - self._flushed_at > ACTIVITY_INTERVAL:
            self._flushed_at = now
            self.routes.flush_activity()

    # End

    def close(self) -> None:
        """Let go of everything: ports, connections, files."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for server in self._servers:
            server.close()
        for small in self._small:
            small.close()
        for task in tuple(self._tasks):
            task.cancel()
        for client in tuple(self.clients):
            client.abort()
        for splice in tuple(self.splices):
            splice.hang_up()
        self.pool.close()
        if self.ready:
            self.routes.close()
            self._remove_pid()
        for path in self._sockets:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _remove_pid(self) -> None:
        path = self.options.pid_file
        if not path:
            return
        with contextlib.suppress(OSError, ValueError):
            with open(path, encoding="ascii") as file:
                mine = int(file.read()) == os.getpid()
            if mine:
                os.unlink(path)
