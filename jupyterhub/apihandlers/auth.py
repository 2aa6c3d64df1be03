"""Whom tokens and cookies stand for, and the OAuth endpoints (rest-api §4.12, oauth §3, §6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from oauthlib import oauth2
from tornado import web

from ..core.clock import utcnow
from ..core.scopes.algebra import ScopeSet
from ..core.scopes.describe import describe_for_consent
from ..core.scopes.expand import access_scopes, identify_scopes
from ..core.urls import url_path_join
from ..handlers.base import BaseHandler
from ..oauth.provider import Authorization, grantable
from ..store import services as service_store
from . import models
from .base import APIHandler
from .declare import operation, register
from .schemas import IdentityModel

if TYPE_CHECKING:
    from ..oauth.provider import JupyterHubOAuthServer


# Old: whom a token or a cookie stands for


class TokenAPIHandler(APIHandler):
    """`/hub/api/authorizations/token/{token}`. `GET /hub/api/user` with that token says the same."""

    _accept_cookie_auth = False

    def check_xsrf_cookie(self) -> None:
        """No cookie is looked at, so nothing can be forged."""

    @operation(
        "Whom a token stands for", who="token", deprecated=True, responses={200: IdentityModel},
        errors={403: "you have no token yourself", 404: "nobody"},
    )
    async def get(self, token: str = "") -> None:
        caller = self.caller
        assert caller is not None
        found = await self.context.access.identify_token(token) if token else None
        if found is None:
            raise web.HTTPError(404)
        if found.token is not None:
            self.context.activity.note_token(found.token.id, utcnow())
        viewer = models.Viewer(self.context, caller.scopes.union(ScopeSet.parse(identify_scopes(found.owner))))
        if found.is_user:
            self.write_json(models.user_model(viewer, await self.user_or_404(found.name)))
            return
        service = self.services.get(found.name)
        if service is None:
            raise web.HTTPError(404)
        stored = await self.context.database.read(service_store.find, found.name)
        self.write_json(models.service_model(viewer, service, stored=stored))

    @operation(
        "Gone: tokens are issued at /users/{user}/tokens", who="anyone", deprecated=True, errors={404: "always"}
    )
    def post(self, token: str = "") -> None:
        raise web.HTTPError(404, "Tokens are issued at /hub/api/users/{user}/tokens")


class CookieAPIHandler(APIHandler):
    """`/hub/api/authorizations/cookie/{name}/{value}`: whom a log-in cookie stands for."""

    _accept_cookie_auth = False

    @operation(
        "Whom a log-in cookie stands for", who="token", deprecated=True, responses={200: IdentityModel},
        errors={403: "you have no token", 404: "nobody"},
    )
    async def get(self, cookie_name: str, cookie_value: str | None = None) -> None:
        value = cookie_value or self.request.body.decode("utf-8", "replace").strip()
        cookie_id = self.get_signed_cookie(cookie_name, value, max_age_days=self.context.cookie_max_age_days)
        if not cookie_id or await self.context.logins.login_ended(value):
            raise web.HTTPError(404)
        found = await self.context.access.identify_login(cookie_id.decode("utf-8", "replace"))
        user = await self.context.directory.find(found.name) if found is not None else None
        if user is None:
            raise web.HTTPError(404)
        self.write_json(self.user_model(user))


# OAuth


class OAuthAuthorizeHandler(BaseHandler):
    """`/hub/api/oauth2/authorize`: may this application know who you are? A page: only the log-in cookie counts."""

    @property
    def provider(self) -> JupyterHubOAuthServer:
        provider: JupyterHubOAuthServer = self.context.oauth_provider
        return provider

    def get_login_url(self) -> str:
        """Where strangers log in first; at the authenticator's own place if it wants them here (oauth §3)."""
        if getattr(self.authenticator, "auto_login_oauth2_authorize", False):
            return str(self.authenticator.login_url(self.hub_prefix))
        return url_path_join(self.hub_prefix, "login")

    @property
    def _uri(self) -> str:
        """The address of the request without our own `_xsrf`, which is no parameter of OAuth's."""
        parts = urlsplit(self.request.full_url())
        query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != "_xsrf"]
        return parts._replace(query=urlencode(query)).geturl()

    async def _checked(self) -> Authorization | None:
        """Return the request if the client may make it of this user, None if it was answered with a redirect.

        Raises 400 where the client or the address to go back to is wrong, 403 for a user who may not enter.
        """
        try:
            found = await self.provider.check_request(self._uri, dict(self.request.headers), self.current_user.name)
        except oauth2.FatalClientError as error:
            raise web.HTTPError(400, f"OAuth: {error.description or error.error}") from error
        except oauth2.OAuth2Error as error:
            self.log.warning("OAuth: %s (%s)", error.error, error.description)
            self.redirect(error.in_uri(error.redirect_uri))
            return None
        client, access = found.client, self.context.access
        if client is None:
            raise web.HTTPError(500, f"The OAuth client {found.client_id} belongs to no server and to no service")
        if client.service is not None:
            allowed = await access.covers(self.caller, "access:services", service=client.service)
        else:
            allowed = await access.covers(self.caller, "access:servers", user=client.user, server=client.server or "")
        if not allowed:
            raise web.HTTPError(403, f"You do not have access to {found.description}")
        return found

    async def _grantable(self, request: Authorization) -> list[str]:
        caller = self.caller
        assert caller is not None
        return grantable(caller, request, await self.context.directory.raw_scopes(self.current_user))

    async def _needs_consent(self, request: Authorization, scopes: list[str]) -> bool:
        """Whether to ask; not about one's own server, a trusted service, or what was granted before (oauth §3.2)."""
        client = request.client
        if client is not None and client.user == self.current_user.name:
            return False
        if request.client_id in self.context.oauth_no_confirm_list:
            return False
        return not set(scopes) <= await self.provider.granted_before(self.current_user.id, request.client_id)

    async def _send_code(self, scopes: list[str]) -> None:
        user = self.current_user
        session_id = self.get_session_cookie() or self.set_session_cookie()
        headers, _, _ = await self.provider.issue_code(
            self._uri, dict(self.request.headers), user_id=user.id, user_name=user.name, session_id=session_id,
            scopes=scopes,
        )
        self.log.info("OAuth: %s lets %s in", user.name, self.get_query_argument("client_id"))
        self.redirect(headers["Location"])

    @operation(
        "Ask a user to let an application in", who="cookie", responses={302: None, 200: "text/html"},
        errors={400: "a wrong client or redirect", 403: "the user may not enter the application"},
    )
    @web.authenticated
    async def get(self) -> None:
        request = await self._checked()
        if request is None:
            return
        scopes = await self._grantable(request)
        if not await self._needs_consent(request, scopes):
            await self._send_code(scopes)
            return
        if not self.get_session_cookie():
            self.set_session_cookie()
        described = describe_for_consent(scopes, self.current_user.name, request.client)
        page: str = await self.render_template(
            "oauth.html",
            auth_state=await self.current_user.get_auth_state(),
            oauth_client={
                "description": request.description,
                "redirect_uri": request.redirect_uri,
                "identifier": request.client_id,
            },
            allowed_scopes=scopes,
            role_names=[],
            scope_descriptions=[line.to_dict() for line in described],
        )
        self.finish(page)

    @operation(
        "Let an application in", who="cookie", responses={302: None},
        errors={400: "a wrong client or redirect", 403: "no or a wrong XSRF token, or no access"},
    )
    @web.authenticated
    async def post(self) -> None:
        # The form is not to be trusted more than the link: everything is checked again.
        request = await self._checked()
        if request is None:
            return
        always = identify_scopes() | access_scopes(request.client)
        chosen = set(self.get_body_arguments("scopes"))
        allowed = set(await self._grantable(request)) | always
        if not chosen <= allowed:
            error = oauth2.InvalidScopeError(state=request.state)
            self.redirect(error.in_uri(request.redirect_uri))
            return
        await self._send_code(["inherit"] if "inherit" in chosen else sorted(chosen | always))


class OAuthTokenHandler(APIHandler):
    """`/hub/api/oauth2/token`: a code becomes a token. Applications prove who they are with their secret."""

    _accept_cookie_auth = False

    @operation(
        "Exchange a code for a token", who="anyone", responses={200: dict[str, Any]},
        errors={400: "refused, in the words of OAuth", 401: "the client did not prove who it is"},
    )
    async def post(self) -> None:
        provider: JupyterHubOAuthServer = self.context.oauth_provider
        headers, text, status = await provider.exchange(
            self.request.full_url(), self.request.body.decode("utf-8", "replace"), dict(self.request.headers)
        )
        self.set_status(status)
        for name, value in headers.items():
            self.set_header(name, value)
        self.finish(text or "")


default_handlers = register(
    [
        (r"/api/authorizations/token/([^/]+)", TokenAPIHandler),
        (r"/api/authorizations/token", TokenAPIHandler),
        (r"/api/authorizations/cookie/([^/]+)(?:/([^/]+))?", CookieAPIHandler),
        (r"/api/oauth2/authorize", OAuthAuthorizeHandler),
        (r"/api/oauth2/token", OAuthTokenHandler),
    ]
)
