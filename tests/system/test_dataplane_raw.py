"""Requests byte by byte: what is refused, what reaches a target and how.

Two programs that disagree where a request ends let one person speak for another. Each line of the table says what the
client gets (a status) or what the target must have received, in this order. After each a second request follows on
the same connection: it is answered as itself, or the connection is closed.
"""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Iterator
from typing import BinaryIO

import pytest

from tests.system.dataplane_program import TOKEN, blocking_program
from tests.system.strict_target import StrictTarget

H = b"Host: p\r\n"
G = b"GET / HTTP/1.1\r\n" + H
P = b"POST /p HTTP/1.1\r\n" + H
C = P + b"Transfer-Encoding: chunked\r\n"
EVIL = b"GET /evil HTTP/1.1\r\n" + H + b"\r\n"
WS = b"GET /w HTTP/1.1\r\n" + H + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
FOLLOW = b"GET /follow HTTP/1.1\r\n" + H + b"\r\n"

#: (what is tried, raw bytes, status of the refusal | the request lines, with bodies, that the target receives)
CASES: list[tuple[str, bytes, int | list[bytes]]] = [
    # Two ways to say how long a body is
    ("length and chunked", C + b"Content-Length: 4\r\n\r\n0\r\n\r\n" + EVIL, 400),
    ("chunked and length", P + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", 400),
    ("length 0 and chunked", C + b"Content-Length: 0\r\n\r\n0\r\n\r\n", 400),
    ("two equal lengths", P + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    ("two lengths", P + b"Content-Length: 3\r\nContent-Length: 0\r\n\r\nabc", 400),
    ("a list of lengths", P + b"Content-Length: 3, 3\r\n\r\nabc", 400),
    ("chunked twice", C + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("chunked, chunked", P + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    ("chunked and identity", C + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400),
    # Lengths that make no sense
    ("length +3", P + b"Content-Length: +3\r\n\r\nabc", 400),
    ("length -1", P + b"Content-Length: -1\r\n\r\n", 400),
    ("length 0x3", P + b"Content-Length: 0x3\r\n\r\nabc", 400),
    ("length 3.0", P + b"Content-Length: 3.0\r\n\r\nabc", 400),
    ("length 1_0", P + b"Content-Length: 1_0\r\n\r\n0123456789", 400),
    ("length 3 0", P + b"Content-Length: 3 0\r\n\r\nabc", 400),
    ("length empty", P + b"Content-Length: \r\n\r\n", 400),
    ("length a word", P + b"Content-Length: three\r\n\r\nabc", 400),
    ("length in quotes", P + b'Content-Length: "3"\r\n\r\nabc', 400),
    ("length of 2^64", P + b"Content-Length: 18446744073709551616\r\n\r\n", 400),
    ("length of 2^64 + 3", P + b"Content-Length: 18446744073709551619\r\n\r\nabc", 400),
    ("length of 30 digits", P + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", 400),
    ("length in Arabic digits", P + "Content-Length: \u0663\r\n\r\nabc".encode(), 400),
    ("length with zeroes", P + b"Content-Length: 003\r\n\r\nabc", [b"POST /p abc"]),
    ("length with blanks", P + b"Content-Length:  \t 3 \t\r\n\r\nabc", [b"POST /p abc"]),
    ("length in capitals", P + b"CONTENT-LENGTH: 3\r\n\r\nabc", [b"POST /p abc"]),
    ("length 0", P + b"Content-Length: 0\r\n\r\n", [b"POST /p"]),
    ("no length", P + b"\r\n", [b"POST /p"]),
    ("a GET with a body", G + b"Content-Length: 3\r\n\r\nabc", [b"GET / abc"]),
    ("a GET with a request as its body", G + b"Content-Length: %d\r\n\r\n" % len(EVIL) + EVIL, [b"GET / " + EVIL]),
    # Codings that make no sense
    ("coding identity", P + b"Transfer-Encoding: identity\r\n\r\n", 400),
    ("coding gzip", P + b"Transfer-Encoding: gzip\r\n\r\n", 400),
    ("coding gzip, chunked", P + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    ("coding chunked, gzip", P + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    ("coding xchunked", P + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    ("coding chunkedx", P + b"Transfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n", 400),
    ("coding in quotes", P + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n', 400),
    ("coding empty", P + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n", 400),
    ("coding after a tab", P + b"Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n", [b"POST /p"]),
    ("coding after a form feed", P + b"Transfer-Encoding: \x0cchunked\r\n\r\n0\r\n\r\n", 400),
    ("coding with a parameter", P + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", 400),
    ("coding CHUNKED", P + b"Transfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n", [b"POST /p abc"]),
    ("coding in HTTP/1.0", b"POST /p HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("coding, blank, colon", P + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    ("coding in a folded line", P + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
    ("coding with an underscore", P + b"Transfer_Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", [b"POST /p abc"]),
    ("coding behind Connection", C + b"Connection: Transfer-Encoding\r\n\r\n3\r\nabc\r\n0\r\n\r\n", [b"POST /p abc"]),
    ("length behind Connection", P + b"Connection: Content-Length\r\nContent-Length: 3\r\n\r\nabc", [b"POST /p abc"]),
    # Chunks
    ("chunks", C + b"\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", [b"POST /p abcde"]),
    ("chunk size in capitals", C + b"\r\nA\r\n0123456789\r\n0\r\n\r\n", [b"POST /p 0123456789"]),
    ("chunk size with zeroes", C + b"\r\n0003\r\nabc\r\n000\r\n\r\n", [b"POST /p abc"]),
    ("chunk with extension", C + b"\r\n3;a=b\r\nabc\r\n0;c\r\n\r\n", [b"POST /p abc"]),
    ("chunk with quoted extension", C + b'\r\n3;a="b c"\r\nabc\r\n0\r\n\r\n', [b"POST /p abc"]),
    ("bare LF in an extension", C + b"\r\n3;a\nabc\r\n0\r\n\r\n", 400),
    ("bare CR in an extension", C + b"\r\n3;a\rb\r\nabc\r\n0\r\n\r\n", 400),
    ("chunk size 0x3", C + b"\r\n0x3\r\nabc\r\n0\r\n\r\n", 400),
    ("chunk size -1", C + b"\r\n-1\r\n\r\n0\r\n\r\n", 400),
    ("chunk size +3", C + b"\r\n+3\r\nabc\r\n0\r\n\r\n", 400),
    ("chunk size empty", C + b"\r\n\r\n0\r\n\r\n", 400),
    ("chunk size a word", C + b"\r\nxyz\r\n", 400),
    ("chunk size after a blank", C + b"\r\n 3\r\nabc\r\n0\r\n\r\n", 400),
    ("chunk size, blank", C + b"\r\n3 \r\nabc\r\n0\r\n\r\n", 400),
    ("chunk size of 2^64", C + b"\r\n10000000000000000\r\nabc\r\n0\r\n\r\n", 400),
    ("chunk size of 2^64 + 3", C + b"\r\n10000000000000003\r\nabc\r\n0\r\n\r\n", 400),
    ("chunk ended by LF", C + b"\r\n3\r\nabc\n0\r\n\r\n", 400),
    ("chunk size ended by LF", C + b"\r\n3\nabc\r\n0\r\n\r\n", 400),
    ("chunk size ended by CR", C + b"\r\n3\rabc\r\n0\r\n\r\n", 400),
    ("chunk longer than it says", C + b"\r\n3\r\nabcd\r\n0\r\n\r\n", 400),
    ("chunk shorter than it says", C + b"\r\n5\r\nabc\r\n0\r\n\r\n", 400),
    ("last chunk ended by LF", C + b"\r\n0\n\n", 400),
    ("trailers are dropped", C + b"\r\n3\r\nabc\r\n0\r\nX-T: 1\r\nHost: q\r\n\r\n", [b"POST /p abc"]),
    ("a length as trailer", C + b"\r\n3\r\nabc\r\n0\r\nContent-Length: 9\r\n\r\n", 400),
    ("a coding as trailer", C + b"\r\n3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("trailer without colon", C + b"\r\n0\r\nnonsense\r\n\r\n", 400),
    ("a request in a chunk", C + b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(EVIL), EVIL), [b"POST /p " + EVIL]),
    ("endless extension", C + b"\r\n3;" + b"a" * 600000 + b"\r\nabc\r\n0\r\n\r\n", 431),
    ("endless trailer", C + b"\r\n0\r\nX: " + b"a" * 600000 + b"\r\n\r\n", 431),
    # Lines
    ("LF everywhere", b"GET / HTTP/1.1\nHost: p\n\n", 400),
    ("LF after the request line", b"GET / HTTP/1.1\nHost: p\r\n\r\n", 400),
    ("LF after a header", b"GET / HTTP/1.1\r\nHost: p\nX: 1\r\n\r\n", 400),
    ("LF at the end of the head", G + b"\n" + EVIL, 400),
    ("CR after the request line", b"GET / HTTP/1.1\rHost: p\r\n\r\n", 400),
    ("CR in a value", G + b"X: a\rb\r\n\r\n", 400),
    ("CR CR LF", G + b"X: a\r\r\n\r\n", 400),
    ("header behind a CR", G + b"X: a\rContent-Length: 5\r\n\r\n", 400),
    ("NUL in a value", G + b"X: a\x00b\r\n\r\n", 400),
    ("NUL in a name", G + b"X\x00: a\r\n\r\n", 400),
    ("NUL in the path", b"GET /\x00 HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("control sign in a value", G + b"X: a\x01b\r\n\r\n", 400),
    ("DEL in a value", G + b"X: a\x7fb\r\n\r\n", 400),
    ("folded line", G + b"X: a\r\n b\r\n\r\n", 400),
    ("folded by a tab", G + b"X: a\r\n\tb\r\n\r\n", 400),
    ("first header begins with a blank", b"GET / HTTP/1.1\r\n Host: p\r\n\r\n", 400),
    ("blank before the colon", b"GET / HTTP/1.1\r\nHost : p\r\n\r\n", 400),
    ("tab before the colon", G + b"X\t: a\r\n\r\n", 400),
    ("blank in a name", G + b"X Y: a\r\n\r\n", 400),
    ("no name", G + b": a\r\n\r\n", 400),
    ("no colon", G + b"nonsense\r\n\r\n", 400),
    ("a name in UTF-8", G + "\u00e9: a\r\n\r\n".encode(), 400),
    ("a name with parentheses", G + b"X(1): a\r\n\r\n", 400),
    ("a value in UTF-8", G + "X: \u00e9\r\n\r\n".encode(), [b"GET /"]),
    ("an empty value", G + b"X:\r\n\r\n", [b"GET /"]),
    ("empty lines before a request", b"\r\n\r\n" + G + b"\r\n", [b"GET /"]),
    # Request lines
    ("two blanks", b"GET  / HTTP/1.1\r\n" + H + b"\r\n", [b"GET /"]),
    ("a tab", b"GET\t/ HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("blank in the path", b"GET /a b HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("blank before the line", b" GET / HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("blank after the line", b"GET / HTTP/1.1 \r\n" + H + b"\r\n", 400),
    ("no version", b"GET /\r\n\r\n", 505),
    ("HTTP/0.9", b"GET / HTTP/0.9\r\n" + H + b"\r\n", 505),
    ("HTTP/1.2", b"GET / HTTP/1.2\r\n" + H + b"\r\n", 400),
    ("HTTP/2.0", b"GET / HTTP/2.0\r\n" + H + b"\r\n", 505),
    ("HTTP/1.10", b"GET / HTTP/1.10\r\n" + H + b"\r\n", 400),
    ("http/1.1", b"GET / http/1.1\r\n" + H + b"\r\n", 400),
    ("preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("a method in small letters", b"get / HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("a method nobody knows", b"NONSENSE / HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("TLS", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"\x00" * 40, 400),
    ("a PROXY line", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + G + b"\r\n", 400),
    ("HTTP/1.0", b"GET /0 HTTP/1.0\r\n\r\n", [b"GET /0"]),
    ("HEAD", b"HEAD /h HTTP/1.1\r\n" + H + b"\r\n", [b"HEAD /h"]),
    ("OPTIONS *", b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n", [b"OPTIONS /"]),
    ("GET *", b"GET * HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("CONNECT", b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n" + EVIL, 405),
    # Where to
    ("no Host", b"GET / HTTP/1.1\r\n\r\n", 400),
    ("two Hosts", G + b"Host: p\r\n\r\n", 400),
    ("Host with a blank", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    ("Host with a path", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    ("Host with a user", b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
    ("Host is a list", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    ("Host in quotes", b'GET / HTTP/1.1\r\nHost: "a"\r\n\r\n', 400),
    ("Host with a backslash", b"GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n", 400),
    ("Host with a port that is none", b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
    ("Host is empty", b"GET /e HTTP/1.1\r\nHost:\r\n\r\n", [b"GET /e"]),
    ("Host is IPv6", b"GET /6 HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", [b"GET /6"]),
    ("Host behind Connection", G + b"Connection: Host\r\n\r\n", [b"GET /"]),
    ("absolute", b"GET http://p/a?b HTTP/1.1\r\n" + H + b"\r\n", [b"GET /a?b"]),
    ("absolute without path", b"GET http://p HTTP/1.1\r\n" + H + b"\r\n", [b"GET /"]),
    ("absolute with only a query", b"GET http://p?a HTTP/1.1\r\n" + H + b"\r\n", [b"GET /?a"]),
    ("absolute with a user", b"GET http://u@p/a HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("absolute with another Host", b"GET http://q/a HTTP/1.1\r\n" + H + b"\r\n", [b"GET /a"]),
    ("absolute without host", b"GET http:///a HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("absolute, backslash", b"GET http://p\\evil/a HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("absolute, fragment", b"GET http://p#evil/a HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("absolute ftp", b"GET ftp://p/a HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("only a word", b"GET nonsense HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("only a query", b"GET ?a HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("fragment", b"GET /a#b HTTP/1.1\r\n" + H + b"\r\n", 400),
    ("dots", b"GET /a/../b/./c HTTP/1.1\r\n" + H + b"\r\n", [b"GET /a/../b/./c"]),
    ("encoded dots", b"GET /a/%2e%2E/b HTTP/1.1\r\n" + H + b"\r\n", [b"GET /a/%2e%2E/b"]),
    ("encoded slashes", b"GET /a%2Fb%2fc%5cd HTTP/1.1\r\n" + H + b"\r\n", [b"GET /a%2Fb%2fc%5cd"]),
    ("two slashes", b"GET //evil.test/a HTTP/1.1\r\n" + H + b"\r\n", [b"GET //evil.test/a"]),
    ("broken escapes", b"GET /%zz/%2/% HTTP/1.1\r\n" + H + b"\r\n", [b"GET /%zz/%2/%"]),
    ("encoded NUL", b"GET /a%00b HTTP/1.1\r\n" + H + b"\r\n", [b"GET /a%00b"]),
    ("encoded CR LF", b"GET /a%0d%0aX:1 HTTP/1.1\r\n" + H + b"\r\n", [b"GET /a%0d%0aX:1"]),
    ("path in UTF-8", "GET /\u00e9 HTTP/1.1\r\n".encode() + H + b"\r\n", 400),
    ("backslash in the path", b"GET /a\\..\\b HTTP/1.1\r\n" + H + b"\r\n", [b"GET /a\\..\\b"]),
    # Too much
    ("a long value", G + b"X: " + b"a" * 60000 + b"\r\n\r\n", [b"GET /"]),
    ("a value too long", G + b"X: " + b"a" * 70000 + b"\r\n\r\n", 431),
    ("a path too long", b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n" + H + b"\r\n", 431),
    ("a name too long", G + b"a" * 70000 + b": 1\r\n\r\n", 431),
    ("too many headers", G + b"X: 1\r\n" * 20000 + b"\r\n", 431),
    # More than one request
    ("two", G + b"\r\n" + G + b"\r\n", [b"GET /", b"GET /"]),
    ("body, then request", P + b"Content-Length: 3\r\n\r\nabc" + G + b"\r\n", [b"POST /p abc", b"GET /"]),
    ("body of the next request", P + b"Content-Length: 20\r\n\r\n" + EVIL[:20], [b"POST /p " + EVIL[:20]]),
    ("close, then request", G + b"Connection: close\r\n\r\n" + EVIL, [b"GET /"]),
    ("Connection twice", G + b"Connection: keep-alive\r\nConnection: close\r\n\r\n" + EVIL, [b"GET /"]),
    ("HTTP/1.0, then request", b"GET /0 HTTP/1.0\r\n\r\n" + EVIL, [b"GET /0"]),
    # Upgrades
    ("WebSocket with a body", WS + b"Content-Length: 3\r\n\r\nabc", 400),
    ("WebSocket with chunks", WS + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("WebSocket that is declined, then request", WS + b"\r\n" + EVIL, [b"GET /w"]),
    ("WebSocket by POST", WS.replace(b"GET", b"POST") + b"Content-Length: 3\r\n\r\nabc", [b"POST /w abc"]),
    ("h2c", G + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n\r\n", [b"GET /"]),
    ("h2c with a body", P + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc", [b"POST /p abc"]),
    (
        "h2c with a request as its body",
        P + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(EVIL) + EVIL,
        [b"POST /p " + EVIL],
    ),
    (
        "h2c with chunks, then request",
        C + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + EVIL,
        [b"POST /p abc"],
    ),
    (
        "WebSocket by POST, then request",
        WS.replace(b"GET", b"POST") + b"Content-Length: 0\r\n\r\n" + G + b"\r\n",
        [b"POST /w", b"GET /"],
    ),
    ("two upgrades", WS + b"Upgrade: h2c\r\n\r\n", [b"GET /w"]),
    ("Upgrade without Connection", G + b"Upgrade: websocket\r\n\r\n", [b"GET /"]),
    # Expectations
    ("expect, body follows", P + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", [b"POST /p abc"]),
    ("expect of HTTP/1.0", b"GET /0 HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", [b"GET /0"]),
    # Health: the same rules
    ("health with two lengths", b"GET /_chp_healthz HTTP/1.1\r\n" + H + b"Content-Length: 1, 1\r\n\r\n", 400),
]


#: After these the connection ends: the client said so, or nobody can tell what would come next.
LAST = {
    "HTTP/1.0",
    "HTTP/1.0, then request",
    "expect of HTTP/1.0",
    "close, then request",
    "Connection twice",
    "expect, body follows",
    "WebSocket that is declined, then request",
    "WebSocket by POST",
    "h2c with a body",
    "h2c with a request as its body",
    "h2c with chunks, then request",
}


@pytest.fixture(scope="module")
def strict() -> Iterator[StrictTarget]:
    with StrictTarget() as place:
        yield place


@pytest.fixture(scope="module")
def port(strict: StrictTarget, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with blocking_program(tmp_path_factory.mktemp("raw"), "--default-target", strict.url) as (public, api):
        yield public
        # Whatever was sent, the routes are as they were.
        ask = urllib.request.Request(f"http://127.0.0.1:{api}/api/routes", headers={"Authorization": f"token {TOKEN}"})
        with urllib.request.urlopen(ask, timeout=5) as answer:
            assert list(json.load(answer)) == ["/"]


def talk(port: int, raw: bytes) -> list[tuple[int, bytes]]:
    """Send bytes, then one more request; return the answers until the proxy hangs up or has answered that one."""
    answers: list[tuple[int, bytes]] = []
    with socket.create_connection(("127.0.0.1", port), 10) as connection, connection.makefile("rb") as reader:
        connection.sendall(raw)
        try:
            connection.sendall(FOLLOW)
        except OSError:
            # Already refused, and closed.
            pass
        try:
            while line := reader.readline():
                status = int(line.split()[1])
                length = 0
                while (line := reader.readline()) not in (b"\r\n", b""):
                    name, _, value = line.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                body = b"" if raw.startswith(b"HEAD") and not answers else reader.read(length)
                answers.append((status, body))
                if body == b"GET /follow":
                    break
        except ConnectionResetError:
            pass
    return answers


@pytest.mark.parametrize(("name", "raw", "expected"), CASES, ids=[name.replace(" ", "-") for name, _, _ in CASES])
def test_raw(port: int, strict: StrictTarget, name: str, raw: bytes, expected: int | list[bytes]) -> None:
    strict.received.clear()
    strict.complaints.clear()
    answers = talk(port, raw)
    received = [line + (b" " + body if body else b"") for line, _, body in strict.received]
    assert strict.complaints == []
    if isinstance(expected, int):
        # Refused as a whole: nothing reaches the target, and the connection is of no further use.
        assert ([status for status, _ in answers], received) == ([expected], [])
        return
    followed = answers[-1] == (200, b"GET /follow")
    assert received == expected + [b"GET /follow"] * followed
    assert [status for status, _ in answers] == [200] * len(received)
    assert followed is (name not in LAST)


_BASE = b"GET /first?a HTTP/1.1\r\nHost: p:1\r\nX-One: 1\r\nAccept: */*\r\n\r\n"
_HEAD = _BASE[_BASE.index(b"\r\n") :]


@pytest.mark.parametrize(
    "first", [_BASE, b"GET http://q/a HTTP/1.1" + _HEAD, b"GET /a HTTP/1.1\r\nConnection: keep-alive, X-One" + _HEAD]
)
@pytest.mark.parametrize(
    "second",
    [
        b"GET /second HTTP/1.1" + _HEAD,
        b"GET //x/../%2e%2F?b=c&d HTTP/1.1" + _HEAD,
        b"GET /" + b"a" * 5000 + b" HTTP/1.1" + _HEAD,
        b"GET /" + b"a" * 70000 + b" HTTP/1.1" + _HEAD,
        b"GET /\xc3\xa9 HTTP/1.1" + _HEAD,
        b"GET /a#b HTTP/1.1" + _HEAD,
        b"GET /a b HTTP/1.1" + _HEAD,
        b"GET /a\x7f HTTP/1.1" + _HEAD,
        b"GET /a HTTP/1.0" + _HEAD,
        b"GET /a HTTP/2.0" + _HEAD,
        b"GET /a" + _HEAD,
        b"GET http://q/a HTTP/1.1" + _HEAD,
        b"GET * HTTP/1.1" + _HEAD,
        b"HEAD /a HTTP/1.1" + _HEAD,
        b"POST /a HTTP/1.1" + _HEAD,
        b"GET /a HTTP/1.1\r\nConnection: close" + _HEAD,
        b"GET /a HTTP/1.1\r\nHost: q" + _HEAD,
        b"GET /a HTTP/1.1\nX: 1" + _HEAD,
        b"GET /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /a HTTP/1.1" + _HEAD[:-2] + b"Content-Length: %d\r\n\r\n" % len(_BASE) + _BASE,
        b"GET /a HTTP/1.1\r\nHost: q\r\nContent-Length: %d\r\n\r\n" % len(_BASE) + _BASE,
        b"POST /a HTTP/1.1\r\nHost: q\r\nContent-Length: %d\r\n\r\n" % len(_BASE) + _BASE,
        b"GET /a HTTP/1.1" + _HEAD.replace(b"X-One: 1", b"X-One: 2"),
        b"GET /a HTTP/1.1" + _HEAD.replace(b"p:1", b"q:1"),
        b"GET /a HTTP/1.1" + _HEAD.replace(b"p:1", b"a b"),
        b"\r\n" + _BASE,
        _BASE + _BASE,
        _BASE,
    ],
)
def test_request_after_one_that_is_nearly_the_same(
    port: int, strict: StrictTarget, first: bytes, second: bytes
) -> None:
    """What comes again is not read again; that must never show."""

    def ask(*requests: bytes) -> tuple[list[object], list[int]]:
        strict.received.clear()
        strict.complaints.clear()
        with socket.create_connection(("127.0.0.1", port), 10) as connection, connection.makefile("rb") as reader:
            for request in requests:
                # One after the other: each is read by itself, as clients send them.
                connection.sendall(request)
                answered = _answer(reader, head_only=request.startswith(b"HEAD"))
            statuses = [answered] + ([_answer(reader)] if second == _BASE + _BASE else [])
        assert strict.complaints == []
        return list(strict.received), statuses

    alone, statuses = ask(second)
    for before in (1, 2):
        received, after = ask(*[first] * before, second)
        assert received[before:] == alone
        assert after == statuses


def _answer(reader: BinaryIO, *, head_only: bool = False) -> int:
    status = int(reader.readline().split()[1])
    length = 0
    while (line := reader.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    assert head_only or len(reader.read(length)) == length
    return status


def test_the_table_is_large_and_says_each_thing_once() -> None:
    assert len(CASES) >= 100
    assert len({name for name, _, _ in CASES}) == len({raw for _, raw, _ in CASES}) == len(CASES)
