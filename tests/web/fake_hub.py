"""A Hub that does just what applications ask of one: OAuth, who is behind a token, activity (oauth §12).

It runs on a real port of this machine. What it knows and how it fails is set by its attributes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from tornado import web
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets


@dataclass
class Request:
    """One request that the Hub has seen."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class FakeHub:
    """What the Hub knows. `browser_user` is who is logged in at the Hub in every browser."""

    prefix: str = "/hub/"
    version: str | None = "6.1.1"
    client_id: str = "jupyterhub-user-ada"
    client_secret: str = "the-servers-own-token"
    redirect_uri: str = "/user/ada/oauth_callback"
    browser_user: str = "ada"
    url: str = ""
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    #: path below the API → statuses of the next answers, instead of the right ones.
    failures: dict[str, list[int]] = field(default_factory=dict)

    @property
    def api_url(self) -> str:
        return f"{self.url}{self.prefix}api"

    def add_user(self, name: str, scopes: list[str], **more: Any) -> str:
        """Add a user and return a token of theirs."""
        self.models[name] = {
            "name": name,
            "kind": "user",
            "admin": False,
            "groups": [],
            "scopes": scopes,
            **more,
        }
        return self.add_token(name)

    def add_token(self, name: str) -> str:
        token = secrets.token_hex(15)
        self.tokens[token] = name
        return token

    def seen(self, path: str) -> list[Request]:
        """The requests for a path below the API."""
        return [request for request in self.requests if request.path == f"{self.prefix}api{path}"]


class _Handler(web.RequestHandler):
    @property
    def fake(self) -> FakeHub:
        hub: FakeHub = self.settings["hub"]
        return hub

    def prepare(self) -> None:
        request = self.request
        self.fake.requests.append(
            Request(request.method or "", request.path, dict(request.headers.get_all()), request.body)
        )
        if self.fake.version is not None:
            self.set_header("X-JupyterHub-Version", self.fake.version)
        path = request.path.removeprefix(f"{self.fake.prefix}api")
        failures = self.fake.failures.get(path)
        if failures:
            self.set_status(failures.pop(0))
            self.finish({"message": "told to fail"})

    def owner(self) -> dict[str, Any] | None:
        word, _, token = self.request.headers.get("Authorization", "").partition(" ")
        name = self.fake.tokens.get(token) if word == "token" else None
        return self.fake.models[name] if name is not None else None


class _Root(_Handler):
    def get(self) -> None:
        self.finish({"version": self.fake.version})


class _User(_Handler):
    def get(self) -> None:
        owner = self.owner()
        if owner is None:
            raise web.HTTPError(403)
        self.finish(json.dumps(owner))


class _Activity(_Handler):
    def post(self, name: str) -> None:
        if self.request.headers.get("Authorization") != f"token {self.fake.client_secret}":
            raise web.HTTPError(403)
        self.finish()


class _Authorize(_Handler):
    def get(self) -> None:
        hub = self.fake
        if (
            self.get_argument("client_id") != hub.client_id
            or self.get_argument("redirect_uri") != hub.redirect_uri
        ):
            raise web.HTTPError(400)
        code = secrets.token_hex(15)
        hub.codes[code] = {"challenge": self.get_argument("code_challenge", ""), "user": hub.browser_user}
        self.redirect(hub.redirect_uri + "?" + urlencode({"code": code, "state": self.get_argument("state")}))


class _Token(_Handler):
    def post(self) -> None:
        hub = self.fake
        if (self.get_argument("client_id"), self.get_argument("client_secret")) != (
            hub.client_id,
            hub.client_secret,
        ):
            self.set_status(401)
            self.finish({"error": "invalid_client"})
            return
        code = hub.codes.pop(self.get_argument("code", ""), None)
        digest = hashlib.sha256(self.get_argument("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if code is None or code["challenge"] != challenge:
            self.set_status(400)
            self.finish({"error": "invalid_grant", "error_description": "the code is not good"})
            return
        self.finish({"access_token": hub.add_token(code["user"]), "token_type": "Bearer", "expires_in": 3600})


class _Logout(_Handler):
    def get(self) -> None:
        self.finish("logged out")


@asynccontextmanager
async def running_hub(**attributes: Any) -> AsyncIterator[FakeHub]:
    """A Hub that runs as long as the block."""
    hub = FakeHub(**attributes)
    api = hub.prefix + "api"
    app = web.Application(
        [
            (api + "/?", _Root),
            (api + "/user", _User),
            (api + "/users/([^/]+)/activity", _Activity),
            (api + "/oauth2/authorize", _Authorize),
            (api + "/oauth2/token", _Token),
            (hub.prefix + "logout", _Logout),
        ],
        hub=hub,
        log_function=lambda handler: None,
    )
    server = HTTPServer(app)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    hub.url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    try:
        yield hub
    finally:
        server.stop()
        await server.close_all_connections()
