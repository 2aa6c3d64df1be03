"""The OAuth 2 provider: oauthlib's authorisation code flow over our tables (oauth §3 to §6).

oauthlib is synchronous, so each step runs as one function on a database thread, with a validator made for its session
alone; it sees values of the store, never rows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from oauthlib.oauth2 import (
    AuthorizationCodeGrant,
    AuthorizationEndpoint,
    BearerToken,
    OAuth2Error,
    RefreshTokenGrant,
    RequestValidator,
    TokenEndpoint,
)
from oauthlib.oauth2.rfc6749 import errors as oauth_errors
from oauthlib.uri_validate import is_absolute_uri
from sqlalchemy.orm import Session

from .. import orm
from ..core import secrets
from ..core.clock import utcnow
from ..core.errors import InvalidRequest
from ..core.scopes.catalogue import scope_definitions
from ..core.scopes.expand import ClientRef, OwnerRef, access_scopes, expand, identify_scopes, resolve_requested
from ..core.scopes.grammar import check_scopes_exist
from ..runtime.access import owner_scopes
from ..store import oauth as oauth_store
from ..store.values import OAuthClientRecord, OAuthCodeRecord

if TYPE_CHECKING:
    from ..runtime.access import Caller
    from ..runtime.context import HubContext

__all__ = ["Answer", "Authorization", "JupyterHubOAuthServer", "grantable", "make_provider"]

log = logging.getLogger("jupyterhub")

#: Letters and digits of codes and access tokens.
TEXT_LENGTH = 30

#: Headers, body and status, as oauthlib returns them.
Answer = tuple[dict[str, str], str | None, int]


@dataclass(frozen=True)
class Authorization:
    """A checked request to be let in: who asks, and for which raw scopes at most, identify and access included.

    `client` is None for a client that stands for neither a server nor a service.
    """

    client_id: str
    client: ClientRef | None
    description: str
    redirect_uri: str
    state: str | None
    scopes: tuple[str, ...]


def _ref(client: OAuthClientRecord) -> ClientRef | None:
    if client.user is None and client.service is None:
        return None
    return ClientRef(client.identifier, user=client.user, server=client.server, service=client.service)


class _Client:
    """A client as oauthlib wants it."""

    def __init__(self, record: OAuthClientRecord) -> None:
        self.record = record
        self.client_id = record.identifier


class _Grant(AuthorizationCodeGrant):  # type: ignore[misc]
    """The code flow, with redirects to a path on our own host: single-user servers are sent back like that."""

    def _handle_redirects(self, request: Any) -> None:
        given = request.redirect_uri
        request.using_default_redirect_uri = given is None
        if given is None:
            request.redirect_uri = self.request_validator.get_default_redirect_uri(request.client_id, request)
            if not request.redirect_uri:
                raise oauth_errors.MissingRedirectURIError(request=request)
            return
        if not (given.startswith("/") and not given.startswith("//")) and not is_absolute_uri(given):
            raise oauth_errors.InvalidRedirectURIError(request=request)
        if not self.request_validator.validate_redirect_uri(request.client_id, given, request):
            raise oauth_errors.MismatchingRedirectURIError(request=request)


class _Validator(RequestValidator):  # type: ignore[misc]
    """oauthlib's questions, answered from one database session.

    `user_name` is whoever is asked for consent, empty at the token endpoint.
    """

    def __init__(self, session: Session, *, require_pkce: bool, token_lifetime: int, user_name: str = "") -> None:
        super().__init__()
        self.session = session
        self.require_pkce = require_pkce
        self.token_lifetime = token_lifetime
        self.user_name = user_name
        self._clients: dict[str, OAuthClientRecord | None] = {}
        self._codes: dict[str, OAuthCodeRecord | None] = {}

    def client(self, client_id: str | None) -> OAuthClientRecord | None:
        if not client_id:
            return None
        if client_id not in self._clients:
            found = oauth_store.find_client(self.session, client_id)
            # Without a secret a client cannot prove who it is, so it is as good as unknown (oauth §2).
            self._clients[client_id] = found if found is not None and found.secret else None
        return self._clients[client_id]

    # Who asks

    def authenticate_client(self, request: Any, *args: Any, **kwargs: Any) -> bool:
        client = self.client(request.client_id)
        if client is None or not secrets.compare_token(client.secret, request.client_secret or ""):
            log.warning("OAuth client %.100r did not prove who it is", request.client_id)
            return False
        request.client = _Client(client)
        return True

    def authenticate_client_id(self, client_id: str, request: Any, *args: Any, **kwargs: Any) -> bool:
        return False

    def validate_client_id(self, client_id: str, request: Any, *args: Any, **kwargs: Any) -> bool:
        return self.client(client_id) is not None

    def client_authentication_required(self, request: Any, *args: Any, **kwargs: Any) -> bool:
        return True

    # Where it leads

    def validate_redirect_uri(self, client_id: str, redirect_uri: str, request: Any, *args: Any, **kwargs: Any) -> bool:
        client = self.client(client_id)
        return client is not None and client.redirect_uri == redirect_uri

    def get_default_redirect_uri(self, client_id: str, request: Any, *args: Any, **kwargs: Any) -> str | None:
        client = self.client(client_id)
        return client.redirect_uri if client is not None else None

    def confirm_redirect_uri(
        self, client_id: str, code: str, redirect_uri: str | None, client: Any, request: Any, *args: Any, **kwargs: Any
    ) -> bool:
        found = self.client(client_id)
        return redirect_uri is None or (found is not None and found.redirect_uri == redirect_uri)

    # What for

    def validate_response_type(
        self, client_id: str, response_type: str, client: Any, request: Any, *args: Any, **kwargs: Any
    ) -> bool:
        return response_type == "code"

    def validate_grant_type(
        self, client_id: str, grant_type: str, client: Any, request: Any, *args: Any, **kwargs: Any
    ) -> bool:
        return grant_type == "authorization_code"

    def validate_refresh_token(
        self, refresh_token: str, client: Any, request: Any, *args: Any, **kwargs: Any
    ) -> bool:
        """There are none."""
        return False

    def get_default_scopes(self, client_id: str, request: Any, *args: Any, **kwargs: Any) -> list[str]:
        client = self.client(client_id)
        return sorted(client.allowed_scopes) if client is not None else []

    def validate_scopes(
        self, client_id: str, scopes: list[str], client: Any, request: Any, *args: Any, **kwargs: Any
    ) -> bool:
        """Whether the client may ask for all of these; `request.scopes` are the resolved ones then (oauth §4.1)."""
        found = self.client(client_id)
        if found is None or scopes == [""]:
            return False
        wanted = self._names_to_scopes({scope for scope in scopes if scope} - {"identify"})
        if wanted is None:
            return False
        ref = _ref(found)
        always = identify_scopes() | access_scopes(ref)
        resolution = resolve_requested(
            wanted | always, set(found.allowed_scopes) | always, OwnerRef.user(self.user_name), ref
        )
        if resolution.refused:
            log.warning("OAuth client %s may not ask for %s", client_id, ", ".join(sorted(resolution.refused)))
            return False
        request.scopes = sorted(resolution.granted)
        return True

    def _names_to_scopes(self, names: set[str]) -> set[str] | None:
        """Return scopes as they are, the scopes of roles if all are roles, None otherwise; both together is neither."""
        if all(name.partition("!")[0] in scope_definitions for name in names):
            try:
                check_scopes_exist(names)
            except InvalidRequest:
                return None
            return names
        roles = oauth_store.scopes_of_roles(self.session, names)
        if set(roles) != names:
            return None
        return {scope for scopes in roles.values() for scope in scopes}

    # PKCE

    def is_pkce_required(self, client_id: str, request: Any) -> bool:
        return self.require_pkce

    def get_code_challenge(self, code: str, request: Any) -> str | None:
        found = self.code(code)
        return found.code_challenge if found is not None else None

    def get_code_challenge_method(self, code: str, request: Any) -> str | None:
        found = self.code(code)
        return found.code_challenge_method if found is not None else None

    # Codes

    def code(self, code: str | None) -> OAuthCodeRecord | None:
        if not code:
            return None
        if code not in self._codes:
            self._codes[code] = oauth_store.find_code(self.session, code, lock=True)
        return self._codes[code]

    def save_authorization_code(
        self, client_id: str, code: dict[str, Any], request: Any, *args: Any, **kwargs: Any
    ) -> None:
        oauth_store.store_code(
            self.session,
            oauth_store.new_code_record(
                client_id=client_id, code=code["code"], redirect_uri=request.redirect_uri or "",
                session_id=request.hub_session_id, user_id=request.hub_user_id, user_name=self.user_name,
                scopes=request.hub_scopes, challenge=request.code_challenge, method=request.code_challenge_method,
            ),
        )

    def validate_code(self, client_id: str, code: str, client: Any, request: Any, *args: Any, **kwargs: Any) -> bool:
        """Whether the code is good and was given to this client. Raises OAuth errors where the user has lost access."""
        found = self.code(code)
        if found is None or found.client_id != client_id:
            return False
        self._check_still_held(found, request)
        request.user = found.user_name
        request.scopes = list(found.scopes)
        return True

    def _check_still_held(self, code: OAuthCodeRecord, request: Any) -> None:
        """Roles and shares may have been taken away since the code was made, or consent was given beyond them."""
        client = self.client(code.client_id)
        ref = _ref(client) if client is not None else None
        identity = oauth_store.identity_for_client(self.session, code.user_id, ref or ClientRef(code.client_id))
        if identity is None:
            raise oauth_errors.InvalidGrantError(request=request)
        owner, held = OwnerRef.user(identity.name), owner_scopes(identity)

        def groups_of(name: str) -> tuple[str, ...]:
            return identity.groups if name == identity.name else ()

        for scope in access_scopes(ref):
            if not held.covers(scope, groups_of=groups_of):
                raise oauth_errors.InvalidGrantError(
                    description="The user may not use this application any more.", request=request
                )
        asked = frozenset(code.scopes) - {"inherit"}
        excess = expand(asked, owner, ref, drop_unknown=True).scopes.minus(held, groups_of)
        if excess.expanded - access_scopes(ref) - identify_scopes(owner):
            raise oauth_errors.InvalidScopeError(
                description="The user does not have all of these permissions any more.", request=request
            )

    def invalidate_authorization_code(self, client_id: str, code: str, request: Any, *args: Any, **kwargs: Any) -> None:
        oauth_store.delete_code(self.session, code)

    # Tokens

    def save_bearer_token(self, token: dict[str, Any], request: Any, *args: Any, **kwargs: Any) -> None:
        code = self.code(request.code)
        assert code is not None, "validate_code comes first"
        expires_at = utcnow() + timedelta(seconds=self.token_lifetime)
        oauth_store.issue_token(self.session, code, token["access_token"], expires_at)
        # There is nothing to refresh with.
        token.pop("refresh_token", None)
        token["scope"] = " ".join(code.scopes)


class JupyterHubOAuthServer:
    """The two endpoints, and the clients that plugins bring."""

    def __init__(
        self, context: HubContext, *, token_expires_in: int = 14 * 86400, url_prefix: str = "", login_url: str = ""
    ) -> None:
        self._context = context
        #: Seconds for which an access token is good.
        self.token_expires_in = token_expires_in
        self.url_prefix, self.login_url = url_prefix, login_url

    @property
    def require_pkce(self) -> bool:
        """Whether clients have to send a challenge."""
        return bool(self._context.get("oauth_require_pkce", False))

    def _validator(self, session: Session, user_name: str = "") -> _Validator:
        return _Validator(
            session, require_pkce=self.require_pkce, token_lifetime=self.token_expires_in, user_name=user_name
        )

    @staticmethod
    def _authorize(validator: _Validator) -> AuthorizationEndpoint:
        return AuthorizationEndpoint(
            default_response_type="code",
            default_token_type=None,
            response_types={"code": _Grant(validator, refresh_token=False)},
        )

    # The authorisation endpoint

    async def check_request(self, uri: str, headers: dict[str, str], user_name: str) -> Authorization:
        """Check a request to be let in. Raises oauthlib's errors; other than the fatal ones they have a redirect."""
        return await self._context.database.read(self._check_request, uri, headers, user_name)

    def _check_request(self, session: Session, uri: str, headers: dict[str, str], user_name: str) -> Authorization:
        validator = self._validator(session, user_name)
        scopes, info = self._authorize(validator).validate_authorization_request(uri, "GET", None, headers)
        client = validator.client(info["client_id"])
        assert client is not None, "oauthlib has asked for it"
        return Authorization(
            client_id=client.identifier, client=_ref(client), description=client.description or client.identifier,
            redirect_uri=info["redirect_uri"], state=info["state"], scopes=tuple(scopes),
        )

    async def issue_code(
        self, uri: str, headers: dict[str, str], *, user_id: int, user_name: str, session_id: str,
        scopes: Iterable[str],
    ) -> Answer:
        """Make a code with which the client gets a token with these raw scopes. Returns the answer, a redirect."""
        return await self._context.database.run(
            self._issue_code, uri, headers, user_id, user_name, session_id, sorted(scopes)
        )

    def _issue_code(
        self, session: Session, uri: str, headers: dict[str, str], user_id: int, user_name: str, session_id: str,
        scopes: list[str],
    ) -> Answer:
        hub = {"hub_user_id": user_id, "hub_session_id": session_id, "hub_scopes": scopes}
        answer: Answer = self._authorize(self._validator(session, user_name)).create_authorization_response(
            uri, "GET", None, headers, scopes=list(scopes), credentials=hub
        )
        return answer

    async def granted_before(self, user_id: int, client_id: str) -> set[str]:
        """Return the raw scopes that the user's tokens of this client hold already."""
        return await self._context.database.read(oauth_store.scopes_granted_before, user_id, client_id)

    # The token endpoint

    async def exchange(self, uri: str, body: str, headers: dict[str, str]) -> Answer:
        """Exchange a code for a token, or say in OAuth's words why not."""
        try:
            return await self._context.database.run(self._exchange, uri, body, headers)
        except OAuth2Error as error:
            return {"Content-Type": "application/json", **error.headers}, error.json, error.status_code

    def _exchange(self, session: Session, uri: str, body: str, headers: dict[str, str]) -> Answer:
        validator = self._validator(session)
        bearer = BearerToken(
            validator, token_generator=lambda request: secrets.new_code(TEXT_LENGTH),
            expires_in=self.token_expires_in,
        )
        endpoint = TokenEndpoint(
            default_grant_type="authorization_code",
            default_token_type=bearer,
            grant_types={
                "authorization_code": _Grant(validator, refresh_token=False),
                "refresh_token": RefreshTokenGrant(validator),
            },
        )
        answer: Answer = endpoint.create_token_response(uri, "POST", body, headers)
        return answer

    # Clients

    async def find_client(self, client_id: str) -> OAuthClientRecord | None:
        """Return a client, or None."""
        return await self._context.database.read(oauth_store.find_client, client_id)

    def add_client(
        self, client_id: str, client_secret: str, redirect_uri: str, allowed_scopes: Iterable[str] | None = None,
        description: str = "",
    ) -> Any:
        """Register a client, or change the one there is, and return its row. For plugins; blocks."""
        # Nobody knows how good a plugin's secret is.
        hashed = secrets.hash_token(client_secret, rounds=secrets.USER_PROVIDED_ROUNDS) if client_secret else ""
        self._context.database.run_sync(
            oauth_store.store_client, client_id, secret=hashed, redirect_uri=redirect_uri,
            scopes=allowed_scopes or (), description=description,
        )
        return self.fetch_by_client_id(client_id)

    def remove_client(self, client_id: str) -> None:
        """Delete a client with all that it issued. For plugins; blocks."""
        self._context.database.run_sync(oauth_store.delete_client, client_id)

    def fetch_by_client_id(self, client_id: str) -> Any:
        """Return a client's row in the plugins' session, or None. For plugins; blocks."""
        session = self._context.database.plugin_session
        return session.query(orm.OAuthClient).filter(orm.OAuthClient.identifier == client_id).first()


def make_provider(
    context: HubContext, *, url_prefix: str = "", login_url: str = "", token_expires_in: int = 14 * 86400
) -> JupyterHubOAuthServer:
    """Return the provider of a Hub. `token_expires_in` is in seconds."""
    return JupyterHubOAuthServer(context, token_expires_in=token_expires_in, url_prefix=url_prefix, login_url=login_url)


def grantable(caller: Caller, authorization: Authorization, role_scopes: Iterable[str]) -> list[str]:
    """Return the raw scopes that a user can really give: what is asked for, as far as it is theirs (oauth §4.2).

    `role_scopes` are the raw scopes of the user's roles, those of groups included. What the user lacks is left out.
    """
    held = {*role_scopes, "inherit", *identify_scopes(), *access_scopes(authorization.client)}
    groups = caller.groups
    resolution = resolve_requested(
        authorization.scopes, held, OwnerRef.user(caller.name), authorization.client,
        lambda name: groups if name == caller.name else (),
    )
    return ["inherit"] if "inherit" in resolution.granted else sorted(resolution.granted)
