"""Home, starting, following a start, and what is shown when nothing runs (web §5.3, §5.4, §13)."""

from __future__ import annotations

import html
import json
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from tornado import web

from jupyterhub.core.errors import StartFailed, TooManyStarts
from jupyterhub.core.lifecycle import Failure, State

from .fakes import AskingSpawner, Browser, PlayedHub, text_of


def link(page: str, element_id: str) -> str:
    match = re.search(rf'<a[^>]*id="{element_id}"[^>]*href="([^"]*)"', page)
    assert match, f"no link {element_id}"
    return html.unescape(match[1])


class Refusal(web.HTTPError):
    """What spawners raise to say no in their own words."""

    def __init__(self, status: int, **attributes: object) -> None:
        super().__init__(status, "only for the log")
        for name, value in attributes.items():
            setattr(self, name, value)


# Home


async def test_home_offers_one_clear_thing_per_server(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    page = text_of(await browser.get("/hub/home"))
    assert link(page, "start") == "/hub/spawn/ada" and 'id="stop"' not in page
    hub.people["ada"].set_state("", State.READY)
    page = text_of(await browser.get("/hub/home"))
    assert link(page, "start") == "/user/ada/" and 'id="stop"' in page and "state-running" in page
    hub.people["ada"].set_state("", State.CONNECTING)
    page = text_of(await browser.get("/hub/home"))
    assert link(page, "start") == "/hub/spawn-pending/ada" and 'id="stop"' in page
    hub.people["ada"].set_state("", State.STOPPING)
    assert 'id="stop"' not in text_of(await browser.get("/hub/home")), "a stop under way cannot be asked for again"


async def test_home_notices_a_server_that_died(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    hub.people["ada"].set_state("", State.READY)
    hub.servers.dead.add("")
    page = text_of(await browser.get("/hub/home"))
    assert hub.servers.checked == [("ada", "")] and "state-stopped" in page


async def test_a_running_named_server_does_not_change_what_the_main_button_does(hub: PlayedHub) -> None:
    """Web §26, 4."""
    hub.settings["allow_named_servers"] = True
    browser = await hub.logged_in("ada")
    hub.people["ada"].set_state("lab", State.READY)
    page = text_of(await browser.get("/hub/home"))
    assert link(page, "start") == "/hub/spawn/ada"
    assert 'class="server-link" href="/user/ada/lab/"' in page and 'data-server-name="lab"' in page


async def test_named_servers_are_shown_only_where_they_are_allowed(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    assert "server-table" not in text_of(await browser.get("/hub/home"))


# Starting


async def test_a_start_sends_the_browser_to_the_pending_page(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    answer = await browser.get("/hub/spawn?next=/hub/token")
    assert (answer.code, answer.headers["Location"]) == (302, "/hub/spawn-pending/ada?next=%2Fhub%2Ftoken")
    assert hub.servers.started == [("ada", "", None)]
    assert (await browser.get("/hub/spawn")).headers["Location"] == "/hub/spawn-pending/ada"
    assert len(hub.servers.started) == 1


async def test_a_running_server_is_opened(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    hub.people["ada"].set_state("", State.READY)
    assert (await browser.get("/hub/spawn?x=1")).headers["Location"] == "/user/ada/?x=1"
    assert (await browser.get("/hub/spawn?next=/hub/token")).headers["Location"] == "/hub/token"


async def test_options_in_the_address_start_at_once(hub: PlayedHub) -> None:
    hub.settings["spawner_class"] = AskingSpawner
    browser = await hub.logged_in("ada")
    await browser.get("/hub/spawn?opt-mode=big&opt-mode=red&other=1")
    assert hub.servers.started == [("ada", "", {"mode": ["big", "red"]})]
    hub.people["ada"].set_state("", State.STOPPED)
    await browser.get("/hub/spawn?mode=old")
    assert hub.servers.started[-1] == ("ada", "", {"mode": ["old"]})
    hub.people["ada"].set_state("", State.STOPPED)
    assert (await browser.get("/hub/spawn?opt-=1")).code == 422


async def test_the_form_is_shown_and_its_fields_become_options(hub: PlayedHub) -> None:
    hub.settings["spawner_class"] = AskingSpawner
    browser = await hub.logged_in("ada")
    answer = await browser.get("/hub/spawn/ada?next=%2Fhub%2Ftoken")
    page = text_of(answer)
    assert answer.code == 200 and 'id="mode"' in page and not hub.servers.started
    action = html.unescape(re.search(r'id="spawn_form"[^>]*action="([^"]*)"', page)[1])  # type: ignore[index]
    assert action == "/hub/spawn/ada?next=%2Fhub%2Ftoken", "the token is in the form, not in the address"
    assert (await browser.post(action, {"mode": "ok"})).code == 403
    answer = await browser.post(action, {"mode": "ok", "_xsrf": browser.cookie("_xsrf")})
    assert answer.headers["Location"] == "/hub/spawn-pending/ada?next=%2Fhub%2Ftoken"
    assert hub.servers.started == [("ada", "", {"mode": ["ok"]})]
    answer = await browser.post(action, {"mode": "ok", "_xsrf": browser.cookie("_xsrf")})
    assert answer.code == 400, "pending already"


async def test_files_are_options_too(hub: PlayedHub) -> None:
    hub.settings["spawner_class"] = AskingSpawner
    browser = await hub.logged_in("ada")
    body = (
        b'--b\r\nContent-Disposition: form-data; name="notes"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'
        b"hello\r\n--b--\r\n"
    )
    token = browser.cookie("_xsrf")
    headers = {"Content-Type": "multipart/form-data; boundary=b", "X-XSRFToken": token}
    await browser.fetch("/hub/spawn", "POST", body=body, headers=headers)
    options = hub.servers.started[0][2]
    assert options["notes_file"][0]["body"] == b"hello"


async def test_what_fails_at_once_is_answered_where_the_person_is(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    hub.servers.fail_with = Refusal(
        409, jupyterhub_html_message="<b>Pick another</b>", headers={"Retry-After": "7"}, reason="capacity"
    )
    answer = await browser.get("/hub/spawn")
    assert (answer.code, answer.reason, answer.headers["Retry-After"]) == (409, "capacity", "7")
    assert "<b>Pick another</b>" in text_of(answer) and "/hub/home" in text_of(answer)
    hub.settings["spawner_class"] = AskingSpawner
    hub.people["ada"].spawners.clear()
    answer = await browser.post("/hub/spawn", {"mode": "x", "_xsrf": browser.cookie("_xsrf")})
    page = text_of(answer)
    assert answer.code == 409 and answer.headers["Retry-After"] == "7"
    assert "spawn-error-msg" in page and "<b>Pick another</b>" in page and 'id="mode"' in page
    answer = await browser.get("/hub/spawn?opt-mode=x&next=%2Fhub%2Ftoken")
    assert answer.code == 409 and 'action="/hub/spawn?next=%2Fhub%2Ftoken"' in text_of(answer)


async def test_a_start_without_choices_that_fails_at_once_is_explained_where_starts_are_followed(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    hub.servers.fail_with = StartFailed(message="The command was not found.")
    answer = await browser.get("/hub/spawn?next=/hub/token")
    assert (answer.code, answer.headers["Location"]) == (302, "/hub/spawn-pending/ada?next=%2Fhub%2Ftoken")
    hub.settings["spawner_class"] = AskingSpawner
    hub.people["ada"].spawners.clear()
    answer = await browser.post("/hub/spawn", {"mode": "x", "_xsrf": browser.cookie("_xsrf")})
    assert answer.code == 500 and "The command was not found." in text_of(answer) and 'id="mode"' in text_of(answer)


async def test_options_that_cannot_be_read_are_answered_with_the_form(hub: PlayedHub) -> None:
    class Fussy(AskingSpawner):
        def run_options_from_form(self, fields: object) -> dict[str, object]:
            raise ValueError("mode must be a number")

    Fussy.get_options_form = AskingSpawner.get_options_form  # type: ignore[method-assign]
    hub.settings["spawner_class"] = Fussy
    browser = await hub.logged_in("ada")
    answer = await browser.post("/hub/spawn", {"mode": "x", "_xsrf": browser.cookie("_xsrf")})
    assert answer.code == 500 and 'id="mode"' in text_of(answer) and "spawn-error-msg" in text_of(answer)


async def test_too_many_starts_say_when_to_try_again_and_do_so(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    hub.servers.refuse_with = TooManyStarts("Many servers start at the moment.", retry_after=33)
    answer = await browser.get("/hub/spawn")
    assert answer.code == 429 and answer.headers["Retry-After"] == "33"
    assert 'data-seconds="33"' in text_of(answer) and "js/retry.js" in text_of(answer)


@pytest.mark.parametrize("name", ["Bad Name", "-x", "x--y", "9x", "a" * 31, "é", "UPPER", "a_b"])
async def test_a_new_named_server_needs_a_safe_name(hub: PlayedHub, name: str) -> None:
    from urllib.parse import quote

    hub.settings["allow_named_servers"] = True
    browser = await hub.logged_in("ada")
    assert (await browser.get(f"/hub/spawn/ada/{quote(name)}")).code == 400
    assert not hub.servers.started


async def test_named_servers_obey_their_switch_and_their_limit(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    assert (await browser.get("/hub/spawn/ada/lab")).code == 400
    hub.settings.update(allow_named_servers=True, named_server_limit_per_user=lambda handler: 1)
    answer = await browser.get("/hub/spawn/ada/lab?display_name=My%20Lab")
    assert answer.headers["Location"] == "/hub/spawn-pending/ada/lab"
    assert (await browser.get("/hub/spawn/ada/other")).code == 400
    hub.people["ada"].set_state("lab", State.STOPPED)
    assert (await browser.get("/hub/spawn/ada/lab")).code == 302, "the limit is for new names only"


async def test_names_from_before_the_rule_are_shown_and_started_where_that_is_allowed(hub: PlayedHub) -> None:
    hub.settings["allow_named_servers"] = True
    browser = await hub.logged_in("ada")
    hub.people["ada"].set_state("Old_Name", State.STOPPED)
    assert "may have to be renamed" in text_of(await browser.get("/hub/home"))
    hub.settings["allow_existing_invalid_named_servers"] = "allow-delete"
    assert (await browser.get("/hub/spawn/ada/Old_Name")).code == 400
    hub.settings["allow_existing_invalid_named_servers"] = "allow-start"
    assert (await browser.get("/hub/spawn/ada/Old_Name")).code == 302


async def test_other_peoples_servers_are_nobodys_business(hub: PlayedHub) -> None:
    """The same answer for a person who exists and one who does not."""
    hub.person("bob")
    browser = await hub.logged_in("ada")
    for path in ("/hub/spawn/{}", "/hub/spawn-pending/{}", "/hub/user/{}/lab"):
        there, not_there = [await browser.get(path.format(name)) for name in ("bob", "nobody")]
        assert there.code == not_there.code == 404
        assert text_of(there).replace("bob", "") == text_of(not_there).replace("nobody", "")
    assert not hub.servers.started


async def test_whoever_may_start_anybodys_server_does(hub: PlayedHub) -> None:
    hub.person("bob")
    browser = await hub.logged_in("root", "servers", "access:servers")
    assert (await browser.get("/hub/spawn/bob")).headers["Location"] == "/hub/spawn-pending/bob"
    page = text_of(await browser.get("/hub/spawn-pending/bob"))
    assert "bob&#39;s server" in page and 'title="Logged in as root"' in page and 'user: "root"' in page
    assert (await browser.get("/hub/spawn/nobody")).code == 404


# Following a start


async def test_the_pending_page_follows_the_right_server(hub: PlayedHub) -> None:
    hub.settings["allow_named_servers"] = True
    browser = await hub.logged_in("ada")
    hub.people["ada"].set_state("lab", State.CONNECTING)
    hub.servers.phases = [{"phase": "preparing", "started": "2026-01-31T12:00:00+00:00", "ended": None}]
    page = text_of(await browser.get("/hub/spawn-pending/ada/lab?next=/hub/token"))
    stream = html.unescape(re.search(r'data-progress-url="([^"]*)"', page)[1])  # type: ignore[index]
    parts = urlsplit(stream)
    assert parts.path == "/hub/api/users/ada/servers/lab/progress"
    assert parse_qs(parts.query)["_xsrf"] == [browser.cookie("_xsrf")]
    assert 'data-server-name="lab"' in page and 'data-ready-url="/hub/token"' in page
    assert 'data-phase="preparing"' in page and 'class="current"' in page
    assert not hub.servers.started


async def test_a_ready_server_is_opened_without_a_detour(hub: PlayedHub) -> None:
    """Web §26, 3: the waiting address is taken for the server's own, so no counter stays in the address bar."""
    browser = await hub.logged_in("ada")
    hub.people["ada"].set_state("", State.READY)
    answer = await browser.get("/hub/spawn-pending/ada?next=%2Fhub%2Fuser%2Fada%2Flab%2Ftree%2Ffoo%3Fx%3D1")
    assert answer.headers["Location"] == "/user/ada/lab/tree/foo?x=1"
    assert (await browser.get("/hub/spawn-pending/ada")).headers["Location"] == "/user/ada/"


async def test_stopping_has_a_page_of_its_own(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    hub.people["ada"].set_state("", State.STOPPING)
    assert 'id="stop-pending"' in text_of(await browser.get("/hub/spawn-pending/ada"))


async def test_an_idle_server_is_offered_to_be_started(hub: PlayedHub) -> None:
    """Also a named one that was stopped or cancelled (web §26, 10)."""
    hub.settings["allow_named_servers"] = True
    browser = await hub.logged_in("ada")
    hub.people["ada"].set_state("lab", State.STOPPED)
    hub.people["ada"].failures["lab"] = Failure(cause="cancelled", message="cancelled")
    for path, spawn in (
        ("/hub/spawn-pending/ada", "/hub/spawn/ada"),
        ("/hub/spawn-pending/ada/lab", "/hub/spawn/ada/lab"),
    ):
        answer = await browser.get(path)
        assert answer.code == 200 and link(text_of(answer), "start") == spawn
    assert (await browser.get("/hub/spawn-pending/ada/never")).code == 404


async def test_a_failure_says_why_what_next_and_shows_the_output(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    hub.people["ada"].failures[""] = Failure(
        cause="http-timeout", message="It did not answer.", next_step="Look below.", phase="connecting", status=503
    )
    hub.servers.output = ["ImportError: <no> module"]
    answer = await browser.get("/hub/spawn-pending/ada?next=/hub/token")
    page = text_of(answer)
    assert answer.code == 503
    for text in ("It did not answer.", "Look below.", "ImportError: &lt;no&gt; module", "Start again"):
        assert text in page
    assert link(page, "start") == "/hub/spawn/ada?next=%2Fhub%2Ftoken"
    answer = await browser.get("/hub/user/ada/lab?x=1")
    assert answer.code == 303
    assert answer.headers["Location"] == "/hub/spawn-pending/ada?next=%2Fhub%2Fuser%2Fada%2Flab%3Fx%3D1"
    assert not hub.servers.started, "a failed start is never repeated unasked"


# Servers that do not run


async def test_a_deep_link_to_a_stopped_server(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    answer = await browser.get("/hub/user/ada/lab/tree/foo?x=1")
    assert answer.code == 424
    assert link(text_of(answer), "start") == "/hub/spawn/ada?next=%2Fhub%2Fuser%2Fada%2Flab%2Ftree%2Ffoo%3Fx%3D1"
    hub.settings["use_legacy_stopped_server_status_code"] = True
    assert (await browser.get("/hub/user/ada/lab")).code == 503


async def test_the_first_segment_may_name_a_server(hub: PlayedHub) -> None:
    hub.settings["allow_named_servers"] = True
    browser = await hub.logged_in("ada")
    hub.people["ada"].set_state("gpu", State.STOPPED)
    page = text_of(await browser.get("/hub/user/ada/gpu/lab"))
    assert link(page, "start").startswith("/hub/spawn/ada/gpu?")
    assert link(text_of(await browser.get("/hub/user/ada/lab")), "start").startswith("/hub/spawn/ada?")


async def stopped_json(browser: Browser, path: str, method: str = "GET", **arguments: object) -> dict[str, str]:
    answer = await browser.fetch(path, method, **arguments)
    assert answer.code == 424
    assert answer.headers["Content-Type"] == "application/json"
    found: dict[str, str] = json.loads(answer.body)
    return found


async def test_programs_are_answered_in_json(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    message = (await stopped_json(browser, "/hub/user/ada/api/status"))["message"]
    assert "/hub/user/ada/api/status" in message and f"{hub.url}/hub/spawn/ada" in message
    await stopped_json(browser, "/hub/user/ada/lab", headers={"Accept": "application/json"})
    await stopped_json(browser, "/hub/user/ada/lab", "POST", form={"_xsrf": browser.cookie("_xsrf")})
    assert (await browser.get("/hub/user/ada/lab", headers={"Accept": "*/*"})).headers["Content-Type"] == "text/html"
    assert (await browser.fetch("/hub/user/ada/x", "PUT", headers={"X-XSRFToken": browser.cookie("_xsrf")})).code == 405
    answer = await hub.browser().get("/hub/user/ada/api/status")
    assert answer.code == 302, "a stranger is asked to log in, whatever the path"


async def test_a_ready_server_is_reached_and_a_loop_is_cut(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    hub.people["ada"].set_state("", State.READY)
    for path, target in [
        ("/hub/user/ada/lab?a=1", "/user/ada/lab?a=1&redirects=1"),
        ("/hub/user/ada/lab", "/user/ada/lab?redirects=1"),
        ("/hub/user/ada/lab?redirects=abc", "/user/ada/lab?redirects=abc&redirects=1"),
    ]:
        assert (await browser.get(path)).headers["Location"] == target
    assert (await browser.get("/hub/user/ada/lab?redirects=4")).code == 500
    hub.settings["user_redirect_limit"] = 2
    assert (await browser.get("/hub/user/ada/lab?redirects=2")).code == 500


async def test_a_guest_is_not_offered_what_only_the_owner_can_do(hub: PlayedHub) -> None:
    """Web §26, 13."""
    hub.person("bob")
    browser = await hub.logged_in("ada", "access:servers!server=bob/")
    answer = await browser.get("/hub/user/bob/lab")
    page = text_of(answer)
    assert answer.code == 424 and 'id="start"' not in page and "belongs to bob" in page
    assert 'title="Logged in as ada"' in page


async def test_user_redirect_is_a_link_for_everybody(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    for path, target in [
        ("/hub/user-redirect/lab/tree/a%20b.ipynb?x=1&y=%2F", "/user/ada/lab/tree/a b.ipynb?x=1&y=%2F"),
        ("/hub/user-redirect/", "/user/ada/"),
        ("/hub/user-redirect//evil.com/", "/user/ada/evil.com/"),
    ]:
        answer = await browser.get(path)
        parts = urlsplit(answer.headers["Location"])
        assert (answer.code, parts.path) == (302, "/hub/spawn/ada")
        assert parse_qs(parts.query) == {"next": [target]}
    hub.settings.update(allow_named_servers=True, default_server_name="main")
    location = (await browser.get("/hub/user-redirect/lab")).headers["Location"]
    assert location == "/hub/spawn/ada/main?next=%2Fuser%2Fada%2Fmain%2Flab"
    hub.settings["user_redirect_hook"] = lambda path, request, user, base_url: f"{base_url}hub/{path}?u={user.name}"
    assert (await browser.get("/hub/user-redirect/x")).headers["Location"] == "/hub/x?u=ada"
    assert (await browser.get("/hub/user-redirect")).code == 404


async def test_requests_for_servers_are_no_activity_and_pages_are(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    hub.activity.users.clear()
    await browser.get("/hub/user/ada/lab")
    assert not hub.activity.users
    await browser.get("/hub/token")
    assert hub.activity.users == [hub.people["ada"].id]
