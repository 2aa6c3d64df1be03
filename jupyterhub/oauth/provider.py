"""The OAuth 2 provider: oauthlib's authorisation code flow over our tables (oauth §3 to §6).

oauthlib is synchronous, so each step runs as one store function on a database thread, with a validator made for that
session alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from oauthlib.oauth2 import AuthorizationCodeGrant, AuthorizationEndpoint, BearerToken, RequestValidator, TokenEndpoint
from oauthlib.oauth2.rfc6749 import errors as oauth_errors
from sqlalchemy import select
from sqlalchemy.orm import Session

from .. import orm
from ..core import secrets
from ..core.errors import ScopeNotFound
from ..core.scopes.catalogue import scope_definitions
from ..core.scopes.expand import ClientRef, OwnerRef, access_scopes, identify_scopes, resolve_requested
from ..core.scopes.grammar import check_scopes_exist
from ..store import tokens as token_store

if TYPE_CHECKING:
    from ..runtime.context import HubContext

log = logging.getLogger("jupyterhub")

#: Seconds that a code is good for.
CODE_LIFETIME = 300
_TOKEN_LENGTH = 30
#: Stands before redirect URIs that are paths on our own host (oauth §2) while oauthlib, which knows only absolute
#: ones, looks at them. The name cannot exist, so it can never be mistaken for a real address.
_OWN_HOST = "https://hub.invalid"


@dataclass(frozen=True)
class Authorization:
    """A checked request to be let in: who asks, for what, and where it leads."""

    client_id: str
    client: ClientRef
    description: str
    redirect_uri: str
    #: Raw scopes that the client may get at most, identify and access included.
    scopes: tuple[str, ...]
    #: What oauthlib needs again when the code is made.
    credentials: dict[str, Any]


class Validator(RequestValidator):  # type: ignore[misc]
    """oauthlib's questions, answered from one database session."""

    def __init__(self, session: Session, *, require_pkce: bool, token_lifetime: int) -> None:
        super().__init__()
        self.session = session
        self.require_pkce = require_pkce
        self.token_lifetime = token_lifetime

    def _client(self, client_id: str | None) -> orm.OAuthClient | None:
        if not client_id:
            return None
        row = self.session.scalars(select(orm.OAuthClient).where(orm.OAuthClient.identifier == client_id)).first()
        # Without a secret a client cannot prove who it is, so it is as good as unknown (oauth §2).
        return row if row is not None and row.secret else None

    def client_ref(self, client_id: str) -> ClientRef | None:
        """Return what a client stands for, or None when it stands for nothing."""
        target = token_store.client_target(self.session, client_id)
        if not target:
            return None
        return ClientRef(
            client_id, user=target.get("client_user"), server=target.get("client_server"),
            service=target.get("client_service"),
        )

    # Who asks

    def authenticate_client(self, request: Any, *args: Any, **kwargs: Any) -> bool:
        client = self._client(request.client_id)
        if client is None or not secrets.compare_token(client.secret, request.client_secret or ""):
            log.warning("OAuth client %.100r could not prove who it is", request.client_id)
            return False
        request.client = client
        return True

    def authenticate_client_id(self, client_id: str, request: Any, *args: Any, **kwargs: Any) -> bool:
        return False

    def validate_client_id(self, client_id: str, request: Any, *args: Any, **kwargs: Any) -> bool:
        return self._client(client_id) is not None

    def client_authentication_required(self, request: Any, *args: Any, **kwargs: Any) -> bool:
        return True

    # Where it leads

    def validate_redirect_uri(self, client_id: str, redirect_uri: str, request: Any, *args: Any, **kwargs: Any) -> bool:
        client = self._client(client_id)
        return client is not None and client.redirect_uri == _strip(redirect_uri)

    def get_default_redirect_uri(self, client_id: str, request: Any, *args: Any, **kwargs: Any) -> str | None:
        client = self._client(client_id)
        return _absolute(str(client.redirect_uri)) if client is not None else None

    def confirm_redirect_uri(
        self, client_id: str, code: str, redirect_uri: str | None, client: Any, request: Any, *args: Any, **kwargs: Any
    ) -> bool:
        return redirect_uri is None or _strip(redirect_uri) == client.redirect_uri

    # What for

    def validate_response_type(
        self, client_id: str, response_type: str, client: Any, request: Any, *args: Any, **kwargs: Any
    ) -> bool:
        return response_type == "code"

    def validate_grant_type(
        self, client_id: str, grant_type: str, client: Any, request: Any, *args: Any, **kwargs: Any
    ) -> bool:
        return grant_type == "authorization_code"

    def get_default_scopes(self, client_id: str, request: Any, *args: Any, **kwargs: Any) -> list[str]:
        client = self._client(client_id)
        return list(client.allowed_scopes or ()) if client is not None else []

    def validate_scopes(
        self, client_id: str, scopes: Iterable[str], client: Any, request: Any, *args: Any, **kwargs: Any
    ) -> bool:
        """Whether the client may ask for these scopes; `request.scopes` holds the resolved ones afterwards."""
        row = self._client(client_id)
        if row is None:
            return False
        ref = self.client_ref(client_id) or ClientRef(client_id)
        wanted = self._names_to_scopes({scope for scope in scopes if scope and scope != "identify"})
        if wanted is None:
            return False
        basic = identify_scopes() | access_scopes(ref)
        limit = set(row.allowed_scopes or ()) | basic
        resolution = resolve_requested(wanted | basic, limit, OwnerRef.user(getattr(request, "user_name", "") or ""), ref)
        if resolution.refused:
            log.warning("OAuth client %s may not ask for %s", client_id, ", ".join(sorted(resolution.refused)))
            return False
        request.scopes = sorted(resolution.granted)
        return True

    def _names_to_scopes(self, names: set[str]) -> set[str] | None:
        """Scopes as they are, or the scopes of roles when all names are roles; None when neither holds (oauth §4.1)."""
        if all(name.partition("!")[0] in scope_definitions for name in names):
            try:
                check_scopes_exist(names)
            except ScopeNotFound:
                return None
            return names
        roles = {row.name: row for row in self.session.scalars(select(orm.Role).where(orm.Role.name.in_(names)))}
        if set(roles) != names:
            return None
        return {scope for row in roles.values() for scope in row.scopes or ()}

    # PKCE

    def is_pkce_required(self, client_id: str, request: Any) -> bool:
        return self.require_pkce

    def get_code_challenge(self, code: str, request: Any) -> str | None:
        row = self._code(code)
        return row.code_challenge if row is not None else None

    def get_code_challenge_method(self, code: str, request: Any) -> str | None:
        row = self._code(code)
        return row.code_challenge_method if row is not None else None

    # Codes

    def _code(self, code: str | None) -> orm.OAuthCode | None:
        if not code:
            return None
        row = self.session.scalars(select(orm.OAuthCode).where(orm.OAuthCode.code == code)).first()
        if row is None or (row.expires_at is not None and row.expires_at <= int(time.time())):
            return None
        return row

    def save_authorization_code(self, client_id: str, code: dict[str, Any], request: Any, *args: Any, **kwargs: Any) -> None:
        method = getattr(request, "code_challenge_method", None)
        challenge = getattr(request, "code_challenge", None)
        self.session.add(
            orm.OAuthCode(
                client_id=client_id, code=code["code"], expires_at=int(time.time()) + CODE_LIFETIME,
                redirect_uri=_strip(request.redirect_uri or ""), session_id=request.hub_session_id,
                user_id=request.hub_user_id, scopes=sorted(request.hub_scopes), code_challenge=challenge,
                code_challenge_method=(method or "plain") if challenge else None,
            )
        )
        self.session.flush()

    def validate_code(self, client_id: str, code: str, client: Any, request: Any, *args: Any, **kwargs: Any) -> bool:
        row = self._code(code)
        if row is None or row.client_id != client_id:
            return False
        request.hub_code = row
        request.user = row.user
        request.scopes = list(row.scopes or ())
        return True

    def invalidate_authorization_code(self, client_id: str, code: str, request: Any, *args: Any, **kwargs: Any) -> None:
        row = self._code(code)
        if row is not None:
            self.session.delete(row)

    # Tokens

    def save_bearer_token(self, token: dict[str, Any], request: Any, *args: Any, **kwargs: Any) -> None:
        row = request.hub_code
        expires = datetime.now(timezone.utc) + timedelta(seconds=self.token_lifetime)
        token_store.issue(
            self.session, user_id=row.user_id, scopes=row.scopes or (), note="", expires_at=expires,
            client_id=row.client_id, session_id=row.session_id or None, token=token["access_token"],
            rounds=secrets.GENERATED_ROUNDS,
        )
        # There is nothing to refresh with.
        token.pop("refresh_token", None)
        token["scope"] = " ".join(row.scopes or ())


