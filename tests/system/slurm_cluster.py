"""A Slurm cluster of one node on the loopback interface, with munge of its own: everything is in one directory.

Needs root, as jobs run under the accounts of their owners. Nothing is read from or written to ``/etc/slurm``.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from .hub_process import free_port, wait_for

CPUS = 2
MEMORY = 4000
"""MiB of the node, as far as Slurm is concerned."""

#: The node is called `localhost`, as a Hub connects to a node by its name.
CONFIGURATION = f"""
ClusterName=test
SlurmctldHost={{host}}(127.0.0.1)
SlurmctldPort={{controller_port}}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={{munge}}/socket
StateSaveLocation={{directory}}/state
SlurmdSpoolDir={{directory}}/spool
SlurmctldPidFile={{directory}}/slurmctld.pid
SlurmdPidFile={{directory}}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
ReturnToService=2
MpiDefault=none
JobRequeue=0
KillWait=2
MessageTimeout=2
NodeName=localhost NodeHostname={{host}} NodeAddr=127.0.0.1 Port={{node_port}} CPUs={CPUS} RealMemory={MEMORY}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP DefMemPerCPU=500
"""

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo", "sudo")


def missing_programs() -> list[str]:
    """Return which programs that are needed this machine has not."""
    return [program for program in PROGRAMS if not shutil.which(program, path=_path())]


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin"


class SlurmCluster:
    """munged, slurmctld and slurmd, the first two of which can be stopped and started again.

    `environment` is what the commands of Slurm need beside the usual; `directory` is open to every account.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="slurm-", dir="/var/tmp"))
        self.directory.chmod(0o755)
        self.environment = {"SLURM_CONF": str(self.directory / "slurm.conf")}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        munge = self.directory / "munge"
        for path, mode in ((munge, 0o755), (munge / "private", 0o700)):
            path.mkdir()
            path.chmod(mode)
            shutil.chown(path, "munge")
        key = munge / "private/key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(1024))
        shutil.chown(key, "munge")
        for name in ("state", "spool"):
            (self.directory / name).mkdir()
        (self.directory / "slurm.conf").write_text(
            CONFIGURATION.format(
                host=socket.gethostname().partition(".")[0],
                controller_port=free_port(),
                node_port=free_port(),
                directory=self.directory,
                munge=munge,
            )
        )
        private = munge / "private"
        self._commands = {
            "munged": [
                *("setpriv", "--reuid=munge", "--regid=munge", "--init-groups"),
                *("munged", "--foreground", f"--socket={munge}/socket", f"--key-file={key}"),
                *(f"--pid-file={munge}/pid", f"--log-file={private}/log", f"--seed-file={private}/seed"),
            ],
            "slurmctld": ["slurmctld", "-D"],
            "slurmd": ["slurmd", "-D", "-N", "localhost"],
        }

    def __enter__(self) -> SlurmCluster:
        try:
            for program in self._commands:
                self._start(program)
            self._wait_for_node()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start_again(self, program: str) -> None:
        """Start a program that was stopped, and wait until all is as before."""
        self._start(program)
        # The controller asks a node that was silent only after minutes; one that reports itself is taken back at once.
        self.stop("slurmd")
        self._start("slurmd")
        self._wait_for_node()

    def _start(self, program: str) -> None:
        with (self.directory / f"{program}.log").open("ab") as log:
            self._running[program] = subprocess.Popen(
                self._commands[program],
                env={**os.environ, **self.environment, "PATH": _path()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if program == "munged":
            socket_path = self.directory / "munge/socket"
            wait_for(socket_path.exists, f"munged listens\n{self.log(program)}", 10)

    def stop(self, program: str) -> None:
        """End a program; jobs go on."""
        process = self._running.pop(program)
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    def log(self, program: str) -> str:
        """Return the end of what a program has written."""
        path = self.directory / f"{program}.log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    def run(self, *command: str, check: bool = True) -> str:
        """Run one of Slurm's commands as root and return what it says. Raises AssertionError with its errors."""
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment, "PATH": _path()},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{' '.join(command)}: {done.stderr}\n{self.log('slurmctld')}"
        return done.stdout.strip()

    def _wait_for_node(self) -> None:
        """Wait until the node may be given jobs; a star after its state says that it does not answer."""
        wait_for(
            lambda: self.run("sinfo", "-h", "-o", "%T", check=False) in ("idle", "mixed", "allocated"),
            f"the node is there\n{self.log('slurmctld')}\n{self.log('slurmd')}",
            30,
            0.1,
        )

    def jobs(self, *options: str) -> list[str]:
        """Return the lines of `squeue` with these options, by default the numbers of all jobs that are not over."""
        return self.run("squeue", "-h", *(options or ("-o", "%i"))).splitlines()

    def cancel(self, jobs: Sequence[str]) -> None:
        """Cancel jobs and wait until they are gone."""
        if jobs:
            self.run("scancel", *jobs)
        wait_for(lambda: not set(jobs) & set(self.jobs()), f"jobs {', '.join(jobs)} are gone", 20, 0.1)

    def close(self) -> None:
        """Cancel what runs (the end of slurmd does not), end the programs, delete the directory."""
        try:
            if {"munged", "slurmctld", "slurmd"} <= self._running.keys():
                deadline = time.monotonic() + 20
                while (jobs := self.run("squeue", "-h", "-o", "%i", check=False).split()) and time.monotonic() < deadline:
                    self.run("scancel", *jobs, check=False)
                    time.sleep(0.3)
        finally:
            for program in ("slurmd", "slurmctld", "munged"):
                if program in self._running:
                    self.stop(program)
            shutil.rmtree(self.directory, ignore_errors=True)
