"""Merging group overrides and user options into settings (config §9.5, §9.6)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from .errors import InvalidDefinition

__all__ = [
    "OptionPlan",
    "check_group_overrides",
    "group_overrides_for",
    "merged",
    "plan_user_options",
    "recursive_update",
]


def recursive_update(target: MutableMapping[Any, Any], new: Mapping[Any, Any]) -> None:
    """Merge `new` into `target` in place: mappings are merged level by level, a None removes its key.

    Where only one side is a mapping, the new value takes the place of the old one.
    """
    for key, value in new.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, Mapping):
            present = target.get(key)
            branch = present if isinstance(present, MutableMapping) else {}
            recursive_update(branch, value)
            if branch or isinstance(present, MutableMapping):
                target[key] = branch
        else:
            target[key] = value


def merged(current: Any, override: Any) -> Any:
    """The value of a setting after an override: mappings merged into a copy, anything else replaced."""
    if isinstance(current, Mapping) and isinstance(override, Mapping):
        result = _copy(current)
        recursive_update(result, override)
        return result
    return override


def _copy(tree: Mapping[Any, Any]) -> dict[Any, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in tree.items()}


def check_group_overrides(overrides: Mapping[str, Any]) -> None:
    """Raise InvalidDefinition, naming the entry, when `group_overrides` does not have its form."""
    for key, entry in overrides.items():
        if not isinstance(entry, Mapping):
            raise InvalidDefinition(f"group_overrides[{key!r}] must be a mapping, not {type(entry).__name__}")
        groups = entry.get("groups")
        if not isinstance(groups, (list, tuple, set, frozenset)):
            raise InvalidDefinition(f"group_overrides[{key!r}] needs 'groups', a list of group names")
        if not isinstance(entry.get("spawner_override"), Mapping):
            raise InvalidDefinition(
                f"group_overrides[{key!r}] needs 'spawner_override', a mapping from setting to value"
            )


def group_overrides_for(
    groups: Collection[str], overrides: Mapping[str, Any]
) -> Iterator[tuple[str, str, Any]]:
    """The overrides that apply to a member of `groups`: (entry's key, setting, value), later ones win.

    Entries come in the order of their keys as text. A value may be a callable; whoever assigns it calls it.
    """
    member_of = set(groups)
    for key in sorted(overrides):
        entry = overrides[key]
        if member_of.isdisjoint(entry.get("groups", ())):
            continue
        for setting, value in entry.get("spawner_override", {}).items():
            yield key, setting, value


@dataclass(frozen=True, slots=True)
class OptionPlan:
    """What becomes of chosen options:

    `assign` setting → (option, value); the rest is worth a line in the log.
    """

    assign: Mapping[str, tuple[str, Any]]
    unmapped: tuple[str, ...] = ()
    """Options that no setting is named for."""
    missing: tuple[str, ...] = ()
    """Settings named for an option that the spawner does not have."""


def plan_user_options(
    options: Mapping[str, Any], mapping: Mapping[str, str] | None, settings: Collection[str]
) -> OptionPlan:
    """Options chosen by the user against `apply_user_options` in its form as a mapping (config §9.5).

    `settings` are the names the spawner has. Without a mapping every option counts as unmapped.
    """
    assign: dict[str, tuple[str, Any]] = {}
    unmapped: list[str] = []
    missing: list[str] = []
    for option, value in options.items():
        setting = (mapping or {}).get(option)
        if setting is None:
            unmapped.append(option)
        elif setting not in settings:
            missing.append(setting)
        else:
            assign[setting] = (option, value)
    return OptionPlan(assign, tuple(unmapped), tuple(missing))
