"""Error pages: from the hub, from a directory, or our own (services-and-proxy D2)."""

from __future__ import annotations

import asyncio
import html
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httptools

from .pool import open_connection
from .table import Target

if TYPE_CHECKING:
    from .exchange import Exchange
    from .server import DataPlane

__all__ = ["ErrorPages", "Page"]

#: Seconds the hub has for an error page before ours is shown.
FETCH_TIMEOUT = 5.0
#: Bytes of an error page.
FETCH_LIMIT = 1 << 20

_NOT_FOUND = (
    "Not Found",
    "There is nothing at this address",
    "Check the address, or go back to where you came from.",
)
_DOWN = (
    "Service Unavailable",
    "Not available at the moment",
    "The server behind this address does not answer. This page opens by itself as soon as it does.",
)
_HUB_DOWN = (
    "Service Unavailable",
    "The Hub is not available at the moment",
    "It may be restarting. Servers that run go on running, and what is open in them stays open. "
    "This page opens by itself as soon as the Hub is back.",
)
_OTHER = (
    "Internal Server Error",
    "Something went wrong",
    "Please try again; if it stays like this, tell whoever runs it.",
)


def _words(exchange: Exchange, status: int) -> tuple[str, str, str]:
    """The status in words, and for people a title and what is going on."""
    if status == 404:
        return _NOT_FOUND
    if status == 503:
        # The Hub marks its own route (services-and-proxy B1).
        return _HUB_DOWN if exchange.entry is not None and exchange.entry.body.get("hub") else _DOWN
    return _OTHER


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
{refresh}<style>
:root {{ color-scheme: light dark; --ink: #1f2430; --soft: #545b6b; --paper: #fafafa; --accent: #b3480a; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #eceef2; --soft: #b3bac8; --paper: #15181e; --accent: #ffa366; }}
}}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--paper);
  color: var(--ink); font: 1.0625rem/1.6 system-ui, sans-serif; }}
main {{ max-width: 34rem; padding: 2rem; }}
h1 {{ font-size: 1.75rem; line-height: 1.25; margin: 0 0 .75rem; }}
p {{ margin: 0 0 1rem; color: var(--soft); }}
a {{ color: var(--accent); }}
a:focus-visible {{ outline: 3px solid var(--accent); outline-offset: 3px; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{text}</p>
<p><a href="">Try again</a></p>
<p><small>Error {status}</small></p>
{script}</main>
</body>
</html>
"""
# Only asks for the head: the page changes once something else than this error is there.
_RELOAD = """<p role="status" id="state"></p>
<script>
(function () {
  var wait = 1000, state = document.getElementById("state");
  function again() {
    fetch(location.href, { method: "HEAD", cache: "no-store", credentials: "same-origin" }).then(function (answer) {
      if (answer.status === 503) { later(); } else { state.textContent = "It is back."; location.reload(); }
    }, later);
  }
  function later() {
    wait = Math.min(wait * 1.5, 10000);
    setTimeout(again, wait);
  }
  setTimeout(again, wait);
})();
</script>
"""
_RELOAD_WITHOUT_SCRIPT = '<noscript><meta http-equiv="refresh" content="5"></noscript>\n'


@dataclass(frozen=True, slots=True)
class Page:
    """An error's body, with what is to be said about it."""

    content_type: bytes | None
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


class ErrorPages:
    """Makes the page for an error. Never raises: the worst case is a plain sentence."""

    def __init__(self, server: DataPlane) -> None:
        self._server = server
        options = server.options
        self._directory = options.error_path
        self._target: Target | None = None
        if options.error_target:
            self._target = Target(options.error_target)

    async def render(self, exchange: Exchange, status: int) -> Page:
        """The page that answers this request with this status."""
        accept = exchange.header(b"accept").lower()
        wants_html = b"text/html" in accept
        if b"application/json" in accept and not wants_html:
            return self._json(exchange, status)
        if self._target is not None:
            try:
                return await asyncio.wait_for(self._fetch(self._target, exchange.url, status), FETCH_TIMEOUT)
            except (OSError, ValueError, asyncio.TimeoutError) as error:
                self._server.log.error(f"No error page from {self._target.url}: {error or type(error).__name__}")
            return self._own(exchange, status) if wants_html else self._plain(exchange, status)
        if self._directory is not None:
            page = self._file(status)
            return page if page is not None else self._plain(exchange, status)
        return self._own(exchange, status)

    def _own(self, exchange: Exchange, status: int) -> Page:
        _, title, text = _words(exchange, status)
        body = _PAGE.format(
            title=html.escape(title),
            text=html.escape(text),
            status=status,
            script=_RELOAD if status == 503 else "",
            refresh=_RELOAD_WITHOUT_SCRIPT if status == 503 else "",
        )
        return Page(b"text/html; charset=utf-8", body.encode(), _no_store(status))

    def _plain(self, exchange: Exchange, status: int) -> Page:
        return Page(None, _words(exchange, status)[0].encode(), _no_store(status))

    def _json(self, exchange: Exchange, status: int) -> Page:
        words, title, _ = _words(exchange, status)
        return Page(
            b"application/json",
            json.dumps({"status": status, "message": words, "reason": title}).encode(),
            _no_store(status),
        )

    def _file(self, status: int) -> Page | None:
        for name in (f"{status}.html", "error.html"):
            try:
                with open(os.path.join(self._directory or "", name), "rb") as file:
                    return Page(b"text/html", file.read(), _no_store(status))
            except OSError:
                continue
        return None

    async def _fetch(self, target: Target, url: bytes, status: int) -> Page:
        path = target.path + b"/%d" % status
        query = b"url=" + quote(url.decode("latin-1"), safe="!'()*").encode("ascii")
        if target.query:
            query = target.query + b"&" + query
        request = b"GET %b?%b HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % (
            path,
            query,
            target.authority,
        )
        fetch = await open_connection(target, lambda: _Fetch(request), self._server.client_context, FETCH_TIMEOUT)
        try:
            return await fetch.page
        finally:
            fetch.transport.abort()


def _no_store(status: int) -> tuple[tuple[bytes, bytes], ...]:
    # A cached error would hide that the server is back.
    headers = ((b"Cache-Control", b"no-store"),)
    return (*headers, (b"Retry-After", b"5")) if status == 503 else headers


class _Fetch(asyncio.Protocol):
    """One request for a whole page."""

    transport: Any

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._parser: Any = httptools.HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._size = 0
        self.page: asyncio.Future[Page] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._stop("the answer is not HTTP")
        if self._size > FETCH_LIMIT:
            self._stop("the page is too long")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._body and exc is None and b"content-length" not in self._headers:
            self.on_message_complete()
        self._stop("the connection was closed")

    def _stop(self, reason: str) -> None:
        if not self.page.done():
            self.page.set_exception(ValueError(reason))
            # Nobody may be waiting any more when the time limit has passed.
            self.page.exception()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.setdefault(name.lower(), value)

    def on_body(self, data: bytes) -> None:
        self._body.append(data)
        self._size += len(data)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200 or self.page.done():
            return
        headers = []
        if b"content-encoding" in self._headers:
            headers.append((b"Content-Encoding", self._headers[b"content-encoding"]))
        self.page.set_result(Page(self._headers.get(b"content-type"), b"".join(self._body), tuple(headers)))
