"""Our single-user server under a Hub of JupyterHub 6.1.1: everything a person does works there."""

from __future__ import annotations

import json
import os
import re
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket

from .hub_process import HubProcess, wait_for
from .upstream import NotAvailable, upstream_environment

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]


def make_hub(directory: Path, extension: str, more: str = "") -> HubProcess:
    """Start a Hub of 6.1.1 that starts our server, as extension ("1") or as wrapped application ("0")."""
    try:
        upstream = upstream_environment()
    except NotAvailable as reason:
        pytest.skip(f"NOT RUN, as JupyterHub 6.1.1 could not be had: {reason}")
    command = str(Path(sys.executable).parent / "jupyterhub-singleuser")
    arguments = ["--allow-root"] if os.geteuid() == 0 else []
    config = f"""
c.ConfigurableHTTPProxy.command = ["{upstream.proxy}"]
c.Spawner.cmd = ["{command}"]
c.Spawner.args = {arguments!r}
c.Spawner.environment = {{
    "JUPYTERHUB_SINGLEUSER_EXTENSION": "{extension}",
    "JUPYTERHUB_ACTIVITY_INTERVAL": "1",
}}
c.Spawner.http_timeout = 60
c.Authenticator.admin_users = {{"root-of-it-all"}}
{more}
"""
    process = HubProcess(directory, config, bin_dir=upstream.bin)
    process.start(wait=False)
    return process


