"""Pages and hooks that make a Jupyter Server ask the Hub (cli §2.7, web §12).

Health. `GET {prefix}api/status` tells a user's data, so strangers get 403. A spawner that watches over its
servers asks for it without a token, from the Hub's machine and not through the proxy; it is answered with
``{"status": "ok"}`` and nothing else. Such a request carries no credentials and no header that a proxy
adds, and comes from this machine or from the Hub's address. `GET {prefix}api` says as much to everybody.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from typing import Any
from urllib.parse import urlsplit

from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.services.api.handlers import APIStatusHandler
from tornado import web
from tornado.httputil import HTTPServerRequest
from tornado.routing import Rule

from ..core.urls import url_path_join
from ..services._identity import UserNotAllowed
from ..services.auth import HubOAuth, HubOAuthCallbackHandler, begin_login
from ..web import xsrf

__all__ = [
    "JupyterHubLogoutHandler",
    "JupyterHubOAuthCallbackHandler",
    "JupyterHubStatusHandler",
    "guard_routes",
    "install_hooks",
    "raise_if_refused",
]

#: Headers that tell of a proxy on the way. `configurable-http-proxy` and ours always add some of them.
_PROXY_HEADERS = (
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Port",
    "X-Real-Ip",
    "X-Scheme",
    "Forwarded",
    "Via",
)


def hub_auth_of(handler: Any) -> HubOAuth | None:
    """Return what asks the Hub for this handler's server, or None for a server without a Hub."""
    auth = getattr(handler.settings.get("identity_provider"), "hub_auth", None)
    return auth if isinstance(auth, HubOAuth) else None


def raise_if_refused(handler: Any) -> None:
    """Raise HTTPError 403 if the Hub knows the visitor, but gives no access here (oauth §12)."""
    refusal = getattr(handler, "_hub_refused", None)
    if isinstance(refusal, UserNotAllowed):
        kind = str(refusal.model.get("kind", "user")).title()
        raise web.HTTPError(403, f"{kind} {refusal.model.get('name')} has no access to this server")


class JupyterHubOAuthCallbackHandler(HubOAuthCallbackHandler, JupyterHandler):
    """The end of a log-in, with the pages of Jupyter Server for what goes wrong."""

    def initialize(self) -> None:
        """Use the object that the rest of the server uses."""
        auth = hub_auth_of(self)
        if auth is None:
            raise RuntimeError("This server has no Hub that could log anybody in")
        self.hub_auth = auth

    def _admit(self, model: dict[str, Any] | None) -> dict[str, Any] | None:
        # Whoever has no access is told so by the page they come back to.
        return model


class JupyterHubLogoutHandler(JupyterHandler):
    """Takes the token out of the browser and goes on to the Hub's log-out (cli §2.7)."""

    @allow_unauthenticated  # type: ignore[untyped-decorator, unused-ignore]
    def get(self) -> None:
        """Log out."""
        auth = hub_auth_of(self)
        if auth is None:
            raise web.HTTPError(404)
        auth.clear_cookie(self)
        self.redirect(auth.hub_host + url_path_join(auth.hub_prefix, "logout"))


class JupyterHubStatusHandler(APIStatusHandler):  # type: ignore[misc, unused-ignore]
    """The status of the server, and the bare fact that it runs for the Hub's health check."""

    async def prepare(self) -> None:  # type: ignore[override]
        """Answer a health check at once; everybody else has to log in."""
        if self.request.method in {"GET", "HEAD"} and is_health_check(self.request, self.settings):
            self.set_header("Content-Type", "application/json")
            web.RequestHandler.finish(self, json.dumps({"status": "ok"}))
            return
        await super().prepare()


def is_health_check(request: HTTPServerRequest, settings: dict[str, Any]) -> bool:
    """Return whether a request is one of the Hub's health checker, as the module's text says."""
    headers = request.headers
    if "Authorization" in headers or "Cookie" in headers or request.query_arguments.get("token"):
        return False
    if any(name in headers for name in _PROXY_HEADERS):
        return False
    try:
        address = ipaddress.ip_address(request.remote_ip or "")
    except ValueError:
        return False
    return address.is_loopback or str(address) in settings.get("jupyterhub_hub_addresses", ())


def hub_addresses(api_url: str) -> frozenset[str]:
    """Return the addresses of the Hub's host; empty if its name is not known here. It may wait for DNS."""
    host = urlsplit(api_url).hostname
    if not host:
        return frozenset()
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return frozenset()
    return frozenset(str(entry[4][0]) for entry in found)


# -- hooks into Jupyter Server's handlers --------------------------------------------------------------------


