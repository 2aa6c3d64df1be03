"""The contract of a proxy.

What every proxy class must do, and what the hub does with it (services-and-proxy B).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from traitlets import Any as AnyTrait
from traitlets import Bool, Dict, TraitError, Unicode, validate
from traitlets.config import LoggingConfigurable

from .. import metrics
from ..core.routing import Route, canonical_spec, difference, validate_spec

__all__ = ["Proxy", "ProxyFailedToStart", "Routes"]

#: Routes by routespec, each a dictionary with `routespec`, `target` and `data`.
Routes = dict[str, dict[str, Any]]
#: Corrections of one check that are logged one by one.
CORRECTIONS_TOLD = 20


class ProxyFailedToStart(RuntimeError):
    """The proxy could not be started. The message says what was in the way and what to do."""


class Proxy(LoggingConfigurable):
    """Leads requests from one public address to the hub, the services and everyone's servers.

    To write a proxy, override `add_route`, `delete_route` and `get_all_routes`, and `start` and `stop` when
    the hub is to run it. Each may be a coroutine. A route has a *routespec*, ``/path/`` or, when
    `host_routing` is on, ``host/path/``; a *target*, ``scheme://host:port`` without a path; and *data*, a
    dictionary that JSON can express and that must be given back as it was.

    In the life of a hub these are called: `start`, once and only if `should_start`; `get_all_routes`, to see
    that it answers; `check_routes`, at the end of start-up and then every few minutes; `add_user` when a
    server is ready and `delete_user` before it stops; `stop`, if the hub started it and is not told to leave
    it running.
    """

    db_factory: Any = AnyTrait(help="Gives the session that `db` returns.")
    app: Any = AnyTrait(help="The running application, or None.")
    hub: Any = AnyTrait(help="The Hub object: its `host` is the target of the hub's own route.")
    public_url = Unicode(help="The address the proxy listens on for everybody.")
    ssl_key = Unicode(help="File with the TLS key of the public address.")
    ssl_cert = Unicode(help="File with the TLS certificate of the public address.")
    host_routing = Bool(False, help="True when routes begin with a host name, because users have subdomains.")

    should_start = Bool(
        True,
        help="""
        Whether the hub starts the proxy and stops it.

        Set it to False when something else looks after the proxy; it must then run before the hub does.
        """,
    ).tag(config=True)

    extra_routes = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        help="""
        Further routes, besides those of the hub, its services and everyone's servers.

        A dictionary from route to target. A route is a path such as '/docs/'; with subdomains it is a host
        name and a path such as 'docs.example.org/'. A target is a URL with scheme http or https and a host.
        """,
    ).tag(config=True)

    @validate("extra_routes")
    def _check_extra_routes(self, proposal: Any) -> dict[str, str]:
        checked: dict[str, str] = {}
        for spec, target in proposal.value.items():
            try:
                spec = validate_spec(spec, host_routing=self.host_routing)
            except ValueError as error:
                raise TraitError(f"Proxy.extra_routes: {error}") from None
            url = urlsplit(target)
            if url.scheme not in ("http", "https") or not url.netloc:
                raise TraitError(f"Proxy.extra_routes: the target of {spec!r} must be a URL, not {target!r}")
            checked[spec] = target
        return checked

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._checking_routes = asyncio.Lock()

    @property
    def db(self) -> Any:
        """The database session that plugins share."""
        return self.db_factory()

    # What a proxy has to do

    def start(self) -> Any:
        """Start the proxy.

        Called only if `should_start`. May be a coroutine; raises when the proxy does not come up.
        """

    def stop(self) -> Any:
        """Stop the proxy. Called only if `should_start`. May be a coroutine."""

    def validate_routespec(self, routespec: str) -> str:
        """The routespec with its slash at the end.

        Raises ValueError when it names a host and `host_routing` is off, or names none and it is on.
        """
        return validate_spec(routespec, host_routing=self.host_routing)

    async def add_route(self, routespec: str, target: str, data: dict[str, Any]) -> Any:
        """Add a route, in place of one with the same routespec."""
        raise NotImplementedError(f"{type(self).__name__} has no add_route()")

    async def delete_route(self, routespec: str) -> Any:
        """Remove a route. One that is not there is as good as removed."""
        raise NotImplementedError(f"{type(self).__name__} has no delete_route()")

    async def get_all_routes(self) -> Routes:
        """Every route made by the hub, by routespec; `data` may also hold `last_activity` (ISO 8601)."""
        raise NotImplementedError(f"{type(self).__name__} has no get_all_routes()")

    async def get_route(self, routespec: str) -> dict[str, Any] | None:
        """The route with this routespec, or None."""
        routes = await self.get_all_routes()
        return routes.get(self.validate_routespec(routespec))

    # What the hub asks for

    async def add_service(self, service: Any) -> None:
        """Route a service's prefix to its server. Raises RuntimeError when the service has none."""
        if not service.server:
            raise RuntimeError(f"Service {service.name} has no address, so it cannot have a route")
        await self._make(_service_route(service))

    async def delete_service(self, service: Any) -> None:
        """Remove a service's route."""
        self.log.info("No more route for service %s", service.name)
        await self.delete_route(service.proxy_spec)

    async def add_user(self, user: Any, server_name: str = "") -> None:
        """Route the path of a user's server to the server.

        Raises RuntimeError when the server is in the middle of anything but its start.
        """
        motion = user.spawners[server_name].pending
        if motion and motion != "spawn":
            raise RuntimeError(f"The server {user.name}:{server_name} is pending ({motion}): no route now")
        await self._make(_server_route(user, server_name))

    async def delete_user(self, user: Any, server_name: str = "") -> None:
        """Remove the route of a user's server."""
        spec = user.spawners[server_name].proxy_spec
        self.log.info("No more route for the server of %s: %s", user.name, spec)
        await self.delete_route(spec)

    async def add_hub_route(self, hub: Any) -> None:
        """Route everything that is nobody else's to the hub."""
        await self._make(_hub_route(hub))

    async def _make(self, route: Route) -> None:
        self.log.debug("New route %s => %s %s", route.spec, route.target, route.data)
        await self.add_route(route.spec, route.target, dict(route.data))

    async def add_all_services(self, service_dict: Mapping[str, Any]) -> None:
        """Add the route of every service that has a server."""
        await _gather([self.add_service(service) for service in service_dict.values() if service.server])

    async def add_all_users(self, user_dict: Mapping[Any, Any]) -> None:
        """Add the route of every server that is ready."""
        await _gather([self.add_user(user, name) for user, name, spawner in _servers(user_dict) if spawner.ready])

    async def restore_routes(self) -> None:
        """Put the routes back into a proxy that was started again without them."""
        app = self.app
        self.log.info("The proxy is new and empty: giving it its routes")
        # The hub's first: it is what people see while the others are on their way.
        await self.add_hub_route(app.hub)
        await _gather([self.add_all_users(app.users), self.add_all_services(app._service_map)])

    async def check_routes(
        self, user_dict: Mapping[Any, Any], service_dict: Mapping[str, Any], routes: Routes | None = None
    ) -> None:
        """Compare the proxy's routes with those there should be; correct the difference. One check at a time.

        `user_dict` holds users with their spawners, `service_dict` services by name; `routes`, when given, is
        the answer of `get_all_routes` that is still fresh. Servers in motion keep what they have
        (services-and-proxy B2).
        """
        async with self._checking_routes:
            began = time.perf_counter()
            if routes is None:
                self.log.debug("Asking the proxy which routes it has")
                routes = await self.get_all_routes()
                metrics.PROXY_POLL_DURATION_SECONDS.observe(time.perf_counter() - began)
            await self._correct_routes(user_dict, service_dict, routes)
            metrics.CHECK_ROUTES_DURATION_SECONDS.observe(time.perf_counter() - began)

    async def _correct_routes(
        self, user_dict: Mapping[Any, Any], service_dict: Mapping[str, Any], routes: Routes
    ) -> None:
        # Routes go through the methods that third parties override (`add_hub_route`, `add_user`, …), so each
        # wanted route is kept with the call that makes it.
        wanted: list[Route] = []
        makers: dict[str, Callable[[], Awaitable[Any]]] = {}
        held: list[str] = []

        def want(route: Route, make: Callable[[], Awaitable[Any]]) -> None:
            wanted.append(route)
            makers[canonical_spec(route.spec)] = make

        if self.hub is not None:
            hub = self.hub
            want(_hub_route(hub), lambda: self.add_hub_route(hub))
        for user, name, spawner in _servers(user_dict):
            if spawner.pending:
                held.append(spawner.proxy_spec)
            elif spawner.ready:
                route = _server_route(user, name)
                want(route, lambda user=user, name=name: self.add_user(user, name))  # type: ignore[misc]
        for service in service_dict.values():
            if service.server:
                route = _service_route(service)
                want(route, lambda service=service: self.add_service(service))  # type: ignore[misc]
        for spec, target in self.extra_routes.items():
            data = {"extra": True}
            want(
                Route(spec, target, data),
                lambda spec=spec, target=target, data=data: self.add_route(spec, target, data),  # type: ignore[misc]
            )

        present = [Route(spec, str(route["target"]), route.get("data") or {}) for spec, route in routes.items()]
        todo = difference(wanted, present, held)
        if not todo:
            return
        self._tell("Adding missing route for %s", [f"{route.spec} ({route.target})" for route in todo.add])
        self._tell("Updating route for %s", [f"{route.spec} (now {route.target})" for route in todo.change])
        self._tell("Deleting stale route %s", list(todo.remove))
        corrections = [makers[canonical_spec(route.spec)]() for route in (*todo.add, *todo.change)]
        await _gather([*corrections, *(self.delete_route(spec) for spec in todo.remove)])


    def _tell(self, sentence: str, routes: list[str]) -> None:
        """Log each correction, but a proxy that comes back empty is told of in one line, not in thousands."""
        for route in routes[:CORRECTIONS_TOLD]:
            self.log.warning(sentence, route)
        if len(routes) > CORRECTIONS_TOLD:
            self.log.warning(sentence, f"and {len(routes) - CORRECTIONS_TOLD} more")


