"""Habits of released plugins that the Hub bears with: each was found in the suite or at the start of one of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tornado import web
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from traitlets.config import Config

from jupyterhub.auth import DummyAuthenticator
from jupyterhub.handlers import BaseHandler, LoginHandler, LogoutHandler
from jupyterhub.objects import Hub
from jupyterhub.tests.mocking import MockHub, MockPAMAuthenticator
from jupyterhub.tests.utils import AsyncSession, get_page, public_url


class OwnPageHandler(BaseHandler):
    """The page at which this authenticator begins a log-in."""

    def get(self) -> None:
        self.write("own page")


class OwnPageAuthenticator(MockPAMAuthenticator):
    """Logs in at a page of its own, and wants to be asked at once."""

    auto_login = True

    def login_url(self, base_url: str) -> str:
        return f"{base_url}own_login"

    def get_handlers(self, app: Any) -> list[Any]:
        return [("/own_login", OwnPageHandler)]


@pytest.fixture
async def hub_with_own_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MockHub]:
    monkeypatch.chdir(tmp_path)
    hub = MockHub(config=Config({"JupyterHub": {"authenticator_class": OwnPageAuthenticator}}))
    await hub.initialize([])
    await hub.start()
    yield hub
    await hub.stop()


async def test_auto_login_leads_to_the_page_of_the_authenticator(hub_with_own_page: MockHub) -> None:
    hub = hub_with_own_page
    answer = await get_page("login?next=%2F%40%2Fspace%2520word%2Fhub%2Ftoken", hub, allow_redirects=False)
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith(f"{hub.hub.base_url}own_login?next=")
    assert (await get_page("home", hub)).text == "own page"


async def test_the_log_in_of_the_hub_is_where_everybody_begins(hub_with_own_page: MockHub) -> None:
    assert hub_with_own_page.tornado_settings["login_url"] == f"{hub_with_own_page.hub.base_url}login"


class OlderLoginHandler(LoginHandler):
    """A log-in page to the shape of earlier releases: it times the log-in, and `_render` takes nothing but two words."""

    def _render(self, login_error: str | None = None, username: str | None = None) -> Any:  # type: ignore[override]
        return self.render_template("login.html", login_error=login_error, username=username)

    async def post(self) -> None:
        if self.get_body_argument("username") == "odd":
            raise web.HTTPError(400, "This name is odd")
        timer = self.statsd.timer("login.authenticate").start()
        user = await self.login_user({name: self.get_body_argument(name) for name in ("username", "password")})
        timer.stop(send=False)
        self.statsd.incr("login.success" if user else "login.failure")
        if user:
            self.redirect(self.get_next_url(user))
        else:
            self.finish(await self._render(login_error="No", username="nobody"))


class OlderLoginAuthenticator(MockPAMAuthenticator):
    def get_handlers(self, app: Any) -> list[Any]:
        return [("/login", OlderLoginHandler)]


async def test_a_log_in_page_of_earlier_releases_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hub = MockHub(config=Config({"JupyterHub": {"authenticator_class": OlderLoginAuthenticator}}))
    await hub.initialize([])
    await hub.start()
    try:
        assert await hub.login_user("user")
        assert (await get_page("login", hub)).status_code == 200
        with AsyncSession() as browser:
            url = f"{public_url(hub)}hub/login"
            await browser.get(url)
            form = {"username": "odd", "password": "odd", "_xsrf": browser.cookies["_xsrf"]}
            answer = await browser.post(url, data=form)
            assert answer.status_code == 400 and "This name is odd" in answer.text
            refused = await browser.post(url, data={**form, "username": "user"})
            assert refused.status_code == 200 and "No" in refused.text
    finally:
        await hub.stop()


def test_an_authenticator_takes_its_session_as_an_argument() -> None:
    session = object()
    assert DummyAuthenticator(db=session).db is session
    authenticator = DummyAuthenticator()
    authenticator.db = session
    assert authenticator.db is session


class SilentConnection:
    """Takes what a handler sends and tells nobody."""

    def set_close_callback(self, callback: Any) -> None: ...


async def test_a_handler_works_in_a_bare_application(monkeypatch: pytest.MonkeyPatch) -> None:
    """Suites make handlers by hand, with a few settings, and put functions of their own in the place of Tornado's."""
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(web.RequestHandler, "redirect", lambda self, *args, **kwargs: asked.append(args))
    application = web.Application(
        hub=Hub(base_url="/hub/"), cookie_secret=b"s" * 32, authenticator=DummyAuthenticator(), login_url="/hub/login"
    )
    request = HTTPServerRequest(
        connection=SilentConnection(),  # type: ignore[arg-type]
        start_line=RequestStartLine("GET", "/hub/logout", "HTTP/1.1"),
        headers=HTTPHeaders(Host="hub.example.org"),
    )
    handler = LogoutHandler(application, request)
    handler._jupyterhub_user = None
    await handler.get()
    assert asked == [("/hub/login",)]


def test_the_words_about_the_old_list_are_those_that_suites_compare(caplog: pytest.LogCaptureFixture) -> None:
    authenticator = DummyAuthenticator(config=Config({"DummyAuthenticator": {"whitelist": {"ada"}}}))
    assert authenticator.allowed_users == {"ada"}
    assert (
        "DummyAuthenticator.whitelist is deprecated in JupyterHub 1.2, use DummyAuthenticator.allowed_users instead"
        in caplog.messages
    )
