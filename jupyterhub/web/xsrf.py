"""Tokens against cross-site request forgery, for the Hub and for what runs beside a user's notebook (web §8).

A token is a signed *XSRF id*; the id names the browser session and who is logged in, so a token from before
a log-in, of another person or of another application is worth nothing. The browser keeps the token in the
cookie `_xsrf`, which scripts may read, and sends it back as an argument or a header.

Handlers say what their id is in the attribute `_xsrf_token_id`; everything else is here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import os
import re
from typing import Any, Protocol

from tornado.httputil import HTTPServerRequest
from tornado.log import app_log
from tornado.web import HTTPError, decode_signed_value

__all__ = [
    "COOKIE_NAME",
    "ProtectedHandler",
    "anonymous_id",
    "check_xsrf_cookie",
    "get_xsrf_token",
    "hub_xsrf_id",
    "is_top_level_load",
    "needs_check",
    "read_token_cookie",
    "set_xsrf_cookie",
]

COOKIE_NAME = "_xsrf"

#: How long a signature is accepted, in days (web §8).
SIGNATURE_MAX_AGE_DAYS = 31
#: Lifetime of the cookie of somebody who is not logged in, in seconds.
ANONYMOUS_MAX_AGE = 3600

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class ProtectedHandler(Protocol):
    """The part of a Tornado handler that is used here."""

    request: HTTPServerRequest

    @property
    def settings(self) -> dict[str, Any]: ...
    @property
    def _xsrf_token_id(self) -> str: ...

    def get_argument(self, name: str, default: Any = None) -> Any: ...
    def create_signed_value(self, name: str, value: str | bytes, version: int | None = None) -> bytes: ...
    def set_cookie(self, name: str, value: str | bytes, *args: Any, **kwargs: Any) -> None: ...


# -- ids -----------------------------------------------------------------------------------------------------


def _networks() -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """The networks whose addresses count as one, from JUPYTERHUB_XSRF_ANONYMOUS_IP_CIDRS.

    Entries that are no networks are logged and left out.
    """
    networks = []
    for text in os.environ.get("JUPYTERHUB_XSRF_ANONYMOUS_IP_CIDRS", "").split(";"):
        if text.strip():
            try:
                networks.append(ipaddress.ip_network(text.strip()))
            except ValueError as error:
                app_log.error("Ignoring a network in JUPYTERHUB_XSRF_ANONYMOUS_IP_CIDRS: %s", error)
    return networks


def _client_address(request: HTTPServerRequest) -> str:
    """The client's address, or the network it is counted as."""
    address = request.remote_ip or ""
    networks = _networks()
    if networks:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return address
        for network in networks:
            if parsed in network:
                return str(network)
    return address


def anonymous_id(request: HTTPServerRequest) -> str:
    """Return what tells one anonymous browser from another: a digest of its address and some headers.

    The headers are those of JUPYTERHUB_XSRF_ANONYMOUS_ID_HEADERS, by default `User-Agent` (web §8).
    """
    digest = hashlib.sha256(_client_address(request).encode("utf-8", "replace"))
    wanted = os.environ.get("JUPYTERHUB_XSRF_ANONYMOUS_ID_HEADERS", "User-Agent")
    for name in wanted.split(";"):
        if name.strip():
            value = request.headers.get(name.strip(), "")
            digest.update(value.encode("utf-8", "replace"))
            # A byte that no UTF-8 text contains: two headers cannot be confused with one longer one.
            digest.update(b"\xff")
    return base64.urlsafe_b64encode(digest.digest()).decode("ascii")


def hub_xsrf_id(request: HTTPServerRequest, session_id: str, cookie_id: str = "") -> str:
    """Return the id for a page of the Hub: of the user with this cookie id, or of a visitor (web §8)."""
    if cookie_id:
        return f"{session_id}:{cookie_id}"
    return f"{session_id or None}:{anonymous_id(request)}"


# -- which requests ------------------------------------------------------------------------------------------


def is_top_level_load(request: HTTPServerRequest) -> bool:
    """Return whether the browser opens a page, or does not say; a cookie is handed out only then."""
    return request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"


def needs_check(handler: ProtectedHandler) -> bool:
    """Return whether a request with a cookie has to prove where it comes from (rest-api §1.6).

    Not: WebSockets, whose origin is checked elsewhere; reading by opening a page; and reading without CORS
    from the very same origin. `no-cors` alone says nothing about the origin and is not enough.
    """
    request = handler.request
    mode = request.headers.get("Sec-Fetch-Mode") or "unspecified"
    if mode == "websocket":
        return False
    if request.method not in _READING:
        return True
    if mode in {"navigate", "unspecified"}:
        return False
    return not (mode == "no-cors" and request.headers.get("Sec-Fetch-Site") == "same-origin")


# -- tokens and the cookie -----------------------------------------------------------------------------------


def _as_bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")


def _create_token(handler: ProtectedHandler, xsrf_id: str | bytes) -> bytes:
    """Sign an id. The result is safe in cookies, URLs and HTML attributes."""
    signed = handler.create_signed_value(COOKIE_NAME, _as_bytes(xsrf_id), version=2)
    return base64.urlsafe_b64encode(signed).rstrip(b"=")


