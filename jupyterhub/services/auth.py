"""Log-in through the Hub, for services and for single-user servers (oauth §10, plugins §12.1).

`HubAuth` identifies the owner of a token by asking the Hub. `HubOAuth` adds log-in by browser: the Hub sends
the browser back with a code, the code is exchanged for a token, and the token is kept in a signed cookie of
this application. The mixins `HubAuthenticated` and `HubOAuthenticated` protect Tornado handlers with them.

Everything is configured by the environment that the Hub gives to a service or server (oauth §9). This module
runs outside the Hub: it imports no database code.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import string
from collections.abc import Iterable
from typing import Any, TypedDict

from tornado.httputil import url_concat
from tornado.log import app_log
from tornado.web import HTTPError, RequestHandler
from traitlets import Bool, Instance, Integer, Unicode, default

from ..core.secrets import fingerprint
from ..core.urls import url_path_join
from ..web import xsrf
from ._hubclient import ExpiringCache
from ._identity import HubAuth, UserModel, UserNotAllowed, browser_scheme, check_scopes, local_path

__all__ = [
    "HubAuth",
    "HubAuthenticated",
    "HubOAuth",
    "HubOAuthCallbackHandler",
    "HubOAuthenticated",
    "UserNotAllowed",
    "begin_login",
    "check_scopes",
]


class _State(TypedDict, total=False):
    """What is remembered between sending a browser to the Hub and its return."""

    next_url: str | None
    code_verifier: str | None
    cookie_name: str


class HubOAuth(HubAuth):
    """Log-in by browser with OAuth at the Hub; the token is kept in a cookie (oauth §10.5)."""

    oauth_client_id = Unicode("", help="The id of this application at the Hub.").tag(config=True)

    @default("oauth_client_id")
    def _default_client_id(self) -> str:
        return os.environ.get("JUPYTERHUB_CLIENT_ID", "")

    oauth_redirect_uri = Unicode("", help="Where the Hub sends browsers back to.").tag(config=True)

    @default("oauth_redirect_uri")
    def _default_redirect_uri(self) -> str:
        return os.environ.get("JUPYTERHUB_OAUTH_CALLBACK_URL") or url_path_join(
            self.base_url, "oauth_callback"
        )

    oauth_authorization_url = Unicode("", help="Where browsers ask the Hub for a code.").tag(config=True)

    @default("oauth_authorization_url")
    def _default_authorization_url(self) -> str:
        return self.hub_host + url_path_join(self.hub_prefix, "api/oauth2/authorize")

    oauth_token_url = Unicode("", help="Where this application exchanges a code for a token.").tag(
        config=True
    )

    @default("oauth_token_url")
    def _default_token_url(self) -> str:
        return url_path_join(self.api_url, "oauth2/token")

    pkce_enabled = Bool(True, help="Bind each code to the browser's log-in by a secret (PKCE).").tag(
        config=True
    )

    oauth_state_max_age = Integer(600, help="Seconds that a log-in may take.").tag(config=True)

    @default("login_url")
    def _default_login_url(self) -> str:
        return url_concat(
            self.oauth_authorization_url,
            {
                "client_id": self.oauth_client_id,
                "redirect_uri": self.oauth_redirect_uri,
                "response_type": "code",
            },
        )

    @property
    def cookie_name(self) -> str:
        """The name of the cookie with the token."""
        return self._cookie_prefix + self.oauth_client_id

    @property
    def state_cookie_name(self) -> str:
        """The name of the cookie that ties a log-in to a browser; parallel log-ins have a suffix."""
        return f"{self.cookie_name}-oauth-state"

    @property
    def _cookie_prefix(self) -> str:
        return "__Host-" if self.cookie_host_prefix_enabled else ""

    # -- state -----------------------------------------------------------------------------------------------

    _oauth_states = Instance(ExpiringCache)

    @default("_oauth_states")
    def _default_states(self) -> ExpiringCache:
        # Strangers can start log-ins, so their number is bounded; the oldest are given up first.
        return ExpiringCache(self.oauth_state_max_age)

    def generate_state(self, next_url: str | None = None, **extra: Any) -> str:
        """Remember a log-in that begins now and return its id, 22 random characters."""
        state_id = secrets.token_urlsafe(16)
        self._oauth_states[state_id] = {"next_url": next_url, **extra}
        return state_id

    def _state(self, state: str | None) -> _State:
        found: _State = self._oauth_states.get(state or "", {})
        return found

    def get_next_url(self, state: str = "") -> str:
        """Return the page to go to when this log-in is done; `base_url` if it is not known any more."""
        return self._state(state).get("next_url") or self.base_url

    def get_code_verifier(self, state: str = "") -> str | None:
        """Return the PKCE secret of this log-in, or None."""
        return self._state(state).get("code_verifier")

    def get_state_cookie_name(self, state: str = "") -> str:
        """Return the name of the cookie of this log-in."""
        return self._state(state).get("cookie_name") or self.state_cookie_name

    def clear_oauth_state(self, state: str) -> None:
        """Forget a log-in."""
        self._oauth_states.pop(state)

    def generate_pkce_code_challenge(self, method: str = "S256") -> tuple[str, str, str]:
        """Return (secret, its digest, method); both texts have 43 characters. Only S256 is known."""
        if method != "S256":
            raise ValueError(f"PKCE method {method!r} is not supported, only S256")
        verifier = secrets.token_urlsafe(32)
        digest = hashlib.sha256(verifier.encode("ascii")).digest()
        return verifier, base64.urlsafe_b64encode(digest).decode("ascii").rstrip("="), method

    def set_state_cookie(
        self, handler: RequestHandler, next_url: str | None = None, *, code_verifier: str | None = None
    ) -> str:
        """Begin a log-in for this browser: remember it, set its cookie, return its id."""
        name = self.state_cookie_name
        if handler.get_cookie(name):
            # Another tab is logging in. Its cookie must stay, or that log-in would fail.
            name += "-" + "".join(secrets.choice(string.ascii_letters) for _ in range(8))
        extra: dict[str, Any] = {"cookie_name": name}
        if code_verifier:
            extra["code_verifier"] = code_verifier
        state = self.generate_state(next_url, **extra)
        attributes = dict(self.cookie_options)
        attributes.pop("expires_days", None)
        attributes.update(path=self.cookie_path, httponly=True, max_age=self.oauth_state_max_age)
        if self.cookie_host_prefix_enabled or browser_scheme(handler.request) == "https":
            attributes["secure"] = True
        handler.set_signed_cookie(name, state, expires_days=None, **attributes)
        return state

    def clear_oauth_state_cookies(self, handler: RequestHandler) -> None:
        """Expire the cookies of all log-ins of this browser."""
        for name in handler.request.cookies:
            if name.startswith(self.state_cookie_name):
                self._expire(handler, name)

    # -- tokens and cookies ----------------------------------------------------------------------------------

    def token_for_code(self, code: str, *, code_verifier: str | None = None, sync: bool = True) -> Any:
        """Exchange a code for an access token; with `sync=False` the result is an awaitable of the token.

        Raises HTTPError if the Hub does not accept the code.
        """
        return self._call(self._token_for_code(code, code_verifier), sync)

    async def _token_for_code(self, code: str, code_verifier: str | None) -> str:
        form = {
            "client_id": self.oauth_client_id,
            "client_secret": self.api_token,
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.oauth_redirect_uri,
        }
        if code_verifier:
            form["code_verifier"] = code_verifier
        answer = await self._api_request("POST", self.oauth_token_url, data=form)
        token: str = answer["access_token"]
        return token

    def _cookie_token(self, handler: RequestHandler) -> str:
        value = handler.get_signed_cookie(self.cookie_name)
        return value.decode("utf-8", "replace") if value else ""

    def set_cookie(self, handler: RequestHandler, access_token: str) -> None:
        """Keep a token in the browser, with an XSRF token that goes with it."""
        attributes: dict[str, Any] = {"path": self.cookie_path, "httponly": True}
        if browser_scheme(handler.request) == "https":
            attributes["secure"] = True
        attributes.update(self.cookie_options)
        if self.cookie_host_prefix_enabled:
            attributes.update(path=self.cookie_path, secure=True)
            attributes.pop("domain", None)
        handler.set_signed_cookie(self.cookie_name, access_token, **attributes)
        xsrf.set_xsrf_cookie(
            handler,  # type: ignore[arg-type]
            self._xsrf_id(handler, access_token),
            cookie_path=self.base_url,
            authenticated=True,
        )

    def clear_cookie(self, handler: RequestHandler) -> None:
        """Take the token out of the browser."""
        self._expire(handler, self.cookie_name)

    def _expire(self, handler: RequestHandler, name: str) -> None:
        attributes: dict[str, Any] = {"path": self.cookie_path}
        if self.cookie_host_prefix_enabled:
            attributes["secure"] = True
        # Not `clear_cookie`: on WebSockets Jupyter Server makes that do nothing.
        handler.set_cookie(name, "", expires=86400, **attributes)

    # -- identifying a request -------------------------------------------------------------------------------

    def _xsrf_id(self, handler: RequestHandler, access_token: str | None = None) -> str:
        """Return the XSRF id: session, and a digest of the token; strangers are told apart otherwise (web
        §8).
        """
        session_id = self.get_session_id(handler)
        token = self._cookie_token(handler) if access_token is None else access_token
        if token:
            return f"{session_id or xsrf.anonymous_id(handler.request)}:{fingerprint(token)}"
        return f"{session_id}:{xsrf.anonymous_id(handler.request)}"

    def check_xsrf_cookie(self, handler: Any) -> None:
        """Raise HTTPError 403 for a request with a cookie that may come from another site (oauth §11)."""
        if getattr(handler, "_token_authenticated", False):
            return
        if handler.settings.get("disable_check_xsrf"):
            return
        xsrf.check_xsrf_cookie(_with_xsrf_id(handler, self))

    async def _user_of_cookie(self, handler: Any, session_id: str) -> UserModel | None:
        token = self._cookie_token(handler)
        if not token:
            return None
        mode = handler.request.headers.get("Sec-Fetch-Mode")
        if mode == "websocket" and not self.allow_websocket_cookie_auth:
            app_log.warning("Not accepting a cookie for the WebSocket %s", handler.request.path)
            return None
        try:
            self._check_cookie_request(handler)
        except HTTPError as error:
            app_log.debug("Not accepting the cookie of %s: %s", handler.request.path, error.log_message)
            return None
        model = await self._user_for_token(token, True, session_id)
        if model is None:
            app_log.warning("A log-in cookie is not good any more")
            self.clear_cookie(handler)
        return model

    def _check_cookie_request(self, handler: Any) -> None:
        """Apply the handler's own idea of an XSRF check, if it has one, else ours.

        A proxy for somebody else's pages cannot know their tokens and switches the check off in this way.
        """
        own = type(handler).check_xsrf_cookie
        if own is RequestHandler.check_xsrf_cookie or getattr(own, "_asks_hub_auth", False):
            self.check_xsrf_cookie(handler)
        else:
            handler.check_xsrf_cookie()


def _with_xsrf_id(handler: Any, auth: HubOAuth) -> Any:
    """Give a handler the attribute that the XSRF functions read, if its class does not define it."""
    if not isinstance(getattr(type(handler), "_xsrf_token_id", None), property):
        handler._xsrf_token_id = auth._xsrf_id(handler)
    return handler


class HubAuthenticated:
    """Mixin for Tornado handlers: `current_user` is what the Hub says about the owner of the request's token.

    Who is let in is decided by `hub_scopes`; by default the scopes that give access to this application. The
    sets of names are how it was done before scopes, and are not looked at when there are any (oauth §10.6).
    """

    hub_auth_class: type[HubAuth] = HubAuth
    hub_services: Iterable[str] | None = None
    hub_users: Iterable[str] | None = None
    hub_groups: Iterable[str] | None = None
    allow_admin: bool = False

    _hub_auth: HubAuth | None = None
    _hub_login_url: str | None = None
    _hub_refused: UserNotAllowed | None = None

    @property
    def hub_auth(self) -> HubAuth:
        """The object that asks the Hub; the class's one instance unless another was assigned."""
        auth = self._hub_auth or self.hub_auth_class.instance()
        self._hub_auth = auth
        return auth

    @hub_auth.setter
    def hub_auth(self, auth: HubAuth) -> None:
        self._hub_auth = auth

    @property
    def hub_scopes(self) -> Iterable[str] | None:
        """Any of these scopes gives access; None leaves it to the sets of names."""
        return set(self.hub_auth.access_scopes) or None

    @property
    def allow_all(self) -> bool:
        """Whether everybody the Hub knows has access, as nothing says who has."""
        limits = (self.hub_users, self.hub_groups, self.hub_services, self.hub_scopes)
        return not self.allow_admin and all(limit is None for limit in limits)

    def check_hub_user(self, model: UserModel) -> UserModel | None:
        """Return the model of somebody who has access, or raise UserNotAllowed."""
        if self.allow_all or self._may_enter(model):
            return model
        app_log.warning("%s %s has no access here", model.get("kind", "user"), model.get("name"))
        raise UserNotAllowed(model)

    def _may_enter(self, model: UserModel) -> bool:
        if self.hub_scopes is not None:
            return bool(self.hub_auth.check_scopes(self.hub_scopes, model))
        if model.get("admin") and self.allow_admin:
            return True
        name = model["name"]
        if model.get("kind", "user") == "service":
            return name in (self.hub_services or ())
        if name in (self.hub_users or ()):
            return True
        return not set(self.hub_groups or ()).isdisjoint(model.get("groups") or ())

    def get_current_user(self) -> Any:
        """Return what the Hub says about the visitor, or None for strangers and people without access."""
        if hasattr(self, "_hub_auth_user_cache"):
            return self._hub_auth_user_cache
        model = self.hub_auth.get_user(self)  # type: ignore[arg-type]
        return self._admit(model)

    def _admit(self, model: UserModel | None) -> UserModel | None:
        self._hub_auth_user_cache: UserModel | None = None
        if model is None:
            return None
        try:
            admitted = self.check_hub_user(model)
        except UserNotAllowed as refusal:
            self._hub_refused = refusal
            return None
        self._hub_auth_user_cache = admitted
        self._keep_url_token()
        return self._hub_auth_user_cache

    def _keep_url_token(self) -> None:
        """Move a token from the URL of a page into the cookie, so that the rest of the page finds it."""
        handler: Any = self
        auth = self.hub_auth
        if (
            not isinstance(auth, HubOAuth)
            or handler.request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate"
        ):
            return
        token = auth._url_token(handler)
        if token and token != auth._cookie_token(handler):
            auth.set_cookie(handler, token)

    def _raise_if_refused(self) -> None:
        if self._hub_refused is not None:
            model = self._hub_refused.model
            kind = str(model.get("kind", "user")).title()
            raise HTTPError(403, f"{kind} {model.get('name')} has no access to this server")

    def get_login_url(self) -> str:
        """Return where to log in. Raises HTTPError 403 where that would not help."""
        self._raise_if_refused()
        if not self.hub_auth.login_url:
            raise HTTPError(403, "Send a token of the Hub to use this; there is no page to log in")
        return self.hub_auth.login_url

    def redirect(self, url: str, *args: Any, **kwargs: Any) -> None:
        """Redirect; but a person without access is told so, instead of being sent to log in again."""
        self._raise_if_refused()
        super().redirect(url, *args, **kwargs)  # type: ignore[misc]

    @property
    def _xsrf_token_id(self) -> str:
        auth, handler = self.hub_auth, self
        if isinstance(auth, HubOAuth):
            return auth._xsrf_id(handler)  # type: ignore[arg-type]
        session_id = auth.get_session_id(handler)  # type: ignore[arg-type]
        return xsrf.hub_xsrf_id(handler.request, session_id)  # type: ignore[attr-defined]

    @property
    def xsrf_token(self) -> bytes:
        """The token that forms and scripts have to send along, for the browser that asks."""
        auth = self.hub_auth
        return xsrf.get_xsrf_token(
            self,  # type: ignore[arg-type]
            cookie_path=auth.base_url,
            authenticated=bool(getattr(self, "_hub_auth_user_cache", None)),
        )

    def check_xsrf_cookie(self) -> None:
        """Refuse requests with a cookie that may come from another site.

        Tornado asks before anybody is identified. Then there is nothing to protect yet: the check is made
        when the cookie is used, and once more for methods that change something.
        """
        if not hasattr(self, "_hub_auth_user_cache") and not hasattr(self, "_cached_hub_user"):
            self.hub_auth.get_user(self)  # type: ignore[arg-type]
        if isinstance(self.hub_auth, HubOAuth):
            self.hub_auth.check_xsrf_cookie(self)

    check_xsrf_cookie._asks_hub_auth = True  # type: ignore[attr-defined]


