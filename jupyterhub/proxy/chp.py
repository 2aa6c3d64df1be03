"""Control of configurable-http-proxy, or of anything that speaks its REST API (services-and-proxy B3)."""

import asyncio
import contextlib
import json
import logging
import os
import secrets
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tornado.httpclient import HTTPClientError
from tornado.ioloop import PeriodicCallback
from traitlets import Any as AnyTrait
from traitlets import Bool, CaselessStrEnum, Integer, Unicode, default, observe

from ..children import start_child
from ..core.errors import ProxyUnavailable
from ..net import make_ssl_context
from ..traitlets import Command
from .base import Proxy, ProxyFailedToStart, Routes
from .client import APIAnswer, APIClient
from .processes import (
    AdoptedProcess,
    RunningProcess,
    end_process,
    listening_problem,
    looks_like_proxy,
    read_pid,
)

__all__ = ["ConfigurableHTTPProxy"]

#: Seconds for a started proxy to accept connections on both of its ports.
START_TIMEOUT = 15.0
#: Seconds over which a request to the proxy is repeated when it gets no answer, or one of 500 and above.
RETRY_TIMEOUT = 30.0
#: Seconds between two tries from which on the log warns; the pauses double.
CONCERN_PAUSE = 0.4
#: Seconds after each of SIGTERM, SIGTERM and SIGKILL when the proxy is stopped: it lets requests finish
#: first.
STOP_PATIENCE = (6.0, 1.0, 3.0)


