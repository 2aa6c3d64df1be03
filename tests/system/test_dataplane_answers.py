"""Answers with a plain head are passed on without the parser; what the client gets must be the parser's all the same."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from jupyterhub.dataplane.connection import ClientConnection
from jupyterhub.dataplane.exchange import Exchange
from jupyterhub.dataplane.log import Log
from jupyterhub.dataplane.metrics import Metrics
from jupyterhub.dataplane.options import parse_options
from jupyterhub.dataplane.server import DataPlane
from jupyterhub.dataplane.table import Routes
from jupyterhub.dataplane.upstream import PLAIN_HEAD, UpstreamConnection

HEAD = b"HTTP/1.1 200 OK\r\n"
#: What a target says to one GET, and whether it can be passed on as it is.
ANSWERS: dict[str, tuple[bytes, bool]] = {
    "plain": (HEAD + b"Server: t\r\nContent-Length: 3\r\nX-A:\r\n\r\nabc", True),
    "lower case": (HEAD + b"content-length:3\r\n\r\nabc", True),
    "empty": (HEAD + b"Content-Length: 0\r\n\r\n", True),
    "leading zero": (HEAD + b"Content-Length: 003\r\n\r\nabc", True),
    "no such thing": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nabc", True),
    "latin reason": (b"HTTP/1.1 500 \xe9\r\nContent-Length: 3\r\n\r\nabc", True),
    "names that begin like others": (HEAD + b"Te-X: 1\r\nUpgrade-Insecure: 1\r\nContent-Length: 3\r\n\r\nabc", True),
    "more than announced": (HEAD + b"Content-Length: 3\r\n\r\nabcd", True),
    "a second answer": ((HEAD + b"Content-Length: 3\r\n\r\nabc") * 2, True),
    "connection": (HEAD + b"Connection: close\r\nContent-Length: 3\r\n\r\nabc", False),
    "its own header": (HEAD + b"X-A: 1\r\nContent-Length: 3\r\nconnection: x-a\r\n\r\nabc", False),
    "chunked": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", False),
    "two framings": (HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False),
    "two framings, the other way": (HEAD + b"transfer-encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", False),
    "two lengths": (HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", False),
    "list of lengths": (HEAD + b"Content-Length: 3, 3\r\n\r\nabc", False),
    "signed length": (HEAD + b"Content-Length: +3\r\n\r\nabc", False),
    "length that is none": (HEAD + b"Content-Length: 0x3\r\n\r\nabc", False),
    "blank before the colon": (HEAD + b"Content-Length : 3\r\n\r\nabc", False),
    "folded": (HEAD + b"X-A: 1\r\n Content-Length: 9\r\nContent-Length: 3\r\n\r\nabc", False),
    "bare line feed": (HEAD + b"X-A: 1\nContent-Length: 9\r\nContent-Length: 3\r\n\r\nabc", False),
    "bare carriage return": (HEAD + b"X-A: 1\rContent-Length: 9\r\nContent-Length: 3\r\n\r\nabc", False),
    "nul": (HEAD + b"X-A: \0\r\nContent-Length: 3\r\n\r\nabc", False),
    "name that is none": (HEAD + b"X A: 1\r\nContent-Length: 3\r\n\r\nabc", False),
    "no colon": (HEAD + b"X-A\r\nContent-Length: 3\r\n\r\nabc", False),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", False),
    "no content": (b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n", False),
    "early hints": (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + HEAD + b"Content-Length: 3\r\n\r\nabc", False),
    "switching": (b"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 3\r\n\r\nabc", False),
    "old version": (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", False),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nabc", False),
    "status that is none": (b"HTTP/1.1 2000 OK\r\nContent-Length: 3\r\n\r\nabc", False),
    "to the end": (HEAD + b"X-A: 1\r\n\r\nabc", False),
}


REQUESTS = {
    "GET": b"GET / HTTP/1.1\r\nHost: p\r\n\r\n",
    "HEAD": b"HEAD / HTTP/1.1\r\nHost: p\r\n\r\n",
    "GET, the last one": b"GET / HTTP/1.1\r\nHost: p\r\nConnection: close\r\n\r\n",
    "GET, HTTP/1.0": b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
}


class Wire:
    """A transport that remembers what was written to it."""

    def __init__(self) -> None:
        self.written = b""
        self.closing = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closing = True

    abort = write_eof = close

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else None


def sorted_head(data: bytes) -> tuple[list[bytes], bytes]:
    """An answer's first line and headers, which come in no order, and what is after them."""
    head, _, rest = data.partition(b"\r\n\r\n")
    line, *headers = head.split(b"\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        # Where one chunk ends and the next begins says nothing.
        rest = re.sub(rb"[1-9a-f][0-9a-f]*\r\n([^\r]+)\r\n", rb"\1", rest)
    return [line, *sorted(header.lower().replace(b": ", b":") for header in headers)], rest


async def passed(request: bytes, pieces: list[bytes]) -> tuple[Any, bool, bool, dict[int, int]]:
    """What a client gets whose target answers in these pieces.

    Its head and body, whether its connection is kept, whether the target's is, and what was counted.
    """
    routes = Routes()
    routes.add("/", {"target": "http://127.0.0.1:1"})
    plane = DataPlane(parse_options([], told=False), Log("error"), routes, Metrics())
    entry = routes.find("", "/")
    assert entry is not None and entry.target is not None
    upstream, far = UpstreamConnection(entry.target, plane.pool), Wire()
    upstream.connection_made(far)
    # Used before, so that the proxy does not open one: there is nobody at that address.
    plane.pool.put(upstream)
    client, near = ClientConnection(plane, secure=False), Wire()
    client.connection_made(near)
    client.data_received(request)
    assert far.written
    for piece in pieces:
        if not far.closing:
            upstream.data_received(piece)
    kept = not far.closing and plane.pool.take(entry.target, Exchange()) is upstream
    upstream.connection_lost(None)
    await asyncio.gather(*plane._tasks)
    return sorted_head(near.written), not near.closing, kept, plane.metrics.requests_proxy


@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_at_once_is_what_it_is_byte_by_byte(name: str, request_name: str) -> None:
    answer, plain = ANSWERS[name]
    assert bool(PLAIN_HEAD.match(answer)) == plain
    request = REQUESTS[request_name]
    if request_name == "HEAD":
        answer = answer[: answer.index(b"\r\n\r\n", answer.rindex(b"HTTP/1.")) + 4]
    bytewise = await passed(request, [answer[n : n + 1] for n in range(len(answer))])
    assert await passed(request, [answer]) == bytewise
    head_only = answer.find(b"\r\n\r\n") + 4
    assert await passed(request, [answer[:head_only], answer[head_only:]][: 2 if answer[head_only:] else 1]) == bytewise


async def test_the_next_answer_begins_anew() -> None:
    """Whatever one answer left behind, the next on the same connection is read from its beginning."""
    routes = Routes()
    routes.add("/", {"target": "http://127.0.0.1:1"})
    plane = DataPlane(parse_options([], told=False), Log("error"), routes, Metrics())
    entry = routes.find("", "/")
    assert entry is not None and entry.target is not None
    upstream, far = UpstreamConnection(entry.target, plane.pool), Wire()
    upstream.connection_made(far)
    plane.pool.put(upstream)
    client, near = ClientConnection(plane, secure=False), Wire()
    client.connection_made(near)
    plain, chunked = ANSWERS["plain"][0], ANSWERS["chunked"][0]
    hints = ANSWERS["early hints"][0]
    large = HEAD + b"Connection: keep-alive\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200000
    for answer in (plain, chunked, plain, hints, large, plain, large, chunked, chunked, plain, plain):
        near.written = b""
        client.data_received(REQUESTS["GET"])
        for first in range(0, len(answer), 100_000):
            upstream.data_received(answer[first : first + 100_000])
        last = near.written[near.written.rindex(b"HTTP/1.1 200 OK") :].partition(b"\r\n\r\n")[2]
        assert last == answer[answer.rindex(b"HTTP/1.1 200 OK") :].partition(b"\r\n\r\n")[2]
    assert not far.closing and not near.closing
