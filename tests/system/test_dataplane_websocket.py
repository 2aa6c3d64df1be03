"""WebSockets through the data plane."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application
from tornado.websocket import WebSocketClientConnection, WebSocketHandler, websocket_connect

from tests.system.dataplane_program import Program, Target, program, read_head, target, until

_HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: proxy.test\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_AGREED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Agreed: 1\r\n\r\n"


class Echo(WebSocketHandler):
    """Sends back what it gets; `close` as a message closes with a code and a reason."""

    def check_origin(self, origin: str) -> bool:
        return True

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return subprotocols[0] if subprotocols else None

    async def on_message(self, message: str | bytes) -> None:
        if message == "close":
            self.close(4001, "as asked")
        else:
            await self.write_message(message, binary=isinstance(message, bytes))


@pytest.fixture
async def echo_url() -> AsyncIterator[str]:
    listener, port = bind_unused_port()
    server = HTTPServer(Application([(r".*", Echo)], websocket_max_message_size=1 << 26))
    server.add_socket(listener)
    yield f"http://127.0.0.1:{port}"
    server.stop()
    await server.close_all_connections()


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Program]:
    async with program(tmp_path, "--error-path", str(tmp_path)) as running:
        yield running


async def connect(proxy: Program, path: str = "/ws", **options: Any) -> WebSocketClientConnection:
    options.setdefault("max_message_size", 1 << 26)
    return await websocket_connect(f"ws://127.0.0.1:{proxy.port}{path}", **options)


async def test_messages_of_every_size_come_back(proxy: Program, echo_url: str) -> None:
    await proxy.route("/", echo_url)
    socket = await connect(proxy, subprotocols=["v1.kernel.websocket.jupyter.org"])
    assert socket.selected_subprotocol == "v1.kernel.websocket.jupyter.org"
    for message in ("hello", "", "é" * 1000, b"\x00\xff", os.urandom(1 << 24)):
        await socket.write_message(message, binary=isinstance(message, bytes))
        assert await socket.read_message() == message
    socket.close()


async def test_close_with_code_and_reason_arrives(proxy: Program, echo_url: str) -> None:
    await proxy.route("/", echo_url)
    socket = await connect(proxy)
    await socket.write_message("close")
    assert await socket.read_message() is None
    assert (socket.close_code, socket.close_reason) == (4001, "as asked")


async def test_target_hears_when_the_client_is_gone(proxy: Program) -> None:
    gone = asyncio.Event()

    async def agrees(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place.requests.append(await read_head(reader))
        writer.write(_AGREED)
        while await reader.read(1000):
            pass
        gone.set()

    async with target(agrees) as place:
        await proxy.route("/", place.url)
        async with proxy.connection() as (reader, writer):
            writer.write(_HANDSHAKE)
            assert "101" in (await read_head(reader))[0]
        await asyncio.wait_for(gone.wait(), 5)


async def test_client_hears_when_the_target_is_gone(proxy: Program) -> None:
    """After all that the target said before."""

    async def says_and_leaves(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(_AGREED + b"a" * 100000)
        await writer.drain()

    async with target(says_and_leaves) as place:
        await proxy.route("/", place.url)
        async with proxy.connection() as (reader, writer):
            writer.write(_HANDSHAKE)
            await read_head(reader)
            assert await asyncio.wait_for(reader.read(), 5) == b"a" * 100000


async def test_first_bytes_may_come_with_the_handshake(proxy: Program) -> None:
    """Nothing is lost of what either side says in the same breath as its handshake, and nothing is reordered."""
    heard = b""

    async def agrees(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        place.requests.append(await read_head(reader))
        heard = await reader.readexactly(0)
        writer.write(_AGREED + b"first")
        heard = await reader.readexactly(8)

    async with target(agrees) as place:
        await proxy.route("/", place.url)
        async with proxy.connection() as (reader, writer):
            writer.write(_HANDSHAKE + b"ear")
            await until(lambda: place.requests, "the handshake arrived")
            writer.write(b"lybit")
            _, headers = await read_head(reader)
            assert ("X-Agreed", "1") in headers
            assert await reader.readexactly(5) == b"first"
            await until(lambda: heard, "the early bytes arrived")
    assert heard == b"earlybit"


async def test_handshake_tells_about_the_client(proxy: Program, echo_url: str) -> None:
    async def agrees(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place.requests.append(await read_head(reader))
        writer.write(_AGREED)
        await reader.read(1)

    async with target(agrees) as place:
        await proxy.route("/", place.url)
        async with proxy.connection() as (reader, writer):
            writer.write(_HANDSHAKE)
            await read_head(reader)
    assert place.header("x-forwarded-proto") == ["ws"]
    assert place.header("x-forwarded-for") == ["127.0.0.1"]
    assert place.header("x-forwarded-host") == []
    assert place.header("upgrade") == ["websocket"]
    assert place.header("connection") == ["Upgrade"]
    assert place.header("sec-websocket-key") == ["dGhlIHNhbXBsZSBub25jZQ=="]


async def test_refusal_is_passed_on_as_an_answer(proxy: Program) -> None:
    async def refuses(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\nX-Why: xsrf\r\n\r\nnope")
        await writer.drain()
        await reader.read(1)

    async with target(refuses) as place:
        await proxy.route("/", place.url)
        answer = await asyncio.wait_for(proxy.send(_HANDSHAKE), 5)
    assert (answer.status, answer["x-why"], answer.body) == (403, "xsrf", b"nope")


@pytest.mark.parametrize(("url", "status"), [(None, 404), ("http://127.0.0.1:1", 503), ("nonsense", 500)])
async def test_failures_are_bare_answers(proxy: Program, url: str | None, status: int) -> None:
    if url:
        await proxy.route("/", url)
    answer = await proxy.send(_HANDSHAKE)
    assert (answer.status, answer["content-length"], answer.body) == (status, "0", b"")
    with pytest.raises(HTTPClientError, match=str(status)):
        await connect(proxy)


async def test_slow_reader_holds_the_talker_back(proxy: Program) -> None:
    """What a target says is not collected in the proxy's memory for a client that does not listen."""
    stopped = asyncio.Event()

    async def pours(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(_AGREED)
        for _ in range(1000):
            writer.write(bytes(1 << 16))
            try:
                await asyncio.wait_for(writer.drain(), 1)
            except asyncio.TimeoutError:
                stopped.set()
                return

    async with target(pours) as place:
        await proxy.route("/", place.url)
        async with proxy.connection() as (reader, writer):
            writer.write(_HANDSHAKE)
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.wait_for(stopped.wait(), 20)


async def test_only_what_the_client_says_counts_as_activity(proxy: Program, echo_url: str) -> None:
    said = asyncio.Event()

    async def talks(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(_AGREED)
        await said.wait()
        writer.write(b"target")
        await reader.readexactly(6)
        writer.write(b"done")
        await reader.read(1)

    async with target(talks) as place:
        await proxy.route("/", place.url)
        async with proxy.connection() as (reader, writer):
            writer.write(_HANDSHAKE)
            await read_head(reader)
            before = await proxy.activity("/")
            said.set()
            assert await reader.readexactly(6) == b"target"
            assert await proxy.activity("/") == before
            writer.write(b"client")
            assert await reader.readexactly(4) == b"done"
            assert await proxy.activity("/") > before


async def test_open_websockets_do_not_delay_the_end(proxy: Program, echo_url: str) -> None:
    await proxy.route("/", echo_url)
    socket = await connect(proxy)
    proxy.process.terminate()
    assert await asyncio.wait_for(socket.read_message(), 5) is None
    assert await proxy.end() == 2
