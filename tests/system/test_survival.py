"""What goes on while the Hub is killed and started again: open WebSockets, kernels, cookies."""

from __future__ import annotations

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


def test_the_second_hub_on_one_database_is_refused_and_told_who_has_it(hub: HubProcess, tmp_path: Path) -> None:
    second = HubProcess(tmp_path / "second", db_url=f"sqlite:///{hub.directory / 'jupyterhub.sqlite'}")
    try:
        second.start(wait=False)
        assert second.process is not None
        assert second.process.wait(30) == 1
        assert str(hub.process.pid) in second.log_tail()
    finally:
        second.clean_up()
