"""How a handler declares an operation: what it does, who may ask, what it takes and gives.

`operation` is the only way to open a method of an API handler of ours: it checks who asks before the method runs.
`register` refuses a class with a method that is open without a declaration, so nothing is open by accident, and keeps
all declarations in `ENDPOINTS`, of which the API's description is made.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from tornado import web

from ..core.scopes.algebra import Resource
from ..core.scopes.catalogue import scope_definitions
from ..web.authz import RESOURCE_PARAMETERS, require

__all__ = ["ENDPOINTS", "Endpoint", "Operation", "document", "operation", "register", "undeclared_methods"]

Method = TypeVar("Method", bound=Callable[..., Any])

#: `scopes`: holders of one of the scopes. `identified`: anybody known. `token`: anybody with a token. `cookie`: people
#: in a browser, others are sent to log in. `anyone`: the handler decides by itself, or there is nothing to hide.
Who = Literal["scopes", "identified", "token", "cookie", "anyone"]

_METHODS = ("get", "head", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class Operation:
    """One declared operation.

    `request` is the shape of the JSON body (a TypedDict), `responses` go from status to the shape of the answer (a
    type, a text for what is not JSON, None for an empty body), `errors` from status to what it means, `query` from a
    parameter to what it does. `lists` marks a method that filters what it shows, so that a filtered scope is enough.
    """

    summary: str
    scopes: tuple[str, ...] = ()
    who: Who = "scopes"
    lists: bool = False
    request: Any = None
    responses: Mapping[int, Any] = field(default_factory=dict)
    errors: Mapping[int, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    deprecated: bool = False


@dataclass(frozen=True)
class Endpoint:
    """An operation where it is registered. `path` is a pattern below the Hub's prefix."""

    method: str
    path: str
    handler: type[Any]
    operation: Operation


#: Every registered operation of ours.
ENDPOINTS: list[Endpoint] = []


def operation(
    summary: str,
    *,
    scopes: tuple[str, ...] = (),
    who: Who = "scopes",
    lists: bool = False,
    request: Any = None,
    responses: Mapping[int, Any] | None = None,
    errors: Mapping[int, str] | None = None,
    query: Mapping[str, str] | None = None,
    deprecated: bool = False,
) -> Callable[[Method], Method]:
    """Declare an operation and enforce who may ask for it (rest-api §1.5).

    Parameters of the method called user_name, server_name, group_name or service_name say what a request is about, and
    a filtered scope has to reach that. Raises ValueError at once for an unknown scope, or when neither scopes nor `who`
    say to whom the operation is open.
    """
    for scope in scopes:
        if scope not in scope_definitions:
            raise ValueError(f"operation {summary!r}: there is no scope {scope!r}")
    if (who == "scopes") != bool(scopes):
        raise ValueError(f"operation {summary!r}: declare scopes, or who else may ask")
    declared = Operation(
        summary, scopes, who, lists, request, dict(responses or {}), dict(errors or {}), dict(query or {}), deprecated
    )

    def decorate(method: Method) -> Method:
        resource_of = _resource_reader(method)

        @functools.wraps(method)
        async def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
            if scopes:
                await require(self, scopes, resource_of(args, kwargs), post_filter=lists)
            elif who == "identified" or who == "token":
                caller = self.caller
                if caller is None or (who == "token" and not caller.is_token):
                    raise web.HTTPError(403)
            result = method(self, *args, **kwargs)
            return await result if inspect.isawaitable(result) else result

        checked.operation = declared  # type: ignore[attr-defined]
        return checked  # type: ignore[return-value]

    return decorate


def _resource_reader(method: Callable[..., Any]) -> Callable[[tuple[Any, ...], dict[str, Any]], Resource | None]:
    """Return a function from the arguments of a call to what it is about; the signature is looked at only once."""
    places = []
    for index, (name, parameter) in enumerate(inspect.signature(method).parameters.items()):
        if name in RESOURCE_PARAMETERS:
            default = None if parameter.default is parameter.empty else parameter.default
            places.append((RESOURCE_PARAMETERS[name], name, index - 1, default))

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Resource | None:
        if not places:
            return None
        found = {
            kind: args[index] if index < len(args) else kwargs.get(name, default)
            for kind, name, index, default in places
        }
        return Resource(**found)

    return read


def undeclared_methods(handler: type[Any]) -> list[str]:
    """Return the HTTP methods that a handler class answers without declaring them."""
    found = []
    for name in _METHODS:
        method = getattr(handler, name)
        if method is not getattr(web.RequestHandler, name) and not hasattr(method, "operation"):
            found.append(name)
    return found


def register(routes: Iterable[tuple[str, type[Any]]]) -> list[Any]:
    """Return routes for `default_handlers` and remember their operations.

    Raises TypeError for a handler with an undeclared method, or without any operation.
    """
    routes = list(routes)
    for path, handler in routes:
        undeclared = undeclared_methods(handler)
        if undeclared:
            raise TypeError(f"{handler.__qualname__} at {path} has undeclared operations: {', '.join(undeclared)}")
        declared = {name: getattr(getattr(handler, name), "operation", None) for name in _METHODS}
        if not any(declared.values()):
            raise TypeError(f"{handler.__qualname__} at {path} declares no operation")
        document(path, handler, **{name: each for name, each in declared.items() if each is not None})
    return list(routes)


def document(path: str, handler: type[Any], **operations: Operation) -> None:
    """Remember operations of a handler that is registered elsewhere, such as a page."""
    ENDPOINTS.extend(Endpoint(name.upper(), path, handler, each) for name, each in operations.items())
