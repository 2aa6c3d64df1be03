"""A Hub that runs inside the process of a test, and stand-ins for its spawner and its authenticator."""

import asyncio
import os
import shutil
import sys
import tempfile
import weakref
from typing import Any
from urllib.parse import urlsplit

from tornado.web import HTTPError
from traitlets import Bool, Dict, Integer, Unicode, default
from traitlets.config import Config

from jupyterhub.app import JupyterHub
from jupyterhub.auth import PAMAuthenticator
from jupyterhub.core.urls import url_path_join
from jupyterhub.spawner import SimpleLocalProcessSpawner
from jupyterhub.store import users as user_store
from jupyterhub.utils import random_port

from .utils import AsyncSession, add_user, api_request, async_requests, find_user, public_host, public_url

__all__ = [
    "BadSpawner",
    "CustomBadSpawner",
    "FalsyCallableFormSpawner",
    "FormSpawner",
    "InstrumentedSpawner",
    "MockHub",
    "MockPAMAuthenticator",
    "MockSpawner",
    "NeverSpawner",
    "SlowBadSpawner",
    "SlowSpawner",
    "add_user",
    "api_request",
    "async_requests",
    "find_user",
    "mock_authenticate",
    "public_host",
    "public_url",
]

#: The path below which a MockHub lives: a character that URLs escape shows who forgets to.
BASE_URL = "/@/space%20word/"


# Authenticators


def mock_authenticate(username: str, password: str, service: str = "", encoding: str = "utf-8") -> bool:
    """Behave as `pamela.authenticate` where every password is the user's name. Raises pamela.PAMError otherwise."""
    if username == password:
        return True
    import pamela

    raise pamela.PAMError("This password is not the user's name")


class MockPAMAuthenticator(PAMAuthenticator):
    """Lets in whoever gives their name as password; no account of this machine is looked at."""

    #: What a log-in returns beside the name, unless None.
    auth_state: Any = None
    #: Whether each log-in makes an administrator.
    return_admin = False

    @default("admin_users")
    def _admin_users_default(self) -> set[str]:
        return {"admin"}

    def system_user_exists(self, user: Any) -> bool:
        return True

    def _session(self, function: str, username: str) -> None:
        """No session of the system is opened."""

    async def authenticate(self, handler: Any, data: Any = None) -> Any:
        username = data["username"]
        if data["password"] != username:
            self.log.warning("The password of %r is not the name", username)
            return None
        model: dict[str, Any] = {"name": username}
        if self.auth_state:
            model["auth_state"] = self.auth_state
        if self.return_admin:
            model["admin"] = True
        return model if len(model) > 1 else username


# Spawners


class MockSpawner(SimpleLocalProcessSpawner):
    """Starts `mocksu`, which is up at once, for users without an account."""

    @default("cmd")
    def _cmd_default(self) -> list[str]:
        return [sys.executable, "-m", "jupyterhub.tests.mocksu"]

    @default("home_dir")
    def _home_dir_default(self) -> str:
        return os.path.join(tempfile.gettempdir(), f"mockhub-{os.getuid()}", "home")


class SlowSpawner(MockSpawner):
    """Takes `delay` seconds to start and to stop."""

    delay: float = 5

    async def start(self) -> Any:
        address = await super().start()
        await asyncio.sleep(self.delay)
        return address

    async def stop(self, now: bool = False) -> None:
        await asyncio.sleep(self.delay)
        await super().stop(now=now)


class NeverSpawner(MockSpawner):
    """Never finishes its start."""

    @default("start_timeout")
    def _start_timeout_default(self) -> int:
        return 1

    async def start(self) -> Any:
        await asyncio.Event().wait()

    async def stop(self, now: bool = False) -> None:
        """There is no process."""

    async def poll(self) -> int:
        return 0


class BadSpawner(MockSpawner):
    """Fails to start."""

    async def start(self) -> Any:
        raise RuntimeError("This spawner never starts anything")


class CustomBadSpawner(MockSpawner):
    """Fails to start, with a status and words of its own."""

    status_code = Integer(418)
    message = Unicode("a message for the user")
    reason = Unicode("a reason")

    async def start(self) -> Any:
        raise HTTPError(self.status_code, self.message, reason=self.reason)


class SlowBadSpawner(MockSpawner):
    """Fails after a while."""

    async def start(self) -> Any:
        await asyncio.sleep(5)
        raise RuntimeError("This spawner never starts anything")


class FormSpawner(MockSpawner):
    """Asks a question before it starts, and tells the server the answer."""

    options_form = 'Energy: <input name="energy" aria-label="Energy">'
    energy = Unicode()
    apply_user_options = {"energy": "energy"}

    def options_from_form(self, form_data: Any) -> dict[str, Any]:
        """Return the options; `notspecified` and `bounds` are there as other forms have them."""
        options: dict[str, Any] = {"notspecified": 5}
        if "bounds" in form_data:
            options["bounds"] = [int(value) for value in form_data["bounds"]]
        if "energy" in form_data:
            options["energy"] = form_data["energy"][0]
        if "hello_file" in form_data:
            options["hello"] = form_data["hello_file"][0]
        return options

    def get_env(self) -> dict[str, str]:
        env = super().get_env()
        if self.energy:
            env["ENERGY"] = self.energy
        return env


class FalsyCallableFormSpawner(FormSpawner):
    """Has a form that turns out to be none."""

    def options_form(self, spawner: Any = None) -> str:  # type: ignore[override]
        return ""


class InstrumentedSpawner(MockSpawner):
    """Starts a real single-user server."""

    @default("cmd")
    def _cmd_default(self) -> list[str]:
        return [sys.executable, "-m", "jupyterhub.singleuser"]

    @default("http_timeout")
    def _http_timeout_default(self) -> int:
        return 60


