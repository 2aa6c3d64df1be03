"""What applications need to ask the Hub: requests over HTTP(S) or a unix socket, a bounded cache, and a way
to wait for an answer from code that is not a coroutine."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote, urlencode, urlsplit

from tornado.httpclient import HTTPRequest, HTTPResponse
from tornado.httputil import url_concat
from tornado.netutil import Resolver
from tornado.simple_httpclient import SimpleAsyncHTTPClient

__all__ = ["ExpiringCache", "HubUnreachable", "UnixSocketResolver", "fetch", "run_blocking"]

T = TypeVar("T")

#: Seconds that one request to the Hub may take.
REQUEST_TIMEOUT = 20.0
#: Requests to the Hub at the same time; a page of JupyterLab asks for dozens of things at once.
MAX_CONNECTIONS = 100


class ExpiringCache:
    """Values that are forgotten after `max_age` seconds, or when there are more than `max_entries`.

    `max_age` 0 keeps them until there are too many. Times come from `clock`, which must not jump. Expired
    values are thrown out at most once in `max_age` (oauth §10.3).
    """

    def __init__(
        self, max_age: float, *, max_entries: int = 4096, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.max_age = max_age
        self.max_entries = max_entries
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, Any]] = OrderedDict()
        self._purged = clock()
        # Blocking callers fill the cache from a thread of their own.
        self._lock = threading.Lock()

    def _fresh(self, stored: float) -> bool:
        return self.max_age <= 0 or self._clock() - stored < self.max_age

    def _purge(self) -> None:
        now = self._clock()
        if self.max_age > 0 and now - self._purged >= self.max_age:
            self._purged = now
            for key in [key for key, (stored, _) in self._entries.items() if not self._fresh(stored)]:
                del self._entries[key]

    def __contains__(self, key: str) -> bool:
        with self._lock:
            entry = self._entries.get(key)
            return entry is not None and self._fresh(entry[0])

    def __getitem__(self, key: str) -> Any:
        with self._lock:
            stored, value = self._entries[key]
            if not self._fresh(stored):
                del self._entries[key]
                raise KeyError(key)
            return value

    def __setitem__(self, key: str, value: Any) -> None:
        with self._lock:
            self._purge()
            self._entries[key] = (self._clock(), value)
            self._entries.move_to_end(key)
            while len(self._entries) > self.max_entries:
                self._entries.popitem(last=False)

    def __delitem__(self, key: str) -> None:
        with self._lock:
            del self._entries[key]

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value, or `default` if it is unknown or too old."""
        try:
            return self[key]
        except KeyError:
            return default

    def pop(self, key: str, default: Any = None) -> Any:
        """Forget a value and return it, or `default` if it is unknown or too old."""
        value = self.get(key, default)
        with self._lock:
            self._entries.pop(key, None)
        return value

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()


# -- requests ------------------------------------------------------------------------------------------------


class HubUnreachable(ConnectionError):
    """No answer came from the Hub: connection refused, time out, wrong certificate."""


class UnixSocketResolver(Resolver):
    """Resolves any host name to one unix socket."""

    def initialize(self, path: str = "") -> None:
        """Take the path of the socket."""
        self.path = path

    async def resolve(
        self, host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[tuple[int, Any]]:
        """Return the socket, whatever is asked for."""
        return [(socket.AF_UNIX, self.path)]


_clients: weakref.WeakKeyDictionary[Any, dict[str, SimpleAsyncHTTPClient]] = weakref.WeakKeyDictionary()


def _client(socket_path: str) -> SimpleAsyncHTTPClient:
    """Return the client of the running loop: for TCP, or for one unix socket."""
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    client = clients.get(socket_path)
    if client is None:
        options: dict[str, Any] = {"max_clients": MAX_CONNECTIONS}
        if socket_path:
            options["resolver"] = UnixSocketResolver(path=socket_path)
        client = clients[socket_path] = SimpleAsyncHTTPClient(force_instance=True, **options)
    return client


def _split_unix_url(url: str) -> tuple[str, str]:
    """Return (path of the socket or '', URL for the client); such URLs are ``http+unix://%2Fpath/rest``."""
    parts = urlsplit(url)
    if parts.scheme != "http+unix":
        return "", url
    return unquote(parts.netloc), parts._replace(scheme="http", netloc="localhost").geturl()


async def fetch(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, Any] | None = None,
    data: bytes | str | Mapping[str, Any] | None = None,
    json_body: Any = None,
    tls: ssl.SSLContext | None = None,
    timeout: float = REQUEST_TIMEOUT,
) -> HTTPResponse:
    """Send one request and return the response, whatever its status.

    `data` is sent as it is, or as a form if it is a mapping. Raises HubUnreachable if no response came.
    """
    socket_path, url = _split_unix_url(url)
    if params:
        url = url_concat(url, {key: str(value) for key, value in params.items()})
    all_headers = {"Accept": "*/*", **(headers or {})}
    body: bytes | str | None
    if isinstance(data, Mapping):
        body = urlencode(data)
        all_headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    elif json_body is not None:
        body = json.dumps(json_body)
        all_headers.setdefault("Content-Type", "application/json")
    else:
        body = data
    request = HTTPRequest(
        url,
        method=method.upper(),
        headers=all_headers,
        body=body,
        allow_nonstandard_methods=True,
        connect_timeout=timeout,
        request_timeout=timeout,
        follow_redirects=False,
        ssl_options=tls,
    )
    try:
        # Tornado reports its own time-outs and broken connections as responses with status 599.
        response = await _client(socket_path).fetch(request, raise_error=False)
    except (OSError, ssl.SSLError) as error:
        raise HubUnreachable(str(error) or type(error).__name__) from error
    if response.code == 599:
        raise HubUnreachable(str(response.error) or "no answer")
    return response


# -- waiting without a loop ----------------------------------------------------------------------------------


class _BackgroundLoop:
    """An event loop in a daemon thread, made when it is first needed and once per process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            # A thread does not survive a fork, so a child process makes its own.
            if self._loop is None or self._pid != os.getpid():
                self._loop, self._pid = asyncio.new_event_loop(), os.getpid()
                threading.Thread(target=self._loop.run_forever, name="ask-the-hub", daemon=True).start()
            return self._loop


_background = _BackgroundLoop()


def run_blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop and return its result; the calling thread waits.

    It works where a loop is running already, at the price of stopping that loop for as long as it takes.
    """
    return asyncio.run_coroutine_threadsafe(coroutine, _background.loop()).result()
