"""What pages show of servers and tokens: values made for templates, never rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..core.urls import url_path_join
from ..spawning.limits import notices

if TYPE_CHECKING:
    from ..core.lifecycle import Failure
    from ..runtime.context import HubContext
    from ..store.values import ServerRecord, TokenRecord
    from ..user import User

#: What the phases of a start are called on pages.
PHASE_NAMES = {
    "preparing": "Preparing",
    "starting": "Starting the server",
    "connecting": "Waiting for the server to answer",
    "routing": "Connecting it to the proxy",
    "running": "Running",
    "stopping": "Stopping",
}


@dataclass(frozen=True)
class ServerView:
    """One server as pages show it. Names are those that templates of deployments use (web §20)."""

    name: str
    display_name: str
    url: str
    spawn_url: str
    pending_url: str
    ready: bool = False
    active: bool = False
    pending: str | None = None
    started: datetime | None = None
    last_activity: datetime | None = None
    failure: Failure | None = None
    user_options: dict[str, Any] = field(default_factory=dict)
    #: Ours: restarts nobody asked for, ``{"at": time, "reason": text}``, newest first.
    restarts: list[dict[str, Any]] = field(default_factory=list)
    unhealthy_since: datetime | None = None
    #: Ours: sentences about limits that are not enforced, or were reached while it runs.
    notices: list[str] = field(default_factory=list)

    @property
    def state_name(self) -> str:
        """One word for people: running, starting, stopping, checking, renaming, failed or stopped."""
        if self.ready:
            return "running"
        if self.pending:
            names = {"spawn": "starting", "stop": "stopping", "check": "checking", "rename": "renaming"}
            return names.get(self.pending, self.pending)
        if self.failure is not None and self.failure.cause != "cancelled":
            return "failed"
        return "stopped"


def view_server(context: HubContext, user: User, name: str, record: ServerRecord | None) -> ServerView:
    """Return one server of a user; `record` is None for a default server that was never started."""
    status = context.servers.state_of(user, name)
    prefix = context.hub_prefix
    parts = [user.escaped_name, quote(name)] if name else [user.escaped_name]
    last_activity = record.last_activity if record is not None else None
    if record is not None:
        noted = context.activity.latest_of_server(record.id)
        last_activity = later(last_activity, noted)
    return ServerView(
        name=name,
        display_name=(record.display_name if record is not None else "") or name,
        url=user.server_url(name),
        spawn_url=url_path_join(prefix, "spawn", *parts),
        pending_url=url_path_join(prefix, "spawn-pending", *parts),
        ready=status.ready,
        active=status.active,
        pending=status.pending,
        started=record.started if record is not None and status.active else None,
        last_activity=last_activity,
        failure=status.failure,
        user_options=dict((record.user_options if record is not None else None) or {}),
        restarts=[
            {"at": datetime.fromisoformat(restart["at"]), "reason": restart["reason"]}
            for restart in reversed(status.restarts)
        ],
        unhealthy_since=status.unhealthy_since,
        notices=notices(record.state) if record is not None and status.active else [],
    )


async def view_servers(context: HubContext, user: User) -> dict[str, ServerView]:
    """Return all servers of a user by name, the default one first even if it was never started."""
    records = await context.directory.server_records(user)
    names = ["", *sorted(name for name in records if name)]
    return {name: view_server(context, user, name, records.get(name)) for name in names}


def phases_for_page(phases: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return phases with a name for people and how long each took, in seconds (None while it lasts)."""
    shown = []
    for phase in phases:
        took = None
        try:
            begun, ended = phase.get("started"), phase.get("ended")
            if begun and ended:
                took = (datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds()
        except (TypeError, ValueError):
            took = None
        name = str(phase.get("phase", ""))
        shown.append({**phase, "name": PHASE_NAMES.get(name, name.capitalize()), "seconds": took})
    return shown


def later(first: datetime | None, second: datetime | None) -> datetime | None:
    """Return the later of two times, either of which may be missing or naive UTC."""
    times = [_aware(each) for each in (first, second) if each is not None]
    return max(times) if times else None


def _aware(value: datetime) -> datetime:
    return value if value.tzinfo else value.replace(tzinfo=timezone.utc)


@dataclass
class ClientView:
    """The tokens of one OAuth client, together, as one row of the token page."""

    client: str
    token_id: str
    description: str
    scopes: list[str] = field(default_factory=list)
    created: datetime | None = None
    last_activity: datetime | None = None
    tokens: list[TokenRecord] = field(default_factory=list)

    @property
    def token_count(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class TokenView:
    """One API token as a row of the token page."""

    api_id: str
    note: str
    scopes: list[str]
    created: datetime | None
    last_activity: datetime | None
    expires_at: datetime | None
    is_server: bool = False


def split_tokens(records: Iterable[TokenRecord]) -> tuple[list[TokenView], list[ClientView]]:
    """Return (API tokens, OAuth clients), each newest use first, then newest."""
    api_tokens: list[TokenView] = []
    clients: dict[str, ClientView] = {}
    for record in records:
        client = record.client_id or "jupyterhub"
        if client == "jupyterhub":
            api_tokens.append(
                TokenView(
                    api_id=record.public_id,
                    note=record.note or "",
                    scopes=sorted(record.scopes),
                    created=record.created,
                    last_activity=record.last_activity,
                    expires_at=record.expires_at,
                    is_server=(record.note or "").startswith("Server at "),
                )
            )
            continue
        row = clients.get(client)
        if row is None:
            description = getattr(record, "client_description", None) or client
            row = clients[client] = ClientView(client, record.public_id, description)
        row.tokens.append(record)
        row.scopes = sorted({*row.scopes, *record.scopes})
        row.last_activity = later(row.last_activity, record.last_activity)
        if record.created is not None and (row.created is None or _aware(record.created) < _aware(row.created)):
            row.created = record.created

    def order(row: Any) -> tuple[float, float]:
        used, made = (-_aware(each).timestamp() if each else 0.0 for each in (row.last_activity, row.created))
        return used, made

    return sorted(api_tokens, key=order), sorted(clients.values(), key=order)
