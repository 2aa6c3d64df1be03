"""The log-in form: what it shows, what it accepts, what it says when it does not (web §7, web-flows §2 to §4)."""

from __future__ import annotations

import re

import pytest
from tornado.httputil import url_concat

from jupyterhub.handlers.login import LoginHandler, abbreviate

from .fakes import PlayedHub, text_of


def action_of(page: str) -> str:
    match = re.search(r'action="([^"]*)"', page)
    assert match
    return match[1]


async def test_a_stranger_is_sent_to_the_form_and_back(hub: PlayedHub) -> None:
    browser = hub.browser()
    answer = await browser.get("/hub/token?x=1&y=a%20b")
    assert answer.headers["Location"] == "/hub/login?next=%2Fhub%2Ftoken%3Fx%3D1%26y%3Da%2520b"
    page = text_of(await browser.get(answer.headers["Location"]))
    assert action_of(page) == "/hub/login?next=%2Fhub%2Ftoken%3Fx%3D1%26y%3Da%2520b"
    hub.person("ada")
    form = {"username": "ada", "password": "pw", "_xsrf": browser.cookie("_xsrf")}
    answer = await browser.post(action_of(page), form)
    assert (answer.code, answer.headers["Location"]) == (302, "/hub/token?x=1&y=a%20b")


async def test_the_form_holds_the_cookies_token_and_renews_its_lifetime(hub: PlayedHub) -> None:
    browser = hub.browser()
    page = text_of(await browser.get("/hub/login"))
    token = browser.cookie("_xsrf")
    assert token and f'name="_xsrf" value="{token}"' in page
    assert "Max-Age=3600" in browser.set_cookies[0]
    await browser.get("/hub/login")
    assert browser.cookie("_xsrf") == token and browser.set_cookies
    await browser.get("/hub/login", headers={"Sec-Fetch-Mode": "cors"})
    assert not browser.set_cookies


async def test_a_wrong_password_keeps_the_name_and_the_way(hub: PlayedHub) -> None:
    browser = hub.browser()
    answer = await browser.log_in("ada", "wrong", next_url="/hub/token")
    page = text_of(answer)
    assert answer.code == 403 and not browser.set_cookies
    assert 'value="ada"' in page and "login_error" in page and 'aria-invalid="true"' in page
    assert action_of(page).endswith("next=%2Fhub%2Ftoken")
    assert not re.search(r'id="password_input"[^>]*value=', page, re.DOTALL)


async def test_what_the_authenticator_says_is_shown_in_the_form(hub: PlayedHub) -> None:
    answer = await hub.browser().log_in("ada", "explode")
    assert answer.code == 503
    assert "The directory is away." in text_of(answer) and 'id="password_input"' in text_of(answer)


async def test_a_form_without_a_field_is_answered_with_the_form(hub: PlayedHub) -> None:
    browser = hub.browser()
    await browser.get("/hub/login")
    answer = await browser.post("/hub/login", {"username": "ada", "_xsrf": browser.cookie("_xsrf")})
    assert answer.code == 500 and 'id="password_input"' in text_of(answer)


async def test_fields_reach_the_authenticator_as_typed_but_for_the_name(hub: PlayedHub) -> None:
    browser = hub.browser()
    await browser.get("/hub/login")
    form = {"username": " ada ", "password": " pw ", "otp": "1 2", "_xsrf": browser.cookie("_xsrf")}
    await browser.post("/hub/login", form)
    assert hub.logins.seen == [{"username": "ada", "password": " pw ", "otp": "1 2"}]


async def test_an_expired_form_is_shown_again(hub: PlayedHub) -> None:
    browser = hub.browser()
    await browser.get("/hub/login")
    for form in ({}, {"_xsrf": "wrong"}):
        answer = await browser.post("/hub/login", {"username": "ada", "password": "pw", **form})
        assert answer.code == 403
        assert "expired" in text_of(answer) and 'value="ada"' in text_of(answer)
    assert not hub.logins.seen


async def test_a_script_with_a_bad_token_gets_the_error_page(hub: PlayedHub) -> None:
    browser = hub.browser()
    await browser.get("/hub/login")
    form = {"username": "ada", "password": "pw", "_xsrf": "wrong"}
    answer = await browser.post("/hub/login", form, headers={"Sec-Fetch-Mode": "cors"})
    assert answer.code == 403 and 'id="password_input"' not in text_of(answer)


