"""The server of one user, as a real process under a played Hub: who gets in, what it says (cli §2)."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.simple_httpclient import HTTPTimeoutError
from tornado.websocket import websocket_connect

from ..web.fake_hub import FakeHub, running_hub
from ..web.visitor import Visitor
from .hub_process import free_port

if sys.version_info >= (3, 11):
    from re import _parser as regex_parser  # type: ignore[attr-defined]
else:
    import sre_parse as regex_parser

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

PREFIX = "/user/ada/"
ROOT = Path(__file__).resolve().parents[2]
#: What a proxy adds; without it a request counts as one of the Hub's health checker.
PROXIED = {"X-Forwarded-For": "203.0.113.7"}


@dataclass
class Server:
    """A running server and its Hub."""

    hub: FakeHub
    process: asyncio.subprocess.Process
    url: str
    log: Path
    routes: Path

    def visitor(self) -> Visitor:
        """A browser that comes through a proxy."""
        return Visitor(self.url, headers={"User-Agent": "visitor", **PROXIED})

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])


def environment(hub: FakeHub, port: int, home: Path) -> dict[str, str]:
    """What the Hub would set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "JPY_"))}
    return {
        **kept,
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "TEST_ROUTES": str(home / "routes.json"),
        "JUPYTERHUB_API_URL": hub.api_url,
        "JUPYTERHUB_API_TOKEN": hub.client_secret,
        "JUPYTERHUB_CLIENT_ID": hub.client_id,
        "JUPYTERHUB_OAUTH_CALLBACK_URL": hub.redirect_uri,
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["access:servers!server=ada/", "access:servers!user=ada"]',
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}{PREFIX}",
        "JUPYTERHUB_USER": "ada",
        "JUPYTERHUB_SERVER_NAME": "",
        "JUPYTERHUB_ACTIVITY_URL": hub.api_url + "/users/ada/activity",
        "JUPYTERHUB_ROOT_DIR": "~/work",
    }


@asynccontextmanager
async def running_server(home: Path, *arguments: str, **env: str) -> AsyncIterator[Server]:
    """A server that has begun to answer; it is ended with the block."""
    (home / "work").mkdir(parents=True, exist_ok=True)
    async with running_hub() as hub:
        hub.add_user("ada", ["access:servers!server=ada/"])
        hub.add_user("eve", ["access:servers!user=eve"], admin=True)
        port = free_port()
        log = home / "server.log"
        command = [sys.executable, "-m", "jupyterhub.singleuser", *arguments]
        if os.geteuid() == 0:
            command.append("--allow-root")
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=home,
                env={**environment(hub, port, home), **env},
                stdout=output,
                stderr=output,
                stdin=asyncio.subprocess.DEVNULL,
            )
        server = Server(hub, process, f"http://127.0.0.1:{port}", log, home / "routes.json")
        try:
            await answering(server)
            yield server
        finally:
            if process.returncode is None:
                process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), 15)
                except asyncio.TimeoutError:
                    process.kill()
                    await process.wait()


async def answering(server: Server, timeout: float = 60) -> None:
    """Wait until the server answers as it does to the Hub's probe."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while loop.time() < deadline:
        assert server.process.returncode is None, server.tail()
        try:
            if (await server.visitor().fetch(PREFIX + "api")).code == 200:
                return
        except OSError:
            pass
        await asyncio.sleep(0.1)
    raise AssertionError(f"no answer within {timeout} s\n{server.tail()}")


async def until(condition: Any, what: str, timeout: float = 20) -> None:
    """Wait until a condition is true."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while not condition():
        assert loop.time() < deadline, f"not within {timeout} s: {what}"
        await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["extension", "wrapped"])
async def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """The server in both of its forms, with an extension that forgot every lock."""
    home = tmp_path_factory.mktemp("home")
    switch = "1" if request.param == "extension" else "0"
    config = home / "more.py"
    config.write_text("c.ServerApp.jpserver_extensions = {'tests.system.careless_extension': True}\n")
    async with running_server(
        home, f"--config={config}", JUPYTERHUB_SINGLEUSER_EXTENSION=switch, JUPYTERHUB_ACTIVITY_INTERVAL="1"
    ) as running:
        yield running


async def log_in(server: Server, page: str = PREFIX + "lab") -> Visitor:
    """A browser that has come back from the Hub."""
    visitor = server.visitor()
    away = await visitor.fetch(page)
    assert away.code == 302, away.body
    back = await Visitor(server.hub.url).fetch(away.headers["Location"])
    done = await visitor.fetch(back.headers["Location"])
    assert (done.code, done.headers["Location"]) == (302, page), done.body
    return visitor


