"""The `Status` objects with which a real API server refuses, word for word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .kinds import Resource

Object = dict[str, Any]

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
}


class Refused(Exception):
    """`status` is the object that the client gets; its code is that of the answer."""

    def __init__(self, code: int, message: str, *, reason: str = "", details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason or REASONS[code],
            **({"details": details} if details else {}),
            "code": code,
        }


@dataclass(frozen=True)
class Cause:
    """One thing that is wrong with an object. `word` comes before the message, such as ``Invalid value``."""

    reason: str
    field: str
    message: str

    def to_dict(self) -> Object:
        return {"reason": self.reason, "message": self.message, "field": self.field}


def invalid_value(field: str, value: str, why: str) -> Cause:
    return Cause("FieldValueInvalid", field, f'Invalid value: "{value}": {why}')


def required(field: str) -> Cause:
    return Cause("FieldValueRequired", field, "Required value")


def not_found_value(field: str, value: str) -> Cause:
    return Cause("FieldValueNotFound", field, f'Not found: "{value}"')


def not_supported(field: str, value: str, choices: tuple[str, ...]) -> Cause:
    listed = ", ".join(f'"{choice}"' for choice in sorted(choices))
    return Cause("FieldValueNotSupported", field, f'Unsupported value: "{value}": supported values: {listed}')


def forbidden_field(field: str, why: str) -> Cause:
    return Cause("FieldValueForbidden", field, f"Forbidden: {why}")


def _details(resource: Resource, name: str, **more: Any) -> Object:
    group = {"group": resource.group} if resource.group else {}
    return {"name": name, **group, "kind": resource.plural, **more}


def not_found(resource: Resource, name: str) -> Refused:
    return Refused(404, f'{resource.qualified} "{name}" not found', details=_details(resource, name))


def already_exists(resource: Resource, name: str) -> Refused:
    message = f'{resource.qualified} "{name}" already exists'
    return Refused(409, message, reason="AlreadyExists", details=_details(resource, name))


def conflict(resource: Resource, name: str) -> Refused:
    return Refused(
        409,
        f'Operation cannot be fulfilled on {resource.qualified} "{name}": the object has been modified; please apply '
        "your changes to the latest version and try again",
        reason="Conflict",
        details=_details(resource, name),
    )


def forbidden(resource: Resource, name: str, why: str) -> Refused:
    """Return the refusal of something known by name, such as a pod over a quota."""
    return Refused(403, f'{resource.qualified} "{name}" is forbidden: {why}', details=_details(resource, name))


def not_permitted(resource: Resource, subresource: str, verb: str, namespace: str, name: str, user: str) -> Refused:
    what = f"{resource.plural}/{subresource}" if subresource else resource.plural
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    named = f'{resource.qualified} "{name}"' if name else resource.qualified
    return Refused(
        403,
        f'{named} is forbidden: User "{user}" cannot {verb} resource "{what}" in API group "{resource.group}" {where}',
        details={**({"name": name} if name else {}), "kind": resource.plural},
    )


def unauthorized() -> Refused:
    return Refused(401, "Unauthorized")


def invalid(resource: Resource, name: str, causes: list[Cause]) -> Refused:
    said = [f"{cause.field}: {cause.message}" for cause in causes]
    message = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    details = {"name": name, "kind": resource.kind, "causes": [cause.to_dict() for cause in causes]}
    return Refused(422, f'{resource.kind} "{name}" is invalid: {message}', details=details)


def cannot_be_handled(resource: Resource, why: str) -> Refused:
    return Refused(400, f'{resource.kind} in version "v1" cannot be handled as a {resource.kind}: {why}')


def too_old(asked: int, oldest: int) -> Refused:
    return Refused(410, f"too old resource version: {asked} ({oldest})")


def unknown_format(accepted: str) -> Refused:
    return Refused(415, f"the body of the request was in an unknown format - accepted media types include: {accepted}")


def no_such_path() -> Refused:
    return Refused(404, "the server could not find the requested resource", details={})


def no_such_method() -> Refused:
    return Refused(405, "the server does not allow this method on the requested resource", details={})
