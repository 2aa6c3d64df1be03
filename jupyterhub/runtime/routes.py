"""The only caller of the proxy's route methods (LAYOUT §9)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from .. import metrics
from ..aio import deadline

if TYPE_CHECKING:
    from ..spawner import Spawner
    from ..user import User
    from .context import HubContext

#: Seconds a single route change may take before it counts as failed.
ROUTE_TIMEOUT = 30.0


class RouteKeeper:
    """Adds, removes and checks routes. Failures are raised to the step that asked."""

    def __init__(self, context: HubContext) -> None:
        self._context = context
        self._checking = asyncio.Lock()

    async def add_server(self, user: User, spawner: Spawner) -> None:
        """Route the server's path to its address.

        Raises whatever the proxy raises, or TimeoutError after ROUTE_TIMEOUT seconds.
        """
        began = time.monotonic()
        status = "failure"
        try:
            await deadline(self._context.proxy.add_user(user, spawner.name), ROUTE_TIMEOUT, "adding a route")
            status = "success"
        finally:
            metrics.PROXY_ADD_DURATION_SECONDS.labels(status=status).observe(time.monotonic() - began)

    async def remove_server(self, user: User, server_name: str) -> None:
        """Forget the server's route. A route that is not there is as good as removed."""
        began = time.monotonic()
        status = "failure"
        try:
            await deadline(self._context.proxy.delete_user(user, server_name), ROUTE_TIMEOUT, "deleting a route")
            status = "success"
        finally:
            metrics.PROXY_DELETE_DURATION_SECONDS.labels(status=getattr(metrics.ProxyDeleteStatus, status)).observe(
                time.monotonic() - began
            )

    async def check(self, routes: dict[str, Any] | None = None) -> None:
        """Compare wanted and present routes once and correct the difference; one check at a time.

        The users given to the proxy are those in memory: everyone with a running server is.
        """
        async with self._checking:
            await self._context.proxy.check_routes(self._context.users, self._context.services, routes)
