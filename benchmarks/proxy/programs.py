"""The proxies, each as a process with the same routes to the same upstream."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import psutil

from tests.system.dataplane_program import free_port

TOKEN = "a-token-for-benchmarks"
#: The route that requests take, in the middle of all others.
PATH = "/user/u5000"


class Running:
    """A proxy that runs. CPU and memory are those of its processes, however many."""

    def __init__(self, name: str, pid: int, port: int, api_port: int = 0) -> None:
        self.name = name
        self.port = port
        self.api_port = api_port
        self.process = psutil.Process(pid)

    def _all(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def cpu(self) -> float:
        """CPU seconds since the start."""
        return sum(_cpu(process) for process in self._all())

    def resident(self) -> int:
        """Bytes resident."""
        return int(sum(process.memory_info().rss for process in self._all()))

    def files(self) -> int:
        """Open descriptors."""
        return int(sum(process.num_fds() for process in self._all()))

    def states(self) -> dict[str, int]:
        """Its TCP connections by state."""
        counts: dict[str, int] = {}
        for process in self._all():
            for connection in process.net_connections("tcp"):
                counts[connection.status] = counts.get(connection.status, 0) + 1
        return counts

    def api(self) -> HTTPConnection:
        """A connection to the REST API."""
        return HTTPConnection("127.0.0.1", self.api_port, timeout=60)

    def add(self, connection: HTTPConnection, path: str, target: str) -> None:
        """Add a route."""
        body = json.dumps({"target": target, "jupyterhub": True, "user": path})
        headers = {"Authorization": f"token {TOKEN}"}
        connection.request("POST", f"/api/routes{path}", body, headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 201, answer.status

    def load(self, count: int, target: str) -> float:
        """Add `count` routes one after the other on one connection; return the seconds it took."""
        connection = self.api()
        began = time.perf_counter()
        for number in range(count):
            self.add(connection, f"/user/u{number}", target)
        connection.close()
        return time.perf_counter() - began


def _cpu(process: psutil.Process) -> float:
    """CPU seconds of a process; of all its threads to the nanosecond, where the system tells."""
    spent = 0
    try:
        for thread in Path(f"/proc/{process.pid}/task").iterdir():
            spent += int((thread / "schedstat").read_text().split()[0])
    except OSError:
        return float(sum(process.cpu_times()[:2]))
    return spent / 1e9


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"it does not start: {log.read_text()}")
        time.sleep(0.02)


@contextlib.contextmanager
def _process(words: list[str], port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            words, stdout=output, stderr=output, env={**os.environ, "CONFIGPROXY_AUTH_TOKEN": TOKEN}
        )
    try:
        _wait_for(port, process, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def upstream(directory: Path) -> Iterator[str]:
    """The server behind the proxies; yields its address."""
    port = free_port()
    words = [sys.executable, "-m", "benchmarks.proxy.upstream", str(port)]
    with _process(words, port, directory / "upstream.log"):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def ours(directory: Path, *options: str) -> Iterator[Running]:
    """`jupyterhub-proxy`, as the Hub starts it, with its routes on disk."""
    with _managed("ours", [sys.executable, "-m", "jupyterhub.dataplane.cli"], directory, *options) as running:
        yield running


@contextlib.contextmanager
def node(command: str, directory: Path) -> Iterator[Running]:
    """configurable-http-proxy."""
    with _managed("chp", [command], directory) as running:
        yield running


@contextlib.contextmanager
def _managed(name: str, command: list[str], directory: Path, *options: str) -> Iterator[Running]:
    port, api = free_port(), free_port()
    words = [*command, "--ip", "127.0.0.1", "--port", str(port), "--api-ip", "127.0.0.1", "--api-port", str(api)]
    if name == "ours":
        words += ["--state-file", str(directory / f"routes-{port}")]
    # Lines about each route are of no use to anybody here, in either program.
    with _process([*words, "--log-level", "warn", *options], api, directory / f"{name}.log") as process:
        _wait_for(port, process, directory / f"{name}.log")
        yield Running(name, process.pid, port, api)


@contextlib.contextmanager
def nginx(command: str, directory: Path, target: str, routes: int) -> Iterator[Running]:
    """nginx with one worker and a location for each route."""
    port = free_port()
    places = "\n".join(f"location /user/u{number}/ {{ proxy_pass http://up; }}" for number in range(routes))
    place = directory / "nginx"
    place.mkdir(exist_ok=True)
    (place / "nginx.conf").write_text(f"""
        daemon off; worker_processes 1; pid {place}/pid; error_log {place}/error.log warn;
        worker_rlimit_nofile 20000;
        events {{ worker_connections 19000; }}
        http {{
          access_log off; keepalive_requests 100000000; client_max_body_size 0; server_tokens off;
          client_body_temp_path {place}/a; proxy_temp_path {place}/b; fastcgi_temp_path {place}/c;
          uwsgi_temp_path {place}/d; scgi_temp_path {place}/e;
          map $http_upgrade $connection_header {{ default upgrade; '' ''; }}
          upstream up {{ server {target.removeprefix("http://")}; keepalive 128; keepalive_requests 100000000; }}
          server {{
            listen 127.0.0.1:{port} backlog=2048;
            proxy_http_version 1.1; proxy_request_buffering off; proxy_max_temp_file_size 0;
            proxy_read_timeout 600s;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_header;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Port {port};
            {places}
          }}
        }}""")
    words = [command, "-p", str(place), "-c", str(place / "nginx.conf"), "-e", str(place / "start.log")]
    with _process(words, port, directory / "nginx.log") as process:
        yield Running("nginx", process.pid, port)


def routes_of(running: Running) -> dict[str, object]:
    """All routes, from the API."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{running.api_port}/api/routes", headers={"Authorization": f"token {TOKEN}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, object] = json.load(answer)
        return found
