"""The data plane carries requests and answers unchanged, in both directions, however they come."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.system.dataplane_program import (
    Program,
    Target,
    answering,
    program,
    read_answer,
    read_head,
    read_request,
    target,
    until,
)


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Program]:
    async with program(tmp_path) as running:
        yield running


async def test_request_and_answer_pass_unchanged(proxy: Program) -> None:
    async with target() as place:
        await proxy.route("/t", place.url)
        answer = await proxy.get("/t/%C3%A9%20x?a=1&b=%26", "X-One: 1", "X-One: 2", "Cookie: a=b; c=d")
    assert (answer.status, answer["x-target"]) == (200, "echo")
    assert place.line == "GET /t/%C3%A9%20x?a=1&b=%26 HTTP/1.1"
    assert place.header("x-one") == ["1", "2"]
    assert place.header("cookie") == ["a=b; c=d"]
    assert place.header("host") == ["proxy.test"]


async def test_headers_of_one_connection_are_not_passed_on(proxy: Program) -> None:
    async with target() as place:
        await proxy.route("/", place.url)
        await proxy.get(
            "/", "Connection: keep-alive, X-Mine", "X-Mine: 1", "Keep-Alive: 5", "TE: trailers", "X-Other: 2"
        )
    for name in ("connection", "keep-alive", "te", "x-mine"):
        assert place.header(name) == []
    assert place.header("x-other") == ["2"]


async def test_connection_header_cannot_remove_what_the_proxy_says(proxy: Program) -> None:
    async with target() as place:
        await proxy.route("/", place.url)
        await proxy.get("/", "Connection: close, X-Forwarded-For, Host, Authorization", "Authorization: token x")
    assert place.header("x-forwarded-for") == ["127.0.0.1"]
    assert place.header("host") == ["proxy.test"]
    assert place.header("authorization") == ["token x"]


async def test_chunked_request_stays_chunked_and_whole(proxy: Program) -> None:
    async with target() as place:
        await proxy.route("/", place.url)
        answer = await proxy.send(
            b"POST / HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
            b"4\r\nabcd\r\n3;ext=1\r\nefg\r\n0\r\nX-T: 1\r\n\r\n"
        )
    assert answer.body == b"abcdefg"
    assert place.header("transfer-encoding") == ["chunked"]
    assert place.header("trailer") == []


@pytest.mark.parametrize(
    ("response", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", b"ab"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", b""),
        (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", b"x"),
    ],
)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_every_way_to_end_an_answer(proxy: Program, response: bytes, body: bytes, version: str) -> None:
    """Whatever tells where the answer ends, the client gets all of it and knows that it did."""
    async with target(answering(response, close=True)) as place:
        await proxy.route("/", place.url)
        answer = await proxy.send(f"GET / HTTP/{version}\r\nHost: p\r\n\r\n")
    assert answer.body == body
    if version == "1.0":
        assert answer["transfer-encoding"] is None


async def test_head_has_no_body_and_the_connection_goes_on(proxy: Program) -> None:
    async with target() as place:
        await proxy.route("/", place.url)
        async with proxy.connection() as (reader, writer):
            writer.write(b"HEAD /a HTTP/1.1\r\nHost: p\r\n\r\n")
            answer = await read_answer(reader, head_only=True)
            writer.write(b"GET /b HTTP/1.1\r\nHost: p\r\n\r\n")
            following = await read_answer(reader)
    assert answer["content-length"] == "16"
    assert following.body == b"GET /b HTTP/1.1"
    assert place.connections == 1


async def test_connections_to_targets_are_used_again(proxy: Program) -> None:
    async with target() as place:
        await proxy.route("/", place.url)
        for number in range(5):
            assert (await proxy.get(f"/{number}")).status == 200
    assert place.connections == 1


async def test_pipelined_requests_are_answered_in_order(proxy: Program) -> None:
    """Even when the first is slow, and answers of the proxy's own come in between."""
    release = asyncio.Event()

    async def slow_first(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(place, reader)
            if " /slow " in place.line:
                await release.wait()
            text = place.line.split()[1].encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))

    async with target(slow_first) as place:
        await proxy.route("/", place.url)
        async with proxy.connection() as (reader, writer):
            paths = ["/slow", "/_chp_healthz", "/b", *["/_chp_healthz"] * 2000, "/c"]
            writer.write(b"".join(f"GET {path} HTTP/1.1\r\nHost: p\r\n\r\n".encode() for path in paths))
            await until(lambda: place.requests, "the first request arrived")
            release.set()
            bodies = [(await read_answer(reader)).body for _ in paths]
    assert bodies[:3] == [b"/slow", b'{"status":"OK"}', b"/b"]
    assert bodies[-1] == b"/c"


