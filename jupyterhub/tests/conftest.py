"""Fixtures for suites that want a Hub: `pytest_plugins = "jupyterhub.tests.conftest"`, or import those you need.

They need the automatic mode of pytest-asyncio. `app` lives as long as a module, so the tests that use it share its
loop: `pytestmark = pytest.mark.asyncio(loop_scope="module")`, and `asyncio_default_fixture_loop_scope = module`.
"""

import asyncio
import copy
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from pytest import fixture
from sqlalchemy import event
from tornado.ioloop import IOLoop

from jupyterhub import orm, roles
from jupyterhub.aio import maybe_future
from jupyterhub.core.errors import ServerNotFound, ServerNotRunning, ServiceNotFound
from jupyterhub.core.scopes.catalogue import scope_definitions
from jupyterhub.crypto import CryptKeeper
from jupyterhub.runtime.service_registry import delete_service, new_service, registry
from jupyterhub.runtime.services import ServiceKeeper
from jupyterhub.spawning import certificates
from jupyterhub.store import services as service_store
from jupyterhub.utils import random_port

from . import mocking
from .mocking import MockHub
from .utils import add_user, ssl_setup

mockservice_cmd = [sys.executable, "-m", "jupyterhub.tests.mockservice"]
#: Users that `cleanup_after` leaves alone.
KEPT_USERS = ("admin", "user")
#: Seconds a server or service may take to go.
STOP_TIMEOUT = 30.0

_numbers = itertools.count(1)


def new_username(prefix: str = "testuser") -> str:
    """Return a name that no other test of this process has."""
    return f"{prefix}-{next(_numbers)}"


def new_group_name(prefix: str = "testgroup") -> str:
    """Return a name that no other test of this process has."""
    return f"{prefix}-{next(_numbers)}"


def new_role_name(prefix: str = "testrole") -> str:
    """Return a name that no other test of this process has."""
    return f"{prefix}-{next(_numbers)}"


@contextmanager
def changed(target: Any, **values: Any) -> Iterator[None]:
    """Give a mapping other values for a while."""
    missing = object()
    before = {name: target.get(name, missing) for name in values}
    target.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is missing:
                target.pop(name, None)
            else:
                target[name] = value


# The Hub


@fixture(scope="module", autouse=True)
def tmp_cwd(tmp_path_factory: Any, request: Any) -> Iterator[Any]:
    """Run each module in a directory of its own, where its files do not trouble anybody."""
    before = os.getcwd()
    path = tmp_path_factory.mktemp(request.module.__name__.rpartition(".")[-1])
    os.chdir(path)
    yield path
    os.chdir(before)


@fixture(scope="module")
def ssl_tmpdir(tmp_path_factory: Any, request: Any) -> Any:
    """A directory for certificates."""
    return tmp_path_factory.mktemp("ssl")


@fixture(scope="module")
async def io_loop(request: Any) -> IOLoop:
    """The loop in which the fixtures of this module live."""
    return IOLoop.current()


@fixture(scope="module")
async def app(request: Any, ssl_tmpdir: Any) -> AsyncIterator[MockHub]:
    """A Hub that runs. With `ssl_enabled = True` in the module everything speaks TLS."""
    arguments: dict[str, Any] = {}
    if getattr(request.module, "ssl_enabled", os.environ.get("SSL_ENABLED", False)):
        arguments = {
            "internal_ssl": True,
            "internal_certs_location": str(ssl_tmpdir),
            "external_certs": ssl_setup(str(ssl_tmpdir / "external"), "external-ca"),
        }
    hub = MockHub.instance(**arguments)
    try:
        await hub.initialize([])
        await hub.start()
        yield hub
    finally:
        # Pytest has closed the streams that the handlers write to by the time the last words are said.
        hub.log.handlers = []
        await hub.stop()
        MockHub.clear_instance()


