"""Start, stop and watch services; keep the registry behind `app._service_map`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..core import secrets
from ..core.errors import HubError
from ..net import can_connect
from ..store.provisioning import ServiceDefinition
from .leftovers import end_leftovers

if TYPE_CHECKING:
    from ..objects import Server
    from ..services.service import Service
    from .context import HubContext


#: Seconds the start waits for a service that runs by itself.
EXTERNAL_TIMEOUT = 1.0


class ServiceFailed(HubError):
    """A managed service did not come up."""

    reason = "service-failed"


class ServiceKeeper:
    """Runs the managed services and says when an external one is away."""

    def __init__(self, context: HubContext) -> None:
        self._context = context
        self._reachable: dict[str, bool] = {}

    @staticmethod
    def definition(service: Service, client_scopes: list[str]) -> ServiceDefinition:
        """Return what is stored of a service. One that is managed and has no token gets one now."""
        note = "from config"
        if service.managed and not service.api_token:
            service.api_token, note = secrets.new_token(), "generated at startup"
        # What the definition did not say stays unset in the database; the traits' defaults do not count.
        given = set(service.given_keys)
        return ServiceDefinition(
            name=service.name,
            fields={name: getattr(service, name) for name in given - {"name", "api_token"}},
            api_token=service.api_token,
            token_note=note,
            managed=service.managed,
            client_id=service.oauth_client_id,
            redirect_uri=service.oauth_redirect_uri,
            client_scopes=tuple(client_scopes),
            oauth_available=service.oauth_available,
            address=service.address(),
        )

    async def start_all(self) -> None:
        """Start managed services and wait until those with a URL answer; wait for external ones without insisting.

        Raises ServiceFailed, naming the service, when a managed one does not come up.
        """
        services: list[Any] = list(self._context.services.values())
        managed = {service.name for service in services if service.managed}
        if managed:
            api_url = self._context.hub.api_url
            for text in await asyncio.get_running_loop().run_in_executor(None, end_leftovers, managed, api_url):
                self._context.log.warning("Ended a service that an earlier Hub had left running: %s", text)
        await asyncio.gather(*(self._start(service) for service in services))

    async def _start(self, service: Service) -> None:
        log = self._context.log
        if service.managed:
            try:
                await service.start()
            except (OSError, RuntimeError) as error:
                raise ServiceFailed(f"Service {service.name!r} cannot be started: {error}") from error
        server = service.server
        if server is None:
            return
        try:
            await self._wait_until_up(service, server)
        except (TimeoutError, OSError) as error:
            if service.managed:
                raise ServiceFailed(
                    f"Service {service.name!r} does not answer at {server.url} after {service.timeout} s: {error}"
                ) from error
            log.warning("External service %s does not answer at %s", service.name, server.url)

    async def _wait_until_up(self, service: Service, server: Server) -> None:
        """Wait for an answer. Raises ServiceFailed at once when a managed service ends instead."""
        waiting = asyncio.ensure_future(
            server.wait_up(timeout=service.timeout if service.managed else EXTERNAL_TIMEOUT, http=True)
        )
        try:
            while not waiting.done():
                await asyncio.wait([waiting], timeout=0.1)
                status = await service.spawner.poll() if service.managed else None
                if status is not None:
                    raise ServiceFailed(f"Service {service.name!r} ended with status {status} before it answered")
            waiting.result()
        finally:
            waiting.cancel()

    async def stop_all(self) -> None:
        """Stop the managed services, side by side."""
        await asyncio.gather(
            *(service.stop() for service in list(self._context.services.values())), return_exceptions=True
        )

    async def check_all(self) -> None:
        """Log which services cannot be reached, once per change."""
        for service in list(self._context.services.values()):
            server = service.server
            if server is None:
                continue
            reachable = await asyncio.get_running_loop().run_in_executor(None, can_connect, server.ip, server.port)
            if reachable != self._reachable.get(service.name, True):
                log = self._context.log.info if reachable else self._context.log.warning
                log(
                    "Service %s at %s %s",
                    service.name,
                    server.url,
                    "answers again" if reachable else "cannot be reached",
                )
            self._reachable[service.name] = reachable
