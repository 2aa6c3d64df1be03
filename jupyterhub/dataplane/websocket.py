"""After the handshake a WebSocket is two streams of bytes, passed on as they come."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

from .pump import Pump

if TYPE_CHECKING:
    from .connection import ClientConnection
    from .exchange import Exchange
    from .server import DataPlane
    from .table import RouteEntry
    from .upstream import UpstreamConnection

__all__ = ["CLOSING_TIMEOUT", "Splice", "join"]

#: Seconds in which the last bytes must be taken once the other side has hung up.
CLOSING_TIMEOUT = 30.0
#: Seconds in which one side takes nothing of what the other says.
STUCK_TIMEOUT = 600.0
#: Bytes that come at once from which on what follows goes on inside the kernel, as long as more of that size come.
_LARGE = 1 << 16


class Splice(asyncio.Protocol):
    """One end of a joined pair: what arrives here is written there, and no faster than it is taken there."""

    __slots__ = (
        "_entry",
        "_large_came",
        "_owner",
        "_peer",
        "_pump",
        "_timed",
        "_transport",
        "closing_since",
        "heard_at",
        "other",
        "stuck_since",
    )

    def __init__(self, transport: Any, peer: Any, owner: DataPlane, entry: RouteEntry | None) -> None:
        self._transport = transport
        self._peer = peer
        self._owner = owner
        #: Only what people send counts as activity (services-and-proxy D5), so the target's end has none.
        self._entry = entry
        self._timed = owner.options.websocket_timeout is not None
        self._pump: Pump | None = None
        self._large_came = False
        self.closing_since = 0.0
        #: The other end of the pair.
        self.other: Splice | None = None
        #: When something last came, on the monotonic clock; kept only when there is a limit.
        self.heard_at = 0.0
        self.stuck_since = 0.0

    def data_received(self, data: bytes) -> None:
        if self._entry is not None:
            self._entry.last_activity = time.time()
        if self._timed:
            self.heard_at = time.monotonic()
        self._peer.write(data)
        if len(data) >= _LARGE and self._owner.may_pump():
            self._pump = Pump.between(self, self._transport, self._peer, sys.maxsize)
            if self._pump is not None:
                self._large_came = True
                self._transport.pause_reading()
                self._pump.begin()

    # Inside the kernel

    def pump_moved(self, count: int) -> None:
        """So much has come from here."""
        if self._entry is not None:
            self._entry.last_activity = time.time()
        if self._timed:
            self.heard_at = time.monotonic()
        if count >= _LARGE:
            self._large_came = True

    def pump_blocked(self, *, full: bool) -> None:
        """The other side takes nothing of it, or does so again."""
        if self.other is not None:
            self.other.stuck_since = time.monotonic() if full else 0.0

    def pump_stopped(self) -> None:
        """What comes is read here again."""
        self._pump = None
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _stop_pumps(self) -> None:
        for end in (self, self.other):
            if end is not None and end._pump is not None:
                end._pump.stop()

    # asyncio.Protocol

    def eof_received(self) -> bool:
        self.hang_up()
        return False

    def pause_writing(self) -> None:
        self.stuck_since = time.monotonic()
        self._peer.pause_reading()

    def resume_writing(self) -> None:
        self.stuck_since = 0.0
        if not self._peer.is_closing():
            self._peer.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_pumps()
        self._owner.splices.discard(self)
        self.other = None
        if not self._peer.is_closing():
            # What is already on its way to the other side still gets there.
            self._peer.close()

    def hang_up(self) -> None:
        """Close both ends once they have taken what is on its way to them."""
        self._stop_pumps()
        self._peer.close()
        self._transport.close()

    def sweep(self, now: float) -> None:
        """Give up on an end that does not take its bytes, and on a pair that has nothing to say."""
        if self._pump is not None:
            if self._large_came or self._pump.blocked:
                self._large_came = False
                self._pump.look()
            else:
                self._pump.stop()
        if self._transport.is_closing():
            self.closing_since = self.closing_since or now
            if now - self.closing_since > CLOSING_TIMEOUT:
                self._transport.abort()
        elif self.stuck_since and now - self.stuck_since > STUCK_TIMEOUT:
            self._transport.abort()
        elif (limit := self._owner.options.websocket_timeout) is not None and self.other is not None:
            if now - max(self.heard_at, self.other.heard_at) > limit:
                self.hang_up()


def join(client: ClientConnection, upstream: UpstreamConnection, exchange: Exchange, rest: bytes) -> None:
    """Join a client and a target that have agreed on a WebSocket.

    `rest` is what the target has said already.
    """
    server = client.server
    near, far = client.transport, upstream.transport
    near_end = Splice(near, far, server, exchange.entry)
    far_end = Splice(far, near, server, None)
    near_end.other, far_end.other = far_end, near_end
    near_end.heard_at = time.monotonic()
    stuck = client.write_paused
    if stuck:
        near_end.stuck_since = near_end.heard_at
    client.leave()
    server.splices.update((near_end, far_end))
    near.set_protocol(near_end)
    far.set_protocol(far_end)
    if rest:
        near.write(rest)
    if exchange.early:
        far.write(b"".join(exchange.early))
        if exchange.entry is not None:
            exchange.entry.touch()
    near.resume_reading()
    if stuck:
        far.pause_reading()
    else:
        far.resume_reading()
