"""Servers in units of a real systemd, by the released systemdspawner, with the Hub itself in a unit beside them."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from . import second_kernel
from .fault_checks import CHECKS
from .fault_report import Reading, produce
from .faults import Fault
from .hub_process import HubProcess, wait_for
from .public_environment import public_environment
from .system_users import system_users
from .systemd_machine import SystemdMachine, cgroup_version, why_not
from .test_docker import answer_of, started_at
from .test_internal_tls import kernel_of, with_server
from .test_survival import execute

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(600 if second_kernel.inside() else 120),
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples/systemd"
ADA = "hubsystemdada"
UNIT = f"jupyter-{ADA}-singleuser.service"
PATIENCE = 240 if second_kernel.inside() else 60
"""Seconds."""

#: Those who are called like a fault have servers that fail, under the account of another.
CONFIG = f"""
def broken(spawner):
    settings = {{
        "command-missing": {{"cmd": ["no-such-notebook"]}},
        "program-missing": {{"cmd": ["/no/such/notebook"], "start_timeout": 3}},
        "home-missing": {{"user_workingdir": "/no/such/home", "start_timeout": 3}},
        "exit-with-message": {{"cmd": ["sh", "-c", "sleep 2; echo 'the key file is empty' >&2; exit 3"]}},
        "port-never-opens": {{"cmd": ["sleep", "600"]}},
    }}.get(spawner.user.name)
    if settings:
        spawner.http_timeout = 5
        for setting, value in {{"username_template": {ADA!r}, **settings}}.items():
            setattr(spawner, setting, value)
c.Spawner.pre_spawn_hook = broken
c.Spawner.poll_interval = 1
c.Spawner.http_timeout = {PATIENCE}
c.Spawner.consecutive_failure_limit = 0
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 0}}
"""
FAULTS = {
    "command-missing": Fault(
        "The server's command is not on PATH", "command-not-found", "starting", ("'no-such-notebook'",)
    ),
    "program-missing": Fault(
        "systemd-run refuses a program that is not there", "command-not-found", "starting", ("'/no/such/notebook'",)
    ),
    "exit-with-message": Fault(
        "The server ends with status 3 and says why", "exited", "connecting", ("status 3", "the key file is empty")
    ),
    "port-never-opens": Fault(
        "The server runs and never opens its port", "port-never-opened", "connecting", ("5 seconds",)
    ),
}
NO_HOME = Fault("The unit cannot enter the home directory", "home-unusable", "starting")
"""Seen while it starts or only while it should answer: for a moment such a unit counts as active."""

#: Where this Hub is instead of in /opt and /srv.
PLACE = """
[Service]
ExecStart=
ExecStart={commands}/jupyterhub -f {config}
WorkingDirectory={directory}
Environment=PATH={commands}:/usr/sbin:/usr/bin:/sbin:/bin
StandardOutput=append:{log}
StandardError=append:{log}
"""


class HubUnit(HubProcess):
    """The Hub as a unit of systemd, as the example has it; systemd starts it again when it is killed."""

    machine: SystemdMachine

    def install(self) -> None:
        place = PLACE.format(
            commands=self.bin_dir, config=self.config_path, directory=self.directory, log=self.log_path
        )
        self.machine.write_unit("jupyterhub.service", (EXAMPLES / "jupyterhub.service").read_text())
        self.machine.write_unit("jupyterhub.service.d/place.conf", place)

    def control(self, *words: str) -> None:
        done = self.machine.systemctl(*words, "jupyterhub.service")
        assert done.returncode == 0, done.stderr

    def start(self, *, wait: bool = True) -> float:
        self.control("start")
        self.wait_until_up(PATIENCE)
        return 0.0

    def kill(self) -> None:
        self.control("kill", "--signal=KILL", "--kill-who=main")


@pytest.fixture(scope="module")
def account() -> Iterator[Path]:
    """The home of ADA."""
    with system_users(ADA):
        yield Path(pwd.getpwnam(ADA).pw_dir)


@pytest.fixture(scope="module")
def machine(account: Path) -> Iterator[SystemdMachine]:
    with SystemdMachine(account.parent) as machine:
        yield machine


@pytest.fixture(scope="module")
def hub(machine: SystemdMachine) -> Iterator[HubUnit]:
    directory = machine.directory / "hub"
    directory.mkdir(mode=0o700)
    config = f"load_subconfig({str(EXAMPLES / 'jupyterhub_config.py')!r})\n{CONFIG}"
    commands = Path(os.environ.get(second_kernel.COMMANDS) or public_environment("jupyterhub-systemdspawner"))
    hub = HubUnit(directory, config, bin_dir=commands)
    hub.machine = machine
    hub.install()
    hub.start()
    yield hub
    hub.control("stop")
    assert hub.processes(), "the proxy goes on"
    hub.control("kill")
    wait_for(lambda: not hub.processes(), "nothing of the unit is left")


def main_process(machine: SystemdMachine, unit: str = UNIT) -> str:
    return machine.show(unit, "MainPID")["MainPID"]


def stop(hub: HubUnit) -> None:
    """Stop ADA's server by the API, after which nothing of it is left."""
    assert hub.stop_server(ADA).status in (202, 204)
    hub.wait_stopped(ADA)
    assert hub.machine.units("jupyter-*") == []


