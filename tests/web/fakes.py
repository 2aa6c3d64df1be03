"""A Hub whose runtime is played: people, servers and log-ins in memory, pages and cookies for real.

Everything below the handlers does what the runtime promises and nothing more; requests go over a real port.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.cookies import SimpleCookie
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

from tornado import web
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders
from tornado.netutil import bind_sockets

from jupyterhub._data import DATA_FILES_PATH
from jupyterhub.core import lifecycle
from jupyterhub.core.errors import ServerBusy, ServerNotRunning
from jupyterhub.core.lifecycle import Failure, State
from jupyterhub.core.scopes.algebra import Resource, ScopeSet, decide_access
from jupyterhub.handlers import default_handlers
from jupyterhub.handlers.base import AddSlashHandler, PrefixRedirectHandler, Template404
from jupyterhub.handlers.static import CacheControlStaticFilesHandler, LogoHandler
from jupyterhub.runtime.context import HubContext
from jupyterhub.runtime.handles import ServerStatus
from jupyterhub.store.values import ServerRecord, TokenRecord
from jupyterhub.web.templates import build_environments

COOKIE_SECRET = b"0123456789abcdef0123456789abcdef"
NOW = datetime(2026, 1, 31, 12, 0, tzinfo=timezone.utc)


class PlainSpawner:
    """A spawner that asks for no options."""

    options_form: Any = ""

    def __init__(self, user: Any, name: str) -> None:
        self.user, self.name, self.handler = user, name, None

    @property
    def active(self) -> bool:
        return lifecycle.is_active(self.user.state_of(self.name))

    async def get_options_form(self) -> str:
        form = self.options_form
        return str(form(self) if callable(form) else form)

    async def run_auth_state_hook(self, auth_state: Any) -> None:
        return None

    def run_options_from_form(self, fields: dict[str, Any]) -> dict[str, Any]:
        return dict(fields)

    def options_from_query(self, query: dict[str, Any]) -> dict[str, Any]:
        return dict(query)


# A class outside our package would count as one that brings its own form.
PlainSpawner.get_options_form.__module__ = "jupyterhub.spawner"


class AskingSpawner(PlainSpawner):
    """A spawner with a form."""

    options_form = '<label for="mode">Mode</label> <input id="mode" name="mode" class="form-control">'


class SpawnerTable(dict[str, PlainSpawner]):
    def __init__(self, user: MemoryUser) -> None:
        super().__init__()
        self._user = user

    def __missing__(self, name: str) -> PlainSpawner:
        spawner = self[name] = self._user.hub.settings["spawner_class"](self._user, name)
        return spawner


class MemoryUser:
    """One person, with servers in memory."""

    def __init__(self, hub: PlayedHub, user_id: int, name: str, scopes: Iterable[str]) -> None:
        self.hub, self.id, self.name = hub, user_id, name
        self.admin = False
        self.scopes = ScopeSet.parse(scopes)
        self.cookie_id = f"{user_id:032x}"
        self.records: dict[str, ServerRecord] = {}
        self.states: dict[str, State] = {}
        self.failures: dict[str, Failure] = {}
        self.spawners = SpawnerTable(self)
        self.host = ""

    def state_of(self, name: str) -> State:
        return self.states.get(name, State.STOPPED)

    def set_state(self, name: str, state: State) -> None:
        if name not in self.records:
            self.records[name] = ServerRecord(
                id=self.id * 100 + len(self.records),
                user_id=self.id,
                user_name=self.name,
                name=name,
                display_name=name,
                started=NOW,
                last_activity=NOW,
            )
        self.states[name] = state

    @property
    def escaped_name(self) -> str:
        return quote(self.name, safe="@~")

    @property
    def json_escaped_name(self) -> str:
        return self.name

    @property
    def url(self) -> str:
        return f"{self.hub.context.base_url}user/{self.escaped_name}/"

    def server_url(self, name: str = "") -> str:
        return f"{self.url}{quote(name)}/" if name else self.url

    def progress_url(self, name: str = "") -> str:
        server = f"servers/{quote(name)}" if name else "server"
        return f"{self.hub.context.hub_prefix}api/users/{self.escaped_name}/{server}/progress"

    @property
    def spawner(self) -> PlainSpawner:
        return self.spawners[""]

    def active_names(self) -> list[str]:
        return [name for name, state in self.states.items() if lifecycle.is_active(state)]

    async def ensure_server(self, name: str = "", display_name: str = "") -> ServerRecord:
        if name not in self.records:
            self.set_state(name, State.STOPPED)
        return self.records[name]

    async def get_auth_state(self) -> None:
        return None


@dataclass(frozen=True)
class MemoryCaller:
    kind: str
    name: str
    id: int
    scopes: ScopeSet
    token: TokenRecord | None = None

    @property
    def is_server(self) -> bool:
        return self.token is not None and self.token.note.startswith("Server at ")


class MemoryAccess:
    """Identifies the people and tokens of the played Hub."""

    def __init__(self, hub: PlayedHub) -> None:
        self.hub = hub
        self.tokens: dict[str, MemoryCaller] = {}

    async def identify_login(self, cookie_id: str, session_id: str = "") -> MemoryCaller | None:
        for user in self.hub.people.values():
            if user.cookie_id == cookie_id:
                return MemoryCaller("user", user.name, user.id, user.scopes)
        return None

    async def identify_token(self, token: str) -> MemoryCaller | None:
        return self.tokens.get(token)

    async def groups_of(self, user_name: str) -> frozenset[str]:
        return frozenset()

    async def decide(
        self, caller: Any, any_of: Any, resource: Resource | None = None, *, post_filter: bool = False
    ) -> Any:
        held = caller.scopes if caller is not None else None
        return decide_access(held, list(any_of), resource, post_filter=post_filter)


class MemoryDirectory:
    def __init__(self, hub: PlayedHub) -> None:
        self.hub = hub

    async def find(self, name: str) -> MemoryUser | None:
        return self.hub.people.get(name)

    async def server_records(self, user: MemoryUser) -> dict[str, ServerRecord]:
        return dict(user.records)


class PasswordLogins:
    """Logs in whoever gives the password "pw", ends log-ins for good, and remembers what was asked."""

    def __init__(self, hub: PlayedHub) -> None:
        self.hub = hub
        self.ended: set[str] = set()
        self.ended_sessions: list[tuple[str, str]] = []
        self.seen: list[Any] = []
        self.stale: set[str] = set()

    async def log_in(self, handler: Any, data: Any) -> MemoryUser | None:
        self.seen.append(data)
        if data is None:
            name = handler.request.headers.get("X-Remote-User")
            return self.hub.person(name) if name else None
        if data["password"] == "explode":
            raise web.HTTPError(503, "The directory is away.")
        if data["password"] != "pw":
            return None
        return self.hub.person(data["username"].lower())

    async def refresh(self, user: MemoryUser, handler: Any, *, force: bool = False) -> MemoryUser | None:
        return None if user.name in self.stale else user

    async def end_login(self, cookie_value: str) -> None:
        self.ended.add(cookie_value)

    async def login_ended(self, cookie_value: str) -> bool:
        return cookie_value in self.ended

    async def log_out(self, user: MemoryUser, session_id: str) -> None:
        self.ended_sessions.append((user.name, session_id))


class Work:
    """A start or stop under way in the played Hub."""

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.done.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def wait(self, timeout: float) -> bool:
        await asyncio.wait([self.done], timeout=timeout)
        if self.done.done():
            self.done.result()
        return self.done.done()


class ObedientServers:
    """Starts what it is told to; a start stays pending until the test says how it ends, unless `fail_with` is set."""

    def __init__(self, hub: PlayedHub) -> None:
        self.hub = hub
        self.started: list[tuple[str, str, Any]] = []
        self.stopped: list[tuple[str, str]] = []
        self.checked: list[tuple[str, str]] = []
        self.dead: set[str] = set()
        self.refuse_with: Exception | None = None
        self.fail_with: Exception | None = None
        self.output: list[str] = []
        self.phases: list[dict[str, Any]] = []

    def state_of(self, user: MemoryUser, name: str = "") -> Any:
        state = user.state_of(name)
        return ServerStatus(
            state=state,
            pending=lifecycle.pending(state),
            ready=lifecycle.is_ready(state),
            active=lifecycle.is_active(state),
            failure=user.failures.get(name),
            phases=self.phases,
        )

    async def start(self, user: MemoryUser, name: str = "", **arguments: Any) -> Work:
        if self.refuse_with is not None:
            raise self.refuse_with
        if lifecycle.is_active(user.state_of(name)):
            raise ServerBusy(user.name, name, pending="spawn")
        self.started.append((user.name, name, arguments.get("options")))
        user.failures.pop(name, None)
        work = Work()
        if self.fail_with is not None:
            work.done.set_exception(self.fail_with)
            user.set_state(name, State.STOPPED)
        else:
            user.set_state(name, State.CONNECTING)
        return work

    async def stop(self, user: MemoryUser, name: str = "", **arguments: Any) -> Work:
        if not lifecycle.is_active(user.state_of(name)):
            raise ServerNotRunning(user.name, name)
        self.stopped.append((user.name, name))
        user.set_state(name, State.STOPPED)
        work = Work()
        work.done.set_result(None)
        return work

    async def check(self, user: MemoryUser, name: str = "") -> bool:
        self.checked.append((user.name, name))
        if name in self.dead:
            user.set_state(name, State.STOPPED)
            return False
        return True

    async def output_tail(self, user: MemoryUser, name: str = "", lines: int = 100) -> list[str]:
        return self.output


class FormAuthenticator:
    """Shows the usual form."""

    auto_login = False
    login_service = ""
    request_otp = False
    otp_prompt = "One-time code"
    enable_auth_state = False
    auth_refresh_strict = False
    custom_html = ""

    def login_url(self, base_url: str) -> str:
        return f"{base_url}login"

    def get_custom_html(self, base_url: str) -> str:
        return self.custom_html


class SilentDatabase:
    has_plugin_session = False


@dataclass
class NotedActivity:
    users: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    def note_user(self, user_id: int, when: datetime) -> None:
        self.users.append(user_id)

    def note_token(self, token_id: int, when: datetime) -> None:
        self.tokens.append(token_id)

    def latest_of_server(self, spawner_id: int) -> None:
        return None

    def latest_of_user(self, user_id: int) -> None:
        return None


class OwnedTasks:
    """Background work that the test waits for at the end."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Any, *, name: str = "") -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def settle(self) -> None:
        while self.tasks:
            await asyncio.gather(*self.tasks, return_exceptions=True)