@fixture
def db() -> Iterator[Any]:
    """A session on a database in memory, with the default roles and a row for `user`."""
    factory = orm.new_session_factory("sqlite:///:memory:")
    session = factory()
    for definition in roles.get_default_roles():
        roles.create_role(session, definition)
    add_user(session, name="user")
    yield session
    session.close()
    engine = session.get_bind()
    factory.remove()
    engine.dispose()


async def _clean_up(app: MockHub) -> None:
    """Stop the servers; remove users, groups, shares and services that a test has left."""
    context = app.context
    if context is None or app.database is None or app._cleaned_up:
        return
    app.db.rollback()
    app.db.expire_all()
    for user in list(app.users.values()):
        for name in list(user.records):
            try:
                stop = await context.servers.stop(user, name)
            except (ServerNotRunning, ServerNotFound):
                continue
            await asyncio.wait([stop.done], timeout=STOP_TIMEOUT)
    for service in list(registry(context).values()):
        await remove_service(app, service.name)
    for kind in (orm.ShareCode, orm.Share, orm.Group):
        for row in app.db.query(kind):
            app.db.delete(row)
    for row in app.db.query(orm.Service):
        app.db.delete(row)
    app.db.commit()
    for (name,) in app.db.query(orm.User.name).all():
        if name not in KEPT_USERS:
            await context.directory.delete(await context.directory.get(name))
    context.access.forget_all()


@fixture(autouse=True)
async def cleanup_after(request: Any) -> AsyncIterator[None]:
    """Leave the Hub as the next test expects it."""
    yield
    if MockHub.initialized():
        await _clean_up(MockHub.instance())


@fixture(autouse=True)
def count_db_executions(request: Any, record_property: Any) -> Iterator[None]:
    """Note how many statements the database executed during the test, as the property `db_executions`."""
    database = MockHub.instance().database if MockHub.initialized() else None
    if database is None:
        yield
        return
    count = 0

    def note(*rest: Any) -> None:
        nonlocal count
        count += 1

    engines = {database._writer, database._reader}
    if database.has_plugin_session:
        engines.add(database.plugin_engine)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    yield
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)
    record_property("db_executions", count)


# People, groups, roles


@fixture
def username() -> str:
    """A name that nobody has."""
    return new_username()


@fixture
def user(app: MockHub) -> Any:
    """A new user."""
    return add_user(app.db, app, name=new_username())


@fixture
def admin_user(app: MockHub, username: str) -> Any:
    """A new administrator."""
    return add_user(app.db, app, name=new_username("testadmin"), admin=True)


@fixture
def groupname() -> str:
    """A name that no group has."""
    return new_group_name()


@fixture
def group(app: MockHub) -> Any:
    """The row of a new group without members."""
    row = orm.Group(name=new_group_name())
    app.db.add(row)
    app.db.commit()
    return row


@fixture
def role(app: MockHub) -> Iterator[Any]:
    """The row of a new role without scopes."""
    row = roles.create_role(app.db, {"name": new_role_name(), "scopes": []})
    yield row
    _delete_role(app, row.name)


def _delete_role(app: MockHub, name: str) -> None:
    if orm.Role.find(app.db, name) is not None:
        roles.delete_role(app.db, name)


@fixture
def create_temp_role(app: MockHub) -> Iterator[Any]:
    """A function `(scopes, role_name=None)` that makes a role for one test; returns its row."""
    made: list[str] = []

    def create(scopes: Any, role_name: str | None = None) -> Any:
        name = role_name or new_role_name()
        made.append(name)
        return roles.create_role(app.db, {"name": name, "scopes": list(scopes)})

    yield create
    for name in made:
        _delete_role(app, name)


@fixture
def create_user_with_scopes(app: MockHub, create_temp_role: Any) -> Any:
    """A function `(*scopes, name=None)` that makes a user who holds these scopes and no others."""

    def create(*scopes: str, name: str | None = None) -> Any:
        row = add_user(app.db, name=name or new_username())
        roles.strip_role(app.db, row, "user")
        roles.grant_role(app.db, row, create_temp_role(scopes))
        return add_user_wrapper(app, row)

    return create