# The Hub


class _Done:
    """What `MockHub.stop` returns when everything has stopped already; may be awaited or not."""

    def __await__(self) -> Any:
        return iter(())


def _end_process(proxy: Any) -> None:
    """End the proxy of a Hub that nobody stopped: it would outlive the tests otherwise, as it should elsewhere."""
    process = getattr(proxy, "proxy_process", None)
    if process is not None and process.poll() is None:
        process.terminate()


class MockHub(JupyterHub):
    """A Hub for tests: random ports, a database of its own, no configuration file, everybody may log in.

    `await app.initialize([])`, then `await app.start()`; `await app.stop()` at the end. There are an administrator
    `admin` and a user `user`; everybody's password is the name, unless another authenticator is configured.
    """

    test_clean_db = Bool(True, help="Whether the database is emptied first.")
    external_certs: Any = Dict(help="Certificates of the public side, as `utils.ssl_setup` returns them.")
    last_activity_interval = 2
    #: Path of the SQLite file, if the database is our own.
    db_file: str | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._directory = tempfile.mkdtemp(prefix="mockhub-")
        self._public_port = random_port()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: Any = None
        self._guard: Any = None
        super().__init__(*args, **kwargs)
        weakref.finalize(self, shutil.rmtree, self._directory, True)
        additions = Config()
        if "allow_all" not in self.config.Authenticator:
            additions.Authenticator.allow_all = True
        if "api_url" not in self.config.ConfigurableHTTPProxy:
            additions.ConfigurableHTTPProxy.api_url = f"{'https' if self.internal_ssl else 'http'}://127.0.0.1:{random_port()}"
        self.update_config(additions)

    @default("log_level")
    def _log_level_default(self) -> int:
        return 10

    @default("subdomain_host")
    def _subdomain_host_default(self) -> str:
        return os.environ.get("JUPYTERHUB_TEST_SUBDOMAIN_HOST", "")

    @default("bind_url")
    def _bind_url_default(self) -> str:
        scheme, port = "http", self._public_port
        if self.subdomain_host:
            port = urlsplit(self.subdomain_host).port or port
        if self.external_certs or self.ssl_cert:
            scheme = "https"
        return f"{scheme}://127.0.0.1:{port}{BASE_URL}"

    @default("ip")
    def _ip_default(self) -> str:
        return "127.0.0.1"

    @default("port")
    def _port_default(self) -> int:
        return self._public_port

    @default("hub_port")
    def _hub_port_default(self) -> int:
        return random_port()

    @default("db_url")
    def _db_url_default(self) -> str:
        self.db_file = os.path.join(self._directory, "jupyterhub.sqlite")
        return f"sqlite:///{self.db_file}"

    @default("pid_file")
    def _pid_file_default(self) -> str:
        return os.path.join(self._directory, "jupyterhub.pid")

    @default("cookie_secret_file")
    def _cookie_secret_file_default(self) -> str:
        return os.path.join(self._directory, "cookie_secret")

    @default("authenticator_class")
    def _authenticator_class_default(self) -> Any:
        return MockPAMAuthenticator

    @default("spawner_class")
    def _spawner_class_default(self) -> Any:
        return MockSpawner

    def load_config_file(self, *args: Any, **kwargs: Any) -> None:
        """A configuration file that happens to lie about is not read."""

    def load_configuration(self) -> None:
        """Nothing is read: the configuration is what the test gave."""

    def install_signal_handlers(self) -> None:
        """Signals belong to whoever runs the tests."""

    def init_logging(self) -> None:
        """Log as a Hub does, and let pytest see it."""
        super().init_logging()
        self.log.propagate = True

    def init_db(self) -> None:
        """Open the database, emptied unless `test_clean_db` is off."""
        self.reset_db = bool(self.reset_db or self.test_clean_db)
        super().init_db()

    async def initialize(self, argv: Any = None) -> None:
        """Do everything before `start`. The command line is not that of the test runner: without `argv` it is empty."""
        self._loop = asyncio.get_running_loop()
        if self.external_certs:
            files = self.external_certs["files"]
            self.ssl_key, self.ssl_cert = files["key"], files["cert"]
        await super().initialize([] if argv is None else argv)
        assert self.context is not None
        for name, admin in (("admin", True), ("user", False)):
            if await self.context.directory.find(name) is None:
                await self.context.database.run(user_store.create, name, admin=admin)

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._guard = weakref.finalize(self, _end_process, self.proxy)
        await super().start()

    def stop(self) -> Any:
        """Stop everything. It begins at once; awaiting the result waits for the end, which nobody has to do."""
        super().stop()
        if self._stopping is not None:
            return self._stopping
        if self.context is None or self._cleaned_up:
            return _Done()
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.run_until_complete(self.cleanup())
            elif self.proxy is not None:
                _end_process(self.proxy)
            return _Done()
        self._stopping = running.create_task(self.cleanup(), name="stop MockHub")
        return self._stopping

    async def cleanup(self) -> None:
        await super().cleanup()
        if self._guard is not None:
            self._guard.detach()

    async def login_user(self, name: str) -> Any:
        """Log a user in whose password is the name; returns the cookies of that browser, `_xsrf` among them."""
        url = url_path_join(public_host(self), self.hub.base_url, "login")
        verify = self.external_certs["files"]["ca"] if self.external_certs else True
        with AsyncSession() as session:
            page = await session.get(url, verify=verify)
            page.raise_for_status()
            form = {"username": name, "password": name, "_xsrf": session.cookies["_xsrf"]}
            answer = await session.post(url, data=form, allow_redirects=False, verify=verify)
            answer.raise_for_status()
            return session.cookies
