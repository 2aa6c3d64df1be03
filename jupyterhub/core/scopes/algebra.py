"""Sets of expanded scopes: what they cover, what two of them have in common (rbac §9.3 to §9.5).

Who is in which group is not known here; it is passed in as a function from a user's name to group names, and
None means "not known": then rules about groups are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, TypeAlias

from ..decisions import YES, Decision, no
from ..errors import InvalidScope
from .grammar import Scope

__all__ = ["ALL", "AllType", "FilterSet", "Membership", "Resource", "ScopeCollector", "ScopeSet", "decide_access", "membership"]

Membership: TypeAlias = Callable[[str], Collection[str]]
"""From the name of a user to the names of the groups that the user is in."""


class AllType(Enum):
    """The type of ALL."""

    ALL = "all"

    def __repr__(self) -> str:
        return "ALL"


ALL: Final = AllType.ALL
"""A scope held without any filter."""

FilterSet: TypeAlias = Literal[AllType.ALL] | Mapping[str, frozenset[str]]
"""ALL, or kind of filter → values. An empty mapping means the scope is not held at all."""

_NOTHING: Final[Mapping[str, frozenset[str]]] = {}


def membership(groups: Mapping[str, Collection[str]]) -> Membership:
    """Membership from a table: user → groups."""
    return lambda user_name: groups.get(user_name, ())


@dataclass(frozen=True, slots=True)
class Resource:
    """What a request is about. `server` needs `user`; the default server is the empty name."""

    user: str | None = None
    server: str | None = None
    group: str | None = None
    service: str | None = None

    @classmethod
    def every_server_of(cls, user: str) -> Resource:
        """All servers of a user: a server that cannot exist, so only wider filters match (rbac §9.5)."""
        return cls(user=user, server="/")

    def filters(self) -> list[tuple[str, str]]:
        """The kinds and values a scope may name to reach this. A server stands for its user as well."""
        found = []
        if self.server is not None and self.user is not None:
            found.append(("server", f"{self.user}/{self.server}"))
        elif self.user is not None:
            found.append(("user", self.user))
        if self.group is not None:
            found.append(("group", self.group))
        if self.service is not None:
            found.append(("service", self.service))
        return found


class ScopeSet:
    """An immutable set of expanded scopes, parsed once.

    Per scope name it holds ALL or the values of each kind of filter, so every question is a few dictionary
    look-ups.
    """

    __slots__ = ("_entries", "_expanded", "_hash")

    def __init__(self, entries: Mapping[str, FilterSet] | None = None) -> None:
        self._entries: dict[str, FilterSet] = dict(entries or {})
        self._expanded: frozenset[str] | None = None
        self._hash: int | None = None

    # -- from and to text ------------------------------------------------------------------------------------

    @classmethod
    def parse(cls, scopes: str | Iterable[str | Scope]) -> ScopeSet:
        """Read expanded scopes; a single text is one scope.

        Redundant entries go: an unfiltered scope swallows the filtered ones of its name (rbac §9.3). Raises
        InvalidScope for a filter without a value.
        """
        if isinstance(scopes, str):
            scopes = (scopes,)
        collector = ScopeCollector()
        for item in scopes:
            collector.add((item if isinstance(item, Scope) else Scope.parse(item),))
        return collector.collected()

    @property
    def expanded(self) -> frozenset[str]:
        """The scopes as texts."""
        if self._expanded is None:
            self._expanded = frozenset(str(scope) for scope in self.scopes())
        return self._expanded

    def scopes(self) -> Iterator[Scope]:
        """The scopes as values, in no particular order."""
        for name, filters in self._entries.items():
            if isinstance(filters, AllType):
                yield Scope(name)
            else:
                for kind, values in filters.items():
                    for value in values:
                        yield Scope(name, kind, value)

    def __contains__(self, scope: object) -> bool:
        """Whether exactly this text is in the set. To ask whether it is covered, use `covers`."""
        return scope in self.expanded

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.expanded))

    def __len__(self) -> int:
        return len(self.expanded)

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __eq__(self, other: object) -> bool:
        return self._entries == other._entries if isinstance(other, ScopeSet) else NotImplemented

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self.expanded)
        return self._hash

    def __repr__(self) -> str:
        return f"ScopeSet({', '.join(self)})"

    # -- questions -------------------------------------------------------------------------------------------

    @property
    def names(self) -> Collection[str]:
        """Names of scopes held in any form."""
        return self._entries.keys()

    def filter_for(self, name: str) -> FilterSet:
        """What the scope `name` is limited to: ALL, or kind → values; empty when it is not held.

        This is the form that list queries use to filter in the database.
        """
        return self._entries.get(name, _NOTHING)

    def covers(
        self,
        required: str | Scope,
        *,
        groups_of: Membership | None = None,
        post_filter: bool = False,
    ) -> Decision:
        """Whether `required` (``name`` or ``name!kind=value``) is held (rbac §9.5).

        With `post_filter`, holding it with some filter is enough for an unfiltered `required`: the caller
        filters what it shows.
        """
        scope = required if isinstance(required, Scope) else Scope.parse(required)
        filters = self._entries.get(scope.name)
        if filters is None:
            return no("scope-missing", f"{scope.name} is not held")
        if isinstance(filters, AllType):
            return YES
        if scope.kind is None or scope.value is None:
            if post_filter and scope.kind is None:
                return YES
            return no("scope-filtered", f"{scope.name} is held for some resources only")
        if self._reaches(filters, scope.kind, scope.value, groups_of):
            return YES
        return no("scope-elsewhere", f"{scope.name} is held, but not for {scope.kind} {scope.value}")

    def covers_resource(
        self,
        name: str,
        resource: Resource,
        *,
        groups_of: Membership | None = None,
        bare_server_names: bool = False,
    ) -> bool:
        """Whether the scope `name` reaches `resource`.

        `bare_server_names` also accepts ``!server=lab`` for a server called lab, as models do (rbac §9.5).
        """
        filters = self._entries.get(name)
        if filters is None:
            return False
        if isinstance(filters, AllType):
            return True
        if bare_server_names and resource.server and resource.server in filters.get("server", ()):
            return True
        return any(self._reaches(filters, kind, value, groups_of) for kind, value in resource.filters())

    @staticmethod
    def _reaches(
        filters: Mapping[str, frozenset[str]], kind: str, value: str, groups_of: Membership | None
    ) -> bool:
        values = filters.get(kind)
        if values is not None and value in values:
            return True
        if kind == "server":
            user = value.partition("/")[0]
            users = filters.get("user")
            if users is not None and user in users:
                return True
        elif kind == "user":
            user = value
        else:
            return False
        groups = filters.get("group")
        return groups is not None and groups_of is not None and not groups.isdisjoint(groups_of(user))

    # -- sets from sets --------------------------------------------------------------------------------------

    def intersect(self, other: ScopeSet, groups_of: Membership | None = None) -> ScopeSet:
        """What both sets allow (rbac §9.4).

        Two different groups have nothing in common, whoever is in them.
        """
        entries: dict[str, FilterSet] = {}
        for name in self._entries.keys() & other._entries.keys():
            mine, theirs = self._entries[name], other._entries[name]
            if isinstance(mine, AllType):
                entries[name] = theirs
            elif isinstance(theirs, AllType):
                entries[name] = mine
            elif common := _intersect_filters(mine, theirs, groups_of):
                entries[name] = common
        return ScopeSet(entries)

    def needs_membership(self, other: ScopeSet) -> bool:
        """Whether `intersect` without membership may leave out something that membership would keep."""
        for name in self._entries.keys() & other._entries.keys():
            mine, theirs = self._entries[name], other._entries[name]
            if isinstance(mine, AllType) or isinstance(theirs, AllType):
                continue
            for left, right in ((mine, theirs), (theirs, mine)):
                if "group" in left and ("user" in right or "server" in right):
                    return True
        return False

    def union(self, *others: ScopeSet) -> ScopeSet:
        """What any of the sets allows."""
        return ScopeSet.parse([scope for each in (self, *others) for scope in each.scopes()])

    def minus(self, other: ScopeSet, groups_of: Membership | None = None) -> ScopeSet:
        """The scopes of this set that `other` does not fully allow."""
        common = self.intersect(other, groups_of).expanded
        return ScopeSet.parse([scope for scope in self.expanded if scope not in common])

    def __or__(self, other: ScopeSet) -> ScopeSet:
        return self.union(other)


class ScopeCollector:
    """Takes scopes one after the other, and makes a set of them."""

    def __init__(self) -> None:
        self._wide: set[str] = set()
        self._narrow: dict[str, dict[str, set[str]]] = {}

    def add(self, scopes: Iterable[Scope]) -> None:
        """Take these. Raises InvalidScope for a filter without a value."""
        for scope in scopes:
            self.add_names((scope.name,), scope.kind, scope.value)

    def add_names(self, names: Iterable[str], kind: str | None = None, value: str | None = None) -> None:
        """Take the scopes of these names, all with the same filter. Raises InvalidScope for one without a value."""
        if kind is None:
            self._wide.update(names)
            return
        for name in names:
            if not value:
                raise InvalidScope(str(Scope(name, kind, value)), "its filter has no value")
            self._narrow.setdefault(name, {}).setdefault(kind, set()).add(value)

    def collected(self) -> ScopeSet:
        """Return the set. Redundant entries go: an unfiltered scope swallows the filtered ones of its name."""
        entries: dict[str, FilterSet] = dict.fromkeys(self._wide, ALL)
        for name, kinds in self._narrow.items():
            if name not in entries:
                entries[name] = {kind: frozenset(values) for kind, values in kinds.items()}
        return ScopeSet(entries)


def _intersect_filters(
    mine: Mapping[str, frozenset[str]],
    theirs: Mapping[str, frozenset[str]],
    groups_of: Membership | None,
) -> dict[str, frozenset[str]]:
    common: dict[str, set[str]] = {
        kind: set(mine[kind] & theirs[kind]) for kind in mine.keys() & theirs.keys()
    }
    for left, right in ((mine, theirs), (theirs, mine)):
        users, groups = right.get("user", frozenset()), right.get("group", frozenset())
        know = groups_of if groups else None
        for server in left.get("server", ()):
            owner = server.partition("/")[0]
            if owner in users or (know is not None and not groups.isdisjoint(know(owner))):
                common.setdefault("server", set()).add(server)
        if know is not None:
            for user in left.get("user", ()):
                if not groups.isdisjoint(know(user)):
                    common.setdefault("user", set()).add(user)
    return {kind: frozenset(values) for kind, values in common.items() if values}


def decide_access(
    held: ScopeSet | None,
    any_of: Collection[str],
    resource: Resource | None = None,
    *,
    groups_of: Membership | None = None,
    post_filter: bool = False,
) -> Decision:
    """Whether an endpoint that accepts any one of the scopes `any_of` is open to a caller (rest-api §1.5).

    `held` is None for a caller nobody knows. The cause of a refusal is one of ``not-identified`` (A),
    ``scope-missing`` (B), ``resource-hidden`` (C) and ``scope-filtered`` (D).
    """
    if held is None:
        return no("not-identified", "Credentials are missing or not valid")
    asked = resource.filters() if resource is not None else ()
    named = False
    for name in any_of:
        filters = held.filter_for(name)
        if isinstance(filters, AllType):
            return YES
        if not filters:
            continue
        named = True
        if asked:
            for kind, value in asked:
                if ScopeSet._reaches(filters, kind, value, groups_of):
                    return YES
        elif post_filter:
            return YES
    listed = ", ".join(any_of)
    if named and asked:
        return no("resource-hidden", "There is nothing here, or nothing that you may see")
    cause = "scope-filtered" if named else "scope-missing"
    return no(cause, f"This needs one of the permissions [{listed}]")
