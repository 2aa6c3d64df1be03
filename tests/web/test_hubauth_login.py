"""Log-in by browser with HubOAuth, and what the handler mixins let through (oauth §10.4 to §11)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from tornado import web
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from jupyterhub.services.auth import (
    HubAuth,
    HubAuthenticated,
    HubOAuth,
    HubOAuthCallbackHandler,
    HubOAuthenticated,
)

from .fake_hub import FakeHub, running_hub
from .visitor import Visitor

PREFIX = "/user/ada/"
SCOPE = "access:servers!server=ada/"


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    async with running_hub() as fake:
        fake.add_user("ada", [SCOPE])
        fake.add_user("eve", ["access:servers!user=eve"])
        yield fake


@pytest.fixture
def options() -> dict[str, Any]:
    """More settings of the application's HubOAuth."""
    return {}


@pytest.fixture
def auth(hub: FakeHub, options: dict[str, Any]) -> HubOAuth:
    return HubOAuth(
        api_url=hub.api_url,
        api_token=hub.client_secret,
        base_url=PREFIX,
        hub_prefix="/hub/",
        oauth_client_id=hub.client_id,
        oauth_redirect_uri=hub.redirect_uri,
        access_scopes={SCOPE},
        **options,
    )


@pytest.fixture
async def visitor(auth: HubOAuth) -> AsyncIterator[Visitor]:
    """A browser at an application with a page, a form and a log-in."""

    class Identified:
        """Asks the Hub without blocking the loop, which the Hub of this test shares."""

        hub_auth = auth

        async def prepare(self: Any) -> None:
            await auth.get_user(self, sync=False)

    class Page(Identified, HubOAuthenticated, web.RequestHandler):
        @web.authenticated
        def get(self) -> None:
            self.write({"user": self.current_user["name"], "xsrf": self.xsrf_token.decode()})

        @web.authenticated
        def post(self) -> None:
            self.check_xsrf_cookie()
            self.write({"user": self.current_user["name"]})

    class Callback(HubOAuthCallbackHandler):
        hub_auth = auth

    class Logout(web.RequestHandler):
        def get(self) -> None:
            auth.clear_cookie(self)

    routes = [(PREFIX + "oauth_callback", Callback), (PREFIX + "out", Logout), (PREFIX + "(?:.*)", Page)]
    app = web.Application(routes, cookie_secret=b"secret of the application" * 2, log_function=lambda _: None)
    server = HTTPServer(app, xheaders=True)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    yield Visitor(f"http://127.0.0.1:{sockets[0].getsockname()[1]}")
    server.stop()
    await server.close_all_connections()


async def at_the_hub(hub: FakeHub, location: str) -> str:
    """Follow a redirect to the Hub and return where it sends the browser back to."""
    answer = await Visitor(hub.url).fetch(location)
    assert answer.code == 302, answer.body
    return answer.headers["Location"]


async def log_in(visitor: Visitor, hub: FakeHub, page: str = PREFIX + "page?x=1") -> str:
    """Log in from a page and return where that ends."""
    away = await visitor.fetch(page)
    assert away.code == 302
    back = await visitor.fetch(await at_the_hub(hub, away.headers["Location"]))
    assert back.code == 302, back.body
    return back.headers["Location"]


async def test_the_whole_way(visitor: Visitor, hub: FakeHub, auth: HubOAuth) -> None:
    """A stranger is sent to the Hub with state and PKCE, comes back, and is who the Hub says."""
    away = await visitor.fetch(PREFIX + "page?x=1")
    query = parse_qs(urlsplit(away.headers["Location"]).query)
    assert query["client_id"] == [hub.client_id]
    assert query["redirect_uri"] == [hub.redirect_uri]
    assert query["code_challenge_method"] == ["S256"]
    assert len(query["state"][0]) == 22
    state_cookie = away.headers["Set-Cookie"]
    assert "Max-Age=600" in state_cookie
    assert "HttpOnly" in state_cookie
    assert f"Path={PREFIX}" in state_cookie
    assert "expires" not in state_cookie.lower()

    back = await visitor.fetch(await at_the_hub(hub, away.headers["Location"]))
    assert back.headers["Location"] == PREFIX + "page?x=1"
    assert {name for name, _ in visitor.cookies} == {auth.cookie_name, "_xsrf"}
    page = await visitor.fetch(PREFIX + "page?x=1")
    assert page.code == 200
    exchange = hub.seen("/oauth2/token")[0]
    assert exchange.headers["Authorization"] == f"token {hub.client_secret}"
    assert b"code_verifier=" in exchange.body
    assert b"redirect_uri=" in exchange.body