# -- the walk over all routes


def sample(pattern: str) -> str:
    """Return a text that a pattern matches."""

    def of(tokens: Any) -> str:
        text = ""
        for operation, value in tokens:
            kind = str(operation)
            if kind == "LITERAL":
                text += chr(value)
            elif kind in {"ANY", "NOT_LITERAL"}:
                text += "a"
            elif kind == "IN":
                text += one_of(value)
            elif kind in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
                text += of(value[2]) * value[0]
            elif kind == "SUBPATTERN":
                text += of(value[3])
            elif kind == "BRANCH":
                text += of(value[1][0])
        return text

    def one_of(choices: Any) -> str:
        kind, value = str(choices[0][0]), choices[0][1]
        if kind == "NEGATE":
            return "a"
        if kind == "RANGE":
            return chr(value[0])
        return chr(value) if kind == "LITERAL" else "a"

    found = of(regex_parser.parse(pattern))
    assert re.match(pattern, found), (pattern, found)
    return found


#: What everybody may see: names of handlers whose answer to a stranger is no refusal.
PUBLIC = {
    "APIVersionHandler",  # the Hub's own probe; tells the version only
    "RedirectWithParams",  # the way from the prefix to the first page
    "FileFindHandler",  # icons and scripts that come with the software
    "JupyterHubLogoutHandler",
    "JupyterHubOAuthCallbackHandler",
    "ErrorHandler",
    "RedirectHandler",
    "NotebooksRedirectHandler",  # old addresses of pages that refuse strangers themselves
    "TrailingSlashHandler",
    "PublicStaticFileHandler",
}
#: Handlers of others with a mistake of their own: they refuse, but their refusal is never sent.
SILENT = {"LicensesHandler"}


async def test_a_stranger_is_refused_on_every_route(server: Server) -> None:
    """No method of any handler answers a stranger, nor somebody of the Hub without access; the careless
    extension's neither (advisory CVE-2024-28179)."""
    routes = json.loads(server.routes.read_text())
    assert len(routes) > 60
    assert {"PlainPage", "PlainSocket", "JupyterPage"} <= {route["name"] for route in routes}
    eve = {"Authorization": f"token {server.hub.add_token('eve')}"}
    wrong = []
    for route in routes:
        path = sample(route["pattern"])
        if not path.startswith(PREFIX):
            path = PREFIX + "nothing-here"
        for method in route["methods"]:
            # The permission to ask with a token from another site says nothing about this server.
            if route["name"] in PUBLIC or method == "OPTIONS":
                continue
            silent = route["name"] in SILENT
            for who, headers in (("stranger", {}), ("eve", eve)):
                body = "" if method in {"POST", "PUT", "PATCH"} else None
                try:
                    answer = await server.visitor().fetch(
                        path, method, body=body, headers=headers, request_timeout=1 if silent else 20
                    )
                except HTTPTimeoutError:
                    assert silent, (who, method, path)
                    continue
                sent_to_hub = answer.code == 302 and "/hub/api/oauth2/authorize?" in answer.headers["Location"]
                if answer.code not in {403, 404, 405} and not (who == "stranger" and sent_to_hub):
                    wrong.append((who, method, path, route["name"], answer.code))
                assert b"secret" not in answer.body
    assert wrong == []


async def connect(server: Server, path: str, headers: dict[str, str]) -> Any:
    request = HTTPRequest(
        server.url.replace("http", "ws", 1) + path, headers={**PROXIED, **headers}, connect_timeout=10
    )
    return await websocket_connect(request)


async def test_a_stranger_is_refused_on_every_websocket(server: Server) -> None:
    """The handshake itself is refused, with no, wrong and somebody else's credentials."""
    sockets = [route for route in json.loads(server.routes.read_text()) if route["socket"]]
    assert len(sockets) >= 4
    eve = server.hub.add_token("eve")
    for route in sockets:
        for headers in ({}, {"Authorization": "token nobodys"}, {"Authorization": f"token {eve}"}):
            with pytest.raises(HTTPClientError) as refusal:
                await connect(server, sample(route["pattern"]), headers)
            assert refusal.value.code == 403, route