def add_user_wrapper(app: MockHub, row: Any) -> Any:
    """Return the wrapper of a row that was just written."""
    assert app.context is not None
    app.context.access.forget_all()
    return app.users[row.id]


@fixture
def create_service_with_scopes(app: MockHub, create_temp_role: Any) -> Any:
    """A function `(*scopes, name=None)` that makes a service which holds these scopes and no others."""

    def create(*scopes: str, name: str | None = None) -> Any:
        service = add_service(app, {"name": name or new_username("testservice")})
        roles.grant_role(app.db, service.orm, create_temp_role(scopes))
        assert app.context is not None
        app.context.access.forget_all()
        return service

    return create


# Services


def add_service(app: MockHub, definition: dict[str, Any]) -> Any:
    """Register a service as if it were configured; nothing is started."""
    assert app.context is not None
    service = new_service(app, definition)
    scopes = list(service.oauth_client_allowed_scopes)
    record = app.context.database.run_sync(service_store.create, ServiceKeeper.definition(service, scopes))
    service.id = record.id
    service.orm = app.db.get(orm.Service, record.id)
    if definition.get("admin"):
        roles.grant_role(app.db, service.orm, "admin")
    registry(app.context)[service.name] = service
    app.context.access.forget_all()
    return service


async def remove_service(app: MockHub, name: str) -> None:
    """Stop a service and forget it."""
    assert app.context is not None
    service = registry(app.context).get(name)
    if service is None:
        return
    if service.managed:
        await service.stop()
    try:
        await delete_service(app.context, name)
    except ServiceNotFound:
        # The test deleted its row; only the registry knew it.
        registry(app.context).pop(name, None)
    await app.context.routes.check()


async def _mockservice(request: Any, app: MockHub, name: str, external: bool = False, url: bool = False) -> Any:
    """Add a service that runs `mockservice`, wait until it answers, and give it a route if it has a URL."""
    definition: dict[str, Any] = {"name": name, "admin": True}
    if not external:
        definition["command"] = mockservice_cmd
    if url or external:
        definition["url"] = f"{'https' if app.internal_ssl else 'http'}://127.0.0.1:{random_port()}"
    if external:
        definition["api_token"] = f"{name}-token"
    service = add_service(app, definition)
    if external:
        environment = {
            **os.environ,
            **service.environment_variables(),
            "JUPYTERHUB_API_TOKEN": service.api_token,
            "JUPYTERHUB_API_URL": app.hub.api_url,
            "JUPYTERHUB_BASE_URL": app.base_url,
        }
        if app.internal_ssl:
            store, bundles = app.internal_certs_location, app.internal_trust_bundles
            paths = certificates.create(store, bundles, f"service-{name}", [], include_local=True)
            environment.update(certificates.variables(paths))
        process = subprocess.Popen(mockservice_cmd, env=environment, start_new_session=True)

        def end() -> None:
            process.terminate()
            process.wait(STOP_TIMEOUT)

        request.addfinalizer(end)
    else:
        await service.start()
    if service.server is not None:
        await service.server.wait_up(timeout=30, http=True)
    assert app.context is not None
    await app.context.routes.check()
    return service


@fixture
def service_name() -> str:
    """A name that no service has."""
    return new_username("testservice")


@fixture
async def mockservice(request: Any, app: MockHub, service_name: str) -> AsyncIterator[Any]:
    """A service that the Hub runs, without a URL."""
    yield await _mockservice(request, app, service_name)
    await remove_service(app, service_name)


@fixture
async def mockservice_external(request: Any, app: MockHub, service_name: str) -> AsyncIterator[Any]:
    """A service with a URL that runs by itself."""
    yield await _mockservice(request, app, service_name, external=True)
    await remove_service(app, service_name)


