"""The published schemas, from the package kubernetes-validate.

A real API server refuses what it cannot decode, such as text where a list belongs, and drops fields that it does not
know. A client that sends unknown fields has a mistake all the same; those are noted for the tests to see.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
from kubernetes_validate import utils
from referencing import Registry, Resource

Object = dict[str, Any]

#: The schemas that objects are held to; kubernetes-validate has 1.25 to 1.37.
VERSION = "1.37"


@cache
def _validator(kind: str, api_version: str) -> Any:
    group, _, version = api_version.rpartition("/")
    prefix = f"{group.split('.')[0]}-" if group else ""
    directory = f"kubernetes-json-schema/v{VERSION}.0-local-strict"
    schema = utils.schema_contents(f"{directory}/{kind.lower()}-{prefix}{version}.json", VERSION)
    registry: Any = Registry()
    for contents in (schema, utils.schema_contents(f"{directory}/_definitions.json", VERSION)):
        registry = Resource.from_contents(contents) @ registry
    return jsonschema.Draft202012Validator(schema, registry=registry)


def complaints(given: Object) -> list[str]:
    """Return what a strict reader of the schemas has against an object, each with its place."""
    return _told(_errors(given))


def complaints_about_options(given: Object) -> list[str]:
    """Return the same of DeleteOptions, which say that they are of version ``v1`` and stand in another group."""
    return _told(_validator("DeleteOptions", "meta.k8s.io/v1").iter_errors(given))


def _told(errors: Iterator[Any]) -> list[str]:
    return [f"{_place(error)}: {error.message}" for error in errors]


def undecodable(given: Object) -> str:
    """Return why a real API server cannot decode an object, "" when it can."""
    for error in _errors(given):
        if error.validator == "type":
            return f"json: cannot unmarshal {_word(error.instance)} into Go struct field {_place(error)}"
    return ""


def _errors(given: Object) -> Iterator[Any]:
    errors: Iterator[Any] = _validator(given["kind"], given["apiVersion"]).iter_errors(given)
    return errors


def _word(value: Any) -> str:
    words = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return words.get(type(value), "null")


def _place(error: Any) -> str:
    return ".".join(str(each) for each in error.absolute_path)
