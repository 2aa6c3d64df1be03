"""Roles:

the default ones, what a definition may say, and what loading the configuration changes (rbac §5 to §7).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .errors import InvalidDefinition, InvalidName
from .scopes.grammar import check_scopes_exist

__all__ = [
    "DEFAULT_ROLES",
    "MEMBER_KINDS",
    "MembershipChange",
    "RoleDefinition",
    "RolePlan",
    "StoredRole",
    "check_role",
    "check_role_name",
    "default_roles",
    "membership_change",
    "plan_roles",
]

MEMBER_KINDS: Final = ("users", "groups", "services")

_ROLE_NAME: Final = re.compile(r"[a-z][a-z0-9\-_~.]{1,253}[a-z0-9]")

_DEFAULTS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "user": ("What every user may do: use and manage what is their own", ("self",)),
    "admin": (
        "Administration of the whole hub",
        (
            "admin-ui",
            "admin:users",
            "admin:servers",
            "admin:services",
            "tokens",
            "admin:groups",
            "list:services",
            "read:services",
            "read:hub",
            "proxy",
            "shutdown",
            "access:services",
            "access:servers",
            "read:roles",
            "read:metrics",
            "shares",
        ),
    ),
    "server": (
        "What a single-user server may do with its own token",
        ("users:activity!user", "access:servers!server"),
    ),
    "token": ("What a token may do that was made without naming scopes", ("inherit",)),
}

DEFAULT_ROLES: Final = frozenset(_DEFAULTS)


def default_roles(extra_user_scopes: Collection[str] = ()) -> list[dict[str, Any]]:
    """Fresh definitions of the default roles; `user` also gets the extra scopes (rbac §5)."""
    found = []
    for name, (description, scopes) in _DEFAULTS.items():
        extra = [scope for scope in extra_user_scopes if scope not in scopes] if name == "user" else []
        found.append({"name": name, "description": description, "scopes": [*scopes, *extra]})
    return found


def check_role_name(name: object) -> str:
    """The name of a role, or InvalidName (rbac §6.1)."""
    if not isinstance(name, str) or not _ROLE_NAME.fullmatch(name):
        raise InvalidName(
            str(name),
            "use 3 to 255 of a-z, 0-9, '-', '_', '~', '.'; begin with a letter, end with a letter or digit",
            kind="role",
        )
    return name


@dataclass(frozen=True, slots=True)
class RoleDefinition:
    """A checked definition. None means the key was not given, which is not the same as empty."""

    name: str
    description: str | None = None
    scopes: tuple[str, ...] | None = None
    users: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    services: tuple[str, ...] | None = None

    def members(self, kind: str) -> tuple[str, ...] | None:
        """Names given for ``"users"``, ``"groups"`` or ``"services"``."""
        return {"users": self.users, "groups": self.groups, "services": self.services}[kind]

    @property
    def has_members(self) -> bool:
        return any(self.members(kind) is not None for kind in MEMBER_KINDS)


def check_role(definition: Mapping[str, Any]) -> RoleDefinition:
    """Read one definition as configuration or an authenticator gives it; unknown keys are ignored (rbac
    §6.1).

    Raises KeyError without a name, InvalidName, ScopeNotFound, or InvalidDefinition, also when it changes
    `admin`.
    """
    if not isinstance(definition, Mapping):
        raise InvalidDefinition(f"A role is a mapping with a 'name', not {type(definition).__name__}")
    name = check_role_name(definition["name"])
    description = definition.get("description")
    if description is not None and not isinstance(description, str):
        raise InvalidDefinition(f"Role {name!r}: 'description' must be a text")
    scopes = definition.get("scopes")
    if scopes is not None:
        # A lone text would be read letter by letter; saying so is kinder than "there is no scope 'r'".
        if isinstance(scopes, str):
            raise InvalidDefinition(f"Role {name!r}: 'scopes' must be a list; write [{scopes!r}]")
        check_scopes_exist(scopes, f"role {name!r}")
        scopes = tuple(scopes)
    if name == "admin":
        _check_admin_unchanged(description, scopes)
    return RoleDefinition(
        name,
        description,
        scopes,
        **{kind: _names(name, kind, definition.get(kind)) for kind in MEMBER_KINDS},
    )


def _names(role: str, kind: str, given: Any) -> tuple[str, ...] | None:
    if given is None:
        return None
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidDefinition(f"Role {role!r}: {kind!r} must be a list of names")
    return tuple(dict.fromkeys(given))


def _check_admin_unchanged(description: str | None, scopes: tuple[str, ...] | None) -> None:
    text, built_in = _DEFAULTS["admin"]
    if scopes is not None and set(scopes) != set(built_in):
        raise InvalidDefinition("The scopes of the role 'admin' are fixed; define another role instead")
    if description is not None and description != text:
        raise InvalidDefinition("The description of the role 'admin' cannot be changed")


@dataclass(frozen=True, slots=True)
class StoredRole:
    """A role as it is in the database."""

    name: str
    description: str = ""
    scopes: tuple[str, ...] = ()
    managed: bool = False
    """Made by the authenticator; configuration leaves it alone."""


@dataclass(frozen=True, slots=True)
class RolePlan:
    """What loading the configuration does to the stored roles; membership comes after."""

    create: tuple[StoredRole, ...] = ()
    update: tuple[StoredRole, ...] = ()
    delete: tuple[str, ...] = ()
    configured: tuple[RoleDefinition, ...] = ()
    """The checked definitions, in their order, for membership."""
    warnings: tuple[str, ...] = field(default=())


def plan_roles(
    configured: Iterable[Mapping[str, Any]],
    stored: Iterable[StoredRole],
    extra_user_scopes: Collection[str] = (),
) -> RolePlan:
    """From the stored roles to the configured ones (rbac §6.2, steps 2 to 5).

    Raises what `check_role` raises, and InvalidDefinition for a name given twice.
    """
    warnings: list[str] = []
    definitions: dict[str, RoleDefinition] = {}
    for each in configured:
        definition = check_role(each)
        if definition.name in definitions:
            raise InvalidDefinition(f"Role {definition.name!r} is defined twice")
        definitions[definition.name] = definition
    wanted: dict[str, StoredRole] = {}
    check_scopes_exist(extra_user_scopes, "extra_user_scopes")
    for default in default_roles(extra_user_scopes):
        wanted[default["name"]] = StoredRole(
            default["name"], default["description"], tuple(default["scopes"])
        )
    for name, definition in definitions.items():
        if name in wanted:
            wanted[name] = _merged_over_default(definition, wanted[name], extra_user_scopes, warnings)
        else:
            if not definition.scopes:
                warnings.append(f"Role {name!r} has no scopes, so it allows nothing")
            wanted[name] = StoredRole(name, definition.description or "", definition.scopes or ())
    present = {role.name: role for role in stored}
    create = tuple(role for name, role in wanted.items() if name not in present)
    update = tuple(role for name, role in wanted.items() if name in present and _changed(role, present[name]))
    delete = tuple(name for name, role in present.items() if name not in wanted and not role.managed)
    return RolePlan(create, update, delete, tuple(definitions.values()), tuple(warnings))


def _merged_over_default(
    definition: RoleDefinition, default: StoredRole, extra_user_scopes: Collection[str], warnings: list[str]
) -> StoredRole:
    scopes = default.scopes if definition.scopes is None else definition.scopes
    if definition.name == "user" and definition.scopes is not None:
        if extra_user_scopes:
            warnings.append("extra_user_scopes is ignored, because the role 'user' is configured with scopes")
        if "self" not in definition.scopes:
            warnings.append("The role 'user' lacks the scope 'self': users cannot manage what is their own")
    description = default.description if definition.description is None else definition.description
    return StoredRole(definition.name, description, scopes)


def _changed(wanted: StoredRole, present: StoredRole) -> bool:
    return wanted.description != present.description or set(wanted.scopes) != set(present.scopes)


@dataclass(frozen=True, slots=True)
class MembershipChange:
    """Names to put into a role and to take out of it."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.add or self.remove)


def membership_change(
    definition: RoleDefinition, kind: str, present: Collection[str], *, managed: bool = False
) -> MembershipChange:
    """From the members a role has to those configured (rbac §6.2, step 6).

    A key that was not given empties the role, except for users of the role `user` and of managed roles.
    """
    given = definition.members(kind)
    if given is None:
        if kind == "users" and (definition.name == "user" or managed):
            return MembershipChange()
        given = ()
    wanted, there = set(given), set(present)
    return MembershipChange(tuple(name for name in given if name not in there), tuple(sorted(there - wanted)))
