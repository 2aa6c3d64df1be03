"""The half of a client's connection that reads: bytes become requests, in order, and no faster than wanted."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

import httptools

from .exchange import Exchange
from .pump import Pump

if TYPE_CHECKING:
    from .server import DataPlane

__all__ = ["BODY_WAITS", "HEAD_LIMIT", "LARGE", "NEXT_WAITS", "PUMPED", "UPSTREAM_FULL", "RequestReader"]

#: Bytes of a request's head.
HEAD_LIMIT = 65536
#: Bytes of a body kept in memory while the target is not ready for them.
BODY_BUFFER = 65536
#: Bytes of a body read and thrown away after its request has been answered, before the connection is closed
#: instead.
DISCARD_LIMIT = 1 << 20

#: Bytes of a body from which on it is passed on without the parser.
WORTH_IT = 65536
#: Bytes still to come of a body from which on they go on inside the kernel.
LARGE = 1 << 18

#: Bytes of a head that are kept, to see whether the next is the same.
SAME_LIMIT = 4096
#: The first line of a request that may be like the one before it.
_ADDRESS = re.compile(rb"GET (/[!\"$-~]*) HTTP/1\.1")

#: Why reading is paused; any of them is enough.
UPSTREAM_FULL, BODY_WAITS, NEXT_WAITS, PUMPED = 1, 2, 4, 8


class RequestReader(asyncio.Protocol):
    """Requests that arrive early wait here, and no more is read while one does."""

    __slots__ = (
        "_arriving",
        "_before",
        "_body_left",
        "_closing_since",
        "_collected",
        "_current",
        "_head_began",
        "_head_done",
        "_holds",
        "_lingering",
        "_names",
        "_parser",
        "_queue",
        "_refused",
        "_same",
        "_seen_at",
        "server",
        "transport",
    )

    transport: Any

    def __init__(self, server: DataPlane) -> None:
        self.server = server
        self._names = server.forwarding.names
        self._parser: Any = httptools.HttpRequestParser(self)
        self._arriving: Exchange | None = None
        self._head_done = True
        self._collected = 0
        self._head_began = 0.0
        #: The request that is being answered, and those behind it.
        self._current: Exchange | None = None
        self._queue: deque[Exchange] = deque()
        #: A request without a body, and its head after the first line; None when the next has to be parsed.
        self._before: Exchange | None = None
        self._same = b""
        #: Bytes of a body that the parser is not asked about.
        self._body_left = 0
        self._holds = 0
        self._refused: tuple[int, str] | None = None
        self._lingering = False
        self._closing_since = 0.0
        self._seen_at = monotonic()

    # What the other half does with it

    def _begin(self, exchange: Exchange) -> None:
        raise NotImplementedError

    def _next(self) -> None:
        raise NotImplementedError

    def _refuse(self) -> None:
        raise NotImplementedError

    def _close(self, *, gently: bool = False) -> None:
        raise NotImplementedError

    # asyncio.Protocol

    def eof_received(self) -> bool:
        # Whoever stops listening half-way through a request is taken to have left, as other proxies do.
        return False

    def data_received(self, data: bytes) -> None:
        if self._lingering or self._closing_since:
            return
        self._seen_at = monotonic()
        last = self._queue[-1] if self._queue else self._current
        if last is not None and last.websocket:
            self._early_bytes(last, data)
            return
        if self._body_left:
            data = self._pass_on(data)
            if not data:
                return
        if last is None and self._arriving is None and data.startswith(b"GET /"):
            self._get(data)
        else:
            self._parse(data)

    def _get(self, data: bytes) -> None:
        """A request that begins here, when none is under way.

        Most requests of a page differ by their address alone: what the parser has read once, byte by byte the same, it
        need not read again.
        """
        before, same = self._before, self._same
        if before is not None and data.endswith(same) and len(data) <= HEAD_LIMIT:
            line = _ADDRESS.fullmatch(data, 0, len(data) - len(same))
            if line is not None:
                self._before = exchange = Exchange(before, line[1])
                self._begin(exchange)
                return
        self._before = None
        self._parse(data)
        current = self._current
        if current is not None and current.is_plain and len(data) <= SAME_LIMIT:
            end = data.find(b"\r\n\r\n") + 4
            if end == len(data):
                self._before, self._same = current, data[data.index(b"\r\n") :]

    def _parse(self, data: bytes) -> None:
        # Counts what the parser collects: reset when a head is complete, and by every piece of a body.
        self._collected += len(data)
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                rest = data[upgrade.args[0] :]
                last = self._queue[-1] if self._queue else self._current
                if last is not None and last.websocket:
                    if rest:
                        self._early_bytes(last, rest)
                elif self._refused is None:
                    # An upgrade to something else may be declined by taking no notice (RFC 9110 §7.8).
                    self._parser = self._parser_after_declining()
                    data = rest
                    continue
            except httptools.HttpParserError as error:
                if self._refused is None:
                    self._refused = (400, str(error) or "not HTTP")
            break
        if self._collected > HEAD_LIMIT and self._refused is None and self._arriving is not None:
            self._refused = (431, "the request's head is too long")
        if self._refused is not None:
            self._refuse()
        elif self._queue:
            self._hold(NEXT_WAITS)
        if self._head_done and (exchange := self._arriving) is not None and exchange.length is not None:
            left = int(exchange.length) - exchange.received
            if left > WORTH_IT and not self._closing_since:
                self._body_left = left

    def _pass_on(self, data: bytes) -> bytes:
        """A piece of a body whose length is known: there is nothing in it to look at. Returns what comes after."""
        size = len(data)
        if size < self._body_left:
            self._body_left -= size
            self.on_body(data)
            if self._body_left >= LARGE and not self._holds and self.server.may_pump():
                self._pump()
            return b""
        rest = data[self._body_left :]
        self.on_body(data[: self._body_left] if rest else data)
        self._body_left = 0
        self._body_over()
        return rest

    def _body_over(self) -> None:
        """The end of what the parser was not asked about."""
        self._parser = httptools.HttpRequestParser(self)
        self.body_complete()

    # A large body goes on inside the kernel

    def _pump(self) -> None:
        exchange = self._arriving
        if exchange is None or exchange.upstream is None:
            return
        pump = Pump.between(self, self.transport, exchange.upstream.transport, self._body_left)
        if pump is not None:
            exchange.upstream.ends(pump)
            self._hold(PUMPED)
            pump.begin()

    def pump_moved(self, count: int) -> None:
        """So much of the body has come."""
        self._body_left -= count
        self._seen_at = monotonic()
        exchange = self._arriving
        if exchange is not None:
            exchange.received += count
            if exchange.entry is not None:
                exchange.entry.touch()

    def pump_blocked(self, *, full: bool) -> None:
        """The target takes no more of it, or does so again."""
        self._seen_at = monotonic()
        if full:
            self._hold(UPSTREAM_FULL)
        else:
            self._release(UPSTREAM_FULL)

    def pump_stopped(self) -> None:
        """What is left comes the usual way."""
        if not self._body_left and not self.transport.is_closing():
            self._body_over()
        self._release(PUMPED)

    def _parser_after_declining(self) -> Any:
        exchange = self._arriving
        if exchange is None:
            return httptools.HttpRequestParser(self)
        # The parser takes a request for an upgrade to have no body. This one has: another parser, which is told
        # its length, reads it and nothing after it, because the connection ends with this answer.
        parser = httptools.HttpRequestParser(_BodyOnly(self))
        length = b"Transfer-Encoding: chunked" if exchange.chunked else b"Content-Length: " + (exchange.length or b"0")
        parser.feed_data(b"POST / HTTP/1.1\r\n" + length + b"\r\n\r\n")
        return parser

    def _early_bytes(self, exchange: Exchange, data: bytes) -> None:
        exchange.early.append(data)
        exchange.body_size += len(data)
        if exchange.body_size > BODY_BUFFER:
            self._hold(BODY_WAITS)

    # Called by the parser

    def on_message_begin(self) -> None:
        self._arriving = Exchange()
        self._head_done = False
        self._head_began = self._seen_at

    def on_url(self, url: bytes) -> None:
        if self._arriving is not None:
            self._arriving.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        exchange = self._arriving
        # Fields that come after the body are dropped (services-and-proxy D3).
        if exchange is None or self._head_done:
            return
        key = self._names[name]
        if key:
            exchange.special.append((key, name, value))
        else:
            exchange.lines += (name, b": ", value, b"\r\n")

    def on_headers_complete(self) -> None:
        exchange = self._arriving
        collected, self._collected = self._collected, 0
        self._head_done = True
        if exchange is None or self._refused is not None or self._closing_since:
            self._arriving = None
            return
        parser = self._parser
        exchange.method = parser.get_method()
        version = parser.get_http_version()
        exchange.minor = 0 if version == "1.0" else 1
        exchange.keep_alive = bool(parser.should_keep_alive())
        if version not in ("1.1", "1.0"):
            self._refused = (505, f"HTTP/{version}")
        elif exchange.method == b"CONNECT":
            self._refused = (405, "CONNECT is for another kind of proxy")
        elif collected > HEAD_LIMIT and exchange.head_size() > HEAD_LIMIT:
            self._refused = (431, "the request's head is too long")
        else:
            self._refused = exchange.understand()
        if self._refused is None and parser.should_upgrade():
            self._upgrade(exchange)
        if self._refused is not None:
            self._arriving = None
            return
        exchange.body_done = not exchange.chunked and exchange.length in (None, b"0")
        if self._current is None and not self._queue:
            self._begin(exchange)
        else:
            self._queue.append(exchange)

    def _upgrade(self, exchange: Exchange) -> None:
        body = exchange.chunked or exchange.length not in (None, b"0")
        wanted = [value.strip().lower() for key, _, value in exchange.special if key == b"upgrade"]
        if wanted == [b"websocket"] and exchange.method == b"GET":
            if body:
                self._refused = (400, "a WebSocket request with a body")
            exchange.websocket = True
            exchange.keep_alive = False
        else:
            exchange.keep_alive = exchange.minor == 1 and not body and not _says_close(exchange)

    def on_body(self, data: bytes) -> None:
        self._collected = 0
        exchange = self._arriving
        if exchange is None or self._refused is not None:
            return
        exchange.received += len(data)
        if exchange.entry is not None:
            exchange.entry.touch()
        if exchange.discard:
            exchange.body_size += len(data)
            if exchange.body_size > DISCARD_LIMIT:
                self._close()
            return
        if exchange.chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if exchange.upstream is not None:
            exchange.upstream.transport.write(data)
            return
        exchange.body.append(data)
        exchange.body_size += len(data)
        if exchange.body_size > BODY_BUFFER:
            self._hold(BODY_WAITS)

    def on_message_complete(self) -> None:
        if self._arriving is not None and not self._arriving.body_done and self._parser.should_upgrade():
            # Not yet: see _parser_after_declining.
            return
        self.body_complete()

    def body_complete(self) -> None:
        """The request that was arriving is here, all of it."""
        self._collected = 0
        exchange, self._arriving = self._arriving, None
        if exchange is None or self._refused is not None:
            return
        if exchange.chunked and not exchange.discard:
            if exchange.upstream is not None:
                exchange.upstream.transport.write(b"0\r\n\r\n")
            else:
                exchange.body.append(b"0\r\n\r\n")
        exchange.body_done = True
        if exchange.response_done and exchange is self._current:
            self._next()

    # Holding back

    def _hold(self, reason: int) -> None:
        if not self._holds and not self.transport.is_closing():
            self.transport.pause_reading()
        self._holds |= reason

    def _release(self, reason: int) -> None:
        before = self._holds
        self._holds &= ~reason
        if before and not self._holds and not self.transport.is_closing():
            self._seen_at = monotonic()
            self.transport.resume_reading()

    def hold_for_upstream(self) -> None:
        """The target takes the body more slowly than the client sends it."""
        self._hold(UPSTREAM_FULL)

    def release_for_upstream(self) -> None:
        """The target is ready for more of the body."""
        self._release(UPSTREAM_FULL)


class _BodyOnly:
    """What a parser tells when only the body of one request is left to read."""

    def __init__(self, reader: RequestReader) -> None:
        self.on_body = reader.on_body
        self.on_message_complete = reader.body_complete


def _says_close(exchange: Exchange) -> bool:
    return any(
        b"close" in (token.strip().lower() for token in value.split(b","))
        for key, _, value in exchange.special
        if key == b"connection"
    )