class HubOAuthenticated(HubAuthenticated):
    """HubAuthenticated with log-in by browser."""

    hub_auth_class = HubOAuth

    def get_login_url(self) -> str:
        """Begin a log-in and return where to send the browser; once per request. Raises HTTPError 403 where
        logging in would not help."""
        login_url = super().get_login_url()
        auth = self.hub_auth
        if not isinstance(auth, HubOAuth):
            return login_url
        if self._hub_login_url is None:
            handler: Any = self
            self._hub_login_url = begin_login(auth, handler, login_url)
        return self._hub_login_url


def begin_login(auth: HubOAuth, handler: RequestHandler, login_url: str | None = None) -> str:
    """Remember the page that a browser asks for, set the state cookie, return the Hub's URL to send it to."""
    query: dict[str, str] = {}
    verifier: str | None = None
    if auth.pkce_enabled:
        verifier, query["code_challenge"], query["code_challenge_method"] = (
            auth.generate_pkce_code_challenge()
        )
    next_url = local_path(handler.request.uri or "/", auth.base_url)
    query["state"] = auth.set_state_cookie(handler, next_url, code_verifier=verifier)
    return url_concat(login_url or auth.login_url, query)


class HubOAuthCallbackHandler(HubOAuthenticated, RequestHandler):
    """Where the Hub sends browsers back to; to be registered at ``{prefix}oauth_callback`` (oauth §10.6)."""

    async def get(self) -> None:
        """Exchange the code for a token, keep it, and go to the page that was asked for."""
        auth = self.hub_auth
        if not isinstance(auth, HubOAuth):
            raise TypeError(f"{type(self).__name__} needs a HubOAuth, not {type(auth).__name__}")
        if error := self.get_argument("error", ""):
            reason = self.get_argument("error_description", "") or error
            raise HTTPError(400, f"The Hub did not log you in: {reason}")
        code = self.get_argument("code", "")
        if not code:
            raise HTTPError(400, "This page is part of logging in: the argument 'code' is missing")
        state = self.get_argument("state", "")
        if not state:
            raise HTTPError(400, "This page is part of logging in: the argument 'state' is missing")

        cookie_name = auth.get_state_cookie_name(state)
        signed_state = self.get_signed_cookie(cookie_name, max_age_days=_days(auth.oauth_state_max_age))
        next_url = auth.get_next_url(state)
        if signed_state is None and await self._logged_in(auth):
            # Another tab was faster, or the browser went back to this page: there is nothing left to do.
            auth.clear_oauth_state_cookies(self)
            auth.clear_oauth_state(state)
            self.redirect(next_url)
            return
        if signed_state is not None:
            auth.clear_oauth_state_cookies(self)
        if signed_state is None or not secrets.compare_digest(signed_state, state.encode("utf-8", "replace")):
            app_log.warning("A browser came back from the Hub with a state that is not its own")
            raise HTTPError(
                403,
                "This log-in was not begun in this browser, or took too long: open the page once more",
            )
        verifier = auth.get_code_verifier(state)
        auth.clear_oauth_state(state)
        token = await auth.token_for_code(code, code_verifier=verifier, sync=False)
        session_id = auth.get_session_id(self)
        model = await auth.user_for_token(token, session_id=session_id, sync=False)
        if model is None:
            raise HTTPError(500, "The Hub does not know the token that it has just issued")
        app_log.info("Logged in %s %s", model.get("kind", "user"), model.get("name"))
        auth.set_cookie(self, token)
        self._hub_refused = None
        self.redirect(next_url)

    # Jupyter Server otherwise asks for a log-in before the page that completes it.
    setattr(get, "__allow_unauthenticated", True)

    async def _logged_in(self, auth: HubOAuth) -> bool:
        return bool(self._admit(await auth.get_user(self, sync=False)))

    def check_xsrf_cookie(self) -> None:
        """Not needed: the state is what ties the request to the browser."""


def _days(seconds: float) -> float:
    return seconds / 86400