@pytest.fixture(scope="module", params=["extension", "wrapped"])
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A running Hub of 6.1.1 with our single-user server in one of its forms."""
    process = make_hub(tmp_path_factory.mktemp("upstream-hub"), "1" if request.param == "extension" else "0")
    try:
        process.wait_until_up(120)
        yield process
    finally:
        process.clean_up()


class Browser:
    """Cookies and redirects of one person."""

    def __init__(self, hub: HubProcess, name: str) -> None:
        self.hub, self.name = hub, name
        self.session = requests.Session()

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(self.hub.url + path, timeout=60, **options)

    def log_in(self) -> None:
        page = self.get("/hub/login")
        token = next(cookie.value for cookie in self.session.cookies if cookie.name == "_xsrf")
        assert page.status_code == 200
        answer = self.session.post(
            f"{self.hub.url}/hub/login?next=%2Fhub%2Fhome",
            data={"username": self.name, "password": "x", "_xsrf": token},
            timeout=60,
        )
        assert answer.status_code == 200, answer.text[:500]

    def page_config(self, name: str) -> dict[str, Any]:
        page = self.get(f"/user/{name}/lab")
        assert page.status_code == 200, page.text[:1000]
        found = re.search(r'<script id="jupyter-config-data" type="application/json">(.*?)</script>', page.text, re.S)
        assert found, page.text[:1000]
        config: dict[str, Any] = json.loads(found[1])
        return config


@pytest.fixture
def ada(hub: HubProcess) -> Browser:
    """Somebody who is logged in and whose server is ready."""
    browser = Browser(hub, "ada")
    browser.log_in()
    if not (hub.server("ada") or {}).get("ready"):
        assert hub.start_server("ada").status in {201, 202}
        hub.wait_ready("ada", timeout=120)
    return browser


def test_a_person_lands_in_jupyterlab_and_runs_a_cell(hub: HubProcess, ada: Browser) -> None:
    """Log-in, OAuth, JupyterLab with the Hub's settings, a kernel over a WebSocket with the page's token."""
    config = ada.page_config("ada")
    assert config["hubUser"] == config["hubServerUser"] == "ada"
    assert config["hubPrefix"] == "/hub/"
    assert config["baseUrl"] == "/user/ada/"
    token = config["token"]
    assert token

    base = f"{hub.url}/user/ada"
    headers = {"Authorization": f"token {token}"}
    me = requests.get(f"{base}/api/me", headers=headers, timeout=30).json()
    assert me["identity"]["username"] == "ada"
    kernel = requests.post(f"{base}/api/kernels", headers=headers, json={}, timeout=60)
    assert kernel.status_code == 201, kernel.text
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in ada.session.cookies)
    socket = websocket.create_connection(
        f"{base.replace('http', 'ws', 1)}/api/kernels/{kernel.json()['id']}/channels",
        cookie=cookies,
        timeout=60,
    )
    try:
        assert run_cell(socket, "print(6*7)").strip() == "42"
    finally:
        socket.close()
    removed = requests.delete(f"{base}/api/kernels/{kernel.json()['id']}", headers=headers, timeout=60)
    assert removed.status_code == 204


def run_cell(socket: websocket.WebSocket, code: str) -> str:
    """Run code in a kernel and return what it printed."""
    session = uuid.uuid4().hex
    header = {
        "msg_id": uuid.uuid4().hex,
        "username": "",
        "session": session,
        "msg_type": "execute_request",
        "version": "5.3",
        "date": "2020-01-01T00:00:00Z",
    }
    socket.send(
        json.dumps(
            {
                "header": header,
                "parent_header": {},
                "metadata": {},
                "channel": "shell",
                "buffers": [],
                "content": {
                    "code": code,
                    "silent": False,
                    "store_history": False,
                    "user_expressions": {},
                    "allow_stdin": False,
                    "stop_on_error": True,
                },
            }
        )
    )
    printed = ""
    while True:
        message = json.loads(socket.recv())
        if message["parent_header"].get("msg_id") != header["msg_id"]:
            continue
        if message["msg_type"] == "stream":
            printed += message["content"]["text"]
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return printed


def test_another_person_is_refused(hub: HubProcess, ada: Browser) -> None:
    """The Hub refuses the log-in, the server refuses the token: over HTTP and for a WebSocket."""
    eve = Browser(hub, "eve")
    eve.log_in()
    assert eve.get("/user/ada/lab").status_code == 403
    token = hub.api("POST", "/users/eve/tokens", {}).json()["token"]
    headers = {"Authorization": f"token {token}"}
    assert requests.get(f"{hub.url}/user/ada/api/contents", headers=headers, timeout=30).status_code == 403
    with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
        websocket.create_connection(
            f"{hub.url.replace('http', 'ws', 1)}/user/ada/api/events/subscribe", header=headers, timeout=30
        )
    assert refusal.value.status_code == 403


def test_activity_reaches_the_hub(hub: HubProcess, ada: Browser) -> None:
    """The server says when it was last used."""
    token = ada.page_config("ada")["token"]
    before = (hub.server("ada") or {})["last_activity"]
    headers = {"Authorization": f"token {token}"}
    requests.get(f"{hub.url}/user/ada/api/contents", headers=headers, timeout=30)
    wait_for(lambda: (hub.server("ada") or {})["last_activity"] > before, f"newer activity than {before}", 20)


def test_the_versions_fit(hub: HubProcess, ada: Browser) -> None:
    """Neither side warns that the other is of a different version."""
    warnings = [line for line in hub.log_path.read_text().splitlines() if re.match(r"\[[WE] ", line)]
    assert [line for line in warnings if re.search(r"version\b.*(hub|single-?user)", line, re.I)] == []


def test_log_out_ends_the_session_on_the_server(hub: HubProcess, ada: Browser) -> None:
    """The server's log-out leads to the Hub's, and the page needs a log-in afterwards."""
    token = ada.page_config("ada")["token"]
    ada.get("/user/ada/logout")
    answer = ada.get("/user/ada/lab")
    assert "/hub/login" in answer.url
    assert (
        requests.get(f"{hub.url}/hub/api/user", headers={"Authorization": f"token {token}"}, timeout=30).status_code
        == 403
    )


def test_a_server_stops_when_the_hub_says_so(hub: HubProcess, ada: Browser) -> None:
    """Stop leaves no process."""
    pid = next(p.pid for p in hub.processes() if "jupyterhub-singleuser" in " ".join(p.cmdline()))
    assert hub.stop_server("ada").status in {202, 204}
    hub.wait_stopped("ada")
    wait_for(lambda: pid not in {p.pid for p in hub.processes()}, f"process {pid} has ended", 20)


def test_internal_tls(tmp_path: Path) -> None:
    """With certificates between Hub, proxy and server a person gets in as before."""
    process = make_hub(
        tmp_path,
        "1",
        f"""
c.ConfigurableHTTPProxy.api_url = c.ConfigurableHTTPProxy.api_url.replace("http:", "https:")
c.JupyterHub.internal_ssl = True
c.JupyterHub.internal_certs_location = "{tmp_path}/certificates"
""",
    )
    try:
        process.wait_until_up(120)

        def ask(method: str, path: str, token: str = process.token) -> Any:
            return process.request(method, path, {} if method == "POST" else None, token=token)

        assert ask("POST", "/hub/api/users/ada").status == 201
        assert ask("POST", "/hub/api/users/ada/server").status in {201, 202}
        servers = "/hub/api/users/ada"
        wait_for(lambda: ask("GET", servers).json()["servers"].get("", {}).get("ready"), "a ready server", 60, 0.2)
        token = ask("POST", "/hub/api/users/ada/tokens").json()["token"]
        me = ask("GET", "/user/ada/api/me", token)
        assert me.status == 200, me
        assert me.json()["identity"]["username"] == "ada"
    finally:
        process.clean_up()
