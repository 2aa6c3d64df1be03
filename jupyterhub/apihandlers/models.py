"""Values → JSON, as far as a caller may see them (rest-api §3). No database is asked and no spawner is made."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from ..core import lifecycle
from ..core.activity import latest
from ..core.clock import isoformat
from ..core.lifecycle import Failure, State
from ..core.scopes.algebra import Resource, ScopeSet
from ..core.urls import server_path, service_path
from ..spawning.limits import notices
from ..user import User

if TYPE_CHECKING:
    from ..runtime.context import HubContext
    from ..store.values import (
        GroupRecord,
        ServerRecord,
        ServiceRecord,
        ShareCodeRecord,
        ShareRecord,
        TokenRecord,
        UserRecord,
    )

#: Member of a user → scopes of which one must reach the user.
USER_MEMBERS: Mapping[str, tuple[str, ...]] = {
    "admin": ("read:users", "read:users:name", "read:roles:users"),
    "user_info": ("read:users", "read:users:name"),
    "roles": ("read:users", "read:roles:users"),
    "groups": ("read:users", "read:users:groups"),
    "server": ("read:users",),
    "pending": ("read:users",),
    "created": ("read:users",),
    "last_activity": ("read:users", "read:users:activity"),
    "auth_state": ("admin:auth_state",),
}
_USER_SCOPES = tuple(dict.fromkeys(scope for scopes in USER_MEMBERS.values() for scope in scopes))

GROUP_MEMBERS: Mapping[str, tuple[str, ...]] = {
    "users": ("read:groups",),
    "properties": ("read:groups",),
    "roles": ("read:roles:groups",),
}
_GROUP_SCOPES = ("read:groups", "read:groups:name", "read:roles:groups")

SERVICE_MEMBERS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("url", "prefix", "command", "pid", "info", "display"), ("read:services",)),
    "roles": ("read:roles:services",),
}
_SERVICE_SCOPES = ("read:services", "read:services:name", "read:roles:services")


class ServerFacts(Protocol):
    """What is known of a server: a spawner's record, or a `StoredServer`."""

    id: int
    name: str
    display_name: str | None
    started: datetime | None
    last_activity: datetime | None
    user_options: Any
    state: Any
    lifecycle: State
    failure: Failure | None
    restarts: list[dict[str, str]]


@dataclass
class StoredServer:
    """A server as the database has it, for lists: no address object and no spawner is made for it."""

    id: int = 0
    name: str = ""
    display_name: str | None = ""
    started: datetime | None = None
    last_activity: datetime | None = None
    user_options: Any = None
    state: Any = None
    lifecycle: State = State.STOPPED
    failure: Failure | None = None
    restarts: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def of_row(cls, row: ServerRecord) -> StoredServer:
        """Make one from a stored value."""
        server = cls(
            row.id, row.name, row.display_name, row.started, row.last_activity, row.user_options, row.state
        )
        if row.run is not None:
            server.lifecycle = State(row.run.state)
            server.failure = Failure.from_dict(row.run.failure) if row.run.failure else None
            server.restarts = list(row.run.data.get("restarts", ()))
        return server


@dataclass(frozen=True)
class Viewer:
    """Who looks: the scopes that decide what is shown, and the Hub whose addresses are shown."""

    context: HubContext
    held: ScopeSet = field(default_factory=ScopeSet)

    def reaches(self, scope: str, resource: Resource, groups: Collection[str] = ()) -> bool:
        """Whether a scope reaches a resource; `groups` are those of the user it belongs to (rbac §9.5)."""
        return self.held.covers_resource(
            scope, resource, groups_of=lambda name: groups, bare_server_names=True
        )

    def scopes_on(self, scopes: Iterable[str], resource: Resource, groups: Collection[str] = ()) -> set[str]:
        """Return those of the scopes that reach a resource."""
        names = self.held.names
        return {scope for scope in scopes if scope in names and self.reaches(scope, resource, groups)}

    @property
    def host(self) -> str:
        """`scheme://host` of the deployment if it is known, else an empty text."""
        public = self.context.public_url
        if not public:
            return ""
        parts = urlsplit(public) if isinstance(public, str) else public
        return f"{parts.scheme}://{parts.netloc}"

    def absolute(self, path: str) -> str | None:
        """Return the absolute address of a path, or None where the Hub does not know its own."""
        return f"{self.host}{path}" if self.host else None


# Users and servers


