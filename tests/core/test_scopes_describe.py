"""Scopes in sentences."""

from __future__ import annotations

import pytest

from jupyterhub.core.scopes.catalogue import scope_definitions
from jupyterhub.core.scopes.describe import describe_filter, describe_for_consent, describe_scopes
from jupyterhub.core.scopes.expand import ClientRef, identify_scopes
from jupyterhub.core.scopes.grammar import Scope

CLIENT = ClientRef("service-dash", service="dash")


@pytest.mark.parametrize(
    ("scope", "text"),
    [
        ("users", ""),
        ("users!user", "only you"),
        ("users!user=ada", "only you"),
        ("users!user=bob", "only user bob"),
        ("users!group=g", "only group g and its members"),
        ("servers!server=ada/", "only your default server"),
        ("servers!server=bob/lab", "only bob's server lab"),
        ("servers!server", "only this server"),
        ("read:services!service=s", "only service s"),
    ],
)
def test_filters_are_told_to_the_reader(scope: str, text: str) -> None:
    assert describe_filter(Scope.parse(scope), "ada") == text


def test_every_scope_has_a_sentence() -> None:
    for name, definition in scope_definitions.items():
        assert definition["description"].endswith("."), name


def names(raw: list[str]) -> list[str]:
    return [line.scope for line in describe_for_consent(raw, "ada", CLIENT)]


def test_identifying_and_entering_need_no_line() -> None:
    assert names([*identify_scopes(), "access:services!service=dash"]) == ["(no_scope)"]
    assert names([]) == ["(no_scope)"]


def test_inherit_says_it_all() -> None:
    assert names(["inherit", "read:users!user"]) == ["inherit"]


def test_contained_scopes_have_no_line_of_their_own() -> None:
    assert names(["servers!user", "read:servers!user", "read:servers!user=ada"]) == ["servers!user"]
    assert names(["tokens!user=ada", "tokens!user"]) == ["tokens!user"]


def test_scopes_that_are_gone_are_left_out() -> None:
    assert describe_scopes(["custom:gone", "read:hub"])[0].to_dict() == {
        "scope": "read:hub",
        "description": scope_definitions["read:hub"]["description"],
        "filter": "",
    }
