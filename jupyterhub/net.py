"""Free ports, waiting for a port or a web server, TLS contexts."""

from __future__ import annotations

import asyncio
import errno
import random
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from tornado.httputil import HTTPHeaders

from .aio import deadline, exponential_backoff

__all__ = [
    "ServerAnswer",
    "ServerExited",
    "ServerSilent",
    "can_connect",
    "fetch_head",
    "make_ssl_context",
    "random_port",
    "wait_for_answer",
    "wait_for_http_server",
    "wait_for_server",
]

ATTEMPT_TIMEOUT = 20.0
"""Seconds one attempt to get an answer may take; a server that accepts and stays silent is asked again."""
LONGEST_HEAD = 64 * 1024
"""Bytes of headers that are read."""
WAIT_PROPORTION = 0.05
SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
"""How long to pause between attempts: a part of the time waited so far, within these bounds in seconds."""
LONGEST_UNNOTICED = 0.25
"""Seconds for which the end of a process that should answer may go unnoticed."""


def random_port() -> int:
    """A TCP port of this machine that is free at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def can_connect(ip: str, port: int) -> bool:
    """Whether something listens at an address; one attempt of at most a second.

    An empty or wildcard address stands for this machine. Host names that cannot be resolved count as no.
    """
    if ip in ("", "0.0.0.0"):
        ip = "127.0.0.1"
    elif ip == "::":
        ip = "::1"
    try:
        with socket.create_connection((ip, port), timeout=1):
            return True
    except OSError:
        return False


async def _can_connect(ip: str, port: int) -> bool:
    # Resolving and connecting may block, which must not happen on the loop.
    return await asyncio.get_running_loop().run_in_executor(None, can_connect, ip, port)


async def wait_for_server(ip: str, port: int, timeout: float = 10) -> None:
    """Wait until something listens at `ip`:`port`. Raises TimeoutError after `timeout` seconds."""
    shown = ip or "127.0.0.1"
    await exponential_backoff(
        lambda: _can_connect(ip, port),
        f"Nothing listens at {shown}:{port} after {timeout:g} seconds",
        timeout=timeout,
    )


class ServerExited(ConnectionError):
    """The server ended before it answered; `exit_status` is that of its process."""

    def __init__(self, url: str, exit_status: Any) -> None:
        super().__init__(f"The server at {url} ended with exit status {exit_status} before it answered")
        self.exit_status = exit_status


class ServerSilent(TimeoutError):
    """The server gave no answer that counts; `answer` is its last one of 500 and above, if there was any."""

    def __init__(self, url: str, timeout: float, last: str, answer: ServerAnswer | None) -> None:
        super().__init__(f"The server at {url} did not answer within {timeout:g} seconds: {last}")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """What a server said first: status code, reason and headers (a mapping that ignores case)."""

    code: int
    reason: str = ""
    headers: HTTPHeaders = field(default_factory=HTTPHeaders)


async def fetch_head(
    url: str, *, timeout: float = ATTEMPT_TIMEOUT, ssl_context: ssl.SSLContext | None = None
) -> ServerAnswer:
    """GET `url` once and read no further than the headers. Redirects are not followed.

    `url` may be ``http``, ``https`` or ``http+unix`` (the socket's path, percent-encoded, as host). Raises OSError
    or TimeoutError when there is no answer, ValueError when it is not HTTP.
    """
    try:
        return await deadline(_fetch_head(url, ssl_context), timeout, f"GET {url}")
    except asyncio.TimeoutError:
        raise TimeoutError(f"No answer from {url} within {timeout:g} seconds") from None


class _Head(asyncio.Protocol):
    """Sends one request and takes what comes until the end of the headers; `text` is a future of it."""

    def __init__(self, url: str, request: bytes) -> None:
        self._url, self._request, self._received = url, request, b""
        self._transport: asyncio.Transport | None = None
        self.text: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, _ = self._received.partition(b"\r\n\r\n")
        if end:
            self._end(head.decode("latin1"))
        elif len(self._received) > LONGEST_HEAD:
            self._end(ValueError(f"the headers of {self._url} are too long"))

    def connection_lost(self, error: Exception | None) -> None:
        self._end(
            error or ConnectionResetError(errno.ECONNRESET, f"{self._url} closed the connection without an answer")
        )

    def _end(self, outcome: str | Exception) -> None:
        if self.text.done():
            return
        if isinstance(outcome, str):
            self.text.set_result(outcome)
        else:
            self.text.set_exception(outcome)
        self.close()

    def close(self) -> None:
        """End the connection at once: the far side of a TLS connection may never say good-bye."""
        if self._transport is not None:
            self._transport.abort()


async def _fetch_head(url: str, ssl_context: ssl.SSLContext | None) -> ServerAnswer:
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    unix = parts.scheme.endswith("+unix")
    netloc = parts.netloc.rpartition("@")[2]
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = (f"GET {target} HTTP/1.1", f"Host: {'localhost' if unix else netloc}", "Accept: */*", "Connection: close")
    exchange = _Head(url, ("\r\n".join(lines) + "\r\n\r\n").encode("latin1"))
    try:
        if unix:
            # Not `hostname`, which is lower case.
            await loop.create_unix_connection(lambda: exchange, unquote(netloc))
        else:
            secure = parts.scheme == "https"
            context = (ssl_context or ssl.create_default_context()) if secure else None
            port = parts.port or (443 if secure else 80)
            await loop.create_connection(lambda: exchange, parts.hostname or "127.0.0.1", port, ssl=context)
        text = await exchange.text
    finally:
        exchange.close()
        if exchange.text.done() and not exchange.text.cancelled():
            # A failure that came together with another one is told by that.
            exchange.text.exception()
    first, _, rest = text.partition("\r\n")
    version, _, status = first.partition(" ")
    code, _, reason = status.partition(" ")
    if not version.startswith("HTTP/") or not code.isdigit():
        raise ValueError(f"{url} does not speak HTTP; it said {first[:80]!r}")
    return ServerAnswer(int(code), reason.strip(), HTTPHeaders.parse(rest))


async def wait_for_answer(
    url: str,
    *,
    timeout: float = 10,
    ssl_context: ssl.SSLContext | None = None,
    gone: Callable[[], int | None] | None = None,
) -> ServerAnswer:
    """Wait until `url` answers with a status below 500, and return that answer.

    `gone` is asked again and again, also while an attempt hangs: an exit status ends the wait with ServerExited.
    Raises ServerSilent after `timeout` seconds, with what was seen last.
    """
    if gone is None:
        return await _ask_until_answered(url, timeout, ssl_context)
    asking = asyncio.ensure_future(_ask_until_answered(url, timeout, ssl_context))
    pause = SHORTEST_PAUSE
    try:
        while True:
            await asyncio.wait([asking], timeout=pause)
            # Also an answer is worth nothing then: it came from something else that has the port.
            status = gone()
            if status is not None:
                raise ServerExited(url, status)
            if asking.done():
                return asking.result()
            pause = min(pause * 1.5, LONGEST_UNNOTICED)
    finally:
        # Before Python 3.12 `wait_for` forgets a cancellation that arrives together with a result.
        while not asking.done():
            asking.cancel()
            await asyncio.wait([asking], timeout=SHORTEST_PAUSE)
        if not asking.cancelled():
            asking.exception()


async def _ask_until_answered(url: str, timeout: float, ssl_context: ssl.SSLContext | None) -> ServerAnswer:
    end = time.monotonic() + timeout
    last, seen = "no attempt was possible", False
    worst: ServerAnswer | None = None
    while True:
        left = end - time.monotonic()
        if left > 0:
            try:
                answer = await fetch_head(url, timeout=min(ATTEMPT_TIMEOUT, left), ssl_context=ssl_context)
                if answer.code < 500:
                    return answer
                last, seen, worst = f"it answered {answer.code} {answer.reason}".rstrip(), True, answer
            except (OSError, ValueError, asyncio.TimeoutError) as error:
                # An attempt that only our own deadline cut short says less than the one before.
                cut_short = isinstance(error, (TimeoutError, asyncio.TimeoutError)) and left < ATTEMPT_TIMEOUT
                if not (cut_short and seen):
                    last, seen = str(error) or type(error).__name__, True
        left = end - time.monotonic()
        if left <= 0:
            raise ServerSilent(url, timeout, last, worst)
        # A pause in proportion to the wait so far: a server that boots in 2 s is noticed within a tenth of a second,
        # one that takes minutes is asked once per second.
        pause = min(max((timeout - left) * WAIT_PROPORTION, SHORTEST_PAUSE), LONGEST_PAUSE)
        await asyncio.sleep(min(pause * random.uniform(0.7, 1.3), left))


async def wait_for_http_server(
    url: str, timeout: float = 10, ssl_context: ssl.SSLContext | None = None
) -> ServerAnswer:
    """Wait until `url` answers below 500 (plugins §10); the result has `code` and `headers`."""
    return await wait_for_answer(url, timeout=timeout, ssl_context=ssl_context)


def make_ssl_context(
    keyfile: str | None,
    certfile: str | None,
    cafile: str | None = None,
    verify: bool | None = None,
    check_hostname: bool | None = None,
    purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH,
) -> ssl.SSLContext | None:
    """A TLS context with a certificate of ours; None without key or certificate (plugins §10).

    `purpose` says whom the other side is: SERVER_AUTH for connecting to a server, CLIENT_AUTH for being one. A
    server with a `cafile` asks clients for a certificate. `verify` and `check_hostname` are deprecated: a false
    one of them loosens the check as it always did.
    """
    if not keyfile or not certfile:
        return None
    context = ssl.create_default_context(purpose, cafile=cafile or None)
    if cafile:
        # Newer Pythons ask more of authorities than those made for internal use have to offer.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.load_cert_chain(certfile, keyfile)
    if purpose is ssl.Purpose.CLIENT_AUTH and cafile:
        context.verify_mode = ssl.CERT_REQUIRED
    for name, value in (("verify", verify), ("check_hostname", check_hostname)):
        if value is not None:
            import warnings

            warnings.warn(
                f"make_ssl_context({name}=...) is deprecated; pass `purpose` instead",
                DeprecationWarning,
                stacklevel=2,
            )
    if check_hostname is not None:
        context.check_hostname = check_hostname
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