def known_servers(user: Any) -> list[ServerFacts]:
    """Return the servers of a user wrapper; everybody has a default server, if only as an empty place for one."""
    found: list[ServerFacts] = list(user.records.values())
    if "" not in user.records:
        found.insert(0, StoredServer())
    return found


def stored_servers(rows: Iterable[ServerRecord]) -> list[ServerFacts]:
    """The same of a user's rows."""
    found: list[ServerFacts] = [StoredServer.of_row(row) for row in rows]
    if not any(server.name == "" for server in found):
        found.insert(0, StoredServer())
    return found


def server_model(viewer: Viewer, server: ServerFacts, user: Any) -> dict[str, Any]:
    """Return a server of a user wrapper; its state only to those who may see it."""
    name = server.name
    state = server.lifecycle
    progress_url = user.progress_url(name)
    noted = viewer.context.activity.latest_of_server(server.id) if server.id else None
    model: dict[str, Any] = {
        "name": name,
        "display_name": server.display_name if server.display_name is not None else name,
        "full_name": f"{user.name}/{name}",
        "last_activity": isoformat(latest(server.last_activity, noted)),
        "started": isoformat(server.started) if lifecycle.is_active(state) else None,
        "pending": lifecycle.pending(state),
        "ready": lifecycle.is_ready(state),
        "stopped": not lifecycle.is_active(state),
        "url": user.server_url(name),
        "full_url": user.public_url(name) or None,
        "progress_url": progress_url,
        "full_progress_url": viewer.absolute(progress_url),
        "user_options": _copied(server.user_options),
    }
    if server.failure is not None:
        # Ours: why the last start failed.
        model["failure"] = server.failure.to_dict()
    if lifecycle.is_active(state) and (noticed := notices(server.state)):
        # Ours: limits that are not enforced, and what was killed because of one.
        model["notices"] = noticed
    if server.restarts:
        # Ours: when and why it was started again although nobody asked for it.
        model["restarts"] = [dict(restart) for restart in server.restarts]
    if viewer.reaches("admin:server_state", Resource(user=user.name, server=name), user.group_names):
        model["state"] = _copied(server.state)
    return model


def _copied(value: Any) -> dict[str, Any] | None:
    return None if value is None else dict(value)


def user_model(
    viewer: Viewer,
    user: Any,
    servers: Iterable[ServerFacts] | None = None,
    *,
    include_stopped: bool = False,
    auth_state: Any = None,
) -> dict[str, Any]:
    """Return a user wrapper with the members and servers that the viewer may see; {} when that is nothing."""
    record: UserRecord = user.record
    groups = record.groups
    facts = known_servers(user) if servers is None else list(servers)
    reaching = viewer.scopes_on(_USER_SCOPES, Resource(user=record.name), groups)
    shown = _shown_servers(viewer, user, facts, include_stopped)
    if not reaching and shown is None:
        return {}
    model: dict[str, Any] = {"kind": "user", "name": record.name}
    if reaching:
        default = next((server.lifecycle for server in facts if server.name == ""), State.STOPPED)
        noted = viewer.context.activity.latest_of_user(record.id)
        values = {
            "admin": record.admin,
            "user_info": _copied(record.user_info),
            "roles": list(record.roles),
            "groups": list(groups),
            "server": server_path(viewer.context.base_url, record.name) if lifecycle.is_ready(default) else None,
            "pending": lifecycle.pending(default),
            "created": isoformat(record.created),
            "last_activity": isoformat(latest(record.last_activity, noted)),
            "auth_state": auth_state,
        }
        for member, scopes in USER_MEMBERS.items():
            if not reaching.isdisjoint(scopes):
                model[member] = values[member]
    if shown is not None:
        model["servers"] = shown
    return model


def _shown_servers(
    viewer: Viewer, user: Any, servers: list[ServerFacts], include_stopped: bool
) -> dict[str, Any] | None:
    """Return server models by name, or None when there is no permission to see any (rest-api §3.1)."""
    if "read:servers" not in viewer.held.names:
        return None
    groups = user.group_names
    whole = viewer.reaches("read:servers", Resource(user=user.name), groups)
    found = {
        server.name: server_model(viewer, server, user)
        for server in servers
        if (include_stopped or lifecycle.is_active(server.lifecycle))
        and (whole or viewer.reaches("read:servers", Resource(user=user.name, server=server.name), groups))
    }
    return found if whole or found else None


