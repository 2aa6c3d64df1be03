"""What the store hands out: plain frozen values, never rows.

A row belongs to the session and the thread that loaded it; a value may be kept, cached and passed to any
thread. Every time is an aware UTC time, although the database keeps naive ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = [
    "AuditRecord",
    "GroupRecord",
    "IdentityRecord",
    "OAuthClientRecord",
    "OAuthCodeRecord",
    "ProcessRecord",
    "RoleRecord",
    "RunRecord",
    "ServerAddress",
    "ServerRecord",
    "ServiceRecord",
    "ShareCodeRecord",
    "ShareRecord",
    "TokenRecord",
    "UserRecord",
]


@dataclass(frozen=True, slots=True)
class UserRecord:
    """A user. `groups` and `roles` are names in alphabetical order; roles are the direct ones only."""

    id: int
    name: str
    admin: bool = False
    created: datetime | None = None
    last_activity: datetime | None = None
    cookie_id: str = ""
    user_info: Mapping[str, Any] | None = None
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    has_auth_state: bool = False


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server listens. While it starts `ip` is empty and `port` is a placeholder (database §3)."""

    id: int
    proto: str = "http"
    ip: str = ""
    port: int = 0
    base_url: str = "/"
    cookie_name: str = "cookie"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Where a server is in its life, and who moves it.

    `state` is the text of a `core.lifecycle.State`; `owner` is the id of a hub process, or None; `fence` grows
    with every change of owner and with every start, and never takes a value again. `failure` is what
    `Failure.to_dict` wrote; `phases` are ``{"phase", "started", "ended"}`` with ISO times; `data` is whatever
    the steps of a start need in order to be taken back by another process.
    """

    state: str
    fence: int
    owner: int | None = None
    failure: Mapping[str, Any] | None = None
    phases: tuple[Mapping[str, Any], ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    output_tail: tuple[str, ...] = ()
    requested_by: str = ""
    updated: datetime | None = None


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """A server of a user: the row in `spawners`, with its address while active and with its run, if it had one.

    The default server's name is the empty text.
    """

    id: int
    user_id: int
    user_name: str
    name: str = ""
    display_name: str | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    started: datetime | None = None
    last_activity: datetime | None = None
    user_options: Mapping[str, Any] = field(default_factory=dict)
    oauth_client_id: str | None = None
    address: ServerAddress | None = None
    run: RunRecord | None = None


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """An API token; its text is nowhere. Exactly one of the two owners is set. `scopes` are raw."""

    id: int
    user_id: int | None = None
    user_name: str | None = None
    service_id: int | None = None
    service_name: str | None = None
    client_id: str | None = None
    client_description: str = ""
    session_id: str | None = None
    created: datetime | None = None
    expires_at: datetime | None = None
    last_activity: datetime | None = None
    note: str = ""
    scopes: tuple[str, ...] = ()

    @property
    def public_id(self) -> str:
        """The id that the REST API shows: ``a`` and the row's number."""
        return f"a{self.id}"


@dataclass(frozen=True, slots=True)
class IdentityRecord:
    """Everything needed to say who somebody is and what they may do (rbac §8).

    `kind` is ``"user"`` or ``"service"``. `role_scopes` are the raw scopes of all roles, those of groups
    included; `share_scopes` those of the shares granted to the user or to one of the groups. `token` is None
    for a log-in. The `client_*` members say what the OAuth client that issued the token stands for: a server
    (`client_user`, `client_server`) or a service.
    """

    kind: str
    id: int
    name: str
    admin: bool = False
    groups: tuple[str, ...] = ()
    role_scopes: tuple[str, ...] = ()
    share_scopes: tuple[str, ...] = ()
    cookie_id: str = ""
    last_activity: datetime | None = None
    token: TokenRecord | None = None
    client_user: str | None = None
    client_server: str | None = None
    client_service: str | None = None


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """A group. `users` is filled only by functions that say so: a group may have very many members."""

    id: int
    name: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    roles: tuple[str, ...] = ()
    users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RoleRecord:
    """A role with its raw scopes; `managed` when the authenticator made it."""

    id: int
    name: str
    description: str = ""
    scopes: tuple[str, ...] = ()
    managed: bool = False


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """A service as stored. Members that its definition did not give are None."""

    id: int
    name: str
    admin: bool = False
    url: str | None = None
    oauth_client_allowed_scopes: tuple[str, ...] | None = None
    info: Mapping[str, Any] | None = None
    display: bool | None = None
    oauth_no_confirm: bool | None = None
    command: tuple[str, ...] | None = None
    cwd: str | None = None
    environment: Mapping[str, Any] | None = None
    user: str | None = None
    timeout: int = 30
    from_config: bool = True
    oauth_client_id: str | None = None
    redirect_uri: str | None = None
    address: ServerAddress | None = None
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OAuthClientRecord:
    """An OAuth client, and what it stands for: a server (`user`, `server`) or a service, or neither.

    `secret` is the stored hash, for `core.secrets.compare_token`; empty means that it cannot authenticate.
    `allowed_scopes` are raw and do not include the access scope.
    """

    identifier: str
    description: str = ""
    secret: str = ""
    redirect_uri: str = ""
    allowed_scopes: tuple[str, ...] = ()
    user: str | None = None
    server: str | None = None
    service: str | None = None


@dataclass(frozen=True, slots=True)
class OAuthCodeRecord:
    """An authorisation code, which is deleted by being taken. `expires_at` is in Unix seconds."""

    client_id: str
    code: str
    expires_at: int
    redirect_uri: str
    session_id: str
    user_id: int
    user_name: str
    scopes: tuple[str, ...] = ()
    code_challenge: str | None = None
    code_challenge_method: str | None = None


@dataclass(frozen=True, slots=True)
class ShareRecord:
    """Scopes on one server granted to a user or to a group (exactly one of `group` and `user` is set)."""

    id: int
    owner: str
    server: str
    spawner_id: int
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None = None
    group: str | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class ShareCodeRecord:
    """A code that grants a share to whoever exchanges it; its text is nowhere."""

    id: int
    owner: str
    server: str
    spawner_id: int
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None = None
    exchange_count: int = 0
    last_exchanged_at: datetime | None = None

    @property
    def public_id(self) -> str:
        """The id that the REST API shows: ``sc_`` and the row's number."""
        return f"sc_{self.id}"


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A hub process, as it announced itself."""

    id: int
    hostname: str
    pid: int
    url: str
    started: datetime
    heartbeat: datetime


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One thing that somebody did."""

    id: int
    at: datetime
    action: str
    actor: str = ""
    target: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
