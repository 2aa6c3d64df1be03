"""Proxy programs as processes, and targets whose every byte a test decides."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from tests.system.upstream import PROXY_VERSION, cache_directory

TOKEN = "a-token-for-tests"
OURS = (sys.executable, "-m", "jupyterhub.dataplane.cli")


def installed_node_proxy() -> str | None:
    """The command configurable-http-proxy, if it is installed; nothing is fetched."""
    cached = cache_directory() / f"proxy-{PROXY_VERSION}/node_modules/.bin/configurable-http-proxy"
    return shutil.which("configurable-http-proxy") or (str(cached) if cached.exists() else None)


_GIVEN: set[int] = set()


def free_port() -> int:
    """A port that nothing listens on at the moment."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        # The kernel may hand out the same port twice in a row; two listeners of one test must not share it.
        if port not in _GIVEN:
            _GIVEN.add(port)
            return port


async def until(condition: Callable[[], Any], what: str, timeout: float = 10) -> Any:
    """Wait until a condition holds; return its value. Raises AssertionError naming `what`."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    while not (value := condition()):
        assert loop.time() < end, f"within {timeout} s: {what}"
        await asyncio.sleep(0.01)
    return value


class Answer:
    """A response as read from the wire."""

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def __getitem__(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def json(self) -> Any:
        return json.loads(self.body)


async def read_head(reader: asyncio.StreamReader) -> tuple[str, list[tuple[str, str]]]:
    """The first line and the headers of a message."""
    first = (await reader.readuntil(b"\r\n")).decode("latin-1").strip()
    headers = []
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        name, _, value = line.decode("latin-1").partition(":")
        headers.append((name, value.strip()))
    return first, headers


async def read_chunked(reader: asyncio.StreamReader) -> bytes:
    """A chunked body. Raises IncompleteReadError when it is cut short."""
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(size)
        assert await reader.readexactly(2) == b"\r\n"
    assert await reader.readexactly(2) == b"\r\n"
    return body


async def read_answer(reader: asyncio.StreamReader, *, head_only: bool = False) -> Answer:
    """One whole response."""
    first, headers = await read_head(reader)
    status = int(first.split()[1])
    found = {name.lower(): value for name, value in headers}
    body = b""
    if head_only or status in (204, 304) or status < 200:
        pass
    elif found.get("transfer-encoding") == "chunked":
        body = await read_chunked(reader)
    elif "content-length" in found:
        body = await reader.readexactly(int(found["content-length"]))
    else:
        body = await reader.read()
    return Answer(status, headers, body)


class Program:
    """A running proxy program."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, api_port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.api_port = api_port
        self.log = log

    async def send(
        self, request: bytes | str, *, port: int | None = None, head_only: bool = False, tls: Any = None
    ) -> Answer:
        """Send raw bytes on a connection of their own, read one response."""
        async with self.connection(port=port, tls=tls) as (reader, writer):
            writer.write(request.encode() if isinstance(request, str) else request)
            return await asyncio.wait_for(read_answer(reader, head_only=head_only), 20)

    async def get(self, path: str, *headers: str, host: str = "proxy.test") -> Answer:
        """GET on the public port."""
        return await self.send("\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]))

    @contextlib.asynccontextmanager
    async def connection(
        self, *, port: int | None = None, tls: Any = None
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection to the public port, or another one."""
        name: Any = {"server_hostname": "localhost"} if tls else {}
        reader, writer = await asyncio.open_connection("127.0.0.1", port or self.port, ssl=tls, **name)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def api(
        self, method: str, path: str = "", body: Any = None, *, authorization: str | None = f"token {TOKEN}"
    ) -> Answer:
        """A request to the REST API below /api/routes; `body` is sent as JSON, or as it is if it is bytes."""
        return await self.api_path(method, "/api/routes" + path, body, authorization=authorization)

    async def api_path(
        self, method: str, path: str, body: Any = None, *, authorization: str | None = f"token {TOKEN}"
    ) -> Answer:
        """A request to the REST API's port."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
        if authorization is not None:
            head += f"Authorization: {authorization}\r\n"
        return await self.send(head.encode() + b"\r\n" + data, port=self.api_port)

    async def route(self, path: str, target: str, **data: Any) -> None:
        """Add a route."""
        answer = await self.api("POST", path, {"target": target, **data})
        assert answer.status == 201, answer.body

    async def activity(self, path: str) -> str:
        """The last activity of a route."""
        moment: str = (await self.api("GET")).json()[path]["last_activity"]
        return moment

    async def end(self) -> int:
        """SIGTERM, if it still runs; return the exit status."""
        if self.process.returncode is None:
            self.process.terminate()
        try:
            return await asyncio.wait_for(self.process.wait(), 15)
        except asyncio.TimeoutError:
            self.process.kill()
            raise


@contextlib.asynccontextmanager
async def program(
    directory: Path,
    *arguments: str,
    command: tuple[str, ...] = OURS,
    token: str | None = TOKEN,
    environment: dict[str, str] | None = None,
) -> AsyncIterator[Program]:
    """Run a proxy program until the block ends. Raises AssertionError with its log when it does not start."""
    public, api = free_port(), free_port()
    log = directory / f"proxy-{public}.log"
    variables = {name: value for name, value in os.environ.items() if not name.startswith("CONFIGPROXY")}
    variables.update(environment or {})
    if token is not None:
        variables["CONFIGPROXY_AUTH_TOKEN"] = token
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            *("--ip", "127.0.0.1", "--port", str(public), "--api-ip", "127.0.0.1", "--api-port", str(api)),
            *arguments,
            stdout=output,
            stderr=output,
            env=variables,
        )
    running = Program(process, public, api, log)
    try:
        for wanted in (public, api):
            await _accepting(running, wanted)
        yield running
    finally:
        await running.end()


@contextlib.contextmanager
def blocking_program(directory: Path, *arguments: str) -> Iterator[tuple[int, int]]:
    """Like `program`, for tests without an event loop: yields the public port and the API's."""
    public, api = free_port(), free_port()
    log = directory / f"proxy-{public}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(*OURS, "--ip", "127.0.0.1", "--port", str(public), "--api-ip", "127.0.0.1", "--api-port", str(api)),
                *arguments,
            ],
            stdout=output,
            stderr=output,
            env={**os.environ, "CONFIGPROXY_AUTH_TOKEN": TOKEN},
        )
    try:
        end = time.monotonic() + 15
        while True:
            try:
                socket.create_connection(("127.0.0.1", api), 1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < end, log.read_text()
                time.sleep(0.01)
        yield public, api
    finally:
        process.terminate()
        assert process.wait(15) == 2


async def _accepting(running: Program, port: int) -> None:
    for _ in range(1500):
        assert running.process.returncode is None, running.log.read_text()
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"nothing listens on {port}: {running.log.read_text()}")


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Target:
    """A server that treats each connection as its handler says, and counts them."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[tuple[str, list[tuple[str, str]]]] = []
        self.url = ""

    def header(self, name: str) -> list[str]:
        """The values of a header in the last request."""
        return [value for key, value in self.requests[-1][1] if key.lower() == name.lower()]

    @property
    def line(self) -> str:
        """The first line of the last request."""
        return self.requests[-1][0]


@contextlib.asynccontextmanager
async def target(handler: Callable[..., Awaitable[None]] | None = None, **options: Any) -> AsyncIterator[Target]:
    """Serve on a port of its own: `handler(target, reader, writer)`, by default a friendly echo."""
    place = Target()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await (handler or echo)(place, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # The other side has left, or the test is over.
            pass
        finally:
            tasks.discard(task)
            writer.close()

    if "path" in options:
        server = await asyncio.start_unix_server(serve, options["path"])
    else:
        server = await asyncio.start_server(serve, options.pop("host", "127.0.0.1"), 0, **options)
        place.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield place
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_request(place: Target, reader: asyncio.StreamReader) -> bytes:
    """Read a request whole and note it; return its body."""
    first, headers = await read_head(reader)
    place.requests.append((first, headers))
    found = {name.lower(): value for name, value in headers}
    if found.get("transfer-encoding") == "chunked":
        return await read_chunked(reader)
    return await reader.readexactly(int(found.get("content-length", "0")))


async def echo(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request with its own body, or with its first line when it has none."""
    while True:
        body = await read_request(place, reader)
        first = place.requests[-1][0]
        body = body or first.encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nX-Target: echo\r\n\r\n".encode()
        writer.write(head if first.startswith("HEAD ") else head + body)
        await writer.drain()


def answering(response: bytes, *, close: bool = False) -> Callable[..., Awaitable[None]]:
    """A handler that gives the same answer to every request."""

    async def handler(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(place, reader)
            writer.write(response)
            await writer.drain()
            if close:
                return

    return handler