async def test_websockets_take_cookie_or_token_but_no_foreign_page(server: Server) -> None:
    path = PREFIX + "api/events/subscribe"
    visitor = await log_in(server)
    cookie = {"Cookie": visitor.header_for(path)}
    token = {"Authorization": f"token {server.hub.add_token('ada')}"}
    for headers in (cookie, token, {**token, "Origin": "http://evil.example"}):
        (await connect(server, path, headers)).close()
    with pytest.raises(HTTPClientError) as refusal:
        await connect(server, path, {**cookie, "Origin": "http://evil.example"})
    assert refusal.value.code == 403


# -- people


async def test_the_owner_logs_in_and_gets_the_first_page(server: Server) -> None:
    """The prefix leads to JupyterLab, JupyterLab to the Hub and back; the page knows Hub and token."""
    assert (await server.visitor().fetch(PREFIX)).headers["Location"].rstrip("?") == PREFIX + "lab"
    visitor = await log_in(server)
    assert visitor.cookie("jupyterhub-user-ada")
    page = await visitor.fetch(PREFIX + "lab")
    assert page.code == 200
    found = re.search(r'<script id="jupyter-config-data"[^>]*>(.*?)</script>', page.body.decode(), re.S)
    assert found
    config = json.loads(found[1])
    token = config["token"]
    assert server.hub.tokens[token] == "ada"
    assert {name: config[name] for name in config if name.startswith("hub")} == {
        "hubUser": "ada",
        "hubServerUser": "ada",
        "hubServerName": "",
        "hubPrefix": "/hub/",
        "hubHost": "",
    }
    assert config["shareUrl"] == "/hub/user-redirect"
    assert config["baseUrl"] == PREFIX
    assert config["quitButton"] is False
    assert page.headers["X-JupyterHub-Version"] == "6.1.1"
    assert page.headers["Content-Security-Policy"].startswith("frame-ancestors 'none'")
    me = await visitor.fetch(PREFIX + "api/me", headers={"Authorization": f"token {token}"})
    assert json.loads(me.body)["identity"]["username"] == "ada"


async def test_the_hubs_information_about_a_user_is_shown(server: Server) -> None:
    server.hub.add_user(
        "ada",
        ["access:servers"],
        user_info={"display_name": "Ada L.", "initials": "AL", "color": 7, "secret": "x"},
    )
    token = server.hub.add_token("ada")
    me = await server.visitor().fetch(PREFIX + "api/me", headers={"Authorization": f"token {token}"})
    identity = json.loads(me.body)["identity"]
    assert (identity["display_name"], identity["initials"], identity["color"]) == ("Ada L.", "AL", None)
    assert "secret" not in identity


async def test_writing_by_cookie_needs_the_xsrf_token(server: Server) -> None:
    visitor = await log_in(server)
    path = PREFIX + "api/contents"
    refused = await visitor.fetch(path, "POST", body="{}")
    assert refused.code == 403
    assert "_xsrf" in json.loads(refused.body)["message"]
    xsrf = {"X-XSRFToken": visitor.cookie("_xsrf")}
    assert (await visitor.fetch(path, "POST", body="{}", headers=xsrf)).code == 201
    token = {"Authorization": f"token {server.hub.add_token('ada')}"}
    assert (await server.visitor().fetch(path, "POST", body="{}", headers=token)).code == 201
    script = {"Sec-Fetch-Mode": "cors"}
    assert (await visitor.fetch(path, headers=script)).code == 403
    assert (await visitor.fetch(path, headers={**script, **xsrf})).code == 200


async def test_an_extension_without_locks_is_open_to_the_owner(server: Server) -> None:
    token = {"Authorization": f"token {server.hub.add_token('ada')}"}
    for page in ("careless/page", "careless/jupyter", "careless/other"):
        answer = await server.visitor().fetch(PREFIX + page, headers=token)
        assert answer.body == b"secret", page
    socket = await connect(server, PREFIX + "careless/socket", token)
    assert await socket.read_message() == "secret"
    socket.close()


async def test_a_person_without_access_reads_why(server: Server) -> None:
    server.hub.browser_user = "eve"
    try:
        visitor = await log_in(server)
        answer = await visitor.fetch(PREFIX + "lab")
    finally:
        server.hub.browser_user = "ada"
    assert answer.code == 403
    assert b"eve has no access to this server" in answer.body


async def test_log_out_goes_through_the_hub(server: Server) -> None:
    visitor = await log_in(server)
    answer = await visitor.fetch(PREFIX + "logout")
    assert (answer.code, answer.headers["Location"]) == (302, "/hub/logout")
    assert visitor.cookie("jupyterhub-user-ada") is None
    assert (await visitor.fetch(PREFIX + "login")).code == 404


