"""Who may call a handler: `needs_scope` and the older decorators (rest-api §1.5, rbac §9.5).

Knows handlers only by what it asks of them, so that the core's rules and Tornado are all it imports.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Collection
from typing import Any, Protocol, TypeVar

from tornado.web import HTTPError

from ..core.decisions import Decision
from ..core.errors import NotIdentified, PermissionMissing, ResourceHidden
from ..core.scopes.algebra import Resource
from ..core.scopes.catalogue import scope_definitions

Method = TypeVar("Method", bound=Callable[..., Any])

#: Parameters of a handler method that say what a request is about, and the part of a resource they name.
RESOURCE_PARAMETERS = {
    "user_name": "user",
    "server_name": "server",
    "group_name": "group",
    "service_name": "service",
}


class Asker(Protocol):
    """What is asked of a handler: whether its caller holds any of some scopes for a resource."""

    async def decide(
        self, any_of: Collection[str], resource: Resource | None = None, *, post_filter: bool = False
    ) -> Decision: ...


async def require(
    asker: Asker, any_of: Collection[str], resource: Resource | None = None, *, post_filter: bool = False
) -> None:
    """Let a caller pass or raise: NotIdentified, PermissionMissing (403), ResourceHidden (404)."""
    decision = await asker.decide(any_of, resource, post_filter=post_filter)
    if decision:
        return
    if decision.cause == "not-identified":
        raise NotIdentified()
    if decision.cause == "resource-hidden":
        raise ResourceHidden()
    raise PermissionMissing(*any_of)


def needs_scope(*scopes: str, post_filter: bool = False) -> Callable[[Method], Method]:
    """Open a handler method to callers that hold one of `scopes`.

    Parameters of the method called user_name, server_name, group_name or service_name say what the request is
    about, and a filtered scope has to reach that. With `post_filter`, for methods that list, holding a scope with
    any filter is enough and the method filters what it shows. Raises ValueError at once for an unknown scope.
    """
    for scope in scopes:
        if scope.partition("!")[0] not in scope_definitions:
            raise ValueError(f"needs_scope: there is no scope {scope!r}")

    def decorate(method: Method) -> Method:
        signature = inspect.signature(method)
        named = [name for name in RESOURCE_PARAMETERS if name in signature.parameters]

        @functools.wraps(method)
        async def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
            resource = None
            if named:
                bound = signature.bind(self, *args, **kwargs)
                bound.apply_defaults()
                parts = {RESOURCE_PARAMETERS[name]: bound.arguments[name] for name in named}
                resource = Resource(**parts)
            await require(self, scopes, resource, post_filter=post_filter)
            result = method(self, *args, **kwargs)
            return await result if inspect.isawaitable(result) else result

        checked.needed_scopes = scopes  # type: ignore[attr-defined]
        return checked  # type: ignore[return-value]

    return decorate


def auth_decorator(check: Callable[..., Any]) -> Callable[..., Any]:
    """Make a decorator out of `check(handler, **kwargs)`, which raises when the caller may not go on."""

    def decorator(method: Callable[..., Any]) -> Callable[..., Any]:
        def inner(self: Any, *args: Any, **kwargs: Any) -> Any:
            check(self, **kwargs)
            return method(self, *args, **kwargs)

        return functools.wraps(method)(inner)

    return functools.wraps(check)(decorator)


def _check_token(handler: Any, **kwargs: Any) -> None:
    if handler.get_current_user_token() is None:
        raise HTTPError(403)


def _check_identified(handler: Any, **kwargs: Any) -> None:
    if handler.current_user is None:
        raise HTTPError(403)


def _check_admin(handler: Any, **kwargs: Any) -> None:
    user = handler.current_user
    if user is None or not user.admin:
        raise HTTPError(403)


token_authenticated = auth_decorator(_check_token)
"""Open a method to callers that sent a valid token."""

authenticated_403 = auth_decorator(_check_identified)
"""Open a method to identified callers; strangers get 403 instead of a way to the log-in page."""


def admin_only(method: Callable[..., Any]) -> Callable[..., Any]:
    """Open a method to users with the admin flag. Old: `needs_scope` says what a method is about."""
    warnings.warn(
        "admin_only looks at a flag that scopes replaced; decorate with needs_scope(...) instead",
        DeprecationWarning,
        stacklevel=2,
    )
    decorated: Callable[..., Any] = auth_decorator(_check_admin)(method)
    return decorated


def metrics_authentication(handler: Any, **kwargs: Any) -> None:
    """Let a caller read metrics: anybody where `authenticate_prometheus` is off, else holders of read:metrics."""
    if not handler.authenticate_prometheus:
        return
    held = handler.held_scopes
    if held is None or not held.covers("read:metrics"):
        raise HTTPError(403, "This needs the permission read:metrics")