class ConfigurableHTTPProxy(Proxy):
    """Starts a proxy as a process of its own and sets its routes through its REST API."""

    proxy_process: Any = AnyTrait(help="The process of the proxy, when we started or adopted it.")
    semaphore: Any = AnyTrait(help="Limits the requests under way at the same time.")
    _check_running_callback: Any = AnyTrait(help="Calls `check_running` from time to time.")

    debug = Bool(False, help="Log every request: the same as `log_level = 'debug'`.").tag(config=True)
    log_level = CaselessStrEnum(
        ["debug", "info", "warn", "error"], "info", help="What the proxy logs, from most to least."
    ).tag(config=True)
    auth_token = Unicode(
        help="""
        The secret that the proxy's REST API asks for.

        Taken from the environment variable CONFIGPROXY_AUTH_TOKEN when that is set. When the hub starts the
        proxy and there is none, one is made. It must be set when something else starts the proxy.
        """,
    ).tag(config=True)
    api_url = Unicode(help="Where the proxy's REST API is, and where a proxy that we start has to put it.").tag(
        config=True
    )
    command = Command(["configurable-http-proxy"], help="The command that starts the proxy.").tag(config=True)
    command_umask = Integer(0o007, help="The umask of the proxy's process.").tag(config=True)
    concurrency = Integer(10, help="How many requests to the REST API may be under way together.").tag(config=True)
    check_running_interval = Integer(
        5, help="Seconds between two looks at whether the proxy's process still runs."
    ).tag(config=True)
    pid_file = Unicode(
        "jupyterhub-proxy.pid",
        help="File with the process id of the proxy. It is how the proxy is found after a crash.",
    ).tag(config=True)

    @observe("debug")
    def _debug_changed(self, change: Any) -> None:
        if change.new:
            self.log_level = "debug"

    @default("auth_token")
    def _auth_token_default(self) -> str:
        token = os.environ.get("CONFIGPROXY_AUTH_TOKEN", "")
        if not token:
            if not self.should_start:
                raise ValueError(
                    "The hub does not start the proxy (Proxy.should_start is False), so it has to be told "
                    "the proxy's token: set ConfigurableHTTPProxy.auth_token or CONFIGPROXY_AUTH_TOKEN"
                )
            token = self._make_token()
        return token

    def _make_token(self) -> str:
        return secrets.token_hex(16)

    @default("api_url")
    def _api_url_default(self) -> str:
        secure = bool(getattr(self.app, "internal_ssl", False))
        return f"{'https' if secure else 'http'}://127.0.0.1:8001"

    @default("semaphore")
    def _semaphore_default(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(self.concurrency)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._client = APIClient()
        self._context: ssl.SSLContext | None = None
        self._restarting = asyncio.Lock()
        self._stop_watching: Callable[[], None] | None = None
        if not self.should_start and not self.auth_token:
            # Now rather than at the first request: the hub must not come up half.
            self._auth_token_default()

    # Starting

    def command_line(self) -> list[str]:
        """The whole command that starts the proxy with the settings of now."""
        public = urlsplit(self.public_url)
        api = urlsplit(self.api_url)
        words = list(self.command)
        if "+unix" in public.scheme or public.scheme.startswith("unix+"):
            words += ["--socket", unquote(public.netloc)]
        else:
            words += ["--ip", public.hostname or "", "--port", str(_port(self.public_url))]
        if "+unix" in api.scheme:
            words += ["--api-socket", unquote(api.netloc)]
        else:
            words += ["--api-ip", api.hostname or "127.0.0.1", "--api-port", str(_port(self.api_url))]
        if self.hub is not None:
            words += ["--error-target", self.hub.url.rstrip("/") + "/error"]
        words += ["--log-level", self.log_level]
        if self.host_routing:
            words.append("--host-routing")
        if self.ssl_key:
            words += ["--ssl-key", self.ssl_key]
        if self.ssl_cert:
            words += ["--ssl-cert", self.ssl_cert]
        if getattr(self.app, "internal_ssl", False):
            words += self._internal_tls_words()
        return words

    def _internal_tls_words(self) -> list[str]:
        words: list[str] = []
        for side, name in (("api", "proxy-api"), ("client", "proxy-client")):
            pair = self.app.internal_proxy_certs[name]
            words += [f"--{side}-ssl-key", str(pair["keyfile"]), f"--{side}-ssl-cert", str(pair["certfile"])]
            words += [f"--{side}-ssl-ca", str(self.app.internal_trust_bundles[f"{name}-ca"])]
            words += [f"--{side}-ssl-request-cert", f"--{side}-ssl-reject-unauthorized"]
        return words

    def environment(self) -> dict[str, str]:
        """The proxy's environment: ours, and the token."""
        return {**os.environ, "CONFIGPROXY_AUTH_TOKEN": self.auth_token}

    async def start(self) -> None:
        """Start the proxy and wait until both of its ports accept connections.

        A proxy left over by an earlier hub is ended first. Raises ProxyFailedToStart.
        """
        await self._end_leftover()
        self._check_addresses()
        self._launch()
        await self._wait_until_up()
        self._watch()

    async def _end_leftover(self) -> None:
        """End the process in the pid file, if it is a proxy (cli §1.6)."""
        if not os.path.exists(self.pid_file):
            return
        pid = read_pid(self.pid_file)
        process = self._process_if_proxy(pid) if pid is not None else None
        if process is not None:
            self.log.warning("Found a proxy of an earlier hub running, process %i: ending it", process.pid)
            if not await end_process(process):
                raise ProxyFailedToStart(
                    f"The proxy of an earlier hub (process {process.pid}, from {self.pid_file}) cannot be "
                    "ended. End it by hand, then start the hub again"
                )
        self._remove_pid_file()

    def _process_if_proxy(self, pid: int) -> AdoptedProcess | None:
        try:
            process = AdoptedProcess(pid)
        except ProcessLookupError:
            return None
        if process.poll() is not None:
            return None
        words = process.command_line()
        if words and not looks_like_proxy(words, self.command):
            self.log.warning("Process %i in %s is no proxy: leaving it alone", pid, self.pid_file)
            return None
        return process

    def _check_addresses(self) -> None:
        if getattr(self.app, "internal_ssl", False) and urlsplit(self.api_url).scheme != "https":
            raise ProxyFailedToStart(
                f"With JupyterHub.internal_ssl the proxy's REST API speaks TLS: ConfigurableHTTPProxy.api_url has to "
                f"begin with https://, not {self.api_url!r}"
            )
        for name, url, setting in (
            ("public address", self.public_url, "JupyterHub.bind_url"),
            ("REST API", self.api_url, "ConfigurableHTTPProxy.api_url"),
        ):
            parts = urlsplit(url)
            if "unix" in parts.scheme or not url:
                continue
            problem = listening_problem(parts.hostname or "", _port(url))
            if problem is not None:
                way_out = "Stop that, or choose" if "in use" in problem else "Choose"
                raise ProxyFailedToStart(f"The proxy cannot have its {name}. {problem}. {way_out} another {setting}")

    def _launch(self) -> None:
        words = self.command_line()
        if not (self.ssl_key or self.ssl_cert):
            self.log.warning(
                "Running the proxy without TLS: what people send can be read on the way, unless something in "
                "front of the proxy does the encryption"
            )
        self.log.info("Starting proxy @ %s", self.public_url)
        self.log.debug("Proxy command: %s", words)
        try:
            self.proxy_process = start_child(
                words,
                stdin=subprocess.DEVNULL,
                env=self.environment(),
                start_new_session=True,
                umask=self.command_umask,
            )
        except FileNotFoundError:
            raise ProxyFailedToStart(
                f"The proxy's program {words[0]!r} was not found. Correct ConfigurableHTTPProxy.command, or "
                "leave it out to use the proxy that is built in"
            ) from None
        except OSError as error:
            raise ProxyFailedToStart(f"The proxy's program {words[0]!r} cannot be run: {error}") from None
        self._write_pid_file(self.proxy_process.pid)

    def _write_pid_file(self, pid: int) -> None:
        # Whole or not at all: it is read after crashes.
        draft = f"{self.pid_file}.{os.getpid()}"
        with open(draft, "w", encoding="ascii") as file:
            file.write(str(pid))
        os.replace(draft, self.pid_file)

    def _remove_pid_file(self) -> None:
        with contextlib.suppress(OSError):
            os.remove(self.pid_file)

    async def _wait_until_up(self) -> None:
        process = self.proxy_process
        end = time.monotonic() + START_TIMEOUT
        for name, url in (("public address", self.public_url), ("REST API", self.api_url)):
            pause = 0.01
            while not await _accepts(url):
                status = process.poll()
                if status is not None:
                    self._remove_pid_file()
                    raise ProxyFailedToStart(
                        f"The proxy ended while starting, with status {status}; what it printed says why. "
                        f"Its command was: {' '.join(self.command_line())}"
                    )
                if time.monotonic() > end:
                    await end_process(process)
                    self._remove_pid_file()
                    raise ProxyFailedToStart(
                        f"The proxy's {name} {url} accepted no connection within {START_TIMEOUT:g} seconds"
                    )
                await asyncio.sleep(pause)
                pause = min(0.1, pause * 1.5)
        self.log.debug("The proxy accepts connections, process %i", process.pid)

    # Watching

    def _watch(self) -> None:
        self.release()
        looking = PeriodicCallback(self.check_running, 1000 * self.check_running_interval)
        looking.start()
        self._check_running_callback = looking
        self._stop_watching = _call_at_end(self.proxy_process, self._noticed_end)

    def _noticed_end(self) -> None:
        self._end_task = asyncio.get_running_loop().create_task(self.check_running())

    def release(self) -> None:
        """Stop looking after the proxy, and leave it running."""
        callback, self._check_running_callback = self._check_running_callback, None
        if callback is not None:
            callback.stop()
        if self._stop_watching is not None:
            self._stop_watching()
            self._stop_watching = None

    async def check_running(self) -> None:
        """Start the proxy again, with its routes, when its process has ended."""
        if self._restarting.locked() or self._check_running_callback is None:
            return
        async with self._restarting:
            process: RunningProcess | None = self.proxy_process
            if process is None or process.poll() is None:
                return
            self.log.error("The proxy's process ended with status %s: starting it again", process.poll())
            self._remove_pid_file()
            try:
                await self.start()
                await self.restore_routes()
            except (ProxyFailedToStart, ProxyUnavailable) as error:
                self.log.error("%s. Next try in %i seconds", error, self.check_running_interval)

    async def stop(self) -> None:
        """End the proxy and remove its files. Returns when it is gone."""
        self.release()
        self._client.close()
        async with self._restarting:
            process, self.proxy_process = self.proxy_process, None
        self.release()
        if process is None:
            return
        self.log.info("Cleaning up proxy[%i]...", process.pid)
        if not await end_process(process, patience=STOP_PATIENCE):
            self.log.error("The proxy, process %i, did not end", process.pid)
            return
        self._remove_pid_file()
        for url in (self.public_url, self.api_url):
            parts = urlsplit(url)
            if "unix" in parts.scheme:
                with contextlib.suppress(OSError):
                    os.remove(unquote(parts.netloc))

    # The REST API

    def _ssl_context(self) -> ssl.SSLContext | None:
        if self._context is None and getattr(self.app, "internal_ssl", False):
            self._context = make_ssl_context(
                self.app.internal_ssl_key, self.app.internal_ssl_cert, cafile=self.app.internal_ssl_ca
            )
        return self._context

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout: float = 20
    ) -> APIAnswer:
        context = self._ssl_context() if url.startswith("https:") else None
        return await self._client.request(method, url, headers=headers, body=body, context=context, timeout=timeout)

    async def api_request(
        self, path: str, method: str = "GET", body: Mapping[str, Any] | None = None, client: Any = None
    ) -> APIAnswer:
        """Send a request to ``<api_url>/api/routes<path>``; `body` is sent as JSON. `client` is not used.

        Raises tornado.httpclient.HTTPClientError for an answer of 400 to 499, ProxyUnavailable when for half
        a minute there was none, or none below 500.
        """
        url = self.api_url.rstrip("/") + "/api/routes" + path
        headers = {"Authorization": f"token {self.auth_token}"}
        data = b""
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        end = time.monotonic() + RETRY_TIMEOUT
        pause = 0.05
        async with self.semaphore:
            while True:
                try:
                    answer = await self._send(method, url, headers, data)
                except (OSError, TimeoutError) as error:
                    problem = str(error) or type(error).__name__
                else:
                    if answer.code < 400:
                        return answer
                    if answer.code < 500:
                        raise HTTPClientError(answer.code, answer.reason)
                    problem = f"{answer.code} {answer.reason}"
                left = end - time.monotonic()
                if left <= 0:
                    raise ProxyUnavailable(f"The proxy does not answer {method} {url}: {problem}")
                # A proxy that was just started takes a moment, which is nobody's concern.
                level = logging.WARNING if pause >= CONCERN_PAUSE else logging.DEBUG
                self.log.log(level, "The proxy did not answer %s %s, trying again: %s", method, url, problem)
                await asyncio.sleep(min(pause, left))
                pause = min(5.0, pause * 2)

    def _routespec_to_chp_path(self, routespec: str) -> str:
        """The routespec as a path of the REST API: with a slash in front, without one behind."""
        path = self.validate_routespec(routespec)
        if path != "/":
            path = path.rstrip("/")
        return path if path.startswith("/") else "/" + path

    def _routespec_from_chp_path(self, chp_path: str) -> str:
        """The routespec of a path the proxy has listed; those are not encoded."""
        path = quote(chp_path, safe="@/~")
        if self.host_routing and path != "/":
            path = path.lstrip("/")
        return self.validate_routespec(path)

    def _reformat_routespec(self, routespec: str, chp_data: Mapping[str, Any]) -> dict[str, Any]:
        """The proxy's form of a route as ours: routespec, target, data."""
        data = {name: value for name, value in chp_data.items() if name not in ("target", "jupyterhub")}
        return {"routespec": routespec, "target": chp_data["target"], "data": data}

    async def add_route(self, routespec: str, target: str, data: dict[str, Any]) -> None:
        """Add a route, in place of one with the same routespec."""
        body = {**(data or {}), "target": target, "jupyterhub": True}
        await self.api_request(self._routespec_to_chp_path(routespec), method="POST", body=body)

    async def delete_route(self, routespec: str) -> None:
        """Remove a route; a warning when it was not there."""
        try:
            await self.api_request(self._routespec_to_chp_path(routespec), method="DELETE")
        except HTTPClientError as error:
            if error.code != 404:
                raise
            self.log.warning("Route %s was gone already", routespec)

    async def get_all_routes(self, client: Any = None) -> Routes:
        """The proxy's routes that the hub made."""
        answer = await self.api_request("", client=client)
        routes: Routes = {}
        for chp_path, chp_data in answer.json().items():
            if "jupyterhub" not in chp_data:
                continue
            try:
                routespec = self._routespec_from_chp_path(chp_path)
            except ValueError:
                # A route from before subdomains were turned on or off. It can match nothing any more.
                self.log.warning("The proxy has a route %r that cannot be one of ours now", chp_path)
                continue
            routes[routespec] = self._reformat_routespec(routespec, chp_data)
        return routes


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port if parts.port is not None else (443 if parts.scheme == "https" else 80)


