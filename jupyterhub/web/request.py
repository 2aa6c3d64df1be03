"""A request to the Hub: settings, caller, scopes, XSRF token, cookies and headers. No page and no log-in yet."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from tornado import web
from tornado.web import RequestHandler

from .._version import INTERFACE_VERSION
from ..core.decisions import Decision
from ..core.scopes.algebra import AllType, Resource, ScopeSet
from ..runtime.context import HubContext
from . import cookies, identity, xsrf
from .redirects import browser_protocol

if TYPE_CHECKING:
    from ..runtime.access import Caller

_NOBODY = ScopeSet()


class HubRequestHandler(RequestHandler):
    """What pages and API share.

    `prepare` finds out who calls and then checks the XSRF token; an override awaits `super().prepare()`. Two class
    attributes choose by which means a caller may be identified; pages take cookies only (web §3).
    """

    _accept_cookie_auth = True
    _accept_token_auth = False
    #: Methods that change nothing and need no XSRF token. The API leaves out GET, as do pages that act on it (web §8).
    _xsrf_safe_methods: Collection[str] = frozenset({"GET", "HEAD", "OPTIONS"})

    #: What plugins see as the current user: a user wrapper, a service or None; unset until `prepare`.
    _jupyterhub_user: Any
    _identity: identity.Identity = identity.STRANGER
    _counts_as_activity = True

    # Settings. Read each time: the dictionary is live.

    @property
    def context(self) -> HubContext:
        """The typed view over the settings; made of them where a test of a plugin gave nothing else."""
        context: HubContext | None = self.settings.get("context")
        return context if context is not None else HubContext(self.settings)

    @property
    def log(self) -> logging.Logger:
        return self.context.log

    @property
    def hub(self) -> Any:
        return self.settings["hub"]

    @property
    def app(self) -> Any:
        return self.settings.get("app")

    @property
    def config(self) -> Any:
        return self.settings.get("config")

    @property
    def base_url(self) -> str:
        """Prefix of the whole deployment."""
        return self.context.base_url

    @property
    def hub_prefix(self) -> str:
        """Prefix of the Hub's own pages."""
        return self.context.hub_prefix

    @property
    def default_url(self) -> Any:
        return self.settings.get("default_url", "")

    @property
    def version_hash(self) -> str:
        return self.context.version_hash

    @property
    def domain(self) -> str:
        return self.context.domain

    @property
    def subdomain_host(self) -> str:
        return self.context.subdomain_host

    @property
    def public_url(self) -> Any:
        return self.context.public_url

    @property
    def users(self) -> Any:
        return self.settings["users"]

    @property
    def services(self) -> Any:
        return self.settings.get("services", {})

    @property
    def proxy(self) -> Any:
        return self.settings["proxy"]

    @property
    def authenticator(self) -> Any:
        return self.settings["authenticator"]

    @property
    def oauth_provider(self) -> Any:
        return self.settings.get("oauth_provider")

    @property
    def eventlog(self) -> Any:
        return self.settings.get("eventlog")

    @property
    def spawner_class(self) -> Any:
        return self.settings["spawner_class"]

    @property
    def allow_named_servers(self) -> bool:
        return self.context.allow_named_servers

    @property
    def named_server_limit_per_user(self) -> Any:
        return self.context.named_server_limit_per_user

    @property
    def default_server_name(self) -> str:
        return self.context.default_server_name

    @property
    def authenticate_prometheus(self) -> bool:
        return bool(self.settings.get("authenticate_prometheus", True))

    @property
    def db(self) -> Any:
        """The plugins' database session. Our own pages never ask for it; what is left in it is settled at the end."""
        self._used_plugin_session = True
        return self.context.database.plugin_session

    _used_plugin_session = False

    # Who calls

    async def prepare(self) -> None:
        """Identify the caller, then check the XSRF token. Raises 403 for a bad token."""
        await self._identify()
        if self.request.method not in self._xsrf_safe_methods:
            self.check_xsrf_cookie()

    async def _identify(self) -> None:
        found = None
        if self._accept_token_auth:
            found = await identity.by_token(self.context, self.request)
        if found is None and self._accept_cookie_auth:
            found = await self._identify_by_cookie()
        await self._take_identity(found or identity.STRANGER)

    async def _identify_by_cookie(self) -> identity.Identity | None:
        found = await identity.by_cookie(self, self.context)
        if found is not None and found.caller is None:
            self.log.info("A log-in cookie from %s is no longer good", self.request.remote_ip)
            cookies.clear_login(self, self.context, self._login_cookie)
        return found

    async def _take_identity(self, found: identity.Identity) -> None:
        if found.caller is not None and found.caller.kind == "user":
            found = await self._refreshed(found)
        self._identity = found
        self._jupyterhub_user = found.entity
        if found.caller is None:
            return
        if found.cookie_value and not self.get_session_cookie():
            self.set_session_cookie()
        if self._counts_as_activity:
            identity.note_activity(self.context, found)

    async def _refreshed(self, found: identity.Identity) -> identity.Identity:
        """Ask the authenticator whether an old log-in still stands. A token's outlives that, unless strict."""
        user = await self.context.logins.refresh(found.entity, self)
        if user is not None:
            return found
        if found.by_token and not getattr(self.authenticator, "auth_refresh_strict", False):
            return found
        self.log.warning("User %s has to log in again", found.entity.name)
        return identity.STRANGER

    @property
    def caller(self) -> Caller | None:
        """Who calls, with their scopes; None for a stranger."""
        return self._identity.caller

    @property
    def current_user(self) -> Any:
        """The user wrapper, a service, or None. Raises RuntimeError before `prepare`."""
        try:
            return self._jupyterhub_user
        except AttributeError:
            raise RuntimeError("current_user is not known before prepare() has run") from None

    @current_user.setter
    def current_user(self, value: Any) -> None:
        self._jupyterhub_user = value

    async def get_current_user(self) -> Any:
        """Return who calls, identifying them first if that has not happened."""
        if not hasattr(self, "_jupyterhub_user"):
            await self._identify()
        return self._jupyterhub_user

    @property
    def _token_authenticated(self) -> bool:
        return self._identity.by_token

    def get_auth_token(self) -> str | None:
        """Return the text of the token in the `Authorization` header, known or not; None without one."""
        return identity.header_token(self.request)

    def get_token(self) -> Any:
        """Return the record of the token that identified the caller, or None."""
        caller = self._identity.caller
        return caller.token if caller is not None else None

    def get_current_user_token(self) -> Any:
        """Return whoever a valid token identified, or None."""
        return self._identity.entity if self._identity.by_token else None

    async def get_current_user_cookie(self) -> Any:
        """Return the user of the log-in cookie, or None."""
        found = await self._identify_by_cookie()
        return found.entity if found else None

    # Scopes

    @property
    def held_scopes(self) -> ScopeSet | None:
        """The caller's scopes; None for a stranger."""
        caller = self._identity.caller
        return caller.scopes if caller is not None else None

    @property
    def expanded_scopes(self) -> frozenset[str]:
        """The caller's scopes as texts; empty for a stranger."""
        return (self.held_scopes or _NOBODY).expanded

    @property
    def parsed_scopes(self) -> dict[str, Any]:
        """Scope name → ALL, or kind of filter → values."""
        held = self.held_scopes or _NOBODY
        return {name: held.filter_for(name) for name in held.names}

    def has_scope(self, scope: str) -> bool:
        """Return whether the caller holds `name` or `name!kind=value`."""
        return bool((self.held_scopes or _NOBODY).covers(scope))

    def get_scope_filter(self, scope: str) -> Any:
        """Return a function (value, kind='user') → bool: does the caller's scope reach that object?

        Raises 403 when the scope is not held in any form.
        """
        filters = (self.held_scopes or _NOBODY).filter_for(scope)
        if not isinstance(filters, AllType) and not filters:
            raise web.HTTPError(403, f"This needs the permission {scope}")

        def reaches(value: Any, kind: str = "user") -> bool:
            name = getattr(value, "name", value)
            return isinstance(filters, AllType) or name in filters.get(kind, ())

        return reaches

    async def decide(
        self, any_of: Collection[str], resource: Resource | None = None, *, post_filter: bool = False
    ) -> Decision:
        """Return whether the caller holds any of the scopes for a resource, with the reason if not (rbac §9.5)."""
        return await self.context.access.decide(self.caller, any_of, resource, post_filter=post_filter)

    async def _resolve_roles_and_scopes(self) -> None:
        """Make the scopes those of `current_user`, as after a log-in inside this request."""
        user = self.current_user
        cookie_id = getattr(user, "cookie_id", None)
        caller = await self.context.access.identify_login(cookie_id) if cookie_id else None
        self._identity = identity.Identity(caller, user, self._identity.by_token, self._identity.cookie_value)

    # XSRF

    @property
    def _xsrf_token_id(self) -> str:
        """What the XSRF token is bound to: the session, and the log-in or where the stranger comes from (web §8)."""
        user = getattr(self, "_jupyterhub_user", None)
        cookie_id = getattr(user, "cookie_id", "") if user is not None else ""
        return xsrf.hub_xsrf_id(self.request, self.get_session_cookie() or "", cookie_id)

    @property
    def xsrf_token(self) -> bytes:
        """The token for forms and scripts. Asking for it sets the cookie on a navigation where that is due."""
        if not hasattr(self, "_jupyterhub_user"):
            return b""
        return xsrf.get_xsrf_token(self, cookie_path=self.hub_prefix)

    def _renew_xsrf_cookie(self, *, prolong: bool = False) -> None:
        """Send the XSRF cookie if the browser's one does not fit, or again with a new lifetime (`prolong`)."""
        token, xsrf_id = xsrf.read_token_cookie(self)
        expected = self._xsrf_token_id
        fits = xsrf_id == expected.encode()
        if fits and not prolong:
            return
        xsrf.set_xsrf_cookie(self, expected, cookie_path=self.hub_prefix, xsrf_token=token if fits else None)

    def check_xsrf_cookie(self) -> None:
        """Raise 403 unless the request may be made with the browser's cookies.

        Tornado calls this before `prepare`, when nobody knows yet who calls; it is checked for good inside `prepare`.
        """
        if not hasattr(self, "_jupyterhub_user"):
            return
        if not self.settings.get("xsrf_cookies", True) or self._token_authenticated:
            return
        xsrf.check_xsrf_cookie(self)

    # Cookies

    @property
    def _login_cookie(self) -> str:
        return cookies.login_cookie_name(self.context, self.hub.cookie_name)

    def get_session_cookie(self) -> str | None:
        """Return this browser's session id, also one given to it by this very response; None without one."""
        return getattr(self, "_session_id", None) or cookies.session_id(self) or None

    def set_session_cookie(self) -> str:
        """Give this browser a new session id and return it."""
        self._session_id = cookies.start_session(self, self.context)
        return self._session_id

    def _set_cookie(self, key: str, value: str, encrypted: bool = True, **overrides: Any) -> None:
        """Set a cookie with the Hub's attributes; `encrypted` means signed."""
        cookies.set_cookie(self, self.context, key, value, signed=encrypted, **overrides)

    def set_hub_cookie(self, user: Any) -> None:
        """Log this browser in as `user`."""
        cookies.set_login(self, self.context, self._login_cookie, user.cookie_id, secret=self.context.cookie_secret)

    def _set_user_cookie(self, user: Any, server: Any) -> None:
        self._set_cookie(server.cookie_name, user.cookie_id, path=server.base_url)

    def set_service_cookie(self, user: Any) -> None:
        """Do nothing: services have cookies of their own. Kept for old code that calls it."""

    # Headers

    @property
    def csp_report_uri(self) -> str:
        return f"{self.hub_prefix}security/csp-report"

    @property
    def content_security_policy(self) -> str:
        return f"frame-ancestors 'none'; report-uri {self.csp_report_uri}"

    def get_content_type(self) -> str:
        """Return the media type of answers: without a charset, which the document names itself."""
        return "text/html"

    def set_default_headers(self) -> None:
        """Headers of every answer; `tornado_settings["headers"]` win (web §2)."""
        headers: Mapping[str, str] = self.settings.get("headers") or {}
        self.set_header("X-JupyterHub-Version", INTERFACE_VERSION)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "same-origin")
        for configured, value in headers.items():
            self.set_header(configured, value)
        given = {name.lower() for name in headers}
        if "access-control-allow-headers" not in given:
            self.set_header("Access-Control-Allow-Headers", "accept, content-type, authorization")
        if "content-security-policy" not in given:
            self.set_header("Content-Security-Policy", self.content_security_policy)
        if "content-type" not in given:
            self.set_header("Content-Type", self.get_content_type())

    def get_browser_protocol(self) -> str:
        """Return 'http' or 'https' as the browser sees it."""
        return browser_protocol(self.request)

    # The end

    def finish(self, chunk: Any = None) -> Any:
        """Settle what a plugin's handler left in its database session, then send the answer."""
        self._settle_plugin_session(failed=self.get_status() >= 500)
        return super().finish(chunk)

    def _settle_plugin_session(self, *, failed: bool) -> None:
        database = getattr(self.context, "database", None)
        foreign = not type(self).__module__.startswith("jupyterhub.")
        if database is not None and (self._used_plugin_session or foreign) and database.has_plugin_session:
            self._used_plugin_session = False
            database.settle_plugin_session(f"handler {type(self).__qualname__}", failed=failed)


def new_reference() -> str:
    """Return a short code by which an error on a page is found again in the log."""
    return secrets.token_hex(4)