@fixture
async def mockservice_url(request: Any, app: MockHub, service_name: str) -> AsyncIterator[Any]:
    """A service with a URL that the Hub runs."""
    yield await _mockservice(request, app, service_name, url=True)
    await remove_service(app, service_name)


@fixture
def service_data(service_name: str) -> dict[str, Any]:
    """The body of a request that registers a service."""
    return {
        "oauth_client_id": f"service-{service_name}",
        "api_token": f"token-of-{service_name}",
        "oauth_redirect_uri": "http://127.0.0.1:9/back-from-log-in",
        "oauth_no_confirm": True,
        "oauth_client_allowed_scopes": ["inherit"],
        "info": {"made": "by a test"},
    }


# What the Hub does for one test


@fixture
def auth_state_enabled(app: MockHub) -> Iterator[None]:
    """Log-ins keep some state, encrypted with a key of this test."""
    authenticator, keeper = app.authenticator, CryptKeeper.instance()
    before = authenticator.auth_state, authenticator.enable_auth_state, keeper.keys
    authenticator.auth_state, authenticator.enable_auth_state = {"who": "cares"}, True
    keeper.keys = [os.urandom(32)]
    yield
    authenticator.auth_state, authenticator.enable_auth_state, keeper.keys = before


@fixture
def admin_access(app: MockHub) -> Iterator[None]:
    """Administrators may use the servers of others."""
    with changed(app.tornado_settings, admin_access=True):
        yield


@fixture
def no_patience(app: MockHub) -> Iterator[None]:
    """Requests do not wait for servers that start or stop."""
    with changed(app.tornado_settings, slow_spawn_timeout=0.1, slow_stop_timeout=0.1):
        yield


@fixture
def slow_spawn(app: MockHub) -> Iterator[None]:
    """Servers take long to start."""
    with changed(app.tornado_settings, spawner_class=mocking.SlowSpawner):
        yield


@fixture
def full_spawn(app: MockHub) -> Iterator[None]:
    """Servers are real single-user servers."""
    with changed(app.tornado_settings, spawner_class=mocking.InstrumentedSpawner):
        yield


@fixture
def never_spawn(app: MockHub) -> Iterator[None]:
    """Servers never come up."""
    with changed(app.tornado_settings, spawner_class=mocking.NeverSpawner):
        yield


@fixture
def bad_spawn(app: MockHub) -> Iterator[None]:
    """Servers fail to start."""
    with changed(app.tornado_settings, spawner_class=mocking.BadSpawner):
        yield


@fixture
def custom_bad_spawn(app: MockHub) -> Iterator[None]:
    """Servers fail to start, with words of the spawner's own."""
    with changed(app.tornado_settings, spawner_class=mocking.CustomBadSpawner):
        yield


@fixture
def slow_bad_spawn(app: MockHub) -> Iterator[None]:
    """Servers fail to start after a while."""
    with changed(app.tornado_settings, spawner_class=mocking.SlowBadSpawner):
        yield


@fixture
def form_spawn(app: MockHub) -> Iterator[None]:
    """Servers have a form."""
    with changed(app.tornado_settings, spawner_class=mocking.FormSpawner):
        yield


@fixture
def named_servers(app: MockHub) -> Iterator[None]:
    """Users may have named servers."""
    with changed(app.tornado_settings, allow_named_servers=True, named_server_limit_per_user=0):
        yield


@fixture
async def no_proxy_activity(app: MockHub) -> AsyncIterator[None]:
    """The proxy tells nothing about activity."""
    original = app.proxy.get_all_routes

    async def without_activity() -> dict[str, Any]:
        found = copy.deepcopy(await maybe_future(original()))
        for route in found.values():
            route["data"].pop("last_activity", None)
        return found

    app.proxy.get_all_routes = without_activity
    yield
    app.proxy.get_all_routes = original


@fixture
def preserve_scopes() -> Iterator[None]:
    """Custom scopes that a test defines are gone afterwards."""
    before = dict(scope_definitions)
    yield
    scope_definitions.clear()
    scope_definitions.update(before)
