"""The running program: ports of its own, routes on disk, signals. Traffic is its data plane's, or its workers'."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
from collections.abc import Callable
from time import monotonic
from typing import Any

from .api import RouteAPI, metrics_reply, redirect_reply
from .log import Log
from .metrics import Metrics
from .options import Listen, Options
from .server import DataPlane
from .smallhttp import Request, SmallServer
from .sockets import BACKLOG, CannotListen, bind, reason
from .table import Journal, Routes
from .tls import TLSProblem, reload_context, server_context
from .workers import Workers

__all__ = ["Control"]

#: Seconds between two writings of the routes' last use to disk.
ACTIVITY_INTERVAL = 60.0


class Control:
    """One proxy. Made on its event loop; `start` once, then `run` until a signal ends it."""

    def __init__(self, options: Options, log: Log) -> None:
        self.options = options
        self.log = log
        self.metrics = Metrics(enabled=options.metrics is not None)
        journal = None
        if options.state_file:
            journal = Journal(options.state_file, host_routing=options.host_routing, log=log)
        self.routes = Routes(host_routing=options.host_routing, journal=journal)
        self._workers = Workers(options, log, self.routes, self.metrics) if options.workers > 1 else None
        self._plane: DataPlane | Workers
        if self._workers is not None:
            self._plane = self._workers
        else:
            self._plane = DataPlane(options, log, self.routes, self.metrics)
        self._api_context = server_context(options.api_tls, options)
        self._servers: list[asyncio.Server] = []
        self._small: list[SmallServer] = []
        self._socket_files: list[str] = []
        self._ending = asyncio.Event()
        self._reloading: asyncio.Task[None] | None = None
        self._ready = False
        self._sweeper: asyncio.TimerHandle | None = None
        self._flushed_at = monotonic()

    # Start

    async def start(self) -> None:
        """Listen on every port, take the routes from disk, then accept. Raises CannotListen or TLSProblem."""
        options = self.options
        try:
            if self._workers is not None:
                self._workers.bind()
                public = []
            else:
                public = bind("public", options.public)
            if options.public.socket:
                self._socket_files.append(options.public.socket)
            publish = self._workers.publish if self._workers is not None else None
            refresh = self._workers.refresh if self._workers is not None else None
            api = RouteAPI(self.routes, self.metrics, self.log, options.auth_token, publish, refresh)
            await self._listen("REST API", options.api, api.answer, self._api_context)
            if options.metrics is not None:
                render = self._workers.render if self._workers is not None else self.metrics.render
                await self._listen("metrics", options.metrics, lambda request: metrics_reply(render, request))
            await self._listen_redirects()
            # Only the process that has the ports may touch the file with the routes.
            restored = self.routes.restore()
            if restored:
                self.log.info(f"Restored {restored} routes from {options.state_file}")
            if options.default_target and "/" not in self.routes.entries:
                self.routes.add("/", {"target": options.default_target})
            # The API is the sign that everything else is there.
            if isinstance(self._plane, DataPlane):
                try:
                    await self._plane.listen(public)
                except OSError as error:
                    raise CannotListen(f"Cannot listen on {options.public} (public): {reason(error)}") from None
            else:
                await self._plane.start()
            for server in self._servers:
                await server.start_serving()
        except BaseException:
            self.close()
            raise
        if not options.auth_token:
            self.log.warn("REST API is not authenticated: CONFIGPROXY_AUTH_TOKEN is not set")
        self._write_pid()
        self._sweep()
        self._ready = True
        secure = bool(options.public_tls.key or options.public_tls.cert)
        where = f"{'https' if secure else 'http'}://{options.public}"
        self.log.info(f"Proxying {where} to {options.default_target or '(no default)'}")
        self.log.info(f"Proxy API at {'https' if self._api_context else 'http'}://{options.api}/api/routes")

    async def _listen_redirects(self) -> None:
        options = self.options
        public = options.public
        if options.redirect_port is None or public.socket or public.port == 80:
            return
        port: int | None = options.redirect_to
        if port is None:
            port = None if public.port == 443 else public.port
        place = Listen(public.ip, options.redirect_port)
        await self._listen("redirect", place, lambda request: redirect_reply(port, request))

    async def _listen(
        self, name: str, where: Listen, answer: Callable[[Request], Any], context: ssl.SSLContext | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        small = SmallServer(answer, self.log.error)
        self._small.append(small)
        tls: dict[str, Any] = {"ssl": context}
        if context is not None:
            tls["ssl_handshake_timeout"] = 20
        for bound in bind(name, where):
            make: Any = loop.create_unix_server if where.socket else loop.create_server
            server = await make(small.protocol, sock=bound, start_serving=False, backlog=BACKLOG, **tls)
            self._servers.append(server)
        if where.socket:
            self._socket_files.append(where.socket)

    def _write_pid(self) -> None:
        path = self.options.pid_file
        if path:
            with open(path, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")

    # While it runs

    async def run(self) -> int:
        """Serve until a signal says otherwise; return the process's exit status (services-and-proxy D: 2)."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_end, signal.Signals(number).name)
        loop.add_signal_handler(signal.SIGHUP, self._told_to_reload)
        await self._ending.wait()
        await self._plane.drain(self.options.drain_timeout)
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
            self._plane.give_up()
        else:
            self.log.warn(f"{name}: letting requests finish")
            self._ending.set()

    def _told_to_reload(self) -> None:
        self._reloading = asyncio.get_running_loop().create_task(self.reload())

    async def reload(self) -> None:
        """Read the certificates again; connections that exist stay as they are."""
        try:
            if self._api_context is not None:
                reload_context(self._api_context, self.options.api_tls)
            await self._plane.reload()
            self.log.info("Certificates read again")
        except (TLSProblem, OSError, ssl.SSLError) as error:
            self.log.error(f"The certificates stay as they were: {error}")

    def _sweep(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(1.0, self._sweep)
        now = monotonic()
        for small in self._small:
            small.sweep(now)
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
        self._plane.close()
        if self._ready:
            self.routes.close()
            self._remove_pid()
        for path in self._socket_files:
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