class CodeGrant(AuthorizationCodeGrant):  # type: ignore[misc]
    """The code grant, with redirect URIs that are only a path on this host: those of servers are (oauth §2)."""

    def _handle_redirects(self, request: Any) -> None:
        uri = request.redirect_uri
        if not (uri and uri.startswith("/")):
            super()._handle_redirects(request)
            return
        request.using_default_redirect_uri = False
        if not self.request_validator.validate_redirect_uri(request.client_id, uri, request):
            raise oauth_errors.MismatchingRedirectURIError(request=request)


class JupyterHubOAuthServer:
    """The two endpoints, each step a function for a database thread."""

    def __init__(self, context: HubContext, *, token_expires_in: int, url_prefix: str = "", login_url: str = "") -> None:
        self._context = context
        self.token_expires_in = token_expires_in
        self.url_prefix, self.login_url = url_prefix, login_url

    @property
    def require_pkce(self) -> bool:
        return bool(self._context.get("oauth_require_pkce", False))

    def _endpoints(self, session: Session) -> tuple[Validator, AuthorizationEndpoint, TokenEndpoint]:
        validator = Validator(session, require_pkce=self.require_pkce, token_lifetime=self.token_expires_in)
        grant = CodeGrant(validator, refresh_token=False)
        bearer = BearerToken(
            validator, token_generator=lambda request: secrets.new_code(_TOKEN_LENGTH),
            expires_in=self.token_expires_in,
        )
        authorize = AuthorizationEndpoint(
            default_response_type="code", default_token_type=bearer, response_types={"code": grant}
        )
        token = TokenEndpoint(
            default_grant_type="authorization_code", default_token_type=bearer,
            grant_types={"authorization_code": grant},
        )
        return validator, authorize, token

    async def check_request(self, uri: str, method: str, body: Any, headers: Any, user_name: str) -> Authorization:
        """Check an authorisation request. Raises oauthlib's errors; those with a redirect carry it."""
        return await self._context.database.read(self._check_request, uri, method, body, headers, user_name)

    def _check_request(
        self, session: Session, uri: str, method: str, body: Any, headers: Any, user_name: str
    ) -> Authorization:
        validator, authorize, _ = self._endpoints(session)
        uri = _with_absolute_redirect(uri)
        try:
            with _named(validator, user_name):
                scopes, credentials = authorize.validate_authorization_request(uri, method, body, headers)
        except oauth_errors.OAuth2Error as error:
            if getattr(error, "redirect_uri", None):
                error.redirect_uri = _strip(error.redirect_uri)
            raise
        client_id = credentials["client_id"]
        row = validator._client(client_id)
        ref = validator.client_ref(client_id)
        if row is None or ref is None:
            raise oauth_errors.InvalidClientIdError()
        credentials = {name: value for name, value in credentials.items() if name != "request"}
        return Authorization(
            client_id=client_id, client=ref, description=row.description or client_id,
            redirect_uri=_strip(credentials.get("redirect_uri") or row.redirect_uri), scopes=tuple(scopes),
            credentials=credentials,
        )

    async def issue_code(
        self, uri: str, method: str, body: Any, headers: Any, *, user_id: int, user_name: str, session_id: str,
        scopes: Iterable[str],
    ) -> tuple[dict[str, str], str, int]:
        """Make a code for a user and return headers, body and status of the answer, a redirect."""
        return await self._context.database.run(
            self._issue_code, uri, method, body, headers, user_id, user_name, session_id, sorted(scopes)
        )

    def _issue_code(
        self, session: Session, uri: str, method: str, body: Any, headers: Any, user_id: int, user_name: str,
        session_id: str, scopes: list[str],
    ) -> tuple[dict[str, str], str, int]:
        validator, authorize, _ = self._endpoints(session)
        uri = _with_absolute_redirect(uri)
        with _named(validator, user_name):
            _, credentials = authorize.validate_authorization_request(uri, "GET", None, headers)
            credentials.pop("request", None)
            credentials.update(
                hub_user_id=user_id, hub_session_id=session_id, hub_scopes=scopes, user_name=user_name
            )
            answer_headers, text, status = authorize.create_authorization_response(
                uri, "GET", None, headers, scopes, credentials
            )
        return {name: _strip(value) for name, value in answer_headers.items()}, text, status

    async def exchange(self, uri: str, method: str, body: Any, headers: Any) -> tuple[dict[str, str], str, int]:
        """Exchange a code for a token. Returns headers, body and status."""
        return await self._context.database.run(self._exchange, uri, method, body, headers)

    def _exchange(
        self, session: Session, uri: str, method: str, body: Any, headers: Any
    ) -> tuple[dict[str, str], str, int]:
        _, _, token = self._endpoints(session)
        answer: tuple[dict[str, str], str, int] = token.create_token_response(uri, method, body, headers)
        return answer

    async def granted_before(self, user_id: int, client_id: str) -> set[str]:
        """Return the raw scopes that the user's tokens of this client hold already."""
        return await self._context.database.read(_granted_before, user_id, client_id)

    # For plugins, on the loop's thread

    def add_client(
        self, client_id: str, client_secret: str, redirect_uri: str, allowed_scopes: Any = None, description: str = ""
    ) -> Any:
        """Register a client, or change the one there is; for plugins, blocks."""

        def store(session: Session) -> None:
            row = session.scalars(select(orm.OAuthClient).where(orm.OAuthClient.identifier == client_id)).first()
            if row is None:
                row = orm.OAuthClient(identifier=client_id)
                session.add(row)
            row.secret = secrets.hash_token(client_secret) if client_secret else ""
            row.redirect_uri, row.description = redirect_uri, description
            row.allowed_scopes = sorted(allowed_scopes or ())

        self._context.database.run_sync(store)
        return self.fetch_by_client_id(client_id)

    def remove_client(self, client_id: str) -> None:
        """Delete a client; for plugins, blocks."""

        def drop(session: Session) -> None:
            row = session.scalars(select(orm.OAuthClient).where(orm.OAuthClient.identifier == client_id)).first()
            if row is not None:
                session.delete(row)

        self._context.database.run_sync(drop)

    def fetch_by_client_id(self, client_id: str) -> Any:
        """Return a client's row in the plugins' session, or None."""
        session = self._context.database.plugin_session
        return session.query(orm.OAuthClient).filter(orm.OAuthClient.identifier == client_id).first()


