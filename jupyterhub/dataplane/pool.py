"""Connections to targets: opened when needed, kept for the next request."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .table import Target

if TYPE_CHECKING:
    from .exchange import Exchange
    from .upstream import UpstreamConnection

__all__ = ["Pool", "open_connection"]

#: Seconds an unused connection is kept when the target says nothing about it.
IDLE_TIMEOUT = 60.0
#: A request that must not be sent twice only takes a connection used within this many seconds: the longer it
#: was idle, the likelier it is that the target is closing it at this moment.
FRESH = 2.0
#: Unused connections kept for each target.
IDLE_PER_TARGET = 128

AnyProtocol = TypeVar("AnyProtocol", bound=asyncio.BaseProtocol)


async def open_connection(
    target: Target, factory: Callable[[], AnyProtocol], context: Callable[[], ssl.SSLContext], timeout: float
) -> AnyProtocol:
    """Connect to a target, TLS included.

    Raises OSError (ssl.SSLError is one) or TimeoutError after `timeout` seconds.
    """
    loop = asyncio.get_running_loop()
    made: list[AnyProtocol] = []

    def make() -> AnyProtocol:
        made.append(factory())
        return made[-1]

    tls: dict[str, Any] = {}
    if target.tls:
        tls = {"ssl": context(), "server_hostname": target.host}
    if target.unix_path is not None:
        opening: Any = loop.create_unix_connection(make, target.unix_path)
    else:
        opening = loop.create_connection(make, target.host, target.port, **tls)
    try:
        await asyncio.wait_for(opening, timeout)
    except BaseException as error:
        # The connection may have come about in the very moment of giving up; then nobody else closes it.
        for protocol in made:
            transport = getattr(protocol, "transport", None)
            if transport is not None:
                transport.abort()
        if isinstance(error, asyncio.TimeoutError):
            raise TimeoutError(f"no connection to {target.url} within {timeout:g} s") from None
        raise
    return made[-1]


class Pool:
    """Unused connections by address of their target, the latest used first."""

    def __init__(self, limit: int) -> None:
        """`limit`: unused connections kept for all targets together."""
        self._idle: dict[str, list[UpstreamConnection]] = {}
        self._limit = limit
        #: All of them, the one that is unused for longest first.
        self._all: dict[UpstreamConnection, None] = {}
        self.closed = False

    def take(self, target: Target, exchange: Exchange) -> UpstreamConnection | None:
        """An unused connection to the target for this request, or None."""
        waiting = self._idle.get(target.address)
        while waiting:
            connection = waiting[-1]
            if time.monotonic() - connection.idle_since > FRESH and not exchange.repeatable:
                return None
            waiting.pop()
            del self._all[connection]
            if not connection.transport.is_closing():
                return connection
        return None

    def put(self, connection: UpstreamConnection) -> None:
        """Keep a connection for later."""
        if self.closed:
            connection.transport.close()
            return
        connection.idle_since = time.monotonic()
        address = connection.target.address
        waiting = self._idle.get(address)
        if waiting is None:
            waiting = self._idle[address] = []
        waiting.append(connection)
        self._all[connection] = None
        if len(waiting) > IDLE_PER_TARGET:
            self._close(waiting[0])
        elif len(self._all) > self._limit:
            self._close(next(iter(self._all)))

    def _close(self, connection: UpstreamConnection) -> None:
        self.forget(connection)
        connection.transport.close()

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection is closed while it waits."""
        if connection not in self._all:
            return
        del self._all[connection]
        self._idle[connection.target.address].remove(connection)

    def drop(self, target: Target) -> None:
        """Close the unused connections to a target that no route leads to any more."""
        for connection in tuple(self._idle.get(target.address, ())):
            self._close(connection)

    def sweep(self, now: float) -> None:
        """Close what nobody has used for long enough."""
        for connection in tuple(self._all):
            if now - connection.idle_since > (connection.idle_timeout or IDLE_TIMEOUT):
                self._close(connection)
        for address in [address for address, waiting in self._idle.items() if not waiting]:
            del self._idle[address]

    def close(self) -> None:
        """Close everything; connections put back later are closed at once."""
        self.closed = True
        for connection in tuple(self._all):
            self._close(connection)
