"""A target that believes nothing: it parses by the letter of RFC 9112 and keeps what it was sent."""

from __future__ import annotations

import re
import socketserver
import threading
from typing import Any

__all__ = ["StrictTarget"]

_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (/[!-~\x80-\xff]*) HTTP/1\.1")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([^\x00\r\n]*)")
_SIZE = re.compile(rb"[0-9a-f]+")


class _Strict(socketserver.StreamRequestHandler):
    server: StrictTarget

    def handle(self) -> None:
        try:
            while (first := self._line()) is not None:
                self._one(first)
        except AssertionError as error:
            self.server.complaints.append(str(error))
        except OSError:
            # The proxy hung up, which is its right.
            pass

    def _line(self) -> bytes | None:
        line = self.rfile.readline(1 << 20)
        if not line:
            return None
        assert line.endswith(b"\r\n"), f"a line that does not end: {line!r}"
        assert line.count(b"\r") == 1, f"a bare CR: {line!r}"
        return line[:-2]

    def _one(self, first: bytes) -> None:
        found = _LINE.fullmatch(first)
        assert found, f"no request line: {first!r}"
        fields: dict[bytes, list[bytes]] = {}
        while line := self._line():
            field = _FIELD.fullmatch(line)
            assert field, f"no header: {line!r}"
            fields.setdefault(field[1].lower(), []).append(field[2])
        assert len(fields.get(b"host", ())) == 1, f"not one Host: {fields}"
        lengths, codings = fields.get(b"content-length", []), fields.get(b"transfer-encoding", [])
        assert len(lengths) + len(codings) <= 1, f"more than one length: {fields}"
        body = b""
        if lengths:
            assert lengths[0].isdigit(), f"no length: {lengths}"
            body = self.rfile.read(int(lengths[0]))
            if len(body) != int(lengths[0]):
                return
        elif codings:
            assert codings == [b"chunked"], f"another coding: {codings}"
            body = self._chunks()
        self.server.received.append((found[1] + b" " + found[2], fields, body))
        text = found[1] + b" " + found[2]
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text)
        self.wfile.write(head if found[1] == b"HEAD" else head + text)

    def _chunks(self) -> bytes:
        body = b""
        while True:
            size = self._line()
            if size is None:
                raise ConnectionResetError
            assert _SIZE.fullmatch(size), f"no chunk size: {size!r}"
            body += self.rfile.read(int(size, 16))
            end = self._line()
            assert end == b"" or end is None, f"after a chunk: {end!r}"
            if size == b"0":
                return body


class StrictTarget(socketserver.ThreadingTCPServer):
    """`received` holds (method and target, headers by lower-case name, body) of each request that was whole."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Strict)
        self.received: list[tuple[bytes, dict[bytes, list[bytes]], bytes]] = []
        self.complaints: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> StrictTarget:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.shutdown()
        self.server_close()
