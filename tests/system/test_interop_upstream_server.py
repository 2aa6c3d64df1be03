"""A single-user server of JupyterHub 6.1.1, unmodified and in an environment of its own, works under our Hub."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .hub_process import HubProcess
from .person import Person
from .upstream import upstream_environment

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    upstream = upstream_environment()
    command = Path(upstream.bin if hasattr(upstream, "bin") else upstream) / "jupyterhub-singleuser"
    hub = HubProcess(
        tmp_path_factory.mktemp("upstream"),
        f"""
c.Spawner.cmd = [{str(command)!r}]
c.Spawner.args = ["--allow-root"] if {os.geteuid() == 0} else []
c.Spawner.http_timeout = 90
""",
    )
    hub.start()
    yield hub
    hub.clean_up()


def test_people_reach_their_own_server_and_nobody_elses(hub: HubProcess) -> None:
    ada, grace = Person(hub, "ada"), Person(hub, "grace")
    for person in (ada, grace):
        assert person.log_in("any").status_code == 200
    hub.start_server("ada")
    hub.wait_ready("ada", timeout=120)
    page = ada.get("/user/ada/lab")
    assert page.status_code == 200, page.text[:500]
    assert "/user/ada/" in page.url
    assert ada.get("/user/ada/api/contents").status_code == 200
    assert grace.get("/user/ada/api/contents").status_code == 403
    assert "different major" not in hub.log_tail(500).lower()
    token = hub.api("POST", "/users/ada/tokens", {}).json()["token"]
    assert hub.request("GET", "/user/ada/api/contents", token=token).status == 200
    assert hub.stop_server("ada").status in (202, 204)
    hub.wait_stopped("ada")