def _hub_route(hub: Any) -> Route:
    return Route(hub.routespec, hub.host, {"hub": True})


def _service_route(service: Any) -> Route:
    return Route(service.proxy_spec, service.server.host, {"service": service.name})


def _server_route(user: Any, server_name: str) -> Route:
    spawner = user.spawners[server_name]
    # What stands for a spawner in a plugin's tests has a `server` and nothing else.
    address = getattr(spawner, "_address", None) or spawner.server
    return Route(spawner.proxy_spec, address.host, {"user": user.name, "server_name": server_name})


def _servers(user_dict: Mapping[Any, Any]) -> Iterator[tuple[Any, str, Any]]:
    """Every server that users have, as user, name and spawner."""
    for user in tuple(user_dict.values()):
        yield from ((user, name, spawner) for name, spawner in tuple(user.spawners.items()))


async def _gather(awaitables: list[Any]) -> None:
    """Wait for all of them, then raise the first error.

    One bad route must not keep the others from being made.
    """
    # Third-party proxies may do their work in plain methods; what those return needs no waiting.
    waiting: list[Coroutine[Any, Any, Any] | Awaitable[Any]] = [
        thing for thing in awaitables if asyncio.isfuture(thing) or hasattr(thing, "__await__")
    ]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


Proxy.__module__ = "jupyterhub.proxy"
