"""Services (rest-api §4.10)."""

from __future__ import annotations

from tornado import web

from ..core.scopes.algebra import AllType
from .base import APIHandler
from .declare import operation, register


class ServiceListAPIHandler(APIHandler):
    """`/hub/api/services`."""

    @operation("Services that the caller may list", scopes=("list:services",), lists=True, responses={200: "services"})
    def get(self) -> None:
        caller = self.caller
        assert caller is not None
        filters = self.context.access.filter_for(caller, "list:services")
        names = set(self.services) if isinstance(filters, AllType) else set(filters.get("service", ()))
        found = {
            name: self.service_model(service) for name, service in self.services.items() if name in names
        }
        self.write_json({name: model for name, model in found.items() if model})


class ServiceAPIHandler(APIHandler):
    """`/hub/api/services/{service}`."""

    @operation(
        "One service", scopes=("read:services", "read:services:name", "read:roles:services"),
        responses={200: "service", 404: "none such"},
    )
    def get(self, service_name: str) -> None:
        service = self.services.get(service_name)
        if service is None:
            raise web.HTTPError(404)
        self.write_json(self.service_model(service))


default_handlers = register(
    [(r"/api/services", ServiceListAPIHandler), (r"/api/services/([^/]+)", ServiceAPIHandler)]
)
