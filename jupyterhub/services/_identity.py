"""Who sent a request: asking the Hub about a token (oauth §10.1 to §10.4).

Public names are in `jupyterhub.services.auth`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from tornado.httpclient import HTTPResponse
from tornado.httputil import HTTPServerRequest
from tornado.log import app_log
from tornado.web import HTTPError, RequestHandler
from traitlets import Bool, Dict, Instance, Integer, Set, TraitError, Unicode, default, observe, validate
from traitlets.config import SingletonConfigurable

from ..core.errors import HubError
from ..core.scopes.algebra import ScopeSet
from ..core.secrets import fingerprint
from ..core.urls import normalise_base_url, url_path_join
from ._hubclient import ExpiringCache, HubUnreachable, fetch, run_blocking

SESSION_COOKIE = "jupyterhub-session-id"

#: Anything else cannot be a token, and must not get into a header of a request to the Hub.
_TOKEN = re.compile(r"[\x21-\x7e]{1,1024}")

#: What the Hub says about the owner of a token (rest-api, GET /user).
UserModel = dict[str, Any]


def env_bool(name: str, value: bool) -> bool:
    """Read a switch: unset or empty is `value`; 0 and false are off; everything else is on (config §3)."""
    text = os.environ.get(name, "")
    return value if not text else text.lower() not in {"0", "false"}


def _parse_scopes(scopes: Iterable[str]) -> ScopeSet:
    """Read scopes of which some may be of a kind we do not know; those grant nothing."""
    known: list[str] = []
    for scope in scopes:
        try:
            ScopeSet.parse(scope)
        except HubError:
            app_log.warning("Ignoring a scope that cannot be read: %r", scope)
        else:
            known.append(scope)
    return ScopeSet.parse(known)


def check_scopes(required_scopes: str | Iterable[str], scopes: Iterable[str]) -> set[str]:
    """Return those of the required scopes that `scopes` fully grants; true if access is allowed (oauth
    §10.1).

    A scope for a user grants that for the user's servers; a scope for a group only what is for that very
    group, as this side does not know who is in it.
    """
    required = {required_scopes} if isinstance(required_scopes, str) else set(required_scopes)
    held = _parse_scopes(scopes)
    return {scope for scope in required if held.covers(scope)}


class UserNotAllowed(Exception):
    """Somebody the Hub knows, but who has no access here. `model` is what the Hub says about them."""

    def __init__(self, model: UserModel) -> None:
        super().__init__(model)
        self.model = model

    def __str__(self) -> str:
        return f"{self.model.get('kind', 'user')} {self.model.get('name')!r} has no access here"


def browser_scheme(request: HTTPServerRequest) -> str:
    """The scheme the browser used, as the first proxy on the way says (web §9)."""
    headers = request.headers
    forwarded = headers.get("Forwarded", "").split(",")[0]
    for item in forwarded.split(";"):
        name, _, value = item.strip().partition("=")
        if name.lower() == "proto" and value:
            return value.strip('" ').lower()
    for name in ("X-Scheme", "X-Forwarded-Proto"):
        first = headers.get(name, "").split(",")[0].strip().lower()
        if first:
            return first
    return request.protocol


def local_path(url: str, fallback: str) -> str:
    """Return a path on this host for a URL that a browser asked for; `fallback` if it names another host.

    Browsers read ``//name`` and ``/\\name`` as a host, so a request for such a path must not come back in a
    redirect.
    """
    if not url.startswith("/"):
        parts = urlsplit(url)
        url = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return fallback if re.match(r"[/\\]{2}", url) or re.search(r"[\x00-\x1f]", url) else url


class HubAuth(SingletonConfigurable):
    """Identifies whoever sends a token, by asking the Hub `GET /user` (oauth §10.2)."""

    hub_host = Unicode(
        "", help="Scheme and host at which browsers find the Hub; empty if it is this one."
    ).tag(config=True)

    @default("hub_host")
    def _default_hub_host(self) -> str:
        return os.environ.get("JUPYTERHUB_HOST", "")

    base_url = Unicode("/", help="The prefix of this application's pages, with a slash at both ends.").tag(
        config=True
    )

    @default("base_url")
    def _default_base_url(self) -> str:
        return normalise_base_url(os.environ.get("JUPYTERHUB_SERVICE_PREFIX") or "/")

    @validate("base_url")
    def _add_slashes(self, proposal: Any) -> str:
        return normalise_base_url(proposal["value"])

    api_url = Unicode("", help="Where this application reaches the Hub's API.").tag(config=True)

    @default("api_url")
    def _default_api_url(self) -> str:
        return os.environ.get("JUPYTERHUB_API_URL") or f"http://127.0.0.1:8081{self.hub_prefix}api"

    api_token = Unicode("", help="The token of this application; also the secret of its OAuth client.").tag(
        config=True
    )

    @default("api_token")
    def _default_api_token(self) -> str:
        return os.environ.get("JUPYTERHUB_API_TOKEN", "")

    @validate("api_token", "oauth_client_id")
    def _not_empty(self, proposal: Any) -> str:
        value: str = proposal["value"]
        if not value:
            raise TraitError(f"{type(self).__name__}.{proposal['trait'].name} must not be empty")
        return value

    hub_prefix = Unicode("/hub/", help="The path of the Hub's pages, with a slash at both ends.").tag(
        config=True
    )

    @default("hub_prefix")
    def _default_hub_prefix(self) -> str:
        return url_path_join(os.environ.get("JUPYTERHUB_BASE_URL") or "/", "hub/")

    @validate("hub_prefix")
    def _add_prefix_slashes(self, proposal: Any) -> str:
        return normalise_base_url(proposal["value"])

    login_url = Unicode(
        "", help="Where to send people who are not logged in. Empty: they get status 403."
    ).tag(config=True)

    keyfile = Unicode("", help="Private key for requests to the Hub.").tag(config=True)
    certfile = Unicode("", help="Certificate for requests to the Hub.").tag(config=True)
    client_ca = Unicode("", help="Authorities that may have signed the Hub's certificate.").tag(config=True)

    @default("keyfile")
    def _default_keyfile(self) -> str:
        return os.environ.get("JUPYTERHUB_SSL_KEYFILE", "")

    @default("certfile")
    def _default_certfile(self) -> str:
        return os.environ.get("JUPYTERHUB_SSL_CERTFILE", "")

    @default("client_ca")
    def _default_client_ca(self) -> str:
        return os.environ.get("JUPYTERHUB_SSL_CLIENT_CA", "")

    allow_token_in_url = Bool(
        False, help="Accept ?token=… on any request. URLs end up in logs and histories, so this is off."
    ).tag(config=True)

    @default("allow_token_in_url")
    def _default_allow_token_in_url(self) -> bool:
        return env_bool("JUPYTERHUB_ALLOW_TOKEN_IN_URL", False)

    allow_websocket_cookie_auth = Bool(True, help="Accept the log-in cookie for WebSockets.").tag(config=True)

    @default("allow_websocket_cookie_auth")
    def _default_allow_websocket_cookie_auth(self) -> bool:
        return env_bool("JUPYTERHUB_ALLOW_WEBSOCKET_COOKIE_AUTH", True)

    cookie_options = Dict(help="More attributes for cookies, e.g. samesite.").tag(config=True)

    @default("cookie_options")
    def _default_cookie_options(self) -> dict[str, Any]:
        text = os.environ.get("JUPYTERHUB_COOKIE_OPTIONS", "")
        options = json.loads(text) if text else {}
        if not isinstance(options, dict):
            raise TraitError(f"JUPYTERHUB_COOKIE_OPTIONS must be a JSON object, not {text!r}")
        return options

    cookie_host_prefix_enabled = Bool(
        False, help="Name cookies __Host-…, which browsers bind to this very host. Needs https."
    ).tag(config=True)

    @default("cookie_host_prefix_enabled")
    def _default_cookie_host_prefix(self) -> bool:
        return env_bool("JUPYTERHUB_COOKIE_HOST_PREFIX_ENABLED", False)

    @property
    def cookie_path(self) -> str:
        """The path of this application's cookies."""
        return "/" if self.cookie_host_prefix_enabled else self.base_url

    cache_max_age = Integer(
        300, help="Seconds for which the Hub's answer about a token is believed. 0: as long as this runs."
    ).tag(config=True)

    cookie_cache_max_age = Integer(help="Deprecated name of cache_max_age.")

    @observe("cookie_cache_max_age")
    def _renamed_cache_age(self, change: Any) -> None:
        app_log.warning("cookie_cache_max_age is an old name; set cache_max_age")
        self.cache_max_age = change["new"]

    cache = Instance(ExpiringCache, help="Session id and token → what the Hub said.")

    @default("cache")
    def _default_cache(self) -> ExpiringCache:
        return ExpiringCache(self.cache_max_age)

    access_scopes = Set(Unicode(), help="Any one of these scopes opens this application.").tag(config=True)

    @default("access_scopes")
    def _default_access_scopes(self) -> set[str]:
        for name in ("JUPYTERHUB_OAUTH_ACCESS_SCOPES", "JUPYTERHUB_OAUTH_SCOPES"):
            if os.environ.get(name):
                return set(json.loads(os.environ[name]))
        service = os.environ.get("JUPYTERHUB_SERVICE_NAME")
        return {f"access:services!service={service}"} if service else set()

    @property
    def oauth_scopes(self) -> set[str]:
        """Deprecated name of `access_scopes`."""
        app_log.warning("oauth_scopes is an old name; read access_scopes")
        return set(self.access_scopes)

    # -- asking the Hub --------------------------------------------------------------------------------------

    _tls: ssl.SSLContext | None = None

    def _tls_context(self) -> ssl.SSLContext | None:
        if self._tls is None and (self.certfile or self.client_ca):
            self._tls = ssl.create_default_context(cafile=self.client_ca or None)
            if self.client_ca:
                # Newer Pythons ask more of authorities than those made for internal use have to offer.
                self._tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
            if self.certfile:
                self._tls.load_cert_chain(self.certfile, self.keyfile or None)
        return self._tls

    async def fetch(self, method: str, url: str, **options: Any) -> HTTPResponse:
        """Send a request to the Hub in the name of this application; return the response, whatever its
        status.

        `url` is absolute, or a path below `api_url`. Options: headers, params, data, json, timeout (seconds).
        Raises HubUnreachable if there is no response.
        """
        if not re.match(r"[a-z+]+://", url):
            url = url_path_join(self.api_url, url)
        return await fetch(
            method,
            url,
            headers={"Authorization": f"token {self.api_token}", **(options.pop("headers", None) or {})},
            json_body=options.pop("json", None),
            tls=self._tls_context() if url.startswith("https:") else None,
            **options,
        )

    async def _api_request(self, method: str, url: str, /, **options: Any) -> Any:
        """Ask the Hub and return the parsed JSON, or None for status 403 if `allow_403`.

        Arguments are those of `fetch`. Everything but success is an HTTPError for the visitor: 502 if the
        Hub failed, else 500 (oauth §10.3).
        """
        allow_403 = options.pop("allow_403", False)
        try:
            response = await self.fetch(method, url, **options)
        except HubUnreachable as error:
            app_log.error(
                "No answer from the Hub at %s: %s. Can JUPYTERHUB_API_URL be reached from here?",
                self.api_url,
                error,
            )
            # The address is for the log; a visitor has no use for it.
            raise HTTPError(
                500, "The Hub cannot be reached from here. Its administrator finds more in this server's log."
            ) from error
        if response.code < 300:
            return json.loads(response.body) if response.body else None
        if response.code == 403 and allow_403:
            return None
        problem = self._problem(response.body) or response.reason
        app_log.error("%s %s answered %i: %s", method, url, response.code, problem)
        if response.code == 403:
            app_log.error(
                "The token of this application is not accepted by the Hub: was it stopped or renamed?"
            )
            raise HTTPError(
                500, "This application may not ask the Hub who you are; its token has been revoked"
            )
        if response.code >= 500:
            raise HTTPError(502, "The Hub failed to check who you are. Try again in a moment.")
        raise HTTPError(500, f"The Hub did not accept the log-in: {problem}")

    @staticmethod
    def _problem(body: bytes) -> str:
        """What an error body says: `error_description`, else `error`."""
        try:
            answer = json.loads(body)
        except ValueError:
            return ""
        if not isinstance(answer, dict):
            return ""
        return str(answer.get("error_description") or answer.get("error") or answer.get("message") or "")

    def _call(self, coroutine: Any, sync: bool) -> Any:
        return run_blocking(coroutine) if sync else coroutine

    def user_for_token(
        self, token: str, use_cache: bool = True, session_id: str = "", *, sync: bool = True
    ) -> Any:
        """Return what the Hub says about a token's owner, or None for a token it does not know.

        With `sync=False` the result is an awaitable of that. Raises HTTPError if the Hub cannot tell.
        """
        return self._call(self._user_for_token(token, use_cache, session_id), sync)

    async def _user_for_token(self, token: str, use_cache: bool, session_id: str) -> UserModel | None:
        if not _TOKEN.fullmatch(token):
            return None
        key = f"{session_id}:{fingerprint(token)}"
        if use_cache:
            try:
                cached: UserModel | None = self.cache[key]
            except KeyError:
                pass
            else:
                return cached
        # Only the answer is shared, not its failure: each request that finds no answer may try again.
        pending = self._pending_lookups()
        if use_cache and (waiting := pending.get(key)) is not None:
            await asyncio.wait([waiting])
            if not waiting.cancelled() and waiting.exception() is None:
                shared: UserModel | None = waiting.result()
                return shared
        lookup = asyncio.ensure_future(
            self._api_request(
                "GET",
                url_path_join(self.api_url, "user"),
                headers={"Authorization": f"token {token}"},
                allow_403=True,
            )
        )
        if use_cache:
            pending[key] = lookup
        try:
            model: UserModel | None = await lookup
        finally:
            if pending.get(key) is lookup:
                del pending[key]
        if model is None:
            app_log.warning("The Hub does not know a token that was sent here")
        else:
            app_log.debug("The Hub identified %s %s", model.get("kind", "user"), model.get("name"))
        if use_cache:
            self.cache[key] = model
        return model

    def _pending_lookups(self) -> dict[str, asyncio.Future[Any]]:
        """Lookups on the way, by cache key. Futures belong to a loop, so each loop has its own."""
        loops = self.__dict__.setdefault("_lookups", {})
        lookups: dict[str, asyncio.Future[Any]] = loops.setdefault(id(asyncio.get_running_loop()), {})
        return lookups

    def user_for_cookie(self, *args: Any, **kwargs: Any) -> Any:
        """Always raises: cookies of the Hub have not been shared with applications since 2.0."""
        raise RuntimeError("user_for_cookie has gone: use HubOAuth to log in, or user_for_token")

    # -- identifying a request -------------------------------------------------------------------------------

    auth_header_name = "Authorization"
    auth_header_pat = re.compile(r"(?:token|bearer)\s+(.+)", re.IGNORECASE)

    def get_token(self, handler: RequestHandler, in_cookie: bool = True) -> str | None:
        """Return the token of a request, from its URL (if allowed), its header or its cookie, in this
        order.
        """
        return (
            self._url_token(handler)
            or self._header_token(handler)
            or (self._cookie_token(handler) if in_cookie else "")
        ) or None

    def _url_token(self, handler: RequestHandler) -> str:
        # A script cannot set headers on a WebSocket, so there the URL is the only place for a token.
        if self.allow_token_in_url or handler.request.headers.get("Sec-Fetch-Mode") == "websocket":
            return str(handler.get_query_argument("token", "") or "")
        return ""

    def _header_token(self, handler: RequestHandler) -> str:
        match = self.auth_header_pat.match(handler.request.headers.get(self.auth_header_name, ""))
        return match[1].strip() if match else ""

    def _cookie_token(self, handler: RequestHandler) -> str:
        return ""

    def get_session_id(self, handler: RequestHandler) -> str:
        """Return the id of the browser session, which the Hub gave; empty if there is none."""
        return str(handler.get_cookie(SESSION_COOKIE, "") or "")

    def get_user(self, handler: RequestHandler, *, sync: bool = True) -> Any:
        """Return what the Hub says about whoever sent this request, or None (oauth §10.4).

        Repeated calls with one handler give the first result. With `sync=False` the result is an awaitable.
        """
        if hasattr(handler, "_cached_hub_user"):
            known = handler._cached_hub_user
            return known if sync else _immediately(known)
        return self._call(self._identify(handler), sync)

    async def _identify(self, handler: Any) -> UserModel | None:
        handler._cached_hub_user = None
        session_id = self.get_session_id(handler)
        try:
            token = self.get_token(handler, in_cookie=False)
            model: UserModel | None = None
            if token:
                model = await self._user_for_token(token, True, session_id)
                if model is not None:
                    handler._token_authenticated = True
            if model is None:
                model = await self._user_of_cookie(handler, session_id)
        except BaseException:
            # Nothing is known yet: the next call on this handler asks again.
            del handler._cached_hub_user
            raise
        handler._cached_hub_user = model
        return model

    async def _user_of_cookie(self, handler: Any, session_id: str) -> UserModel | None:
        return None

    def check_scopes(self, required_scopes: str | Iterable[str], user: UserModel) -> set[str]:
        """Return those of the required scopes that the user has."""
        return check_scopes(required_scopes, set(user.get("scopes") or ()))


async def _immediately(value: Any) -> Any:
    return value


# Where everybody imports them from.
for _public in (HubAuth, UserNotAllowed, check_scopes):
    _public.__module__ = "jupyterhub.services.auth"
