"""The proxy's routes (rest-api §4.2)."""

from __future__ import annotations

from .base import APIHandler
from .declare import operation, register


class ProxyAPIHandler(APIHandler):
    """`/hub/api/proxy`."""

    @operation("All routes", scopes=("proxy",), responses={200: "routes by specification"})
    async def get(self) -> None:
        offset, limit = self.get_api_pagination()
        routes = await self.proxy.get_all_routes()
        if offset == 0 and len(routes) < limit:
            self.write_json(routes)
            return
        keys = sorted(routes)[offset : offset + limit]
        self.write_json({key: routes[key] for key in keys})

    @operation("Bring the proxy's routes up to date", scopes=("proxy",), responses={200: "done"})
    async def post(self) -> None:
        await self.context.routes.check()
        self.finish()

    @operation("Use another proxy", scopes=("proxy",), body="api_url, auth_token", responses={200: "done"})
    async def patch(self) -> None:
        model = self.get_json_object(required=True)
        for name in ("api_url", "auth_token"):
            if name in model:
                setattr(self.proxy, name, model[name])
        self.log.info("The proxy is at %s now", getattr(self.proxy, "api_url", "?"))
        await self.context.routes.check()
        self.finish()


default_handlers = register([(r"/api/proxy", ProxyAPIHandler)])