async def test_token_in_the_url_is_ignored(server: Server) -> None:
    token = server.hub.add_token("ada")
    assert (await server.visitor().fetch(f"{PREFIX}api/contents?token={token}")).code == 403


async def test_callback_errors_are_pages_with_an_explanation(server: Server) -> None:
    answer = await server.visitor().fetch(PREFIX + "oauth_callback?code=x&state=y")
    assert answer.code == 403
    assert b"took too long" in answer.body
    denied = await server.visitor().fetch(PREFIX + "oauth_callback?error=no&error_description=%3Cb%3Enot+you")
    assert denied.code == 400
    assert b"<b>" not in denied.body.split(b"not you")[0][-40:]


async def test_kernels_run(server: Server) -> None:
    """A kernel starts and can be deleted, and files are below the directory the Hub named."""
    headers = {"Authorization": f"token {server.hub.add_token('ada')}"}
    made = await server.visitor().fetch(PREFIX + "api/kernels", "POST", body="{}", headers=headers)
    assert made.code == 201, made.body
    kernel = json.loads(made.body)["id"]
    gone = await server.visitor().fetch(f"{PREFIX}api/kernels/{kernel}", "DELETE", headers=headers)
    assert gone.code == 204
    made = await server.visitor().fetch(PREFIX + "api/contents", "POST", body="{}", headers=headers)
    assert (server.log.parent / "work" / json.loads(made.body)["name"]).exists()


# -- the Hub


async def test_health_check_tells_only_that_the_server_runs(server: Server) -> None:
    """Without credentials, from this machine and not through a proxy; everybody else is a stranger."""
    path = PREFIX + "api/status"
    checker = Visitor(server.url)
    answer = await checker.fetch(path)
    assert (answer.code, json.loads(answer.body)) == (200, {"status": "ok"})
    for name in ("X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "Via"):
        assert (await checker.fetch(path, headers={name: "127.0.0.1"})).code == 403, name
    for headers in ({"Authorization": "token nobodys"}, {"Cookie": "a=b"}):
        assert (await checker.fetch(path, headers=headers)).code == 403
    assert (await checker.fetch(path + "?token=x")).code == 403
    token = {"Authorization": f"token {server.hub.add_token('ada')}"}
    assert "last_activity" in json.loads((await checker.fetch(path, headers=token)).body)


async def test_version_and_activity_are_told(server: Server) -> None:
    """The Hub's version is asked before the port opens; activity is reported at once and regularly."""
    assert server.hub.requests[0].path == "/hub/api"
    await until(lambda: len(server.hub.seen("/users/ada/activity")) >= 3, "three reports of activity")
    body = json.loads(server.hub.seen("/users/ada/activity")[-1].body)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", body["last_activity"])
    assert body["servers"] == {"": {"last_activity": body["last_activity"]}}


async def test_probe_of_the_hub_is_answered_without_log_in(server: Server) -> None:
    answer = await server.visitor().fetch(PREFIX + "api")
    assert list(json.loads(answer.body)) == ["version"]
    assert answer.headers["X-JupyterHub-Version"] == "6.1.1"


async def test_a_hub_that_is_away_leaves_known_people_in(server: Server) -> None:
    """Whoever was identified goes on working; others are told without addresses of the inside."""
    known, unknown = server.hub.add_token("ada"), server.hub.add_token("ada")
    visitor = server.visitor()
    path = PREFIX + "api/contents"
    assert (await visitor.fetch(path, headers={"Authorization": f"token {known}"})).code == 200
    server.hub.failures["/user"] = [503]
    assert (await visitor.fetch(path, headers={"Authorization": f"token {known}"})).code == 200
    answer = await visitor.fetch(path, headers={"Authorization": f"token {unknown}"})
    assert answer.code == 502
    assert b"127.0.0.1" not in answer.body
    assert server.hub.failures["/user"] == []


async def test_log_in_begins_with_pkce(server: Server) -> None:
    away = await server.visitor().fetch(PREFIX + "lab/tree/a?x=1")
    query = parse_qs(urlsplit(away.headers["Location"]).query)
    assert query["code_challenge_method"] == ["S256"]
    visitor = await log_in(server, PREFIX + "lab/tree/a?x=1")
    assert visitor.cookie("_xsrf")