class _named:
    """Tell the validator whose scopes `!user` means, for the time of one check."""

    def __init__(self, validator: Validator, user_name: str) -> None:
        self._validator, self._name = validator, user_name
        self._original: Callable[..., bool] = validator.validate_scopes

    def __enter__(self) -> None:
        def validate_scopes(client_id: str, scopes: Any, client: Any, request: Any, *args: Any, **kwargs: Any) -> bool:
            request.user_name = self._name
            return self._original(client_id, scopes, client, request, *args, **kwargs)

        self._validator.validate_scopes = validate_scopes  # type: ignore[method-assign]

    def __exit__(self, *exc: Any) -> None:
        self._validator.validate_scopes = self._original  # type: ignore[method-assign]


def _granted_before(session: Session, user_id: int, client_id: str) -> set[str]:
    rows = session.scalars(
        select(orm.APIToken.scopes).where(orm.APIToken.user_id == user_id, orm.APIToken.client_id == client_id)
    )
    return {scope for scopes in rows for scope in scopes or ()}


def make_provider(
    context: HubContext, *, url_prefix: str = "", login_url: str = "", token_expires_in: int = 14 * 86400
) -> JupyterHubOAuthServer:
    """Return the provider of a Hub. `token_expires_in` is in seconds."""
    return JupyterHubOAuthServer(context, token_expires_in=token_expires_in, url_prefix=url_prefix, login_url=login_url)


