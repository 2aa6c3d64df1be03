"""The program: command line, ports, files, time limits, error pages, the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.system.dataplane_program import (
    OURS,
    TOKEN,
    Program,
    Target,
    free_port,
    program,
    read_answer,
    read_head,
    read_request,
    target,
    until,
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program, which is expected to end by itself."""
    return subprocess.run([*OURS, *arguments], capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--socket", "/tmp/x", "--port", "1"], "--socket cannot be used together with --ip or --port"),
        (["--api-socket", "/tmp/x", "--api-ip", "::1"], "--api-socket cannot be used together"),
        (["--error-target", "http://h", "--error-path", "/p"], "cannot be used together"),
        (["--redirect-port", "80"], "there is no https to send to"),
        (["--custom-header", "no colon"], "write it as 'Name: value'"),
        (["--custom-header", ": x"], "write it as 'Name: value'"),
        (["--custom-header", "a: b\r\nc: d"], "write it as 'Name: value'"),
        (["--storage-backend", "redis"], "--state-file"),
        (["--ssl-allow-rc4"], "RC4"),
        (["--log-level", "loud"], "choose debug, info, warn or error"),
        (["--port", "many"], "--port"),
        (["--port", "70000"], "from 0 to 65535"),
        (["--unknown"], "--unknown"),
        (["--por", "80"], "--por"),
        (["--ssl-key", "/does/not/exist", "--ssl-cert", "/nor/this"], "/does/not/exist"),
        (["--ssl-protocol", "SSLv2", "--ssl-key", "k", "--ssl-cert", "c"], "SSLv2"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(arguments: list[str], sentence: str) -> None:
    done = run(*arguments)
    assert done.returncode == 1
    assert sentence in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_version_and_help() -> None:
    import jupyterhub

    assert run("--version").stdout.strip() == jupyterhub.__version__
    done = run("--help")
    assert done.returncode == 0
    assert "--error-target" in done.stdout


@pytest.mark.parametrize("which", ["public", "REST API"])
def test_port_in_use_ends_the_program_and_names_the_port(which: str) -> None:
    """A proxy that looks alive and serves nothing helps nobody."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        names = ["--port", "--api-port"] if which == "public" else ["--api-port", "--port"]
        done = run("--ip", "127.0.0.1", "--api-ip", "127.0.0.1", names[0], str(port), names[1], str(free_port()))
    assert done.returncode == 1
    assert f"127.0.0.1:{port} ({which})" in done.stdout
    assert "in use" in done.stdout


async def test_start_is_quick_and_light(tmp_path: Path) -> None:
    """At most a quarter of a second of CPU and 30 MiB, with no module of the hub's other side loaded."""
    async with program(tmp_path) as proxy:
        pid = proxy.process.pid
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        assert sum(int(tick) for tick in ticks) / os.sysconf("SC_CLK_TCK") <= 0.25
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        assert pages * os.sysconf("SC_PAGE_SIZE") <= 30 << 20
    listed = subprocess.run(
        [OURS[0], "-c", "import jupyterhub.dataplane.cli, sys, json; print(json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    loaded = set(json.loads(listed.stdout))
    assert not loaded & {"tornado", "traitlets", "sqlalchemy", "aiohttp", "psutil", "jupyterhub.proxy"}


async def test_routes_survive_a_kill(tmp_path: Path) -> None:
    """Without a hub: what was acknowledged is there again, data and all, after SIGKILL at any moment."""
    state = str(tmp_path / "routes")
    async with target() as place:
        async with program(tmp_path, "--state-file", state) as proxy:
            for number in range(300):
                await proxy.route(f"/user/{number}", place.url, user=str(number), nested={"a": [1, None]})
            await proxy.route("/user/%E2%82%AC%20x", place.url)
            for number in range(0, 300, 2):
                assert (await proxy.api("DELETE", f"/user/{number}")).status == 204
            before = (await proxy.api("GET")).json()
            proxy.process.kill()
            await proxy.process.wait()
        async with program(tmp_path, "--state-file", state) as proxy:
            assert (await proxy.api("GET")).json() == before
            assert (await proxy.get("/user/7/x")).status == 200
            assert (await proxy.get("/user/8/x")).status == 404
    assert os.stat(state).st_mode & 0o077 == 0


async def test_half_a_line_on_disk_loses_only_itself(tmp_path: Path) -> None:
    state = tmp_path / "routes"
    async with program(tmp_path, "--state-file", str(state)) as proxy:
        await proxy.route("/a", "http://127.0.0.1:1")
        await proxy.route("/b", "http://127.0.0.1:1")
    with state.open("a") as file:
        file.write('["add","/c",{"tar')
    async with program(tmp_path, "--state-file", str(state)) as proxy:
        assert sorted((await proxy.api("GET")).json()) == ["/a", "/b"]
        await proxy.route("/d", "http://127.0.0.1:1")
    async with program(tmp_path, "--state-file", str(state)) as proxy:
        assert sorted((await proxy.api("GET")).json()) == ["/a", "/b", "/d"]


async def test_state_of_another_kind_of_routing_is_not_used(tmp_path: Path) -> None:
    state = str(tmp_path / "routes")
    async with program(tmp_path, "--state-file", state) as proxy:
        await proxy.route("/a", "http://127.0.0.1:1")
    async with program(tmp_path, "--state-file", state, "--host-routing") as proxy:
        assert (await proxy.api("GET")).json() == {}


async def test_state_file_stays_small(tmp_path: Path) -> None:
    state = tmp_path / "routes"
    async with program(tmp_path, "--state-file", str(state)) as proxy:
        for _ in range(500):
            await proxy.route("/a", "http://127.0.0.1:1")
        assert len(state.read_text().splitlines()) < 100


async def test_end_lets_requests_finish(tmp_path: Path) -> None:
    """SIGTERM: no new connection, the request under way gets its answer, then exit 2 and no pid file."""
    release = asyncio.Event()

    async def slow(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(place, reader)
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    pid_file = tmp_path / "pid"
    async with target(slow) as place, program(tmp_path, "--pid-file", str(pid_file)) as proxy:
        await until(lambda: pid_file.exists() and pid_file.read_text(), "the pid file is there")
        assert int(pid_file.read_text()) == proxy.process.pid
        await proxy.route("/", place.url)
        async with proxy.connection() as (idle, _), proxy.connection() as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: p\r\n\r\n")
            await until(lambda: place.requests, "the request arrived")
            proxy.process.terminate()
            assert await asyncio.wait_for(idle.read(), 5) == b""
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", proxy.port)
            release.set()
            answer = await asyncio.wait_for(read_answer(reader), 5)
            assert (answer.status, answer["connection"]) == (200, "close")
            assert await asyncio.wait_for(proxy.process.wait(), 5) == 2
    assert not pid_file.exists()


async def test_end_does_not_wait_for_ever(tmp_path: Path) -> None:
    async def never(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(place, reader)
        await asyncio.Event().wait()

    async with target(never) as place, program(tmp_path, "--drain-timeout", "300") as proxy:
        await proxy.route("/", place.url)
        async with proxy.connection() as (_, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: p\r\n\r\n")
            await until(lambda: place.requests, "the request arrived")
            proxy.process.terminate()
            assert await asyncio.wait_for(proxy.process.wait(), 5) == 2


async def test_reader_of_the_log_that_is_stuck_does_not_stop_the_proxy(tmp_path: Path) -> None:
    """The one who started the proxy may be dead, or alive and not reading: requests go on all the same."""
    port, api = free_port(), free_port()
    process = await asyncio.create_subprocess_exec(
        *OURS,
        *("--ip", "127.0.0.1", "--port", str(port), "--api-ip", "127.0.0.1", "--api-port", str(api)),
        *("--log-level", "debug"),
        stdout=subprocess.PIPE,
        env={**os.environ, "CONFIGPROXY_AUTH_TOKEN": TOKEN},
        limit=1,
    )
    proxy = Program(process, port, api, tmp_path / "none")
    assert process.stdout is not None
    await process.stdout.read(1)
    try:
        await until(lambda: _listens(api), "the proxy listens")
        async with target() as place:
            for _ in range(1000):
                await proxy.route("/" + "x" * 200, place.url)
            assert (await proxy.get("/" + "x" * 200)).status == 200
    finally:
        process.kill()
        await process.communicate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_target_that_does_not_answer_in_time(tmp_path: Path) -> None:
    async def never(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(place, reader)
        await reader.read(1)

    async with target(never) as place, program(tmp_path, "--proxy-timeout", "400") as proxy:
        await proxy.route("/", place.url)
        began = time.monotonic()
        assert (await proxy.get("/")).status == 503
        assert 0.3 < time.monotonic() - began < 3


async def test_silent_client_is_closed_without_an_answer(tmp_path: Path) -> None:
    async with program(tmp_path, "--timeout", "300") as proxy:
        async with proxy.connection() as (reader, writer):
            writer.write(b"GET / HT")
            try:
                assert await asyncio.wait_for(reader.read(), 5) == b""
            except ConnectionResetError:
                # Also a way of being closed.
                pass


async def test_idle_client_is_closed_after_the_keep_alive_timeout(tmp_path: Path) -> None:
    """And a second later than it says, as clients of configurable-http-proxy know it."""
    async with program(tmp_path, "--keep-alive-timeout", "200") as proxy:
        async with proxy.connection() as (reader, writer):
            writer.write(b"GET /_chp_healthz HTTP/1.1\r\nHost: p\r\n\r\n")
            assert (await read_answer(reader)).status == 200
            began = time.monotonic()
            assert await asyncio.wait_for(reader.read(), 5) == b""
            assert 1.0 < time.monotonic() - began < 3


async def test_error_pages_from_a_directory(tmp_path: Path) -> None:
    (tmp_path / "404.html").write_text("<p>four")
    (tmp_path / "error.html").write_text("<p>any")
    async with program(tmp_path, "--error-path", str(tmp_path)) as proxy:
        answer = await proxy.get("/")
        assert (answer.status, answer.body, answer["content-type"]) == (404, b"<p>four", "text/html")
        await proxy.route("/", "http://127.0.0.1:1")
        answer = await proxy.get("/")
        assert (answer.status, answer.body) == (503, b"<p>any")


async def test_own_pages_are_friendly_and_for_programs_json(tmp_path: Path) -> None:
    async with program(tmp_path) as proxy:
        await proxy.route("/down", "http://127.0.0.1:1")
        page = await proxy.get("/down", "Accept: text/html,*/*;q=0.8")
        assert (page.status, page["content-type"]) == (503, "text/html; charset=utf-8")
        assert b'<html lang="en">' in page.body and b"location.reload()" in page.body
        assert (page["retry-after"], page["cache-control"]) == ("5", "no-store")
        answer = await proxy.get("/down", "Accept: application/json")
        assert answer.json() == {
            "status": 503,
            "message": "Service Unavailable",
            "reason": "Not available at the moment",
        }
        assert answer["retry-after"] == "5"
        await proxy.route("/hub", "http://127.0.0.1:1", hub=True)
        page = await proxy.get("/hub/home", "Accept: text/html")
        assert b"<h1>The Hub is not available" in page.body
        page = await proxy.get("/nothing", "Accept: text/html")
        assert (page.status, b"reload" in page.body) == (404, False)


async def test_person_sees_a_page_even_when_the_hub_is_down(tmp_path: Path) -> None:
    """While the hub restarts, its error pages cannot be had: ours is shown and reloads itself."""
    async with program(tmp_path, "--error-target", "http://127.0.0.1:1/hub/error") as proxy:
        await proxy.route("/", "http://127.0.0.1:1")
        page = await proxy.get("/hub/home", "Accept: text/html")
        assert (page.status, b"location.reload()" in page.body) == (503, True)
        plain = await proxy.get("/hub/home")
        assert (plain.status, plain.body, plain["content-type"]) == (503, b"Service Unavailable", None)


async def test_hub_that_is_stuck_does_not_keep_people_from_a_page(tmp_path: Path) -> None:
    async def never(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with target(never) as place, program(tmp_path, "--error-target", place.url) as proxy:
        page = await proxy.get("/x", "Accept: text/html")
        assert (page.status, b"There is nothing" in page.body) == (404, True)


async def test_custom_headers_replace_those_of_clients(tmp_path: Path) -> None:
    options = ["--custom-header", "X-Secret: a: b", "--custom-header", "X-More: 1", "--change-origin"]
    async with target() as place, program(tmp_path, *options) as proxy:
        await proxy.route("/", place.url)
        await proxy.get("/", "x-secret: forged")
    assert place.header("x-secret") == ["a: b"]
    assert place.header("x-more") == ["1"]
    assert place.header("host") == [place.url.removeprefix("http://")]


@pytest.mark.parametrize(
    ("url", "sent"),
    [("/pre/fix", "/"), ("/pre/fix?q", "/?q"), ("/pre/fix/a%2Fb", "/a%2Fb"), ("/pr%65/fix/é", "/é")],
)
async def test_prefix_can_be_left_out(tmp_path: Path, url: str, sent: str) -> None:
    async with target() as place, program(tmp_path, "--no-include-prefix", "--no-x-forward") as proxy:
        await proxy.route("/pre/fix", place.url)
        encoded = url.replace("é", "%C3%A9")
        await proxy.get(encoded, "X-Forwarded-For: 9.9.9.9")
    assert place.line == f"GET {sent.replace('é', '%C3%A9')} HTTP/1.1"
    assert place.header("x-forwarded-for") == ["9.9.9.9"]


async def test_target_path_can_be_left_out(tmp_path: Path) -> None:
    async with target() as place, program(tmp_path, "--no-prepend-path") as proxy:
        await proxy.route("/", place.url + "/base?k=v")
        await proxy.get("/x?a=1")
    assert place.line == "GET /x?a=1 HTTP/1.1"


async def test_metrics(tmp_path: Path) -> None:
    port = free_port()
    async with target() as place, program(tmp_path, "--metrics-port", str(port)) as proxy:
        await proxy.route("/a", place.url)
        await proxy.get("/a")
        await proxy.get("/b")
        await proxy.get("/_chp_healthz")
        answer = await proxy.send(b"GET /metrics HTTP/1.1\r\nHost: p\r\n\r\n", port=port)
        assert answer["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        lines = answer.body.decode().splitlines()
        for line in (
            "requests_web 2",
            'requests_proxy{status="200"} 1',
            'requests_proxy{status="404"} 1',
            'requests_api{status="201"} 1',
            "api_route_add 1",
            "find_target_for_req_count 2",
            "last_activity_updating_count 1",
        ):
            assert line in lines
        assert (await proxy.send(b"GET / HTTP/1.1\r\nHost: p\r\n\r\n", port=port)).status == 404


async def test_unix_sockets_for_both_sides(tmp_path: Path) -> None:
    public, api = tmp_path / "public.sock", tmp_path / "api.sock"
    # A socket file left by a process that was killed must not be in the way.
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(public))
    process = await asyncio.create_subprocess_exec(
        *OURS, "--socket", str(public), "--api-socket", str(api), stdout=subprocess.DEVNULL
    )
    try:

        def listens() -> bool:
            # The file is there a little earlier than whoever listens on it.
            with socket.socket(socket.AF_UNIX) as probe:
                return probe.connect_ex(str(api)) == 0

        await until(listens, "somebody listens on the socket")
        for path, request, status in (
            (api, b'POST /api/routes HTTP/1.1\r\nHost: x\r\nContent-Length: 21\r\n\r\n{"target":"nonsense"}', 201),
            (public, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 500),
        ):
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(request)
            assert (await read_answer(reader)).status == status
            writer.close()
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 2
    assert not public.exists() and not api.exists()


@pytest.fixture
async def host_proxy(tmp_path: Path) -> AsyncIterator[Program]:
    async with program(tmp_path, "--host-routing") as running:
        yield running


async def test_host_routing(host_proxy: Program) -> None:
    async with target() as one, target() as rest:
        await host_proxy.route("/h.example/a", one.url)
        await host_proxy.route("/", rest.url)
        await host_proxy.get("/a/b", host="H.example:99")
        await host_proxy.get("/x", host="h.example")
        await host_proxy.get("/a", host="other.example")
        assert one.header("x-forwarded-port") == ["99"]
        assert (len(one.requests), len(rest.requests)) == (1, 2)
        routes = (await host_proxy.api("GET")).json()
        assert routes["/h.example/a"]["host"] == "h.example"


async def test_deleted_route_leaves_no_connection_behind(tmp_path: Path) -> None:
    closed = asyncio.Event()

    async def notes_end(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.read()
        closed.set()

    async with target(notes_end) as place, program(tmp_path) as proxy:
        await proxy.route("/", place.url)
        await proxy.get("/")
        await proxy.api("DELETE", "/")
        await asyncio.wait_for(closed.wait(), 5)


async def redirecting(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Redirect to where the query says; `SELF` is this very server."""
    while True:
        await read_request(place, reader)
        location = place.line.split()[1].partition("?")[2].replace("SELF", place.url)
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())


async def test_redirects_to_the_target_itself_can_be_rewritten(tmp_path: Path) -> None:
    options = ["--auto-rewrite", "--protocol-rewrite", "https"]
    async with target(redirecting) as place, program(tmp_path, *options) as proxy:
        await proxy.route("/", place.url)
        for location, seen in (
            ("SELF/a?b", "https://proxy.test/a?b"),
            ("http://other.example/a", "http://other.example/a"),
            ("/relative", "/relative"),
        ):
            assert (await proxy.get(f"/?{location}"))["location"] == seen
