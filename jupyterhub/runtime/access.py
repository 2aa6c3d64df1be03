"""Who is asking, and with which scopes (rbac §8). Hot: every request passes here, so answers come from a cache.

The cache is dropped by changes of the database, told by `Database` after each commit, not by time alone: losing a
role takes effect at the next request.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.clock import is_expired, utcnow
from ..core.decisions import Decision
from ..core.scopes.algebra import FilterSet, Resource, ScopeSet, decide_access
from ..core.scopes.expand import ClientRef, OwnerRef, expand, token_scopes
from ..store import tokens as token_store
from ..store import users as user_store

if TYPE_CHECKING:
    from ..store.values import IdentityRecord, TokenRecord
    from .context import HubContext

#: Callers kept. 20,000 people with two tokens each fit; older ones are asked for again.
MAX_CALLERS = 50_000
#: Seconds after which a cached answer is asked for again although nobody told us of a change: other programs and
#: other Hubs may write to the same database.
MAX_AGE = 60.0
#: Seconds for which "there is no such token" is believed. Short: it may be issued the next moment.
MAX_AGE_UNKNOWN = 1.0


@dataclass(frozen=True)
class Caller:
    """Somebody who makes a request, with what the credentials allow."""

    kind: str
    name: str
    id: int
    admin: bool
    scopes: ScopeSet
    groups: frozenset[str] = frozenset()
    token: TokenRecord | None = None
    session_id: str = ""
    client_id: str = ""

    @property
    def is_token(self) -> bool:
        return self.token is not None

    @property
    def is_user(self) -> bool:
        return self.kind == "user"

    @property
    def owner(self) -> OwnerRef:
        return OwnerRef(self.kind, self.name)

    @property
    def is_server(self) -> bool:
        """Whether this is the own token of a single-user server: its requests are not a person's activity."""
        return self.token is not None and (self.token.note or "").startswith("Server at ")


