"""A small HTTP client for the proxy's REST API: connections are kept, answers are read whole.

The hub talks to one server here, in one way, a thousand times in a row after a restart; a general client
would cost ten megabytes and most of the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from ..aio import deadline

__all__ = ["APIAnswer", "APIClient"]


@dataclass(frozen=True, slots=True)
class APIAnswer:
    """A whole answer. Header names are in lower case."""

    code: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body)


class _Stale(ConnectionError):
    """A kept connection had been closed meanwhile."""


class APIClient:
    """Requests to http, https and http+unix addresses. Belongs to the event loop it is first used on."""

    def __init__(self) -> None:
        self._idle: dict[str, list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes = b"",
        context: ssl.SSLContext | None = None,
        timeout: float = 20,
    ) -> APIAnswer:
        """Send a request that may safely be sent twice, and read its whole answer.

        Raises OSError when there is none, TimeoutError after `timeout` seconds.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._idle.clear()
            self._loop = loop
        try:
            return await deadline(self._request(method, url, headers, body, context), timeout, f"{method} {url}")
        except ssl.SSLError:
            # One of them is a ValueError too.
            raise
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, EOFError) as error:
            raise ConnectionError(f"{method} {url}: the answer makes no sense ({error})") from error

    async def _request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, context: ssl.SSLContext | None
    ) -> APIAnswer:
        parts = urlsplit(url)
        place = f"{parts.scheme}://{parts.netloc}"
        path = parts.path or "/"
        if parts.query:
            path += "?" + parts.query
        lines = [f"{method} {path} HTTP/1.1", f"Host: {'localhost' if '+unix' in place else parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body or method in ("POST", "PUT", "DELETE"):
            lines.append(f"Content-Length: {len(body)}")
        message = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
        waiting = self._idle.setdefault(place, [])
        while waiting:
            try:
                return await self._exchange(place, waiting.pop(), message, kept=True)
            except _Stale:
                continue
        return await self._exchange(place, await _connect(place, context), message, kept=False)

    async def _exchange(
        self,
        place: str,
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        message: bytes,
        *,
        kept: bool,
    ) -> APIAnswer:
        reader, writer = connection
        try:
            try:
                writer.write(message)
                await writer.drain()
                first = await reader.readuntil(b"\r\n")
            except (asyncio.IncompleteReadError, OSError) as error:
                if kept:
                    raise _Stale from error
                raise ConnectionError(f"{place} closed the connection without an answer") from error
            answer, keep = await _read_answer(reader, first)
        except BaseException:
            writer.close()
            raise
        if keep:
            self._idle.setdefault(place, []).append(connection)
        else:
            writer.close()
        return answer

    def close(self) -> None:
        """Close the connections that are kept; a later request opens new ones."""
        for waiting in self._idle.values():
            for _, writer in waiting:
                # The loop they belong to may be gone already.
                with contextlib.suppress(RuntimeError):
                    writer.close()
        self._idle.clear()


async def _connect(place: str, context: ssl.SSLContext | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(place)
    if parts.scheme == "http+unix":
        return await asyncio.open_unix_connection(unquote(parts.netloc))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConnectionError(f"{place!r} is not an address of a proxy's REST API")
    if parts.scheme == "http":
        return await asyncio.open_connection(parts.hostname, parts.port or 80)
    return await asyncio.open_connection(parts.hostname, parts.port or 443, ssl=context or ssl.create_default_context())


async def _read_answer(reader: asyncio.StreamReader, first: bytes) -> tuple[APIAnswer, bool]:
    version, code, reason = (first.decode("latin-1").rstrip("\r\n") + "  ").split(" ", 2)
    if not version.startswith("HTTP/1."):
        raise ValueError("not HTTP")
    status = int(code)
    headers: dict[str, str] = {}
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    keep = headers.get("connection", "").lower() != "close" and version == "HTTP/1.1"
    if status in (204, 304):
        body = b""
    elif headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunks(reader)
    elif "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        body, keep = await reader.read(-1), False
    return APIAnswer(status, reason.strip(), headers, body), keep


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    chunks = []
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        chunks.append(await reader.readexactly(size))
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return b"".join(chunks)
