"""Helpers by their public names, for plugins and for code beside the user's server (plugins §10).

A face: everything lives elsewhere, and nothing of ours imports this module. It is imported inside people's images, so
it brings no database library along.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from typing import Any

from .aio import (
    AnyTimeoutError,
    asyncio_all_tasks,
    asyncio_current_task,
    exponential_backoff,
    iterate_until,
    maybe_future,
)
from .core.clock import isoformat, utcnow
from .core.overrides import recursive_update
from .core.secrets import compare_token, hash_token, new_token
from .core.urls import (
    fmt_ip_url,
    subdomain_hook_idna,
    subdomain_hook_legacy,
    url_escape_path,
    url_path_join,
)
from .diagnostics import print_ps_info, print_stacks
from .net import can_connect, make_ssl_context, random_port, wait_for_http_server, wait_for_server
from .web.authz import admin_only, auth_decorator, authenticated_403, metrics_authentication, token_authenticated
from .web.redirects import browser_protocol as get_browser_protocol

__all__ = [
    "AnyTimeoutError",
    "admin_only",
    "asyncio_all_tasks",
    "asyncio_current_task",
    "auth_decorator",
    "authenticated_403",
    "can_connect",
    "catch_db_error",
    "compare_token",
    "exponential_backoff",
    "fmt_ip_url",
    "format_exception",
    "get_accepted_mimetype",
    "get_browser_protocol",
    "hash_token",
    "isoformat",
    "iterate_until",
    "make_ssl_context",
    "maybe_future",
    "metrics_authentication",
    "new_token",
    "print_ps_info",
    "print_stacks",
    "random_port",
    "recursive_update",
    "safe_log",
    "subdomain_hook_idna",
    "subdomain_hook_legacy",
    "token_authenticated",
    "url_escape_path",
    "url_path_join",
    "utcnow",
    "wait_for_http_server",
    "wait_for_server",
]

#: Characters of something from outside that are worth logging.
LONGEST_LOGGED = 200


def format_exception(error: BaseException, *, only_jupyterhub: bool = False) -> tuple[str, str | None]:
    """Return (text, HTML or None) that an exception has for people: its own message, else what it is."""
    message = getattr(error, "jupyterhub_message", None)
    html = getattr(error, "jupyterhub_html_message", None)
    if message is None and not only_jupyterhub:
        message = "".join(traceback.format_exception_only(type(error), error)).strip()
    return message or "", html


def safe_log(text: Any) -> str:
    """Return a text from outside as it may stand in a log: on one line, and not without end."""
    line = repr(text)
    return line if len(line) <= LONGEST_LOGGED else f"{line[:LONGEST_LOGGED]}… ({len(line)} characters)"


def get_accepted_mimetype(accept_header: str, choices: Any = None) -> str | None:
    """Return the media type that an Accept header prefers, of `choices` if given; None when it wants none of them."""
    wanted: list[tuple[float, int, str]] = []
    for position, part in enumerate(accept_header.split(",")):
        kind, _, parameters = part.strip().partition(";")
        quality = 1.0
        for parameter in parameters.split(";"):
            name, _, value = parameter.strip().partition("=")
            if name == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
        if kind and quality > 0:
            wanted.append((-quality, position, kind.strip()))
    for _, _, kind in sorted(wanted):
        if choices is None or kind in choices:
            return kind
        if kind == "*/*" and choices:
            return str(next(iter(choices)))
    return None


def catch_db_error(method: Any) -> Any:
    """Decorate a function of a plugin so that an error of the database rolls its session back and is logged."""
    import functools

    @functools.wraps(method)
    def caught(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            result = method(self, *args, **kwargs)
        except Exception as error:
            _roll_back(self, method, error)
            return None
        if asyncio.iscoroutine(result):
            return _caught_later(self, method, result)
        return result

    return caught


async def _caught_later(owner: Any, method: Any, result: Any) -> Any:
    try:
        return await result
    except Exception as error:
        _roll_back(owner, method, error)
        return None


def _roll_back(owner: Any, method: Any, error: Exception) -> None:
    """Roll back after an error of the database; raise any other."""
    # Where nobody has loaded the database library, it cannot have raised anything; this module must not load it.
    library = sys.modules.get("sqlalchemy.exc")
    if library is None or not isinstance(error, library.SQLAlchemyError):
        raise error
    owner.log.error("The database failed in %s", method.__name__, exc_info=error)
    owner.db.rollback()
