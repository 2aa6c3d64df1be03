"""A proxy that is a dictionary, for tests and for people who write plugins."""

from typing import Any

from .base import Proxy, Routes

__all__ = ["InMemoryProxy"]


class InMemoryProxy(Proxy):
    """Keeps the contract of a proxy and forwards nothing. It passes the same tests as the real ones.

    >>> proxy = InMemoryProxy()
    >>> await proxy.add_route("/user/ada/", "http://127.0.0.1:9", {"user": "ada", "server_name": ""})
    >>> await proxy.get_route("/user/ada/")
    {'routespec': '/user/ada/', 'target': 'http://127.0.0.1:9', 'data': {'user': 'ada', 'server_name': ''}}
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        #: The routes by routespec; tests may read it.
        self.routes: Routes = {}
        #: True between `start` and `stop`.
        self.running = False

    async def start(self) -> None:
        self.running = True

    async def stop(self) -> None:
        self.running = False
        self.routes.clear()

    async def check_running(self) -> None:
        """Nothing can end a dictionary."""

    async def add_route(self, routespec: str, target: str, data: dict[str, Any]) -> None:
        routespec = self.validate_routespec(routespec)
        self.routes[routespec] = {"routespec": routespec, "target": target, "data": dict(data)}

    async def delete_route(self, routespec: str) -> None:
        self.routes.pop(self.validate_routespec(routespec), None)

    async def get_all_routes(self) -> Routes:
        return {spec: {**route, "data": dict(route["data"])} for spec, route in self.routes.items()}
