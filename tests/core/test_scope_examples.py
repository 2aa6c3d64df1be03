"""The scope rules against a table of observed examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jupyterhub.core.roles import default_roles
from jupyterhub.core.scopes.algebra import ScopeSet, membership
from jupyterhub.core.scopes.catalogue import METASCOPES, USEFUL_FILTERS, names_below, scope_definitions
from jupyterhub.core.scopes.expand import OwnerRef, expand_scopes

EXAMPLES: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "scope_examples.json").read_text())
GROUPS_OF = membership(EXAMPLES["membership"])


@pytest.mark.parametrize("example", EXAMPLES["expand"], ids=lambda each: " ".join(each["raw"]) or "nothing")
def test_expansion_is_as_observed(example: dict[str, Any]) -> None:
    owner = OwnerRef(*example["owner"]) if example["owner"] else None
    assert sorted(expand_scopes(example["raw"], owner)) == example["expanded"]


@pytest.mark.parametrize("example", EXAMPLES["intersect"], ids=str)
def test_intersection_is_as_observed(example: dict[str, Any]) -> None:
    groups_of = GROUPS_OF if example["membership_known"] else None
    left, right = ScopeSet.parse(example["a"]), ScopeSet.parse(example["b"])
    assert sorted(left.intersect(right, groups_of)) == example["result"]
    assert sorted(right.intersect(left, groups_of)) == example["result"]


@pytest.mark.parametrize("example", EXAMPLES["has_scope"], ids=str)
def test_coverage_is_as_observed(example: dict[str, Any]) -> None:
    held = ScopeSet.parse(example["held"])
    decision = held.covers(example["required"], groups_of=GROUPS_OF, post_filter=example["post_filter"])
    assert bool(decision) is example["granted"]
    assert bool(decision.reason) is not example["granted"]


@pytest.mark.parametrize("row", EXAMPLES["scopes"], ids=lambda row: row["name"])
def test_the_catalogue_contains_what_it_should(row: dict[str, Any]) -> None:
    definition = scope_definitions[row["name"]]
    assert sorted(definition.get("subscopes", [])) == sorted(row["subscopes"])
    assert sorted(names_below(row["name"])) == sorted(row["expands_to"])
    assert list(USEFUL_FILTERS.get(row["name"], ())) == row["filters"]


def test_the_catalogue_contains_nothing_else() -> None:
    expected = {row["name"] for row in EXAMPLES["scopes"]} | METASCOPES | {"(no_scope)"}
    assert {name for name in scope_definitions if not name.startswith("custom:")} == expected


def test_default_roles_have_the_observed_scopes() -> None:
    assert {role["name"]: role["scopes"] for role in default_roles()} == EXAMPLES["default_roles"]


def test_default_roles_reach_the_scopes_they_should() -> None:
    """Expanding a default role gives exactly the scopes the table lists for it."""
    for role in default_roles():
        if role["name"] == "token":
            continue
        owner = OwnerRef.user("ada")
        names = set(
            expand_scopes([s.replace("!server", "!server=ada/") for s in role["scopes"]], owner).names
        )
        listed = {row["name"] for row in EXAMPLES["scopes"] if role["name"] in row["default_roles"]}
        assert names == listed, role["name"]
