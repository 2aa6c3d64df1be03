"""An unmodified JupyterHub 6.1.1 with our proxy in place of configurable-http-proxy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from .dataplane_program import OURS
from .hub_process import HubProcess, wait_for
from .upstream import NotAvailable, upstream_environment

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

TINY_SERVER = Path(__file__).resolve().parent / "tiny_server.py"


@pytest.fixture(params=["1", "2"], ids=["one-worker", "two-workers"])
def hub(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HubProcess]:
    try:
        upstream = upstream_environment()
    except NotAvailable as reason:
        pytest.skip(f"NOT RUN, as JupyterHub 6.1.1 could not be had: {reason}")
    config = f"""
c.ConfigurableHTTPProxy.command = {[*OURS, "--workers", request.param]!r}
c.ConfigurableHTTPProxy.check_running_interval = 1
c.Spawner.cmd = [{sys.executable!r}, {str(TINY_SERVER)!r}]
c.Spawner.environment = {{"TEST_HUB_DIRECTORY": {str(tmp_path)!r}}}
"""
    hub = HubProcess(tmp_path / "hub", config, bin_dir=upstream.bin)
    hub.start(wait=False)
    try:
        hub.wait_until_up(120)
        yield hub
    finally:
        hub.clean_up()


def proxy_of(hub: HubProcess) -> psutil.Process:
    assert hub.process is not None
    for process in psutil.Process(hub.process.pid).children():
        if process.status() != psutil.STATUS_ZOMBIE and OURS[-1] in process.cmdline():
            return process
    raise AssertionError(f"no proxy among the Hub's processes\n{hub.log_tail()}")


def test_servers_come_and_go_and_the_proxy_is_replaced(hub: HubProcess) -> None:
    assert hub.api("POST", "/users/ada").status == 201
    assert hub.start_server("ada").status in {201, 202}
    hub.wait_ready("ada", timeout=60)
    path = "/user/ada/api"
    assert hub.request("GET", path).json() == {"path": path}
    routes = hub.routes()
    assert set(routes) == {"/", "/user/ada/"}
    assert routes["/user/ada/"]["data"]["user"] == "ada"
    assert "last_activity" in routes["/user/ada/"]["data"]

    before = proxy_of(hub)
    before.kill()

    def served_again() -> bool:
        try:
            return proxy_of(hub).pid != before.pid and hub.request("GET", path, timeout=2).status == 200
        except (OSError, AssertionError):
            return False

    wait_for(served_again, "the Hub has replaced the proxy and restored its routes", 60)

    assert hub.stop_server("ada").status in {202, 204}
    wait_for(lambda: set(hub.routes()) == {"/"}, "the route is gone", 30)
