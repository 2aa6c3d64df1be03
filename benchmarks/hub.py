"""The cases: each starts a Hub of its own, measures, and ends it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil

from tests.system.hub_process import HubProcess, wait_for

TINY_SERVER = Path(__file__).resolve().parent.parent / "tests/system/tiny_server.py"

TINY = f"""
c.Spawner.cmd = [{sys.executable!r}, {str(TINY_SERVER)!r}]
c.JupyterHub.cleanup_servers = False
c.JupyterHub.log_level = "WARN"
"""


def _hub(directory: Path, path: list[Path], config: str = TINY) -> HubProcess:
    env = {
        "PATH": os.pathsep.join([*map(str, path), os.environ.get("PATH", "")]),
        "TEST_HUB_DIRECTORY": str(directory),
    }
    if path[0] != Path(sys.executable).parent:
        # Another installation must not find this checkout.
        env["PYTHONPATH"] = ""
    return HubProcess(directory, config, env=env, bin_dir=path[0])


def _wait_healthy(hub: HubProcess) -> None:
    def healthy() -> bool:
        if hub.process is not None and hub.process.poll() is not None:
            raise RuntimeError(f"the Hub ended:\n{hub.log_tail()}")
        try:
            answer = hub.request("GET", "/hub/health", base=f"http://127.0.0.1:{hub.hub_port}", timeout=2)
            return answer.status == 200
        except OSError:
            return False

    wait_for(healthy, "the Hub is healthy", 60, 0.01)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def cold_start(directory: Path, path: list[Path], _: int) -> dict[str, float]:
    """A fresh directory: seconds until healthy, CPU seconds of the Hub process by then."""
    hub = _hub(directory, path)
    try:
        began = time.monotonic()
        hub.start(wait=False)
        _wait_healthy(hub)
        wall = time.monotonic() - began
        assert hub.process is not None
        return {"seconds to healthy": wall, "CPU seconds": _cpu(psutil.Process(hub.process.pid))}
    finally:
        hub.clean_up()


def memory(directory: Path, path: list[Path], _: int) -> dict[str, float]:
    """Resident memory of the Hub at rest, and of its proxy, in MiB."""
    hub = _hub(directory, path)
    try:
        hub.start()
        assert hub.process is not None
        found = {"Hub MiB": psutil.Process(hub.process.pid).memory_info().rss / 2**20}
        for process in psutil.process_iter():
            try:
                if any(
                    connection.laddr and connection.laddr.port == hub.port
                    for connection in process.net_connections("tcp")
                    if connection.status == "LISTEN"
                ):
                    found["proxy MiB"] = process.memory_info().rss / 2**20
            except (psutil.AccessDenied, psutil.NoSuchProcess):
                continue
        return found
    finally:
        hub.clean_up()


def real_spawn(directory: Path, path: list[Path], _: int) -> dict[str, float]:
    """Seconds from the start request to ready, beyond what the same server needs to boot by itself."""
    hub = _hub(directory, path)
    try:
        hub.start()
        hub.api("POST", "/users/ada")
        overheads = []
        for _round in range(8):
            boot = _boot_alone(directory)
            began = time.monotonic()
            hub.start_server("ada")
            hub.wait_ready("ada")
            overheads.append(time.monotonic() - began - boot)
            hub.stop_server("ada")
            hub.wait_stopped("ada")
        overheads.sort()
        return {"median s beyond boot": overheads[len(overheads) // 2], "longest": overheads[-1]}
    finally:
        hub.clean_up()


def _boot_alone(directory: Path) -> float:
    """Return the seconds that the tiny server needs by itself until it answers."""
    import socket
    import urllib.request

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(TINY_SERVER)], env={**os.environ, "JUPYTERHUB_SERVICE_URL": url}, cwd=directory
    )
    try:
        while True:
            try:
                urllib.request.urlopen(f"{url}api", timeout=1).close()
                return time.monotonic() - began
            except OSError:
                time.sleep(0.005)
    finally:
        process.kill()
        process.wait()


def restart(directory: Path, path: list[Path], servers: int) -> dict[str, float]:
    """Seconds until healthy with many servers running: all are rows that point at one living tiny server."""
    hub = _hub(directory, path)
    sleeper = None
    try:
        hub.start()
        hub.api("POST", "/users/first")
        hub.start_server("first")
        hub.wait_ready("first")
        hub.kill()
        sleeper = _clone_servers(hub, servers)
        began = time.monotonic()
        hub.start(wait=False)
        _wait_healthy(hub)
        healthy = time.monotonic() - began
        hub.wait_until_up(60)
        return {f"seconds to healthy, {servers} servers": healthy}
    finally:
        if sleeper is not None:
            sleeper.kill()
        hub.clean_up()


def _clone_servers(hub: HubProcess, count: int) -> subprocess.Popen[bytes] | None:
    """Make `count` users whose default server is the one that runs: same pid, same address."""
    database = sqlite3.connect(hub.directory / "jupyterhub.sqlite")
    row = database.execute(
        "SELECT s.state, s.started, v.proto, v.ip, v.port FROM spawners s JOIN servers v ON v.id = s.server_id"
    ).fetchone()
    state, started, proto, ip, port = row
    with database:
        for number in range(count):
            name = f"many{number}"
            user_id = database.execute(
                "INSERT INTO users (name, admin, created, cookie_id) VALUES (?, 0, ?, ?)",
                (name, started, uuid.uuid4().hex),
            ).lastrowid
            server_id = database.execute(
                "INSERT INTO servers (proto, ip, port, base_url, cookie_name) VALUES (?, ?, ?, ?, 'cookie')",
                (proto, ip, port, f"/user/{name}/"),
            ).lastrowid
            database.execute(
                "INSERT INTO spawners (user_id, server_id, state, name, display_name, started)"
                " VALUES (?, ?, ?, '', '', ?)",
                (user_id, server_id, state, started),
            )
    database.close()
    return None
