"""Every spawner example runs as it is kept: a Hub with that file, an account of this machine, a real server."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from .hub_process import HubProcess, wait_for
from .person import Person
from .public_environment import public_environment
from .system_users import system_users

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes accounts and switches to them"),
]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "spawners"
#: The one with containers has tests of its own, in test_docker.py.
NAMES = sorted(path.stem for path in EXAMPLES.glob("s*.py") if path.stem != "s5_containers")
PASSWORD = "for-this-test"
ADA = "hubexampleada"

HEALTHY_AT_THE_SECOND_TRY = """
import http.server, os, pathlib, urllib.parse
marker = pathlib.Path(os.environ["HOME"], "started-before")
healthy = marker.exists()
marker.touch()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        sick = self.path.endswith("/api/status") and not healthy
        self.send_response(500 if sick else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()
url = urllib.parse.urlparse(os.environ["JUPYTERHUB_SERVICE_URL"])
http.server.ThreadingHTTPServer((url.hostname, url.port), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def ada() -> Iterator[str]:
    with system_users(ADA):
        # One of the examples names a directory below /home; the account of this test lives elsewhere.
        notebooks = Path("/home", ADA, "notebooks")
        notebooks.mkdir(parents=True)
        subprocess.run(["chown", "-R", ADA, str(notebooks.parent)], check=True)
        try:
            yield ADA
        finally:
            shutil.rmtree(notebooks.parent, ignore_errors=True)


def example_hub(name: str, directory: Path, more: str = "") -> HubProcess:
    """A Hub with the example as it is, on ports of its own."""
    hub = HubProcess(
        directory, f"load_subconfig({str(EXAMPLES / (name + '.py'))!r})\n{more}", bin_dir=public_environment()
    )
    hub.env.update(EXAMPLE_URL=hub.url, EXAMPLE_DIR=str(directory / "files"), EXAMPLE_PASSWORD=PASSWORD)
    hub.env["TEST_HUB_DIRECTORY"] = str(directory)
    return hub


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    hubs = []

    def one(name: str, more: str = "") -> HubProcess:
        hub = example_hub(name, tmp_path / name, more)
        hubs.append(hub)
        hub.start()
        return hub

    yield one
    for hub in hubs:
        hub.clean_up()


def run_server(hub: HubProcess, name: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
    """Start the person's server through the API and wait until it is ready; the server as the API shows it."""
    path = f"/hub/api/users/{name}"
    hub.request("POST", path, token=hub.token)
    answer = hub.request("POST", f"{path}/server", options or {}, token=hub.token, timeout=120)
    assert answer.status in (201, 202), f"{answer} {hub.log_tail()}"

    def ready() -> dict[str, Any] | None:
        server = hub.request("GET", path, token=hub.token).json()["servers"].get("")
        if server is None:
            raise AssertionError(f"the server is gone\n{hub.log_tail()}")
        return server if server["ready"] else None

    found: dict[str, Any] = wait_for(ready, f"a ready server\n{hub.log_tail()}", timeout=90)
    return found


def environment_of(server: dict[str, Any]) -> dict[str, str]:
    return psutil.Process(server["state"]["pid"]).environ()


@pytest.mark.parametrize("name", NAMES)
def test_a_person_gets_a_server_and_can_stop_it(name: str, start: Any, ada: str) -> None:
    hub = start(name)
    assert Person(hub, ada).log_in("wrong").status_code == 403
    person = Person(hub, ada)
    person.log_in(PASSWORD)
    assert person.is_logged_in()
    server = run_server(hub, ada)
    status = hub.request("GET", f"/user/{ada}/api/status", token=hub.token)
    assert status.status == 200, status
    process = psutil.Process(server["state"]["pid"])
    if name not in ("s1_base_class", "s3_simple"):
        assert process.username() == ada
    answer = hub.request("DELETE", f"/hub/api/users/{ada}/server", token=hub.token, timeout=90)
    assert answer.status in (202, 204)
    wait_for(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, "the end", timeout=60)


def test_limits_declared_as_plain_attributes_reach_the_server(start: Any, ada: str) -> None:
    environment = environment_of(run_server(start("s6_resource_limits"), ada))
    assert (environment["MEM_LIMIT"], environment["CPU_LIMIT"]) == ("2G", "2.0")


def test_the_profiles_are_a_form_and_the_choice_takes_effect(start: Any, ada: str) -> None:
    hub = start("s7_profiles")
    person = Person(hub, ada)
    person.log_in(PASSWORD)
    page = person.get("/hub/spawn").text
    assert re.findall(r'type="radio" name="profile"[^>]* value="([^"]+)"', page) == ["Basic Python", "Data Science"]
    environment = environment_of(run_server(hub, ada, {"profile": "Data Science"}))
    assert environment["MEM_LIMIT"] == str(4 * 1024**3)
    hub.request("DELETE", f"/hub/api/users/{ada}/server", token=hub.token, timeout=90)
    wait_for(lambda: not hub.request("GET", f"/hub/api/users/{ada}", token=hub.token).json()["servers"], "the end")
    refused = hub.request("POST", f"/hub/api/users/{ada}/server", {"profile": "Secret"}, token=hub.token)
    assert refused.status == 400, refused


def test_state_of_its_own_survives_a_kill(start: Any, ada: str) -> None:
    hub = start("s8_state")
    before = run_server(hub, ada)
    hub.kill()
    hub.start()
    state = wait_for(
        lambda: hub.request("GET", f"/hub/api/users/{ada}", token=hub.token).json()["servers"].get(""), "the server"
    )["state"]
    assert state["pid"] == before["state"]["pid"]
    assert state["last_activity"] == before["state"]["last_activity"]
    assert "custom_setting" in state


def test_a_healthy_server_is_left_alone(start: Any, ada: str) -> None:
    hub = start("s9_health", "c.Spawner.poll_interval = 1\nc.JupyterHub.log_level = 'DEBUG'")
    process = psutil.Process(run_server(hub, ada)["state"]["pid"])
    # Polls take place meanwhile; a restart would end this process within the time.
    with pytest.raises(psutil.TimeoutExpired):
        process.wait(timeout=5)
    assert "Sending SIGINT" not in hub.log_path.read_text(errors="replace")


def test_an_unhealthy_server_is_restarted_and_routed_anew(start: Any, ada: str, tmp_path: Path) -> None:
    script = tmp_path / "sick.py"
    script.write_text(HEALTHY_AT_THE_SECOND_TRY)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    home = Path(os.path.expanduser(f"~{ada}"))
    (home / "started-before").unlink(missing_ok=True)
    hub = start("s9_health", f"c.Spawner.poll_interval = 1\nc.Spawner.cmd = ['python3', {str(script)!r}]")
    before = run_server(hub, ada)

    def restarted() -> dict[str, Any] | None:
        server = hub.request("GET", f"/hub/api/users/{ada}", token=hub.token).json()["servers"][""]
        return server if server["state"].get("pid") != before["state"]["pid"] and server["ready"] else None

    after = wait_for(restarted, f"another process\n{hub.log_tail()}", timeout=30)
    wait_for(lambda: hub.request("GET", f"/user/{ada}/api/status").status == 200, "the new route")
    with sqlite3.connect(hub.directory / "files" / "jupyterhub.sqlite") as database:
        ports = [port for (port,) in database.execute("SELECT port FROM servers")]
    listening = {c.laddr.port for c in psutil.Process(after["state"]["pid"]).net_connections() if c.status == "LISTEN"}
    assert set(ports) & listening
