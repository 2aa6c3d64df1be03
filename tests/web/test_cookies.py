"""Cookies: names, paths, flags and signatures are those of JupyterHub 6 (web §9); log-out ends a session for good."""

from __future__ import annotations

import time
from http.cookies import Morsel, SimpleCookie
from urllib.parse import urlsplit

import pytest
from tornado.web import create_signed_value, decode_signed_value

from jupyterhub.web.cookies import sign_login

from .fakes import COOKIE_SECRET, FormAuthenticator, PlayedHub, text_of

LOGIN = "jupyterhub-hub-login"
SESSION = "jupyterhub-session-id"


def cookies_of(lines: list[str]) -> dict[str, Morsel[str]]:
    return {name: morsel for line in lines for name, morsel in SimpleCookie(line).items()}


async def test_log_in_sets_three_cookies(hub: PlayedHub) -> None:
    hub.person("ada")
    browser = hub.browser()
    answer = await browser.log_in(" AdA ")
    assert answer.code == 302
    cookies = cookies_of(browser.set_cookies)
    assert set(cookies) == {LOGIN, SESSION, "_xsrf"}
    login, session, xsrf = cookies[LOGIN], cookies[SESSION], cookies["_xsrf"]
    assert (login["path"], session["path"], xsrf["path"]) == ("/hub/", "/", "/hub/")
    assert login["httponly"] and session["httponly"] and not xsrf["httponly"]
    assert login["expires"] and not session["expires"] and not xsrf["max-age"]
    assert not any(morsel["secure"] or morsel["samesite"] or morsel["domain"] for morsel in cookies.values())
    assert len(session.value) == 32
    payload = decode_signed_value(COOKIE_SECRET, LOGIN, login.value)
    assert payload == hub.people["ada"].cookie_id.encode()


async def test_a_cookie_of_jupyterhub_6_still_logs_in(hub: PlayedHub) -> None:
    ada, browser = hub.person("ada"), hub.browser()
    browser.jar[(LOGIN, "/hub/")] = create_signed_value(COOKIE_SECRET, LOGIN, ada.cookie_id).decode()
    answer = await browser.get("/hub/home")
    assert answer.code == 200
    cookies = cookies_of(browser.set_cookies)
    assert set(cookies) == {SESSION, "_xsrf"}, "a missing session id is given, and the token that goes with it"


def test_two_log_ins_never_share_a_value() -> None:
    """The time stamp counts seconds: without more, ending one log-in could end another made in the same second."""
    values = {sign_login(COOKIE_SECRET, LOGIN, "0" * 32) for _ in range(50)}
    assert len(values) == 50
    assert {decode_signed_value(COOKIE_SECRET, LOGIN, value) for value in values} == {b"0" * 32}


async def test_log_out_ends_the_session_for_good(hub: PlayedHub) -> None:
    """The cookies of before are a stranger's, also in another browser; other log-ins of the person stay."""
    browser = await hub.logged_in("ada")
    elsewhere = await hub.logged_in("ada")
    session = browser.cookie(SESSION)
    stolen = browser.copy()
    answer = await browser.get("/hub/logout")
    assert (answer.code, answer.headers["Location"]) == (302, "/hub/login")
    cleared = cookies_of(browser.set_cookies)
    assert {name: morsel["path"] for name, morsel in cleared.items()} == {
        SESSION: "/", LOGIN: "/hub/", "jupyterhub-services": "/services", "_xsrf": "/hub/",
    }  # fmt: skip
    assert all(not morsel.value for morsel in cleared.values())
    assert hub.logins.ended_sessions == [("ada", session)], "tokens of this browser session end with it, once"
    answer = await stolen.get("/hub/home")
    assert answer.code == 302 and answer.headers["Location"].startswith("/hub/login?")
    assert (await elsewhere.get("/hub/home")).code == 200


