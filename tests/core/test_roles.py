"""Roles: definitions, and what loading the configuration changes."""

from __future__ import annotations

from typing import Any

import pytest

from jupyterhub.core.errors import HubError, InvalidDefinition, InvalidName, ScopeNotFound
from jupyterhub.core.roles import (
    MembershipChange,
    RoleDefinition,
    RolePlan,
    StoredRole,
    check_role,
    check_role_name,
    default_roles,
    membership_change,
    plan_roles,
)

DEFAULTS = [StoredRole(role["name"], role["description"], tuple(role["scopes"])) for role in default_roles()]


@pytest.mark.parametrize("name", ["abc", "a" * 255, "ab~c.d-e_f", "a-1"])
def test_role_names_that_are_allowed(name: str) -> None:
    assert check_role_name(name) == name


@pytest.mark.parametrize("name", ["ab", "Abc", "1bc", "abc_", "a" * 256, "", "abc\n", "aäc", None])
def test_role_names_that_are_refused(name: str | None) -> None:
    with pytest.raises(InvalidName, match="role"):
        check_role_name(name)


def test_not_given_and_empty_are_different() -> None:
    role = check_role({"name": "reader", "users": [], "colour": "red"})
    assert role == RoleDefinition("reader", users=())
    assert role.has_members
    assert not check_role({"name": "reader"}).has_members


@pytest.mark.parametrize(
    ("definition", "error"),
    [
        ({}, KeyError),
        ({"name": "r1"}, InvalidName),
        ({"name": "reader", "scopes": ["nope"]}, ScopeNotFound),
        ({"name": "reader", "scopes": ["read:users!colour=red"]}, ScopeNotFound),
        ({"name": "reader", "scopes": "read:users"}, InvalidDefinition),
        ({"name": "reader", "description": 3}, InvalidDefinition),
        ({"name": "reader", "users": "ada"}, InvalidDefinition),
        ({"name": "admin", "scopes": ["self"]}, InvalidDefinition),
        ({"name": "admin", "description": "me"}, InvalidDefinition),
        ("reader", InvalidDefinition),
    ],
)
def test_bad_definitions_are_refused(definition: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        check_role(definition)


def test_admin_may_be_named_with_its_own_scopes_and_members() -> None:
    admin = next(role for role in default_roles() if role["name"] == "admin")
    assert check_role({**admin, "users": ["ada"]}).users == ("ada",)


def plan(
    *configured: dict[str, Any], stored: list[StoredRole] = DEFAULTS, extra: tuple[str, ...] = ()
) -> RolePlan:
    return plan_roles(configured, stored, extra)


def test_a_first_start_creates_the_default_roles() -> None:
    assert plan(stored=[]).create == tuple(DEFAULTS)


def test_a_second_start_changes_nothing() -> None:
    found = plan()
    assert (found.create, found.update, found.delete) == ((), (), ())


def test_changed_defaults_are_set_back() -> None:
    changed = [StoredRole("user", "mine", ("read:hub",)), *DEFAULTS[1:]]
    assert plan(stored=changed).update == (DEFAULTS[0],)


def test_extra_scopes_go_to_every_user() -> None:
    (user,) = plan(extra=("access:services",)).update
    assert user.scopes == ("self", "access:services")


def test_a_configured_default_is_merged_over_the_built_in_one() -> None:
    found = plan({"name": "user", "description": "People"}, extra=("read:hub",))
    assert found.update == (StoredRole("user", "People", ("self", "read:hub")),)
    assert not found.warnings


def test_configured_scopes_of_user_silence_the_extra_ones() -> None:
    found = plan({"name": "user", "scopes": ["read:hub"]}, extra=("shutdown",))
    assert found.update[0].scopes == ("read:hub",)
    assert len(found.warnings) == 2


def test_omitted_parts_of_a_configured_role_are_reset() -> None:
    stored = [*DEFAULTS, StoredRole("reader", "old", ("read:users",))]
    found = plan({"name": "reader"}, stored=stored)
    assert found.update == (StoredRole("reader"),)
    assert "reader" in found.warnings[0]


def test_roles_nobody_configures_go_but_managed_ones_stay() -> None:
    stored = [*DEFAULTS, StoredRole("old-role"), StoredRole("from-login", managed=True)]
    assert plan(stored=stored).delete == ("old-role",)


@pytest.mark.parametrize(
    "configured", [[{"name": "reader"}, {"name": "reader"}], [{"name": "admin"}, {"name": "admin"}]]
)
def test_a_name_given_twice_is_refused(configured: list[dict[str, Any]]) -> None:
    with pytest.raises(HubError, match="twice"):
        plan(*configured)


def test_unknown_extra_scopes_are_refused() -> None:
    with pytest.raises(ScopeNotFound, match="extra_user_scopes"):
        plan(extra=("nope",))


@pytest.mark.parametrize(
    ("definition", "kind", "present", "managed", "change"),
    [
        (
            RoleDefinition("reader", users=("b", "c")),
            "users",
            ["a", "b"],
            False,
            MembershipChange(("c",), ("a",)),
        ),
        (RoleDefinition("reader"), "users", ["a"], False, MembershipChange((), ("a",))),
        (RoleDefinition("reader"), "services", ["s"], True, MembershipChange((), ("s",))),
        (RoleDefinition("reader"), "users", ["a"], True, MembershipChange()),
        (RoleDefinition("user"), "users", ["a"], False, MembershipChange()),
        (RoleDefinition("user"), "groups", ["g"], False, MembershipChange((), ("g",))),
        (RoleDefinition("user", users=()), "users", ["a"], False, MembershipChange((), ("a",))),
    ],
)
def test_membership_becomes_what_is_configured(
    definition: RoleDefinition, kind: str, present: list[str], managed: bool, change: MembershipChange
) -> None:
    found = membership_change(definition, kind, present, managed=managed)
    assert found == change
    assert bool(found) is bool(change.add or change.remove)
