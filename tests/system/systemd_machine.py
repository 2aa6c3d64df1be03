"""A systemd for tests, beside whatever runs this machine: the first process of namespaces of its own.

Needs root. It has its own units, bus, journal and control groups, and loads nothing of what this machine starts. The
file system is that of the machine, read-only but for the places it is given; /run and /tmp are empty and its own. The
network is that of the machine, so a Hub in there is reached as any other.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from .hub_process import wait_for

SYSTEMD = "/lib/systemd/systemd"
PROGRAMS = (SYSTEMD, "systemd-run", "systemctl", "journalctl", "busctl", "dbus-daemon", "unshare", "nsenter", "mount")
CAP_SYS_ADMIN = 21
GROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = ("memory", "cpu", "cpuacct", "cpuset", "pids", "devices", "freezer", "blkio", "systemd", "unified")
"""The hierarchies beside each other where cgroup version 1 is used.

The last two have no controllers: by these systemd knows what belongs to a unit, and by the very last, which is of
version 2, when a unit has ended.
"""

#: Nothing is mounted, removed or set by these: they only exist.
TARGETS = ("sysinit", "basic", "sockets", "shutdown", "multi-user", "network-online", "umount")
UNITS = ("dbus.service", "dbus.socket", "systemd-journald.service", "systemd-journald.socket")

#: In the new namespaces, before systemd: what it could change of this machine is out of its reach.
FIRST = """\
set -e
mount --make-rprivate /
for place in {writable}; do mount --bind "$place" "$place"; done
mount -o remount,bind,ro /
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
for place in {writable}; do case "$place" in /tmp/*|/run/*) exit 9;; esac; done
mkdir -p /run/lock /run/units /run/systemd/system /run/systemd/transient
for unit in {units}; do ln -s "/lib/systemd/system/$unit" "/run/units/$unit"; done
for target in {targets}; do printf '[Unit]\\nDefaultDependencies=no\\n' > "/run/units/$target.target"; done
printf '[Unit]\\nRequires=dbus.service systemd-journald.service\\nAfter=dbus.service\\nDefaultDependencies=no\\nAllowIsolate=yes\\n' \\
  > /run/units/tests.target
{groups}
export container=tests SYSTEMD_UNIT_PATH=/run/units:/run/systemd/transient:/run/systemd/system
exec {systemd} --unit=tests.target --log-target=journal
"""


def why_not() -> str:
    """Return why none can run here, "" where one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux: starts a systemd of its own"
    if missing := [program for program in PROGRAMS if not shutil.which(program)]:
        return f"needs Debian's packages systemd and dbus: no {', '.join(missing)}"
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    if not int(status["CapEff"], 16) >> CAP_SYS_ADMIN & 1:
        return "needs to make namespaces and mounts; root lacks CAP_SYS_ADMIN here, as in most containers"
    wanted = [GROUPS] if cgroup_version() == 2 else [GROUPS / each for each in ("memory", "cpu", "pids", *CONTROLLERS[-2:])]
    if lacking := [str(each) for each in wanted if not os.access(each, os.W_OK)]:
        return f"needs control groups: {', '.join(lacking)} cannot be written"
    return ""


def cgroup_version() -> int:
    """Return which version of control groups this machine uses."""
    return 2 if (GROUPS / "cgroup.controllers").exists() else 1


def _hierarchies() -> list[Path]:
    return [GROUPS] if cgroup_version() == 2 else [GROUPS / each for each in CONTROLLERS if (GROUPS / each).is_dir()]


def _mount_groups() -> str:
    if cgroup_version() == 2:
        # The same hierarchy again, and as a namespace sees it: from its own group down.
        return f"umount --lazy {GROUPS} && mount -t cgroup2 cgroup2 {GROUPS}"
    lines = [f"mount -t tmpfs -o mode=755 tmpfs {GROUPS}"]
    for each in _hierarchies():
        kind = {"systemd": "cgroup -o none,name=systemd", "unified": "cgroup2"}.get(each.name, f"cgroup -o {each.name}")
        lines.append(f"mkdir {each} && mount -t {kind} cgroup {each}")
    return "\n".join(lines)


class SystemdMachine:
    """The systemd, its groups, and how to run programs there. `writable` are directories outside /tmp and /run."""

    def __init__(self, *writable: Path) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="systemd-", dir="/var/tmp"))
        self.directory.chmod(0o755)
        self._writable = [self.directory, *writable]
        self._name = f"tests-{secrets.token_hex(4)}"
        self._process: subprocess.Popen[bytes] | None = None
        self._first = 0

    def __enter__(self) -> SystemdMachine:
        try:
            self._make_groups()
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_groups(self) -> None:
        if cgroup_version() == 2:
            (GROUPS / "cgroup.subtree_control").write_text("+memory +cpu +pids")
        for hierarchy in _hierarchies():
            (hierarchy / self._name).mkdir()
            if hierarchy.name == "cpuset":
                for setting in ("cpuset.cpus", "cpuset.mems"):
                    (hierarchy / self._name / setting).write_text((hierarchy / setting).read_text())

    def _start(self) -> None:
        script = FIRST.format(
            writable=" ".join(f"'{place}'" for place in self._writable),
            units=" ".join(UNITS),
            targets=" ".join(TARGETS),
            groups=_mount_groups(),
            systemd=SYSTEMD,
        )
        join = "".join(f"echo $$ > {each}/{self._name}/cgroup.procs\n" for each in _hierarchies())
        unshare = "exec unshare --pid --fork --kill-child --mount --cgroup --uts --ipc bash -c"
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", f'set -e\n{join}{unshare} "$1"', "bash", script],
                env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_for(self._answers, f"systemd answers\n{self.log()}", 60, 0.02)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"systemd ended:\n{self.log()}"
        for process in psutil.Process(self._process.pid).children():
            if not self._first:
                # What stays in the topmost group keeps systemd from giving controllers to those below.
                for hierarchy in _hierarchies():
                    (hierarchy / "cgroup.procs").write_text(str(self._process.pid))
            self._first = process.pid
        return bool(self._first) and self.systemctl("is-active", "tests.target").stdout.strip() == "active"

    def log(self) -> str:
        """Return the end of what systemd has written."""
        return (self.directory / "log").read_text(errors="replace")[-3000:]

    def command(self, *words: str) -> list[str]:
        """Return the command that runs a program in there."""
        names = ("--mount", "--pid", "--cgroup", "--uts", "--ipc")
        # A program joins the groups of systemd first, or it would be outside of all that its namespace shows.
        join = "".join(f"echo $$ > {place}/cgroup.procs; " for place in self._places())
        enter = ["nsenter", f"--target={self._first}", *names, "--wdns=/", *words]
        return ["bash", "-c", f'{join}exec "$@"', "bash", *enter]

    def _places(self) -> list[Path]:
        # In version 2 a group that has others below it cannot have processes.
        below = "init.scope" if cgroup_version() == 2 else ""
        return [each / self._name / below for each in _hierarchies()]

    def run(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a program in there. Raises subprocess.TimeoutExpired."""
        return subprocess.run(
            self.command(*words), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
        )

    def systemctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("systemctl", *words)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Return properties of a unit as systemd writes them."""
        shown = self.systemctl("show", f"--property={','.join(properties)}", unit).stdout
        return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

    def units(self, pattern: str) -> list[str]:
        """Return the units that systemd knows, running or not."""
        listed = self.systemctl("list-units", "--all", "--plain", "--no-legend", pattern).stdout
        return [line.split()[0] for line in listed.splitlines()]

    def write_unit(self, name: str, text: str) -> None:
        """Install a unit, or with `NAME.d/any.conf` a part of one."""
        path = Path(f"/proc/{self._first}/root/run/units") / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        assert self.systemctl("daemon-reload").returncode == 0

    def group(self, unit: str, controller: str) -> Path:
        """Return the directory of a unit's control group."""
        below = self.show(unit, "ControlGroup")["ControlGroup"].lstrip("/")
        return (GROUPS if cgroup_version() == 2 else GROUPS / controller) / self._name / below

    def close(self) -> None:
        """End it, and with it every process in there; remove its groups and its files."""
        if self._process is not None:
            # Without its first process nothing in the namespace lives on.
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)
        wait_for(self._remove_groups, "the control groups are removed", 20, 0.1)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _remove_groups(self) -> bool:
        for hierarchy in _hierarchies():
            own = hierarchy / self._name
            for path in [*sorted(own.rglob("*"), reverse=True), own]:
                if path.is_dir():
                    try:
                        path.rmdir()
                    except OSError:
                        return False
        return True

