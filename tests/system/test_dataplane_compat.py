"""Our program and configurable-http-proxy do the same, request by request, where clients can tell.

Each test runs on ours, and on the Node program as well where that is installed; what we do better on purpose
is in the other modules.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from jupyterhub.dataplane.table import iso_time
from tests.system.dataplane_program import (
    OURS,
    TOKEN,
    Program,
    Target,
    installed_node_proxy,
    program,
    read_request,
    target,
    until,
)

NODE = installed_node_proxy()
COMMANDS = {"ours": OURS, **({"node": (NODE,)} if NODE else {})}


@pytest.fixture(params=COMMANDS)
def command(request: pytest.FixtureRequest) -> tuple[str, ...]:
    found: tuple[str, ...] = COMMANDS[request.param]
    return found


@pytest.fixture
async def proxy(command: tuple[str, ...], tmp_path: Path) -> AsyncIterator[Program]:
    async with program(tmp_path, command=command) as running:
        yield running


def unused_target() -> str:
    """An address where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


async def test_life_of_a_route(proxy: Program) -> None:
    data = {"user": "ada", "server_name": "", "target": unused_target(), "jupyterhub": True, "more": {"a": [1]}}
    answer = await proxy.api("POST", "/user/ada", data)
    assert (answer.status, answer.body) == (201, b"")
    listed = (await proxy.api("GET")).json()
    assert list(listed) == ["/user/ada"]
    moment = listed["/user/ada"].pop("last_activity")
    assert listed["/user/ada"] == data
    assert len(moment) == 24 and moment.endswith("Z")
    assert (await proxy.api("GET", "/")).json().keys() == listed.keys()
    one = await proxy.api("GET", "/user/ada")
    assert (one.status, one.json()) == (200, {**data, "last_activity": moment})
    assert (await proxy.api("GET", "/user/bob")).status == 404
    assert (await proxy.api("DELETE", "/user/ada")).status == 204
    assert (await proxy.api("DELETE", "/user/ada")).status == 404
    assert (await proxy.api("GET")).json() == {}


async def test_post_replaces_a_route_and_its_data(proxy: Program) -> None:
    await proxy.route("/a", "http://127.0.0.1:1", one=1)
    await proxy.route("/a", "http://127.0.0.1:2", two=2)
    route = (await proxy.api("GET", "/a")).json()
    del route["last_activity"]
    assert route == {"target": "http://127.0.0.1:2", "two": 2}


async def test_last_activity_cannot_be_given(proxy: Program) -> None:
    await proxy.route("/a", "http://127.0.0.1:1", last_activity="2001-01-01T00:00:00.000Z")
    assert await proxy.activity("/a") > "2020"


@pytest.mark.parametrize(
    ("posted", "listed"),
    [
        ("", "/"),
        ("/", "/"),
        ("/a/", "/a"),
        ("//a//b/", "//a//b"),
        ("/user/%E2%82%AC%20x", "/user/€ x"),
        ("/user/fake@x%20y/n1", "/user/fake@x y/n1"),
    ],
)
async def test_paths_are_listed_decoded_without_their_last_slash(proxy: Program, posted: str, listed: str) -> None:
    assert (await proxy.api("POST", posted, {"target": "http://127.0.0.1:1"})).status == 201
    assert list((await proxy.api("GET")).json()) == [listed]


@pytest.mark.parametrize("authorization", [f"token {TOKEN}", f"foo token {TOKEN}", f"token  {TOKEN} more"])
async def test_token_may_stand_anywhere(proxy: Program, authorization: str) -> None:
    assert (await proxy.api("GET", authorization=authorization)).status == 200


@pytest.mark.parametrize("authorization", [None, "", f"bearer {TOKEN}", f"Token {TOKEN}", "token wrong", TOKEN])
async def test_wrong_token_is_403(proxy: Program, authorization: str | None) -> None:
    for method, body in (("GET", None), ("POST", {"target": "http://h"}), ("DELETE", None)):
        answer = await proxy.api(method, "/a", body, authorization=authorization)
        assert (answer.status, answer.body) == (403, b"")


@pytest.mark.parametrize(
    ("body", "authorization", "status"),
    [
        (b"{broken", None, 400),
        (b"{broken", f"token {TOKEN}", 400),
        (b'{"target": "http://h"}', None, 403),
        (b"null", f"token {TOKEN}", 400),
        (b"{}", f"token {TOKEN}", 400),
        (b'{"target": 8}', f"token {TOKEN}", 400),
        (b'{"target": "nonsense"}', f"token {TOKEN}", 201),
    ],
)
async def test_body_is_looked_at_before_the_token(
    proxy: Program, body: bytes, authorization: str | None, status: int
) -> None:
    assert (await proxy.api("POST", "/a", body, authorization=authorization)).status == status


