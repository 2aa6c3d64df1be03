"""A real Hub in a process of its own, for system tests: start, wait until it answers, kill, start again, stop."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

START_TIMEOUT = 30.0


_GIVEN: set[int] = set()


def free_port() -> int:
    """Return a port on the loopback interface that nobody listens on at the moment."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        # The kernel may hand out the same port twice in a row; two listeners of one test must not share it.
        if port not in _GIVEN:
            _GIVEN.add(port)
            return port


def wait_for(condition: Callable[[], Any], what: str, timeout: float = 30.0, interval: float = 0.05) -> Any:
    """Return the first true value of `condition()`. Raises AssertionError naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(interval)


class Answer:
    """One HTTP answer: `status`, `headers`, `body` bytes."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def json(self) -> Any:
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<{self.status} {self.body[:200]!r}>"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class HubProcess:
    """A Hub with its own directory, ports, proxy and an administrator's API token.

    `config` is Python text appended to the configuration; `env` is added to the environment; `hub_ip` is where the Hub
    itself listens.
    """

    def __init__(
        self,
        directory: Path,
        config: str = "",
        *,
        env: dict[str, str] | None = None,
        bin_dir: Path | None = None,
        db_url: str = "",
        hub_ip: str = "127.0.0.1",
    ) -> None:
        self.directory = directory
        self.hub_ip = hub_ip
        self.port = free_port()
        self.hub_port = free_port()
        self.proxy_api_port = free_port()
        self.token = secrets.token_hex(16)
        self.env = dict(env or {})
        self.bin_dir = bin_dir or Path(sys.executable).parent
        self.process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = directory / "hub.log"
        directory.mkdir(parents=True, exist_ok=True)
        self.config_path = directory / "jupyterhub_config.py"
        self.config_path.write_text(
            f"""
c = get_config()  # noqa: F821
c.JupyterHub.bind_url = "{self.url}"
c.JupyterHub.hub_ip = "{self.hub_ip}"
c.JupyterHub.hub_port = {self.hub_port}
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{self.proxy_api_port}"
c.JupyterHub.db_url = "{db_url or f'sqlite:///{directory}/jupyterhub.sqlite'}"
c.JupyterHub.cookie_secret_file = "{directory}/cookie_secret"
c.ConfigurableHTTPProxy.pid_file = "{directory}/proxy.pid"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = "{directory}/home/{{username}}"
c.JupyterHub.services = [{{"name": "driver", "api_token": "{self.token}"}}]
c.JupyterHub.load_roles = [{{
    "name": "driver", "services": ["driver"],
    "scopes": ["admin:users", "admin:servers", "tokens", "read:hub", "proxy", "shutdown", "access:servers",
               "list:services", "read:services", "admin:groups", "read:metrics"],
}}]
{config}
"""
        )

    def start(self, *, wait: bool = True) -> float:
        """Start the Hub. Returns the seconds until it answered (0.0 when not waiting)."""
        began = time.monotonic()
        path = f"{self.bin_dir}{os.pathsep}{os.environ.get('PATH', '')}"
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.bin_dir / "jupyterhub"), "-f", str(self.config_path)],
                cwd=self.directory,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PATH": path, **self.env},
                start_new_session=True,
            )
        if not wait:
            return 0.0
        self.wait_until_up()
        return time.monotonic() - began

    def wait_until_up(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until the Hub answers through its proxy. Raises AssertionError with the end of its log."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the Hub ended with {self.process.returncode}:\n{self.log_tail()}")
            try:
                if self.request("GET", "/hub/api/", timeout=2).status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.03)
        raise AssertionError(f"the Hub does not answer after {timeout:g} s:\n{self.log_tail()}")

    def log_tail(self, lines: int = 60) -> str:
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def kill(self) -> None:
        """SIGKILL the Hub process alone; its children live on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self, timeout: float = 30.0) -> int:
        """End the Hub the ordinary way and return its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise AssertionError(f"the Hub did not end within {timeout:g} s:\n{self.log_tail()}") from None

    def clean_up(self) -> None:
        """End the Hub and everything that was started in its directory; for the end of a test."""
        if self.process is not None and self.process.poll() is None:
            try:
                self.stop()
            except AssertionError:
                pass
        for process in self.processes():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue

    def processes(self) -> list[psutil.Process]:
        """Return processes that this Hub started, found by a path of its directory in command line or environment."""
        found, marker = [], str(self.directory)
        for process in psutil.process_iter():
            try:
                if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if (
                    marker in " ".join(process.cmdline())
                    or marker in process.environ().get("HOME", "")
                    or (process.environ().get("TEST_HUB_DIRECTORY") == marker)
                ):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
                continue
        return found

    # Talking to it

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 30.0,
        base: str = "",
    ) -> Answer:
        """Make one request without following redirects. A body that is not bytes is sent as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request((base or self.url) + path, data=data, method=method)
        if token is not None:
            request.add_header("Authorization", f"token {token}")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        opener = urllib.request.build_opener(_NoRedirect)
        try:
            with opener.open(request, timeout=timeout) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers, error.read())

    def api(self, method: str, path: str, body: Any = None, **kwargs: Any) -> Answer:
        """Make one REST request as administrator, straight to the Hub's own port."""
        return self.request(
            method, f"/hub/api{path}", body, token=self.token, base=f"http://{self.hub_ip}:{self.hub_port}", **kwargs
        )

    def user(self, name: str) -> dict[str, Any]:
        model: dict[str, Any] = self.api("GET", f"/users/{name}").json()
        return model

    def server(self, name: str, server: str = "") -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.user(name).get("servers", {}).get(server)
        return found

    def start_server(self, name: str, server: str = "", options: dict[str, Any] | None = None) -> Answer:
        path = f"/users/{name}/servers/{server}" if server else f"/users/{name}/server"
        return self.api("POST", path, options or {})

    def stop_server(self, name: str, server: str = "") -> Answer:
        path = f"/users/{name}/servers/{server}" if server else f"/users/{name}/server"
        return self.api("DELETE", path)

    def wait_ready(self, name: str, server: str = "", timeout: float = 60.0) -> dict[str, Any]:
        def ready() -> Any:
            model = self.server(name, server)
            return model if model and model["ready"] else None

        model: dict[str, Any] = wait_for(ready, f"server {name}/{server} is ready\n{self.log_tail()}", timeout, 0.1)
        return model

    def wait_stopped(self, name: str, server: str = "", timeout: float = 60.0) -> None:
        wait_for(
            lambda: self.server(name, server) is None,
            f"server {name}/{server} is stopped\n{self.log_tail()}",
            timeout,
            0.1,
        )

    def routes(self) -> dict[str, Any]:
        routes: dict[str, Any] = self.api("GET", "/proxy").json()
        return routes
