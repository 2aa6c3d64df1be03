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
                pwd.getpwnam(name)
            except KeyError:
                continue
            subprocess.run(["userdel", "--remove", "--force", name], check=False, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)
