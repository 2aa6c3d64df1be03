"""A small HTTP server for the ports with little traffic: REST API, metrics, redirects."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import httptools

from .._version import __version__

__all__ = ["Reply", "Request", "SmallServer"]

#: Bytes of a request's body, and of its head.
BODY_LIMIT = 8 << 20
HEAD_LIMIT = 65536
#: Seconds for a request to arrive whole, and for the next one to begin.
REQUEST_TIMEOUT = 60.0
_SERVER = f"jupyterhub-proxy/{__version__}"
_REASONS = {
    200: "OK",
    201: "Created",
    204: "No Content",
    301: "Moved Permanently",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
}


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request. `path` is as it was sent, without its query; header names are in lower case."""

    method: str
    url: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    body: bytes = b""
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class SmallServer:
    """Answers whole requests with whole replies."""

    def __init__(self, answer: Callable[[Request], Reply | Awaitable[Reply]], failed: Callable[[str], None]) -> None:
        self._answer = answer
        self._failed = failed
        self._connections: set[_Connection] = set()

    def protocol(self) -> asyncio.Protocol:
        """For `loop.create_server`."""
        return _Connection(self)

    def answer(self, request: Request) -> Reply | Awaitable[Reply]:
        """The reply, or what it comes from; a mistake of ours is a 500 and a line in the log."""
        try:
            return self._answer(request)
        except Exception as error:
            return self._mistake(request, error)

    async def wait(self, request: Request, reply: Awaitable[Reply]) -> Reply:
        """The reply that comes from something else."""
        try:
            return await reply
        except Exception as error:
            return self._mistake(request, error)

    def _mistake(self, request: Request, error: Exception) -> Reply:
        self._failed(f"500 {request.method} {request.path} {type(error).__name__}: {error}")
        return Reply(500)

    def sweep(self, now: float) -> None:
        """Close connections that have said nothing for too long."""
        for connection in tuple(self._connections):
            if now - connection.seen_at > REQUEST_TIMEOUT:
                connection.transport.abort()

    def close(self) -> None:
        """Close every connection."""
        for connection in tuple(self._connections):
            connection.transport.close()


class _Connection(asyncio.Protocol):
    transport: Any

    def __init__(self, server: SmallServer) -> None:
        self._server = server
        self._parser: Any = httptools.HttpRequestParser(self)
        self.seen_at = monotonic()
        #: Requests that wait for the reply to the one before, with whether the connection is kept after them.
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._working: asyncio.Task[None] | None = None
        self._clear()

    def _clear(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._collected = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._server._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server._connections.discard(self)
        self._parser = None
        if self._working is not None:
            self._working.cancel()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self.seen_at = monotonic()
        self._collected += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.transport.close()
        except httptools.HttpParserError:
            self._write(Reply(400), keep_alive=False)
        if self._collected > HEAD_LIMIT and not self.transport.is_closing():
            self._write(Reply(431), keep_alive=False)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        self._collected = 0
        if self._headers.get("expect", "").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._collected = 0
        self._size += len(data)
        if self._size > BODY_LIMIT:
            if not self.transport.is_closing():
                self._write(Reply(413), keep_alive=False)
            return
        self._body.append(data)

    def on_message_complete(self) -> None:
        if self.transport.is_closing():
            return
        url = self._url.decode("latin-1")
        path, _, query = url.partition("?")
        if not url.startswith("/"):
            parts = urlsplit(url)
            path, query = parts.path, parts.query
        method = self._parser.get_method().decode("latin-1")
        request = Request(method, url, path, query, self._headers, b"".join(self._body))
        keep_alive = bool(self._parser.should_keep_alive())
        self._clear()
        self._waiting.append((request, keep_alive))
        if self._working is None:
            self._work()

    def _work(self) -> None:
        while self._waiting and not self.transport.is_closing():
            request, keep_alive = self._waiting.popleft()
            reply = self._server.answer(request)
            if not isinstance(reply, Reply):
                self.transport.pause_reading()
                self._working = asyncio.get_running_loop().create_task(self._wait(request, reply, keep_alive))
                return
            self._write(reply, keep_alive=keep_alive, head_only=request.method == "HEAD")

    async def _wait(self, request: Request, coming: Awaitable[Reply], keep_alive: bool) -> None:
        reply = await self._server.wait(request, coming)
        self._working = None
        if self.transport.is_closing():
            return
        self.seen_at = monotonic()
        self._write(reply, keep_alive=keep_alive, head_only=request.method == "HEAD")
        if not self.transport.is_closing():
            self.transport.resume_reading()
            self._work()

    def _write(self, reply: Reply, *, keep_alive: bool, head_only: bool = False) -> None:
        lines = [f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, 'Status')}", f"Server: {_SERVER}"]
        if reply.content_type:
            lines.append(f"Content-Type: {reply.content_type}")
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        if reply.status != 204:
            lines.append(f"Content-Length: {len(reply.body)}")
        lines.append(f"Connection: {'keep-alive' if keep_alive else 'close'}")
        head = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
        self.transport.write(head if head_only else head + reply.body)
        if not keep_alive:
            self.transport.close()
