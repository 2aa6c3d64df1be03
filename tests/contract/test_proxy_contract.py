"""What every proxy class must do. The same tests run on the fake that ships with the package and on the real ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from traitlets import TraitError
from traitlets.config import Config

from jupyterhub.proxy import BuiltinProxy, ConfigurableHTTPProxy, InMemoryProxy, Proxy
from tests.system.dataplane_program import free_port, installed_node_proxy

NODE = installed_node_proxy()
KINDS = ["memory", "builtin", *(["node"] if NODE else [])]


@dataclass
class Address:
    """What routes need of a server."""

    host: str


@dataclass
class FakeHub:
    host: str = "http://127.0.0.1:8081"
    routespec: str = "/"
    url: str = "http://127.0.0.1:1/hub/"


@dataclass
class FakeSpawner:
    proxy_spec: str
    server: Address | None = field(default_factory=lambda: Address("http://127.0.0.1:5000"))
    ready: bool = True
    pending: str | None = None


@dataclass
class FakeUser:
    name: str
    spawners: dict[str, FakeSpawner]


@dataclass
class FakeService:
    name: str
    proxy_spec: str
    server: Address | None


@dataclass
class FakeApp:
    hub: FakeHub
    users: dict[str, FakeUser] = field(default_factory=dict)
    _service_map: dict[str, FakeService] = field(default_factory=dict)


def make(kind: str, directory: Path, **options: Any) -> Proxy:
    """A proxy of one kind that is not started yet."""
    hub = options.pop("hub", None) or FakeHub()
    app = options.pop("app", None) or FakeApp(hub)
    if kind == "memory":
        return InMemoryProxy(hub=hub, app=app, **options)
    options.setdefault("public_url", f"http://127.0.0.1:{free_port()}/")
    options.setdefault("api_url", f"http://127.0.0.1:{free_port()}")
    options.setdefault("pid_file", str(directory / "proxy.pid"))
    if kind == "node":
        return ConfigurableHTTPProxy(hub=hub, app=app, command=[NODE], **options)
    return BuiltinProxy(hub=hub, app=app, **options)


Maker = Callable[..., Any]


@pytest.fixture(params=KINDS)
async def started(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Maker]:
    """A function that makes and starts a proxy, which is stopped at the end."""
    running: list[Proxy] = []

    async def start(**options: Any) -> Proxy:
        proxy = make(request.param, tmp_path, **options)
        await proxy.start()
        running.append(proxy)
        return proxy

    yield start
    for proxy in running:
        await proxy.stop()


@pytest.fixture
async def proxy(started: Maker) -> Proxy:
    made: Proxy = await started()
    return made


def plain(route: dict[str, Any] | None) -> dict[str, Any] | None:
    """A route without the time that proxies may add to its data."""
    if route is not None:
        route["data"].pop("last_activity", None)
    return route


@pytest.mark.parametrize(
    "spec",
    [
        "/",
        "/user/ada/",
        "/user/ada/lab%20one/",
        "/user/a@b.test/",
        "/user/%C3%A9%20x/",
        "/@/space%20word/user/x~y/",
        "/services/web/",
    ],
)
async def test_route_added_is_route_listed(proxy: Proxy, spec: str) -> None:
    data = {"user": "ada", "server_name": "", "extra": {"list": [1, None, "é"]}}
    await proxy.add_route(spec, "http://127.0.0.1:9000", data)
    routes = await proxy.get_all_routes()
    assert list(routes) == [spec]
    expected = {"routespec": spec, "target": "http://127.0.0.1:9000", "data": data}
    assert plain(routes[spec]) == expected
    assert plain(await proxy.get_route(spec)) == expected
    await proxy.delete_route(spec)
    assert await proxy.get_all_routes() == {}
    assert await proxy.get_route(spec) is None


async def test_adding_again_replaces(proxy: Proxy) -> None:
    await proxy.add_route("/a/", "http://127.0.0.1:1", {"user": "a", "server_name": "x"})
    await proxy.add_route("/a/", "http://127.0.0.1:2", {"service": "b"})
    route = plain(await proxy.get_route("/a/"))
    assert route == {"routespec": "/a/", "target": "http://127.0.0.1:2", "data": {"service": "b"}}


async def test_deleting_what_is_not_there_is_no_error(proxy: Proxy) -> None:
    await proxy.delete_route("/never/")


async def test_routespec_gets_its_slash(proxy: Proxy) -> None:
    await proxy.add_route("/a", "http://127.0.0.1:1", {})
    assert list(await proxy.get_all_routes()) == ["/a/"]


async def test_host_is_refused_without_host_routing(proxy: Proxy) -> None:
    with pytest.raises(ValueError):
        await proxy.add_route("a.example/x/", "http://127.0.0.1:1", {})


async def test_host_routing(started: Maker) -> None:
    proxy = await started(host_routing=True)
    for spec in ("/", "hub.example/", "ada.hub.example/user/ada/"):
        await proxy.add_route(spec, "http://127.0.0.1:1", {})
    assert sorted(await proxy.get_all_routes()) == ["/", "ada.hub.example/user/ada/", "hub.example/"]
    with pytest.raises(ValueError):
        await proxy.add_route("/path/", "http://127.0.0.1:1", {})
    await proxy.delete_route("hub.example/")
    assert "hub.example/" not in await proxy.get_all_routes()


async def test_many_changes_at_once(proxy: Proxy) -> None:
    specs = [f"/user/{number}/" for number in range(100)]
    await asyncio.gather(*(proxy.add_route(spec, "http://127.0.0.1:1", {"spec": spec}) for spec in specs))
    assert sorted(await proxy.get_all_routes()) == sorted(specs)
    await asyncio.gather(*(proxy.delete_route(spec) for spec in specs[:50]))
    assert sorted(await proxy.get_all_routes()) == sorted(specs[50:])


async def test_users_services_and_the_hub(proxy: Proxy) -> None:
    user = FakeUser("ada", {"": FakeSpawner("/user/ada/"), "lab": FakeSpawner("/user/ada/lab/")})
    service = FakeService("web", "/services/web/", Address("http://127.0.0.1:7000"))
    await proxy.add_user(user)
    await proxy.add_user(user, "lab")
    await proxy.add_service(service)
    await proxy.add_hub_route(FakeHub())
    data = {spec: plain(route)["data"] for spec, route in (await proxy.get_all_routes()).items()}  # type: ignore[index]
    assert data == {
        "/user/ada/": {"user": "ada", "server_name": ""},
        "/user/ada/lab/": {"user": "ada", "server_name": "lab"},
        "/services/web/": {"service": "web"},
        "/": {"hub": True},
    }
    await proxy.delete_user(user, "lab")
    await proxy.delete_service(service)
    assert sorted(await proxy.get_all_routes()) == ["/", "/user/ada/"]


async def test_server_in_another_motion_than_its_start_gets_no_route(proxy: Proxy) -> None:
    user = FakeUser("ada", {"": FakeSpawner("/user/ada/", pending="stop")})
    with pytest.raises(RuntimeError, match="stop"):
        await proxy.add_user(user)
    user.spawners[""].pending = "spawn"
    await proxy.add_user(user)


async def test_service_without_an_address_gets_no_route(proxy: Proxy) -> None:
    with pytest.raises(RuntimeError, match="web"):
        await proxy.add_service(FakeService("web", "/services/web/", None))


async def test_check_adds_corrects_and_deletes(started: Maker) -> None:
    proxy = await started(extra_routes={"/docs": "http://127.0.0.1:6000"})
    users = {
        "ready": FakeUser("ready", {"": FakeSpawner("/user/ready/")}),
        "moved": FakeUser("moved", {"": FakeSpawner("/user/moved/")}),
        "stopped": FakeUser("stopped", {"": FakeSpawner("/user/stopped/", server=None, ready=False)}),
        "stopping": FakeUser("stopping", {"": FakeSpawner("/user/stopping/", pending="stop")}),
        "starting": FakeUser("starting", {"": FakeSpawner("/user/starting/", ready=False, pending="spawn")}),
    }
    services = {
        "web svc": FakeService("web svc", "/services/web%20svc/", Address("http://127.0.0.1:7000")),
        "none": FakeService("none", "/services/none/", None),
    }
    await proxy.add_route("/user/moved/", "http://127.0.0.1:1", {"user": "moved", "server_name": ""})
    await proxy.add_route("/user/stopped/", "http://127.0.0.1:1", {"user": "stopped", "server_name": ""})
    await proxy.add_route("/user/stopping/", "http://127.0.0.1:1", {"user": "stopping", "server_name": ""})
    await proxy.add_route("/user/unknown/", "http://127.0.0.1:1", {"user": "unknown", "server_name": ""})
    expected = {
        "/": "http://127.0.0.1:8081",
        "/user/ready/": "http://127.0.0.1:5000",
        "/user/moved/": "http://127.0.0.1:5000",
        "/user/stopping/": "http://127.0.0.1:1",
        "/services/web%20svc/": "http://127.0.0.1:7000",
        "/docs/": "http://127.0.0.1:6000",
    }
    # A name that needs encoding must be stable: the second check has nothing to correct.
    for _ in range(3):
        await proxy.check_routes(users, services)
        routes = await proxy.get_all_routes()
        assert {spec: route["target"] for spec, route in routes.items()} == expected
    before = {spec: route["data"].get("last_activity") for spec, route in routes.items()}
    await proxy.check_routes(users, services, routes)
    after = await proxy.get_all_routes()
    assert {spec: route["data"].get("last_activity") for spec, route in after.items()} == before


async def test_checks_wait_for_each_other(proxy: Proxy) -> None:
    users = {str(n): FakeUser(str(n), {"": FakeSpawner(f"/user/{n}/")}) for n in range(20)}
    await asyncio.gather(*(proxy.check_routes(users, {}) for _ in range(5)))
    assert len(await proxy.get_all_routes()) == 21


async def test_restored_after_a_new_start(started: Maker) -> None:
    hub = FakeHub()
    app = FakeApp(
        hub,
        {"ada": FakeUser("ada", {"": FakeSpawner("/user/ada/"), "x": FakeSpawner("/user/ada/x/", ready=False)})},
        {"web": FakeService("web", "/services/web/", Address("http://127.0.0.1:7000"))},
    )
    proxy = await started(hub=hub, app=app)
    await proxy.restore_routes()
    assert sorted(await proxy.get_all_routes()) == ["/", "/services/web/", "/user/ada/"]


async def test_stopped_and_started_again_it_is_empty(started: Maker) -> None:
    proxy = await started()
    await proxy.add_route("/a/", "http://127.0.0.1:1", {})
    await proxy.stop()
    await proxy.start()
    assert await proxy.get_all_routes() == {}


# The base class alone


@pytest.mark.parametrize(
    ("routes", "host_routing", "problem"),
    [
        ({"docs/": "http://h"}, False, "begin with '/'"),
        ({"/docs/": "http://h"}, True, "host name"),
        ({"/docs/": "h:80"}, False, "must be a URL"),
        ({"/docs/": "ftp://h"}, False, "must be a URL"),
    ],
)
def test_extra_routes_that_make_no_sense_stop_the_start(
    routes: dict[str, str], host_routing: bool, problem: str
) -> None:
    with pytest.raises(TraitError, match=problem):
        InMemoryProxy(config=Config({"Proxy": {"extra_routes": routes}}), host_routing=host_routing)


async def test_missing_method_is_named() -> None:
    class Unfinished(Proxy):
        pass

    with pytest.raises(NotImplementedError, match=r"Unfinished has no add_route\(\)"):
        await Unfinished().add_route("/", "http://h", {})


async def test_check_uses_the_methods_that_plugins_override(tmp_path: Path) -> None:
    """Classes outside wrap `add_hub_route` or `add_route`; a check must go through them."""
    seen: list[str] = []

    class Wrapping(InMemoryProxy):
        async def add_hub_route(self, hub: Any) -> None:
            seen.append("hub")
            await super().add_hub_route(hub)

        async def add_route(self, routespec: str, target: str, data: dict[str, Any]) -> None:
            seen.append(routespec)
            await super().add_route(routespec, target, data)

    hub = FakeHub()
    await Wrapping(hub=hub, app=FakeApp(hub)).check_routes({}, {})
    assert seen == ["hub", "/"]


async def test_one_bad_route_does_not_keep_the_others_away() -> None:
    class RefusesAda(InMemoryProxy):
        async def add_route(self, routespec: str, target: str, data: dict[str, Any]) -> None:
            if "ada" in routespec:
                raise OSError("no")
            await super().add_route(routespec, target, data)

    proxy = RefusesAda(hub=FakeHub())
    users = {name: FakeUser(name, {"": FakeSpawner(f"/user/{name}/")}) for name in ("ada", "bob")}
    with pytest.raises(OSError, match="no"):
        await proxy.check_routes(users, {})
    assert sorted(proxy.routes) == ["/", "/user/bob/"]


def test_settings_of_the_external_proxy_hold_for_the_built_in_one() -> None:
    """Existing files say c.ConfigurableHTTPProxy without naming a class."""
    config = Config(
        {"ConfigurableHTTPProxy": {"api_url": "http://x:1", "auth_token": "t", "debug": True, "command": "chp"}}
    )
    proxy = BuiltinProxy(config=config)
    assert (proxy.api_url, proxy.auth_token, proxy.log_level, proxy.command) == ("http://x:1", "t", "debug", ["chp"])


def test_proxy_that_is_not_started_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONFIGPROXY_AUTH_TOKEN", raising=False)
    for kind in (ConfigurableHTTPProxy, BuiltinProxy):
        with pytest.raises(ValueError, match="CONFIGPROXY_AUTH_TOKEN"):
            kind(should_start=False)
    monkeypatch.setenv("CONFIGPROXY_AUTH_TOKEN", "secret")
    assert BuiltinProxy(should_start=False).auth_token == "secret"
