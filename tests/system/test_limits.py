"""Servers that take all they can get, in a real Hub on this machine's own mechanism, beside one that must not notice."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from jupyterhub.spawning.limits import Group, Limits, Usage, choose, mechanism_of

from ..contract.limit_worlds import HUB_PLACES, HubPlace
from .hub_process import HubProcess, wait_for
from .person import Person

SLOW = os.cpu_count() == 1
"""Whether this is the second kernel, in which everything takes several times as long."""

pytestmark = [pytest.mark.timeout(300 if SLOW else 120)]

HERE = Path(__file__).parent
MIB = 2**20
LIMITS = Limits(memory=128 * MIB, cpu=0.5, processes=40)
CONFIG = f"""
c.Spawner.cmd = [{sys.executable!r}, {str(HERE / "greedy_server.py")!r}]
c.Spawner.mem_limit = "128M"
c.Spawner.cpu_limit = 0.5
c.LocalProcessSpawner.process_limit = 40
c.Spawner.poll_interval = 1
c.Spawner.http_timeout = c.Spawner.start_timeout = 120
c.SimpleLocalProcessSpawner.interrupt_timeout = c.SimpleLocalProcessSpawner.term_timeout = 1
c.JupyterHub.cleanup_servers = False
"""


class LimitedHub(HubProcess):
    """A Hub with a place of its own in the hierarchy, where its servers' groups are found."""

    place: HubPlace

    def start(self, *, wait: bool = True) -> float:
        began = time.monotonic()
        super().start(wait=False)
        assert self.process is not None
        self.place.put(self.process.pid)
        if wait:
            self.wait_until_up(90)
        return time.monotonic() - began

    def serve(self, *names: str) -> None:
        for name in names:
            self.api("POST", f"/users/{name}")
            self.start_server(name)
        for name in names:
            self.wait_ready(name, timeout=120)

    def group(self, name: str) -> Group:
        server = self.server(name)
        assert server is not None
        found = Group.from_dict(server["state"]["limits"])
        assert found is not None and found.limits == LIMITS
        return found

    def stopped(self, name: str) -> dict[str, Any]:
        model: dict[str, Any] = self.api("GET", f"/users/{name}?include_stopped_servers").json()["servers"][""]
        return model

    def ask(self, name: str, what: str = "") -> float:
        """Ask somebody's server through the proxy; returns the seconds until it answered."""
        began = time.monotonic()
        assert self.request("GET", f"/user/{name}/{what}").status == 200
        return time.monotonic() - began


def usage(group: Group) -> Usage:
    mechanism = mechanism_of(group.mechanism)
    assert mechanism is not None
    return mechanism.usage(group)


def slowest_answer(hub: LimitedHub, name: str, times: int = 20) -> float:
    return max(hub.ask(name) for _ in range(times))