def grantable(context: HubContext, caller: Any, authorization: Authorization, role_scopes: Iterable[str]) -> list[str]:
    """Return the raw scopes that a user really gives away: what is asked for, as far as it is theirs (oauth §4.2)."""
    held = set(role_scopes) | {"inherit"} | identify_scopes() | access_scopes(authorization.client)
    groups = caller.groups
    resolution = resolve_requested(
        authorization.scopes, held, OwnerRef.user(caller.name), authorization.client,
        lambda name: groups if name == caller.name else (),
    )
    return ["inherit"] if "inherit" in resolution.granted else sorted(resolution.granted)


def _absolute(uri: str) -> str:
    """A path on our own host as an absolute URI; others as they are."""
    return f"{_OWN_HOST}{uri}" if uri.startswith("/") and not uri.startswith("//") else uri


def _strip(uri: str) -> str:
    """The inverse of `_absolute`."""
    return uri.removeprefix(_OWN_HOST)


def _with_absolute_redirect(uri: str) -> str:
    """The address of an authorisation request, its `redirect_uri` made absolute."""
    parts = urlsplit(uri)
    query = parse_qsl(parts.query, keep_blank_values=True)
    changed = [(name, _absolute(value) if name == "redirect_uri" else value) for name, value in query]
    return urlunsplit(parts._replace(query=urlencode(changed)))


__all__ = ["Authorization", "JupyterHubOAuthServer", "Validator", "grantable", "make_provider"]
