"""A request taken apart: which resource, what is to be done with it, and what the body says."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import Any

import yaml
from aiohttp import web

from .kinds import BY_PATH, NAMESPACES, Resource
from .refusals import Object, Refused, no_such_method, no_such_path, unknown_format

PATCHES = ("application/merge-patch+json", "application/strategic-merge-patch+json")
#: The key by which entries of a list are told apart in a strategic merge.
_MERGE_KEYS = ("name", "containerPort", "ip", "key", "mountPath")


@dataclass(frozen=True)
class Target:
    """What a path leads to."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def target_of(path: str) -> Target:
    """Return what a path leads to. Raises Refused."""
    words = [word for word in path.split("/") if word]
    if words[:2] == ["api", "v1"]:
        group, rest = "", words[2:]
    elif words[:1] == ["apis"] and words[2:3] == ["v1"]:
        group, rest = words[1], words[3:]
    else:
        raise no_such_path()
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2 and rest[2] != "status":
        namespace, rest = rest[1], rest[2:]
    resource = BY_PATH.get((group, rest[0] if rest else ""))
    if resource is None or len(rest) > 3 or bool(namespace) > resource.namespaced:
        raise no_such_path()
    name, subresource = (*rest[1:], "", "")[:2]
    if resource.namespaced and name and not namespace:
        raise no_such_path()
    if subresource not in ("", "status") and (resource.plural, subresource) != ("pods", "log"):
        raise no_such_path()
    return Target(resource, rest[1] if resource is NAMESPACES and name else namespace, name, subresource)


def verb_of(request: web.Request, target: Target) -> str:
    """Return what permissions call the request. Raises Refused."""
    if request.method == "GET":
        if target.name:
            return "get"
        return "watch" if flag(request, "watch") else "list"
    named = {"PUT": "update", "PATCH": "patch", "DELETE": "delete"}
    if target.name and request.method in named:
        return named[request.method]
    if request.method == "POST" and not target.name and (target.namespace or not target.resource.namespaced):
        return "create"
    raise no_such_method()


def flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() in ("1", "true")


def number(request: web.Request, name: str) -> int | None:
    """Return a number of the query, None where it is not given. Raises Refused."""
    text = request.query.get(name, "")
    try:
        return int(text) if text else None
    except ValueError as error:
        raise Refused(400, f'{name}: Invalid value: "{text}"') from error


async def body_of(request: web.Request) -> Object:
    """Return the object in a body. Raises Refused."""
    text = await request.text()
    try:
        found = yaml.safe_load(text) if "yaml" in request.content_type else json.loads(text)
    except (ValueError, yaml.YAMLError) as error:
        raise Refused(
            400, f"the object provided is unrecognized (must be of type {_type(request)}): {error}"
        ) from error
    if not isinstance(found, dict):
        raise Refused(400, f"the object provided is unrecognized (must be of type {_type(request)})")
    return found


def _type(request: web.Request) -> str:
    return str(request.match_info.get("kind") or "Object")


async def options_of(request: web.Request) -> Object:
    """Return the DeleteOptions of a request; what stands in the query goes before the body."""
    options = await body_of(request) if await request.text() else {}
    grace = number(request, "gracePeriodSeconds")
    return options if grace is None else {**options, "gracePeriodSeconds": grace}


def object_for(target: Target, given: Object) -> Object:
    """Return the object that a request is to make or to put, with its kind. Raises Refused when it is another's."""
    resource = target.resource
    given.setdefault("kind", resource.kind)
    given.setdefault("apiVersion", resource.api_version)
    if (given["kind"], given["apiVersion"]) != (resource.kind, resource.api_version):
        raise Refused(
            400,
            f'{given["kind"]} in version "{given["apiVersion"]}" cannot be handled as a {resource.kind}: no kind '
            f'"{given["kind"]}" is registered for version "{given["apiVersion"]}"',
        )
    metadata = given.setdefault("metadata", {})
    if isinstance(metadata, dict) and resource.namespaced:
        if metadata.get("namespace") not in (None, "", target.namespace):
            raise Refused(400, "the namespace of the provided object does not match the namespace sent on the request")
        metadata["namespace"] = target.namespace
    return given


def check_patch_type(request: web.Request) -> None:
    """Raise Refused for a kind of patch that is not known here."""
    if request.content_type not in PATCHES:
        raise unknown_format(", ".join(PATCHES))


def patched(found: Object, patch: Object, content_type: str) -> Object:
    """Return an object with a patch of one of PATCHES on it."""
    return _merge(copy.deepcopy(found), patch, strategic="strategic" in content_type)


def _merge(found: Any, patch: Any, *, strategic: bool) -> Any:
    if isinstance(patch, dict) and isinstance(found, dict):
        for key, value in patch.items():
            if value is None:
                found.pop(key, None)
            else:
                found[key] = _merge(found.get(key), value, strategic=strategic) if key in found else value
        return found
    if strategic and isinstance(patch, list) and isinstance(found, list):
        return _merge_lists(found, patch)
    return patch


def _merge_lists(found: list[Any], patch: list[Any]) -> list[Any]:
    entries = [*found, *patch]
    key = next((key for key in _MERGE_KEYS if all(isinstance(each, dict) and key in each for each in entries)), None)
    if key is None:
        return patch
    merged = {each[key]: each for each in found}
    for each in patch:
        merged[each[key]] = _merge(merged.get(each[key], {}), each, strategic=True)
    return list(merged.values())
