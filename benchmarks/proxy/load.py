"""Clients: as many requests as possible, or so many in a second; each answer is counted to its last byte."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    """Run on a fast loop of its own."""

    async def main() -> Any:
        return await work()

    return uvloop.run(main())


class Client(asyncio.Protocol):
    """One connection: sends a request, counts the answer's bytes, calls `done`."""

    transport: Any

    def __init__(self, done: Callable[[Client], None]) -> None:
        self._done = done
        self._head = b""
        self._left = -1
        self.began = 0.0
        #: The beginning of an answer that was none.
        self.refusal = b""
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, request: bytes) -> None:
        self.began = time.perf_counter()
        self._left = -1
        self._head = b""
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._left < 0:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            if not self._head.startswith(b"HTTP/1.1 200"):
                self.refusal = self._head[:100]
                self.transport.abort()
                return
            length = _LENGTH.search(self._head)
            assert length is not None
            self._left = int(length[1]) + end + 4 - len(self._head)
        else:
            self._left -= len(data)
        if self._left <= 0:
            self._done(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


async def connect(port: int, done: Callable[[Client], None]) -> Client:
    _, client = await asyncio.get_running_loop().create_connection(lambda: Client(done), "127.0.0.1", port)
    return client


def get(path: str) -> bytes:
    """A request as a browser's script sends it."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: hub.example.org\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
        "Accept: application/json\r\nAccept-Language: en\r\nAccept-Encoding: gzip, deflate\r\n"
        "Referer: https://hub.example.org/user/u5000/lab\r\nCookie: _xsrf=2|a|b|c; jupyterhub-session-id=0123\r\n\r\n"
    ).encode()


async def busy(port: int, path: str, connections: int, seconds: float) -> int:
    """Requests answered while each of so many connections sends the next as soon as it has its answer."""
    request = get(path)
    count = 0
    end = time.perf_counter() + seconds

    def done(client: Client) -> None:
        nonlocal count
        count += 1
        if time.perf_counter() < end:
            client.send(request)
        else:
            client.transport.close()

    clients = [await connect(port, done) for _ in range(connections)]
    for client in clients:
        client.send(request)
    await _all_closed(clients)
    return count


async def _all_closed(clients: list[Client] | list[Socket]) -> None:
    await asyncio.gather(*(client.closed for client in clients))
    refused = [client.refusal for client in clients if client.refusal]
    if refused:
        raise RuntimeError(f"{len(refused)} were refused: {refused[0]!r}")


async def fresh(port: int, path: str, at_once: int, seconds: float) -> int:
    """Requests answered when each has a connection of its own."""
    request = get(path)
    count = 0
    end = time.perf_counter() + seconds

    async def one_after_another() -> None:
        nonlocal count
        while time.perf_counter() < end:
            client = await connect(port, lambda client: client.transport.close())
            client.send(request)
            await _all_closed([client])
            count += 1

    await asyncio.gather(*(one_after_another() for _ in range(at_once)))
    return count


async def paced(port: int, path: str, rate: float, connections: int, seconds: float) -> list[float]:
    """Seconds from the moment each request is due to its answer, so many in a second."""
    request = get(path)
    times: list[float] = []
    idle: list[Client] = []
    waiting: list[float] = []

    def start(client: Client, due: float) -> None:
        client.send(request)
        client.began = due

    def done(client: Client) -> None:
        times.append(time.perf_counter() - client.began)
        if waiting:
            start(client, waiting.pop(0))
        else:
            idle.append(client)

    idle += [await connect(port, done) for _ in range(connections)]
    clients = list(idle)
    began = time.perf_counter()
    sent = 0
    while (now := time.perf_counter()) - began < seconds:
        while began + sent / rate <= now:
            due = began + sent / rate
            sent += 1
            if idle:
                start(idle.pop(), due)
            else:
                waiting.append(due)
        # Never asleep: a timer is late by more than what is measured.
        await asyncio.sleep(0)
    while len(times) < sent:
        await asyncio.sleep(0.001)
    for client in clients:
        client.transport.close()
    return times


async def upload(port: int, path: str, size: int) -> None:
    """A POST of so many bytes."""
    piece = b"x" * (1 << 18)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: p\r\nContent-Length: {size}\r\n\r\n".encode())
    for left in range(size, 0, -len(piece)):
        writer.write(piece[:left])
        await writer.drain()
    first = await reader.readline()
    assert first.startswith(b"HTTP/1.1 200"), (port, first)
    writer.close()


async def download(port: int, path: str, size: int, rest: float = 0.0) -> None:
    """A GET of so many bytes; `rest`: seconds to pause for each 16 MiB."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 19)
    writer.write(get(f"{path}/bytes/{size}"))
    await reader.readuntil(b"\r\n\r\n")
    seen = since = 0
    while seen < size:
        data = await reader.read(1 << 20)
        assert data
        seen += len(data)
        since += len(data)
        if rest and since > 1 << 24:
            since = 0
            await asyncio.sleep(rest)
    writer.close()


class Socket(asyncio.Protocol):
    """A WebSocket as seen by a proxy: after the handshake bytes go out and come back."""

    transport: Any

    def __init__(self, message: bytes, came: Callable[[Socket], None]) -> None:
        self.message = message
        self._came = came
        self._open = False
        self._left = 0
        #: The beginning of an answer that was none.
        self.refusal = b""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def shake(self, path: str) -> None:
        self.transport.write(
            f"GET {path} HTTP/1.1\r\nHost: p\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def say(self) -> None:
        self._left = len(self.message)
        self.transport.write(self.message)

    def data_received(self, data: bytes) -> None:
        if not self._open:
            if not data.startswith(b"HTTP/1.1 101"):
                self.refusal = data[:100]
                self.transport.abort()
                return
            self._open = True
            self.opened.set_result(None)
            return
        self._left -= len(data)
        if self._left <= 0:
            self._came(self)

    def connection_lost(self, exc: Exception | None) -> None:
        for waiting in (self.opened, self.closed):
            if not waiting.done():
                waiting.set_result(None)


async def open_socket(port: int, path: str, message: bytes, came: Callable[[Socket], None]) -> Socket:
    _, client = await asyncio.get_running_loop().create_connection(lambda: Socket(message, came), "127.0.0.1", port)
    client.shake(path)
    await client.opened
    return client


def frame(size: int) -> bytes:
    """A masked text frame with so many bytes."""
    if size < 126:
        head = bytes((0x81, 0x80 | size))
    elif size < 65536:
        head = bytes((0x81, 0x80 | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x81, 0x80 | 127)) + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + b"x" * size


async def echo(port: int, path: str, connections: int, size: int, seconds: float) -> int:
    """Messages that came back while each of so many WebSockets sends the next as soon as it has the last."""
    count = 0
    end = time.perf_counter() + seconds

    def came(client: Socket) -> None:
        nonlocal count
        count += 1
        if time.perf_counter() < end:
            client.say()
        else:
            client.transport.close()

    clients = [await open_socket(port, path, frame(size), came) for _ in range(connections)]
    for client in clients:
        client.say()
    await _all_closed(clients)
    return count
