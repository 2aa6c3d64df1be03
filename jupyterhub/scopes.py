"""Scopes, by the names that others import from here. Nothing inside imports this module.

The rules are in `core.scopes`; the functions below that take rows read them in the session that the rows belong to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from .core.clock import is_expired, utcnow
from .core.errors import ScopeNotFound
from .core.scopes import expand as _rules
from .core.scopes.algebra import AllType as Scope
from .core.scopes.algebra import ScopeSet
from .core.scopes.catalogue import define_custom_scopes, scope_definitions
from .core.scopes.describe import describe_scopes
from .core.scopes.expand import ClientRef, OwnerRef
from .core.scopes.grammar import check_scopes_exist
from .web.authz import needs_scope

__all__ = [
    "Scope",
    "ScopeNotFound",
    "access_scopes",
    "define_custom_scopes",
    "describe_raw_scopes",
    "expand_scopes",
    "get_scopes_for",
    "has_scope",
    "identify_scopes",
    "needs_scope",
    "parse_scopes",
    "scope_definitions",
]


def parse_scopes(scope_list: Iterable[str]) -> dict[str, Any]:
    """Return expanded scopes as name → `Scope.ALL`, or kind of filter → set of values."""
    held = ScopeSet.parse(scope_list)
    parsed: dict[str, Any] = {}
    for name in held.names:
        filters = held.filter_for(name)
        parsed[name] = (
            filters if isinstance(filters, Scope) else {kind: set(values) for kind, values in filters.items()}
        )
    return parsed


def _as_scope_set(have: Any) -> ScopeSet:
    if isinstance(have, ScopeSet):
        return have
    if isinstance(have, dict):
        return ScopeSet(
            {
                name: filters
                if isinstance(filters, Scope)
                else {kind: frozenset(values) for kind, values in filters.items()}
                for name, filters in have.items()
            }
        )
    return ScopeSet.parse(have)


def has_scope(scope: str, have_scopes: Any, *, post_filter: bool = False, db: Any = None) -> bool:
    """Return whether `scope` is held, by a set of expanded scopes or by what `parse_scopes` returned (rbac §9.5).

    With a session in `db` the groups of users count; without one, rules about groups are left out.
    """

    def groups_of(name: str) -> Collection[str]:
        from . import orm

        user = orm.User.find(db, name)
        return [group.name for group in user.groups] if user is not None else ()

    held = _as_scope_set(have_scopes)
    return bool(held.covers(scope, groups_of=groups_of if db is not None else None, post_filter=post_filter))


def _owner(obj: Any) -> OwnerRef | None:
    """Return whose scopes they are: of a user or service, as row or wrapper."""
    if obj is None:
        return None
    table = getattr(getattr(obj, "orm_user", obj), "__tablename__", "")
    is_service = table == "services" or type(obj).__name__ == "Service"
    return OwnerRef.service(obj.name) if is_service else OwnerRef.user(obj.name)


def _client(oauth_client: Any) -> ClientRef | None:
    """Return what an OAuth client's row stands for."""
    if oauth_client is None:
        return None
    identifier = str(oauth_client.identifier)
    spawner, service = getattr(oauth_client, "spawner", None), getattr(oauth_client, "service", None)
    if spawner is not None:
        return ClientRef(identifier, user=spawner.user.name, server=spawner.name)
    return ClientRef(identifier, service=service.name if service is not None else None)


def identify_scopes(obj: Any = None) -> frozenset[str]:
    """Return the scopes that let a token of this user or service say whose it is."""
    return _rules.identify_scopes(_owner(obj))


def access_scopes(oauth_client: Any = None, *, service: Any = None, spawner: Any = None) -> frozenset[str]:
    """Return the scope needed to use what an OAuth client, a service or a spawner stands for."""
    client = _client(oauth_client)
    if spawner is not None:
        client = ClientRef("", user=spawner.user.name, server=spawner.name)
    elif service is not None:
        client = ClientRef("", service=service.name)
    return _rules.access_scopes(client)


def expand_scopes(scopes: Iterable[str], owner: Any = None, oauth_client: Any = None) -> frozenset[str]:
    """Return raw scopes with everything they contain, for an owner and the client that asks. Raises ScopeNotFound."""
    return _rules.expand_scopes(scopes, _owner(owner), _client(oauth_client)).expanded


def describe_raw_scopes(raw_scopes: Iterable[str], username: str | None = None) -> list[dict[str, str]]:
    """Return `scope`, `description` and `filter` of each raw scope, in words for people."""
    return [text.to_dict() for text in describe_scopes(raw_scopes, username or "")]


def _check_scopes_exist(scopes: Iterable[str], who_for: str | None = None) -> None:
    """Raise ScopeNotFound for the first scope that does not exist."""
    check_scopes_exist(scopes, who_for or "")


def get_scopes_for(orm_object: Any) -> set[str]:
    """Return the expanded scopes of a row: a user, a service, or a token bounded by its owner (rbac §8)."""
    if getattr(orm_object, "__tablename__", "") == "api_tokens":
        owner = _owner(orm_object.owner)
        if owner is None:
            return set()
        groups = [group.name for group in getattr(orm_object.owner, "groups", ())]
        own_name = owner.name
        scopes = _rules.token_scopes(
            orm_object.scopes or (),
            _owned(orm_object.owner, owner),
            owner,
            _client(orm_object.oauth_client),
            lambda name: groups if name == own_name else (),
        )
        return set(scopes.expanded)
    entity = getattr(orm_object, "orm_user", orm_object)
    owner = _owner(entity)
    return set(_owned(entity, owner).expanded) if owner is not None else set()


def _owned(entity: Any, owner: OwnerRef) -> ScopeSet:
    """Return what the roles of a user or service allow, with the roles of its groups, and its shares."""
    groups = list(getattr(entity, "groups", ()))
    raw = {scope for role in entity.roles for scope in role.scopes or ()}
    raw |= {scope for group in groups for role in group.roles for scope in role.scopes or ()}
    for holder in (entity, *groups):
        for share in getattr(holder, "shared_with_me", ()):
            if not is_expired(share.expires_at, utcnow()):
                raw |= set(share.scopes or ())
    return _rules.expand(raw, owner, drop_unknown=True).scopes