async def test_a_visitor_without_access_is_refused_and_not_sent_round(visitor: Visitor, hub: FakeHub) -> None:
    hub.browser_user = "eve"
    page = await log_in(visitor, hub)
    answer = await visitor.fetch(page)
    assert answer.code == 403
    assert b"Forbidden" in answer.body


async def test_tokens_in_a_header(visitor: Visitor, hub: FakeHub) -> None:
    """Both words are good; no XSRF token is needed; those of others are refused."""
    good, bad = hub.add_token("ada"), hub.add_token("eve")
    for word in ("token", "Bearer", "BEARER"):
        answer = await visitor.fetch(
            PREFIX + "page", "POST", body="", headers={"Authorization": f"{word} {good}"}
        )
        assert answer.code == 200
    refused = await visitor.fetch(PREFIX + "page", "POST", body="", headers={"Authorization": f"token {bad}"})
    assert refused.code == 403
    assert (await visitor.fetch(PREFIX + "page", headers={"Authorization": f"token {bad}"})).code == 403
    unknown = await visitor.fetch(PREFIX + "page", headers={"Authorization": "token nobodys"})
    assert unknown.code == 302


async def test_writing_with_the_cookie_needs_the_xsrf_token(visitor: Visitor, hub: FakeHub) -> None:
    page = await log_in(visitor, hub)
    assert (await visitor.fetch(page, "POST", body="")).code == 403
    token = visitor.cookie("_xsrf")
    assert (await visitor.fetch(page, "POST", body="", headers={"X-XSRFToken": token})).code == 200
    assert (await visitor.fetch(page, "POST", body="", headers={"X-XSRFToken": "x"})).code == 403


@pytest.mark.parametrize(
    ("mode", "site", "status"),
    [
        (None, None, 200),
        ("navigate", "cross-site", 200),
        ("no-cors", "same-origin", 200),
        ("no-cors", "same-site", 302),
        ("no-cors", "cross-site", 302),
        ("cors", "same-origin", 302),
        ("same-origin", "same-origin", 302),
        ("websocket", None, 200),
    ],
)
async def test_reading_with_the_cookie(
    visitor: Visitor, hub: FakeHub, mode: str | None, site: str | None, status: int
) -> None:
    """A script needs the XSRF token also for reading; without it, it is a stranger."""
    page = await log_in(visitor, hub)
    headers = {
        name: value for name, value in {"Sec-Fetch-Mode": mode, "Sec-Fetch-Site": site}.items() if value
    }
    assert (await visitor.fetch(page, headers=headers)).code == status
    token = visitor.cookie("_xsrf")
    assert (await visitor.fetch(page, headers={**headers, "X-XSRFToken": token})).code == 200


async def test_a_new_browser_session_asks_the_hub_again(visitor: Visitor, hub: FakeHub) -> None:
    """After a log-out at the Hub the session id is another one, so nothing cached is believed."""
    page = await log_in(visitor, hub)
    assert (await visitor.fetch(page)).code == 200
    hub.tokens.clear()
    assert (await visitor.fetch(page)).code == 200
    visitor.cookies["jupyterhub-session-id", "/"] = "new"
    gone = await visitor.fetch(page)
    assert gone.code == 302
    assert visitor.cookie("jupyterhub-user-ada") is None


async def test_two_tabs_log_in_at_once(visitor: Visitor, hub: FakeHub, auth: HubOAuth) -> None:
    """Each tab has a state cookie; the first back logs in for both, the second goes straight to its page."""
    first = await visitor.fetch(PREFIX + "page?tab=1")
    second = await visitor.fetch(PREFIX + "page?tab=2")
    names = sorted(name for name, _ in visitor.cookies)
    assert names[0] == auth.state_cookie_name
    assert re.fullmatch(re.escape(auth.state_cookie_name) + "-[A-Za-z]{8}", names[1])
    codes = [await at_the_hub(hub, tab.headers["Location"]) for tab in (first, second)]
    one = await visitor.fetch(codes[0])
    assert one.headers["Location"] == PREFIX + "page?tab=1"
    assert not any("state" in name for name, _ in visitor.cookies)
    two = await visitor.fetch(codes[1])
    assert two.headers["Location"] == PREFIX + "page?tab=2"
    assert len(hub.seen("/oauth2/token")) == 1
    replay = await visitor.fetch(codes[0])
    assert replay.headers["Location"] == PREFIX
    elsewhere = await Visitor(visitor.base).fetch(codes[0])
    assert elsewhere.code == 403


