"""Every way a request can be refused or fail, named by its cause.

The status code, headers and page that belong to a cause are decided in `web.errors`, and only there.

HubError
├── InvalidRequest (also a ValueError)      what was asked for makes no sense
│   ├── InvalidName                         user, server, group, role or service name, display name
│   ├── InvalidScope                        malformed scope text
│   │   └── ScopeNotFound
│   ├── InvalidDefinition                   of a scope, role or service in configuration
│   ├── RoleNotFound
│   └── ScopesNotHeld                       more was asked for than the owner has
├── NotFound
│   ├── UserNotFound  ServerNotFound  GroupNotFound  ServiceNotFound
│   ├── TokenNotFound  ShareNotFound  ShareCodeNotFound  RouteNotFound
│   └── ResourceHidden                      exists or not: this caller may not know
├── AlreadyExists
│   └── UserExists  ServerExists  GroupExists  ServiceExists  TokenExists
├── AccessRefused
│   ├── NotIdentified                       nobody we know asks
│   ├── InvalidToken
│   ├── PermissionMissing
│   ├── AuthenticationStale                 must log in again first
│   └── UserBlocked
├── Unsuitable                              the request is fine, the moment is not
│   ├── ServerBusy  ServerRunning  ServerNotRunning
│   ├── NamedServersDisabled  TooManyNamedServers
│   ├── TooManyServers
│   ├── TooManyStarts
│   ├── ServerStillRunning                  the last stop failed and the old server is still there
│   └── HubShuttingDown
├── StartFailed  StopFailed                 a plugin or the server itself failed
│   └── StartCancelled                      somebody asked for a stop meanwhile
├── PluginMistake                           a plugin broke its contract
├── LoginNotChecked                         the authenticator could not say who somebody is
├── IllegalMove                             a fault of ours: not in the table of lifecycle moves
├── LeaseLost                               another hub process owns the server now
├── StoreUnavailable                        the database does not answer
└── ProxyUnavailable                        the proxy does not answer
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from .lifecycle import Failure

__all__ = [
    "AccessRefused",
    "AlreadyExists",
    "AuthenticationStale",
    "GroupExists",
    "GroupNotFound",
    "HubError",
    "HubShuttingDown",
    "IllegalMove",
    "InvalidDefinition",
    "InvalidName",
    "InvalidRequest",
    "InvalidScope",
    "InvalidToken",
    "LeaseLost",
    "LoginNotChecked",
    "NamedServersDisabled",
    "NotFound",
    "NotIdentified",
    "PermissionMissing",
    "PluginMistake",
    "ProxyUnavailable",
    "ResourceHidden",
    "RoleNotFound",
    "RouteNotFound",
    "ScopeNotFound",
    "ScopesNotHeld",
    "ServerBusy",
    "ServerExists",
    "ServerNotFound",
    "ServerNotRunning",
    "ServerRunning",
    "ServerStillRunning",
    "ServiceExists",
    "ServiceNotFound",
    "ShareCodeNotFound",
    "ShareNotFound",
    "StartCancelled",
    "StartFailed",
    "StopFailed",
    "StoreUnavailable",
    "TokenExists",
    "TokenNotFound",
    "TooManyNamedServers",
    "TooManyServers",
    "TooManyStarts",
    "Unsuitable",
    "UserBlocked",
    "UserExists",
    "UserNotFound",
    "describe_server",
]


def describe_server(user: str, server: str) -> str:
    """A server as people call it: ``ada's server`` or ``ada's server 'lab'``."""
    return f"{user}'s server {server!r}" if server else f"{user}'s server"


class HubError(Exception):
    """Something went wrong in the hub."""

    reason: ClassVar[str] = "error"
    """A short slug for logs and metrics, fixed per class."""

    def __init__(self, message: str = "") -> None:
        self.message = message or self.default_message()
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message

    @classmethod
    def default_message(cls) -> str:
        """The docstring's first line: written for the person who will read it."""
        return (cls.__doc__ or HubError.__doc__ or "").strip().partition("\n")[0]


# -- what was asked for makes no sense -----------------------------------------------------------------------


class InvalidRequest(HubError, ValueError):
    """The request cannot be understood."""

    reason = "invalid-request"


class InvalidName(InvalidRequest):
    """This name is not allowed."""

    reason = "invalid-name"

    def __init__(self, name: str = "", why: str = "", *, kind: str = "user") -> None:
        self.name = name
        self.why = why
        self.kind = kind
        super().__init__(f"{name!r} is not a valid {kind} name: {why}" if why else "")