async def test_other_tabs_bring_no_cookie_back_after_log_out(hub: PlayedHub) -> None:
    """GHSA-cw7p-q79f-m2v7: a tab that goes on asking with the old cookies is given nothing that logs in."""
    browser = await hub.logged_in("ada")
    tab = browser.copy()
    await browser.get("/hub/logout")
    for path in ("/hub/home", "/hub/token", "/hub/login"):
        await tab.get(path)
        assert not cookies_of(tab.set_cookies).get(LOGIN, Morsel()).value


async def test_log_out_of_a_stranger_touches_nothing(hub: PlayedHub) -> None:
    browser = hub.browser()
    answer = await browser.get("/hub/logout")
    assert answer.code == 302 and not browser.set_cookies
    await browser.get("/hub/login")
    form = {"_xsrf": browser.cookie("_xsrf")}
    assert (await browser.post("/hub/logout", form)).code == 405


async def test_log_out_may_stop_servers(hub: PlayedHub) -> None:
    from jupyterhub.core.lifecycle import State

    browser = await hub.logged_in("ada")
    hub.people["ada"].set_state("", State.READY)
    hub.people["ada"].set_state("busy", State.STARTING)
    hub.settings["shutdown_on_logout"] = True
    await browser.get("/hub/logout")
    assert hub.servers.stopped == [("ada", "")], "a server in motion is left alone"


