"""Services of the configuration: what they are told, how they are reached, how they live and end (services-and-proxy A)."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from ..dispositions import inherited, signals_of
from .hub_process import free_port, wait_for
from .test_command_line import Shell

PROGRAM = '''
import http.server, json, os, sys
from urllib.parse import urlsplit

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"env": dict(os.environ), "path": self.path, "pid": os.getpid(), "cwd": os.getcwd()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

where = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
http.server.HTTPServer((where.hostname, where.port), Handler).serve_forever()
'''


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    found = Shell(tmp_path)
    (tmp_path / "service.py").write_text(PROGRAM)
    yield found
    found.close()
    for process in service_processes(tmp_path):
        process.kill()


def service_processes(directory: Path) -> list[psutil.Process]:
    """Return the processes that run the program of this directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(directory / "service.py") in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def address(shell: Shell) -> str:
    """Return the public address from the configuration."""
    text = (shell.directory / "jupyterhub_config.py").read_text()
    return text.split('bind_url = "')[1].split('"')[0]


def with_service(shell: Shell, **more: Any) -> int:
    """Configure a managed service named `web`. Returns its port."""
    port = free_port()
    service = {
        "name": "web",
        "url": f"http://127.0.0.1:{port}",
        "command": [sys.executable, str(shell.directory / "service.py")],
        "environment": {"COLOUR": "blue"},
        **more,
    }
    shell.configure(f"c.JupyterHub.services = [{service!r}]\n")
    return port


def test_a_managed_service_knows_its_place_and_is_reached_there(shell: Shell):
    port = with_service(shell, api_token="t" * 32, cwd=str(shell.directory))
    hub = shell.start()
    answer = requests.get(f"{address(shell)}/services/web/x?y=1", timeout=10).json()
    environment = answer["env"]
    assert answer["path"] == "/services/web/x?y=1" and answer["cwd"] == str(shell.directory)
    wanted = {
        "COLOUR": "blue",
        "JUPYTERHUB_SERVICE_NAME": "web",
        "JUPYTERHUB_SERVICE_PREFIX": "/services/web/",
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}",
        "JUPYTERHUB_API_TOKEN": "t" * 32,
        "JPY_API_TOKEN": "t" * 32,
        "JUPYTERHUB_CLIENT_ID": "service-web",
        "JUPYTERHUB_OAUTH_CALLBACK_URL": "/services/web/oauth_callback",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_HOST": "",
        "JUPYTERHUB_SERVER_NAME": "",
        "JUPYTERHUB_USER": "",
    }
    assert {name: environment.get(name) for name in wanted} == wanted
    assert json.loads(environment["JUPYTERHUB_OAUTH_ACCESS_SCOPES"]) == [
        "access:services", "access:services!service=web",
    ]
    assert "JUPYTERHUB_ACTIVITY_URL" not in environment and "CONFIGPROXY_AUTH_TOKEN" not in environment
    identity = requests.get(
        environment["JUPYTERHUB_API_URL"] + "/user", headers={"Authorization": f"token {'t' * 32}"}, timeout=10
    ).json()
    assert (identity["kind"], identity["name"]) == ("service", "web")
    hub.send_signal(signal.SIGTERM)
    assert hub.wait(30) == 0
    assert not service_processes(shell.directory)


def test_what_a_hub_in_the_background_ignores_its_services_and_its_proxy_hear(shell: Shell):
    with_service(shell)
    ignored = {signal.SIGINT, signal.SIGQUIT, signal.SIGHUP}
    with inherited(ignored=ignored):
        hub = shell.start()
    assert signals_of(hub.pid, "SigIgn") >= {signal.SIGHUP, signal.SIGQUIT}
    proxy = int((shell.directory / "jupyterhub-proxy.pid").read_text())
    service = service_processes(shell.directory)[0].pid
    assert not signals_of(proxy, "SigIgn") & ignored and not signals_of(service, "SigIgn") & ignored
    hub.send_signal(signal.SIGTERM)
    assert hub.wait(30) == 0
    assert not service_processes(shell.directory)


def test_a_service_that_ends_at_once_ends_the_start(shell: Shell):
    with_service(shell, command=["false"])
    done = shell.run()
    assert done.returncode == 1
    assert "'web'" in done.stderr


def test_a_command_that_is_not_there_is_named(shell: Shell):
    with_service(shell, command=["/no/such/program"], url="")
    done = shell.run()
    assert done.returncode == 1
    assert "'web'" in done.stderr and "/no/such/program" in done.stderr


def test_an_external_service_that_is_away_is_only_a_warning(shell: Shell):
    shell.configure(f"c.JupyterHub.services = [{{'name': 'away', 'url': 'http://127.0.0.1:{free_port()}'}}]\n")
    hub = shell.start()
    assert "away" in shell.log() and hub.poll() is None


def test_after_a_kill_the_service_runs_once(shell: Shell):
    with_service(shell)
    hub = shell.start()
    before = service_processes(shell.directory)
    assert len(before) == 1
    hub.kill()
    hub.wait(10)
    shell.start()
    answer = requests.get(f"{address(shell)}/services/web/", timeout=10).json()
    now = service_processes(shell.directory)
    assert [process.pid for process in now] == [answer["pid"]]
    assert answer["pid"] != before[0].pid
    identity = requests.get(
        answer["env"]["JUPYTERHUB_API_URL"] + "/user",
        headers={"Authorization": f"token {answer['env']['JUPYTERHUB_API_TOKEN']}"},
        timeout=10,
    )
    assert identity.status_code == 200 and identity.json()["name"] == "web"


def test_a_token_made_beside_the_hub_leaves_its_services_alone(shell: Shell):
    with_service(shell)
    shell.start()
    (process,) = service_processes(shell.directory)
    token = process.environ()["JUPYTERHUB_API_TOKEN"]
    assert shell.run("token", "nobody").returncode == 1
    url = process.environ()["JUPYTERHUB_API_URL"] + "/user"
    assert requests.get(url, headers={"Authorization": f"token {token}"}, timeout=10).status_code == 200
    wait_for(lambda: service_processes(shell.directory) == [process], "the service to be left alone")
