"""The REST API that sets the routes (services-and-proxy C)."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from .metrics import CONTENT_TYPE
from .smallhttp import Reply, Request
from .table import normal_path, parse_time

if TYPE_CHECKING:
    from .log import Log
    from .metrics import Metrics
    from .table import Routes

__all__ = ["RouteAPI", "metrics_reply", "redirect_reply"]

_ROOT = "/api/routes"
_TOKEN = re.compile(r"token\s+(\S+)")


class RouteAPI:
    """Answers requests on the API's port."""

    def __init__(
        self,
        routes: Routes,
        metrics: Metrics,
        log: Log,
        token: str | None,
        publish: Callable[..., Awaitable[None]] | None = None,
        refresh: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`publish` brings a change to other processes, `refresh` fetches from them what routes were used when."""
        self._routes = routes
        self._metrics = metrics
        self._log = log
        self._token = token
        self._publish = publish
        self._refresh = refresh

    def answer(self, request: Request) -> Reply | Awaitable[Reply]:
        """One request, one reply, one line in the log. With other processes the reply waits for them."""
        if request.method == "GET" and self._refresh is not None and self._allowed(request):
            return self._answer_fresh(request, self._refresh)
        reply = self._answer(request)
        if self._publish is not None and reply.status in (201, 204):
            return self._answer_published(request, reply, self._publish)
        return self._noted(request, reply)

    async def _answer_fresh(self, request: Request, refresh: Callable[[], Awaitable[None]]) -> Reply:
        await refresh()
        return self._noted(request, self._answer(request))

    async def _answer_published(self, request: Request, reply: Reply, publish: Callable[..., Awaitable[None]]) -> Reply:
        key = normal_path(request.path[len(_ROOT) :])
        entry = self._routes.entries.get(key)
        if entry is not None:
            await publish("add", key, entry.body, entry.last_activity)
        else:
            await publish("delete", key)
        return self._noted(request, reply)

    def _noted(self, request: Request, reply: Reply) -> Reply:
        counts = self._metrics.requests_api
        counts[reply.status] = counts.get(reply.status, 0) + 1
        line = f"{reply.status} {request.method} {request.path} "
        if reply.status < 400:
            self._log.info(line)
        else:
            self._log.warn(line)
        return reply

    def _answer(self, request: Request) -> Reply:
        if request.path != _ROOT and not request.path.startswith(_ROOT + "/"):
            return Reply(404, b"Not Found", "text/plain")
        if request.method not in ("GET", "HEAD", "POST", "DELETE"):
            return Reply(405, b"Method Not Allowed", "text/plain", {"Allow": "GET, POST, DELETE"})
        body: Any = None
        if request.method == "POST":
            # The body is looked at before the token; clients know this order (services-and-proxy C).
            try:
                body = json.loads(request.body) if request.body else {}
            except ValueError:
                return Reply(400, b"Body not valid JSON", "text/plain")
        if not self._allowed(request):
            return Reply(403)
        path = request.path[len(_ROOT) :]
        if request.method == "POST":
            return self._add(path, body)
        if request.method == "DELETE":
            return self._delete(path)
        if path in ("", "/"):
            return self._list(request)
        entry = self._routes.entries.get(normal_path(path))
        return _json(entry.to_json()) if entry is not None else Reply(404)

    def _allowed(self, request: Request) -> bool:
        if not self._token:
            return True
        found = _TOKEN.search(request.headers.get("authorization", ""))
        return found is not None and hmac.compare_digest(
            found[1].encode("utf-8", "replace"), self._token.encode("utf-8", "replace")
        )

    def _list(self, request: Request) -> Reply:
        query = parse_qs(request.query, keep_blank_values=True)
        since = query.get("inactive_since") or query.get("inactiveSince")
        before: float | None = None
        if since is not None:
            try:
                before = parse_time(since[0])
            except ValueError:
                return Reply(400, b"Invalid time: write it in ISO 8601", "text/plain")
        self._metrics.api_route_get += 1
        entries = self._routes.entries
        return _json({key: e.to_json() for key, e in entries.items() if before is None or e.last_activity < before})

    def _add(self, path: str, body: Any) -> Reply:
        if not isinstance(body, dict) or not isinstance(body.get("target"), str):
            return Reply(400, b"Must specify 'target' as string", "text/plain")
        key = normal_path(path)
        self._routes.add(key, body)
        self._metrics.api_route_add += 1
        self._log.info(f"Adding route {key} -> {body['target']}")
        return Reply(201)

    def _delete(self, path: str) -> Reply:
        key = normal_path(path)
        self._metrics.api_route_delete += 1
        if not self._routes.delete(key):
            return Reply(404)
        self._log.info(f"Removing route {key}")
        return Reply(204)


def _json(value: Any) -> Reply:
    return Reply(200, json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"), "application/json")


def metrics_reply(render: Callable[[], str | Awaitable[str]], request: Request) -> Reply | Awaitable[Reply]:
    """The metrics port knows one path."""
    if request.path != "/metrics" or request.method not in ("GET", "HEAD"):
        return Reply(404, b"Not Found", "text/plain")
    text = render()
    return Reply(200, text.encode(), CONTENT_TYPE) if isinstance(text, str) else _metrics_of_all(text)


async def _metrics_of_all(text: Awaitable[str]) -> Reply:
    return Reply(200, (await text).encode(), CONTENT_TYPE)


def redirect_reply(port: int | None, request: Request) -> Reply:
    """Send a visitor of the plain port to https. `port` None: the usual one."""
    host = request.headers.get("host", "")
    name = host.rpartition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    if not name:
        return Reply(400, b"This server speaks https; without a Host header it cannot say where", "text/plain")
    place = name if port is None else f"{name}:{port}"
    url = request.url if request.url.startswith("/") else request.path or "/"
    return Reply(301, headers={"Location": f"https://{place}{quote(url, safe=_URL_SIGNS)}"})


_URL_SIGNS = "!#$%&'()*+,/:;=?@[]~"
