"""A PostgreSQL server of our own: a fresh cluster in a temporary directory, on loopback, gone after the tests.

Uses the programs of Debian's package `postgresql`. Root cannot run the server, so as root it runs as `postgres`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGE = "postgresql"


def find_programs() -> Path | None:
    """The directory with initdb and postgres, or None when PostgreSQL is not installed."""
    for directory in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (directory / "initdb").exists():
            return directory
    found = shutil.which("initdb")
    return Path(found).parent if found else None


def _fastest_directory() -> str:
    """In memory where there is room for a few databases: making one copies hundreds of files."""
    shared = Path("/dev/shm")
    if shared.is_dir() and shutil.disk_usage(shared).free > 512 * 2**20:
        return str(shared)
    return "/var/tmp"


class Cluster:
    """A running server. Each test gets databases of its own from `create_database`."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self.directory = Path(tempfile.mkdtemp(prefix="hub-pg-", dir=_fastest_directory()))
        self._number = 0
        self._as_user: list[str] = []
        if os.geteuid() == 0:
            self._as_user = ["runuser", "-u", "postgres", "--"]
            shutil.chown(self.directory, "postgres")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def start(self) -> None:
        data = self.directory / "data"
        self._run("initdb", "-D", str(data), "-A", "trust", "-U", "hub", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
        self._start()

    def _start(self) -> None:
        options = f"-p {self.port} -k {self.directory} -c listen_addresses=127.0.0.1 -c fsync=off"
        words = ("-w", "-t", "30", "-l", str(self.directory / "log"), "-o", options)
        self._run("pg_ctl", "-D", str(self.directory / "data"), *words, "start")

    def stop(self) -> None:
        """Stop the server by its pid, and remove its directory."""
        try:
            pid = self.pid
        except (OSError, ValueError):
            pid = None
        if pid is not None:
            os.kill(pid, signal.SIGQUIT)
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and Path(f"/proc/{pid}").exists():
                time.sleep(0.02)
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def pid(self) -> int:
        return int((self.directory / "data" / "postmaster.pid").read_text().splitlines()[0])

    def restart(self) -> None:
        """Stop and start the server at once: every connection is lost."""
        self._run("pg_ctl", "-D", str(self.directory / "data"), "-w", "-t", "30", "-m", "fast", "restart")

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody answers; what is stored stays."""
        self._run("pg_ctl", "-D", str(self.directory / "data"), "-w", "-t", "30", "-m", "fast", "stop")
        try:
            yield
        finally:
            self._start()

    def create_database(self, *, template: str = "template1") -> str:
        """Make a database, empty or like another one that nobody has open, and return its URL."""
        self._number += 1
        name = f"hub{self._number}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}", database="postgres")
        return f"postgresql://hub@127.0.0.1:{self.port}/{name}"

    def drop_database(self, url: str) -> None:
        """Remove a database, whoever is still connected. Each takes eight megabytes."""
        self.execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)", database="postgres")

    def execute(self, statement: str, *, database: str) -> list[tuple[object, ...]]:
        """Run one statement outside any transaction, and return its rows if it has any."""
        import psycopg

        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="hub", dbname=database, autocommit=True
        ) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as_user, str(self._programs / program), *arguments],
            stdin=subprocess.DEVNULL,
            # Not a pipe: the server inherits it and would keep it open for as long as it lives.
            stdout=(self.directory / "programs.log").open("ab"),
            stderr=subprocess.STDOUT,
            cwd="/",
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {(self.directory / 'programs.log').read_text()[-2000:]}")
