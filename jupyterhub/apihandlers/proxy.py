"""The proxy's routes (rest-api §4.2)."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

from tornado import web
from traitlets import TraitError

from ..core.errors import InvalidRequest
from .base import APIHandler
from .declare import operation, register
from .schemas import ProxyBody

Result = TypeVar("Result")


class ProxyAPIHandler(APIHandler):
    """`/hub/api/proxy`."""

    async def ask_proxy(self, answer: Awaitable[Result]) -> Result:
        """Await something of the proxy. Raises 500 with the proxy's trouble."""
        try:
            return await answer
        except Exception as error:
            self.log.error("The proxy cannot be used: %s", error)
            raise web.HTTPError(500, f"The proxy cannot be used: {error}") from error

    @operation(
        "All routes", scopes=("proxy",), query={"offset": "where to begin", "limit": "how many to return at most"},
        responses={200: dict[str, Any]}, errors={500: "the proxy does not answer"},
    )
    async def get(self) -> None:
        offset, limit = self.get_api_pagination()
        routes = await self.ask_proxy(self.proxy.get_all_routes())
        if offset or len(routes) >= limit:
            routes = {key: routes[key] for key in sorted(routes)[offset : offset + limit]}
        self.write_json(routes)

    @operation(
        "Bring the proxy up to date", scopes=("proxy",), responses={200: None},
        errors={500: "the proxy does not answer"},
    )
    async def post(self) -> None:
        await self.ask_proxy(self.context.routes.check())
        self.finish()

    @operation(
        "Use another proxy", scopes=("proxy",), request=ProxyBody, responses={200: None},
        errors={400: "not an address", 500: "the proxy does not answer; it stays the one in use"},
    )
    async def patch(self) -> None:
        body = self.get_json_body()
        if not isinstance(body, dict):
            raise InvalidRequest("The body must be an object with api_url, auth_token or both")
        for name in ("api_url", "auth_token"):
            if name in body:
                try:
                    setattr(self.proxy, name, body[name])
                except TraitError as error:
                    raise InvalidRequest(f"{name}: {error}") from error
        self.log.info("The proxy is at %s now", getattr(self.proxy, "api_url", "its old place"))
        await self.ask_proxy(self.context.routes.check())
        self.finish()


default_handlers = register([(r"/api/proxy", ProxyAPIHandler)])
