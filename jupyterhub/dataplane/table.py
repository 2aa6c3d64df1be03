"""The routes: what leads where, when it was last used, and the same on disk."""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from ..core.routing import RouteTable
from .log import Log

__all__ = ["Journal", "RouteEntry", "Routes", "Target", "iso_time", "normal_path", "parse_time"]


def iso_time(seconds: float) -> str:
    """UTC with milliseconds and `Z`, from seconds since the epoch."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{milliseconds:03d}Z"


def parse_time(text: str) -> float:
    """Seconds since the epoch from ISO 8601; without a zone it is UTC. Raises ValueError."""
    if text.endswith(("Z", "z")):
        text = text[:-1] + "+00:00"
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    return moment.timestamp()


def normal_path(path: str) -> str:
    """A path of the REST API as the key of a route: decoded, with a leading and without a trailing slash."""
    path = unquote(path)
    if not path.startswith("/"):
        path = "/" + path
    if len(path) > 1 and path.endswith("/"):
        path = path[:-1]
    return path


class Target:
    """Where a route leads, taken apart once. Raises ValueError for what cannot be a target."""

    __slots__ = ("address", "authority", "has_place", "host", "path", "port", "query", "tls", "unix_path", "url")

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.url = url
        self.unix_path: str | None = None
        self.host = ""
        self.port = 0
        if parts.scheme in ("http+unix", "unix+http"):
            self.unix_path = unquote(parts.netloc)
            if not self.unix_path:
                raise ValueError(f"{url!r} names no socket")
            self.tls = False
            self.authority = b"localhost"
        elif parts.scheme in ("http", "https"):
            if not parts.hostname:
                raise ValueError(f"{url!r} names no host")
            self.tls = parts.scheme == "https"
            self.host = parts.hostname
            self.port = parts.port or (443 if self.tls else 80)
            self.authority = parts.netloc.rpartition("@")[2].encode("latin-1", "replace")
        else:
            raise ValueError(f"{url!r} is neither http, https nor http+unix")
        #: Connections are shared between routes whose targets have the same address.
        self.address = f"unix:{self.unix_path}" if self.unix_path else f"{parts.scheme}://{self.host}:{self.port}"
        self.path = parts.path.rstrip("/").encode("utf-8")
        self.query = parts.query.encode("utf-8")
        #: Whether requests go anywhere but to the address they have.
        self.has_place = bool(self.path or self.query)

    def join(self, url: bytes) -> bytes:
        """The request's URL below the target's own path and query (services-and-proxy D1)."""
        if self.path:
            url = self.path + url
        if self.query:
            path, mark, query = url.partition(b"?")
            url = path + b"?" + self.query + (b"&" + query if mark else b"")
        return url


class RouteEntry:
    """One route. `body` is what was posted, `target` None when it makes no sense as an address."""

    __slots__ = ("body", "host", "key", "last_activity", "prefix", "target", "written_activity")

    def __init__(self, key: str, body: dict[str, Any], last_activity: float, *, host_routing: bool) -> None:
        self.key = key
        self.body = body
        self.last_activity = last_activity
        self.written_activity = last_activity
        path = key
        self.host: str | None = None
        if host_routing:
            self.host, _, rest = key[1:].partition("/")
            path = "/" + rest if self.host else "/"
        #: Decoded bytes that --no-include-prefix takes away.
        self.prefix = b"" if path == "/" else path.encode("utf-8")
        try:
            self.target: Target | None = Target(body["target"])
        except ValueError:
            self.target = None

    def to_json(self) -> dict[str, Any]:
        """What the REST API shows."""
        answer = {**self.body, "last_activity": iso_time(self.last_activity)}
        if self.host:
            answer["host"] = self.host
        return answer

    def touch(self) -> None:
        """This route was used just now."""
        self.last_activity = time.time()


class Journal:
    """Routes in a file, one change per line, so that each change is on disk before it is acknowledged.

    The file is rewritten whole, beside the old one and then in its place, when it has grown to several times
    what it has to say. A line cut off by a crash is left out when reading; all before it count.
    """

    def __init__(self, path: str, *, host_routing: bool, log: Log) -> None:
        self._path = path
        self._host_routing = host_routing
        self._log = log
        self._file: int | None = None
        self._lines = 0

    def read(self) -> Iterator[tuple[str, dict[str, Any], float]]:
        """Yield (key, body, last activity) of the routes that were there last.

        Nothing when there is no file.
        """
        try:
            with open(self._path, encoding="utf-8") as file:
                lines = file.read().split("\n")
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            self._log.error(f"Cannot read the routes in {self._path}, starting without them: {error}")
            return
        found: dict[str, tuple[dict[str, Any], float]] = {}
        damaged = 0
        for number, line in enumerate(lines):
            if not line:
                continue
            try:
                record = json.loads(line)
                if number == 0:
                    if record.get("host_routing") != self._host_routing:
                        self._log.warn(f"The routes in {self._path} were made with another --host-routing: not used")
                        return
                elif record[0] == "add":
                    _, key, body, moment = record
                    if not isinstance(body["target"], str):
                        raise ValueError(key)
                    found[key] = (dict(body), float(moment))
                elif record[0] == "delete":
                    found.pop(record[1], None)
                elif record[0] == "used":
                    for key, moment in record[1].items():
                        if key in found:
                            found[key] = (found[key][0], float(moment))
            except (ValueError, KeyError, IndexError, TypeError, AttributeError):
                damaged += 1
        if damaged:
            self._log.warn(f"{damaged} damaged lines in {self._path} were left out")
        for key, (body, moment) in found.items():
            yield key, body, moment

    def rewrite(self, entries: dict[str, RouteEntry]) -> None:
        """Replace the file by one with just these routes, atomically."""
        lines = [_line({"version": 1, "host_routing": self._host_routing})]
        for entry in entries.values():
            lines.append(_line(["add", entry.key, entry.body, entry.last_activity]))
            entry.written_activity = entry.last_activity
        draft = self._path + ".new"
        try:
            file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                _write_all(file, b"".join(lines))
                # Not synchronised with the disk: that could take seconds, in which nobody is served. A process that
                # is killed loses nothing, and after a power failure the hub brings the routes again.
            finally:
                os.close(file)
            os.replace(draft, self._path)
            if self._file is not None:
                os.close(self._file)
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            self._lines = len(lines)
        except OSError as error:
            self._log.error(f"Cannot write the routes to {self._path}: {error}")

    def added(self, entry: RouteEntry, entries: dict[str, RouteEntry]) -> None:
        """A route was added or replaced."""
        self._append(["add", entry.key, entry.body, entry.last_activity], entries)

    def deleted(self, key: str, entries: dict[str, RouteEntry]) -> None:
        """A route is gone."""
        self._append(["delete", key], entries)

    def used(self, used: dict[str, float], entries: dict[str, RouteEntry]) -> None:
        """Write down the last activity of routes."""
        if used:
            self._append(["used", used], entries)

    def _append(self, record: list[Any], entries: dict[str, RouteEntry]) -> None:
        if self._file is None or self._lines > 64 + 4 * len(entries):
            self.rewrite(entries)
            return
        try:
            _write_all(self._file, _line(record))
            self._lines += 1
        except OSError as error:
            self._log.error(f"Cannot write the routes to {self._path}: {error}")
            # Perhaps half a line is there now. The next change writes the whole file again.
            os.close(self._file)
            self._file = None

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _line(record: Any) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


class Routes:
    """All routes by key, and the table that finds one for a request."""

    def __init__(self, *, host_routing: bool = False, journal: Journal | None = None) -> None:
        self.host_routing = host_routing
        self.entries: dict[str, RouteEntry] = {}
        self._table: RouteTable[RouteEntry] = RouteTable(host_routing=host_routing)
        self._journal = journal
        self.find: Callable[[str, str], RouteEntry | None] = self._table.find
        #: Called with a target that a route no longer leads to.
        self.released: Callable[[Target], None] | None = None

    def restore(self) -> int:
        """Take the routes from the journal and begin writing to it; return how many there were."""
        if self._journal is None:
            return 0
        for key, body, moment in self._journal.read():
            self._put(RouteEntry(key, body, moment, host_routing=self.host_routing))
        self._journal.rewrite(self.entries)
        return len(self.entries)

    def _put(self, entry: RouteEntry) -> None:
        self.entries[entry.key] = entry
        self._table.add(entry.key, entry)

    def add(self, key: str, body: dict[str, Any], moment: float | None = None) -> RouteEntry:
        """Add or replace a route; on disk when this returns.

        `body` holds `target` and whatever else was posted; `moment` is its last activity, by default now.
        """
        before = self.entries.get(key)
        stored = {name: value for name, value in body.items() if name != "last_activity"}
        entry = RouteEntry(key, stored, time.time() if moment is None else moment, host_routing=self.host_routing)
        self._put(entry)
        if self._journal is not None:
            self._journal.added(entry, self.entries)
        if before is not None and before.target is not None and self.released is not None:
            if entry.target is None or entry.target.address != before.target.address:
                self.released(before.target)
        return entry

    def delete(self, key: str) -> bool:
        """Remove a route. False when there was none."""
        entry = self.entries.pop(key, None)
        if entry is None:
            return False
        self._table.remove(key)
        if self._journal is not None:
            self._journal.deleted(key, self.entries)
        if entry.target is not None and self.released is not None:
            self.released(entry.target)
        return True

    def flush_activity(self) -> None:
        """Put the times of last use on disk."""
        if self._journal is not None:
            self._journal.used(self.used(), self.entries)

    def used(self) -> dict[str, float]:
        """The last activity of the routes used since this was last called."""
        used = {e.key: e.last_activity for e in self.entries.values() if e.last_activity != e.written_activity}
        for key, moment in used.items():
            self.entries[key].written_activity = moment
        return used

    def note_used(self, used: dict[str, float]) -> None:
        """Routes were used elsewhere."""
        for key, moment in used.items():
            entry = self.entries.get(key)
            if entry is not None and entry.last_activity < moment:
                entry.last_activity = moment

    def close(self) -> None:
        """Write the last times and let go of the file."""
        self.flush_activity()
        if self._journal is not None:
            self._journal.close()