async def test_a_form_left_open_by_somebody_who_logged_in_elsewhere_goes_on(hub: PlayedHub) -> None:
    """Web §26, 29: two tabs with the form; the second one simply continues."""
    hub.person("ada")
    browser = hub.browser()
    await browser.get("/hub/login")
    old = browser.cookie("_xsrf")
    await browser.log_in("ada")
    form = {"username": "ada", "password": "pw", "_xsrf": old}
    answer = await browser.post("/hub/login?next=/hub/token", form)
    assert (answer.code, answer.headers["Location"]) == (303, "/hub/token")


async def test_visiting_the_form_leaves_other_tabs_alone(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    token = browser.cookie("_xsrf")
    answer = await browser.get("/hub/login?next=/hub/home")
    assert (answer.code, answer.headers["Location"]) == (302, "/hub/home")
    assert browser.cookie("_xsrf") == token


EVIL = "\"'><script>alert(1)</script><img onerror=x>"


async def test_nothing_that_is_echoed_can_leave_its_place(hub: PlayedHub) -> None:
    """GHSA-c4gm-pwx9-9w8j: quotes and brackets in names and addresses stay text."""
    browser = hub.browser()
    pages = [text_of(await browser.get(url_concat("/hub/login", {"next": EVIL, "username": EVIL})))]
    pages.append(text_of(await browser.log_in(EVIL, "wrong", next_url=EVIL)))
    logged_in = await hub.logged_in("ada")
    for path in ("/hub/spawn-pending/ada", "/hub/not-there", "/hub/user/ada/x"):
        pages.append(text_of(await logged_in.get(url_concat(path, {"next": EVIL, "redirects": EVIL}))))
    for page in pages:
        assert "<script>alert" not in page and "<img onerror" not in page


async def test_a_huge_name_is_neither_logged_nor_shown(hub: PlayedHub, caplog: pytest.LogCaptureFixture) -> None:
    """CVE-2026-54338: a name of a million characters costs one short line."""
    name = "x" * 1_000_000
    answer = await hub.browser().log_in(name, "wrong")
    assert answer.code == 403
    assert len(answer.body) < 100_000
    assert all(len(record.getMessage()) < 500 for record in caplog.records)
    assert abbreviate(name) == f"{'x' * 16}... (1000000 characters)"


async def test_a_log_in_service_gives_one_link(hub: PlayedHub) -> None:
    hub.settings["authenticator"].login_service = "Example"
    page = text_of(await hub.browser().get("/hub/login?next=%2Fhub%2Ftoken"))
    assert "Log in with Example" in page and "/hub/login?next=%2Fhub%2Ftoken" in page
    assert "password_input" not in page


async def test_custom_html_is_rendered_with_the_forms_variables(hub: PlayedHub) -> None:
    hub.settings[
        "authenticator"
    ].custom_html = (
        '<form action="{{ authenticator_login_url }}"><input name="_xsrf" value="{{ xsrf }}">{{ login_error }}</form>'
    )
    browser = hub.browser()
    page = text_of(await browser.get("/hub/login"))
    assert f'value="{browser.cookie("_xsrf")}"' in page and "password_input" not in page


async def test_a_one_time_code_is_asked_for(hub: PlayedHub) -> None:
    hub.settings["authenticator"].request_otp = True
    page = text_of(await hub.browser().get("/hub/login"))
    assert 'id="otp_input"' in page and "One-time code" in page


async def test_auto_login_goes_to_the_authenticators_own_page(hub: PlayedHub) -> None:
    authenticator = hub.settings["authenticator"]
    authenticator.auto_login = True
    authenticator.login_url = lambda base_url: f"{base_url}elsewhere"
    browser = hub.browser()
    assert (await browser.get("/hub/login")).headers["Location"] == "/hub/elsewhere"
    answer = await browser.get("/hub/login?next=/hub/token")
    assert answer.headers["Location"] == "/hub/elsewhere?next=%2Fhub%2Ftoken"
    answer = await browser.get("/hub/login?next=//evil.com")
    assert answer.headers["Location"] == "/hub/elsewhere?next=%2Fhub%2Fhome"


class TalkativeLogin(LoginHandler):
    """A handler of a third party that redefines `_render` as a plain function."""

    def _render(self, login_error: str | None = None, username: str | None = None, **kwargs: object) -> object:
        return super()._render(login_error=f"Said: {login_error}", username=username, **kwargs)


async def test_a_redefined_render_shows_errors_too(hub: PlayedHub) -> None:
    rules = hub.rules()
    other = PlayedHub()
    other.rules = lambda: [("/hub/login", TalkativeLogin), *rules]  # type: ignore[method-assign]
    await other.serve()
    try:
        assert "Said: Wrong" in text_of(await other.browser().log_in("ada", "wrong"))
        assert "Said: The directory is away." in text_of(await other.browser().log_in("ada", "explode"))
    finally:
        await other.close()
