"""From scopes as people write them to scopes that can be compared (rbac §8, §9)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ..errors import ScopeNotFound, ScopesNotHeld
from .algebra import Membership, ScopeCollector, ScopeSet
from .catalogue import SELF_SCOPES, names_below
from .grammar import Scope, check_scopes_exist, split_scope

__all__ = [
    "ClientRef",
    "Expansion",
    "OwnerRef",
    "Resolution",
    "access_scopes",
    "check_requestable",
    "complete_server_token_scopes",
    "expand",
    "expand_scope",
    "expand_scopes",
    "identify_scopes",
    "resolve_requested",
    "server_token_scopes",
    "token_scopes",
]


@dataclass(frozen=True, slots=True)
class OwnerRef:
    """Who scopes belong to: `kind` is ``"user"`` or ``"service"``."""

    kind: str
    name: str

    @classmethod
    def user(cls, name: str) -> OwnerRef:
        return cls("user", name)

    @classmethod
    def service(cls, name: str) -> OwnerRef:
        return cls("service", name)


@dataclass(frozen=True, slots=True)
class ClientRef:
    """An OAuth client and what it stands for:

    a server (`user` and `server`, the default one is "") or a service.
    """

    identifier: str
    user: str | None = None
    server: str | None = None
    service: str | None = None

    @property
    def server_path(self) -> str | None:
        """``user/server``, or None when the client is not a server."""
        return f"{self.user}/{self.server or ''}" if self.user is not None else None


@dataclass(frozen=True, slots=True)
class Expansion:
    """Expanded scopes, and what had to be left out on the way."""

    scopes: ScopeSet
    dropped: tuple[str, ...] = ()
    """Raw scopes whose filter points to nothing here, and `self` for others than users. Worth a warning."""
    unknown: tuple[str, ...] = ()
    """Raw scopes that no longer exist; only when they are not an error."""


def expand_scope(scope: str) -> frozenset[str]:
    """One raw scope with everything it contains, the filter carried along (rbac §9.1).

    Names that begin with ``read:user`` are left out under a ``!server`` filter, which says nothing about
    users. Raises ScopeNotFound.
    """
    names, filter_text = _names_in(scope), split_scope(scope)[1]
    return frozenset(f"{each}!{filter_text}" for each in names) if filter_text else frozenset(names)


def _names_in(scope: str) -> list[str]:
    name, filter_text = split_scope(scope)
    try:
        names = names_below(name)
    except KeyError:
        raise ScopeNotFound(scope) from None
    return [each for each in names if not each.startswith("read:user")] if filter_text.startswith("server") else names


def expand(
    raw: Iterable[str],
    owner: OwnerRef | None = None,
    client: ClientRef | None = None,
    *,
    drop_unknown: bool = False,
) -> Expansion:
    """Raw scopes as a ScopeSet, for an owner and the client that asks (rbac §9.2).

    Raises ScopeNotFound, unless `drop_unknown`: stored scopes may have lost their definition since.
    """
    found = ScopeCollector()
    dropped: list[str] = []
    unknown: list[str] = []
    targets = {"user": None, "service": None, "server": client.server_path if client else None}
    if owner is not None and owner.kind in targets:
        targets[owner.kind] = owner.name
    if client is not None and client.service is not None:
        targets["service"] = client.service
    for text in raw:
        if text == "self":
            if owner is not None and owner.kind == "user":
                for each in SELF_SCOPES:
                    found.add_names(names_below(each), "user", owner.name)
            else:
                dropped.append(text)
            continue
        try:
            names = _names_in(text)
        except ScopeNotFound:
            if not drop_unknown:
                raise
            unknown.append(text)
            continue
        scope = Scope.parse(text)
        if scope.value is None and scope.kind in targets:
            if (target := targets[scope.kind]) is None:
                dropped.append(text)
            else:
                found.add_names(names, scope.kind, target)
        else:
            found.add_names(names, scope.kind, scope.value)
    return Expansion(found.collected(), tuple(sorted(dropped)), tuple(sorted(unknown)))


def expand_scopes(
    raw: Iterable[str], owner: OwnerRef | None = None, client: ClientRef | None = None
) -> ScopeSet:
    """The scopes of `expand` alone."""
    return expand(raw, owner, client).scopes


def identify_scopes(owner: OwnerRef | None = None) -> frozenset[str]:
    """What lets a token say whose it is; without an owner in the raw form for users (rbac §1)."""
    if owner is None:
        return frozenset({"read:users:name!user", "read:users:groups!user"})
    if owner.kind == "service":
        return frozenset({f"read:services:name!service={owner.name}"})
    return frozenset({f"read:users:name!user={owner.name}", f"read:users:groups!user={owner.name}"})


def access_scopes(client: ClientRef | None) -> frozenset[str]:
    """The one scope needed to use a client; empty for a client that stands for nothing (rbac §1)."""
    if client is None:
        return frozenset()
    if client.server_path is not None:
        return frozenset({f"access:servers!server={client.server_path}"})
    if client.service is not None:
        return frozenset({f"access:services!service={client.service}"})
    return frozenset()


def token_scopes(
    raw: Iterable[str],
    owner_scopes: ScopeSet,
    owner: OwnerRef,
    client: ClientRef | None = None,
    groups_of: Membership | None = None,
) -> ScopeSet:
    """What a token may do now: never more than its owner (rbac §8.2).

    `client` is the OAuth client that issued it; leave it out for the hub's own.
    """
    raw = frozenset(raw)
    if "inherit" in raw:
        return owner_scopes
    wanted = expand(raw, owner, client, drop_unknown=True).scopes.expanded
    wanted |= access_scopes(client) | identify_scopes(owner)
    return ScopeSet.parse(wanted).intersect(owner_scopes, groups_of)


def check_requestable(
    raw: Iterable[str],
    owner_scopes: ScopeSet,
    owner: OwnerRef,
    client: ClientRef | None = None,
    groups_of: Membership | None = None,
) -> None:
    """Whether a token with these raw scopes may be made for the owner (rbac §8.3).

    Raises ScopeNotFound, InvalidScope, or ScopesNotHeld with what goes too far.
    """
    raw = list(raw)
    check_scopes_exist(raw)
    asked = frozenset(raw) - {"inherit"}
    excess = expand_scopes(asked, owner, client).minus(owner_scopes, groups_of)
    if excess:
        raise ScopesNotHeld(excess.expanded, f"{owner.kind.capitalize()} {owner.name!r}")


@dataclass(frozen=True, slots=True)
class Resolution:
    """What is left of a request:

    scopes `granted` (raw where possible) and those `refused` at least in part.
    """

    granted: frozenset[str]
    refused: frozenset[str] = frozenset()


def resolve_requested(
    requested: Iterable[str],
    held: Iterable[str],
    owner: OwnerRef | None = None,
    client: ClientRef | None = None,
    groups_of: Membership | None = None,
) -> Resolution:
    """Raw scopes asked for against raw scopes held (rbac §9.6).

    A scope survives as written when it is covered as a whole, and shrinks to its covered parts otherwise.
    """
    requested, held = frozenset(requested), frozenset(held)
    granted = set(requested & held)
    rest = requested - held
    if not rest:
        return Resolution(frozenset(granted))
    refused: set[str] = set()
    have = expand(held, owner, client, drop_unknown=True).scopes
    already = expand(granted, owner, client, drop_unknown=True).scopes.expanded
    for scope in sorted(rest):
        wanted = ScopeSet.parse(expand_scopes([scope], owner, client).expanded - already)
        common = wanted.intersect(have, groups_of)
        # A scope that asks for nothing more (redundant, or a filter without target) is let through as well.
        if common == wanted:
            granted.add(scope)
        else:
            granted |= common.expanded
            refused.add(scope)
    return Resolution(frozenset(granted), frozenset(refused))


ACTIVITY_SCOPES: Final = frozenset({"users:activity!user", "users:activity", "inherit"})


def complete_server_token_scopes(wanted: Iterable[str], user: str, server: str) -> list[str]:
    """Raw scopes to ask for with a server's own token, sorted: ``!server`` filters completed with its name,
    and reporting activity added when nothing wanted allows it (rbac §8.4, steps 1 to 3).
    """
    completed = set()
    for text in wanted:
        name, filter_text = split_scope(text)
        completed.add(f"{name}!server={user}/{server}" if filter_text == "server" else text)
    if not completed & ACTIVITY_SCOPES:
        completed.add("users:activity!user")
    return sorted(completed)


def server_token_scopes(
    wanted: Iterable[str],
    held: Iterable[str],
    user: str,
    server: str,
    groups_of: Membership | None = None,
) -> Resolution:
    """Raw scopes for the API token of a user's server (rbac §8.4).

    `wanted` are the spawner's `server_token_scopes` or those of the role `server`; `held` the raw scopes of
    the user's roles.
    """
    completed = complete_server_token_scopes(wanted, user, server)
    return resolve_requested(
        completed, frozenset(held) | {"inherit"}, OwnerRef.user(user), groups_of=groups_of
    )
