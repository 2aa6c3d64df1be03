"""Merging overrides and options into settings."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from jupyterhub.core.errors import InvalidDefinition
from jupyterhub.core.overrides import (
    check_group_overrides,
    group_overrides_for,
    merged,
    plan_user_options,
    recursive_update,
)


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ({"a": {"b": None}}, {"a": {"c": 2}, "x": 1}),
        ({"a": {"none": None}}, {"a": {"b": 1, "c": 2}, "x": 1}),
        ({"a": {"b": 5, "d": {"e": 1}}}, {"a": {"b": 5, "c": 2, "d": {"e": 1}}, "x": 1}),
        ({"a": 3}, {"a": 3, "x": 1}),
        ({"x": {"k": 1}}, {"a": {"b": 1, "c": 2}, "x": {"k": 1}}),
        ({"q": {"k": None}}, {"a": {"b": 1, "c": 2}, "x": 1}),
        ({"x": None, "q": None}, {"a": {"b": 1, "c": 2}}),
        ({"a": [1]}, {"a": [1], "x": 1}),
    ],
)
def test_mappings_are_merged_level_by_level(new: dict[str, Any], expected: dict[str, Any]) -> None:
    target: dict[str, Any] = {"a": {"b": 1, "c": 2}, "x": 1}
    recursive_update(target, new)
    assert target == expected


def test_merging_leaves_both_sides_alone() -> None:
    current, override = {"a": {"b": 1}}, {"a": {"c": {"d": 2}}}
    before = copy.deepcopy((current, override))
    result = merged(current, override)
    assert result == {"a": {"b": 1, "c": {"d": 2}}}
    result["a"]["c"]["d"] = 3
    assert (current, override) == before
    assert merged("1G", "2G") == "2G"
    assert merged({"a": 1}, None) is None


OVERRIDES: dict[str, Any] = {
    "02": {"groups": ["g1"], "spawner_override": {"mem_limit": "2G"}},
    "01": {"groups": ["g1", "g2"], "spawner_override": {"mem_limit": "1G", "cpu_limit": 1}},
    "10": {"groups": ["other"], "spawner_override": {"mem_limit": "9G"}},
}


@pytest.mark.parametrize(
    ("groups", "settings"),
    [
        (["g1"], [("01", "mem_limit", "1G"), ("01", "cpu_limit", 1), ("02", "mem_limit", "2G")]),
        (["g2"], [("01", "mem_limit", "1G"), ("01", "cpu_limit", 1)]),
        ([], []),
    ],
)
def test_overrides_come_in_the_order_of_their_keys(groups: list[str], settings: list[Any]) -> None:
    check_group_overrides(OVERRIDES)
    assert list(group_overrides_for(groups, OVERRIDES)) == settings


@pytest.mark.parametrize(
    "entry", [3, {}, {"groups": "g1"}, {"groups": ["g1"]}, {"groups": [], "spawner_override": 1}]
)
def test_malformed_overrides_name_the_entry(entry: Any) -> None:
    with pytest.raises(InvalidDefinition, match="'01'"):
        check_group_overrides({"01": entry})


def test_options_are_sorted_into_settings_and_the_rest() -> None:
    plan = plan_user_options({"n": 1, "m": 2, "z": 3}, {"n": "number", "m": "gone"}, {"number"})
    assert plan.assign == {"number": ("n", 1)}
    assert plan.missing == ("gone",)
    assert plan.unmapped == ("z",)
    assert plan_user_options({"n": 1}, None, {"n"}).unmapped == ("n",)
