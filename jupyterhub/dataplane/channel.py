"""Messages between the processes of one proxy: JSON, each with its length in front, in order."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

__all__ = ["Channel", "open_channel"]

_LENGTH = 4


class Channel(asyncio.Protocol):
    """One end. `received` is called with each message, `lost` once when the other process is gone."""

    transport: Any

    def __init__(self, received: Callable[[Any], None], lost: Callable[[], None]) -> None:
        self._received = received
        self._lost = lost
        self._buffer = bytearray()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTH:
            end = start + _LENGTH + int.from_bytes(buffer[start : start + _LENGTH], "big")
            if len(buffer) < end:
                break
            message = json.loads(bytes(buffer[start + _LENGTH : end]))
            start = end
            self._received(message)
        del buffer[:start]

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()

    def send(self, message: Any) -> None:
        """Send a message; without effect when the other process is gone."""
        data = json.dumps(message, separators=(",", ":")).encode()
        if not self.transport.is_closing():
            self.transport.write(len(data).to_bytes(_LENGTH, "big") + data)

    def close(self) -> None:
        """Hang up."""
        self.transport.abort()


async def open_channel(end: socket.socket, received: Callable[[Any], None], lost: Callable[[], None]) -> Channel:
    """Speak through one of a pair of sockets."""
    end.setblocking(False)
    channel = Channel(received, lost)
    await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=end)
    return channel
