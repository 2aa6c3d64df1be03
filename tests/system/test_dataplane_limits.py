"""Whoever takes too long or too much is shown the door, and the others do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.system.dataplane_program import (
    OURS,
    TOKEN,
    Answer,
    Program,
    Target,
    answering,
    program,
    read_answer,
    read_request,
    target,
    until,
)


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection is closed; a reset counts as closed."""
    try:
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionResetError:
        return b""


async def test_head_that_trickles_is_a_408(tmp_path: Path) -> None:
    """Every byte comes in good time, but the head does not: slow loris."""
    async with program(tmp_path, "--head-timeout", "500") as proxy, proxy.connection() as (reader, writer):

        async def trickle() -> None:
            with contextlib.suppress(ConnectionError):
                for sign in b"GET / HTTP/1.1\r\nHost: p\r\nX: " + b"a" * 1000:
                    writer.write(bytes([sign]))
                    await writer.drain()
                    await asyncio.sleep(0.05)

        talking = asyncio.create_task(trickle())
        answer = await asyncio.wait_for(read_answer(reader), 10)
        assert (answer.status, answer["connection"]) == (408, "close")
        assert await rest(reader) == b""
        talking.cancel()


async def test_connection_without_a_word_is_closed(tmp_path: Path) -> None:
    async with program(tmp_path, "--head-timeout", "300") as proxy, proxy.connection() as (reader, _):
        assert await rest(reader) == b""


async def test_body_that_stops_is_a_408(tmp_path: Path) -> None:
    async with target() as place, program(tmp_path, "--body-timeout", "500") as proxy:
        await proxy.route("/", place.url)
        async with proxy.connection() as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: 10\r\n\r\nabc")
            answer = await asyncio.wait_for(read_answer(reader), 10)
            assert (answer.status, answer["connection"]) == (408, "close")
            assert await rest(reader) == b""


async def test_target_that_does_not_accept_is_a_503(tmp_path: Path) -> None:
    with socket.socket() as full:
        # A listener whose queue is full: the kernel drops what comes next.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        with contextlib.ExitStack() as waiting:
            for _ in range(4):
                one = waiting.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(address)
            async with program(tmp_path, "--connect-timeout", "500") as proxy:
                await proxy.route("/", f"http://127.0.0.1:{address[1]}")
                answer = await proxy.get("/")
    assert answer.status == 503
    assert "no connection" in proxy.log.read_text()


async def test_flood_of_silent_connections_keeps_nobody_out(tmp_path: Path) -> None:
    async with target() as place, program(tmp_path, "--max-connections", "50") as proxy:
        await proxy.route("/", place.url)
        process = psutil.Process(proxy.process.pid)
        async with proxy.connection() as (patient, writer):
            # One in the middle of a request is no idler, however many come.
            writer.write(b"POST /slow HTTP/1.1\r\nHost: p\r\nContent-Length: 4\r\n\r\nab")
            flood = [await asyncio.open_connection("127.0.0.1", proxy.port) for _ in range(300)]
            assert (await proxy.get("/x")).status == 200
            assert process.num_fds() < 100
            closed = [asyncio.create_task(rest(reader)) for reader, _ in flood[:200]]
            assert await asyncio.gather(*closed) == [b""] * 200
            writer.write(b"cd")
            assert (await read_answer(patient)).body == b"abcd"
        for _, each in flood:
            each.close()