async def test_other_methods_and_paths(proxy: Program) -> None:
    assert (await proxy.api("PUT", "/a", {"target": "http://h"})).status == 405
    for path in ("/api/", "/", "/api/route"):
        assert (await proxy.api_path("GET", path)).status == 404


@pytest.mark.parametrize("name", ["inactive_since", "inactiveSince"])
async def test_listing_by_activity(proxy: Program, name: str) -> None:
    await proxy.route("/a", "http://127.0.0.1:1")
    assert (await proxy.api("GET", f"?{name}=2001-01-01T00:00:00.000Z")).json() == {}
    assert list((await proxy.api("GET", f"?{name}=2101-01-01T00:00:00Z")).json()) == ["/a"]
    assert (await proxy.api("GET", f"?{name}=garbage")).status == 400


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/user/a", "/user/a"),
        ("/user/a/", "/user/a"),
        ("/user/a?x", "/user/a"),
        ("/user/a/b/c", "/user/a/b"),
        ("/user/ab", "/"),
        ("/user", "/"),
        ("/", "/"),
        ("/user/%61/x", "/user/a"),
        ("/user/%e2%82%ac%20x/q", "/user/€ x"),
    ],
)
async def test_longest_prefix_by_segment_wins(proxy: Program, path: str, route: str) -> None:
    async with target() as right, target() as wrong:
        for spec in ("/", "/user/a", "/user/a/b", "/user/%E2%82%AC%20x"):
            place = right if spec.replace("%E2%82%AC%20", "€ ") == route else wrong
            await proxy.route(spec, place.url)
        assert (await proxy.get(path)).status == 200
    assert [line for line, _ in right.requests] == [f"GET {path} HTTP/1.1"]
    assert wrong.requests == []


@pytest.mark.parametrize(
    ("base", "path", "sent"),
    [
        ("/base/", "/tp/x?a=1", "/base/tp/x?a=1"),
        ("/base", "/tp", "/base/tp"),
        ("/base?k=v", "/tp2/x?k=v&a=1", "/base/tp2/x?k=v&k=v&a=1"),
        ("/base?k=v", "/tp2/x?a=1", "/base/tp2/x?k=v&a=1"),
        ("", "/tp/%2F%20", "/tp/%2F%20"),
    ],
)
async def test_path_and_query_of_the_target_come_first(proxy: Program, base: str, path: str, sent: str) -> None:
    async with target() as place:
        await proxy.route("/", place.url + base)
        await proxy.get(path)
    assert place.line == f"GET {sent} HTTP/1.1"


async def test_forwarded_headers(proxy: Program) -> None:
    async with target() as place:
        await proxy.route("/", place.url)
        await proxy.get("/", host="proxy.test:99")
        assert place.header("x-forwarded-for") == ["127.0.0.1"]
        assert place.header("x-forwarded-port") == ["99"]
        assert place.header("x-forwarded-proto") == ["http"]
        assert place.header("x-forwarded-host") == ["proxy.test:99"]
        await proxy.get(
            "/",
            "X-Forwarded-For: 1.2.3.4",
            "X-Forwarded-Port: 443",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: outer.test",
        )
        assert place.header("x-forwarded-for") == ["1.2.3.4,127.0.0.1"]
        assert place.header("x-forwarded-port") == ["443,80"]
        assert place.header("x-forwarded-proto") == ["https,http"]
        assert place.header("x-forwarded-host") == ["outer.test"]


async def test_delete_and_options_have_a_length(proxy: Program) -> None:
    async with target() as place:
        await proxy.route("/", place.url)
        for method in ("DELETE", "OPTIONS"):
            await proxy.send(f"{method} / HTTP/1.1\r\nHost: p\r\n\r\n")
            assert place.header("content-length") == ["0"]


async def test_status_of_failures(proxy: Program) -> None:
    assert (await proxy.get("/")).status == 404
    await proxy.route("/down", unused_target())
    await proxy.route("/nonsense", "nonsense")
    await proxy.route("/other", "ftp://127.0.0.1")
    assert (await proxy.get("/down")).status == 503
    assert (await proxy.get("/nonsense")).status == 500


