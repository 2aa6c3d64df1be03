"""What a browser keeps for the Hub: names, paths, flags and signatures (web §9).

The signed values are Tornado's, so a cookie that JupyterHub 6 set with the same secret is still good here.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Protocol

from tornado.httputil import HTTPServerRequest
from tornado.web import create_signed_value

from .redirects import browser_protocol

SESSION_COOKIE = "jupyterhub-session-id"
SERVICES_COOKIE = "jupyterhub-services"
HOST_PREFIX = "__Host-"


class CookieSettings(Protocol):
    """The settings that decide about cookies; `runtime.context.HubContext` has them all."""

    @property
    def base_url(self) -> str: ...
    @property
    def hub_prefix(self) -> str: ...
    @property
    def domain(self) -> str: ...
    @property
    def subdomain_host(self) -> str: ...
    @property
    def public_url(self) -> Any: ...
    @property
    def cookie_options(self) -> dict[str, Any]: ...
    @property
    def cookie_host_prefix_enabled(self) -> bool: ...
    @property
    def cookie_max_age_days(self) -> float: ...


class Browser(Protocol):
    """The part of a Tornado handler that reads and sets cookies."""

    request: HTTPServerRequest

    def get_cookie(self, name: str, default: Any = None) -> str | None: ...
    def get_signed_cookie(
        self, name: str, value: str | None = None, max_age_days: float = 31, min_version: int | None = None
    ) -> bytes | None: ...
    def set_cookie(self, name: str, value: str | bytes, *args: Any, **kwargs: Any) -> None: ...
    def set_signed_cookie(self, name: str, value: str | bytes, *args: Any, **kwargs: Any) -> None: ...


def login_cookie_name(settings: CookieSettings, hub_cookie: str = "jupyterhub-hub-login") -> str:
    """Return the name of the log-in cookie, with the host prefix where that is switched on."""
    return HOST_PREFIX + hub_cookie if settings.cookie_host_prefix_enabled else hub_cookie


def is_https(settings: CookieSettings, request: HTTPServerRequest) -> bool:
    """Return whether the browser speaks https with us, as far as the public URL or the request say."""
    scheme = getattr(settings.public_url, "scheme", "")
    return (scheme or browser_protocol(request)) == "https"


def flags(
    settings: CookieSettings, request: HTTPServerRequest, name: str, overrides: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the attributes of one cookie: the Hub's, then `cookie_options`, then what the caller wants.

    A name with the host prefix is only accepted by browsers with path `/`, Secure and no domain, so it gets those.
    """
    result: dict[str, Any] = {"httponly": True}
    if is_https(settings, request):
        result["secure"] = True
    result.update(settings.cookie_options)
    result.update(overrides or {})
    if name.startswith(HOST_PREFIX):
        result.update(path="/", secure=True)
        result.pop("domain", None)
    return result


def set_cookie(
    browser: Browser, settings: CookieSettings, name: str, value: str, *, signed: bool = True, **overrides: Any
) -> None:
    """Set one cookie with the Hub's attributes. `signed` values are readable by the browser, but not forgeable."""
    attributes = flags(settings, browser.request, name, overrides)
    if signed:
        browser.set_signed_cookie(name, value, **attributes)
    else:
        if attributes.get("expires_days", 0) is None:
            del attributes["expires_days"]
        browser.set_cookie(name, value, **attributes)


def _session_scope(settings: CookieSettings) -> dict[str, Any]:
    scope: dict[str, Any] = {"path": settings.base_url}
    if settings.subdomain_host:
        scope["domain"] = settings.domain
    return scope


def session_id(browser: Browser) -> str:
    """Return the session id the browser sent, or ''."""
    return browser.get_cookie(SESSION_COOKIE) or ""


def start_session(browser: Browser, settings: CookieSettings) -> str:
    """Give the browser a session id (128 random bits) and return it. It lasts until the browser is closed."""
    value = secrets.token_hex(16)
    set_cookie(browser, settings, SESSION_COOKIE, value, signed=False, **_session_scope(settings))
    return value


def sign_login(secret: str | bytes | dict[int, str] | dict[int, bytes], name: str, cookie_id: str) -> str:
    """Return a log-in cookie's value, different each time.

    The payload is the same in every browser and the time stamp counts seconds, so two log-ins could share a value and
    ending one would end both. The key number, which is signed but means nothing with a single secret, tells them
    apart.
    """
    if isinstance(secret, dict):
        return create_signed_value(secret, name, cookie_id, key_version=max(secret)).decode("ascii")
    return create_signed_value(secret, name, cookie_id, key_version=1 + secrets.randbelow(2**31 - 1)).decode("ascii")


def set_login(browser: Browser, settings: CookieSettings, name: str, cookie_id: str, *, secret: str | bytes) -> None:
    """Log the browser in as the user with this cookie id, for as long as browsers keep signed cookies (30 days)."""
    attributes = flags(settings, browser.request, name, {"path": settings.hub_prefix})
    attributes.setdefault("expires_days", 30)
    if attributes["expires_days"] is None:
        del attributes["expires_days"]
    browser.set_cookie(name, sign_login(secret, name, cookie_id), **attributes)


def read_login(browser: Browser, settings: CookieSettings, name: str) -> tuple[str, str]:
    """Return (whole signed value, cookie id); the id is '' if the value is missing, forged or too old."""
    value = browser.get_cookie(name) or ""
    if not value:
        return "", ""
    payload = browser.get_signed_cookie(name, value, max_age_days=settings.cookie_max_age_days)
    try:
        return value, payload.decode("utf-8") if payload else ""
    except UnicodeDecodeError:
        return value, ""


def _expire(browser: Browser, name: str, scope: Mapping[str, Any]) -> None:
    browser.set_cookie(name, "", expires=_LONG_AGO, **scope)


#: A year before today would do as well; a fixed date keeps the header short to compare.
_LONG_AGO = 86400


def clear_login(browser: Browser, settings: CookieSettings, name: str) -> None:
    """Expire the log-in cookie alone, as after a bad or outdated one."""
    if name.startswith(HOST_PREFIX):
        _expire(browser, name, {"path": "/", "secure": True})
    else:
        _expire(browser, name, {"path": settings.hub_prefix})


def clear_all(browser: Browser, settings: CookieSettings, name: str) -> None:
    """Expire everything the Hub ever set in this browser: session id, log-in, services, XSRF token (web §10)."""
    _expire(browser, SESSION_COOKIE, _session_scope(settings))
    clear_login(browser, settings, name)
    _expire(browser, SERVICES_COOKIE, {"path": settings.base_url + "services"})
    _expire(browser, "_xsrf", {"path": settings.hub_prefix})