async def _accepts(url: str) -> bool:
    """True when something accepts a connection there."""
    parts = urlsplit(url)
    if not url:
        return True
    ip = parts.hostname or "127.0.0.1"
    if ip in ("0.0.0.0", "::"):
        ip = "127.0.0.1" if ip == "0.0.0.0" else "::1"
    try:
        if "unix" in parts.scheme:
            opening: Any = asyncio.open_unix_connection(unquote(parts.netloc))
        else:
            opening = asyncio.open_connection(ip, _port(url))
        _, writer = await asyncio.wait_for(opening, 10)
    except (OSError, asyncio.TimeoutError):
        return False
    writer.close()
    return True


def _call_at_end(process: RunningProcess, callback: Callable[[], None]) -> Callable[[], None] | None:
    """Call back at once when a process ends, where the system can tell; the result stops that."""
    loop = asyncio.get_running_loop()
    opener = getattr(os, "pidfd_open", None)
    if opener is None:
        return None
    try:
        descriptor: int = opener(process.pid)
    except OSError:
        return None

    def stop() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)

    def ended() -> None:
        # Only once; the descriptor would go on saying so.
        loop.remove_reader(descriptor)
        callback()

    loop.add_reader(descriptor, ended)
    return stop


ConfigurableHTTPProxy.__module__ = "jupyterhub.proxy"
