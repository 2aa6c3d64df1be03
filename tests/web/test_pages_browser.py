"""The pages in a real browser, over a played runtime: every state of a server, light and dark, desk and phone."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tornado import web

from jupyterhub.core.lifecycle import Failure, State

from .fakes import NOW, AskingSpawner, PlainSpawner, PlayedHub, token_record

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(180),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian's package is called chromium)"),
]

PHASES = [
    {"phase": "preparing", "started": "2026-01-31T12:00:00+00:00", "ended": "2026-01-31T12:00:00.4+00:00"},
    {"phase": "connecting", "started": "2026-01-31T12:00:00.4+00:00", "ended": None},
]
EVENTS: list[dict[str, Any]] = [
    {"progress": 0, "message": "Server requested"},
    {"phase": "connecting", "phases": PHASES},
    {"log": ["a line of the server's output"]},
    {"progress": 50, "message": "Half way"},
]
FAILED = {
    "progress": 100,
    "failed": True,
    "message": "It did not answer",
    "failure": {
        "cause": "port-never-opened",
        "title": "The server did not answer in time",
        "message": "It did not answer within 30 seconds.",
        "next_step": "Look at the log.",
    },
    "phases": [*PHASES[:1], {**PHASES[1], "ended": "2026-01-31T12:00:31+00:00"}],
    "log": ["the second last line", "the last line"],
}


class Progress(web.RequestHandler):
    """An event stream: `fails` ends in a failure, `gets-ready` in a ready server, others stay open."""

    async def get(self, server: str) -> None:
        self.set_header("Content-Type", "text/event-stream")
        last = {"fails": [FAILED], "gets-ready": [{"progress": 100, "ready": True, "url": "/user/ada/gets-ready/"}]}
        for event in [*EVENTS, *last.get(server, [])]:
            self.write(f"data: {json.dumps(event)}\n\n")
            await self.flush()
        closed = asyncio.Event()
        self.on_connection_close = closed.set  # type: ignore[method-assign]
        await closed.wait()


class Deletion(web.RequestHandler):
    """Stops a server of the played Hub as the API would."""

    hub: PlayedHub

    def delete(self) -> None:
        self.hub.people["ada"].set_state("", State.STOPPED)
        self.set_status(204)


class Users(web.RequestHandler):
    """One page of users, as the API gives it."""

    def get(self) -> None:
        server = {"name": "", "ready": True, "pending": None, "url": "/user/ada/", "started": NOW.isoformat()}
        broken = {"name": "broken", "ready": False, "pending": None, "failure": {"message": "It did not answer."}}
        ada = {"name": "ada", "admin": True, "last_activity": None, "servers": {"": server, "broken": broken}}
        self.finish({"items": [ada], "_pagination": {"offset": 0, "limit": 50, "total": 1, "next": None}})


@pytest.fixture
async def stage() -> AsyncIterator[PlayedHub]:
    """A played Hub whose person ada has a server in every state."""
    hub = PlayedHub(allow_named_servers=True)
    rules = hub.rules()
    Deletion.hub = hub
    hub.rules = lambda: [  # type: ignore[method-assign]
        (r"/hub/api/users/ada/servers/([^/]+)/progress", Progress),
        (r"/hub/api/users/ada/server", Deletion),
        (r"/hub/api/users", Users),
        *rules,
    ]
    await hub.serve()
    ada = hub.person("ada", "admin-ui")
    states = {"": State.READY, "lab": State.STOPPED, "starts": State.CONNECTING, "stops": State.STOPPING}
    for name, state in {**states, "fails": State.CONNECTING, "broken": State.STOPPED}.items():
        ada.set_state(name, state)
    ada.failures["broken"] = Failure(
        cause="port-never-opened", message="It did not answer.", next_step="Look below.", phase="connecting", status=500
    )
    hub.servers.phases, hub.servers.output = PHASES, ["ImportError: no module"]
    hub.token_records = [token_record(1, "script"), token_record(2, "x", "service-x", client_description="Grader")]
    yield hub
    await hub.close()


@pytest.fixture
async def chromium() -> AsyncIterator[Any]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield browser
        await browser.close()


class Visit:
    """A page that remembers what must not happen: errors on the console, requests to other hosts."""

    def __init__(self, hub: PlayedHub, page: Any) -> None:
        self.hub, self.page = hub, page
        self.problems: list[str] = []
        page.on("console", lambda message: self._note(message))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self._see(request.url))

    def _note(self, message: Any) -> None:
        # That a page has an error status is said by every browser.
        if message.type == "error" and "the server responded with a status of" not in message.text:
            self.problems.append(message.text)

    def _see(self, url: str) -> None:
        if not url.startswith((self.hub.url, "data:")):
            self.problems.append(f"request to {url}")

    async def log_in(self, next_url: str = "/hub/home") -> None:
        await self.page.goto(f"{self.hub.url}/hub/login?next={next_url}")
        await self.page.fill("#username_input", "ada")
        await self.page.fill("#password_input", "pw")
        await self.page.click("#login_submit")
        await self.page.wait_for_url(f"**{next_url}")

    async def look(self, path: str, wait_for: str = "main h1") -> None:
        """Open a page; nothing may be wrong with it for axe, and it may not scroll sideways."""
        from axe_playwright_python.async_playwright import Axe

        await self.page.goto(self.hub.url + path)
        await self.page.wait_for_selector(wait_for)
        results = await Axe().run(self.page)
        assert results.violations_count == 0, f"{path}:\n{results.generate_report()}"
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert await self.page.evaluate(wide) <= 0, f"{path} scrolls sideways"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390), ("light", 390), ("dark", 1280)])
async def test_every_page_is_accessible(stage: PlayedHub, chromium: Any, scheme: str, width: int) -> None:
    page = await chromium.new_page(color_scheme=scheme, viewport={"width": width, "height": 844})
    visit = Visit(stage, page)
    await visit.look("/hub/login")
    await visit.log_in()
    await visit.look("/hub/home", ".home-server-row")
    await visit.look("/hub/token")
    await visit.look("/hub/admin", "#admin-table tbody tr")
    await visit.look("/hub/spawn-pending/ada/starts", ".progress-log-event >> nth=1")
    await visit.look("/hub/spawn-pending/ada/fails", "#failure:not([hidden])")
    await visit.look("/hub/spawn-pending/ada/stops")
    await visit.look("/hub/spawn-pending/ada/broken", "pre.log")
    await visit.look("/hub/spawn-pending/ada/lab", "#start")
    await visit.look("/hub/user/ada/lab/tree")
    await visit.look("/hub/not-there")
    await visit.look("/hub/error/503")
    stage.settings["spawner_class"] = AskingSpawner
    stage.people["ada"].spawners.clear()
    await visit.look("/hub/spawn/ada/lab", "#mode")
    assert visit.problems == []


async def test_the_pending_page_tells_phases_log_and_end(stage: PlayedHub, chromium: Any) -> None:
    visit = Visit(stage, await chromium.new_page())
    await visit.log_in("/hub/spawn-pending/ada/starts")
    page = visit.page
    await page.wait_for_selector('#progress-log :text("a line of the server\'s output")')
    await page.wait_for_selector("#phases li.done:has-text('Preparing'):has-text('0.4 s')")
    assert await page.get_attribute("#progress-bar-frame", "aria-valuenow") == "50"
    await page.goto(f"{stage.url}/hub/spawn-pending/ada/fails")
    await page.wait_for_selector("#failure:has-text('within 30 seconds.'):has-text('Look at the log.')")
    assert await page.inner_text("h1") == "The server did not answer in time"
    assert await page.inner_text("#phases li.failed .phase-time") == "30.6 s"
    # What was seen of the output so far is replaced by its end, what the Hub told stays.
    told = [FAILED["message"], "Half way", "Server requested"]
    lines = (await page.inner_text("#progress-log")).splitlines()
    assert [line for line in lines if line not in told] == ["the second last line", "the last line"]
    assert "Half way" in lines
    assert await page.evaluate("document.activeElement.id") == "start-again"
    stage.people["ada"].set_state("gets-ready", State.CONNECTING)
    await page.goto(f"{stage.url}/hub/spawn-pending/ada/gets-ready?next=/hub/token")
    await page.wait_for_url("**/hub/token")
    assert visit.problems == []


async def test_the_admin_page_leads_to_the_explanation_of_a_failure(stage: PlayedHub, chromium: Any) -> None:
    visit = Visit(stage, await chromium.new_page())
    await visit.log_in("/hub/admin")
    row = visit.page.locator("#admin-table tr:has-text('broken')")
    assert await row.locator(".badge").inner_text() == "failed"
    await row.locator("a:has-text('What happened')").click()
    await visit.page.wait_for_selector("h1:has-text('The server did not answer in time')")
    assert visit.problems == []


async def test_a_failure_is_shown_while_what_was_begun_is_cleared_away(stage: PlayedHub, chromium: Any) -> None:
    """The page notices by itself when the server can be started again."""
    stage.people["ada"].set_state("broken", State.UNDOING)
    visit = Visit(stage, await chromium.new_page())
    await visit.log_in("/hub/spawn-pending/ada/broken")
    await visit.page.wait_for_selector("h1:has-text('The server did not answer in time')")
    await visit.page.wait_for_selector("#clearing-away")
    assert await visit.page.query_selector("#start") is None
    stage.people["ada"].set_state("broken", State.STOPPED)
    await visit.page.wait_for_selector("#start:has-text('Start again')")
    assert visit.problems == []


async def test_a_server_is_stopped_from_home_in_place(stage: PlayedHub, chromium: Any) -> None:
    visit = Visit(stage, await chromium.new_page())
    await visit.log_in()
    await visit.page.click("#stop")
    await visit.page.wait_for_selector("#default-server[data-state=stopped] #start:has-text('Start my server')")
    await visit.page.wait_for_selector(".toast")
    assert visit.problems == []


async def test_the_theme_is_chosen_and_kept(stage: PlayedHub, chromium: Any) -> None:
    """System, light, dark, and back to the system; the choice holds on the next page."""
    page = await chromium.new_page(color_scheme="dark")
    theme = "document.documentElement.dataset.bsTheme"
    await page.goto(f"{stage.url}/hub/login")
    assert await page.evaluate(theme) == "dark"
    await page.click("#dark-theme-toggle")
    await page.reload()
    assert await page.evaluate(theme) == "light"
    await page.click("#dark-theme-toggle")
    await page.click("#dark-theme-toggle")
    assert await page.evaluate("localStorage.getItem('jupyterhub-bs-theme')") is None


SCRIPT = """<output id="loaded"></output><script>
require(["jquery", "moment", "jhapi", "utils", "bootstrap"], function ($, moment, JHAPI, utils, bootstrap) {
  var api = new JHAPI(window.jhdata.base_url);
  var found = [typeof moment(), typeof api.start_server, utils.url_path_join("/a/", "b"), typeof bootstrap.Modal];
  $("#loaded").text(found);
});
</script>"""


class ScriptedSpawner(PlainSpawner):
    """Its form has a script that was written for an AMD loader."""

    options_form = SCRIPT


ScriptedSpawner.get_options_form = AskingSpawner.get_options_form  # type: ignore[method-assign]


async def test_scripts_for_an_amd_loader_get_what_they_ask_for(stage: PlayedHub, chromium: Any, tmp_path: Path) -> None:
    """ARCHITECTURE §9: in an option form, and in a template of a deployment that uses `$` at once."""
    stage.settings["spawner_class"] = ScriptedSpawner
    visit = Visit(stage, await chromium.new_page())
    await visit.log_in("/hub/spawn/ada/lab")
    await visit.page.wait_for_selector("#loaded:has-text('object,function,/a/b,function')")
    (tmp_path / "page.html").write_text(
        '{% extends "templates/page.html" %}{% block script %}{{ super() }}<script>$("body").attr("data-early", "yes");'
        '</script><script>require(["jquery"], function ($) { $("body").attr("data-late", "yes"); });</script>'
        "{% endblock %}"
    )
    other = PlayedHub(template_paths=[str(tmp_path)])
    await other.serve()
    try:
        page = visit.page
        await page.goto(f"{other.url}/hub/login")
        await page.wait_for_selector("body[data-early=yes][data-late=yes]")
    finally:
        await other.close()
    assert [problem for problem in visit.problems if not problem.startswith("request to http://127.0.0.1")] == []
