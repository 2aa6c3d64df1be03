"""What a person sees, in a real browser: log in, start, watch, work in JupyterLab, log out. Every page passes axe."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .hub_process import HubProcess

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian's package is called chromium)"),
]

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]

CONFIG = f"""
c.JupyterHub.allow_named_servers = True
c.Spawner.cmd = [{str(Path(sys.executable).parent / "jupyterhub-singleuser")!r}]
c.Spawner.args = ["--allow-root"] if {os.geteuid() == 0} else []
c.Spawner.http_timeout = 90
c.Authenticator.admin_users = {{"root-of-trust"}}
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    hub = HubProcess(tmp_path_factory.mktemp("browser"), CONFIG)
    hub.start()
    yield hub
    hub.clean_up()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Visit:
    """One browser context that remembers what must not happen: console errors, requests to other hosts."""

    def __init__(self, hub: HubProcess, chromium: Any, **context: Any) -> None:
        self.hub = hub
        self.context = chromium.new_context(base_url=hub.url, **context)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.console: list[str] = []
        self.foreign: list[str] = []
        self.page.on("console", lambda message: self._note(message))
        self.page.on("pageerror", lambda error: self.console.append(f"page error: {error}"))
        self.page.on("request", lambda request: self._see(request.url))

    def _note(self, message: Any) -> None:
        if message.type == "error":
            self.console.append(f"{message.text} ({message.location.get('url', '')})")

    def _see(self, url: str) -> None:
        if url.startswith(("http:", "https:", "ws:", "wss:")) and f"127.0.0.1:{self.hub.port}/" not in url:
            self.foreign.append(url)

    def log_in(self, name: str, password: str = "any") -> None:
        self.page.goto("/hub/login")
        self.page.fill("#username_input", name)
        self.page.fill("#password_input", password)
        self.page.click("#login_submit")

    def check_accessibility(self, what: str) -> None:
        from axe_playwright_python.sync_playwright import Axe

        results = Axe().run(self.page)
        assert results.violations_count == 0, f"axe on {what}:\n{results.generate_report()}"

    def assert_clean(self) -> None:
        assert not self.console, f"console errors: {self.console}"
        assert not self.foreign, f"requests to other hosts: {self.foreign}"


@pytest.fixture
def visit(hub: HubProcess, chromium: Any) -> Iterator[Visit]:
    visit = Visit(hub, chromium)
    yield visit
    visit.context.close()


def open_notebook(page: Any) -> None:
    """In JupyterLab with its launcher open: a new notebook with a kernel."""
    page.click(".jp-LauncherCard[data-category='Notebook'] >> nth=0", timeout=120_000)
    page.wait_for_selector(".jp-Notebook .jp-Cell .cm-content", timeout=120_000)
    page.wait_for_selector(".jp-NotebookPanel .jp-Notebook-ExecutionIndicator[data-status='idle']", timeout=120_000)


def compute(page: Any, expression: str, result: str) -> None:
    """Let the first cell of the open notebook compute something."""
    from playwright.sync_api import TimeoutError as PlaywrightTimeout

    cell = page.locator(".jp-Notebook .jp-Cell .cm-content").first
    for _ in range(10):
        # JupyterLab moves the focus about while it settles; what was typed has to be where it was meant to go.
        cell.click()
        page.keyboard.press("Control+A")
        page.keyboard.type(expression)
        if cell.inner_text().strip() == expression:
            break
    assert cell.inner_text().strip() == expression
    output = page.locator(f".jp-OutputArea-output:has-text('{result}')").first
    for _ in range(20):
        # JupyterLab says "idle" before it is connected to the kernel, and runs nothing until then; a person tries again.
        cell.click()
        page.keyboard.press("Control+Enter")
        try:
            output.wait_for(timeout=5_000)
            break
        except PlaywrightTimeout:
            continue
    assert output.is_visible()


