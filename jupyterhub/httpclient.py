"""The HTTP client of the Hub for its own requests: to the proxy, to servers; unix sockets included."""

from __future__ import annotations

import asyncio
import json as jsonlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from traitlets import Any as AnyTrait
from traitlets import Dict
from traitlets.config import SingletonConfigurable

if TYPE_CHECKING:
    import aiohttp

__all__ = ["HTTPAnswer", "JupyterHubHTTPClient"]


@dataclass(frozen=True, slots=True)
class HTTPAnswer:
    """A whole answer: status, headers (a mapping that ignores case), body."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf8", "replace")

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return jsonlib.loads(self.body)


class JupyterHubHTTPClient(SingletonConfigurable):
    """One pool of connections per destination kind. Created inside a running loop; close it with `close()`."""

    session_options = Dict(
        help="Options of the HTTP session for requests of the Hub itself, for example a timeout."
    ).tag(config=True)

    connector_options = Dict(
        help="""Options of the connector for requests of the Hub itself, for example limit, limit_per_host or
        force_close. What internal TLS needs wins over them."""
    ).tag(config=True)

    ssl_context = AnyTrait(None, allow_none=True, help="TLS context for https; None for the system's.")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Connections belong to a loop; without one the mistake shows here and not at the first request.
        asyncio.get_running_loop()
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session for TCP destinations."""
        return self._session_for("")

    def _session_for(self, socket_path: str) -> aiohttp.ClientSession:
        import aiohttp

        session = self._sessions.get(socket_path)
        if session is None or session.closed:
            options: dict[str, Any] = dict(self.connector_options)
            connector: aiohttp.BaseConnector
            if socket_path:
                shared = {k: options[k] for k in ("limit", "limit_per_host", "force_close") if k in options}
                connector = aiohttp.UnixConnector(socket_path, **shared)
            else:
                if self.ssl_context is not None:
                    options["ssl"] = self.ssl_context
                connector = aiohttp.TCPConnector(**options)
            session = aiohttp.ClientSession(connector=connector, **self._session_arguments())
            self._sessions[socket_path] = session
        return session

    def _session_arguments(self) -> dict[str, Any]:
        import aiohttp

        options = dict(self.session_options)
        timeout = options.get("timeout")
        if isinstance(timeout, (int, float)):
            options["timeout"] = aiohttp.ClientTimeout(total=timeout)
        elif isinstance(timeout, Mapping):
            options["timeout"] = aiohttp.ClientTimeout(**timeout)
        # Cookies of one answer must not travel to other servers.
        options.setdefault("cookie_jar", aiohttp.DummyCookieJar())
        return options

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | str | None = None,
        json: Any = None,
        timeout: float | None = 20,
        ssl_context: ssl.SSLContext | None = None,
        allow_redirects: bool = False,
    ) -> HTTPAnswer:
        """Send one request and read the whole answer, whatever its status.

        `url` may be ``http``, ``https`` or ``http+unix``; `timeout` is seconds for all of it. Raises OSError
        (`ConnectionError` and relatives) when there is no answer and TimeoutError when it is late.
        """
        import aiohttp

        parts = urlsplit(url)
        socket_path = ""
        if parts.scheme.endswith("+unix"):
            socket_path = unquote(parts.netloc.rpartition("@")[2])
            url = urlunsplit((parts.scheme[: -len("+unix")], "localhost", parts.path, parts.query, ""))
        extra: dict[str, Any] = {} if ssl_context is None else {"ssl": ssl_context}
        if json is not None:
            extra["json"] = json
        elif data is not None:
            extra["data"] = data
        session = self._session_for(socket_path)
        try:
            async with session.request(
                method,
                url,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=timeout),
                allow_redirects=allow_redirects,
                **extra,
            ) as response:
                body = await response.read()
                return HTTPAnswer(response.status, response.reason or "", response.headers, body)
        except asyncio.TimeoutError:
            raise TimeoutError(f"{method} {url} was not answered within {timeout:g} seconds") from None
        except aiohttp.ClientError as error:
            if isinstance(error, OSError):
                raise
            raise ConnectionError(f"{method} {url} failed: {error or type(error).__name__}") from error

    async def close(self) -> None:
        """Close all connections; a later request opens new ones."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()
