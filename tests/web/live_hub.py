"""A whole Hub inside the test: real runtime and store, a database in memory, a proxy that is a dictionary.

Servers are played by `ObedientSpawner`, which starts, stops and fails as the test says; everything above it is real.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from tornado import web
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders
from tornado.netutil import bind_sockets
from traitlets.config import Config

from jupyterhub.app import JupyterHub
from jupyterhub.auth import DummyAuthenticator
from jupyterhub.core.lifecycle import State
from jupyterhub.crypto import CryptKeeper
from jupyterhub.proxy.memory import InMemoryProxy
from jupyterhub.spawner import Spawner
from jupyterhub.store import tokens as token_store
from jupyterhub.user import User

from .fakes import Browser

PAGINATION = "application/jupyterhub-pagination+json"


class Behaviour:
    """What the next starts and stops of all servers do."""

    def __init__(self) -> None:
        self.port = 0
        self.start_when = asyncio.Event()
        self.stop_when = asyncio.Event()
        self.start_when.set()
        self.stop_when.set()
        self.fail_with: Exception | None = None
        self.dead: set[str] = set()
        self.forgotten: list[str] = []
        self.progress: list[dict[str, Any]] = []


class ObedientSpawner(Spawner):
    """Starts and stops when the test says so."""

    behaviour: ClassVar[Behaviour]

    running = False

    async def start(self) -> tuple[str, int]:
        await self.behaviour.start_when.wait()
        if self.behaviour.fail_with is not None:
            raise self.behaviour.fail_with
        self.running = True
        self.behaviour.dead.discard(self._log_name)
        return "127.0.0.1", self.behaviour.port

    async def stop(self, now: bool = False) -> None:
        await self.behaviour.stop_when.wait()
        self.running = False

    async def poll(self) -> int | None:
        return None if self.running and self._log_name not in self.behaviour.dead else 0

    def get_state(self) -> dict[str, Any]:
        state = super().get_state()
        if self.running:
            state["place"] = "here"
        return state

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        for event in self.behaviour.progress:
            yield event

    async def delete_forever(self) -> None:
        self.behaviour.forgotten.append(self._log_name)


class PickyAuthenticator(DummyAuthenticator):
    """Lets everybody in, and refuses to prepare the accounts that the test names."""

    refused: ClassVar[set[str]] = set()

    async def add_user(self, user: Any) -> None:
        if user.name in self.refused:
            raise ValueError("no home for this one")
        super().add_user(user)


class AnswersEverything(web.RequestHandler):
    """A single-user server, as far as the Hub asks."""

    def get(self) -> None:
        self.finish("{}")


class Answer:
    """An answer of the API."""

    def __init__(self, response: HTTPResponse) -> None:
        self.status = response.code
        self.reason = response.reason
        self.headers = response.headers
        self.text = response.body.decode("utf-8") if response.body else ""

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def message(self) -> Any:
        return self.json["message"]

    def __repr__(self) -> str:
        return f"<{self.status} {self.text[:200]}>"


class LiveHub:
    """The Hub, with requests to its API on the Hub's own address."""

    def __init__(self, **settings: Any) -> None:
        self.config = Config()
        hub = self.config.JupyterHub
        hub.db_url = "sqlite://"
        hub.proxy_class = InMemoryProxy
        hub.spawner_class = ObedientSpawner
        hub.authenticator_class = PickyAuthenticator
        hub.hub_ip, hub.hub_port = "127.0.0.1", 0
        hub.cookie_secret = b"0123456789abcdef0123456789abcdef"
        hub.log_level = "CRITICAL"
        hub.tornado_settings = {"slow_spawn_timeout": 2, "slow_stop_timeout": 2, **settings.pop("tornado_settings", {})}
        self.config.Authenticator.allow_all = True
        self.config.Authenticator.admin_users = {"admin"}
        for name, value in settings.items():
            section, _, trait = name.rpartition("__")
            self.config[section or "JupyterHub"][trait] = value
        self.behaviour = Behaviour()
        self._server: HTTPServer | None = None
        self._tokens: dict[tuple[str, tuple[str, ...]], str] = {}

    async def start(self) -> None:
        ObedientSpawner.behaviour = self.behaviour
        PickyAuthenticator.refused = set()
        sockets = bind_sockets(0, "127.0.0.1")
        self.behaviour.port = sockets[0].getsockname()[1]
        self._server = HTTPServer(web.Application([(r".*", AnswersEverything)], log_function=lambda handler: None))
        self._server.add_sockets(sockets)
        spare = bind_sockets(0, "127.0.0.1")
        self.config.JupyterHub.hub_port = spare[0].getsockname()[1]
        spare[0].close()
        JupyterHub.clear_instance()
        CryptKeeper.clear_instance()
        self.app = JupyterHub.instance(config=self.config)
        self.app.install_signal_handlers = lambda: None
        await self.app.initialize([])
        await self.app.start()
        self.context = self.app.context
        self.settings = self.app.tornado_settings
        self.url = f"http://127.0.0.1:{self.app.hub.port}"

    async def close(self) -> None:
        self.behaviour.start_when.set()
        self.behaviour.stop_when.set()
        await self.app.cleanup()
        JupyterHub.clear_instance()
        CryptKeeper.clear_instance()
        if self._server is not None:
            self._server.stop()

    # People and their tokens

    async def user(self, name: str, *, admin: bool = False, groups: tuple[str, ...] = ()) -> User:
        """Return this user, made if there is none, with these groups added."""
        user = await self.context.directory.find(name)
        if user is None:
            user = await self.context.directory.create(name, admin=admin)
        for group in groups:
            await self.call("POST", f"/groups/{group}", token=await self.token("admin"))
            answer = await self.call(
                "POST", f"/groups/{group}/users", {"users": [name]}, token=await self.token("admin")
            )
            assert answer.status == 200, answer
        return user

    async def token(self, name: str, *scopes: str) -> str:
        """Return a token of this user with these raw scopes, with all the user may do if none is given."""
        key = (name, scopes)
        if key not in self._tokens:
            user = await self.user(name, admin=name == "admin")
            text, _ = await self.context.database.run(
                token_store.issue, user_id=user.id, scopes=scopes or ("inherit",), note="of a test"
            )
            self._tokens[key] = text
        return self._tokens[key]

    async def grant(self, name: str, *scopes: str) -> None:
        """Give a user a role of their own with these scopes."""

        def store(session: Any) -> None:
            from jupyterhub import orm

            role = orm.Role(name=f"role-of-{name}-{len(scopes)}", scopes=list(scopes))
            session.add(role)
            user = orm.User.find(session, name)
            user.roles.append(role)

        await self.user(name)
        await self.context.database.run(store)
        self.context.access.forget_all()

    # Requests

    async def call(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, raw: bytes | str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Ask the API; `body` is sent as JSON, `raw` as it is."""
        sent = HTTPHeaders(headers or {})
        if token is not None:
            sent["Authorization"] = f"token {token}"
        content: Any = raw
        if body is not None:
            content = json.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        if content is None and method in ("POST", "PUT", "PATCH"):
            content = ""
        response = await AsyncHTTPClient().fetch(
            f"{self.url}/hub/api{path}", method=method, headers=sent, body=content, raise_error=False,
            follow_redirects=False, allow_nonstandard_methods=True, request_timeout=30,
        )
        return Answer(response)

    async def as_(self, name: str, method: str, path: str, body: Any = None, **arguments: Any) -> Answer:
        """Ask the API with an unrestricted token of this user."""
        return await self.call(method, path, body, token=await self.token(name), **arguments)

    async def with_scopes(self, scopes: list[str], method: str, path: str, body: Any = None, **rest: Any) -> Answer:
        """Ask the API with a token of the administrator that holds these scopes alone."""
        return await self.call(method, path, body, token=await self.token("admin", *scopes), **rest)

    async def browser(self, name: str) -> Browser:
        """Return a browser in which this person is logged in."""
        browser = Browser(self.url)
        answer = await browser.log_in(name)
        assert answer.code == 302, answer.body
        return browser

    # Servers

    async def run_server(self, name: str, server: str = "") -> None:
        """Start a server and wait until it is ready."""
        user = await self.user(name)
        await (await self.context.servers.start(user, server)).done

    async def state(self, name: str, server: str = "") -> State:
        user = await self.user(name)
        return self.context.servers.state_of(user, server).state

    async def settle(self, name: str, server: str, state: State) -> None:
        """Wait until a server is in this state."""
        while await self.state(name, server) is not state:
            await asyncio.sleep(0.01)

    async def events(self, path: str, *, token: str) -> list[dict[str, Any]]:
        """Read a progress stream to its end."""
        answer = await self.call("GET", path, token=token)
        assert answer.status == 200, answer
        return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def page(answer: Answer) -> dict[str, Any]:
    """Return the pagination block of an answer."""
    block: dict[str, Any] = answer.json["_pagination"]
    return block


def query(**arguments: Any) -> str:
    """Return arguments as a query string."""
    return f"?{urlencode(arguments)}"


def segment(name: str) -> str:
    """Return a name as one path segment."""
    return quote(name, safe="")