def listed_user(viewer: Viewer, record: UserRecord, rows: Iterable[ServerRecord], **options: Any) -> dict[str, Any]:
    """Return a user of a list, from the cache if there, else made of what was read for the list."""
    known = viewer.context.users.cached(record.id)
    if known is not None:
        return user_model(viewer, known, **options)
    return user_model(viewer, User(record, viewer.context.settings), stored_servers(rows), **options)


# Groups and services


def _filtered(
    model: dict[str, Any], always: Collection[str], members: Mapping[str, tuple[str, ...]], reaching: set[str]
) -> dict[str, Any]:
    if not reaching:
        return {}
    return {
        name: value
        for name, value in model.items()
        if name in always or not reaching.isdisjoint(members.get(name, ()))
    }


def group_model(viewer: Viewer, group: GroupRecord) -> dict[str, Any]:
    """Return what the viewer may see of a group; {} when nothing."""
    model = {
        "kind": "group",
        "name": group.name,
        "users": list(group.users),
        "properties": dict(group.properties),
        "roles": list(group.roles),
    }
    reaching = viewer.scopes_on(_GROUP_SCOPES, Resource(group=group.name))
    return _filtered(model, ("kind", "name"), GROUP_MEMBERS, reaching)


def service_model(
    viewer: Viewer, service: Any, roles: Iterable[str] = (), *, stored: ServiceRecord | None = None
) -> dict[str, Any]:
    """Return what the viewer may see of a service; {} when nothing.

    `stored` is given for owners of tokens: what the definition does not give is null then (rest-api §3.4).
    """
    name = service.name
    model = {
        "kind": "service",
        "name": name,
        "admin": bool(service.admin),
        "roles": sorted(roles),
        "url": service.url,
        "prefix": service_path(viewer.context.base_url, name) if service.url else "",
        "command": list(service.command or ()),
        "pid": service.pid,
        "info": dict(service.info or {}),
        "display": bool(service.display),
    }
    if stored is not None:
        model.update(
            roles=list(stored.roles), url=stored.url or None, info=_copied(stored.info), display=stored.display
        )
    reaching = viewer.scopes_on(_SERVICE_SCOPES, Resource(service=name))
    return _filtered(model, ("kind", "name", "admin"), SERVICE_MEMBERS, reaching)


# Tokens and shares


def token_model(token: TokenRecord, scopes: Iterable[str]) -> dict[str, Any]:
    """Return a token with the scopes that it really has now; its text is nowhere."""
    owner = {"user": token.user_name} if token.user_name is not None else {"service": token.service_name}
    from_hub = token.client_id in (None, "jupyterhub")
    return {
        **owner,
        "id": token.public_id,
        "kind": "api_token",
        "roles": [],
        "scopes": sorted(scopes),
        "created": isoformat(token.created),
        "last_activity": isoformat(token.last_activity),
        "expires_at": isoformat(token.expires_at),
        "note": token.note,
        "session_id": token.session_id,
        "oauth_client": "JupyterHub" if from_hub else token.client_description or token.client_id,
    }


def _shared_server(viewer: Viewer, share: ShareRecord | ShareCodeRecord, owner: Any) -> dict[str, Any]:
    record = owner.records.get(share.server)
    return {
        "user": {"name": share.owner},
        "name": share.server,
        "url": owner.server_url(share.server),
        "full_url": owner.public_url(share.server) or None,
        "ready": record is not None and lifecycle.is_ready(record.lifecycle),
    }


def share_model(viewer: Viewer, share: ShareRecord, owner: Any) -> dict[str, Any]:
    """Return a share; `owner` is the wrapper of the server's owner."""
    return {
        "server": _shared_server(viewer, share, owner),
        "scopes": sorted(share.scopes),
        "user": {"name": share.user} if share.user is not None else None,
        "group": {"name": share.group} if share.group is not None else None,
        "kind": "user" if share.user is not None else "group",
        "created_at": isoformat(share.created_at),
    }


def share_code_model(viewer: Viewer, code: ShareCodeRecord, owner: Any) -> dict[str, Any]:
    """Return a share code without its text."""
    return {
        "server": _shared_server(viewer, code, owner),
        "scopes": sorted(code.scopes),
        "id": code.public_id,
        "created_at": isoformat(code.created_at),
        "expires_at": isoformat(code.expires_at),
        "exchange_count": code.exchange_count,
        "last_exchanged_at": isoformat(code.last_exchanged_at),
    }
