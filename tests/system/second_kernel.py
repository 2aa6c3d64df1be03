"""A second kernel, run as an ordinary process (user-mode Linux), for what the machine's own kernel does not have.

It sees the machine's files, read-only, and has a /tmp, a /run and a cgroup v2 hierarchy of its own; with systemd as
its first process if wanted. Only root can start it. What needs it all is run by

    python -m tests.system.second_kernel

which runs the contract of limits and the system test of them in it, without and with systemd, and the test of the
memory limit of a server in a unit of systemd.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .public_environment import public_environment

KERNEL = "linux.uml"
COMMANDS = "JUPYTERHUB_TEST_COMMANDS"
"""The variable that says where the commands of an environment are that is made already."""
ROOT = Path(__file__).parents[2]

_INIT = """\
#!/bin/bash
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /dev/shm /run/shared
mount -t tmpfs tmpfs /dev/shm
mount -t hostfs none /run/shared -o {shared}
ip link set lo up
"""

_WITHOUT_SYSTEMD = """\
/bin/bash /run/shared/job.sh
"""

# Only the message bus, the job, and what they need; not what the machine itself starts.
_WITH_SYSTEMD = """\
mkdir -p /run/systemd/system
cat > /run/systemd/system/job.service <<'UNIT'
[Unit]
Requires=dbus.service
After=dbus.service
DefaultDependencies=no
[Service]
ExecStart=/bin/bash /run/shared/job.sh
StandardOutput=null
Delegate=yes
UNIT
cat > /run/systemd/system/job.target <<'UNIT'
[Unit]
Requires=job.service
DefaultDependencies=no
AllowIsolate=yes
UNIT
exec /lib/systemd/systemd --unit=job.target
"""

_JOB = """\
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
cd {root}
{command} > /run/shared/output 2>&1
echo $? > /run/shared/status
sync
# The file system is that of the machine: there is nothing to unmount.
{python} -c 'import ctypes; ctypes.CDLL(None).reboot(0x4321FEDC)'
"""


@dataclass(frozen=True)
class Result:
    """`status` is that of the command, None if the kernel ended before; `console` is what the kernel said."""

    status: int | None
    output: str
    console: str


def inside() -> bool:
    """Return whether this is it."""
    processor = Path("/proc/cpuinfo")
    return processor.exists() and "User Mode Linux" in processor.read_text()


def missing() -> str:
    """Return why it cannot be started here, empty if it can."""
    if os.geteuid() != 0:
        return "only root can start a second kernel"
    if shutil.which(KERNEL) is None:
        return f"{KERNEL} is missing; Debian's package is called user-mode-linux"
    return ""


def run(command: Sequence[str], *, systemd: bool = False, memory: str = "1024M", timeout: float = 120) -> Result:
    """Run a command there, in the root of the checkout. Raises TimeoutError after `timeout` seconds."""
    with tempfile.TemporaryDirectory(prefix="second-kernel-") as name:
        shared = Path(name)
        init = shared / "init.sh"
        init.write_text(_INIT.format(shared=shared) + (_WITH_SYSTEMD if systemd else _WITHOUT_SYSTEMD))
        init.chmod(0o755)
        (shared / "job.sh").write_text(
            _JOB.format(root=ROOT, command=shlex.join(command), python=shlex.quote(sys.executable))
        )
        words = [KERNEL, "rootfstype=hostfs", "rootflags=/", "ro", f"mem={memory}", f"init={init}"]
        with (shared / "console").open("wb") as console:
            process = subprocess.Popen(
                [*words, "con=null", "con0=fd:0,fd:1"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                # Its memory is a file there.
                env={**os.environ, "TMPDIR": "/dev/shm"},
                start_new_session=True,
            )
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait(10)
                raise TimeoutError(f"not done after {timeout:g} s\n{_read(shared / 'output')}") from None
        status = _read(shared / "status").strip()
        return Result(int(status) if status else None, _read(shared / "output"), _read(shared / "console"))


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def pytest_command(*arguments: str) -> list[str]:
    """Return the command that runs tests there."""
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--override-ini=timeout=120", *arguments]


def contract_command(mechanism: str) -> list[str]:
    """Return the command that holds a mechanism to the contract of limits."""
    return pytest_command("tests/contract/test_limits.py", "-k", f"{mechanism} and not fake", "--durations=3")


# An account that every Debian has, with a systemd of its own; it may read the checkout wherever that is.
_AS_USER = """\
systemctl start user@33.service && XDG_RUNTIME_DIR=/run/user/33 exec setpriv --reuid=33 --regid=33 --clear-groups \
  --inh-caps=+dac_read_search --ambient-caps=+dac_read_search --bounding-set=-all,+dac_read_search {command}
"""

# Accounts are made there, in copies of the files that this machine has.
_WITH_ACCOUNTS = """\
cp -a /etc /run/etc && mount --bind /run/etc /etc && mkdir /run/public && mount --bind {public} /run/public && \
  mount -t tmpfs tmpfs /var/tmp && mkdir -p {public} && mount --bind /run/public {public} && exec {command}
"""


def units_command() -> list[str]:
    """Return the command that has a server in a unit of systemd reach its memory limit, with cgroup version 2."""
    commands = public_environment("jupyterhub-systemdspawner")
    public = commands.parent.parent
    # There is no network to bring it up to date by.
    tests = pytest_command("--override-ini=timeout=600", "tests/system/test_systemd.py", "-k", "memory")
    command = shlex.join(["env", f"{COMMANDS}={commands}", *tests])
    return ["bash", "-c", _WITH_ACCOUNTS.format(public=public, command=command)]


def main() -> int:
    """Run everything about limits, without and with systemd."""
    reason = missing()
    if reason:
        print(reason, file=sys.stderr)
        return 1
    failed = 0
    system = pytest_command("tests/system/test_limits.py")
    for systemd, command in (
        (False, contract_command("cgroup2")),
        (False, system),
        (True, contract_command("systemd")),
        (True, system),
        # These start a systemd themselves.
        (False, units_command()),
        (True, ["sh", "-c", _AS_USER.format(command=shlex.join(contract_command("systemd-user")))]),
    ):
        print(f"{'with' if systemd else 'without'} systemd: {shlex.join(command)}", flush=True)
        result = run(command, systemd=systemd, memory="1536M", timeout=600)
        print(result.output if result.status is not None else result.console, flush=True)
        failed |= result.status != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
