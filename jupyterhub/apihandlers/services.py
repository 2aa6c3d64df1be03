"""Services (rest-api §4.10)."""

from __future__ import annotations

import asyncio
from typing import Any

from tornado import web

from ..core.errors import InvalidRequest, ServiceNotFound
from ..core.scopes.algebra import AllType
from ..runtime import service_registry
from ..store import services as service_store
from . import models
from .base import APIHandler
from .declare import operation, register
from .schemas import ServiceBody, ServiceModel

#: Seconds to wait for a new service to answer at its URL, at most.
LONGEST_WAIT = 30


class _ServiceHandler(APIHandler):
    async def service_models(self, services: list[Any]) -> dict[str, dict[str, Any]]:
        """Return what the caller may see of services, by name."""
        roles: dict[str, list[str]] = {}
        held = self.held_scopes
        if held is not None and "read:roles:services" in held.names:
            roles = await self.context.database.read(service_store.roles_of_services)
        viewer = self.viewer
        found = {
            service.name: models.service_model(viewer, service, roles.get(service.name, ())) for service in services
        }
        return {name: model for name, model in found.items() if model}

    async def write_service(self, service: Any, status: int = 200) -> None:
        shown = await self.service_models([service])
        self.write_json(shown.get(service.name, {}), status)


class ServiceListAPIHandler(_ServiceHandler):
    """`/hub/api/services`."""

    @operation("List services", scopes=("list:services",), lists=True, responses={200: dict[str, ServiceModel]})
    async def get(self) -> None:
        caller = self.caller
        assert caller is not None
        filters = self.context.access.filter_for(caller, "list:services")
        services = list(self.services.values())
        if not isinstance(filters, AllType):
            names = filters.get("service", frozenset())
            services = [service for service in services if service.name in names]
        self.write_json(await self.service_models(services))


class ServiceAPIHandler(_ServiceHandler):
    """`/hub/api/services/{service}`."""

    def service_or_404(self, name: str) -> Any:
        service = self.services.get(name)
        if service is None:
            raise ServiceNotFound(name)
        return service

    @operation(
        "One service", scopes=("read:services", "read:services:name", "read:roles:services"),
        responses={200: ServiceModel}, errors={404: "there is none"},
    )
    async def get(self, service_name: str) -> None:
        await self.write_service(self.service_or_404(service_name))

    @operation(
        "Register a service that runs by itself", scopes=("admin:services",), request=ServiceBody,
        responses={201: ServiceModel},
        errors={400: "the definition is not possible, or gives away more than you have", 409: "there is one"},
    )
    async def post(self, service_name: str) -> None:
        body = self.read_body(ServiceBody, required=True)
        if not body:
            raise InvalidRequest("The body must be an object that defines the service")
        caller = self.caller
        assert caller is not None
        definition = {**body, "name": service_name}
        service = await service_registry.register_service(self.context, definition, caller)
        self.log.info("Service %s was registered by %s", service_name, caller.name)
        server = service.server
        if server is not None:
            try:
                await server.wait_up(timeout=min(service.timeout, LONGEST_WAIT), http=True)
            except (TimeoutError, asyncio.TimeoutError, OSError):
                self.log.warning("The new service %s does not answer at %s yet", service_name, server.url)
        await self.write_service(service, 201)

    @operation(
        "Delete a service that was registered here", scopes=("admin:services",), responses={200: None},
        errors={404: "there is none", 405: "it is from the configuration"},
    )
    async def delete(self, service_name: str) -> None:
        if self.service_or_404(service_name).from_config:
            raise web.HTTPError(405, f"Service {service_name} is from the configuration and can be deleted only there")
        await service_registry.delete_service(self.context, service_name)
        self.write_nothing(200)


default_handlers = register(
    [(r"/api/services", ServiceListAPIHandler), (r"/api/services/([^/]+)", ServiceAPIHandler)]
)
