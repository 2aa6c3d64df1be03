"""A server that hangs, in a real Hub: noticed, started again, told to its owner and to operators."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .hub_process import HubProcess, wait_for
from .person import Person

pytestmark = [pytest.mark.timeout(120)]

CONFIG = f"""
c.Spawner.cmd = [{sys.executable!r}, {str(Path(__file__).with_name("tiny_server.py"))!r}]
c.Spawner.health_check = True
c.Spawner.health_interval = 0.2
c.Spawner.health_timeout = 1
c.Spawner.health_failure_limit = 2
c.Spawner.restart_policy = "on-failure"
c.SimpleLocalProcessSpawner.interrupt_timeout = c.SimpleLocalProcessSpawner.term_timeout = 1
c.JupyterHub.cleanup_servers = False
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    hub = HubProcess(tmp_path / "hub", CONFIG)
    hub.start()
    yield hub
    hub.clean_up()


def process_of(hub: HubProcess, name: str) -> int:
    pid: int = hub.wait_ready(name)["state"]["pid"]
    return pid


def test_a_server_that_hangs_is_started_again_also_after_a_restart_of_the_hub(hub: HubProcess) -> None:
    hub.api("POST", "/users/ada")
    hub.start_server("ada")
    hub.wait_ready("ada")
    ada = Person(hub, "ada")
    assert ada.log_in("x").status_code == 200
    for time in (1, 2):
        pid = process_of(hub, "ada")
        os.kill(pid, signal.SIGSTOP)

        def started_again(time: int = time) -> bool:
            server = hub.server("ada") or {}
            return bool(server.get("ready")) and len(server.get("restarts", ())) == time

        wait_for(started_again, f"restart {time}", timeout=40)
        assert process_of(hub, "ada") != pid
        page = ada.get("/hub/home").text
        assert "It was started again" in page and "No answer from" in page
        if time == 1:
            hub.kill()
            hub.start()
    assert "happened 2 times" in page
    metrics = hub.api("GET", "/metrics").body.decode()
    assert 'jupyterhub_server_restarts_total{reason="unhealthy"} 1.0' in metrics, "this Hub process did one of the two"
    assert "failed 2 health checks in a row" in hub.log_path.read_text()
