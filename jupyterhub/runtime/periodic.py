"""What a running Hub does every now and then: named loops, each with its interval and its owner."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .. import metrics
from ..core.clock import aware
from ..store import logins as login_store
from .leases import HEARTBEAT_SECONDS

if TYPE_CHECKING:
    from .context import HubContext

#: Seconds between two deletions of what has expired (database §7).
PURGE_SECONDS = 3600.0
#: Seconds between two writes of noted activity.
ACTIVITY_FLUSH_SECONDS = 10.0


def start_periodic_tasks(context: HubContext) -> None:
    """Start all loops; the context's background tasks own them."""
    background = context.background
    background.repeat(context.activity.flush, every=ACTIVITY_FLUSH_SECONDS, name="write activity")
    background.repeat(lambda: purge_expired(context), every=PURGE_SECONDS, first=60.0, name="purge what has expired")
    background.repeat(context.leases.heartbeat, every=HEARTBEAT_SECONDS, name="heartbeat")
    interval = float(context.get("last_activity_interval", 300) or 0)
    if interval > 0:
        background.repeat(lambda: poll_proxy(context), every=interval, name="poll the proxy for activity")


async def purge_expired(context: HubContext) -> None:
    """Delete expired tokens, codes, shares and ended log-ins."""
    await context.tokens.purge()
    await context.database.run(login_store.purge_ended_logins)
    context.logins.forget_expired()


async def poll_proxy(context: HubContext) -> None:
    """Read all routes: note the activity they report, then correct what does not match (config §13)."""
    began = time.monotonic()
    routes = await context.proxy.get_all_routes()
    metrics.PROXY_POLL_DURATION_SECONDS.observe(time.monotonic() - began)
    note_route_activity(context, routes)
    await context.routes.check(routes)


def note_route_activity(context: HubContext, routes: dict[str, Any]) -> None:
    """Turn `last_activity` of users' routes into activity of users and servers."""
    from dateutil.parser import parse

    for route in routes.values():
        data = route.get("data") or {}
        if "user" not in data or "server_name" not in data or "last_activity" not in data:
            continue
        user = context.users.cached(data["user"])
        record = user.records.get(data["server_name"]) if user is not None else None
        if user is None or record is None:
            continue
        when = aware(parse(data["last_activity"]))
        if record.last_activity is None or record.last_activity < when:
            record.last_activity = when
            context.activity.note_server(record.id, when)
            context.activity.note_user(user.id, when)
