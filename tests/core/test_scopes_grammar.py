"""Scopes as text and as values."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub.core.errors import InvalidDefinition, InvalidScope, ScopeNotFound
from jupyterhub.core.scopes.catalogue import define_custom_scopes, names_below, scope_definitions
from jupyterhub.core.scopes.expand import expand_scopes
from jupyterhub.core.scopes.grammar import Scope, check_scopes_exist


@pytest.fixture
def registry() -> Iterator[dict[str, dict[str, object]]]:
    """The registry of scopes, put back afterwards; it stays the same object."""
    before = dict(scope_definitions)
    yield scope_definitions
    scope_definitions.clear()
    scope_definitions.update(before)


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("users", Scope("users")),
        ("users!", Scope("users")),
        ("users!user=ada", Scope("users", "user", "ada")),
        ("users!user=a=b!c", Scope("users", "user", "a=b!c")),
        ("servers!server", Scope("servers", "server")),
        ("servers!server=ada/", Scope("servers", "server", "ada/")),
    ],
)
def test_texts_are_read(text: str, scope: Scope) -> None:
    assert Scope.parse(text) == scope
    assert Scope.parse(str(scope)) == scope


@pytest.mark.parametrize("text", ["read:users!user=", "read:users!=x", "read:users!="])
def test_empty_filters_are_refused(text: str) -> None:
    with pytest.raises(InvalidScope, match="filter is empty"):
        Scope.parse(text)


@given(
    st.text("abc:-", min_size=1),
    st.none() | st.sampled_from(["user", "group", "server", "service"]),
    st.none() | st.text(min_size=1),
)
def test_every_scope_survives_being_written_down(name: str, kind: str | None, value: str | None) -> None:
    scope = Scope(name, kind, value if kind else None)
    assert Scope.parse(str(scope)) == scope


@pytest.mark.parametrize(
    "text",
    [
        "users",
        "users!",
        "users!user",
        "users!server",
        "users!service",
        "users!group=g",
        "inherit!user=foo",
        "self",
        "read:users!user=",
        "(no_scope)",
    ],
)
def test_scopes_that_exist(text: str) -> None:
    check_scopes_exist([text])


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("nope", "no such scope"),
        ("all", "inherit"),
        ("read:users!group", "no filter"),
        ("read:users!colour=red", "no filter"),
    ],
)
def test_scopes_that_do_not_exist(text: str, hint: str) -> None:
    with pytest.raises(ScopeNotFound, match=hint) as caught:
        check_scopes_exist([text], "role 'x'")
    assert "role 'x'" in str(caught.value)
    assert caught.value.scope == text


def test_a_lone_text_is_not_a_list_of_scopes() -> None:
    with pytest.raises(ScopeNotFound):
        check_scopes_exist("users")


def test_an_unknown_scope_is_also_a_key_error() -> None:
    """Code that asks about scopes has been catching KeyError for years."""
    with pytest.raises(KeyError):
        check_scopes_exist(["nope"])


@pytest.mark.parametrize(
    "name", ["custom:ab*", "custom:a:b:c", "custom:abc", "custom:1-2", "custom:a__", "custom:a*b_"]
)
def test_custom_names_that_are_allowed(name: str, registry: dict[str, object]) -> None:
    assert define_custom_scopes({name: {"description": "x"}}) == []
    assert expand_scopes([f"{name}!user=ada"]).expanded == {f"{name}!user=ada"}


@pytest.mark.parametrize(
    "name",
    ["custom:ab", "custom:", "abc", "custom:Abc", "custom:-ab", "custom:ab-", "custom:ab:", "custom:a b"],
)
def test_custom_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidDefinition):
        define_custom_scopes({name: {"description": "x"}})
    assert name not in scope_definitions


@pytest.mark.parametrize(
    "definition",
    [
        {},
        {"description": "x", "subscopes": "custom:abc"},
        {"description": "x", "subscopes": [1]},
        {"description": "x", "subscopes": ["read:users"]},
        {"description": "x", "subscopes": ["custom:other"]},
        None,
    ],
)
def test_bad_custom_definitions_are_value_errors(definition: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="custom:thing"):
        define_custom_scopes({"custom:thing": definition})


def test_custom_scopes_are_expanded_like_others(registry: dict[str, object]) -> None:
    define_custom_scopes(
        {
            "custom:all-jobs": {"description": "x", "subscopes": ["custom:read-jobs"]},
            "custom:read-jobs": {"description": "y"},
        }
    )
    assert names_below("custom:all-jobs") == ["custom:all-jobs", "custom:read-jobs"]


def test_subscopes_must_be_defined_in_the_same_call(registry: dict[str, object]) -> None:
    define_custom_scopes({"custom:first": {"description": "x"}})
    with pytest.raises(InvalidDefinition, match="not defined beside it"):
        define_custom_scopes({"custom:second": {"description": "x", "subscopes": ["custom:first"]}})


def test_defining_again_must_agree(registry: dict[str, object]) -> None:
    define_custom_scopes({"custom:again": {"description": "x"}})
    define_custom_scopes({"custom:again": {"description": "x"}})
    with pytest.raises(InvalidDefinition, match="already"):
        define_custom_scopes({"custom:again": {"description": "y"}})


def test_unknown_keys_are_worth_a_warning(registry: dict[str, object]) -> None:
    assert "colour" in define_custom_scopes({"custom:warn": {"description": "x", "colour": "red"}})[0]


def test_a_circle_of_custom_scopes_ends(registry: dict[str, object]) -> None:
    define_custom_scopes(
        {
            "custom:hen": {"description": "x", "subscopes": ["custom:egg"]},
            "custom:egg": {"description": "x", "subscopes": ["custom:hen"]},
        }
    )
    assert expand_scopes(["custom:hen"]).expanded == {"custom:hen", "custom:egg"}
