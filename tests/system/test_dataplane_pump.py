"""Large bodies go on inside the kernel; whatever happens meanwhile, they are whole or known not to be, and nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from jupyterhub.dataplane.pump import Pump
from tests.system.dataplane_program import Program, Target, program, read_answer, read_head, read_request, target, until

pytestmark = pytest.mark.skipif(
    not (sys.platform == "linux" and hasattr(os, "splice")), reason="NOT RUN: only Linux moves bytes between sockets"
)

MIB = 1 << 20
BODY = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(20 * MIB // 32))
POST = b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: %d\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: p\r\n\r\n"


def pipes(proxy: Program) -> int:
    """Pipes the proxy has open, both ends counted."""
    place = f"/proc/{proxy.process.pid}/fd"
    count = 0
    for name in os.listdir(place):
        try:
            count += os.readlink(f"{place}/{name}").startswith("pipe:")
        except FileNotFoundError:
            continue
    return count


class Watched:
    """A running proxy, and how many pipes it has when no body is on its way."""

    def __init__(self, proxy: Program) -> None:
        self.proxy = proxy
        self._at_rest = pipes(proxy)

    async def works(self) -> None:
        await until(lambda: pipes(self.proxy) > self._at_rest, "a body goes on inside the kernel")

    async def rests(self) -> None:
        await until(lambda: pipes(self.proxy) == self._at_rest, "nothing is left of it")


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    async with program(tmp_path, "--body-timeout", "2000") as proxy:
        yield Watched(proxy)


async def gives(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with BODY."""
    while True:
        await read_request(place, reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        writer.write(BODY)
        await writer.drain()


async def test_bodies_arrive_whole_and_connections_are_kept(watched: Watched) -> None:
    async def digests(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            body = await read_request(place, reader)
            answer = hashlib.sha256(body).digest() + body
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
            await writer.drain()

    async with target(digests) as place:
        await watched.proxy.route("/", place.url)
        async with watched.proxy.connection() as (reader, writer):
            for size in (len(BODY), 3 * MIB + 1, 10, 400_000, MIB, len(BODY) - 1):
                writer.write(POST % size + BODY[:size])
                answer = (await asyncio.wait_for(read_answer(reader), 30)).body
                assert answer == hashlib.sha256(BODY[:size]).digest() + BODY[:size]
    assert place.connections == 1
    await watched.rests()


async def test_what_follows_a_body_is_the_next_request(watched: Watched) -> None:
    async def counts(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            text = b"%d" % len(await read_request(place, reader))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)

    async with target(counts) as place:
        await watched.proxy.route("/", place.url)
        async with watched.proxy.connection() as (reader, writer):
            writer.write((POST % len(BODY) + BODY + GET) * 3)
            for _ in range(3):
                assert (await asyncio.wait_for(read_answer(reader), 30)).body == b"%d" % len(BODY)
                assert (await asyncio.wait_for(read_answer(reader), 30)).body == b"0"
    await watched.rests()


@pytest.mark.parametrize("at_once", [True, False])
async def test_slow_client_gets_all_of_it(watched: Watched, at_once: bool) -> None:
    async with target(gives) as place:
        await watched.proxy.route("/", place.url)
        async with watched.proxy.connection() as (reader, writer):
            for turn in range(3):
                if turn == 0 or not at_once:
                    writer.write(GET * (3 if at_once else 1))
                    await watched.works()
                await read_head(reader)
                body = b""
                while len(body) < len(BODY):
                    body += await reader.readexactly(min(MIB, len(BODY) - len(body)))
                    await asyncio.sleep(0.005)
                assert body == BODY
    await watched.rests()


async def test_destination_is_never_left_blocked() -> None:
    """Whoever was told that the destination takes nothing is told when that is over, also after the last byte."""

    class Wire:
        def __init__(self, end: socket.socket) -> None:
            self.end = end

        def get_extra_info(self, name: str) -> Any:
            return self.end if name == "socket" else None

        def get_write_buffer_size(self) -> int:
            return 0

        def is_closing(self) -> bool:
            return False

    class Owner:
        moved = 0
        told: list[str] = []
        over = asyncio.Event()

        def pump_moved(self, count: int) -> None:
            self.moved += count

        def pump_blocked(self, *, full: bool) -> None:
            self.told.append("full" if full else "free")

        def pump_stopped(self) -> None:
            self.told.append("stopped")
            self.over.set()

    size = 1 << 16
    (far, source), (destination, near) = socket.socketpair(), socket.socketpair()
    with far, source, destination, near:
        for end in (far, source, destination, near):
            end.setblocking(False)
        assert far.send(BODY[:size]) == size
        before = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                before += destination.send(b"x" * 4096)
        owner = Owner()
        pump = Pump.between(owner, Wire(source), Wire(destination), size)
        assert pump is not None
        pump.begin()
        assert (owner.moved, owner.told) == (size, ["full"])
        loop = asyncio.get_running_loop()
        seen = b""
        while len(seen) < before + size:
            seen += await asyncio.wait_for(loop.sock_recv(near, size), 10)
        await asyncio.wait_for(owner.over.wait(), 10)
    assert seen[before:] == BODY[:size]
    assert owner.told == ["full", "free", "stopped"]
    assert pump.stopped


async def test_client_that_leaves_half_way(watched: Watched) -> None:
    ended = asyncio.Event()

    async def gives_on(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await gives(place, reader, writer)
        finally:
            ended.set()

    async with target(gives_on) as place:
        await watched.proxy.route("/", place.url)
        async with watched.proxy.connection() as (_, writer):
            writer.write(GET)
            await watched.works()
            writer.transport.abort()
        await asyncio.wait_for(ended.wait(), 10)
        await watched.rests()


async def test_client_that_takes_nothing_is_left(tmp_path: Path) -> None:
    async with program(tmp_path, "--timeout", "700") as proxy, target(gives) as place:
        watched = Watched(proxy)
        await proxy.route("/", place.url)
        async with proxy.connection() as (reader, writer):
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(GET)
            await watched.works()
            await watched.rests()


async def test_target_that_leaves_half_way(watched: Watched) -> None:
    async def gives_half(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(place, reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY[: len(BODY) // 2])
        await writer.drain()

    async with target(gives_half) as place:
        await watched.proxy.route("/", place.url)
        async with watched.proxy.connection() as (reader, writer):
            writer.write(GET)
            await read_head(reader)
            assert await asyncio.wait_for(reader.read(), 30) == BODY[: len(BODY) // 2]
    await watched.rests()


async def test_more_than_announced_reaches_nobody(watched: Watched) -> None:
    gone = asyncio.Event()

    async def says_more(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(place, reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY + b"HTTP/1.1 200 OK\r\n")
        # What is not read when a connection is closed makes it a reset.
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        gone.set()

    async with target(says_more) as place:
        await watched.proxy.route("/", place.url)
        async with watched.proxy.connection() as (reader, writer):
            writer.write(GET)
            assert (await asyncio.wait_for(read_answer(reader), 30)).body == BODY
            # Nobody else is to be served on that connection.
            await asyncio.wait_for(gone.wait(), 10)
            assert not reader._buffer  # type: ignore[attr-defined]
    await watched.rests()


async def test_answer_before_the_body_is_there(watched: Watched) -> None:
    """The target has seen enough: the client gets its answer, and the rest of its body goes nowhere."""

    async def refuses(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await reader.readexactly(2 * MIB)
        writer.write(b"HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\n\r\nno")
        await asyncio.Event().wait()

    async with target(refuses) as place:
        await watched.proxy.route("/", place.url)
        async with watched.proxy.connection() as (reader, writer):
            writer.write(POST % len(BODY) + BODY[: 5 * MIB])
            answer = await asyncio.wait_for(read_answer(reader), 10)
            assert (answer.status, answer.body) == (413, b"no")
        await watched.rests()


async def test_target_that_leaves_while_it_is_sent_a_body(watched: Watched) -> None:
    async def leaves(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await reader.readexactly(2 * MIB)

    async with target(leaves) as place:
        await watched.proxy.route("/", place.url)
        async with watched.proxy.connection() as (reader, writer):
            writer.write(POST % len(BODY) + BODY[: 5 * MIB])
            assert (await asyncio.wait_for(read_answer(reader), 10)).status == 503
        await watched.rests()


@pytest.mark.parametrize("reset", [True, False])
async def test_client_that_leaves_while_it_sends_a_body(watched: Watched, reset: bool) -> None:
    gone = asyncio.Event()

    async def takes(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        with pytest.raises(asyncio.IncompleteReadError):
            await reader.readexactly(len(BODY))
        gone.set()

    async with target(takes) as place:
        await watched.proxy.route("/", place.url)
        async with watched.proxy.connection() as (_, writer):
            writer.write(POST % len(BODY) + BODY[: 5 * MIB])
            await watched.works()
            if reset:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        await asyncio.wait_for(gone.wait(), 10)
        await watched.rests()


async def test_body_that_stops_coming_is_a_408(watched: Watched) -> None:
    async def takes(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(MIB):
            pass

    async with target(takes) as place:
        await watched.proxy.route("/", place.url)
        async with watched.proxy.connection() as (reader, writer):
            writer.write(POST % len(BODY) + BODY[: 5 * MIB])
            assert (await asyncio.wait_for(read_answer(reader), 10)).status == 408
        await watched.rests()


async def test_target_that_takes_nothing_is_not_the_client_s_fault(watched: Watched) -> None:
    """The body does not stop coming: it is not taken. There is no limit for that but the target's."""
    go_on = asyncio.Event()

    async def waits(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await go_on.wait()
        assert await reader.readexactly(len(BODY)) == BODY
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with target(waits, limit=1 << 16) as place:
        await watched.proxy.route("/", place.url)
        async with watched.proxy.connection() as (reader, writer):
            writer.write(POST % len(BODY) + BODY)
            await watched.works()
            # Longer than the limit for a body that does not come.
            await asyncio.sleep(2.5)
            go_on.set()
            assert (await asyncio.wait_for(read_answer(reader), 30)).body == b"ok"
    await watched.rests()


# WebSockets

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: p\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
AGREED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


async def agree(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The target's side of the handshake."""
    await read_head(reader)
    writer.write(AGREED)


async def shake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The client's side."""
    writer.write(HANDSHAKE)
    assert "101" in (await read_head(reader))[0]


async def test_large_and_small_messages_come_back_in_order(watched: Watched) -> None:
    """While large ones come they go on inside the kernel; when none came for a while, as before."""

    async def echoes(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await agree(reader, writer)
        while data := await reader.read(MIB):
            writer.write(data)
            await writer.drain()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for size in (10, 2 * MIB, 5, 70_000, 1, 3 * MIB, 100):
            writer.write(BODY[:size])
            assert await asyncio.wait_for(reader.readexactly(size), 10) == BODY[:size]

    async with target(echoes) as place:
        await watched.proxy.route("/", place.url)
        async with watched.proxy.connection() as (reader, writer):
            await shake(reader, writer)
            for _ in range(2):
                await talk(reader, writer)
                await watched.works()
                await watched.rests()
            writer.write(BODY[:10])
            assert await asyncio.wait_for(reader.readexactly(10), 10) == BODY[:10]
    await watched.rests()


@pytest.mark.parametrize("talker", ["client", "target"])
async def test_last_words_arrive(watched: Watched, talker: str) -> None:
    """Whoever says a lot and hangs up is heard to the end, by the slow too."""
    listens = asyncio.Event()
    heard: list[bytes] = []

    async def talk(writer: asyncio.StreamWriter) -> None:
        writer.write(BODY)
        await watched.works()
        listens.set()
        await writer.drain()

    async def listen(reader: asyncio.StreamReader) -> None:
        await listens.wait()
        while data := await reader.read(1 << 17):
            heard.append(data)
            await asyncio.sleep(0.001)

    async def serves(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await agree(reader, writer)
        await (talk(writer) if talker == "target" else listen(reader))

    async with target(serves) as place:
        await watched.proxy.route("/", place.url)
        async with watched.proxy.connection() as (reader, writer):
            await shake(reader, writer)
            if talker == "client":
                await talk(writer)
            else:
                await asyncio.wait_for(listen(reader), 30)
        await until(lambda: sum(map(len, heard)) == len(BODY), "all of it was heard", 30)
    assert b"".join(heard) == BODY
    await watched.rests()


@pytest.mark.parametrize("leaver", ["client", "target"])
async def test_peer_that_breaks_off(watched: Watched, leaver: str) -> None:
    """A reset on one side ends both, however much is on its way."""
    ends = asyncio.Event()
    gone = asyncio.Event()

    async def break_off(writer: asyncio.StreamWriter) -> None:
        await ends.wait()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(BODY[:MIB])
                await writer.drain()
        gone.set()

    async def serves(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await agree(reader, writer)
        await (break_off(writer) if leaver == "target" else talk(reader, writer))

    async with target(serves) as place:
        await watched.proxy.route("/", place.url)
        async with watched.proxy.connection() as (reader, writer):
            await shake(reader, writer)
            if leaver == "client":
                await watched.works()
                ends.set()
                await break_off(writer)
            else:
                talking = asyncio.create_task(talk(reader, writer))
                await watched.works()
                ends.set()
                await asyncio.wait_for(talking, 10)
        await asyncio.wait_for(gone.wait(), 10)
        await watched.rests()
