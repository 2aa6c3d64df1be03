"""A connection to a target: sends one request at a time, passes the answer on as it comes."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httptools

from .exchange import HOP_BY_HOP, Exchange, HeaderNames
from .pump import Pump
from .reading import LARGE
from .sockets import has_something_to_say, watch_peer
from .table import Target
from .websocket import join

if TYPE_CHECKING:
    from .connection import ClientConnection
    from .pool import Pool

__all__ = ["PLAIN_HEAD", "UpstreamConnection"]

#: Bytes of an answer's head: it comes from people's own servers, so it is not to be trusted either.
HEAD_LIMIT = 262144
#: Bytes of a body from which on it is passed on without the parser.
_WORTH_IT = 65536
_REDIRECTS = frozenset((201, 301, 302, 307, 308))
_NAMES = HeaderNames(HOP_BY_HOP | {b"content-length", b"location"})
#: What `Connection` in an answer does not take away: it has been dealt with.
_NOT_FOR_CONNECTION = HOP_BY_HOP | {b"content-length", b"close"}
#: Headers that are passed on whatever they say, by the letter of RFC 9110 §5.
_ORDINARY = rb"(?:(?!(?i:%b):)[!#$%%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*\r\n)*" % b"|".join(
    sorted(HOP_BY_HOP | {b"content-length"})
)
#: The head of most answers: it says how long the body is and can be passed on as it is. Every other is the parser's.
PLAIN_HEAD = re.compile(
    rb"HTTP/1\.1 (?!204|304)([2-5][0-9][0-9]) [\t -~\x80-\xff]*\r\n"
    rb"%b(?i:content-length): ?([0-9]{1,15})\r\n%b\r\n" % (_ORDINARY, _ORDINARY)
)


class UpstreamConnection(asyncio.Protocol):
    """Belongs to a client while a request is under way, to the pool in between."""

    __slots__ = (
        "_body_left",
        "_broken",
        "_chunk_out",
        "_collected",
        "_complete",
        "_fresh",
        "_informational",
        "_lines",
        "_out",
        "_parser",
        "_pool",
        "_pumps",
        "_raw",
        "_reason",
        "_reusable",
        "_special",
        "_status",
        "_until_close",
        "client",
        "exchange",
        "idle_since",
        "idle_timeout",
        "target",
        "transport",
        "uses",
    )

    transport: Any

    def __init__(self, target: Target, pool: Pool) -> None:
        self.target = target
        self._pool = pool
        self.client: ClientConnection | None = None
        self.exchange: Exchange | None = None
        self.idle_since = 0.0
        #: Seconds the target is willing to wait for another request, when it said so; 0 when it did not.
        self.idle_timeout = 0.0
        self.uses = 0
        #: Made with the connection: the two know each other, and are only parted when it is lost.
        self._parser: Any = None
        self._out: list[bytes] = []
        #: Large bodies on their way from or to here inside the kernel. They end with this connection.
        self._pumps: list[Pump] = []
        self._status = 0
        #: True until something of the answer has come.
        self._fresh = True
        #: True when what comes is passed on unseen, as long as some of the body is left.
        self._raw = False
        self._body_left = 0
        self._complete = False
        self._reset()

    def _reset(self) -> None:
        """Whatever the parser finds out about an answer."""
        self._status = 0
        self._reason = b""
        self._lines: list[bytes] = []
        self._special: list[tuple[bytes, bytes, bytes]] = []
        self._informational = False
        self._chunk_out = False
        self._until_close = False
        self._collected = 0
        self._complete = False
        self._reusable = False
        self._broken = False
        self._body_left = 0

    # For the client connection

    def begin(self, client: ClientConnection, exchange: Exchange, head: bytes) -> None:
        """Send a request: its head, and as much of the body as there is."""
        self.client = client
        self.exchange = exchange
        self.uses += 1
        self._fresh = True
        self._raw = self._complete = False
        exchange.upstream = self
        if exchange.body:
            self.transport.write(b"".join((head, *exchange.body)))
            exchange.body.clear()
            exchange.body_size = 0
        else:
            self.transport.write(head)

    def abandon(self) -> None:
        """The client is gone, or has been answered otherwise: nothing more may come from here."""
        self.exchange = None
        self.client = None
        self.transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._parser = httptools.HttpResponseParser(self)
        watch_peer(transport.get_extra_info("socket"))

    def connection_lost(self, exc: Exception | None) -> None:
        for pump in self._pumps:
            pump.stop()
        self._pumps.clear()
        client, exchange = self.client, self.exchange
        if exchange is None or client is None:
            self._parser = None
            self._pool.forget(self)
            return
        if self._until_close and exc is None:
            self.on_message_complete()
            self._flush(client)
            self._finish()
            self._parser = None
            return
        self.exchange = self.client = None
        self._parser = None
        client.upstream_lost(exchange, self, exc)

    def pause_writing(self) -> None:
        if self.client is not None:
            self.client.hold_for_upstream()

    def resume_writing(self) -> None:
        if self.client is not None:
            self.client.release_for_upstream()

    def data_received(self, data: bytes) -> None:
        client = self.client
        if client is None or self.exchange is None:
            # Nobody asked for this. What a target says unasked must never reach the next request.
            self.transport.abort()
            return
        if self._raw:
            self._pass_on(client, data)
            return
        if self._fresh:
            self._fresh = False
            plain = PLAIN_HEAD.match(data)
            if plain is not None and self._pass_head_on(client, data, plain):
                return
            self._reset()
        # Counts what the parser collects: reset when a head is complete, and by every piece of a body.
        self._collected += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._status == 101 and self.exchange.websocket:
                self._flush(client)
                self._join(client, data[upgrade.args[0] :])
                return
            self._broken = True
        except httptools.HttpParserError:
            self._broken = True
        if self._collected > HEAD_LIMIT and not self._complete:
            self._broken = True
        self._flush(client)
        if self._complete:
            self._finish()
        elif self._body_left > _WORTH_IT and not self._broken:
            self._pass_rest_on()
        elif self._broken:
            exchange, self.exchange, self.client = self.exchange, None, None
            self.transport.abort()
            client.upstream_lost(exchange, self, ValueError("its answer is not HTTP"))

    def _pass_head_on(self, client: ClientConnection, data: bytes, head: re.Match[bytes]) -> bool:
        """An answer that begins with a plain head, which needs no change. False when it does for this request."""
        exchange = self.exchange
        assert exchange is not None
        if exchange.method == b"HEAD" or client.server.rewrites_location:
            return False
        self._status = int(head[1])
        exchange.response_started = True
        exchange.sent_at = 0.0
        end = head.end()
        size = end + int(head[2])
        line = client.connection_header(exchange)
        if line:
            data = b"".join((data[: end - 2], line, data[end - 2 :]))
            size += len(line)
        self._reusable = True
        if len(data) == size:
            client.write(data)
            self._complete = True
            self._finish()
        else:
            self._raw = True
            self._body_left = size
            self._pass_on(client, data)
        return True

    def _pass_rest_on(self) -> None:
        """The parser has seen enough; it is not told how this answer ends, so the next one has another."""
        self._raw = True
        self._reusable = bool(self._parser.should_keep_alive())
        self._parser = httptools.HttpResponseParser(self)

    def _pass_on(self, client: ClientConnection, data: bytes) -> None:
        """A piece of an answer whose length is known: there is nothing in it to look at."""
        left = self._body_left - len(data)
        if left > 0:
            self._body_left = left
            client.write(data)
            if left >= LARGE and client.server.may_pump():
                self._pump(client)
            return
        if left < 0:
            # What a target says unasked must never reach the next request.
            data = data[: self._body_left]
            self._broken = True
        client.write(data)
        self._complete = True
        self._finish()

    # A large body of an answer goes on inside the kernel

    def _pump(self, client: ClientConnection) -> None:
        pump = Pump.between(self, self.transport, client.transport, self._body_left)
        if pump is not None:
            self.ends(pump)
            self.transport.pause_reading()
            pump.begin()

    def look(self) -> None:
        """See what has become of the bodies that go on inside the kernel. To be called about every second."""
        for pump in self._pumps:
            pump.look()

    def ends(self, pump: Pump) -> None:
        """With this connection, this pump ends."""
        self._pumps = [other for other in self._pumps if not other.stopped]
        self._pumps.append(pump)

    def pump_moved(self, count: int) -> None:
        self._body_left -= count
        if self.client is not None:
            self.client.written()

    def pump_blocked(self, *, full: bool) -> None:
        if self.client is not None:
            self.client.write_paused = full
            self.client.written()

    def pump_stopped(self) -> None:
        if self.client is not None and not self._body_left:
            self._complete = True
            # What a target says unasked must never reach the next request.
            self._broken = has_something_to_say(self.transport.get_extra_info("socket"))
            self._finish()
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def eof_received(self) -> bool:
        return False

    # Called by the parser

    def on_message_begin(self) -> None:
        if self._complete:
            self._broken = True
            self._reusable = False

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._status and not self._informational:
            # A trailer, after the body; they are not passed on.
            return
        key = _NAMES[name]
        if key:
            self._special.append((key, name, value))
        else:
            self._lines += (name, b": ", value, b"\r\n")

    def on_headers_complete(self) -> None:
        self._collected = 0
        client, exchange = self.client, self.exchange
        if self._complete or client is None or exchange is None:
            return
        status = self._parser.get_status_code()
        if status == 101:
            if not exchange.websocket:
                self._broken = True
                return
            self._status = status
            self._out.append(self._whole_head(status))
            return
        if status < 200:
            self._informational = True
            if exchange.minor == 1:
                self._out.append(self._whole_head(status))
            if status == 100:
                exchange.expect_continue = False
            return
        self._status = status
        self._out.append(self._head(client, exchange, status))
        exchange.response_started = True
        exchange.sent_at = 0.0
        if exchange.method == b"HEAD":
            # The parser cannot know that no body follows; this answer ends here, and so does this parser.
            self._reusable = bool(self._parser.should_keep_alive()) and not self._until_close
            self._until_close = False
            self._complete = True
            self._parser = httptools.HttpResponseParser(self)

    def on_body(self, data: bytes) -> None:
        self._collected = 0
        if self._complete or self._broken:
            return
        self._body_left -= len(data)
        if self._chunk_out:
            self._out += (b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._out.append(data)

    def on_message_complete(self) -> None:
        if self._complete or self._broken or self._status == 101:
            return
        if self._informational:
            self._reset()
            return
        if self._chunk_out:
            self._out.append(b"0\r\n\r\n")
        self._reusable = not self._until_close and bool(self._parser.should_keep_alive())
        self._complete = True

    # The answer's head

    def _line(self, status: int) -> bytes:
        return b"HTTP/1.1 %d %b\r\n" % (status, self._reason)

    def _whole_head(self, status: int) -> bytes:
        special = b"".join(b"%b: %b\r\n" % (name, value) for _, name, value in self._special)
        return b"".join((self._line(status), *self._lines, special, b"\r\n"))

    def _head(self, client: ClientConnection, exchange: Exchange, status: int) -> bytes:
        length = False
        chunked = False
        dropped: set[bytes] = set()
        parts = [self._line(status), *self._lines]
        for key, name, value in self._special:
            if key == b"content-length":
                length = True
                # The parser has seen to it that this is a number, and the only one.
                self._body_left = int(value)
                parts += (name, b": ", value.rstrip(), b"\r\n")
            elif key == b"transfer-encoding":
                # Any other coding ends with the connection (RFC 9112 §6.3).
                chunked = value.strip().lower().endswith(b"chunked")
            elif key == b"connection":
                dropped.update(token.strip().lower() for token in value.split(b","))
            elif key == b"keep-alive":
                self._note_keep_alive(value)
            elif key == b"location":
                if client.server.rewrites_location and status in _REDIRECTS:
                    value = self._rewritten(client, exchange, value)
                parts += (name, b": ", value, b"\r\n")
        dropped -= _NOT_FOR_CONNECTION
        if dropped:
            kept = [n for n in range(1, len(parts), 4) if parts[n].lower() not in dropped]
            parts = [parts[0], *(part for n in kept for part in parts[n : n + 4])]
        bodiless = exchange.method == b"HEAD" or status in (204, 304)
        if bodiless:
            self._body_left = 0
        if not bodiless and not length:
            self._until_close = not chunked
            if exchange.minor == 1:
                self._chunk_out = True
                parts.append(b"Transfer-Encoding: chunked\r\n")
            else:
                exchange.keep_alive = False
        parts += (client.connection_header(exchange), b"\r\n")
        return b"".join(parts)

    def _note_keep_alive(self, value: bytes) -> None:
        for part in value.split(b","):
            name, _, number = part.strip().partition(b"=")
            if name.lower() == b"timeout" and number.isdigit():
                # One second less than promised: the target's clock started earlier than ours.
                self.idle_timeout = max(0.5, int(number) - 1.0)

    def _rewritten(self, client: ClientConnection, exchange: Exchange, location: bytes) -> bytes:
        options = client.server.options
        url = urlsplit(location.decode("latin-1"))
        if not url.netloc or url.netloc.encode("latin-1") != self.target.authority:
            return location
        if options.auto_rewrite and exchange.host:
            url = url._replace(netloc=exchange.host.decode("latin-1"))
        if options.protocol_rewrite:
            url = url._replace(scheme=options.protocol_rewrite)
        return url.geturl().encode("latin-1", "replace")

    # The end

    def _flush(self, client: ClientConnection) -> None:
        if self._out:
            client.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
            self._out.clear()

    def _finish(self) -> None:
        client, exchange = self.client, self.exchange
        assert client is not None and exchange is not None
        self.client = self.exchange = None
        if self._reusable and exchange.body_done and not self._broken and not self.transport.is_closing():
            if client.write_paused:
                # It was not to go on for this client; the next one may be quicker.
                self.transport.resume_reading()
            self._pool.put(self)
        else:
            self.transport.close()
        client.response_done(exchange, self._status)

    def _join(self, client: ClientConnection, rest: bytes) -> None:
        exchange = self.exchange
        assert exchange is not None
        self.client = self.exchange = None
        self._parser = None
        exchange.response_started = True
        join(client, self, exchange, rest)
