"""Quantities, and how much of a namespace's quotas is used."""

from __future__ import annotations

import re
from collections import Counter
from decimal import Decimal
from typing import Any

from .kinds import CLAIMS, PODS, Resource
from .refusals import forbidden

Object = dict[str, Any]

_QUANTITY = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+))(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?\d+)?$")
_DECIMAL = {"m": Decimal("0.001"), **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)}}
_BINARY = {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)}


def quantity(text: Any) -> Decimal:
    """Return the number in a quantity such as ``512Mi``. Raises ValueError."""
    match = _QUANTITY.match(str(text))
    if match is None:
        raise ValueError("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    number, unit = Decimal(match[1]), match[2] or ""
    if unit[:1] in "eE" and unit[1:]:
        return number * Decimal(10) ** int(unit[1:]) if unit != "Ei" else number * _BINARY[unit]
    return number * {**_DECIMAL, **_BINARY, "": Decimal(1)}[unit]


def shown(number: Decimal, like: str) -> str:
    """Return a number as a quantity in the unit that another quantity has."""
    match = _QUANTITY.match(like)
    unit = (match[2] if match else "") or ""
    scale = {**_DECIMAL, **_BINARY}.get(unit)
    if scale and number and number % scale == 0:
        return f"{number / scale:f}{unit}"
    for unit, scale in reversed(_BINARY.items()):
        if number and number % scale == 0:
            return f"{int(number / scale)}{unit}"
    return f"{number.normalize():f}" if number == int(number) else f"{int(number * 1000)}m"


def use_of(resource: Resource, found: Object) -> Counter[str]:
    """Return what one object takes of the things that quotas count."""
    used: Counter[str] = Counter()
    if resource is CLAIMS:
        used["persistentvolumeclaims"] = 1
        used["requests.storage"] = quantity(found["spec"]["resources"]["requests"]["storage"])  # type: ignore[assignment]
    elif resource is PODS and found.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
        used["pods"] = 1
        for container in found["spec"]["containers"]:
            for side in ("requests", "limits"):
                for name, value in container.get("resources", {}).get(side, {}).items():
                    used[f"{side}.{name}"] += quantity(value)  # type: ignore[assignment]
    else:
        used[f"count/{resource.qualified}"] = 1
    return used


def admit(resource: Resource, given: Object, quotas: list[Object], others: list[Object]) -> None:
    """Raise Refused when an object is more than one of the quotas allows beside the others of its kind."""
    name, more = given["metadata"]["name"], use_of(resource, given)
    used: Counter[str] = Counter()
    for other in others:
        used.update(use_of(resource, other))
    for quota in quotas:
        hard = quota["spec"].get("hard", {})
        if resource is PODS and (
            unsaid := sorted(key for key in hard if "." in key and key in _FOR_PODS and key not in more)
        ):
            raise forbidden(
                resource, name, f"failed quota: {quota['metadata']['name']}: must specify {','.join(unsaid)}"
            )
        over = sorted(key for key in hard if key in more and used[key] + more[key] > quantity(hard[key]))
        if over:
            asked, taken, limits = (
                ",".join(f"{key}={shown(Decimal(each[key]), str(hard[key]))}" for key in over)
                for each in (more, used, _as_numbers(hard))
            )
            raise forbidden(
                resource,
                name,
                f"exceeded quota: {quota['metadata']['name']}, requested: {asked}, used: {taken}, limited: {limits}",
            )


_FOR_PODS = ("requests.cpu", "requests.memory", "limits.cpu", "limits.memory")


def _as_numbers(hard: Object) -> dict[str, Decimal]:
    return {key: quantity(value) for key, value in hard.items()}