PROMPT = 3.0 if SLOW else 1.0
"""Seconds within which a neighbour has to answer."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LimitedHub]:
    mechanism = choose(LIMITS).mechanism
    assert mechanism is not None, choose(LIMITS).reasons
    with HUB_PLACES[mechanism.name]() as place:
        hub = LimitedHub(tmp_path_factory.mktemp("limits") / "hub", CONFIG)
        hub.place = place
        try:
            hub.start()
            assert f"mem_limit, cpu_limit, process_limit: enforced by {mechanism.name}" in hub.log_path.read_text()
            hub.serve("neighbour")
            yield hub
            hub.stop_server("neighbour")
            hub.wait_stopped("neighbour")
            assert place.left() == []
        finally:
            hub.clean_up()
            wait_for(lambda: not hub.processes(), "all processes of the Hub are gone")


def test_a_memory_bomb_ends_its_own_server_and_its_owner_reads_why(hub: LimitedHub) -> None:
    hub.serve("ada")
    group, pid = hub.group("ada"), hub.wait_ready("ada")["state"]["pid"]
    began = time.monotonic()
    hub.ask("ada", "memory")
    wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", "it is killed", 60, 0.01)
    took = time.monotonic() - began
    assert took < 2 or SLOW
    assert hub.ask("neighbour") < PROMPT
    hub.wait_stopped("ada")
    failure = hub.stopped("ada")["failure"]
    assert failure["cause"] == "out-of-memory"
    assert failure["message"] == "The server was killed: memory limit 128 MiB."
    ada = Person(hub, "ada")
    assert ada.log_in("x").status_code == 200
    assert "killed: memory limit 128 MiB" in ada.get("/hub/home").text
    assert not [path for path in hub.place.left() if group.name in path]


def test_a_kernel_that_takes_too_much_is_killed_and_its_server_lives(hub: LimitedHub) -> None:
    hub.serve("bob")
    pid = hub.wait_ready("bob")["state"]["pid"]
    assert "notices" not in hub.wait_ready("bob")
    hub.ask("bob", "child-memory")
    told = "A process of this server was killed: memory limit 128 MiB (once)."
    wait_for(lambda: (hub.server("bob") or {}).get("notices") == [told], "the API says what was killed")
    bob = Person(hub, "bob")
    assert bob.log_in("x").status_code == 200
    assert told in bob.get("/hub/home").text
    assert hub.wait_ready("bob")["state"]["pid"] == pid
    hub.stop_server("bob")
    hub.wait_stopped("bob")
    assert "failure" not in hub.stopped("bob")


def test_a_fork_bomb_stays_within_its_limits_and_goes_with_its_server(hub: LimitedHub) -> None:
    hub.serve("eve")
    group = hub.group("eve")
    hub.ask("eve", "forks")
    wait_for(lambda: usage(group).refused_processes > 0, "the kernel refuses a process")
    assert usage(group).processes <= 40
    assert slowest_answer(hub, "neighbour") < PROMPT
    assert usage(group).processes <= 40
    hub.stop_server("eve")
    hub.wait_stopped("eve")
    assert not [path for path in hub.place.left() if group.name in path]
    assert usage(group).processes == 0


def test_a_processor_hog_gets_what_it_may_have_and_no_more(hub: LimitedHub) -> None:
    hub.serve("kim")
    group = hub.group("kim")
    hub.ask("kim", "cpu")
    wait_for(lambda: usage(group).processes >= 5, "four loops run beside the server")
    began, used = time.monotonic(), usage(group).cpu_seconds
    slowest = slowest_answer(hub, "neighbour")
    wait_for(lambda: usage(group).cpu_seconds > used + 1, "a second of processor time more")
    used, took = usage(group).cpu_seconds - used, time.monotonic() - began
    # The kernel gives out time in periods of a tenth of a second: one more at either end.
    assert used <= LIMITS.cpu * (took + 0.2)  # type: ignore[operator]
    assert slowest < PROMPT
    hub.stop_server("kim")
    hub.wait_stopped("kim")
    assert usage(group).processes == 0


def test_a_killed_hub_finds_the_groups_again(hub: LimitedHub) -> None:
    hub.serve("one", "two", "three")
    groups = {name: hub.group(name) for name in ("one", "two", "three")}
    pids = {name: hub.wait_ready(name)["state"]["pid"] for name in groups}
    hub.kill()
    # One dies of its limit and one of something else while no Hub looks; the proxy goes on without it.
    hub.ask("one", "memory")
    os.kill(pids["two"], signal.SIGKILL)
    wait_for(lambda: not (psutil.pid_exists(pids["one"]) or psutil.pid_exists(pids["two"])), "both are gone", 60)
    hub.start()
    for name in ("one", "two"):
        hub.wait_stopped(name)
        assert not [path for path in hub.place.left() if groups[name].name in path]
    assert hub.stopped("one")["failure"]["message"] == "The server was killed: memory limit 128 MiB."
    assert "failure" not in hub.stopped("two")
    # The Hub is not the parent of what an earlier one had started, and still says why it ended.
    assert hub.group("three") == groups["three"]
    hub.ask("three", "memory")
    hub.wait_stopped("three")
    assert hub.stopped("three")["failure"]["message"] == "The server was killed: memory limit 128 MiB."
    assert usage(groups["three"]).processes == 0
    assert not [path for path in hub.place.left() if groups["three"].name in path]


def test_stopping_after_a_restart_of_the_hub_leaves_nothing(hub: LimitedHub) -> None:
    hub.serve("sue")
    group = hub.group("sue")
    # What has left the server's session is in its group all the same.
    hub.ask("sue", "forks")
    wait_for(lambda: usage(group).processes > 5, "more and more processes")
    hub.kill()
    hub.start()
    hub.stop_server("sue")
    hub.wait_stopped("sue")
    assert usage(group).processes == 0
    assert not [path for path in hub.place.left() if group.name in path]


def test_where_limits_cannot_be_enforced_the_log_the_page_and_the_api_say_so(tmp_path: Path) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("jupyterhub-proxy", "jupyterhub-singleuser"):
        (commands / name).symlink_to(Path(sys.executable).with_name(name))
    program = commands / "jupyterhub"
    # A Hub that does not see the hierarchy.
    program.write_text(
        f"#!/bin/sh\nexec unshare --mount sh -c 'mount -t tmpfs none /sys/fs/cgroup && mount -t tmpfs none /run && "
        f'exec {Path(sys.executable).with_name("jupyterhub")} "$@"\' sh "$@"\n'
    )
    program.chmod(0o755)
    assert shutil.which("unshare")
    hub = HubProcess(tmp_path / "hub", CONFIG, bin_dir=commands)
    try:
        hub.start(wait=False)
        hub.wait_until_up(90)
        log = hub.log_path.read_text()
        assert log.count("mem_limit CANNOT BE ENFORCED here, servers start without: ") == 1
        assert "limit-resources.md" in log
        hub.api("POST", "/users/ada")
        hub.start_server("ada")
        server = hub.wait_ready("ada", timeout=120)
        assert len(server["notices"]) == 3
        assert server["notices"][0].startswith("The memory limit 128 MiB of this server is not enforced: ")
        ada = Person(hub, "ada")
        assert ada.log_in("x").status_code == 200
        assert "The memory limit 128 MiB of this server is not enforced" in ada.get("/hub/home").text
        hub.stop_server("ada")
        hub.wait_stopped("ada")
    finally:
        hub.clean_up()
        with suppress(AssertionError):
            wait_for(lambda: not hub.processes(), "all processes are gone", 10)
