"""Log lines: a formatter that hides the plumbing of coroutines, scrubbing of secrets, one line per request."""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Collection, Mapping
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import quote, unquote_plus, urlsplit, urlunsplit

from tornado.log import LogFormatter, access_log
from tornado.web import StaticFileHandler

__all__ = ["DEFAULT_DATE_FORMAT", "DEFAULT_LOG_FORMAT", "QUIET_PATHS", "CoroutineLogFormatter", "log_request"]

DEFAULT_LOG_FORMAT = (
    "%(color)s[%(levelname)1.1s %(asctime)s.%(msecs).03d %(name)s %(module)s:%(lineno)d]%(end_color)s %(message)s"
)
DEFAULT_DATE_FORMAT = "%Y-%m-%d %H:%M:%S"

QUIET_PATHS = ("/health",)
"""Ends of paths whose successful requests are not worth a line at the usual level."""

_PLUMBING = re.compile(
    r"[/\\](tornado[/\\](gen|concurrent|ioloop|stack_context|platform[/\\]\w+)\.py"
    r"|asyncio[/\\]\w+\.py|concurrent[/\\]futures[/\\]\w+\.py|types\.py)$"
)


class CoroutineLogFormatter(LogFormatter):
    """Tornado's formatter, with tracebacks reduced to the frames that say something (metrics §3)."""

    def formatException(self, ei: Any) -> str:
        """The traceback without frames of the libraries that drive coroutines."""
        kind, error, trace = ei
        if error is None:
            return super().formatException(ei)
        shown = traceback.TracebackException(kind, error, trace)
        self._strip(shown)
        return "".join(shown.format()).rstrip("\n")

    def _strip(self, shown: traceback.TracebackException) -> None:
        queue: list[traceback.TracebackException | None] = [shown]
        seen: set[int] = set()
        while queue:
            one = queue.pop()
            if one is None or id(one) in seen:
                continue
            seen.add(id(one))
            kept = [frame for frame in one.stack if not _PLUMBING.search(frame.filename)]
            if kept:
                one.stack[:] = kept
            queue += [one.__cause__, one.__context__]


_SECRET_PARAMETERS = ("token", "auth", "key", "code", "state", "_xsrf")
_SECRET_PATHS = ("/api/authorizations/token/", "/api/authorizations/cookie/")


def _scrub_uri(uri: str) -> str:
    """The URI with values of telling parameters, and secrets in paths, replaced by ``[secret]`` (metrics §3)."""
    if not any(marker in uri.lower() for marker in ("?", "/authorizations/")):
        return uri
    parts = urlsplit(uri)
    path, query, fragment = parts.path, parts.query, parts.fragment
    for prefix in _SECRET_PATHS:
        if prefix in path:
            head, _, _ = path.rpartition("/")
            path = f"{head}/[secret]"
    if query:
        query = "&".join(_scrub_parameter(part) for part in query.split("&"))
    if "=" in fragment:
        fragment = "&".join(_scrub_parameter(part) for part in fragment.split("&"))
    return urlunsplit((parts.scheme, parts.netloc, path, query, fragment))


def _scrub_parameter(part: str) -> str:
    name, equals, value = part.partition("=")
    readable = unquote_plus(name).lower()
    if any(word in readable for word in _SECRET_PARAMETERS):
        return f"{name}=[secret]"
    if "?" in value or "%3f" in value.lower():
        # A `next` parameter may carry an address with secrets of its own.
        inner = unquote_plus(value)
        scrubbed = _scrub_uri(inner)
        if scrubbed != inner:
            value = quote(scrubbed, safe="/[]")
    return f"{name}{equals}{value}"


def _scrub_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers as a dictionary that can be logged: no credentials, cookies by name only."""
    shown = dict(headers)
    for name in list(shown):
        lower = name.lower()
        if lower in ("authorization", "proxy-authorization"):
            scheme, space, _ = shown[name].partition(" ")
            shown[name] = f"{scheme if space else ''} [secret]"
        elif lower == "cookie":
            shown[name] = "; ".join(f"{cookie}=[secret]" for cookie in _cookie_names(shown[name]))
        elif lower in ("x-xsrftoken", "x-csrftoken"):
            shown[name] = "[secret]"
        elif lower == "referer":
            shown[name] = _scrub_uri(shown[name])
    return shown


def _cookie_names(text: str) -> list[str]:
    try:
        names = list(SimpleCookie(text))
    except Exception:
        names = []
    return names or [part.partition("=")[0].strip() for part in text.split(";") if "=" in part]


def _name_of(user: Any) -> str:
    """The name of whatever a handler calls its user."""
    if user is None:
        return ""
    if isinstance(user, Mapping):
        return str(user.get("name") or user.get("username") or "unknown")
    if isinstance(user, str):
        return user
    for attribute in ("name", "username"):
        name = getattr(user, attribute, None)
        if name:
            return str(name)
    return "unknown"


def _user_of(handler: Any) -> str:
    # Logging must not start an identification that has not happened; it may even be a coroutine function.
    for attribute in ("_jupyterhub_user", "_current_user"):
        user = getattr(handler, attribute, None)
        if user is not None and not isinstance(user, type):
            return _name_of(user)
    return ""


def log_request(handler: Any, quiet_paths: Collection[str] = QUIET_PATHS) -> None:
    """Log one finished request of a Tornado handler (metrics §3); meant as `log_function`.

    Successful requests for static files, and for paths that end in one of `quiet_paths`, go to debug.
    """
    status = handler.get_status()
    request = handler.request
    milliseconds = 1000.0 * request.request_time()
    level: int = logging.INFO
    if status == 304 or (
        status < 300
        and (isinstance(handler, StaticFileHandler) or any(request.path.endswith(end) for end in quiet_paths))
    ):
        level = logging.DEBUG
    elif status >= 500:
        level = logging.ERROR
    elif status >= 400:
        level = logging.WARNING
    if milliseconds >= 1000:
        # Whatever is slow is worth a line.
        level = max(level, logging.INFO)
    log = getattr(handler, "log", None) or access_log
    if not log.isEnabledFor(level):
        return
    if status >= 500 and status not in (502, 503):
        log.log(level, "%s", json.dumps(_scrub_headers(request.headers), indent=2))
    location = ""
    if status in (301, 302):
        target = handler._headers.get("Location")
        if target:
            location = f" -> {_scrub_uri(target)}"
    log.log(
        level,
        "%d %s %s%s (%s@%s) %.2fms",
        status,
        request.method,
        _scrub_uri(request.uri),
        location,
        _user_of(handler),
        request.remote_ip,
        milliseconds,
    )