class InvalidScope(InvalidRequest):
    """This is not a well-formed scope."""

    reason = "invalid-scope"

    def __init__(self, scope: str = "", why: str = "") -> None:
        self.scope = scope
        super().__init__(f"Scope {scope!r}: {why}" if why else "")


class ScopeNotFound(InvalidScope, KeyError):
    """There is no such scope."""

    # Also a KeyError, because code that asks about scopes has been catching that for years.

    reason = "scope-not-found"

    def __init__(self, scope: str = "", why: str = "there is no such scope", *, who_for: str = "") -> None:
        super().__init__(scope, f"{why} (asked for by {who_for})" if who_for else why)


class InvalidDefinition(InvalidRequest):
    """A definition in the configuration is not valid."""

    reason = "invalid-definition"


class RoleNotFound(InvalidRequest):
    """There is no such role."""

    reason = "role-not-found"

    def __init__(self, name: str = "") -> None:
        self.name = name
        super().__init__(f"There is no role {name!r}" if name else "")


class ScopesNotHeld(InvalidRequest):
    """More was asked for than the owner is allowed to do."""

    reason = "scopes-not-held"

    def __init__(self, scopes: Iterable[str] = (), owner: str = "") -> None:
        self.scopes = tuple(sorted(scopes))
        self.owner = owner
        listed = ", ".join(self.scopes)
        super().__init__(f"{owner or 'The owner'} does not have: {listed}" if listed else "")


# -- not there -----------------------------------------------------------------------------------------------


class NotFound(HubError):
    """There is nothing here."""

    reason = "not-found"


class UserNotFound(NotFound):
    """There is no such user."""

    reason = "user-not-found"

    def __init__(self, name: str = "") -> None:
        self.name = name
        super().__init__(f"There is no user {name!r}" if name else "")


class ServerNotFound(NotFound, ValueError):
    """There is no such server. Plugins catch the ValueError of `user.spawners[name]`."""

    reason = "server-not-found"

    def __init__(self, user: str = "", server: str = "") -> None:
        self.user = user
        self.server = server
        super().__init__(f"User {user!r} has no server named {server!r}" if user else "")


class GroupNotFound(NotFound):
    """There is no such group."""

    reason = "group-not-found"

    def __init__(self, name: str = "") -> None:
        self.name = name
        super().__init__(f"There is no group {name!r}" if name else "")


class ServiceNotFound(NotFound):
    """There is no such service."""

    reason = "service-not-found"

    def __init__(self, name: str = "") -> None:
        self.name = name
        super().__init__(f"There is no service {name!r}" if name else "")


class TokenNotFound(NotFound):
    """There is no such token."""

    reason = "token-not-found"


class ShareNotFound(NotFound):
    """There is no such share."""

    reason = "share-not-found"


class ShareCodeNotFound(NotFound):
    """This share code does not exist or is no longer valid."""

    reason = "share-code-not-found"


class RouteNotFound(NotFound):
    """There is no such route."""

    reason = "route-not-found"


class ResourceHidden(NotFound):
    """There is nothing here, or nothing that you may see."""

    reason = "resource-hidden"


# -- already there -------------------------------------------------------------------------------------------


class AlreadyExists(HubError):
    """This exists already."""

    reason = "already-exists"


class UserExists(AlreadyExists):
    """A user of this name exists already."""

    reason = "user-exists"

    def __init__(self, name: str = "") -> None:
        self.name = name
        super().__init__(f"User {name!r} exists already" if name else "")


class ServerExists(AlreadyExists):
    """A server of this name exists already."""

    reason = "server-exists"

    def __init__(self, user: str = "", server: str = "") -> None:
        self.user = user
        self.server = server
        super().__init__(f"User {user!r} has a server named {server!r} already" if user else "")


class GroupExists(AlreadyExists):
    """A group of this name exists already."""

    reason = "group-exists"

    def __init__(self, name: str = "") -> None:
        self.name = name
        super().__init__(f"Group {name!r} exists already" if name else "")


class ServiceExists(AlreadyExists):
    """A service of this name exists already."""

    reason = "service-exists"

    def __init__(self, name: str = "") -> None:
        self.name = name
        super().__init__(f"Service {name!r} exists already" if name else "")


class TokenExists(AlreadyExists):
    """This token is in use already."""

    reason = "token-exists"


# -- not allowed ---------------------------------------------------------------------------------------------


class AccessRefused(HubError):
    """This is not allowed."""

    reason = "access-refused"


class NotIdentified(AccessRefused):
    """Credentials are missing or not valid."""

    reason = "not-identified"


class InvalidToken(AccessRefused):
    """This token is unknown or has expired."""

    reason = "invalid-token"