def install_hooks(base: type[Any] = JupyterHandler) -> None:
    """Make a class of handlers log in at the Hub, when their server has one. Calling it again changes
    nothing.

    Jupyter Server lets an identity provider say who a visitor is, but not where to log in, nor which XSRF
    tokens are good; those come from methods of the handler.
    """
    if "_hub_hooks" in vars(base):
        return
    original_login_url, original_check = base.get_login_url, base.check_xsrf_cookie
    original_token = base.xsrf_token

    def get_login_url(self: Any) -> str:
        auth = hub_auth_of(self)
        if auth is None:
            return str(original_login_url(self))
        raise_if_refused(self)
        if "Upgrade" in self.request.headers:
            # A WebSocket cannot follow to a page with a form.
            raise web.HTTPError(403)
        if not hasattr(self, "_hub_login_url"):
            self._hub_login_url = begin_login(auth, self)
        return str(self._hub_login_url)

    def check_xsrf_cookie(self: Any) -> None:
        auth = hub_auth_of(self)
        if auth is None:
            original_check(self)
        elif hasattr(self, "_jupyter_current_user"):
            # Before that Tornado asks too early: a token in a header is not known yet.
            auth.check_xsrf_cookie(self)

    check_xsrf_cookie._asks_hub_auth = True  # type: ignore[attr-defined]

    def xsrf_token(self: Any) -> bytes:
        auth = hub_auth_of(self)
        if auth is None:
            return bytes(original_token.fget(self))
        known = bool(getattr(self, "_jupyter_current_user", None))
        return xsrf.get_xsrf_token(self, cookie_path=auth.base_url, authenticated=known)

    def xsrf_token_id(self: Any) -> str:
        auth = hub_auth_of(self)
        return "" if auth is None else auth._xsrf_id(self)

    base.get_login_url = get_login_url
    base.check_xsrf_cookie = check_xsrf_cookie
    base.xsrf_token = property(xsrf_token)
    base._xsrf_token_id = property(xsrf_token_id)
    base._hub_hooks = True


# -- handlers that do not ask at all -------------------------------------------------------------------------


class _Guard:
    """Mixin that lets only people with access reach a handler which does not ask who they are."""

    async def prepare(self) -> None:
        """Identify the visitor before anything else happens."""
        handler: Any = self
        user = await handler.settings["identity_provider"].get_user(handler)
        if user is None:
            raise_if_refused(handler)
            auth = hub_auth_of(handler)
            wants_page = (
                handler.request.method in {"GET", "HEAD"} and "Upgrade" not in handler.request.headers
            )
            if auth is None or not wants_page:
                raise web.HTTPError(403)
            handler.redirect(begin_login(auth, handler))
            return
        handler.current_user = user
        result = super().prepare()  # type: ignore[misc]
        if result is not None:
            await result


def _is_open(handler_class: type[web.RequestHandler]) -> bool:
    """Whether a class of handlers would answer strangers with more than a redirect or an error."""
    if issubclass(handler_class, JupyterHandler | _Guard):
        # Those ask in `prepare`, by the setting `allow_unauthenticated_access`.
        return False
    if handler_class in (web.RedirectHandler, web.ErrorHandler):
        return False
    for name in handler_class.SUPPORTED_METHODS:
        method = getattr(handler_class, name.lower())
        known = method is web.RequestHandler._unimplemented_method or hasattr(
            method, "__allow_unauthenticated"
        )
        if not known:
            return True
    return False


def _guarded(handler_class: Any) -> Any:
    if (
        isinstance(handler_class, type)
        and issubclass(handler_class, web.RequestHandler)
        and _is_open(handler_class)
    ):
        names = {"__module__": handler_class.__module__, "__doc__": handler_class.__doc__}
        return type(handler_class.__name__, (_Guard, handler_class), names)
    return handler_class


def _guard_rules(router: Any) -> None:
    for rule in router.rules:
        rule.target = _guarded(rule.target)
        if hasattr(rule.target, "rules"):
            _guard_rules(rule.target)


def guard_routes(app: web.Application) -> None:
    """See to it that every handler, of this or any other extension, now or later, turns strangers away.

    Handlers of Jupyter Server do that themselves; extensions may bring others (advisory CVE-2024-28179).
    """
    _guard_rules(app.default_router)
    add_handlers = app.add_handlers

    def add_guarded(host_pattern: str, host_handlers: Any) -> Any:
        rules: list[Any] = []
        for rule in host_handlers:
            if isinstance(rule, Rule):
                rule.target = _guarded(rule.target)
                rules.append(rule)
            else:
                rules.append((rule[0], _guarded(rule[1]), *rule[2:]))
        return add_handlers(host_pattern, rules)

    app.add_handlers = add_guarded  # type: ignore[method-assign]