class Access:
    """Turns credentials into callers and answers whether a caller may do something."""

    def __init__(self, context: HubContext, clock: Callable[[], float] = time.monotonic) -> None:
        self._context = context
        self._clock = clock
        self._callers: OrderedDict[bytes, tuple[float, Caller | None]] = OrderedDict()
        self._keys_of_user: dict[int, set[bytes]] = {}
        self._keys_of_token: dict[int, set[bytes]] = {}
        self._groups: dict[str, tuple[float, frozenset[str]]] = {}

    # Credentials

    async def identify_token(self, token: str) -> Caller | None:
        """Return whom an API token stands for, or None for an unknown, expired or malformed one."""
        key = hashlib.sha256(b"token\0" + token.encode("utf-8", "surrogatepass")).digest()
        return await self._identify(key, lambda: self._load_token(token))

    async def identify_login(self, cookie_id: str, session_id: str = "") -> Caller | None:
        """Return the user whose log-in cookie holds this id, with all of the user's scopes."""
        key = hashlib.sha256(b"login\0" + cookie_id.encode("utf-8", "surrogatepass")).digest()
        return await self._identify(key, lambda: self._load_login(cookie_id))

    async def caller_for_user(self, user_id: int) -> Caller | None:
        """Return a user as caller, for work done in the user's name (OAuth, server tokens)."""
        key = hashlib.sha256(b"user\0" + str(user_id).encode()).digest()
        return await self._identify(key, lambda: self._load_user(user_id))

    async def _identify(self, key: bytes, load: Callable[[], Any]) -> Caller | None:
        now = self._clock()
        hit = self._callers.get(key)
        if hit is not None:
            stored, caller = hit
            if now - stored < (MAX_AGE if caller is not None else MAX_AGE_UNKNOWN) and not _expired(caller):
                self._callers.move_to_end(key)
                return caller
            self._drop(key)
        caller = await load()
        if caller is not None or len(self._callers) < MAX_CALLERS:
            self._callers[key] = (now, caller)
            if caller is not None and caller.is_user:
                self._keys_of_user.setdefault(caller.id, set()).add(key)
            if caller is not None and caller.token is not None:
                self._keys_of_token.setdefault(caller.token.id, set()).add(key)
            while len(self._callers) > MAX_CALLERS:
                self._drop(next(iter(self._callers)))
        loaded: Caller | None = caller
        return loaded

    def _drop(self, key: bytes) -> None:
        hit = self._callers.pop(key, None)
        caller = hit[1] if hit is not None else None
        if caller is None:
            return
        if caller.is_user:
            _discard(self._keys_of_user, caller.id, key)
        if caller.token is not None:
            _discard(self._keys_of_token, caller.token.id, key)

    async def _load_token(self, token: str) -> Caller | None:
        identity = await self._context.database.run(token_store.find_by_token, token)
        return None if identity is None else self._caller(identity)

    async def _load_login(self, cookie_id: str) -> Caller | None:
        identity = await self._context.database.read(user_store.identify_by_cookie_id, cookie_id)
        return None if identity is None else self._caller(identity)

    async def _load_user(self, user_id: int) -> Caller | None:
        identity = await self._context.database.read(user_store.identify_by_id, user_id)
        return None if identity is None else self._caller(identity)

    def _caller(self, identity: IdentityRecord) -> Caller:
        owner = OwnerRef(identity.kind, identity.name)
        groups = frozenset(identity.groups)
        owned = owner_scopes(identity)
        scopes = owned
        token = identity.token
        if token is not None:
            client = client_of(identity)

            def groups_of(name: str) -> Collection[str]:
                return groups if name == identity.name else self.known_groups(name)

            scopes = token_scopes(token.scopes, owned, owner, client, groups_of)
        return Caller(
            kind=identity.kind,
            name=identity.name,
            id=identity.id,
            admin=identity.admin,
            scopes=scopes,
            groups=groups,
            token=token,
            session_id=(token.session_id or "") if token else "",
            client_id=(token.client_id or "") if token else "",
        )

    # Questions

    def known_groups(self, user_name: str) -> frozenset[str]:
        """Return the groups of a user as far as they are cached; `groups_of` asks when they are not."""
        hit = self._groups.get(user_name)
        return hit[1] if hit is not None else frozenset()

    async def groups_of(self, user_name: str) -> frozenset[str]:
        """Return the names of a user's groups; unknown users have none."""
        hit = self._groups.get(user_name)
        now = self._clock()
        if hit is not None and now - hit[0] < MAX_AGE:
            return hit[1]
        user = self._context.users.cached(user_name)
        if user is not None and user.record is not None:
            groups = frozenset(user.record.groups)
        else:
            groups = frozenset(await self._context.database.read(user_store.groups_of, user_name))
        if len(self._groups) > MAX_CALLERS:
            self._groups.clear()
        self._groups[user_name] = (now, groups)
        return groups

    async def decide(
        self,
        caller: Caller | None,
        any_of: Iterable[str],
        resource: Resource | None = None,
        *,
        post_filter: bool = False,
    ) -> Decision:
        """Whether an endpoint that accepts any one of these scopes is open to the caller (rbac §9.5)."""
        names = list(any_of)
        held = caller.scopes if caller is not None else None
        groups_of = None
        if held is not None and resource is not None and resource.user and _asks_groups(held, names):
            groups = await self.groups_of(resource.user)
            groups_of = lambda name: groups if name == resource.user else self.known_groups(name)
        return decide_access(held, names, resource, groups_of=groups_of, post_filter=post_filter)

    async def covers(
        self,
        caller: Caller | None,
        scope: str,
        *,
        user: str | None = None,
        server: str | None = None,
        group: str | None = None,
        service: str | None = None,
    ) -> Decision:
        """Whether the caller holds `scope` for this resource; `server` goes with `user`, the default one is ""."""
        resource = Resource(user=user, server=server, group=group, service=service)
        return await self.decide(caller, [scope], resource if resource.filters() else None)

    def filter_for(self, caller: Caller, scope: str) -> FilterSet:
        """Return what a list for this caller may contain, to be applied in SQL."""
        return caller.scopes.filter_for(scope)

    # Forgetting

    def forget_user(self, user_id: int) -> None:
        """A user, or what the user may do, has changed."""
        for key in list(self._keys_of_user.get(user_id, ())):
            self._drop(key)
        user = self._context.users.cached(user_id)
        if user is not None:
            self._groups.pop(user.name, None)

    def forget_token(self, token_id: int) -> None:
        """A token was changed or revoked."""
        for key in list(self._keys_of_token.get(token_id, ())):
            self._drop(key)

    def forget_all(self) -> None:
        """Roles, groups or scopes have changed: anybody may be concerned."""
        self._callers.clear()
        self._keys_of_user.clear()
        self._keys_of_token.clear()
        self._groups.clear()


def _discard(index: dict[int, set[bytes]], number: int, key: bytes) -> None:
    keys = index.get(number)
    if keys is not None:
        keys.discard(key)
        if not keys:
            del index[number]


def _expired(caller: Caller | None) -> bool:
    if caller is None or caller.token is None or caller.token.expires_at is None:
        return False
    return is_expired(caller.token.expires_at, utcnow())


def _asks_groups(held: ScopeSet, names: Iterable[str]) -> bool:
    for name in names:
        filters = held.filter_for(name)
        if isinstance(filters, dict) and "group" in filters:
            return True
    return False


def owner_scopes(identity: IdentityRecord) -> ScopeSet:
    """Return all that a user or service may do: roles, roles of groups, and shares (rbac §8.1)."""
    owner = OwnerRef(identity.kind, identity.name)
    owned = expand(identity.role_scopes, owner, drop_unknown=True).scopes
    if identity.share_scopes:
        owned = owned.union(expand(identity.share_scopes, owner, drop_unknown=True).scopes)
    return owned


def client_of(identity: IdentityRecord) -> ClientRef | None:
    """Return the OAuth client that issued the identity's token, or None for the Hub's own."""
    token = identity.token
    if token is None or not token.client_id or token.client_id == "jupyterhub":
        return None
    return ClientRef(
        token.client_id, user=identity.client_user, server=identity.client_server, service=identity.client_service
    )