def test_log_in_start_run_a_cell_and_log_out(visit: Visit, hub: HubProcess) -> None:
    """The main job, end to end; the old cookies are dead after log-out."""
    page = visit.page
    page.goto("/hub/login")
    visit.check_accessibility("log-in")
    visit.log_in("ada")
    # The server starts at once; the pending page tells how far it is until JupyterLab takes over.
    page.wait_for_url("**/hub/spawn-pending/**")
    page.wait_for_selector("#phases li, #progress-message")
    visit.check_accessibility("pending")
    page.wait_for_url("**/user/ada/lab**", timeout=120_000)
    page.wait_for_selector("#jp-main-dock-panel", timeout=120_000)
    # JupyterLab itself asks for news and logs what it likes; the Hub's pages are what is held to silence.
    lab_errors = list(visit.console)
    visit.console.clear()
    open_notebook(page)
    compute(page, "6*7", "42")
    assert not [text for text in lab_errors if "/hub/" in text], lab_errors
    visit.console.clear()

    # Home shows what runs.
    page.goto("/hub/home")
    visit.check_accessibility("home")
    assert page.locator("#stop").is_visible()
    assert page.locator("a[href*='/user/ada']").first.is_visible()

    cookies = {
        cookie["name"]: cookie["value"] for cookie in visit.context.cookies() if cookie["path"].startswith("/hub")
    }
    assert cookies
    page.click("#logout")
    page.wait_for_url("**/hub/login**")
    visit.assert_clean()
    old = "; ".join(f"{name}={value}" for name, value in cookies.items())
    answer = hub.request("GET", "/hub/home", headers={"Cookie": old})
    assert answer.status == 302, "the cookies of before the log-out still open the home page"
    assert "/hub/login" in answer.headers["Location"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_is_accessible(hub: HubProcess, chromium: Any, scheme: str, width: int) -> None:
    """No violation on any page, light and dark, on a desk and on a phone; no console error, no foreign request."""
    visit = Visit(hub, chromium, color_scheme=scheme, viewport={"width": width, "height": 844})
    page = visit.page
    try:
        page.goto("/hub/login")
        visit.check_accessibility("log-in")
        name = f"grace-{scheme}-{width}"
        page.goto("/hub/login?next=%2Fhub%2Fhome")
        page.fill("#username_input", name)
        page.fill("#password_input", "any")
        page.click("#login_submit")
        page.wait_for_url("**/hub/home")
        for path in ("/hub/home", "/hub/token", f"/hub/spawn-pending/{name}"):
            page.goto(path)
            visit.check_accessibility(path)
        visit.assert_clean()
        for path in ("/hub/not-a-page", f"/hub/user/{name}/lab", "/hub/error/503"):
            page.goto(path)
            visit.check_accessibility(path)
            overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overflow <= 0, f"{path} scrolls sideways by {overflow}px at width {width}"
    finally:
        visit.context.close()


def test_the_log_in_page_works_by_keyboard(visit: Visit) -> None:
    """Name, password, Enter: no mouse needed."""
    page = visit.page
    page.goto("/hub/login?next=%2Fhub%2Fhome")
    page.focus("#username_input")
    page.keyboard.type("keyboard-user")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "password_input"
    page.keyboard.type("any")
    page.keyboard.press("Enter")
    page.wait_for_url("**/hub/home")


def test_a_named_server_is_made_and_removed_from_home(visit: Visit, hub: HubProcess) -> None:
    """A person adds a server by name, sees it run, stops and deletes it."""
    page = visit.page
    page.goto("/hub/login?next=%2Fhub%2Fhome")
    page.fill("#username_input", "named-person")
    page.fill("#password_input", "any")
    page.click("#login_submit")
    page.wait_for_url("**/hub/home")
    page.fill("#new-server-name", "lab")
    page.keyboard.press("Enter")
    hub.wait_ready("named-person", "lab", timeout=120)
    page.goto("/hub/home")
    assert page.locator("text=lab").first.is_visible()
    visit.check_accessibility("home with a named server")
    hub.api("DELETE", "/users/named-person/servers/lab", {"remove": True})
    hub.wait_stopped("named-person", "lab")
    visit.assert_clean()
