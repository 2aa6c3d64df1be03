"""`Server` and `Hub`: an address and how to reach it (plugins §9); `Address`, the same as plain values."""

from __future__ import annotations

import socket
import ssl
import warnings
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from traitlets import Any as AnyTrait
from traitlets import Bunch, HasTraits, Integer, Unicode, default, validate

from .core.urls import fmt_ip_url, url_path_join
from .net import can_connect, make_ssl_context, random_port, wait_for_http_server, wait_for_server
from .traitlets import URLPrefix

__all__ = ["Address", "Hub", "Server"]

_STORED = ("proto", "ip", "port", "base_url", "cookie_name")
#: What `bind_url` is made of.
_PARTS = ("proto", "ip", "port", "base_url")


class Reached:
    """How others find what listens somewhere, worked out of its parts."""

    __slots__ = ()

    proto: Any
    ip: Any
    port: Any
    base_url: Any
    connect_ip: Any = ""
    connect_port: Any = 0
    connect_url: Any = ""

    @property
    def connect_addr(self) -> str:
        """Host or address to connect to: where one listens everywhere, the machine's own name."""
        ip = self.connect_ip or self.ip
        return socket.gethostname() if ip in ("", "0.0.0.0", "::") else ip

    @property
    def _connect_port(self) -> int:
        return int(self.connect_port or self.port)

    @property
    def host(self) -> str:
        """``scheme://host:port`` to connect to."""
        if self.connect_url:
            parts = urlsplit(self.connect_url)
            return f"{parts.scheme}://{parts.netloc}"
        if self.proto.endswith("+unix"):
            return f"{self.proto}://{self.ip}"
        return f"{self.proto}://{fmt_ip_url(self.connect_addr)}:{self._connect_port}"

    @property
    def url(self) -> str:
        """``scheme://host:port/base/`` to connect to."""
        return str(self.connect_url or f"{self.host}{self.base_url}")


@dataclass(slots=True)
class Address(Reached):
    """Where a server listens, as plain values: thousands of them are kept, and few are ever asked for as a `Server`.

    A `port` of 0 and an `ip` of "" stand for "not known yet".
    """

    proto: str = "http"
    ip: str = ""
    port: int = 0
    base_url: str = "/"
    cookie_name: str = ""


class Server(Reached, HasTraits):
    """Where something listens, and where others find it.

    `ip` and `port` say where it listens; `connect_ip`, `connect_port` and `connect_url` where it is reached, if that
    differs. `bind_url` says the first in one text and follows when a part changes. With `orm_server`, a database
    row, the row is read once and assignments are written through to it.
    """

    orm_server = AnyTrait(None, allow_none=True)
    proto = Unicode("http")
    ip = Unicode("")
    port = Integer()
    base_url = URLPrefix("/")
    cookie_name = Unicode("")
    bind_url = Unicode("")
    connect_ip = Unicode("")
    connect_port = Integer(0)
    connect_url = Unicode("")
    certfile = Unicode("")
    keyfile = Unicode("")
    cafile = Unicode("")
    socket_mode = Integer(0o600)

    def __init__(self, orm_server: Any = None, **kwargs: Any) -> None:
        if orm_server is not None:
            for name in _STORED:
                value = getattr(orm_server, name, None)
                if value is not None:
                    kwargs.setdefault(name, value)
        super().__init__(orm_server=orm_server, **kwargs)

    @classmethod
    def from_orm(cls, orm_server: Any) -> Server:
        """An address kept in a database row."""
        return cls(orm_server=orm_server)

    @classmethod
    def from_url(cls, url: str) -> Server:
        """An address from a URL; a missing port follows from the scheme."""
        return cls(bind_url=url)

    @default("port")
    def _port_default(self) -> int:
        return random_port()

    @default("bind_url")
    def _bind_url_default(self) -> str:
        if self.proto.endswith("+unix"):
            return f"{self.proto}://{self.ip}{self.base_url}"
        return f"{self.proto}://{fmt_ip_url(self.ip)}:{self.port}{self.base_url}"

    @validate("ip", "connect_ip")
    def _without_brackets(self, proposal: Bunch) -> str:
        return str(proposal.value).strip("[]")

    @validate("bind_url", "connect_url")
    def _without_query(self, proposal: Bunch) -> str:
        value = str(proposal.value)
        if value.startswith("unix+http://"):
            value = "http+unix://" + value.removeprefix("unix+http://")
        return value.partition("?")[0].partition("#")[0]

    _following = False

    def notify_change(self, change: Bunch) -> None:
        """Let `bind_url`, its parts and the row follow each other, then tell whoever observes.

        Observers of its own would cost every one of thousands of servers as much memory as the rest of it.
        """
        if change.type == "change":
            if change.name in _STORED:
                self._write_through(change)
            if change.name == "bind_url":
                self._take_bind_url(change)
            elif change.name in _PARTS:
                self._follow_parts()
        super().notify_change(change)

    def _write_through(self, change: Bunch) -> None:
        row = self.orm_server
        if row is not None and getattr(row, change.name, None) != change.new:
            setattr(row, change.name, change.new)

    def _take_bind_url(self, change: Bunch) -> None:
        if self._following or not change.new:
            return
        parts = urlsplit(change.new)
        self._following = True
        try:
            self.proto = parts.scheme
            if parts.scheme.endswith("+unix"):
                # The socket's path, percent-encoded, stands where others have a host.
                self.ip = parts.netloc
            else:
                self.ip = parts.hostname or ""
                self.port = parts.port or (443 if parts.scheme == "https" else 80)
            if parts.path.strip("/"):
                self.base_url = parts.path
        finally:
            self._following = False

    def _follow_parts(self) -> None:
        if self._following:
            return
        self._following = True
        try:
            self.bind_url = self._bind_url_default()
        finally:
            self._following = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}(url={self.url}, bind_url={self.bind_url})"

    async def wait_up(
        self,
        timeout: float = 10,
        http: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        extra_path: str = "",
    ) -> Any:
        """Wait until it accepts connections, or with `http` until it answers below 500 (returns the answer).

        `timeout` is in seconds. Raises TimeoutError.
        """
        if http:
            context = ssl_context or make_ssl_context(self.keyfile, self.certfile, cafile=self.cafile)
            url = url_path_join(self.url, extra_path) if extra_path else self.url
            return await wait_for_http_server(url, timeout=timeout, ssl_context=context)
        return await wait_for_server(self.connect_addr, self._connect_port, timeout=timeout)

    def is_up(self) -> bool:
        """Whether it accepts connections now; blocks for a moment."""
        if self.proto.endswith("+unix"):
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(unquote(self.ip))
                except OSError:
                    return False
            return True
        return can_connect(self.connect_addr, self._connect_port)


class Hub(Server):
    """The Hub's own address: where its API is, and the route that leads to it."""

    cookie_name = Unicode("jupyterhub-hub-login")
    public_host = Unicode("")
    routespec = Unicode("/")

    @validate("cookie_name")
    def _fixed_cookie_name(self, proposal: Bunch) -> str:
        return "jupyterhub-hub-login"

    @property
    def server(self) -> Hub:
        """Itself. Old plugins know an object of its own here; reading it is deprecated."""
        warnings.warn(
            "Hub.server is deprecated: the Hub object has all its attributes itself",
            DeprecationWarning,
            stacklevel=2,
        )
        return self

    @property
    def api_url(self) -> str:
        """URL of the REST API as servers and services reach it."""
        return url_path_join(self.url, "api")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.host}{self.base_url}>"
