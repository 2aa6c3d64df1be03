"""XSRF tokens: who gets one, which requests need one, and which one is good (web §8, rest-api §1.6)."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tornado import web
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.netutil import bind_sockets
from tornado.web import create_signed_value

from jupyterhub import _xsrf_utils
from jupyterhub.web import xsrf

from .visitor import Visitor

SECRET = b"a secret of 32 bytes, more or less"


class Page(web.RequestHandler):
    """Shows the token; a POST is checked. Cookies `session` and `user` say who is there."""

    @property
    def _xsrf_token_id(self) -> str:
        return xsrf.hub_xsrf_id(self.request, self.get_cookie("session", ""), self.get_cookie("user", ""))

    def get_current_user(self) -> Any:
        return self.get_cookie("user", "")

    @property
    def xsrf_token(self) -> bytes:
        return xsrf.get_xsrf_token(self, cookie_path="/hub/")

    def check_xsrf_cookie(self) -> None:
        xsrf.check_xsrf_cookie(self)

    def get(self) -> None:
        if self.get_argument("check", ""):
            self.check_xsrf_cookie()
        self.write(self.xsrf_token)

    def post(self) -> None:
        self.write("done")


class Renewed(Page):
    """A page that hands out a new token for the same person, as a log-in does."""

    def get(self) -> None:
        self.write(xsrf.set_xsrf_cookie(self, self._xsrf_token_id, cookie_path="/hub/"))


@pytest.fixture
async def settings() -> dict[str, Any]:
    return {"cookie_secret": SECRET, "xsrf_cookies": True}


@pytest.fixture
async def visitor(settings: dict[str, Any]) -> AsyncIterator[Visitor]:
    routes = [("/hub/page", Page), ("/hub/renew", Renewed)]
    server = HTTPServer(web.Application(routes, log_function=lambda _: None, **settings), xheaders=True)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    yield Visitor(f"http://127.0.0.1:{sockets[0].getsockname()[1]}")
    server.stop()
    await server.close_all_connections()


def log_in(visitor: Visitor, user: str, session: str = "5e55") -> None:
    visitor.cookies["session", "/"] = session
    visitor.cookies["user", "/"] = user


def id_in(token: str) -> str:
    signed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    value = web.decode_signed_value(SECRET, "_xsrf", signed)
    assert value is not None
    return value.decode()


async def test_cookie_and_page_hold_the_same_signed_id(visitor: Visitor) -> None:
    log_in(visitor, "c00c1e")
    page = await visitor.fetch("/hub/page")
    token = page.body.decode()
    assert token == visitor.cookies["_xsrf", "/hub/"]
    assert id_in(token) == "5e55:c00c1e"
    assert "=" not in token


async def test_lifetime_is_an_hour_for_visitors_and_the_session_for_users(visitor: Visitor) -> None:
    anonymous = await visitor.fetch("/hub/page")
    assert "Max-Age=3600" in anonymous.headers["Set-Cookie"]
    assert "HttpOnly" not in anonymous.headers["Set-Cookie"]
    log_in(visitor, "c00c1e")
    known = await visitor.fetch("/hub/page")
    assert "Max-Age" not in known.headers["Set-Cookie"]
    assert "expires" not in known.headers["Set-Cookie"].lower()


async def test_a_good_cookie_is_kept(visitor: Visitor) -> None:
    first = await visitor.fetch("/hub/page")
    again = await visitor.fetch("/hub/page")
    assert again.body == first.body
    assert "Set-Cookie" not in again.headers


@pytest.mark.parametrize("change", ["log-in", "session", "browser"])
async def test_a_new_id_means_a_new_token(visitor: Visitor, change: str) -> None:
    first = await visitor.fetch("/hub/page")
    if change == "log-in":
        log_in(visitor, "c00c1e")
    elif change == "session":
        visitor.cookies["session", "/"] = "another"
    else:
        visitor.headers["User-Agent"] = "another"
    second = await visitor.fetch("/hub/page")
    assert second.body != first.body
    assert visitor.cookie("_xsrf") == second.body.decode()


@pytest.mark.parametrize(("mode", "handed_out"), [(None, True), ("navigate", True), ("cors", False)])
async def test_only_opening_a_page_sets_the_cookie(
    visitor: Visitor, mode: str | None, handed_out: bool
) -> None:
    headers = {} if mode is None else {"Sec-Fetch-Mode": mode}
    page = await visitor.fetch("/hub/page", headers=headers)
    assert ("Set-Cookie" in page.headers) is handed_out


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "cross-site"}, 200),
        ({"Sec-Fetch-Mode": "websocket"}, 200),
        ({"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}, 403),
        ({"Sec-Fetch-Mode": "same-origin"}, 403),
        ({"Sec-Fetch-Mode": "invented"}, 403),
    ],
)
async def test_which_ways_of_reading_need_no_token(
    visitor: Visitor, headers: dict[str, str], status: int
) -> None:
    answer = await visitor.fetch("/hub/page?check=1", headers=headers)
    assert answer.code == status


@pytest.mark.parametrize(
    "headers",
    [{}, {"Sec-Fetch-Mode": "navigate"}, {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Site": "same-origin"}],
)
async def test_writing_needs_a_token(visitor: Visitor, headers: dict[str, str]) -> None:
    await visitor.fetch("/hub/page")
    answer = await visitor.fetch("/hub/page", "POST", body="", headers=headers)
    assert answer.code == 403


async def test_the_token_is_taken_from_query_form_or_headers(visitor: Visitor) -> None:
    token = (await visitor.fetch("/hub/page")).body.decode()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answers = [
        await visitor.fetch(f"/hub/page?_xsrf={token}", "POST", body=""),
        await visitor.fetch("/hub/page", "POST", body=f"_xsrf={token}", headers=form),
        await visitor.fetch("/hub/page", "POST", body="", headers={"X-XSRFToken": token}),
        await visitor.fetch("/hub/page", "POST", body="", headers={"X-CSRFToken": token}),
    ]
    assert [answer.code for answer in answers] == [200, 200, 200, 200]


async def post_with(visitor: Visitor, token: str) -> int:
    answer = await visitor.fetch("/hub/page", "POST", body="", headers={"X-XSRFToken": token})
    return answer.code


async def test_tokens_of_others_are_refused(visitor: Visitor) -> None:
    """One from before the log-in, of another user, of another secret, and things that are no tokens."""
    before = (await visitor.fetch("/hub/page")).body.decode()
    log_in(visitor, "eve")
    of_eve = (await visitor.fetch("/hub/page")).body.decode()
    log_in(visitor, "ada")
    mine = (await visitor.fetch("/hub/page")).body.decode()
    forged = base64.urlsafe_b64encode(create_signed_value(b"guess", "_xsrf", b"5e55:ada", version=2)).decode()
    for token in (before, of_eve, forged.rstrip("="), "x", "%%%", mine[:-3]):
        assert await post_with(visitor, token) == 403
    assert await post_with(visitor, mine) == 200


async def test_a_token_without_a_cookie_is_refused(visitor: Visitor) -> None:
    """A token from somewhere is of no use in a browser that was never given one."""
    token = (await visitor.fetch("/hub/page")).body.decode()
    visitor.cookies.pop(("_xsrf", "/hub/"))
    assert await post_with(visitor, token) == 403


async def test_a_page_opened_before_the_cookie_was_renewed_still_works(visitor: Visitor) -> None:
    """Visiting the log-in page in another tab must not break the buttons of this one (web §26, 29)."""
    log_in(visitor, "ada")
    old = (await visitor.fetch("/hub/page")).body.decode()
    moment = time.time()
    while int(time.time()) == int(moment):
        new = (await visitor.fetch("/hub/renew")).body.decode()
    new = (await visitor.fetch("/hub/renew")).body.decode()
    assert new != old
    assert await post_with(visitor, old) == 200
    assert await post_with(visitor, new) == 200


async def test_of_several_cookies_the_signed_one_counts(visitor: Visitor) -> None:
    token = (await visitor.fetch("/hub/page")).body.decode()
    for header in (f"_xsrf=garbage; _xsrf={token}", f"_xsrf={token}; _xsrf=garbage", f'_xsrf="{token}"'):
        answer = await visitor.fetch(
            "/hub/page", "POST", body="", headers={"Cookie": header, "X-XSRFToken": token}
        )
        assert answer.code == 200, header


async def test_an_old_signature_is_not_good(visitor: Visitor) -> None:
    log_in(visitor, "ada")
    long_ago = time.time() - 32 * 86400
    signed = create_signed_value(SECRET, "_xsrf", "5e55:ada", version=2, clock=lambda: long_ago)
    token = base64.urlsafe_b64encode(signed).rstrip(b"=").decode()
    visitor.cookies["_xsrf", "/hub/"] = token
    assert await post_with(visitor, token) == 403


async def test_messages_tell_missing_from_wrong(visitor: Visitor) -> None:
    await visitor.fetch("/hub/page")
    with pytest.raises(web.HTTPError) as missing:
        xsrf.check_xsrf_cookie(_Asked("POST", {}))
    with pytest.raises(web.HTTPError) as wrong:
        xsrf.check_xsrf_cookie(_Asked("POST", {"X-XSRFToken": "x"}))
    assert "missing" in str(missing.value)
    assert "POST" in str(missing.value)
    assert "does not match" in str(wrong.value)


class _Asked(web.RequestHandler):
    """A handler that is asked without any server."""

    _xsrf_token_id = "a:b"

    def __init__(self, method: str, headers: dict[str, str]) -> None:
        connection: Any = type("Connection", (), {"set_close_callback": lambda self, callback: None})()
        request = HTTPServerRequest(
            start_line=RequestStartLine(method, "/x", "HTTP/1.1"),
            headers=HTTPHeaders({"Host": "h", **headers}),
            connection=connection,
        )
        super().__init__(web.Application(cookie_secret=SECRET), request)


def test_anonymous_ids_differ_by_browser_and_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Address and User-Agent by default; networks and other headers by the environment."""

    def anonymous(address: str, **headers: str) -> str:
        handler = _Asked("GET", {name.replace("_", "-"): value for name, value in headers.items()})
        handler.request.remote_ip = address
        return xsrf.anonymous_id(handler.request)

    assert anonymous("10.0.0.1", User_Agent="a") != anonymous("10.0.0.2", User_Agent="a")
    assert anonymous("10.0.0.1", User_Agent="a") != anonymous("10.0.0.1", User_Agent="b")
    monkeypatch.setenv("JUPYTERHUB_XSRF_ANONYMOUS_IP_CIDRS", "not a network;10.0.0.0/8")
    assert anonymous("10.0.0.1", User_Agent="a") == anonymous("10.9.9.9", User_Agent="a")
    assert anonymous("10.0.0.1", User_Agent="a") != anonymous("11.0.0.1", User_Agent="a")
    monkeypatch.setenv("JUPYTERHUB_XSRF_ANONYMOUS_ID_HEADERS", "Accept;X-One")
    assert anonymous("10.0.0.1", User_Agent="a") == anonymous("10.0.0.1", User_Agent="b")
    assert anonymous("10.0.0.1", Accept="ab") != anonymous("10.0.0.1", Accept="a", X_One="b")


@pytest.mark.parametrize(
    "settings",
    [{"cookie_secret": SECRET, "xsrf_cookie_kwargs": {"samesite": "Strict", "path": "/elsewhere"}}],
)
async def test_attributes_of_the_cookie_can_be_set_but_not_its_path(visitor: Visitor) -> None:
    page = await visitor.fetch("/hub/page")
    assert "SameSite=Strict" in page.headers["Set-Cookie"]
    assert "Path=/hub/;" in page.headers["Set-Cookie"] + ";"
    over_https = await visitor.fetch("/hub/renew", headers={"X-Scheme": "https"})
    assert "Secure" in over_https.headers["Set-Cookie"]
    assert "Secure" not in page.headers["Set-Cookie"]


def test_names_that_other_projects_import() -> None:
    assert _xsrf_utils.check_xsrf_cookie is xsrf.check_xsrf_cookie
    assert _xsrf_utils.get_xsrf_token is xsrf.get_xsrf_token
    assert _xsrf_utils._set_xsrf_cookie is xsrf.set_xsrf_cookie
    assert _xsrf_utils._needs_check_xsrf is xsrf.needs_check
    assert _xsrf_utils._get_xsrf_token_cookie is xsrf.read_token_cookie