def _read_token(handler: ProtectedHandler, token: str | bytes) -> bytes | None:
    """Return the id in a token, or None if it was not signed by us or long ago."""
    text = _as_bytes(token)
    try:
        signed = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    return decode_signed_value(
        handler.settings["cookie_secret"],
        COOKIE_NAME,
        signed,
        max_age_days=SIGNATURE_MAX_AGE_DAYS,
        min_version=2,
    )


def read_token_cookie(handler: ProtectedHandler) -> tuple[bytes, bytes] | tuple[None, None]:
    """Return (token, id) of the first `_xsrf` cookie with a good signature, or (None, None).

    A browser sends several when cookies for different paths match, also one that somebody else planted;
    Python's parser would show only one of them, so the header is read here.
    """
    for header in handler.request.headers.get_list("Cookie"):
        for pair in re.split(r";\s*", header):
            name, separator, value = pair.strip().partition("=")
            if separator and name == COOKIE_NAME:
                value = value.strip('"')
                xsrf_id = _read_token(handler, value)
                if xsrf_id is not None:
                    return _as_bytes(value), xsrf_id
    return None, None


def set_xsrf_cookie(
    handler: ProtectedHandler,
    xsrf_id: str | bytes,
    *,
    cookie_path: str = "",
    authenticated: bool | None = None,
    xsrf_token: str | bytes | None = None,
) -> bytes:
    """Give the browser a token and return it.

    `xsrf_token` sends an existing one again, with a new lifetime. `authenticated` decides about that
    lifetime: the browser's session, or an hour for a visitor; by default it is whether the handler has a
    current user. Attributes come from the setting `xsrf_cookie_kwargs`, the path is always `cookie_path`.
    """
    token = _create_token(handler, xsrf_id) if xsrf_token is None else _as_bytes(xsrf_token)
    if authenticated is None:
        authenticated = bool(getattr(handler, "current_user", None))
    attributes: dict[str, Any] = {}
    if handler.request.protocol == "https":
        attributes["secure"] = True
    attributes.update(handler.settings.get("xsrf_cookie_kwargs") or {})
    attributes["path"] = cookie_path or attributes.get("path") or "/"
    if not authenticated:
        attributes.pop("expires_days", None)
        attributes["max_age"] = ANONYMOUS_MAX_AGE
    elif attributes.get("expires_days", 0) is None:
        del attributes["expires_days"]
    handler.set_cookie(COOKIE_NAME, token, **attributes)
    _remember(handler, xsrf_id, token)
    return token


def _remember(handler: ProtectedHandler, xsrf_id: str | bytes, token: bytes) -> None:
    # One answer must not contain two different tokens: a token depends on the second it is made in.
    handler._hub_xsrf = (_as_bytes(xsrf_id), token)  # type: ignore[attr-defined]


def get_xsrf_token(
    handler: ProtectedHandler, cookie_path: str = "", *, authenticated: bool | None = None
) -> bytes:
    """Return the token that forms and scripts of this answer have to send; make the cookie match it.

    The browser's own token is kept as long as it fits the present id. A new one is only handed out when a
    page is opened, as a script's request must not change what other tabs hold (web §8).
    """
    expected = _as_bytes(handler._xsrf_token_id)
    remembered = getattr(handler, "_hub_xsrf", None)
    if remembered is not None and remembered[0] == expected:
        token: bytes = remembered[1]
        return token
    cookie_token, cookie_id = read_token_cookie(handler)
    if cookie_token is not None and cookie_id == expected:
        _remember(handler, expected, cookie_token)
        return cookie_token
    if is_top_level_load(handler.request):
        return set_xsrf_cookie(handler, expected, cookie_path=cookie_path, authenticated=authenticated)
    token = _create_token(handler, expected)
    _remember(handler, expected, token)
    return token


def check_xsrf_cookie(handler: ProtectedHandler) -> None:
    """Refuse a request that may come from another site: HTTPError 403 (rest-api §1.6).

    Callers leave out requests that identify themselves by a token in a header. Two things are needed: a
    cookie for the present id, which shows that this browser was given a token, and a token from the page. A
    page that was opened before the cookie was renewed for the same person holds an older token with the
    same id; that is as good.
    """
    if not needs_check(handler):
        return
    request = handler.request
    given = (
        handler.get_argument(COOKIE_NAME, None)
        or request.headers.get("X-Xsrftoken")
        or request.headers.get("X-Csrftoken")
    )
    if not given:
        raise HTTPError(403, f"The '{COOKIE_NAME}' argument is missing from this {request.method} request")
    token, cookie_id = read_token_cookie(handler)
    expected = _as_bytes(handler._xsrf_token_id)
    if token is None or cookie_id is None or not hmac.compare_digest(cookie_id, expected):
        raise HTTPError(
            403,
            f"The {COOKIE_NAME} cookie does not match the session of this {request.method} request: reload",
        )
    if hmac.compare_digest(_as_bytes(given), token):
        return
    given_id = _read_token(handler, given)
    if given_id is None or not hmac.compare_digest(given_id, expected):
        raise HTTPError(
            403,
            f"The {COOKIE_NAME} argument does not match the cookie of this {request.method} request: reload",
        )
