"""Connections to targets: opened when needed, kept for the next request."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .table import Target

if TYPE_CHECKING:
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

    def __init__(self) -> None:
        self._idle: dict[tuple[Any, ...], list[UpstreamConnection]] = {}
        self.closed = False

    def take(self, target: Target, *, repeatable: bool) -> UpstreamConnection | None:
        """An unused connection to the target, or None.

        `repeatable`: the request may be sent once more if it breaks.
        """
        waiting = self._idle.get(target.address)
        while waiting:
            if not repeatable and time.monotonic() - waiting[-1].idle_since > FRESH:
                return None
            connection = waiting.pop()
            if not connection.transport.is_closing():
                return connection
        return None

    def put(self, connection: UpstreamConnection) -> None:
        """Keep a connection for later."""
        if self.closed:
            connection.transport.close()
            return
        connection.idle_since = time.monotonic()
        waiting = self._idle.setdefault(connection.target.address, [])
        waiting.append(connection)
        if len(waiting) > IDLE_PER_TARGET:
            waiting.pop(0).transport.close()

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection was closed by its target while it waited."""
        waiting = self._idle.get(connection.target.address)
        if waiting and connection in waiting:
            waiting.remove(connection)
            if not waiting:
                del self._idle[connection.target.address]

    def drop(self, target: Target) -> None:
        """Close the unused connections to a target that no route leads to any more."""
        for connection in self._idle.pop(target.address, ()):
            connection.transport.close()

    def sweep(self, now: float) -> None:
        """Close what nobody has used for long enough."""
        for address, waiting in list(self._idle.items()):
            kept = []
            for connection in waiting:
                if now - connection.idle_since > (connection.idle_timeout or IDLE_TIMEOUT):
                    connection.transport.close()
                else:
                    kept.append(connection)
            if kept:
                self._idle[address] = kept
            else:
                del self._idle[address]

    def close(self) -> None:
        """Close everything; connections put back later are closed at once."""
        self.closed = True
        for waiting in self._idle.values():
            for connection in waiting:
                connection.transport.close()
        self._idle.clear()