async def test_callback_of_another_browser_is_refused(visitor: Visitor, hub: FakeHub) -> None:
    """A log-in that somebody else began cannot be finished here: nobody is logged in as an attacker."""
    attacker = Visitor(visitor.base)
    away = await attacker.fetch(PREFIX)
    link = await at_the_hub(hub, away.headers["Location"])
    assert (await visitor.fetch(link)).code == 403
    await visitor.fetch(PREFIX + "mine")
    assert (await visitor.fetch(link)).code == 403
    assert visitor.cookie("jupyterhub-user-ada") is None


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("?code=x", 400),
        ("?state=x", 400),
        ("?error=access_denied&error_description=no", 400),
        ("?code=x&state=y", 403),
        ("?code=x&state=%C3%A4", 403),
    ],
)
async def test_incomplete_callbacks(visitor: Visitor, query: str, status: int) -> None:
    assert (await visitor.fetch(PREFIX + "oauth_callback" + query)).code == status


@pytest.mark.parametrize(("answers", "status"), [([500], 502), ([404], 500), ([403], 500)])
async def test_a_failed_exchange(visitor: Visitor, hub: FakeHub, answers: list[int], status: int) -> None:
    away = await visitor.fetch(PREFIX)
    link = await at_the_hub(hub, away.headers["Location"])
    hub.failures["/oauth2/token"] = answers
    assert (await visitor.fetch(link)).code == status
    assert visitor.cookie("jupyterhub-user-ada") is None


async def test_a_token_that_the_hub_does_not_know(visitor: Visitor, hub: FakeHub) -> None:
    away = await visitor.fetch(PREFIX)
    link = await at_the_hub(hub, away.headers["Location"])
    hub.failures["/user"] = [403]
    assert (await visitor.fetch(link)).code == 500


@pytest.mark.parametrize("options", [{"pkce_enabled": False}])
async def test_without_pkce(visitor: Visitor) -> None:
    away = await visitor.fetch(PREFIX)
    assert "code_challenge" not in away.headers["Location"]


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example/x", "http://evil.example/user/ada/"])
def test_the_way_back_stays_on_this_host(path: str) -> None:
    """A request line may name any host; a redirect must not."""
    from jupyterhub.services._identity import local_path

    assert urlsplit(local_path(path, PREFIX)).netloc == ""
    assert not local_path(path, PREFIX).startswith(("//", "/\\"))


async def test_token_in_the_url_is_ignored_unless_allowed(visitor: Visitor, hub: FakeHub) -> None:
    token = quote(hub.add_token("ada"))
    assert (await visitor.fetch(f"{PREFIX}page?token={token}")).code == 302
    socket = await visitor.fetch(f"{PREFIX}page?token={token}", headers={"Sec-Fetch-Mode": "websocket"})
    assert socket.code == 200


@pytest.mark.parametrize("options", [{"allow_token_in_url": True}])
async def test_allowed_token_in_the_url_of_a_page_moves_to_the_cookie(visitor: Visitor, hub: FakeHub) -> None:
    token = hub.add_token("ada")
    script = await visitor.fetch(f"{PREFIX}page?token={token}", headers={"Sec-Fetch-Mode": "cors"})
    assert script.code == 200
    assert visitor.cookie("jupyterhub-user-ada") is None
    page = await visitor.fetch(f"{PREFIX}page?token={token}")
    assert page.code == 200
    assert (await visitor.fetch(PREFIX + "page")).code == 200


@pytest.mark.parametrize("options", [{"allow_websocket_cookie_auth": False}])
async def test_cookies_can_be_refused_for_websockets(visitor: Visitor, hub: FakeHub) -> None:
    page = await log_in(visitor, hub)
    assert (await visitor.fetch(page, headers={"Sec-Fetch-Mode": "websocket"})).code == 302
    assert (await visitor.fetch(page)).code == 200


@pytest.mark.parametrize(
    "options",
    [{"cookie_host_prefix_enabled": True, "cookie_options": {"samesite": "Lax", "domain": "x.org"}}],
)
async def test_host_prefixed_cookies(visitor: Visitor, hub: FakeHub) -> None:
    """Browsers accept such names only with path /, Secure and no domain."""
    away = await visitor.fetch(PREFIX, headers={"X-Scheme": "https"})
    state = away.headers["Set-Cookie"]
    back = await visitor.fetch(await at_the_hub(hub, away.headers["Location"]), headers={"X-Scheme": "https"})
    token = next(
        line for line in back.headers.get_list("Set-Cookie") if line.startswith("__Host-jupyterhub-user-ada=")
    )
    for cookie in (state, token):
        assert cookie.startswith("__Host-")
        assert "Path=/;" in cookie + ";"
        assert "Secure" in cookie
        assert "SameSite=Lax" in cookie
    assert "omain" not in token