async def test_pipelined_posts_keep_their_bodies(proxy: Program) -> None:
    async with target() as place:
        await proxy.route("/", place.url)
        async with proxy.connection() as (reader, writer):
            for number in range(20):
                body = str(number).encode() * 3000
                writer.write(b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            for number in range(20):
                assert (await read_answer(reader)).body == str(number).encode() * 3000


async def test_large_bodies_stream_both_ways(proxy: Program) -> None:
    size = 64 << 20

    async def count_then_send(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, headers = await read_head(reader)
        left = int(dict(headers)["Content-Length"])
        while left:
            left -= len(await reader.read(min(left, 1 << 18)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size >> 18):
            writer.write(bytes(1 << 18))
            await writer.drain()

    async with target(count_then_send) as place:
        await proxy.route("/", place.url)
        async with proxy.connection() as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(size >> 18):
                writer.write(bytes(1 << 18))
                await writer.drain()
            await read_head(reader)
            got = 0
            while got < size:
                got += len(await reader.read(1 << 18))
    assert got == size
    assert resident(proxy) < 48


def resident(proxy: Program) -> float:
    """MiB of memory the proxy has now."""
    pages = int(Path(f"/proc/{proxy.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


async def stalled(writer: asyncio.StreamWriter, limit: int) -> int:
    """Write until nothing is taken any more; return how much was. Raises AssertionError beyond the limit."""
    taken = 0
    while taken < limit:
        writer.write(bytes(1 << 16))
        taken += 1 << 16
        try:
            await asyncio.wait_for(writer.drain(), 1)
        except asyncio.TimeoutError:
            return taken
    raise AssertionError(f"{taken} bytes were taken, and nobody read them")


async def test_upload_is_held_back_by_a_target_that_does_not_read(proxy: Program) -> None:
    async def never_reads(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with target(never_reads, limit=1 << 16) as place:
        await proxy.route("/", place.url)
        async with proxy.connection() as (_, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: 1000000000\r\n\r\n")
            await stalled(writer, 64 << 20)
        assert resident(proxy) < 40


async def test_download_is_held_back_by_a_client_that_does_not_read(proxy: Program) -> None:
    taken: list[int] = []

    async def pours(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(place, reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n" % (1 << 30))
        taken.append(await stalled(writer, 64 << 20))

    async with target(pours) as place:
        await proxy.route("/", place.url)
        async with proxy.connection() as (reader, writer):
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(b"GET / HTTP/1.1\r\nHost: p\r\n\r\n")
            await until(lambda: taken, "the target was held back", 20)
        assert resident(proxy) < 40


async def test_client_that_leaves_ends_the_request_to_the_target(proxy: Program) -> None:
    gone = asyncio.Event()

    async def waits(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(place, reader)
        if await reader.read() == b"":
            gone.set()

    async with target(waits) as place:
        await proxy.route("/", place.url)
        async with proxy.connection() as (_, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: p\r\n\r\n")
            await until(lambda: place.requests, "the request arrived")
        await asyncio.wait_for(gone.wait(), 5)


@pytest.mark.parametrize(
    "half",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
)
async def test_half_an_answer_is_never_taken_for_a_whole_one(proxy: Program, half: bytes) -> None:
    async with target(answering(half, close=True)) as place:
        await proxy.route("/", place.url)
        with pytest.raises(asyncio.IncompleteReadError):
            await proxy.get("/")


async def test_target_that_hangs_up_is_a_503(proxy: Program) -> None:
    async def hangs_up(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(place, reader)

    async with target(hangs_up) as place:
        await proxy.route("/", place.url)
        assert (await proxy.get("/")).status == 503
        assert place.connections == 1


@pytest.mark.parametrize("nonsense", [b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
async def test_target_that_does_not_speak_http_is_a_503(proxy: Program, nonsense: bytes) -> None:
    async with target(answering(nonsense)) as place:
        await proxy.route("/", place.url)
        assert (await proxy.get("/")).status == 503


async def test_connection_closed_while_it_waited_is_no_error(proxy: Program) -> None:
    """A request that may be repeated is sent again when the kept connection turns out to be closed."""

    async def once_each(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(place, reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        if place.connections == 1:
            # It takes the second request and hangs up without a word.
            await read_request(place, reader)

    async with target(once_each) as place:
        await proxy.route("/", place.url)
        assert (await proxy.get("/1")).body == b"ok"
        assert (await proxy.get("/2")).body == b"ok"
        assert place.connections == 2


async def test_post_is_never_sent_twice(proxy: Program) -> None:
    async def once_each(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(place, reader)
        if place.line.startswith("GET"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await read_request(place, reader)

    async with target(once_each) as place:
        await proxy.route("/", place.url)
        await proxy.get("/")
        answer = await proxy.send(b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: 1\r\n\r\nx")
        assert answer.status == 503
        assert [line.split()[0] for line, _ in place.requests] == ["GET", "POST"]


async def test_unasked_words_of_a_target_reach_nobody(proxy: Program) -> None:
    """A second answer to one request must not become the answer to somebody else's."""
    answers = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na" * 2
    async with target(answering(answers)) as place:
        await proxy.route("/", place.url)
        for _ in range(3):
            assert (await proxy.get("/")).body == b"a"
        assert place.connections == 3


async def test_answer_before_the_body_was_sent(proxy: Program) -> None:
    """The client reads the answer instead of a reset, although it is still sending."""

    async def refuses(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await writer.drain()
        await reader.read(1)

    async with target(refuses) as place:
        await proxy.route("/", place.url)
        async with proxy.connection() as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: 300000\r\n\r\n")
            answer = await read_answer(reader)
            assert (answer.status, answer.body) == (413, b"big")
            writer.write(bytes(300000))
            writer.write(b"GET /_chp_healthz HTTP/1.1\r\nHost: p\r\n\r\n")
            assert (await read_answer(reader)).status == 200


async def test_expect_continue_goes_to_the_target(proxy: Program) -> None:
    async def says_continue(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, headers = await read_head(reader)
        assert dict(headers)["Expect"] == "100-continue"
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(3)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + body)
        await writer.drain()
        await reader.read(1)

    async with target(says_continue) as place:
        await proxy.route("/", place.url)
        async with proxy.connection() as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            assert (await read_answer(reader)).status == 100
            writer.write(b"xyz")
            assert (await read_answer(reader)).body == b"xyz"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: 3, 3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: +3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: identity\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nHost: p\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: p\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: p\r\nHost: q\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: p\r\nX: a\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: p\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: p\r\nX: a\rb\r\n\r\n", 400),
        (b"GET nonsense HTTP/1.1\r\nHost: p\r\n\r\n", 400),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405),
        (b"GET / HTTP/2.0\r\nHost: p\r\n\r\n", 505),
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", 400),
        (b"GET / HTTP/1.1\r\nHost: p\r\nX: " + b"a" * 70000, 431),
        (
            b"GET / HTTP/1.1\r\nHost: p\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 3\r\n\r\nabc",
            400,
        ),
    ],
)
async def test_doubtful_requests_are_refused_and_reach_no_target(
    proxy: Program, request_bytes: bytes, status: int
) -> None:
    """Two programs that disagree where a request ends let one person speak for another."""
    async with target() as place:
        await proxy.route("/", place.url)
        async with proxy.connection() as (reader, writer):
            writer.write(request_bytes)
            answer = await asyncio.wait_for(read_answer(reader), 5)
            assert (answer.status, answer["connection"]) == (status, "close")
            assert await reader.read() == b""
    assert place.requests == []


async def test_broken_chunk_after_an_answer_began_is_not_passed_on(proxy: Program) -> None:
    async with target() as place:
        await proxy.route("/", place.url)
        answer = await proxy.send(
            b"POST / HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\nZZ\r\nGET /evil HTTP/1.1\r\n\r\n"
        )
    assert answer.status == 400
    assert all("/evil" not in line for line, _ in place.requests)


async def test_absolute_address_becomes_a_path(proxy: Program) -> None:
    async with target() as place:
        await proxy.route("/", place.url)
        await proxy.send(b"GET http://other.test:8/a?b HTTP/1.1\r\nHost: p\r\n\r\n")
    assert place.line == "GET /a?b HTTP/1.1"
    assert place.header("host") == ["other.test:8"]


async def test_upgrade_to_something_unknown_is_an_ordinary_request(proxy: Program) -> None:
    async with target() as place:
        await proxy.route("/", place.url)
        async with proxy.connection() as (reader, writer):
            for _ in range(2):
                writer.write(
                    b"GET /x HTTP/1.1\r\nHost: p\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                    b"HTTP2-Settings: AAMAAABk\r\n\r\n"
                )
                assert (await read_answer(reader)).body == b"GET /x HTTP/1.1"
    assert place.header("upgrade") == place.header("http2-settings") == []


async def test_unix_socket_as_target(proxy: Program, tmp_path: Path) -> None:
    path = str(tmp_path / "target.sock")
    async with target(path=path):
        await proxy.route("/", "http+unix://" + path.replace("/", "%2F"))
        assert (await proxy.get("/x")).body == b"GET /x HTTP/1.1"


async def test_many_clients_at_once(proxy: Program) -> None:
    async with target() as place:
        await proxy.route("/", place.url)
        answers = await asyncio.gather(*(proxy.get(f"/{number}") for number in range(200)))
    assert [answer.body for answer in answers] == [f"GET /{n} HTTP/1.1".encode() for n in range(200)]