class PlayedHub:
    """Settings, context and people; `serve` puts the pages on a loopback port."""

    def __init__(self, base_url: str = "/", **settings: Any) -> None:
        hub_prefix = f"{base_url}hub/"
        self.people: dict[str, MemoryUser] = {}
        self.log = logging.getLogger("test-hub")
        template_paths = list(settings.pop("template_paths", []))
        environment, environment_sync = build_environments(template_paths, f"{DATA_FILES_PATH}/templates")
        self.settings: dict[str, Any] = {
            "log": self.log,
            "config": {},
            "base_url": base_url,
            "hub_prefix": hub_prefix,
            "hub": SimpleNamespace(base_url=hub_prefix, cookie_name="jupyterhub-hub-login"),
            "login_url": f"{hub_prefix}login",
            "logout_url": f"{hub_prefix}logout",
            "cookie_secret": COOKIE_SECRET,
            "cookie_max_age_days": 14,
            "xsrf_cookies": True,
            "authenticator": FormAuthenticator(),
            "spawner_class": PlainSpawner,
            "services": {},
            "users": self.people,
            "jinja2_env": environment,
            "jinja2_env_sync": environment_sync,
            "template_path": [*template_paths, f"{DATA_FILES_PATH}/templates"],
            "static_path": f"{DATA_FILES_PATH}/static",
            "static_url_prefix": f"{hub_prefix}static/",
            "static_handler_class": CacheControlStaticFilesHandler,
            "slow_stop_timeout": 2,
            **settings,
        }
        self.context = HubContext(self.settings)
        self.settings["context"] = self.context
        self.access = MemoryAccess(self)
        self.logins = PasswordLogins(self)
        self.servers = ObedientServers(self)
        self.activity = NotedActivity()
        self.background = OwnedTasks()
        self.token_records: list[TokenRecord] = []
        played: Any = self.context
        played.access, played.logins, played.servers = self.access, self.logins, self.servers
        played.directory, played.database = MemoryDirectory(self), SilentDatabase()
        played.activity, played.background = self.activity, self.background
        played.tokens = SimpleNamespace(list_for=self._list_tokens)
        self._server: HTTPServer | None = None
        self.port = 0

    async def _list_tokens(self, user: MemoryUser) -> list[TokenRecord]:
        return self.token_records

    def person(self, name: str, *scopes: str) -> MemoryUser:
        """Return the person of this name, made with the scopes of an ordinary user if there is none."""
        if name not in self.people:
            own = ["servers", "access:servers", "read:users", "tokens"]
            held = [*scopes, *(f"{scope}!user={name}" for scope in own)]
            self.people[name] = MemoryUser(self, len(self.people) + 1, name, held)
        return self.people[name]

    def rules(self) -> list[Any]:
        prefix = self.context.hub_prefix
        rules: list[Any] = [(prefix.rstrip("/") + path, *rest) for path, *rest in default_handlers]
        logo = f"{DATA_FILES_PATH}/static/images/jupyterhub-80.png"
        rules += [
            (prefix + "logo", LogoHandler, {"path": logo}),
            (self.context.base_url + r"(?:user|services)/([^/]+)", AddSlashHandler),
            (r"(?!" + prefix + r").*", PrefixRedirectHandler),
            (r"(.*)", Template404),
        ]
        return rules

    async def serve(self) -> None:
        application = web.Application(self.rules(), **self.settings)
        # The handlers read the very dictionary that tests change.
        application.settings = self.settings
        self.settings.setdefault("log_function", lambda handler: None)
        sockets = bind_sockets(0, "127.0.0.1")
        self.port = sockets[0].getsockname()[1]
        self._server = HTTPServer(application, xheaders=True)
        self._server.add_sockets(sockets)

    async def close(self) -> None:
        await self.background.settle()
        if self._server is not None:
            self._server.stop()
            await self._server.close_all_connections()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def browser(self) -> Browser:
        return Browser(self.url)

    async def logged_in(self, name: str, *scopes: str) -> Browser:
        """Return a browser in which this person has logged in through the form."""
        self.person(name, *scopes)
        browser = self.browser()
        answer = await browser.log_in(name)
        assert answer.code == 302, answer.body
        return browser


