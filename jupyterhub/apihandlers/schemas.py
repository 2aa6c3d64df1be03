"""Shapes of what the API takes and gives, as types, and the check of a body against them (rest-api §3, §4)."""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from typing import Any, TypedDict, Union, get_args, get_origin, get_type_hints

from ..core.errors import InvalidRequest

# What the API gives. Members of the classes with total=False depend on what the caller may see.


class ServerModel(TypedDict, total=False):
    """A server (rest-api §3.2).

    Ours, absent where there is nothing to say: `failure`, why the last start failed; `restarts`, when and why it was
    started again although nobody asked for it; `notices`, sentences about the limits of one that runs.
    """

    name: str
    display_name: str | None
    full_name: str
    last_activity: str | None
    started: str | None
    pending: str | None
    ready: bool
    stopped: bool
    url: str
    full_url: str | None
    progress_url: str
    full_progress_url: str | None
    user_options: dict[str, Any] | None
    state: dict[str, Any] | None
    failure: dict[str, Any]
    restarts: list[dict[str, str]]
    notices: list[str]


class UserModel(TypedDict, total=False):
    """A user (rest-api §3.1)."""

    kind: str
    name: str
    admin: bool
    user_info: dict[str, Any] | None
    roles: list[str]
    groups: list[str]
    server: str | None
    pending: str | None
    created: str | None
    last_activity: str | None
    auth_state: dict[str, Any] | None
    servers: dict[str, ServerModel]


class GroupModel(TypedDict, total=False):
    """A group (rest-api §3.3)."""

    kind: str
    name: str
    users: list[str]
    properties: dict[str, Any]
    roles: list[str]


class ServiceModel(TypedDict, total=False):
    """A service (rest-api §3.4)."""

    kind: str
    name: str
    admin: bool
    roles: list[str]
    url: str | None
    prefix: str
    command: list[str]
    pid: int
    info: dict[str, Any] | None
    display: bool | None


class IdentityModel(UserModel, total=False):
    """Who the credentials stand for: a user or a service, and these (rest-api §3.6)."""

    token_id: str | None
    session_id: str | None
    scopes: list[str]


class TokenModel(TypedDict, total=False):
    """A token (rest-api §3.5). `token` is its text, in the answer to its creation alone."""

    user: str
    service: str
    id: str
    kind: str
    roles: list[str]
    scopes: list[str]
    created: str | None
    last_activity: str | None
    expires_at: str | None
    note: str
    session_id: str | None
    oauth_client: str
    token: str


class TokenList(TypedDict):
    """All tokens of a user."""

    api_tokens: list[TokenModel]


class SharedServer(TypedDict):
    """The server that a share is about."""

    user: dict[str, str]
    name: str
    url: str
    full_url: str | None
    ready: bool


class ShareModel(TypedDict):
    """A share (rest-api §3.7)."""

    server: SharedServer
    scopes: list[str]
    user: dict[str, str] | None
    group: dict[str, str] | None
    kind: str
    created_at: str


class ShareCodeModel(TypedDict, total=False):
    """A share code (rest-api §3.8). The last three are in the answer to its creation alone."""

    server: SharedServer
    scopes: list[str]
    id: str
    created_at: str
    expires_at: str | None
    exchange_count: int
    last_exchanged_at: str | None
    code: str
    accept_url: str
    full_accept_url: str | None


class Page(TypedDict):
    """A page of a list."""

    items: list[Any]
    _pagination: dict[str, Any]


class VersionModel(TypedDict):
    """The version of the interface."""

    version: str


class InfoModel(TypedDict):
    """Versions and classes of the Hub (rest-api §3.9)."""

    version: str
    python: str
    sys_executable: str
    spawner: dict[str, str]
    authenticator: dict[str, str]


# What the API takes. Everything may be left out; what has to be there is the handler's to say.


