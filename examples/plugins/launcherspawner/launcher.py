"""A launcher for tests, `launcher.py DIRECTORY VERB …`: its jobs are processes of this machine.

What it remembers is in the directory. A file `refuse` in it makes `run` refuse with that text, `broken` makes every verb fail, `wait` keeps jobs waiting with
that text as the reason.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

HOME = Path(sys.argv[1])


def write(job, suffix, text):
    """Write a file at once: who reads it finds all or nothing."""
    (HOME / f"{job}.new").write_text(text)
    (HOME / f"{job}.new").replace(HOME / f"{job}.{suffix}")


def run(name, *command):
    if (HOME / "refuse").exists():
        print((HOME / "refuse").read_text(), file=sys.stderr)
        raise SystemExit(3)
    job = f"{name}-{secrets.token_hex(4)}"
    write(job, "status", "waiting in the queue")
    with open(HOME / f"{job}.log", "wb") as log:
        subprocess.Popen(
            [sys.executable, __file__, str(HOME), "keep", job, *command],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )
    print(job)


def keep(job, *command):
    """Be the job: wait, run the command, and note its end."""
    while (HOME / "wait").exists():
        write(job, "status", f"waiting {(HOME / 'wait').read_text()}")
        time.sleep(0.05)
    process = subprocess.Popen(command, start_new_session=True)
    write(job, "pid", str(process.pid))
    write(job, "status", "running")
    write(job, "status", f"ended {process.wait()}")


def status(job):
    print((HOME / f"{job}.status").read_text())


def stop(job, now=""):
    try:
        os.killpg(int((HOME / f"{job}.pid").read_text()), signal.SIGKILL if now else signal.SIGTERM)
    except (FileNotFoundError, ProcessLookupError):
        pass


def logs(job):
    print((HOME / f"{job}.log").read_text(errors="replace"))


if __name__ == "__main__":
    if (HOME / "broken").exists():
        sys.exit("out of order")
    {"run": run, "keep": keep, "status": status, "stop": stop, "logs": logs}[sys.argv[2]](*sys.argv[3:])
