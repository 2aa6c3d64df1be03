"""One request and what has become of it: the only object made per request."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from .options import Options
    from .table import RouteEntry
    from .upstream import UpstreamConnection

__all__ = ["HOP_BY_HOP", "SPECIAL_REQUEST_HEADERS", "Exchange", "Forwarding", "HeaderNames", "strip_prefix"]

#: Headers that concern one connection only and are never passed on (RFC 9110 §7.6.1).
HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
#: Request headers that are looked at; all others are passed on as they are.
SPECIAL_REQUEST_HEADERS = HOP_BY_HOP | {
    b"host",
    b"content-length",
    b"expect",
    b"x-forwarded-for",
    b"x-forwarded-port",
    b"x-forwarded-proto",
    b"x-forwarded-host",
}
#: What `Connection` must not take away, whatever it says.
_NOT_FOR_CONNECTION = frozenset((b"host", b"content-length", b"authorization", b"cookie", b"close", b"keep-alive"))
#: Of these the proxy decides itself what the target is told.
_WRITTEN_ANEW = HOP_BY_HOP | {b"host", b"content-length"}
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_REPEATABLE = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE", b"PROPFIND"))


@lru_cache(maxsize=1024)
def _is_host(host: bytes) -> bool:
    """A host name or address with or without a port (RFC 9110 §7.2); a list of them is not one."""
    return _HOST.fullmatch(host) is not None


def strip_prefix(url: bytes, prefix: bytes) -> bytes:
    """A request URL without the route that matched: `prefix` is decoded, the URL is not."""
    path, mark, query = url.partition(b"?")
    position = taken = 0
    while taken < len(prefix) and position < len(path):
        if path[position] == 0x25 and len(unquote_to_bytes(path[position : position + 3])) == 1:
            position += 3
        else:
            position += 1
        taken += 1
    rest = path[position:]
    return (rest if rest.startswith(b"/") else b"/" + rest) + mark + query


class HeaderNames(dict[bytes, bytes]):
    """Names as they are written, with their lower case when they are to be looked at, else with nothing.

    Clients write the same few names all the time: each is looked up as it is.
    """

    def __init__(self, special: frozenset[bytes]) -> None:
        self._special = special

    def __missing__(self, name: bytes) -> bytes:
        key = name.lower()
        key = key if key in self._special else b""
        if len(self) < 1024 and len(name) < 64:
            self[name] = key
        return key


class Forwarding:
    """How requests are changed on their way, from the command line."""

    __slots__ = (
        "change_origin",
        "custom",
        "custom_lines",
        "include_prefix",
        "names",
        "prepend_path",
        "x_forward",
    )

    def __init__(self, options: Options) -> None:
        self.x_forward = options.x_forward
        self.prepend_path = options.prepend_path
        self.include_prefix = options.include_prefix
        self.change_origin = options.change_origin
        lines = [(n.lower().encode("latin-1"), f"{n}: {v}\r\n".encode("latin-1")) for n, v in options.custom_headers]
        #: Custom headers replace those of the same name that the client sent.
        self.custom = frozenset(name for name, _ in lines)
        self.custom_lines = b"".join(line for _, line in lines)
        self.names = HeaderNames(SPECIAL_REQUEST_HEADERS | self.custom)


class Exchange:
    """A request from its first byte until its answer has been written."""

    __slots__ = (
        "body",
        "body_done",
        "body_size",
        "chunked",
        "discard",
        "early",
        "entry",
        "expect_continue",
        "host",
        "keep_alive",
        "length",
        "lines",
        "method",
        "minor",
        "received",
        "response_done",
        "response_started",
        "rest",
        "sent_at",
        "special",
        "upstream",
        "url",
        "websocket",
    )

    def __init__(self, like: Exchange | None = None, url: bytes = b"") -> None:
        """`like`: another request of the same client that differs by its address only; it has no body."""
        self.url = url
        self.minor = 1
        #: Name, colon, value and end of each ordinary header.
        self.lines: list[bytes]
        self.special: list[tuple[bytes, bytes, bytes]]
        if like is None:
            self.method = self.host = b""
            self.lines = []
            self.special = []
            #: The head as it is sent on, after its address, once it is known. Nothing when it depends on the target.
            self.rest = b""
        else:
            self.method = like.method
            self.host = like.host
            self.lines = like.lines
            self.special = like.special
            self.rest = like.rest
        self.length: bytes | None = None
        self.chunked = False
        self.websocket = False
        self.keep_alive = True
        self.expect_continue = False
        #: Body that came before there was somebody to send it to.
        self.body: list[bytes] = []
        self.body_size = 0
        self.body_done = like is not None
        #: Bytes of its body that have come.
        self.received = 0
        #: True when the rest of the body is read only to be thrown away.
        self.discard = False
        #: Bytes of a WebSocket that came before the target agreed to it.
        self.early: list[bytes] = []
        self.entry: RouteEntry | None = None
        self.upstream: UpstreamConnection | None = None
        #: When the request was sent on, on the monotonic clock; 0 before that and once an answer has begun.
        self.sent_at = 0.0
        self.response_started = False
        self.response_done = False

    @property
    def repeatable(self) -> bool:
        """True when it may be sent again on another connection if the first breaks before an answer."""
        return self.body_done and not self.chunked and self.length in (None, b"0") and self.method in _REPEATABLE

    @property
    def is_plain(self) -> bool:
        """True when nothing but its address is particular: another with the same headers means the same."""
        return (
            *(self.method, self.minor, self.keep_alive, self.body_done),
            *(self.length, self.chunked, self.websocket, self.expect_continue),
        ) == (b"GET", 1, True, True, None, False, False, False)

    def head_size(self) -> int:
        """Bytes of its head as it was sent, but for line ends and blanks."""
        special = sum(len(name) + len(value) + 4 for _, name, value in self.special)
        return len(self.url) + sum(map(len, self.lines)) + special

    def understand(self) -> tuple[int, str] | None:
        """Read the special headers. A status and a reason when the request has to be refused.

        What llhttp refuses by itself (both framings at once, two lengths, folded lines) does not come this
        far.
        """
        host: bytes | None = None
        for key, _, value in self.special:
            if key == b"host":
                if host is not None:
                    return 400, "more than one Host header"
                host = value.strip()
            elif key == b"content-length":
                if self.length is not None or not value.strip().isdigit():
                    return 400, "Content-Length makes no sense"
                # Leading zeroes and blanks are read the same way everywhere, but need not be passed on.
                self.length = b"%d" % int(value)
            elif key == b"transfer-encoding":
                if self.chunked or value.strip().lower() != b"chunked":
                    return 400, "Transfer-Encoding other than chunked"
                if self.minor == 0:
                    return 400, "Transfer-Encoding in HTTP/1.0"
                self.chunked = True
            elif key == b"expect":
                self.expect_continue = self.minor == 1 and value.strip().lower() == b"100-continue"
        if self.chunked and self.length is not None:
            return 400, "both Content-Length and Transfer-Encoding"
        if host is None:
            if self.minor == 1:
                return 400, "no Host header"
            host = b""
        self.host = host
        if not self.url.startswith(b"/"):
            refused = self._understand_target()
            if refused is not None:
                return refused
        if b"#" in self.url:
            return 400, "a fragment in the request's address"
        if not _is_host(self.host):
            return 400, "the Host makes no sense"
        return None

    def _understand_target(self) -> tuple[int, str] | None:
        if self.url == b"*" and self.method == b"OPTIONS":
            self.url = b"/"
            return None
        scheme, _, rest = self.url.partition(b"://")
        if scheme.lower() not in (b"http", b"https") or not rest:
            return 400, "the request's address makes no sense"
        # An absolute address overrules the Host header (RFC 9112 §3.2.2).
        cut = min((rest.index(sign) for sign in (b"/", b"?") if sign in rest), default=len(rest))
        self.host = rest[:cut]
        if not self.host:
            return 400, "no host in the request's address"
        path = rest[cut:]
        self.url = path if path.startswith(b"/") else b"/" + path
        return None

    def head(self, forwarding: Forwarding, peer: bytes, *, secure: bool) -> bytes:
        """The request as it is sent to its target, up to the empty line."""
        entry = self.entry
        assert entry is not None and entry.target is not None
        target = entry.target
        url = self.url
        if not forwarding.include_prefix and entry.prefix:
            url = strip_prefix(url, entry.prefix)
        if forwarding.prepend_path and target.has_place:
            url = target.join(url)
        if self.rest:
            return b"".join((self.method, b" ", url, self.rest))
        host = target.authority if forwarding.change_origin or not self.host else self.host
        parts = [self.method, b" ", url, b" HTTP/1.1\r\nHost: ", host, b"\r\n"]
        parts += self.lines
        dropped: set[bytes] = set()
        seen: dict[bytes, bytes] = {}
        for key, name, value in self.special:
            if key == b"connection":
                dropped.update(token.strip().lower() for token in value.split(b","))
            elif key in forwarding.custom or key in _WRITTEN_ANEW:
                continue
            elif forwarding.x_forward and key.startswith(b"x-forwarded-"):
                seen[key] = seen[key] + b"," + value if key in seen else value
            else:
                parts += (name, b": ", value, b"\r\n")
        dropped -= _NOT_FOR_CONNECTION
        dropped -= HOP_BY_HOP
        if dropped:
            lines = self.lines
            kept = [n for n in range(0, len(lines), 4) if lines[n].lower() not in dropped]
            parts[6 : 6 + len(lines)] = [part for n in kept for part in lines[n : n + 4]]
        if forwarding.x_forward:
            if seen:
                parts += _forwarded(self.host, peer, seen, secure=secure, websocket=self.websocket)
            else:
                parts.append(_usual_forwarded(self.host, peer, secure, self.websocket))
        if self.chunked:
            parts.append(b"Transfer-Encoding: chunked\r\n")
        elif self.length is not None:
            parts += (b"Content-Length: ", self.length, b"\r\n")
        elif self.method in (b"DELETE", b"OPTIONS"):
            parts.append(b"Content-Length: 0\r\n")
        if self.websocket:
            parts.append(b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
        parts += (forwarding.custom_lines, b"\r\n")
        if self.host and not forwarding.change_origin:
            self.rest = b"".join(parts[3:])
        return b"".join(parts)

    def header(self, wanted: bytes) -> bytes:
        """The value of an ordinary request header, or nothing. Slow: for error pages only."""
        for position in range(0, len(self.lines), 4):
            if self.lines[position].lower() == wanted:
                return self.lines[position + 2].strip()
        return b""


@lru_cache(maxsize=4096)
def _usual_forwarded(host: bytes, peer: bytes, secure: bool, websocket: bool) -> bytes:
    """What a target is told about a client that was told nothing itself: the same for all its requests."""
    return b"".join(_forwarded(host, peer, {}, secure=secure, websocket=websocket))


def _forwarded(host: bytes, peer: bytes, seen: dict[bytes, bytes], *, secure: bool, websocket: bool) -> list[bytes]:
    """The headers about the client. `seen` are those that came with the request."""
    parts: list[bytes] = []
    port = _port_of(host) or (b"443" if secure else b"80")
    if websocket:
        scheme = b"wss" if secure else b"ws"
    else:
        scheme = b"https" if secure else b"http"
    for key, name, value in (
        (b"x-forwarded-for", b"X-Forwarded-For: ", peer),
        (b"x-forwarded-port", b"X-Forwarded-Port: ", port),
        (b"x-forwarded-proto", b"X-Forwarded-Proto: ", scheme),
    ):
        before = seen.get(key)
        parts += (name, before + b"," + value if before else value, b"\r\n")
    given = seen.get(b"x-forwarded-host")
    if given:
        parts += (b"X-Forwarded-Host: ", given, b"\r\n")
    elif host and not websocket:
        parts += (b"X-Forwarded-Host: ", host, b"\r\n")
    return parts


def _port_of(host: bytes) -> bytes:
    """The port in a Host header, if there is one. Colons inside brackets are an IPv6 address."""
    after = host.rpartition(b"]")[2] if host.startswith(b"[") else host
    port = after.rpartition(b":")[2] if b":" in after else b""
    return port if port.isdigit() else b""
