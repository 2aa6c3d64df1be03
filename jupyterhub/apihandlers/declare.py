"""How a handler declares an operation: what it does, which scopes open it, what it takes and gives.

`operation` is the only way to open a method of an API handler. A class with an undeclared method cannot be registered
in the Hub's own list (`register`), so nothing is open by accident; the documentation is made of the same declarations.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..core.scopes.catalogue import scope_definitions
from ..web.authz import RESOURCE_PARAMETERS, require
from ..core.scopes.algebra import Resource

Method = TypeVar("Method", bound=Callable[..., Any])
HTTP_METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class Operation:
    """One declared operation. `scopes` empty and `public` False means: any identified caller."""

    summary: str
    scopes: tuple[str, ...] = ()
    public: bool = False
    lists: bool = False
    body: str = ""
    responses: dict[int, str] = field(default_factory=dict)


def operation(
    summary: str,
    *,
    scopes: tuple[str, ...] = (),
    public: bool = False,
    lists: bool = False,
    body: str = "",
    responses: dict[int, str] | None = None,
) -> Callable[[Method], Method]:
    """Declare an operation and enforce its scopes (rest-api §1.5).

    Parameters called user_name, server_name, group_name or service_name say what the request is about. `lists` marks a
    method that filters what it shows, so that a filtered scope is enough. `public` opens it to strangers; the method
    then decides itself. Raises ValueError at once for an unknown scope.
    """
    for scope in scopes:
        if scope not in scope_definitions:
            raise ValueError(f"operation {summary!r}: there is no scope {scope!r}")
    declared = Operation(summary, scopes, public, lists, body, responses or {})

    def decorate(method: Method) -> Method:
        signature = inspect.signature(method)
        named = [name for name in RESOURCE_PARAMETERS if name in signature.parameters]

        @functools.wraps(method)
        async def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not public:
                resource = None
                if named and scopes:
                    bound = signature.bind(self, *args, **kwargs)
                    bound.apply_defaults()
                    resource = Resource(**{RESOURCE_PARAMETERS[name]: bound.arguments[name] for name in named})
                if scopes:
                    await require(self, scopes, resource, post_filter=lists)
                elif self.caller is None:
                    self.refuse_stranger()
            result = method(self, *args, **kwargs)
            return await result if inspect.isawaitable(result) else result

        checked.operation = declared  # type: ignore[attr-defined]
        return checked  # type: ignore[return-value]

    return decorate


def undeclared_methods(handler: type[Any]) -> list[str]:
    """Return the HTTP methods that a handler class defines without declaring them."""
    return [
        name
        for name in HTTP_METHODS
        if name in handler.__dict__ and not hasattr(handler.__dict__[name], "operation")
    ]


def register(routes: list[tuple[str, type[Any]]]) -> list[Any]:
    """Return the routes of a module. Raises TypeError for a handler with an undeclared method."""
    for path, handler in routes:
        undeclared = undeclared_methods(handler)
        if undeclared:
            raise TypeError(f"{handler.__qualname__} at {path} has undeclared operations: {', '.join(undeclared)}")
    return list(routes)