def test_a_server_is_a_unit_of_its_owner_and_outlives_the_hub(hub: HubUnit, machine: SystemdMachine) -> None:
    ada = with_server(hub, ADA)
    assert ada.get(f"/user/{ADA}/lab").status_code == 200
    assert answer_of(ada, "import getpass, os; print(getpass.getuser(), os.getcwd())") == (
        f"{ADA} {pwd.getpwnam(ADA).pw_dir}"
    )
    limits = machine.show(UNIT, "MemoryMax", "CPUQuotaPerSecUSec", "TasksMax", "NoNewPrivileges")
    assert limits == {
        "MemoryMax": str(2 * 1024**3), "CPUQuotaPerSecUSec": "1s", "TasksMax": "500", "NoNewPrivileges": "yes"
    }
    began, before, killed = started_at(hub, ADA), main_process(machine), main_process(machine, "jupyterhub.service")
    hub.kill()
    assert started_at(hub, ADA) == began, "the proxy goes on without a Hub"
    wait_for(lambda: main_process(machine, "jupyterhub.service") not in ("0", killed), "systemd starts the Hub again")
    hub.wait_until_up(PATIENCE)
    hub.wait_ready(ADA)
    # The ordinary way, as after an upgrade.
    hub.control("restart")
    hub.wait_until_up(PATIENCE)
    hub.wait_ready(ADA)
    assert (started_at(hub, ADA), main_process(machine)) == (began, before)
    assert answer_of(ada, "print(6 * 7)") == "42"
    stop(hub)


def test_processor_and_tasks_are_limited(hub: HubUnit, machine: SystemdMachine) -> None:
    ada = with_server(hub, ADA)
    assert machine.systemctl("set-property", "--runtime", UNIT, "CPUQuota=50%", "TasksMax=60").returncode == 0
    burn = "import time\nwhile time.process_time() < 1.5: pass\nprint('done')"
    assert answer_of(ada, burn) == "done"
    counted = dict(line.split() for line in (machine.group(UNIT, "cpu") / "cpu.stat").read_text().splitlines())
    assert int(counted["nr_throttled"]) > 0
    threads = """
import threading
end, started = threading.Event(), 0
try:
    while True:
        threading.Thread(target=end.wait).start()
        started += 1
except RuntimeError as error:
    print(started < 60, error)
end.set()"""
    assert answer_of(ada, threads) == "True can't start new thread"
    stop(hub)


def test_a_server_killed_at_its_memory_limit_is_told_to_its_owner(hub: HubUnit, machine: SystemdMachine) -> None:
    ada = with_server(hub, ADA)
    assert machine.systemctl("set-property", "--runtime", UNIT, "MemoryMax=400M").returncode == 0
    # The kernel kills whoever is the easiest to spare; that is usually the one that asks, here it is the server.
    bomb = "import os; open(f'/proc/{os.getppid()}/oom_score_adj', 'w').write('1000'); held = bytearray(1 << 30)"
    with closing(kernel_of(ada)) as kernel:
        kernel.send(json.dumps(execute(bomb)))
        hub.wait_stopped(ADA, timeout=PATIENCE)
    failure = hub.api("GET", f"/users/{ADA}?include_stopped_servers").json()["servers"][""]["failure"]
    if cgroup_version() == 2:
        assert (failure["cause"], failure["message"]) == (
            "out-of-memory", "The server was killed: memory limit 400 MiB."
        )
    else:
        # In the first version systemd is not told by the kernel why a process was killed.
        assert failure["cause"] == "killed" and "most likely for lack of memory" in failure["message"], failure
    assert failure["message"] in ada.get("/hub/home").text
    with_server(hub, ADA)
    stop(hub)


@pytest.fixture(scope="module")
def readings(hub: HubUnit) -> dict[str, Reading]:
    return produce(hub, {**FAULTS, "home-missing": NO_HOME})


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_explains_itself(
    readings: dict[str, Reading], name: str, check: Callable[[Reading], None]
) -> None:
    check(readings[name])


def test_a_missing_home_explains_itself(readings: dict[str, Reading]) -> None:
    reading = readings["home-missing"]
    assert reading.failure["cause"] == NO_HOME.cause, reading.failure
    assert reading.page.sentence == reading.failure["message"]


def test_what_a_failed_start_leaves_ends_with_the_next(
    readings: dict[str, Reading], hub: HubUnit, machine: SystemdMachine
) -> None:
    running = machine.systemctl("list-units", "--plain", "--no-legend", "--state=running", "jupyter-*").stdout
    assert running == "", "no unit runs"
    again = produce(hub, {"exit-with-message": FAULTS["exit-with-message"]})["exit-with-message"]
    assert again.page.lines.count("the key file is empty") == 1, "the lines are those of this run"