class Browser:
    """Keeps cookies by name and path as browsers do, and does not follow redirects by itself."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.jar: dict[tuple[str, str], str] = {}
        self.set_cookies: list[str] = []
        self.headers: dict[str, str] = {"User-Agent": "test browser"}

    def cookie(self, name: str) -> str | None:
        return next((value for (key, _), value in self.jar.items() if key == name), None)

    def copy(self) -> Browser:
        other = Browser(self.url)
        other.jar = dict(self.jar)
        return other

    async def fetch(self, path: str, method: str = "GET", **arguments: Any) -> HTTPResponse:
        address = urljoin(self.url, path) if not path.startswith("http") else path
        where = urlsplit(address).path
        headers = HTTPHeaders({**self.headers, **arguments.pop("headers", {})})
        fitting = [(key, value) for key, value in self.jar.items() if where.startswith(key[1].rstrip("/"))]
        if fitting and "Cookie" not in headers:
            headers["Cookie"] = "; ".join(f"{name}={value}" for (name, _), value in fitting)
        form = arguments.pop("form", None)
        if form is not None:
            arguments["body"] = urlencode(form)
        if method in {"POST", "PUT", "PATCH"}:
            arguments.setdefault("body", "")
        answer = await AsyncHTTPClient().fetch(
            address, method=method, headers=headers, follow_redirects=False, raise_error=False, **arguments
        )
        self.set_cookies = answer.headers.get_list("Set-Cookie")
        for line in self.set_cookies:
            for name, morsel in SimpleCookie(line).items():
                key = (name, morsel["path"] or "/")
                if morsel.value:
                    self.jar[key] = morsel.value
                else:
                    self.jar.pop(key, None)
        return answer

    async def get(self, path: str, **arguments: Any) -> HTTPResponse:
        return await self.fetch(path, **arguments)

    async def post(self, path: str, form: dict[str, Any] | None = None, **arguments: Any) -> HTTPResponse:
        return await self.fetch(path, "POST", form=form or {}, **arguments)

    async def log_in(self, name: str, password: str = "pw", next_url: str | None = None) -> HTTPResponse:
        query = f"?{urlencode({'next': next_url})}" if next_url is not None else ""
        await self.get(f"/hub/login{query}")
        form = {"username": name, "password": password, "_xsrf": self.cookie("_xsrf") or ""}
        return await self.post(f"/hub/login{query}", form)


def text_of(answer: HTTPResponse) -> str:
    return answer.body.decode("utf-8")


def token_record(number: int, note: str, client: str = "jupyterhub", **values: Any) -> TokenRecord:
    """A token that was made an hour before NOW."""
    return TokenRecord(
        id=number,
        user_id=1,
        user_name="ada",
        client_id=client,
        created=NOW - timedelta(hours=1),
        note=note,
        scopes=("inherit",),
        **values,
    )