async def test_log_out_clears_the_cookie(visitor: Visitor, hub: FakeHub) -> None:
    page = await log_in(visitor, hub)
    await visitor.fetch(PREFIX + "out")
    assert (await visitor.fetch(page)).code == 302


async def test_secure_follows_the_first_proxy(visitor: Visitor) -> None:
    """The outermost scheme counts, as only that one is what the browser uses."""
    for headers, secure in (
        ({}, False),
        ({"X-Forwarded-Proto": "https,http"}, True),
        ({"X-Scheme": "https"}, True),
        ({"Forwarded": 'for=1.2.3.4;proto="https", for=5.6.7.8;proto=http'}, True),
        ({"X-Forwarded-Proto": "http,https"}, False),
    ):
        visitor.cookies.clear()
        away = await visitor.fetch(PREFIX, headers=headers)
        assert ("Secure" in away.headers["Set-Cookie"]) is secure, headers


# -- who is let in


def decide(model: dict[str, Any], **attributes: Any) -> bool:
    """Whether a handler with these attributes lets somebody in."""
    scopes = attributes.pop("access_scopes", set())
    handler = type("Handler", (HubAuthenticated,), attributes)()
    handler.hub_auth = HubAuth(access_scopes=scopes)
    return handler._admit({"kind": "user", "admin": False, "groups": [], "scopes": [], **model}) is not None


@pytest.mark.parametrize(
    ("model", "attributes", "allowed"),
    [
        ({"name": "ada"}, {}, True),
        ({"name": "ada"}, {"access_scopes": {"access:services!service=x"}}, False),
        (
            {"name": "ada", "scopes": ["access:services"]},
            {"access_scopes": {"access:services!service=x"}},
            True,
        ),
        ({"name": "ada"}, {"hub_users": {"ada"}}, True),
        ({"name": "eve"}, {"hub_users": {"ada"}}, False),
        ({"name": "eve", "groups": ["g"]}, {"hub_users": {"ada"}, "hub_groups": {"g"}}, True),
        ({"name": "root", "admin": True}, {"hub_users": {"ada"}}, False),
        ({"name": "root", "admin": True}, {"hub_users": {"ada"}, "allow_admin": True}, True),
        ({"name": "ada"}, {"allow_admin": True}, False),
        ({"name": "ada", "kind": "service"}, {"hub_users": {"ada"}}, False),
        ({"name": "cull", "kind": "service"}, {"hub_services": {"cull"}}, True),
        ({"name": "ada"}, {"hub_scopes": ["custom:x"], "hub_users": {"ada"}}, False),
        ({"name": "eve", "scopes": ["custom:x"]}, {"hub_scopes": ["custom:x"], "hub_users": {"ada"}}, True),
    ],
)
def test_who_is_let_in(model: dict[str, Any], attributes: dict[str, Any], allowed: bool) -> None:
    """Scopes alone where there are any; otherwise the older sets of names."""
    assert decide(model, **attributes) is allowed


async def test_token_only_applications_have_no_log_in(hub: FakeHub) -> None:
    auth = HubAuth(api_url=hub.api_url, api_token="x", access_scopes={SCOPE})

    class Page(HubAuthenticated, web.RequestHandler):
        hub_auth = auth

        async def prepare(self) -> None:
            await auth.get_user(self, sync=False)

        @web.authenticated
        def get(self) -> None:
            self.write(self.current_user["name"])

        @web.authenticated
        def post(self) -> None:
            self.write(self.current_user["name"])

    server = HTTPServer(web.Application([("/", Page)], log_function=lambda _: None))
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    try:
        visitor = Visitor(f"http://127.0.0.1:{sockets[0].getsockname()[1]}")
        headers = {"Authorization": f"token {hub.add_token('ada')}"}
        assert (await visitor.fetch("/")).code == 403
        assert (await visitor.fetch("/", "POST", body="")).code == 403
        assert (await visitor.fetch("/", headers=headers)).body == b"ada"
        assert (await visitor.fetch("/", "POST", body="", headers=headers)).code == 200
    finally:
        server.stop()
        await server.close_all_connections()