async def test_client_that_closes_its_sending_half_has_left(proxy: Program) -> None:
    """It gets no answer, whole as its request was, and the target is told."""
    gone = asyncio.Event()

    async def waits(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(place, reader)
        assert await reader.read() == b""
        gone.set()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    async with target(waits) as place:
        await proxy.route("/", place.url)
        async with proxy.connection() as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: p\r\n\r\n")
            await until(lambda: place.requests, "the request arrived")
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 10) == b""
        await asyncio.wait_for(gone.wait(), 10)


async def test_health(proxy: Program) -> None:
    answer = await proxy.get("/_chp_healthz")
    assert (answer.status, answer.json()) == (200, {"status": "OK"})
    assert (await proxy.get("/_chp_healthz?x")).status == 404


async def _status_of_path(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await read_request(place, reader)
        status = place.line.split()[1].rpartition("/")[2]
        writer.write(f"HTTP/1.1 {status} Some\r\nContent-Length: 0\r\n\r\n".encode())


@pytest.mark.parametrize(
    ("request_text", "counts"),
    [
        ("GET /200 HTTP/1.1\r\nHost: p\r\n\r\n", True),
        ("GET /299 HTTP/1.1\r\nHost: p\r\n\r\n", True),
        ("GET /302 HTTP/1.1\r\nHost: p\r\n\r\n", False),
        ("GET /304 HTTP/1.1\r\nHost: p\r\n\r\n", False),
        ("GET /404 HTTP/1.1\r\nHost: p\r\n\r\n", False),
        ("GET /503 HTTP/1.1\r\nHost: p\r\n\r\n", False),
        ("POST /404 HTTP/1.1\r\nHost: p\r\nContent-Length: 1\r\n\r\nx", True),
    ],
)
async def test_what_counts_as_activity(proxy: Program, request_text: str, counts: bool) -> None:
    async with target(_status_of_path) as place:
        await proxy.route("/", place.url)
        before = await proxy.activity("/")
        # Moments are told in milliseconds.
        await until(lambda: iso_time(time.time()) > before, "the next millisecond")
        await proxy.send(request_text)
        assert (await proxy.activity("/") > before) is counts


async def _error_pages(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(place, reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/x-hub\r\nX-Not: 1\r\nContent-Length: 4\r\n\r\npage")
    await writer.drain()


async def test_error_target(command: tuple[str, ...], tmp_path: Path) -> None:
    async with target(_error_pages) as hub:
        async with program(tmp_path, "--error-target", hub.url + "/hub/error", command=command) as proxy:
            answer = await proxy.get("/a%20b?c=d&e=/")
            assert (answer.status, answer["content-type"], answer["x-not"]) == (404, "text/x-hub", None)
            assert answer.body == b"page"
            assert hub.line == "GET /hub/error/404?url=%2Fa%2520b%3Fc%3Dd%26e%3D%2F HTTP/1.1"
            await proxy.route("/down", unused_target())
            assert (await proxy.get("/down")).status == 503
            assert hub.line == "GET /hub/error/503?url=%2Fdown HTTP/1.1"


async def test_error_target_that_is_down(command: tuple[str, ...], tmp_path: Path) -> None:
    async with program(tmp_path, "--error-target", unused_target(), command=command) as proxy:
        answer = await proxy.get("/")
        assert (answer.status, answer.body, answer["content-type"]) == (404, b"Not Found", None)


async def test_default_target_is_a_route(command: tuple[str, ...], tmp_path: Path) -> None:
    async with target() as place:
        async with program(tmp_path, "--default-target", place.url, command=command) as proxy:
            assert (await proxy.get("/x")).status == 200
            assert (await proxy.api("DELETE", "/")).status == 204
            assert (await proxy.get("/x")).status == 404


async def test_host_routing_keys(command: tuple[str, ...], tmp_path: Path) -> None:
    async with target() as place:
        async with program(tmp_path, "--host-routing", command=command) as proxy:
            await proxy.route("/h.example/a/", place.url)
            routes: dict[str, Any] = (await proxy.api("GET")).json()
            assert routes["/h.example/a"]["host"] == "h.example"
            assert (await proxy.get("/a/x", host="h.example:99")).status == 200
            assert place.line == "GET /a/x HTTP/1.1"
            assert (await proxy.get("/a/x", host="other")).status == 404


async def test_without_a_token_the_api_is_open(command: tuple[str, ...], tmp_path: Path) -> None:
    async with program(tmp_path, command=command, token=None) as proxy:
        assert (await proxy.api("GET", authorization=None)).status == 200


async def test_exit_status_of_sigterm(proxy: Program) -> None:
    assert await proxy.end() == 2
