"""Tokens of users (rest-api §4.8). Imported by others through `users`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tornado import web

from ..core.clock import utcnow
from ..core.errors import InvalidRequest, TokenNotFound
from ..core.scopes.expand import ClientRef, token_scopes
from ..runtime.launch import HOOK_TIMEOUT, call_plugin
from ..store import oauth as oauth_store
from . import models
from .base import APIHandler
from .declare import operation
from .schemas import TokenBody, TokenList, TokenModel, check_body

if TYPE_CHECKING:
    from ..runtime.access import Caller
    from ..store.values import TokenRecord


class _TokenHandler(APIHandler):
    async def token_models(self, user: Any, tokens: Iterable[TokenRecord]) -> list[dict[str, Any]]:
        """Return tokens of one user, with the scopes that they really have now (rbac §8.2)."""
        tokens = list(tokens)
        owner = await self.context.access.caller_for_user(user.id)
        if owner is None:
            raise web.HTTPError(404)
        issued_by = {token.client_id for token in tokens} - {None, "jupyterhub"}
        clients: dict[str, ClientRef] = {}
        if issued_by:
            clients = await self.context.database.read(oauth_store.client_refs, sorted(filter(None, issued_by)))
        groups = owner.groups
        found = []
        for token in tokens:
            scopes = token_scopes(
                token.scopes, owner.scopes, owner.owner, clients.get(token.client_id or ""),
                lambda name: groups if name == owner.name else (),
            )
            found.append(models.token_model(token, scopes.expanded))
        return found


class UserTokenListAPIHandler(_TokenHandler):
    """`/hub/api/users/{user}/tokens`."""

    __module__ = "jupyterhub.apihandlers.users"

    def check_xsrf_cookie(self) -> None:
        """Who brings a password in the body uses no cookie, so nothing can be forged."""
        if getattr(self, "_jupyterhub_user", None) is None and self.request.method == "POST":
            body = self.get_json_body()
            if isinstance(body, dict) and "auth" in body:
                return
        super().check_xsrf_cookie()

    @operation(
        "List the tokens of a user", scopes=("read:tokens",), responses={200: TokenList}, errors={404: "no such user"}
    )
    async def get(self, user_name: str) -> None:
        user = await self.user_or_404(user_name)
        tokens = await self.context.tokens.list_for(user)
        self.write_json({"api_tokens": await self.token_models(user, tokens)})

    @operation(
        "Issue a token for a user", who="anyone", request=TokenBody, responses={201: TokenModel},
        errors={400: "it cannot be issued like that", 403: "you may not issue tokens for that user"},
    )
    async def post(self, user_name: str) -> None:
        body = self.get_json_body()
        if body is None:
            body = {}
        if not isinstance(body, dict):
            raise InvalidRequest("The body must be a JSON object")
        caller = self.caller or await self._caller_by_password(body)
        if caller is None:
            raise web.HTTPError(403)
        user = await self.context.directory.find(user_name)
        if user is None or not await self.context.access.covers(caller, "tokens", user=user_name):
            raise web.HTTPError(403, f"{caller.kind.capitalize()} {caller.name} may not issue tokens for {user_name}")
        note = self._note(body, caller, user_name)
        wanted = check_body(
            {name: value for name, value in body.items() if name in ("scopes", "roles") and value is not None},
            TokenBody,
        )
        text, token = await self.context.tokens.issue(
            user, scopes=wanted.get("scopes"), roles=wanted.get("roles"), note=note, expires_in=self._lifetime(body)
        )
        (model,) = await self.token_models(user, [token])
        self.write_json({**model, "token": text}, status=201)

    async def _caller_by_password(self, body: dict[str, Any]) -> Caller | None:
        """Return whom the authenticator recognises in `auth`: a way to the first token. No log-in comes of it."""
        if "auth" not in body:
            return None
        authenticator = self.authenticator
        try:
            found = await call_plugin(
                self.context, f"{type(authenticator).__name__}.authenticate",
                lambda: authenticator.get_authenticated_user(self, body["auth"]), HOOK_TIMEOUT,
            )
        except Exception as error:
            self.log.warning("Nobody recognised by the password in a request for a token: %r", error)
            return None
        user = await self.context.directory.find(found["name"]) if found else None
        return await self.context.access.caller_for_user(user.id) if user is not None else None

    @staticmethod
    def _note(body: dict[str, Any], caller: Caller, user_name: str) -> str:
        note = body.get("note")
        if isinstance(note, (dict, list)):
            raise InvalidRequest("note must be a text")
        if note is not None and note != "":
            return str(note)
        if caller.is_user and caller.name == user_name:
            return "Requested via api"
        return f"Requested via api by {caller.kind} {caller.name}"

    def _lifetime(self, body: dict[str, Any]) -> int | None:
        """Return for how many seconds the token is wanted, None for ever."""
        highest = int(self.settings.get("token_expires_in_max_seconds", 0) or 0)
        value = body.get("expires_in")
        if value is None:
            return highest or None
        if not isinstance(value, int) or value < 1:
            raise InvalidRequest(f"expires_in must be a whole number of seconds, at least 1, not {value!r}")
        if highest and value > highest:
            raise InvalidRequest(f"expires_in must be at most {highest} seconds on this hub")
        try:
            utcnow() + timedelta(seconds=value)
        except OverflowError:
            raise InvalidRequest(f"expires_in is too far away: {value} seconds") from None
        return int(value)


class UserTokenAPIHandler(_TokenHandler):
    """`/hub/api/users/{user}/tokens/{id}`."""

    __module__ = "jupyterhub.apihandlers.users"

    async def token_or_404(self, user: Any, token_id: str) -> TokenRecord:
        try:
            return await self.context.tokens.find(user, token_id)
        except TokenNotFound:
            raise web.HTTPError(404, f"There is no token {token_id!r} of {user.name}") from None

    @operation("One token", scopes=("read:tokens",), responses={200: TokenModel}, errors={404: "there is none"})
    async def get(self, user_name: str, token_id: str) -> None:
        user = await self.user_or_404(user_name)
        token = await self.token_or_404(user, token_id)
        (model,) = await self.token_models(user, [token])
        self.write_json(model)

    @operation("Revoke a token", scopes=("tokens",), responses={204: None}, errors={404: "there is none"})
    async def delete(self, user_name: str, token_id: str) -> None:
        user = await self.user_or_404(user_name)
        await self.context.tokens.revoke(await self.token_or_404(user, token_id))
        self.write_nothing()