async def test_log_out_shows_a_page_where_the_form_would_log_in_at_once(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    hub.settings["authenticator"].auto_login = True
    answer = await browser.get("/hub/logout")
    assert answer.code == 200 and 'id="logout-main"' in text_of(answer)


@pytest.mark.parametrize("age_days", [0, 13, 15, 40])
async def test_a_log_in_is_good_for_the_days_that_are_configured(hub: PlayedHub, age_days: int) -> None:
    ada, browser = hub.person("ada"), hub.browser()
    made = time.time() - age_days * 86400
    value = create_signed_value(COOKIE_SECRET, LOGIN, ada.cookie_id, clock=lambda: made).decode()
    browser.jar[(LOGIN, "/hub/")] = value
    answer = await browser.get("/hub/home")
    assert answer.code == (200 if age_days < 14 else 302)
    if age_days > 14:
        assert cookies_of(browser.set_cookies)[LOGIN].value == ""


@pytest.mark.parametrize("value", ["nonsense", "2|1:0|10:1|20:jupyterhub-hub-login|4:eA==|deadbeef"])
async def test_a_forged_cookie_is_a_strangers_and_is_cleared(hub: PlayedHub, value: str) -> None:
    browser = hub.browser()
    browser.jar[(LOGIN, "/hub/")] = value
    assert (await browser.get("/hub/home")).code == 302
    assert cookies_of(browser.set_cookies)[LOGIN].value == ""


async def test_a_deleted_user_is_a_stranger(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    del hub.people["ada"]
    assert (await browser.get("/hub/home")).code == 302


async def test_a_stale_log_in_has_to_be_renewed(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    hub.logins.stale.add("ada")
    assert (await browser.get("/hub/home")).headers["Location"].startswith("/hub/login?")


async def test_a_session_id_that_was_sent_is_kept(hub: PlayedHub) -> None:
    hub.person("ada")
    browser = hub.browser()
    browser.jar[(SESSION, "/")] = "f" * 32
    await browser.log_in("ada")
    assert set(cookies_of(browser.set_cookies)) == {LOGIN, "_xsrf"}


@pytest.mark.parametrize("headers", [{"X-Scheme": "https"}, {"X-Forwarded-Proto": "https"}])
async def test_cookies_are_secure_over_https(hub: PlayedHub, headers: dict[str, str]) -> None:
    hub.person("ada")
    browser = hub.browser()
    browser.headers.update(headers)
    await browser.log_in("ada")
    cookies = cookies_of(browser.set_cookies)
    assert cookies[LOGIN]["secure"] and cookies[SESSION]["secure"]


async def test_a_public_url_decides_whether_cookies_are_secure(hub: PlayedHub) -> None:
    hub.settings["public_url"] = urlsplit("https://hub.example.org/")
    hub.person("ada")
    browser = hub.browser()
    await browser.log_in("ada")
    assert cookies_of(browser.set_cookies)[LOGIN]["secure"]


async def test_cookie_options_are_merged_into_every_cookie(hub: PlayedHub) -> None:
    options = {"samesite": "Strict", "expires_days": None}
    hub.settings.update(cookie_options=options, xsrf_cookie_kwargs=options)
    hub.person("ada")
    browser = hub.browser()
    await browser.log_in("ada")
    cookies = cookies_of(browser.set_cookies)
    assert {morsel["samesite"] for morsel in cookies.values()} == {"Strict"}
    assert not cookies[LOGIN]["expires"]


async def test_the_host_prefix(hub: PlayedHub) -> None:
    hub.settings["cookie_host_prefix_enabled"] = True
    hub.person("ada")
    browser = hub.browser()
    await browser.log_in("ada")
    cookies = cookies_of(browser.set_cookies)
    assert SESSION in cookies and "_xsrf" in cookies
    login = cookies[f"__Host-{LOGIN}"]
    assert (login["path"], login["domain"]) == ("/", "") and login["secure"]
    await browser.get("/hub/logout")
    cleared = cookies_of(browser.set_cookies)[f"__Host-{LOGIN}"]
    assert cleared.value == "" and cleared["path"] == "/" and cleared["secure"]


async def test_with_subdomains_the_session_is_shared_and_the_log_in_is_not(hub: PlayedHub) -> None:
    hub.settings.update(subdomain_host="http://hub.localhost:1", domain="hub.localhost")
    hub.person("ada")
    browser = hub.browser()
    await browser.log_in("ada")
    cookies = cookies_of(browser.set_cookies)
    assert cookies[SESSION]["domain"] == "hub.localhost"
    assert not cookies[LOGIN]["domain"]


async def test_paths_follow_the_base_url() -> None:
    hub = PlayedHub(base_url="/jh/")
    await hub.serve()
    try:
        hub.person("ada")
        browser = hub.browser()
        await browser.get("/jh/hub/login")
        form = {"username": "ada", "password": "pw", "_xsrf": browser.cookie("_xsrf")}
        await browser.post("/jh/hub/login", form)
        cookies = cookies_of(browser.set_cookies)
        assert cookies[SESSION]["path"] == "/jh/"
        assert cookies[LOGIN]["path"] == cookies["_xsrf"]["path"] == "/jh/hub/"
        assert (await browser.get("/jh/foo?x=1")).headers["Location"] == "/jh/hub/foo?x=1"
        assert (await browser.get("/jh")).headers["Location"] == "/jh/hub/"
    finally:
        await hub.close()


async def test_a_token_in_a_header_does_not_open_pages(hub: PlayedHub) -> None:
    from .fakes import MemoryCaller

    ada = hub.person("ada")
    hub.access.tokens["t" * 32] = MemoryCaller("user", "ada", ada.id, ada.scopes)
    browser = hub.browser()
    browser.headers["Authorization"] = f"token {'t' * 32}"
    assert (await browser.get("/hub/home")).code == 302
    assert (await browser.get("/hub/user/ada/lab", headers={"Accept": "application/json"})).code == 424


async def test_header_log_in_takes_one_step(hub: PlayedHub) -> None:
    authenticator: FormAuthenticator = hub.settings["authenticator"]
    authenticator.auto_login = True
    hub.person("ada")
    browser = hub.browser()
    answer = await browser.get("/hub/login?next=/hub/token", headers={"X-Remote-User": "ada"})
    assert (answer.code, answer.headers["Location"]) == (302, "/hub/token")
    assert LOGIN in cookies_of(browser.set_cookies)
    assert (await hub.browser().get("/hub/login")).code == 403