class PermissionMissing(AccessRefused):
    """A permission is missing."""

    reason = "permission-missing"

    def __init__(self, *scopes: str) -> None:
        self.scopes = scopes
        super().__init__(f"This needs one of the permissions [{', '.join(scopes)}]" if scopes else "")


class AuthenticationStale(AccessRefused):
    """Your log-in has to be renewed; please log in again."""

    reason = "authentication-stale"


class UserBlocked(AccessRefused):
    """This user may not log in."""

    reason = "user-blocked"


# -- a bad moment --------------------------------------------------------------------------------------------


class Unsuitable(HubError):
    """This cannot be done now."""

    reason = "unsuitable"


class ServerBusy(Unsuitable):
    """The server is in the middle of something else."""

    reason = "server-busy"

    def __init__(self, user: str = "", server: str = "", *, pending: str) -> None:
        self.user = user
        self.server = server
        self.pending = pending
        what = describe_server(user, server) if user else "The server"
        super().__init__(f"{what} is pending {pending}")


class ServerRunning(Unsuitable):
    """The server is already running."""

    reason = "server-running"

    def __init__(self, user: str = "", server: str = "") -> None:
        self.user = user
        self.server = server
        super().__init__(f"{describe_server(user, server)} is already running" if user else "")


class ServerNotRunning(Unsuitable):
    """The server is not running."""

    reason = "server-not-running"

    def __init__(self, user: str = "", server: str = "") -> None:
        self.user = user
        self.server = server
        super().__init__(f"{describe_server(user, server)} is not running" if user else "")


class NamedServersDisabled(Unsuitable):
    """Named servers are not enabled on this hub."""

    reason = "named-servers-disabled"


class TooManyNamedServers(Unsuitable):
    """You have as many named servers as allowed; delete one first."""

    reason = "too-many-named-servers"

    def __init__(self, user: str = "", limit: int = 0) -> None:
        self.user = user
        self.limit = limit
        super().__init__(f"{user} has {limit} named servers, the maximum; delete one first" if user else "")


class TooManyServers(Unsuitable):
    """As many servers as this hub allows are active; try again when some have stopped."""

    reason = "too-many-servers"

    def __init__(self, message: str = "", *, limit: int = 0) -> None:
        self.limit = limit
        super().__init__(message)


class TooManyStarts(Unsuitable):
    """Many servers are starting at the moment; try again shortly."""

    reason = "too-many-starts"

    def __init__(self, message: str = "", *, retry_after: int) -> None:
        self.retry_after = retry_after
        """Whole seconds."""
        super().__init__(message)


class ServerStillRunning(Unsuitable):
    """The previous server could not be stopped and is still running."""

    reason = "server-still-running"

    def __init__(self, user: str = "", server: str = "") -> None:
        self.user = user
        self.server = server
        what = describe_server(user, server) if user else "The server"
        super().__init__(
            f"{what} could not be stopped last time and is still running; ask an administrator to end it"
        )


class HubShuttingDown(Unsuitable):
    """The hub is shutting down; please try again in a moment."""

    reason = "hub-shutting-down"


# -- failures ------------------------------------------------------------------------------------------------


class StartFailed(HubError):
    """The server did not start."""

    reason = "start-failed"

    def __init__(self, failure: Failure | None = None, message: str = "") -> None:
        self.failure = failure
        super().__init__(message or (failure.message if failure else ""))


class StartCancelled(StartFailed):
    """The start was cancelled."""

    reason = "start-cancelled"


class PluginMistake(HubError):
    """A plugin did not keep to its contract."""

    reason = "plugin-mistake"

    def __init__(self, plugin: str = "", what: str = "") -> None:
        self.plugin = plugin
        self.what = what
        super().__init__(f"Mistake of {plugin}: {what}" if plugin else "")


class LoginNotChecked(HubError):
    """Your log-in could not be checked, for a reason that is not your name or password. Please try again in a moment."""

    reason = "login-not-checked"


class StopFailed(HubError):
    """The server did not stop."""

    reason = "stop-failed"


class IllegalMove(HubError):
    """A server cannot make this move."""

    reason = "illegal-move"

    def __init__(self, state: str = "", event: str = "") -> None:
        self.state = state
        self.event = event
        super().__init__(f"A server that is {state!r} cannot take {event!r}" if state else "")


class LeaseLost(HubError):
    """Another hub process has taken over this server."""

    reason = "lease-lost"


class StoreUnavailable(HubError):
    """The hub's database does not answer; please try again in a moment."""

    reason = "store-unavailable"


class ProxyUnavailable(HubError):
    """The proxy does not answer; please try again in a moment."""

    reason = "proxy-unavailable"
