"""Real accounts of this machine, made for a test and removed after it. Needs root."""

from __future__ import annotations

import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


def end_processes_of(uid: int) -> None:
    """End what an account of ours still runs: the next account made may get its number, and would own it."""
    processes = [process for process in psutil.process_iter(["uids"]) if process.info["uids"].real == uid]
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=10)


@contextmanager
def system_users(*names: str) -> Iterator[dict[str, str]]:
    """Make accounts with a home (0700) and a password; yields name → password."""
    passwords = {}
    home = Path(tempfile.mkdtemp(prefix="hub-homes-", dir="/var/tmp"))
    home.chmod(0o755)
    try:
        for name in names:
            subprocess.run(
                ["useradd", "--create-home", "--home-dir", str(home / name), "--shell", "/bin/bash", name],
                check=True, capture_output=True,
            )
            (home / name).chmod(0o700)
            passwords[name] = secrets.token_hex(8)
            subprocess.run(["chpasswd"], input=f"{name}:{passwords[name]}", text=True, check=True)
        yield passwords
    finally:
        for name in names:
            try:
                account = pwd.getpwnam(name)
            except KeyError:
                continue
            end_processes_of(account.pw_uid)
            subprocess.run(["userdel", "--remove", "--force", name], check=False, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)
