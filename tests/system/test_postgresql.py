"""A Hub on a real PostgreSQL, which is restarted under it, restored from a backup, and shared by mistake."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ..store.postgres import PACKAGE, Cluster, find_programs
from .hub_process import HubProcess, wait_for
from .person import Person
from .test_internal_tls import with_server

PROGRAMS = find_programs()

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(120),
    pytest.mark.skipif(PROGRAMS is None, reason=f"needs PostgreSQL; Debian's package is called {PACKAGE}"),
]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/postgresql/jupyterhub_config.py"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    assert PROGRAMS is not None
    cluster = Cluster(PROGRAMS)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def environment(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The role and the database of the page, with a password, and what a client needs to get there."""
    password = secrets.token_hex(8)
    cluster.execute(f"CREATE ROLE jupyterhub LOGIN PASSWORD '{password}'", database="postgres")
    cluster.execute("CREATE DATABASE jupyterhub OWNER jupyterhub", database="postgres")
    cluster.execute("CREATE DATABASE restored OWNER jupyterhub", database="postgres")
    rules = cluster.directory / "data/pg_hba.conf"
    rules.write_text(f"host all jupyterhub 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
    cluster.execute("SELECT pg_reload_conf()", database="postgres")
    file = tmp_path_factory.mktemp("password") / "pgpass"
    file.write_text(f"127.0.0.1:*:*:jupyterhub:{password}\n")
    file.chmod(0o600)
    return {"PGPORT": str(cluster.port), "PGPASSFILE": str(file)}


class Hubs:
    """Hubs with the configuration of the page, each with a directory of its own."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._directory, self._environment = directory, environment
        self.made: list[HubProcess] = []

    def __call__(self, more: str = "") -> HubProcess:
        directory = self._directory / f"hub{len(self.made)}"
        config = f"load_subconfig({str(EXAMPLE)!r})\nc.Spawner.args = ['--allow-root']\n{more}"
        hub = HubProcess(directory, config, env=self._environment)
        self.made.append(hub)
        return hub


@pytest.fixture
def new_hub(environment: dict[str, str], tmp_path: Path) -> Iterator[Hubs]:
    hubs = Hubs(tmp_path, environment)
    yield hubs
    for hub in hubs.made:
        hub.clean_up()


def pid_of(hub: HubProcess, name: str) -> int:
    pid: int = hub.wait_ready(name)["state"]["pid"]
    return pid


def client(program: str, environment: dict[str, str], *words: str) -> None:
    """Run a program of PostgreSQL as the page does."""
    command = shutil.which(program, path=f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}")
    assert command is not None
    address = ("--host=127.0.0.1", "--username=jupyterhub", "--no-password")
    done = subprocess.run(
        [command, *address, *words], env={**os.environ, **environment}, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_servers_outlive_the_hub_and_a_restart_of_postgresql(new_hub: Hubs, cluster: Cluster) -> None:
    hub = new_hub()
    hub.start()
    ada = with_server(hub, "ada")
    pid = pid_of(hub, "ada")
    hub.kill()
    hub.start()
    assert pid_of(hub, "ada") == pid
    assert ada.is_logged_in(), "the session is in the database"
    cluster.restart()
    assert ada.is_logged_in()
    assert ada.get("/user/ada/lab").status_code == 200
    with cluster.away():
        assert ada.get("/user/ada/api/status").status_code == 200, "running servers need no database"
        refused = hub.start_server("grace")
        assert refused.status == 503, refused
        page = Person(hub, "linus").log_in("any")
        for said in (refused.body.decode(), page.text):
            assert "database does not answer" in said and "postgresql" not in said
    assert "postgresql+psycopg://" in hub.log_path.read_text(), "where it is, is for the log"
    wait_for(ada.is_logged_in, "the Hub has connected anew")
    assert pid_of(hub, "ada") == pid
    grace = with_server(hub, "grace")
    assert grace.get("/user/grace/lab").status_code == 200
    assert pid_of(hub, "ada") == pid
    for name in ("ada", "grace"):
        assert hub.stop_server(name).status in (202, 204)
        hub.wait_stopped(name)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert hub.stop() == 0


def test_a_backup_brings_everybody_back(new_hub: Hubs, environment: dict[str, str], tmp_path: Path) -> None:
    hub = new_hub()
    hub.start()
    hub.api("POST", "/users/linus")
    file = tmp_path / "jupyterhub.dump"
    client("pg_dump", environment, "--format=custom", f"--file={file}", "jupyterhub")
    hub.api("DELETE", "/users/linus")
    hub.stop()
    client("pg_restore", environment, "--no-owner", "--dbname=restored", str(file))
    restored = new_hub('c.JupyterHub.db_url = "postgresql://jupyterhub@127.0.0.1/restored"')
    restored.start()
    assert restored.user("linus")["name"] == "linus"


def test_a_second_hub_leaves_the_servers_of_the_first_alone(new_hub: Hubs) -> None:
    first, second = new_hub(), new_hub("c.JupyterHub.cleanup_servers = True")
    first.start()
    ada = with_server(first, "ada")
    pid = pid_of(first, "ada")
    second.start()
    refused = second.start_server("ada")
    assert (refused.status, "already running" in refused.json()["message"]) == (400, True)
    second.stop()
    assert pid_of(first, "ada") == pid
    assert ada.get("/user/ada/lab").status_code == 200
    assert first.stop_server("ada").status in (202, 204)
    first.wait_stopped("ada")


def test_another_hub_takes_over_from_one_that_is_gone(new_hub: Hubs) -> None:
    first, second = new_hub(), new_hub()
    first.start()
    with_server(first, "ada")
    pid = pid_of(first, "ada")
    first.kill()
    second.start()
    assert pid_of(second, "ada") == pid
    wait_for(lambda: "/user/ada/" in second.routes(), "its own proxy has the route")
    assert second.stop_server("ada").status in (202, 204)
    second.wait_stopped("ada")
