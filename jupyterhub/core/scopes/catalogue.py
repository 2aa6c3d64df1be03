"""The table of scopes: what each is for and what it contains (rbac §2, §4).

`scope_definitions` is one mutable registry. Extensions change it in place, so it is never copied or replaced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ..errors import InvalidDefinition

__all__ = [
    "METASCOPES",
    "SELF_SCOPES",
    "USEFUL_FILTERS",
    "define_custom_scopes",
    "names_below",
    "scope_definitions",
]


def _scope(description: str, *subscopes: str) -> dict[str, Any]:
    definition: dict[str, Any] = {"description": description}
    if subscopes:
        definition["subscopes"] = list(subscopes)
    return definition


scope_definitions: dict[str, dict[str, Any]] = {
    "(no_scope)": _scope("Know who you are, and nothing else."),
    "self": _scope("Everything you may do with your own account, servers and tokens."),
    "inherit": _scope("Everything that the owner of the token may do at the time of use."),
    # -- people
    "admin-ui": _scope("Open the administration page. What can be done there needs further permissions."),
    "admin:users": _scope(
        "Manage accounts: create, change and delete them and see what the log-in system keeps about them.",
        "admin:auth_state",
        "users",
        "read:roles:users",
        "delete:users",
    ),
    "admin:auth_state": _scope("See what the log-in system has stored about accounts."),
    "users": _scope("See accounts and report their activity.", "read:users", "list:users", "users:activity"),
    "delete:users": _scope("Delete accounts."),
    "list:users": _scope("List accounts by name.", "read:users:name"),
    "read:users": _scope(
        "See accounts: name, groups and last activity.",
        "read:users:name",
        "read:users:groups",
        "read:users:activity",
    ),
    "read:users:name": _scope("See the names of accounts."),
    "read:users:groups": _scope("See which groups accounts belong to."),
    "read:users:activity": _scope("See when accounts were last active."),
    "read:roles": _scope(
        "See which roles users, services and groups have.",
        "read:roles:users",
        "read:roles:services",
        "read:roles:groups",
    ),
    "read:roles:users": _scope("See which roles users have."),
    "read:roles:services": _scope("See which roles services have."),
    "read:roles:groups": _scope("See which roles groups have."),
    "users:activity": _scope("Report that accounts are active.", "read:users:activity"),
    # -- servers
    "admin:servers": _scope(
        "Manage servers fully, and see what the hub remembers about how they run.",
        "admin:server_state",
        "servers",
    ),
    "admin:server_state": _scope("See what the hub remembers about how servers run."),
    "servers": _scope(
        "See, start, change, stop and delete servers.", "read:servers", "start:servers", "delete:servers"
    ),
    "read:servers": _scope("See servers, their names and whether they run.", "read:users:name"),
    "start:servers": _scope("Create, start and change servers."),
    "delete:servers": _scope("Stop and delete servers."),
    # -- tokens
    "tokens": _scope("List, create and revoke API tokens.", "read:tokens"),
    "read:tokens": _scope("List API tokens, without their secret part."),
    # -- groups
    "admin:groups": _scope(
        "Manage groups: create, change and delete them and see their roles.",
        "groups",
        "read:roles:groups",
        "delete:groups",
    ),
    "groups": _scope("See groups and change who is in them.", "read:groups", "list:groups"),
    "list:groups": _scope("List groups by name.", "read:groups:name"),
    "read:groups": _scope("See groups with their members and properties.", "read:groups:name"),
    "read:groups:name": _scope("See the names of groups."),
    "delete:groups": _scope("Delete groups."),
    # -- services
    "admin:services": _scope(
        "Manage services: add and remove them while the hub runs, see them and their roles.",
        "list:services",
        "read:services",
        "read:roles:services",
    ),
    "list:services": _scope("List services by name.", "read:services:name"),
    "read:services": _scope("See services with all their details.", "read:services:name"),
    "read:services:name": _scope("See the names of services."),
    # -- the hub itself
    "read:hub": _scope("See how the hub is set up: versions and classes in use."),
    "access:servers": _scope("Open and use servers."),
    "access:services": _scope("Open and use services."),
    # -- sharing
    "users:shares": _scope("See and leave shares that users have received.", "read:users:shares"),
    "read:users:shares": _scope("See shares that users have received."),
    "groups:shares": _scope("See and leave shares that groups have received.", "read:groups:shares"),
    "read:groups:shares": _scope("See shares that groups have received."),
    "read:shares": _scope("See with whom servers are shared, and share codes."),
    "shares": _scope(
        "Share servers with others and take shares back.",
        "access:servers",
        "read:shares",
        "users:shares",
        "groups:shares",
    ),
    # -- operations
    "proxy": _scope("See the proxy's routes, refresh them, or switch to another proxy."),
    "shutdown": _scope("Stop the hub."),
    "read:metrics": _scope("Read the hub's metrics."),
}

METASCOPES: Final = frozenset({"self", "inherit"})

SELF_SCOPES: Final = (
    "read:users",
    "users:activity",
    "servers",
    "tokens",
    "access:servers",
    "read:shares",
    "users:shares",
)
"""What `self` stands for, each with a filter to the user; subscopes follow (rbac §2)."""

_USEFUL_FILTERS: Final[tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]] = (
    (
        ("user", "group"),
        (
            "admin:users",
            "admin:auth_state",
            "users",
            "delete:users",
            "list:users",
            "read:users",
            "read:users:name",
            "read:users:groups",
            "read:users:activity",
            "read:roles:users",
            "users:activity",
            "tokens",
            "read:tokens",
            "users:shares",
            "read:users:shares",
        ),
    ),
    (
        ("user", "group", "server"),
        (
            "admin:servers",
            "admin:server_state",
            "servers",
            "read:servers",
            "start:servers",
            "delete:servers",
            "access:servers",
            "read:shares",
            "shares",
        ),
    ),
    (
        ("group",),
        (
            "read:roles:groups",
            "admin:groups",
            "groups",
            "list:groups",
            "read:groups",
            "read:groups:name",
            "delete:groups",
            "groups:shares",
            "read:groups:shares",
        ),
    ),
    (
        ("service",),
        (
            "read:roles:services",
            "admin:services",
            "list:services",
            "read:services",
            "read:services:name",
            "access:services",
        ),
    ),
    (("user", "group", "service"), ("read:roles",)),
)

USEFUL_FILTERS: Final[Mapping[str, tuple[str, ...]]] = {
    name: kinds for kinds, names in _USEFUL_FILTERS for name in names
}
"""Kinds of filter that mean something for a scope. Others are accepted and match nothing (rbac §3)."""


def names_below(name: str) -> list[str]:
    """The scope and, recursively, everything it contains; each once. Raises KeyError for an unknown name."""
    found = [name]
    seen = {name}
    for current in found:
        for below in scope_definitions[current].get("subscopes") or ():
            if below not in seen:
                seen.add(below)
                found.append(below)
    return found


# First a letter or digit, at least three characters in all, last not a hyphen or colon.
_CUSTOM_NAME = re.compile(r"custom:[a-z0-9][a-z0-9_:*-]+[a-z0-9_*]")


def define_custom_scopes(scopes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Add the deployment's own scopes to the registry and return warnings worth logging (rbac §4).

    Raises InvalidDefinition (a ValueError), and then nothing was added.
    """
    accepted: dict[str, dict[str, Any]] = {}
    warnings: list[str] = []
    for name, given in scopes.items():
        if not isinstance(name, str) or not _CUSTOM_NAME.fullmatch(name):
            raise InvalidDefinition(
                f"Custom scope {name!r}: a name is 'custom:' and at least three of a-z, 0-9, '-', '_', ':' "
                "and '*'; the first a letter or digit, the last a letter, digit, '_' or '*'"
            )
        if not isinstance(given, Mapping) or "description" not in given:
            raise InvalidDefinition(f"Custom scope {name!r} needs a 'description'")
        definition: dict[str, Any] = {"description": given["description"]}
        if "subscopes" in given:
            definition["subscopes"] = _check_subscopes(name, given["subscopes"], scopes)
        unknown = sorted(str(key) for key in given if key not in ("description", "subscopes"))
        if unknown:
            warnings.append(f"Custom scope {name!r}: ignoring unknown {', '.join(unknown)}")
        if name in scope_definitions and scope_definitions[name] != definition:
            raise InvalidDefinition(f"Custom scope {name!r} is defined already, with other contents")
        accepted[name] = definition
    scope_definitions.update(accepted)
    return warnings


def _check_subscopes(name: str, subscopes: Any, together: Mapping[str, Any]) -> list[str]:
    if not isinstance(subscopes, (list, tuple)) or not all(isinstance(item, str) for item in subscopes):
        raise InvalidDefinition(f"Custom scope {name!r}: 'subscopes' must be a list of texts")
    for subscope in subscopes:
        if subscope in together:
            continue
        if not subscope.startswith("custom:"):
            raise InvalidDefinition(
                f"Custom scope {name!r} cannot contain {subscope!r}: only custom scopes may be contained"
            )
        # Only names of the same call count, so that the outcome does not depend on what ran before.
        raise InvalidDefinition(
            f"Custom scope {name!r} contains {subscope!r}, which is not defined beside it"
        )
    return list(subscopes)
