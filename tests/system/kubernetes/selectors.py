"""Label and field selectors: parsed into functions that say whether an object is meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .kinds import Resource
from .refusals import Refused

Object = dict[str, Any]
Matches = Callable[[Object], bool]

_SETS = re.compile(r"^(?P<key>\S+)\s+(?P<word>in|notin)\s*\((?P<values>[^)]*)\)$")
_EQUALITY = re.compile(r"^(?P<key>[^=!\s]+)\s*(?P<word>==|=|!=)\s*(?P<value>[^=!\s]*)$")
_PRESENCE = re.compile(r"^(?P<not>!?)\s*(?P<key>[A-Za-z0-9][A-Za-z0-9_./-]*)$")


def _parts(selector: str) -> list[str]:
    """Split at commas outside of brackets."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", selector)] if selector.strip() else []


def labels_matching(selector: str) -> Matches:
    """Return the function of a label selector. Raises Refused."""
    return _all([_label_requirement(part) for part in _parts(selector)])


def _all(requirements: list[Matches]) -> Matches:
    return lambda found: all(each(found) for each in requirements)


def _label_requirement(part: str) -> Matches:
    def labels(found: Object) -> Object:
        return found["metadata"].get("labels") or {}

    if match := _SETS.match(part):
        key, wanted = match["key"], {value.strip() for value in match["values"].split(",")}
        if match["word"] == "in":
            return lambda found: labels(found).get(key) in wanted
        return lambda found: labels(found).get(key) not in wanted
    if match := _EQUALITY.match(part):
        key, value = match["key"], match["value"]
        if match["word"] == "!=":
            return lambda found: labels(found).get(key) != value
        return lambda found: labels(found).get(key) == value
    if match := _PRESENCE.match(part):
        key, absent = match["key"], bool(match["not"])
        return lambda found: (key in labels(found)) is not absent
    raise Refused(400, f"unable to parse requirement: found '{part}'")


def fields_matching(resource: Resource, selector: str) -> Matches:
    """Return the function of a field selector. Raises Refused for a field that this kind has no index of."""
    requirements = []
    for part in _parts(selector):
        match = _EQUALITY.match(part)
        if match is None:
            raise Refused(400, f"invalid selector: '{part}'; can't understand '{part}'")
        if match["key"] not in resource.selectable:
            raise Refused(400, f"field label not supported: {match['key']}")
        requirements.append(_field_requirement(match["key"], match["value"], match["word"] != "!="))
    return _all(requirements)


def _field_requirement(path: str, value: str, wanted: bool) -> Matches:
    def matches(found: Object) -> bool:
        here: Any = found
        for key in path.split("."):
            here = here.get(key) if isinstance(here, dict) else None
        if isinstance(here, dict):
            here = here.get("component")
        return (str("" if here is None else here) == value) is wanted

    return matches