async def test_more_requests_than_clients_may_have_are_a_503(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def slow(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(place, reader)
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with target(slow) as place, program(tmp_path, "--max-connections", "10") as proxy:
        await proxy.route("/", place.url)
        running = [asyncio.create_task(proxy.get(f"/{number}")) for number in range(10)]
        await until(lambda: len(place.requests) == 10, "all are under way")
        assert (await proxy.get("/more")).status == 503
        release.set()
        assert {answer.status for answer in await asyncio.gather(*running)} == {200}
        assert (await proxy.get("/again")).status == 200


async def test_few_connections_are_kept_however_many_targets_there_are(tmp_path: Path) -> None:
    shell = ("sh", "-c", 'ulimit -n 640; exec "$0" "$@"', *OURS)
    async with target(host="0.0.0.0") as place, program(tmp_path, command=shell) as proxy:
        process = psutil.Process(proxy.process.pid)
        before = process.num_fds()
        port = place.url.rpartition(":")[2]
        for turn in range(2):
            for number in range(1, 61):
                if not turn:
                    await proxy.route(f"/{number}", f"http://127.0.1.{number}:{port}")
                assert (await proxy.get(f"/{number}")).status == 200
        # The limit is 32 here, and one or two connections are just being closed.
        await until(lambda: process.num_fds() <= before + 34, "no more are kept")
        # The latest are there, the oldest are not.
        connections = place.connections
        assert (await proxy.get("/60")).status == 200
        assert place.connections == connections
        assert (await proxy.get("/1")).status == 200
        assert place.connections == connections + 1


async def test_api_is_not_on_the_public_side(tmp_path: Path) -> None:
    """There it is an address like any other, for whoever has a route for it."""
    body = b'{"target": "http://127.0.0.1:1"}'
    ask = b"%b /api/routes/x HTTP/1.1\r\nHost: p\r\nAuthorization: token %b\r\nContent-Length: %d\r\n\r\n%b"
    async with target() as place, program(tmp_path) as proxy:
        assert (await proxy.send(ask % (b"POST", TOKEN.encode(), len(body), body))).status == 404
        await proxy.route("/", place.url)
        for path in ("/api/routes", "/metrics", "//api/routes", "/%61pi/routes"):
            assert (await proxy.get(path, f"Authorization: token {TOKEN}")).body == f"GET {path} HTTP/1.1".encode()
        assert (await proxy.send(ask % (b"POST", TOKEN.encode(), len(body), body))).body == body
        assert list((await proxy.api("GET")).json()) == ["/"]


async def test_api_bounds_what_it_is_sent(tmp_path: Path) -> None:
    async with program(tmp_path) as proxy:
        head = f"POST /api/routes/x HTTP/1.1\r\nHost: p\r\nAuthorization: token {TOKEN}\r\n"
        large = f"{head}Content-Length: 9000000\r\n\r\n".encode() + b"a" * 9000000

        async def send(data: bytes) -> Answer:
            async with proxy.connection(port=proxy.api_port) as (reader, writer):
                with contextlib.suppress(ConnectionError):
                    writer.write(data)
                return await asyncio.wait_for(read_answer(reader), 10)

        assert (await send(head.encode() + b"X: " + b"a" * 70000)).status == 431
        assert (await send(large)).status == 413
        assert list((await proxy.api("GET")).json()) == []


async def test_websocket_on_which_nobody_speaks_is_closed(tmp_path: Path) -> None:
    async def agree(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(place, reader)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        while data := await reader.read(100):
            writer.write(data)

    handshake = b"GET / HTTP/1.1\r\nHost: p\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    async with target(agree) as place, program(tmp_path, "--websocket-timeout", "800") as proxy:
        await proxy.route("/", place.url)
        async with proxy.connection() as (silent, shake), proxy.connection() as (hear, talk):
            for reader, writer in ((silent, shake), (hear, talk)):
                writer.write(handshake)
                assert (await read_answer(reader)).status == 101
            gone = asyncio.create_task(rest(silent))
            while not gone.done():
                talk.write(b"still here")
                assert await hear.readexactly(10) == b"still here"
                await asyncio.sleep(0.05)
            talk.write(b"and still")
            assert await hear.readexactly(9) == b"and still"


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Program]:
    async with program(tmp_path) as running:
        yield running


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked",
        b"Content-Length: 3\r\nContent-Length: 5",
        b"Content-Length: 3, 3",
        b"Content-Length: -3",
        b"Content-Length : 3",
        b"Content-Length: 3\r\nX: a\r\n b",
        b"Content-Length: 3\nX: 1",
        b"Content-Length: 3\r\nX: a\x00b",
        b"X: " + b"a" * 600000,
    ],
)
async def test_doubtful_answers_reach_nobody(proxy: Program, head: bytes) -> None:
    """People run their own servers: an answer is no more to be trusted than a request."""
    async with target(answering(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\nabc")) as place:
        await proxy.route("/", place.url)
        async with proxy.connection() as (reader, writer):
            for _ in range(2):
                writer.write(b"GET / HTTP/1.1\r\nHost: p\r\n\r\n")
                assert (await asyncio.wait_for(read_answer(reader), 5)).status == 503


async def test_answer_in_a_coding_of_its_own_ends_with_the_connection(proxy: Program) -> None:
    async with target(answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc", close=True)) as place:
        await proxy.route("/", place.url)
        answer = await proxy.get("/")
    assert (answer.status, answer.body) == (200, b"abc")


async def test_body_after_an_answer_that_has_none_is_not_the_next_answer(proxy: Program) -> None:
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    async with target(answering(b"HTTP/1.1 204 No Content\r\n\r\n" + evil)) as place:
        await proxy.route("/", place.url)
        async with proxy.connection() as (reader, writer):
            for _ in range(3):
                writer.write(b"GET / HTTP/1.1\r\nHost: p\r\n\r\n")
                assert (await asyncio.wait_for(read_answer(reader), 5)).status == 204


async def test_information_before_the_answer_is_passed_on(proxy: Program) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    async with target(answering(hints + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as place:
        await proxy.route("/", place.url)
        async with proxy.connection() as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: p\r\n\r\n")
            first = await read_answer(reader)
            assert (first.status, first["link"]) == (103, "</a.css>")
            assert (await read_answer(reader)).body == b"ok"
        # HTTP/1.0 knows no such answers.
        assert (await proxy.send(b"GET / HTTP/1.0\r\n\r\n")).body == b"ok"


async def test_client_that_closes_its_half_has_left(proxy: Program) -> None:
    gone = asyncio.Event()

    async def slow(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(place, reader)
        if await reader.read(1) == b"":
            gone.set()

    async with target(slow) as place:
        await proxy.route("/", place.url)
        async with proxy.connection() as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: p\r\n\r\n")
            await until(lambda: place.requests, "the request arrives")
            writer.write_eof()
            assert await rest(reader) == b""
            await asyncio.wait_for(gone.wait(), 5)


async def test_target_that_closes_its_half_after_the_answer_gets_no_other_request(proxy: Program) -> None:
    async def once(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(place, reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.write_eof()
        assert await reader.read() == b""

    async with target(once) as place:
        await proxy.route("/", place.url)
        for _ in range(5):
            assert (await proxy.send(b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: 1\r\n\r\nx")).body == b"ok"
