"""Log in, refresh, log out; authentication state; groups and roles that come from a log-in (plugins §4.3)."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from tornado import web

from .. import metrics
from ..core.clock import utcnow
from ..core.errors import HubError, LoginNotChecked
from ..store import logins as login_store
from ..store import tokens as token_store
from ..store import users as user_store
from .launch import HOOK_TIMEOUT, call_plugin

if TYPE_CHECKING:
    from ..user import User
    from .context import HubContext


class Logins:
    """What happens when people come and go."""

    def __init__(self, context: HubContext) -> None:
        self._context = context
        #: SHA-256 of ended log-ins known to this process → when they would have expired anyway (unix seconds).
        self._ended: dict[str, float] = {}
        #: Cookies looked up and found alive, so that a page view costs no query: hash → monotonic time of the look.
        self._alive: dict[str, float] = {}
        #: Held while a user's log-in is renewed: id → lock.
        self._renewing: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    async def log_in(self, handler: Any, data: Any) -> User | None:
        """Ask the authenticator, then store what it says. Returns None when it refuses.

        Raises LoginNotChecked when the authenticator could not tell, because its directory or provider is away, say;
        and what the authenticator raises to be shown, an HTTPError for one.
        """
        began = time.monotonic()
        authenticator = self._context.authenticator
        status = metrics.LoginStatus.failure
        try:
            authenticated = await self._ask(
                "authenticate", lambda: authenticator.get_authenticated_user(handler, data)
            )
            if not authenticated:
                return None
            user = await self.auth_to_user(authenticated)
            status = metrics.LoginStatus.success
            return user
        finally:
            metrics.LOGIN_DURATION_SECONDS.labels(status=status).observe(time.monotonic() - began)

    async def _ask(self, method: str, call: Callable[[], Any]) -> Any:
        """Call a method of the authenticator that may have to reach a directory or a provider.

        Raises LoginNotChecked for what it raises by accident, which is logged.
        """
        context = self._context
        name = type(context.authenticator).__name__
        try:
            return await call_plugin(context, f"{name}.{method}", call, HOOK_TIMEOUT)
        except (HubError, web.HTTPError, web.Finish):
            raise
        except Exception as error:
            # These attributes are how plugins say what is to be shown.
            if any(hasattr(error, each) for each in ("jupyterhub_message", "jupyterhub_html_message", "headers")):
                raise
            context.log.error("%s could not check a log-in: %s: %s", name, type(error).__name__, error)
            raise LoginNotChecked() from error

    async def auth_to_user(self, authenticated: dict[str, Any], user: User | None = None) -> User:
        """Find or create the user of an authentication model and store what the model says (config §8.1, §8.7).

        Raises ValueError when `manage_groups` is on and the model has no `groups`.
        """
        context = self._context
        authenticator = context.authenticator
        name = authenticated["name"]
        if user is not None and user.name != name:
            raise ValueError(f"The authenticator refreshed {user.name!r} and answered about {name!r}")
        if user is None:
            user = await context.directory.find(name)
        if user is None:
            user = await context.directory.create(name, admin=bool(authenticated.get("admin")))
        if authenticator.manage_groups and "groups" not in authenticated:
            raise ValueError(
                f"{type(authenticator).__name__}.manage_groups is on, but the result for {name!r} has no 'groups'"
            )
        roles = authenticated.get("roles") if authenticator.manage_roles else None
        await context.database.run(
            login_store.store_login,
            user.id,
            admin=authenticated.get("admin"),
            user_info=authenticated.get("user_info"),
            groups=authenticated.get("groups") if authenticator.manage_groups else None,
            roles=roles,
        )
        await context.directory.reload(user)
        if roles is not None or authenticator.manage_groups:
            context.access.forget_all()
        await self._keep_auth_state(user, authenticated)
        user._auth_refreshed = time.monotonic()
        return user

    async def _keep_auth_state(self, user: User, authenticated: dict[str, Any]) -> None:
        authenticator = self._context.authenticator
        if not authenticator.enable_auth_state:
            if user.record is None or user.record.has_auth_state:
                await self.save_auth_state(user, None)
            return
        state = authenticated.get("auth_state")
        hook = getattr(authenticator, "reconcile_auth_state_hook", None)
        if hook:
            existing = await self.get_auth_state(user)
            state = await call_plugin(
                self._context,
                f"{type(authenticator).__name__}.reconcile_auth_state_hook",
                lambda: hook(authenticator, authenticated, existing),
                HOOK_TIMEOUT,
            )
        await self.save_auth_state(user, state)

    async def refresh(self, user: User, handler: Any, *, force: bool = False) -> User | None:
        """Renew a log-in that is older than `auth_refresh_age` seconds. Returns None when it is stale.

        At most once per request: the handler remembers. `auth_refresh_age = 0` turns everything off (config §8.6).
        Raises LoginNotChecked as `log_in` does.
        """
        age = self._context.authenticator.auth_refresh_age
        if not age:
            return user
        if not force and self._is_fresh(user, age):
            return user
        already = getattr(handler, "_refreshed_users", None)
        if already is None:
            already = set()
            if handler is not None:
                handler._refreshed_users = already
        if user.name in already:
            return user
        already.add(user.name)
        # One at a time: a refresh token may be good once, and its second use be taken for a theft.
        lock = self._renewing.setdefault(user.id, asyncio.Lock())
        async with lock:
            if not force and self._is_fresh(user, age):
                return user
            return await self._renew(user, handler)

    @staticmethod
    def _is_fresh(user: User, age: float) -> bool:
        return user._auth_refreshed is not None and time.monotonic() - user._auth_refreshed < age

    async def _renew(self, user: User, handler: Any) -> User | None:
        authenticator = self._context.authenticator
        began = time.monotonic()
        result = await self._ask("refresh_user", lambda: authenticator.refresh_user(user, handler))
        if not result:
            self._context.log.warning("The log-in of %s is stale and has to be renewed", user.name)
            return None
        if result is True:
            user._auth_refreshed = began
            return user
        model = dict(result)
        model["name"] = user.name
        if "auth_state" not in model:
            model["auth_state"] = await self.get_auth_state(user)
        return await self.auth_to_user(model, user)

    # Authentication state

    async def get_auth_state(self, user: User) -> dict[str, Any] | None:
        """Return the decrypted state, or None when there is none or it cannot be read, which is logged."""
        known = user.record
        if known is not None and not known.has_auth_state and not self._context.authenticator.enable_auth_state:
            return None
        from .. import crypto

        encrypted = await self._context.database.read(user_store.get_auth_state, user.id)
        if encrypted is None:
            return None
        try:
            state: dict[str, Any] | None = await crypto.decrypt(encrypted)
        except (ValueError, crypto.InvalidToken, crypto.EncryptionUnavailable) as error:
            self._context.log.warning(
                "The authentication state of %s cannot be decrypted (%s); was a key removed?",
                user.name,
                error or type(error).__name__,
            )
            return None
        if state is not None and len(crypto.CryptKeeper.instance().keys) > 1:
            await self.save_auth_state(user, state)
        return state

    async def save_auth_state(self, user: User, auth_state: dict[str, Any] | None) -> None:
        """Encrypt and store the state; None deletes it."""
        encrypted: bytes | None = None
        if auth_state is not None:
            from .. import crypto

            encrypted = await crypto.encrypt(auth_state)
        await self._context.database.run(user_store.set_auth_state, user.id, encrypted)

    # Log-out

    async def end_login(self, cookie_value: bytes | str, signed_at: datetime | None = None) -> None:
        """Make one log-in cookie a stranger's, for as long as it would have been valid (ARCHITECTURE §9)."""
        digest = _digest(cookie_value)
        expires = (signed_at or utcnow()) + timedelta(days=self._context.cookie_max_age_days)
        self._ended[digest] = expires.timestamp()
        self._alive.pop(digest, None)
        await self._context.database.run(login_store.end_login, digest, expires)

    async def login_ended(self, cookie_value: bytes | str) -> bool:
        """Whether the browser that holds this cookie has logged out."""
        digest = _digest(cookie_value)
        if digest in self._ended:
            return True
        now = time.monotonic()
        looked = self._alive.get(digest)
        # One Hub writes all log-outs of a SQLite database itself; with several, this is how late another hears.
        if looked is not None and now - looked < 5.0:
            return False
        ended = await self._context.database.read(login_store.login_ended, digest)
        if ended:
            self._ended[digest] = (datetime.now(timezone.utc) + timedelta(days=1)).timestamp()
            return True
        if len(self._alive) > 50_000:
            self._alive.clear()
        self._alive[digest] = now
        return False

    async def log_out(self, user: User, session_id: str) -> None:
        """Revoke every token that was issued in this browser session."""
        if session_id:
            await self._context.database.run(token_store.revoke_by_session, user.id, session_id)
        self._context.access.forget_user(user.id)

    def forget_expired(self) -> None:
        """Drop ended log-ins that would have expired by themselves."""
        now = time.time()
        self._ended = {digest: expires for digest, expires in self._ended.items() if expires > now}


def _digest(cookie_value: bytes | str) -> str:
    value = cookie_value.encode() if isinstance(cookie_value, str) else cookie_value
    return hashlib.sha256(value).hexdigest()
