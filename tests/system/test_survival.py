"""What goes on while the Hub is killed and started again: open WebSockets, kernels, cookies."""

from __future__ import annotations

import http.server
import json
import os
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websocket

from .hub_process import HubProcess, wait_for
from .person import Person

pytestmark = [pytest.mark.timeout(240)]

CONFIG = f"""
c.Spawner.cmd = [{str(Path(sys.executable).parent / "jupyterhub-singleuser")!r}]
c.Spawner.args = ["--allow-root"] if {os.geteuid() == 0} else []
c.Spawner.http_timeout = 90
c.JupyterHub.cleanup_servers = False
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    hub = HubProcess(tmp_path / "hub", CONFIG)
    hub.start()
    yield hub
    hub.clean_up()


def execute(code: str) -> dict[str, Any]:
    return {
        "channel": "shell",
        "parent_header": {},
        "metadata": {},
        "buffers": [],
        "header": {
            "msg_id": uuid.uuid4().hex,
            "msg_type": "execute_request",
            "username": "",
            "session": uuid.uuid4().hex,
            "version": "5.3",
            "date": "",
        },
        "content": {
            "code": code,
            "silent": False,
            "store_history": False,
            "user_expressions": {},
            "allow_stdin": False,
        },
    }


class Listener(threading.Thread):
    """Collects what a kernel prints, until the connection ends."""

    def __init__(self, connection: websocket.WebSocket) -> None:
        super().__init__(daemon=True)
        self.connection, self.printed, self.ended = connection, "", False

    def run(self) -> None:
        try:
            while True:
                data = self.connection.recv()
                if isinstance(data, bytes) or not data:
                    continue
                message = json.loads(data)
                if message.get("msg_type") == "stream":
                    self.printed += message["content"]["text"]
        except (websocket.WebSocketException, OSError):
            self.ended = True


def test_a_kernel_connection_survives_kill_and_restart_without_a_lost_message(hub: HubProcess) -> None:
    """Numbers printed by a cell arrive in order and complete, while the Hub is killed twice and comes back."""
    hub.api("POST", "/users/ada")
    hub.start_server("ada")
    hub.wait_ready("ada", timeout=120)
    token = hub.api("POST", "/users/ada/tokens", {}).json()["token"]
    kernel = hub.request("POST", "/user/ada/api/kernels", {}, token=token).json()["id"]
    connection = websocket.create_connection(
        f"ws://127.0.0.1:{hub.port}/user/ada/api/kernels/{kernel}/channels",
        header=[f"Authorization: token {token}"],
        timeout=120,
    )
    listener = Listener(connection)
    listener.start()
    code = "import time\nfor number in range(60):\n    print(number, flush=True)\n    time.sleep(0.1)\n"
    connection.send(json.dumps(execute(code)))
    wait_for(lambda: "3\n" in listener.printed, "the cell prints", 60)
    for _ in range(2):
        hub.kill()
        hub.start()
    wait_for(lambda: "59\n" in listener.printed or listener.ended, "the cell has printed everything", 60)
    assert not listener.ended, "the connection was cut"
    assert listener.printed.split() == [str(number) for number in range(60)]
    connection.send(json.dumps(execute("print('still', 'here')")))
    wait_for(lambda: "still here" in listener.printed, "the kernel still answers", 60)
    connection.close()


def test_log_in_and_server_are_as_before_after_a_restart(hub: HubProcess) -> None:
    ada = Person(hub, "ada")
    assert ada.log_in("any").status_code == 200
    hub.start_server("ada")
    hub.wait_ready("ada", timeout=120)
    assert ada.get("/user/ada/api/status").status_code in (200, 403)
    assert ada.get("/user/ada/lab").status_code == 200
    before = hub.server("ada")
    hub.kill()
    hub.start()
    assert ada.is_logged_in()
    assert ada.get("/user/ada/lab").status_code == 200
    after = hub.server("ada")
    assert after["ready"]
    assert (after["started"], after["state"]["pid"]) == (before["started"], before["state"]["pid"])


SLOW_TO_ASK = """
import asyncio
from jupyterhub.spawner import Spawner


class SlowToAsk(Spawner):
    \"\"\"Every server is the one that listens already; asking about it takes a while, as with a busy scheduler.\"\"\"

    async def start(self):
        return f"http://127.0.0.1:{ADDRESS}"

    async def stop(self, now=False):
        pass

    async def poll(self):
        await asyncio.sleep(0.3)
        return None if self.server else 0


c.JupyterHub.spawner_class = SlowToAsk
c.JupyterHub.cleanup_servers = False
c.JupyterHub.concurrent_spawn_limit = 0
"""


class _Always200(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


def test_routes_of_servers_not_yet_looked_at_stay(tmp_path: Path) -> None:
    """After `kill -9` a server is reachable all the time, also before the new Hub has asked its spawner about it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Always200)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub = HubProcess(tmp_path / "hub", f"ADDRESS = {server.server_port}\n{SLOW_TO_ASK}")
    names = [f"user{number:02}" for number in range(60)]
    try:
        hub.start()
        hub.api("POST", "/users", {"usernames": names})
        for name in names:
            hub.start_server(name)
        for name in names:
            hub.wait_ready(name)
        seen: list[int] = []
        done = threading.Event()

        def visit() -> None:
            while not done.is_set():
                seen.append(hub.request("GET", "/user/user59/").status)

        visitor = threading.Thread(target=visit)
        visitor.start()
        try:
            hub.kill()
            log_before = len(hub.log_path.read_bytes())
            hub.start()
            for name in names:
                hub.wait_ready(name)
        finally:
            done.set()
            visitor.join()
        assert set(seen) == {200}
        assert b"stale route" not in hub.log_path.read_bytes()[log_before:]
    finally:
        hub.clean_up()
        server.shutdown()


def test_the_second_hub_on_one_database_is_refused_and_told_who_has_it(hub: HubProcess, tmp_path: Path) -> None:
    second = HubProcess(tmp_path / "second", db_url=f"sqlite:///{hub.directory / 'jupyterhub.sqlite'}")
    try:
        second.start(wait=False)
        assert second.process is not None
        assert second.process.wait(30) == 1
        assert str(hub.process.pid) in second.log_tail()
    finally:
        second.clean_up()
