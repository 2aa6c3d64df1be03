"""Values → JSON, as far as a caller may see them (rest-api §3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from ..core import lifecycle
from ..core.clock import isoformat
from ..core.urls import server_path, service_path, url_escape_path, url_path_join
from ..spawning.record import SpawnerRecord

#: Field → scopes of which one must reach the user.
USER_FIELDS: dict[str, tuple[str, ...]] = {
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
ANY_USER_SCOPE = (
    "read:users", "read:users:name", "read:users:groups", "read:users:activity", "read:roles:users", "admin:auth_state",
    "read:servers",
)


def _host(handler: Any) -> str:
    public = handler.settings.get("public_url")
    if not public:
        return ""
    parts = urlsplit(public) if isinstance(public, str) else public
    return f"{parts.scheme}://{parts.netloc}"


def server_of_record(handler: Any, record: SpawnerRecord, user: Any) -> dict[str, Any]:
    """Return the model of a server of a user wrapper."""
    groups = user.group_names
    model = _server(handler, record, user.name, user.server_url(record.name), user.public_url(record.name))
    if not handler.covers_resource("admin:server_state", user=user.name, server=record.name, groups=groups):
        model.pop("state")
    return model


def _server(handler: Any, record: Any, user_name: str, url: str, full_url: str) -> dict[str, Any]:
    name = record.name
    state: lifecycle.State = record.lifecycle
    progress = ["api/users", url_escape_path(user_name)]
    progress += ["servers", url_escape_path(name), "progress"] if name else ["server/progress"]
    progress_url = url_path_join(handler.hub_prefix, *progress)
    host = _host(handler)
    model = {
        "name": name,
        "display_name": record.display_name if record.display_name is not None else (name or ""),
        "full_name": f"{user_name}/{name}",
        "last_activity": isoformat(record.last_activity or record.started),
        "started": isoformat(record.started),
        "pending": lifecycle.pending(state),
        "ready": lifecycle.is_ready(state),
        "stopped": not lifecycle.is_active(state),
        "url": url,
        "full_url": full_url or None,
        "progress_url": progress_url,
        "full_progress_url": f"{host}{progress_url}" if host else None,
        "user_options": dict(record.user_options or {}),
        "state": dict(record.state or {}),
    }
    failure = record.failure
    if failure is not None:
        # Ours: why the last start failed. JupyterHub 6 has no such member.
        model["failure"] = failure.to_dict()
    return model


def user_model(
    handler: Any,
    record: Any,
    servers: Iterable[SpawnerRecord],
    *,
    include_stopped: bool = False,
    auth_state: Any = None,
) -> dict[str, Any]:
    """Return a user with the fields and servers that the caller may see; {} when nothing of it."""
    name, groups = record.name, record.groups

    def reaches(scopes: Iterable[str]) -> bool:
        return any(handler.covers_resource(scope, user=name, groups=groups) for scope in scopes)

    servers = list(servers)
    visible_servers = _visible_servers(handler, record, servers, include_stopped)
    if not reaches(ANY_USER_SCOPE) and not visible_servers:
        return {}
    default = next((server for server in servers if server.name == ""), None)
    ready = default is not None and lifecycle.is_ready(default.lifecycle)
    values = {
        "admin": record.admin,
        "user_info": record.user_info,
        "roles": list(record.roles),
        "groups": list(record.groups),
        "server": server_path(handler.base_url, name) if ready else None,
        "pending": lifecycle.pending(default.lifecycle) if default is not None else None,
        "created": isoformat(record.created),
        "last_activity": isoformat(record.last_activity),
        "auth_state": auth_state,
    }
    model: dict[str, Any] = {"kind": "user", "name": name}
    for field, scopes in USER_FIELDS.items():
        if reaches(scopes):
            model[field] = values[field]
    if visible_servers is not None:
        model["servers"] = visible_servers
    return model


def _visible_servers(
    handler: Any, record: Any, servers: list[SpawnerRecord], include_stopped: bool
) -> dict[str, Any] | None:
    """Return server models by name, or None when the caller may not see the user's servers at all."""
    name, groups = record.name, record.groups
    whole = handler.covers_resource("read:servers", user=name, groups=groups)
    found: dict[str, Any] = {}
    user = handler.users.cached(name)
    for server in servers:
        if not include_stopped and not lifecycle.is_active(server.lifecycle):
            continue
        if not whole and not handler.covers_resource("read:servers", user=name, server=server.name, groups=groups):
            continue
        url = user.server_url(server.name) if user is not None else server_path(handler.base_url, name, server.name)
        full = user.public_url(server.name) if user is not None else (f"{_host(handler)}{url}" if _host(handler) else "")
        model = _server(handler, server, name, url, full)
        if not handler.covers_resource("admin:server_state", user=name, server=server.name, groups=groups):
            model.pop("state")
        found[server.name] = model
    return found if whole or found else None


def filter_group(handler: Any, model: dict[str, Any]) -> dict[str, Any]:
    """Return what the caller may see of a group."""
    group = model["name"]
    if handler.covers_resource("read:groups", group=group):
        allowed = {"kind", "name", "users", "properties"}
    elif handler.covers_resource("read:groups:name", group=group):
        allowed = {"kind", "name"}
    else:
        allowed = set()
    if handler.covers_resource("read:roles:groups", group=group):
        allowed |= {"kind", "name", "roles"}
    return {key: value for key, value in model.items() if key in allowed}


def service_model(handler: Any, service: Any) -> dict[str, Any]:
    """Return what the caller may see of a service."""
    name = service.name
    roles = list(getattr(service, "role_names", ()) or ())
    model = {
        "kind": "service",
        "name": name,
        "admin": bool(service.admin),
        "roles": roles,
        "url": service.url or "",
        "prefix": service_path(handler.base_url, name) if service.url else "",
        "command": list(service.command or ()),
        "pid": service.pid,
        "info": dict(service.info or {}),
        "display": bool(service.display),
    }
    allowed: set[str] = set()
    if handler.covers_resource("read:services", service=name):
        allowed |= set(model) - {"roles"}
    if handler.covers_resource("read:services:name", service=name):
        allowed |= {"kind", "name", "admin"}
    if handler.covers_resource("read:roles:services", service=name):
        allowed |= {"kind", "name", "admin", "roles"}
    return {key: value for key, value in model.items() if key in allowed}


def token_model(token: Any, scopes: Iterable[str]) -> dict[str, Any]:
    """Return a token; its text is nowhere."""
    owner = {"user": token.user_name} if token.user_name is not None else {"service": token.service_name}
    description = token.client_description
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
        "oauth_client": "JupyterHub" if token.client_id == "jupyterhub" else description or token.client_id or "",
    }