class UserBody(TypedDict, total=False):
    """A user to make or to change."""

    name: str
    admin: bool
    groups: list[Any]
    roles: list[Any]
    auth_state: dict[str, Any]


class UsersBody(UserBody, total=False):
    """Users to make, all alike."""

    usernames: list[str]


class ServerBody(TypedDict, total=False):
    """A server to make or to start."""

    display_name: str
    user_options: dict[str, Any] | None


class ServerChange(TypedDict, total=False):
    """What to change of a stopped server."""

    name: str | None
    display_name: str | None
    user_options: dict[str, Any] | None


class StopBody(TypedDict, total=False):
    """Whether to forget a named server once it has stopped."""

    remove: bool


class ServerActivity(TypedDict):
    """When a server was used."""

    last_activity: str


class ActivityBody(TypedDict, total=False):
    """When a user and their servers were active."""

    last_activity: str
    servers: dict[str, ServerActivity]


class TokenBody(TypedDict, total=False):
    """A token to issue."""

    auth: Any
    note: str
    expires_in: int | None
    scopes: list[str]
    roles: list[str]


class GroupBody(TypedDict, total=False):
    """A group to make, or members of one."""

    name: str
    users: list[str]
    roles: list[Any]


class GroupsBody(GroupBody, total=False):
    """Groups to make, all with the same members."""

    groups: list[str]


class ServiceBody(TypedDict, total=False):
    """A service to register."""

    name: str
    admin: bool
    url: str
    oauth_client_allowed_scopes: list[Any]
    api_token: str
    info: dict[str, Any]
    display: bool
    oauth_no_confirm: bool
    command: list[Any]
    cwd: str
    environment: dict[str, Any]
    user: str
    oauth_client_id: str
    oauth_redirect_uri: str


class ShareBody(TypedDict, total=False):
    """What to share, with whom."""

    user: str
    group: str
    scopes: list[str]


class ShareCodeBody(TypedDict, total=False):
    """A share code to make. `expires_in` is in seconds."""

    scopes: list[str]
    expires_in: int


class ShutdownBody(TypedDict, total=False):
    """What ends together with the Hub."""

    proxy: bool
    servers: bool


class ProxyBody(TypedDict, total=False):
    """Where the proxy is now."""

    api_url: str
    auth_token: str


# The check


def check_body(body: Any, shape: Any) -> dict[str, Any]:
    """Return a body that has the shape of a TypedDict. Raises InvalidRequest naming a wrong or unknown member."""
    if not isinstance(body, Mapping):
        raise InvalidRequest(f"The body must be a JSON object, not {_named(type(body))}")
    members = _members(shape)
    unknown = sorted(set(body) - set(members))
    if unknown:
        raise InvalidRequest(f"Not understood: {', '.join(unknown)}. Possible are {', '.join(sorted(members))}")
    for name, value in body.items():
        if not _fits(value, members[name]):
            raise InvalidRequest(f"{name} must be {_described(members[name])}, not {_named(type(value))}")
    return dict(body)


@functools.cache
def _members(shape: Any) -> dict[str, Any]:
    return get_type_hints(shape)


def _fits(value: Any, kind: Any) -> bool:
    origin = get_origin(kind)
    if kind is Any:
        return True
    if origin is list:
        return isinstance(value, list) and all(_fits(each, get_args(kind)[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(each, get_args(kind)[1]) for each in value.values())
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, dict):
        # A TypedDict inside another one; what is in it is checked by whoever uses it.
        return isinstance(value, dict)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


_NAMES = {
    str: "a text", bool: "true or false", int: "a whole number", float: "a number", list: "an array", dict: "an object",
    type(None): "null",
}


def _named(kind: Any) -> str:
    return _NAMES.get(kind, "an object")


def _described(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is list:
        return "an array" if get_args(kind)[0] is Any else "an array of texts"
    if origin is dict:
        return "an object"
    if origin in (Union, types.UnionType):
        return " or ".join(_described(each) for each in get_args(kind))
    return _named(kind)
