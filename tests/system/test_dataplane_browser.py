"""The page a person sees while a server is away, in a real browser."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.system.dataplane_program import OURS, TOKEN, blocking_program, free_port

from .hub_process import HubProcess, wait_for
from .test_browser import ARGUMENTS, CONFIG, compute, open_notebook
from .test_dataplane_tls import Authority

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian's package is called chromium)"),
]


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!DOCTYPE html><title>Here</title><p id=here>here it is")

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def site(port: int) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", port), _Page)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def add_route(api: int, path: str, **body: Any) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{api}/api/routes{path}",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"token {TOKEN}"},
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 201


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible(chromium: Any, tmp_path: Path, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    with blocking_program(tmp_path) as (port, api):
        add_route(api, "/user/ada", target="http://127.0.0.1:1")
        add_route(api, "/hub", target="http://127.0.0.1:1", hub=True)
        page = chromium.new_page(color_scheme=scheme, viewport={"width": 390, "height": 844})
        for path in ("/user/ada", "/hub", "/nothing"):
            page.goto(f"http://127.0.0.1:{port}{path}")
            results = Axe().run(page)
            assert results.violations_count == 0, f"axe on {path}:\n{results.generate_report()}"
        page.close()


@pytest.mark.parametrize("javascript", [True, False])
def test_page_opens_by_itself_when_the_server_is_back(chromium: Any, tmp_path: Path, javascript: bool) -> None:
    behind = free_port()
    with blocking_program(tmp_path) as (port, api):
        add_route(api, "/", target=f"http://127.0.0.1:{behind}")
        context = chromium.new_context(java_script_enabled=javascript)
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        assert page.title() == "Not available at the moment"
        with site(behind):
            page.wait_for_selector("#here", timeout=30_000)
        context.close()


def test_jupyterlab_through_tls_and_two_workers(chromium: Any, tmp_path: Path) -> None:
    """A notebook computes over wss, and goes on when the certificate is replaced under it."""
    key, certificate = Authority(tmp_path, "authority").issue("public")
    hub = HubProcess(tmp_path / "hub", CONFIG)
    hub.url = f"https://127.0.0.1:{hub.port}"
    with hub.config_path.open("a") as config:
        config.write(f"""
c.JupyterHub.bind_url = "{hub.url}"
c.JupyterHub.ssl_key = "{key}"
c.JupyterHub.ssl_cert = "{certificate}"
c.ConfigurableHTTPProxy.command = {[*OURS, "--workers", "2"]!r}
""")
    hub.start(wait=False)
    context = chromium.new_context(base_url=hub.url, ignore_https_errors=True)
    try:
        wait_for(lambda: _accepts(hub.port) and _accepts(hub.hub_port), f"it runs\n{hub.log_tail()}", 60)
        page = context.new_page()
        opened: list[str] = []
        closed: list[str] = []

        def follow(connection: Any) -> None:
            opened.append(connection.url)
            connection.on("close", lambda _: closed.append(connection.url))

        page.on("websocket", follow)
        page.goto("/hub/login")
        page.fill("#username_input", "ada")
        page.fill("#password_input", "any")
        page.click("#login_submit")
        page.wait_for_url("**/user/ada/lab**", timeout=120_000)
        page.wait_for_selector("#jp-main-dock-panel", timeout=120_000)
        open_notebook(page)
        compute(page, "6*7", "42")
        closed.clear()
        Authority(tmp_path, "authority").issue("public")
        os.kill(int((tmp_path / "hub/proxy.pid").read_text()), signal.SIGHUP)
        wait_for(lambda: "Certificates read again" in hub.log_tail(200), "the new certificate is in use", 20)
        compute(page, "7*8", "56")
        # The kernel's WebSocket is the one from before.
        assert opened and not closed
    finally:
        context.close()
        hub.clean_up()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
