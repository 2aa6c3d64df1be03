"""A client's connection.

Reads requests, finds their target, writes the answers in the order of the requests.
"""

from __future__ import annotations

import asyncio
import time
from time import monotonic
from typing import TYPE_CHECKING, Any

from .exchange import Exchange
from .pool import open_connection
from .reading import BODY_WAITS, NEXT_WAITS, PUMPED, UPSTREAM_FULL, RequestReader
from .upstream import UpstreamConnection

if TYPE_CHECKING:
    from .server import DataPlane
    from .table import Target

__all__ = ["ClientConnection"]

#: Seconds in which a client takes nothing of what is written for it.
STUCK_TIMEOUT = 600.0
#: Seconds in which a connection that is being closed must be gone.
CLOSING_TIMEOUT = 30.0
#: Idle clients get this much more than --keep-alive-timeout says, so that a request sent just then still
#: counts.
KEEP_ALIVE_GRACE = 1.0
#: Seconds a refused client may go on sending, so that it sees the answer and not a reset.
LINGER = 2.0


class ClientConnection(RequestReader):
    """One connection from outside."""

    __slots__ = (
        "_advancing",
        "_peer",
        "_secure",
        "_served",
        "_task",
        "_written_at",
        "write_paused",
    )

    def __init__(self, server: DataPlane, *, secure: bool) -> None:
        super().__init__(server)
        self.write_paused = False
        self._secure = secure
        self._peer = b""
        self._task: asyncio.Task[None] | None = None
        self._advancing = False
        self._written_at = 0.0
        self._served = 0

    # asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        admitted = self.server.admits()
        self.server.clients.add(self)
        if not admitted:
            self._refused = (503, "too many connections")
            self._refuse()
            return
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple) and peer:
            # An IPv4 client of a socket for both families is still an IPv4 client.
            self._peer = str(peer[0]).removeprefix("::ffff:").encode("latin-1")

    def connection_lost(self, exc: Exception | None) -> None:
        self.leave()
        current, self._current = self._current, None
        self._queue.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if current is not None and current.upstream is not None:
            current.upstream.abandon()

    def pause_writing(self) -> None:
        self.write_paused = True
        current = self._current
        if current is not None and current.upstream is not None:
            current.upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        self.write_paused = False
        self._written_at = monotonic()
        current = self._current
        if current is not None and current.upstream is not None:
            upstream = current.upstream.transport
            if not upstream.is_closing():
                upstream.resume_reading()

    # The way of a request

    def _begin(self, exchange: Exchange) -> None:
        self._current = exchange
        server = self.server
        path = exchange.url.decode("latin-1")
        if path == "/_chp_healthz" and exchange.method == b"GET":
            self.reply(exchange, 200, b"application/json", b'{"status":"OK"}', count=False)
            return
        metrics = server.metrics
        if exchange.websocket:
            metrics.requests_ws += 1
        else:
            metrics.requests_web += 1
        if metrics.enabled:
            began = time.perf_counter()
            entry = server.routes.find(exchange.host.decode("latin-1"), path)
            metrics.find_target.observe(time.perf_counter() - began)
        else:
            entry = server.routes.find(exchange.host.decode("latin-1"), path)
        if entry is None:
            self.fail(exchange, 404, "no route")
            return
        exchange.entry = entry
        target = entry.target
        if target is None:
            self.fail(exchange, 500, f"the target {entry.body['target']!r} makes no sense")
            return
        if server.log.debugging:
            server.log.debug(f"PROXY {'WS' if exchange.websocket else 'WEB'} {path} to {target.url}")
        if not exchange.websocket:
            upstream = server.pool.take(target, exchange)
            if upstream is not None:
                self._send(exchange, upstream)
                return
        self._connect(exchange, target)

    def _connect(self, exchange: Exchange, target: Target) -> None:
        self._task = self.server.own(self._open(exchange, target))

    async def _open(self, exchange: Exchange, target: Target) -> None:
        server = self.server
        try:
            upstream = await open_connection(
                target,
                lambda: UpstreamConnection(target, server.pool),
                server.client_context,
                server.options.connect_timeout,
            )
        except (OSError, TimeoutError) as error:
            self._task = None
            if exchange is self._current:
                self.fail(exchange, 503, f"{target.url}: {error}")
            return
        self._task = None
        if exchange is self._current and not self.transport.is_closing():
            self._send(exchange, upstream)
        else:
            upstream.transport.abort()

    def _send(self, exchange: Exchange, upstream: UpstreamConnection) -> None:
        exchange.sent_at = monotonic()
        upstream.begin(self, exchange, exchange.head(self.server.forwarding, self._peer, secure=self._secure))
        if self.write_paused:
            upstream.transport.pause_reading()
        if self._holds and not exchange.websocket:
            self._release(BODY_WAITS)

    def write(self, data: bytes) -> None:
        """Part of an answer."""
        self.transport.write(data)
        self._written_at = monotonic()

    def written(self) -> None:
        """Somebody else has written a part of an answer."""
        self._written_at = monotonic()

    def connection_header(self, exchange: Exchange) -> bytes:
        """What the client is told about its connection. Decides whether it is kept."""
        if exchange.expect_continue or self.server.draining or exchange.websocket:
            # Without a "go on" the client may or may not send the body: nobody can tell what comes next.
            exchange.keep_alive = False
        if not exchange.keep_alive:
            return b"Connection: close\r\n"
        return b"Connection: keep-alive\r\n" if exchange.minor == 0 else b""

    def response_done(self, exchange: Exchange, status: int) -> None:
        """The answer has been written, all of it."""
        entry = exchange.entry
        if entry is not None and status < 300:
            if self.server.metrics.enabled:
                began = time.perf_counter()
                entry.touch()
                self.server.metrics.update_activity.observe(time.perf_counter() - began)
            else:
                entry.touch()
        self.server.metrics.proxied(status)
        self._answered(exchange)

    def _answered(self, exchange: Exchange) -> None:
        exchange.upstream = None
        exchange.response_done = True
        exchange.response_started = True
        self._served += 1
        if not exchange.keep_alive:
            self._close(gently=not exchange.body_done)
        elif exchange.body_done:
            self._next()
        else:
            exchange.discard = True
            exchange.body_size = 0
            exchange.body.clear()
            self._release(UPSTREAM_FULL | BODY_WAITS)

    def _next(self) -> None:
        self._current = None
        if self._holds:
            self._release(UPSTREAM_FULL | BODY_WAITS)
        if self._advancing:
            # An answer of our own was complete at once: the loop below goes on, and the stack stays flat.
            return
        self._advancing = True
        while self._queue and self._current is None and not self._closing_since:
            self._begin(self._queue.popleft())
        self._advancing = False
        if self._holds and not self._queue:
            self._release(NEXT_WAITS)

    def upstream_lost(self, exchange: Exchange, upstream: UpstreamConnection, exc: Exception | None) -> None:
        """The target's connection broke before its answer was complete."""
        exchange.upstream = None
        if exchange is not self._current:
            return
        target = upstream.target
        if exchange.response_started:
            self.server.log.error(f"502 {self._name(exchange)} {target.url} hung up half-way: {exc or 'closed'}")
            # The client must not take half an answer for a whole one: close without the end that was
            # announced.
            exchange.keep_alive = False
            self._close()
        elif upstream.uses > 1 and exchange.repeatable and not isinstance(exc, ValueError):
            # It was closed while it waited in the pool, most likely; nothing of an answer was seen.
            self._connect(exchange, target)
        else:
            self.fail(exchange, 503, f"{target.url} hung up: {exc or 'closed'}")

    # Answers of our own

    def fail(self, exchange: Exchange, status: int, reason: str) -> None:
        """Answer with an error page, or hang up when an answer has begun."""
        self.server.log.error(f"{status} {self._name(exchange)} {reason}")
        if exchange.websocket:
            self.server.metrics.proxied(status)
            self.reply(exchange, status, None, b"", count=False)
            return
        self._task = self.server.own(self._fail(exchange, status))

    async def _fail(self, exchange: Exchange, status: int) -> None:
        page = await self.server.pages.render(exchange, status)
        self._task = None
        if exchange is self._current and not self.transport.is_closing():
            self.reply(exchange, status, page.content_type, page.body, page.headers)

    def reply(
        self,
        exchange: Exchange,
        status: int,
        content_type: bytes | None,
        body: bytes,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        *,
        count: bool = True,
    ) -> None:
        """A whole answer at once."""
        parts = [b"HTTP/1.1 %d %b\r\n" % (status, _reason(status))]
        if content_type:
            parts += (b"Content-Type: ", content_type, b"\r\n")
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        parts += (b"Content-Length: %d\r\n" % len(body), self.connection_header(exchange), b"\r\n")
        if exchange.method != b"HEAD":
            parts.append(body)
        self.write(b"".join(parts))
        if count:
            self.server.metrics.proxied(status)
        self._answered(exchange)

    def _refuse(self) -> None:
        """Answer what cannot be understood, once the requests before it have been answered."""
        current = self._current
        self._queue.clear()
        if current is not None:
            # Nothing after this point can be trusted: the answer under way is the last one.
            current.keep_alive = False
            if current.body_done and not current.response_done:
                self._lingering = True
                return
            if current.response_started:
                self._close()
                return
        assert self._refused is not None
        status, reason = self._refused
        self.server.log.warn(f"{status} {self._peer.decode()} refused: {reason}")
        self.server.metrics.proxied(status)
        text = _reason(status)
        self.write(
            b"HTTP/1.1 %d %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (status, text, len(text), text)
        )
        self._close(gently=True)

    def _name(self, exchange: Exchange) -> str:
        path = exchange.url.partition(b"?")[0].decode("latin-1")
        return f"{exchange.method.decode('latin-1')} {path}"

    # The end

    def _close(self, *, gently: bool = False) -> None:
        """Close once everything is written.

        `gently`: the client may still be sending, and must not see a reset.
        """
        self._closing_since = self._closing_since or monotonic()
        current, self._current = self._current, None
        if current is not None and current.upstream is not None:
            current.upstream.abandon()
            current.upstream = None
        self._queue.clear()
        if gently and not self._secure and not self.transport.is_closing():
            self._lingering = True
            self._holds = 0
            self.transport.write_eof()
            self.transport.resume_reading()
        else:
            self.transport.close()

    def leave(self) -> None:
        """This connection is no longer a client's: it is closed, or has become a WebSocket."""
        # It knows us and we know it: nobody else would be rid of the two for a while.
        self._parser = None
        self.server.clients.discard(self)
        if self.server.draining:
            self.server.drained()

    @property
    def silent_since(self) -> float | None:
        """When it was last heard of, on the monotonic clock; None when somebody waits for an answer."""
        return None if self._current is not None or self._queue else self._seen_at

    def make_room(self) -> None:
        """Others need this connection more."""
        self._close()

    @property
    def busy(self) -> bool:
        """True while a request is under way."""
        return self._current is not None or bool(self._queue) or (self._arriving is not None)

    def drain(self) -> None:
        """No further request: close now, or after the answer under way."""
        if not self.busy:
            self._close()
        elif self._current is not None and not self._current.response_started:
            self._current.keep_alive = False

    def abort(self) -> None:
        """Close without waiting for anything."""
        self.transport.abort()

    def sweep(self, now: float) -> None:
        """Close what has waited too long. Called about every second."""
        if self._closing_since:
            limit = LINGER if self._lingering else CLOSING_TIMEOUT
            if now - self._closing_since > limit:
                self.transport.abort()
            return
        options = self.server.options
        current = self._current
        if current is not None and current.upstream is not None:
            current.upstream.look()
            current = self._current
        if options.timeout is not None and now - max(self._seen_at, self._written_at) > options.timeout:
            self.transport.abort()
            return
        if self.write_paused and now - self._written_at > STUCK_TIMEOUT:
            self.transport.abort()
            return
        if current is not None:
            if current.sent_at and options.proxy_timeout is not None:
                if now - current.sent_at > options.proxy_timeout and current.upstream is not None:
                    upstream, current.upstream = current.upstream, None
                    current.sent_at = 0.0
                    upstream.abandon()
                    self.fail(current, 503, f"no answer within {options.proxy_timeout:g} s")
            elif not current.body_done and not self._holds & ~PUMPED and now - self._seen_at > options.body_timeout:
                self._refused = (408, "the request's body did not arrive in time")
                self._refuse()
        elif self._arriving is not None and not self._head_done:
            if now - self._head_began > options.head_timeout:
                self._refused = (408, "the request's head did not arrive in time")
                self._refuse()
        elif self._arriving is None:
            if not self._served:
                limit = options.head_timeout
            else:
                limit = options.keep_alive_timeout + KEEP_ALIVE_GRACE
            if now - max(self._seen_at, self._written_at) > limit:
                self._close()


_REASONS = {
    200: b"OK",
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
    505: b"HTTP Version Not Supported",
}


def _reason(status: int) -> bytes:
    return _REASONS.get(status, b"Error")
