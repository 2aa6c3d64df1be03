"""What is behind every proxy: one process that answers as little as possible.

The end of the path says what: `/small` 100 bytes, `/1m` a mebibyte, `/bytes/N` N bytes; a body is read and counted; a
WebSocket gets its own bytes back.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import Any

import uvloop

_PIECE = b"x" * (1 << 16)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)


class _Upstream(asyncio.Protocol):
    transport: Any

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0
        self._to_send = 0
        self._paused = False
        self._echo = False
        self._in_body = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._echo:
            self.transport.write(data)
            return
        if self._in_body:
            self._left -= len(data)
            if self._left <= 0:
                self._in_body = False
                self._answer(b"ok")
            return
        self._buffer += data
        while True:
            head, mark, rest = self._buffer.partition(b"\r\n\r\n")
            if not mark:
                return
            self._buffer = rest
            self._request(head)
            if self._in_body or self._echo:
                self._buffer = b""
                return

    def _request(self, head: bytes) -> None:
        path = head.split(b" ", 2)[1]
        lower = head.lower()
        if b"\r\nupgrade: websocket" in lower:
            self._echo = True
            self.transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
            )
            if self._buffer:
                self.transport.write(self._buffer)
            return
        length = _LENGTH.search(head)
        if length is not None and int(length[1]):
            self._left = int(length[1]) - len(self._buffer)
            self._in_body = self._left > 0
            if not self._in_body:
                self._answer(b"ok")
        elif path.endswith(b"/small"):
            self._answer(_PIECE[:100])
        else:
            size = 1 << 20 if path.endswith(b"/1m") else int(path.rpartition(b"/")[2])
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            self._to_send = size
            self._pump()

    def _answer(self, body: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._pump()

    def _pump(self) -> None:
        while self._to_send and not self._paused:
            piece = _PIECE[: self._to_send]
            self._to_send -= len(piece)
            self.transport.write(piece)


async def _main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Upstream, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1])))
