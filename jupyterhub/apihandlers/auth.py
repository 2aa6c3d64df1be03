"""Tokens looked up, and the OAuth endpoints (rest-api §4.11, oauth §3, §6)."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlparse, urlunparse

from oauthlib import oauth2
from tornado import web

from ..core.scopes.describe import describe_for_consent
from ..core.scopes.expand import access_scopes, identify_scopes
from ..handlers.base import BaseHandler
from ..oauth.provider import grantable
from . import models
from .base import APIHandler
from .declare import operation, register


class TokenAPIHandler(APIHandler):
    """Old: whom a token stands for. `GET /hub/api/user` with that token says the same."""

    def check_xsrf_cookie(self) -> None:
        """Nothing is changed."""

    @operation("Old: whom a token stands for", public=True, responses={200: "identity", 403: "nobody", 404: "unknown"})
    async def get(self, token: str = "") -> None:
        if self.caller is None or not self.caller.is_token:
            raise web.HTTPError(403)
        found = await self.context.access.identify_token(token)
        if found is None:
            raise web.HTTPError(404)
        if found.is_user:
            user = await self.user_or_404(found.name)
            model = models.user_model(self, user.record, list(user.records.values()))
            model.setdefault("kind", "user")
            model.setdefault("name", user.name)
        else:
            model = {"kind": "service", "name": found.name, "admin": found.admin}
        self.write_json(model)

    @operation("Gone: tokens are made at /users/{user}/tokens", public=True, responses={404: "gone"})
    def post(self, token: str = "") -> None:
        raise web.HTTPError(404, "Tokens are made at /hub/api/users/{user}/tokens")


class OAuthAuthorizeHandler(BaseHandler):
    """`/hub/api/oauth2/authorize`: may this application know who you are? (oauth §3)"""

    def _uri(self) -> tuple[str, str, Any, dict[str, str]]:
        uri = f"{self.request.protocol}://{self.request.host}{self._clean_uri()}"
        return uri, "GET", None, dict(self.request.headers)

    def _clean_uri(self) -> str:
        """The request's address without our own `_xsrf`, which is nobody's parameter."""
        parts = urlparse(self.request.uri or "")
        query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != "_xsrf"]
        return urlunparse(parts._replace(query=urlencode(query)))

    async def _check(self) -> Any:
        """Return the checked request, or None when the answer (a redirect with an error) is sent already."""
        uri, method, body, headers = self._uri()
        try:
            return await self.oauth_provider.check_request(uri, method, body, headers, self.current_user.name)
        except oauth2.FatalClientError as error:
            self.log.warning("OAuth: bad request: %s", error.description or error.error)
            raise web.HTTPError(error.status_code, error.description or error.error) from None
        except oauth2.OAuth2Error as error:
            self.redirect(error.in_uri(error.redirect_uri))
            return None

    async def _check_access(self, request: Any) -> None:
        """Raise 403 unless the user may enter the application at all."""
        client, access = request.client, self.context.access
        if client.service is not None:
            allowed = await access.covers(self.caller, "access:services", service=client.service)
        else:
            allowed = await access.covers(self.caller, "access:servers", user=client.user, server=client.server or "")
        if not allowed:
            raise web.HTTPError(403, f"You do not have permission to access {request.description}")

    async def _grantable(self, request: Any) -> list[str]:
        roles = await self.context.directory.raw_scopes(self.current_user)
        return grantable(self.context, self.caller, request, roles)

    async def _needs_consent(self, request: Any, scopes: list[str]) -> bool:
        client = request.client
        if client.user is not None and client.user == self.current_user.name:
            return False
        if request.client_id in self.context.oauth_no_confirm_list:
            return False
        before = await self.oauth_provider.granted_before(self.current_user.id, request.client_id)
        return not (before and set(scopes) <= before)

    async def _send_code(self, scopes: list[str]) -> None:
        session_id = self.get_session_cookie() or self.set_session_cookie()
        uri, method, body, headers = self._uri()
        try:
            answer_headers, _, status = await self.oauth_provider.issue_code(
                uri, method, body, headers, user_id=self.current_user.id, user_name=self.current_user.name,
                session_id=session_id, scopes=scopes,
            )
        except oauth2.FatalClientError as error:
            raise web.HTTPError(error.status_code, error.description or error.error) from None
        self.set_status(status)
        for name, value in answer_headers.items():
            self.set_header(name, value)
        self.finish()

    @web.authenticated
    async def get(self) -> None:
        request = await self._check()
        if request is None:
            return
        await self._check_access(request)
        scopes = await self._grantable(request)
        if not await self._needs_consent(request, scopes):
            await self._send_code(scopes)
            return
        basic = identify_scopes() | access_scopes(request.client)
        described = describe_for_consent(scopes, self.current_user.name, request.client)
        self.finish(
            await self.render_template(
                "oauth.html",
                auth_state=None,
                oauth_client={"description": request.description, "redirect_uri": request.redirect_uri,
                              "identifier": request.client_id},
                allowed_scopes=scopes,
                role_names=[],
                scope_descriptions=[
                    row.to_dict() if hasattr(row, "to_dict") else row
                    for row in described if getattr(row, "scope", None) not in basic
                ],
            )
        )

    @web.authenticated
    async def post(self) -> None:
        request = await self._check()
        if request is None:
            return
        # JupyterHub 6 checks these on GET alone; the form is not to be trusted more than the link.
        await self._check_access(request)
        allowed = await self._grantable(request)
        chosen = set(self.get_body_arguments("scopes"))
        basic = identify_scopes() | access_scopes(request.client)
        scopes = sorted({scope for scope in allowed if scope in chosen} | {scope for scope in allowed if scope in basic})
        if chosen - set(allowed):
            error = oauth2.InvalidScopeError(state=self.get_query_argument("state", None))
            self.redirect(error.in_uri(request.redirect_uri))
            return
        await self._send_code(scopes)


class OAuthTokenHandler(APIHandler):
    """`/hub/api/oauth2/token`: a code becomes a token. Applications come here with their own secret, no cookie."""

    def check_xsrf_cookie(self) -> None:
        """The client's secret is the proof; no cookie is looked at. Browsers of other sites have no business here."""
        if getattr(self, "_jupyterhub_user", None) is None and "Origin" in self.request.headers:
            super().check_xsrf_cookie()

    _accept_cookie_auth = False

    @operation("Exchange a code for a token", public=True, responses={200: "token", 400: "refused", 401: "who?"})
    async def post(self) -> None:
        uri = f"{self.request.protocol}://{self.request.host}{self.request.uri}"
        body = self.request.body.decode("utf-8", "replace")
        headers, text, status = await self.oauth_provider.exchange(uri, "POST", body, dict(self.request.headers))
        self.set_status(status)
        for name, value in headers.items():
            self.set_header(name, value)
        self.finish(text)


default_handlers = [
    *register(
        [
            (r"/api/authorizations/token/([^/]+)", TokenAPIHandler),
            (r"/api/authorizations/token", TokenAPIHandler),
            (r"/api/oauth2/token", OAuthTokenHandler),
        ]
    ),
    (r"/api/oauth2/authorize", OAuthAuthorizeHandler),
]
