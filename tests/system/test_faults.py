"""Failures explain themselves: every fault of the table, really produced, as its owner and an operator read it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from .fault_checks import AT_ONCE, CHECKS
from .fault_report import Reading, faulty_hub, last_event, produce
from .faults import FAULTS
from .hub_process import HubProcess, wait_for
from .person import Person

pytestmark = [pytest.mark.timeout(180)]

@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with faulty_hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def readings(hub: HubProcess) -> dict[str, Reading]:
    return produce(hub, FAULTS)


@pytest.fixture(params=list(FAULTS))
def reading(readings: dict[str, Reading], request: pytest.FixtureRequest) -> Reading:
    return readings[request.param]


def test_there_are_enough() -> None:
    assert len(FAULTS) >= 25
    assert {fault.phase for fault in FAULTS.values()} == {"preparing", "starting", "connecting", "routing", "running"}


@pytest.mark.parametrize("check", CHECKS)
def test_every_fault_explains_itself(reading: Reading, check: Callable[[Reading], None]) -> None:
    check(reading)


def test_operators_can_count_them(hub: HubProcess, readings: dict[str, Reading]) -> None:
    counted = Counter(fault.cause for fault in FAULTS.values())
    metrics = hub.api("GET", "/metrics").body.decode()
    told = re.findall(r'^jupyterhub_server_failures_total\{cause="([a-z-]+)"\} ([\d.]+)$', metrics, re.MULTILINE)
    assert {cause: float(number) for cause, number in told} == counted


def test_what_the_server_wrote_can_be_read(readings: dict[str, Reading]) -> None:
    assert readings["exit-with-message"].page.lines[-1] == "the key file is empty"
    assert "MemoryError" in readings["out-of-memory"].page.lines
    assert readings["crash-when-ready"].page.lines == ["the disk of results is gone"]
    assert readings["queue-too-long"].page.lines == ["Pending in queue: (Resources)"], "its spawner's progress"


def test_the_end_of_a_process_is_noticed_at_once(readings: dict[str, Reading]) -> None:
    ended = float(readings["exit-with-message"].page.lines[0])
    noticed = datetime.fromisoformat(readings["exit-with-message"].failure["at"]).timestamp()
    assert noticed - ended < AT_ONCE


def test_a_failure_is_told_before_hooks_and_the_clean_up_are_done(tmp_path: Path) -> None:
    """The hook and `stop` wait for a file: as long as it is not there, neither is over."""
    gate = tmp_path / "gate"
    hub = HubProcess(
        tmp_path / "hub",
        f"""
import asyncio, os
from jupyterhub.spawning.fakes import AnswersNowhere
class Slow(AnswersNowhere):
    http_timeout = 1
    async def wait(self):
        while not os.path.exists({str(gate)!r}):
            await asyncio.sleep(0.02)
    async def spawn_error_hook(self, error):
        await self.wait()
    async def stop(self, now=False):
        await self.wait()
        await super().stop(now)
c.JupyterHub.spawner_class = Slow
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 0}}
""",
    )
    try:
        hub.start()
        ada = Person(hub, "ada")
        ada.log_in("any")
        hub.start_server("ada")
        assert last_event(hub, "ada")["failure"]["cause"] == "port-never-opened"
        page = ada.get("/hub/spawn-pending/ada").text
        assert "The server did not answer in time" in page
        assert 'id="clearing-away"' in page and 'id="start"' not in page
        server = hub.server("ada")
        assert server is not None and server["pending"] == "stop"
        assert server["failure"]["cause"] == "port-never-opened"
        assert "[port-never-opened, phase connecting]" in hub.log_path.read_text()
        gate.touch()
        hub.wait_stopped("ada")
        page = ada.get("/hub/spawn-pending/ada").text
        assert "The server did not answer in time" in page
        assert 'id="clearing-away"' not in page and 'id="start"' in page
    finally:
        gate.touch()
        hub.clean_up()


def test_only_the_last_hundred_lines_are_kept(tmp_path: Path) -> None:
    hub = HubProcess(
        tmp_path / "hub",
        'c.Spawner.cmd = ["sh", "-c", "i=0; while [ $i -lt 250 ]; do i=$((i+1)); echo line $i; done; exit 1"]',
    )
    try:
        hub.start()
        ada = Person(hub, "ada")
        ada.log_in("any")
        hub.start_server("ada")
        hub.wait_stopped("ada")
        event = last_event(hub, "ada")
        assert event["log"] == [f"line {number}" for number in range(151, 251)]
        log = wait_for(lambda: re.search(r"\| line 250\n", hub.log_path.read_text()), "the lines are in the log")
        assert "| line 150\n" not in log.string
        # What explained the failure is still there after a restart of the Hub.
        hub.kill()
        hub.start()
        page = ada.get("/hub/spawn-pending/ada").text
        assert "exit status 1: line 250" in page and ">line 151\n" in page
    finally:
        hub.clean_up()
