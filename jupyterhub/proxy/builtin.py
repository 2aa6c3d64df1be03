"""The default proxy: our own data plane, found again after a crash of the hub (ARCHITECTURE §5)."""

import asyncio
import os
import signal
import ssl
import stat
import sys
import time
from typing import Any
from urllib.parse import urlsplit

from traitlets import default

from .._version import __version__
from .base import ProxyFailedToStart
from .chp import START_TIMEOUT, ConfigurableHTTPProxy, _port
from .processes import AdoptedProcess, find_listener, is_same_command, read_pid, signal_process

__all__ = ["BuiltinProxy"]

_MODULE = "jupyterhub.dataplane.cli"
_SERVER = f"jupyterhub-proxy/{__version__}"


class BuiltinProxy(ConfigurableHTTPProxy):
    """A ConfigurableHTTPProxy whose program comes with the hub; settings of that class hold for this one.

    The program outlives a hub that crashes. The next hub adopts it, with every connection that is open, when
    it answers with the token kept beside the pid file and its command line is still the one wanted. Otherwise
    it is ended and started anew, and takes its routes from disk.

    With another `command` this class is no more than a ConfigurableHTTPProxy.
    """

    @default("command")
    def _command_default(self) -> list[str]:
        return [sys.executable, "-m", _MODULE]

    @property
    def runs_dataplane(self) -> bool:
        """True when the command is our own program."""
        return _MODULE in self.command or os.path.basename(self.command[0]) == "jupyterhub-proxy"

    @property
    def token_file(self) -> str:
        """Where a token that we made is kept while the proxy lives."""
        return os.path.abspath(os.path.splitext(self.pid_file)[0] + ".token")

    @property
    def state_file(self) -> str:
        """Where the proxy keeps its routes."""
        return os.path.abspath(os.path.splitext(self.pid_file)[0] + ".routes")

    def _make_token(self) -> str:
        self._token_is_made = True
        return (self._kept_token() if self.runs_dataplane else None) or super()._make_token()

    def _kept_token(self) -> str | None:
        """The token of the proxy that may still be running."""
        try:
            file = os.open(self.token_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        with os.fdopen(file, encoding="ascii", errors="replace") as opened:
            state = os.fstat(opened.fileno())
            if state.st_uid != os.geteuid() or stat.S_IMODE(state.st_mode) & 0o077:
                self.log.warning("Others can read or own %s: its token is not used again", self.token_file)
                return None
            return opened.read().strip() or None

    def _keep_token(self) -> None:
        """Write the token down before the process that knows it begins."""
        if not getattr(self, "_token_is_made", False):
            self._remove(self.token_file)
            return
        draft = f"{self.token_file}.{os.getpid()}"
        self._remove(draft)
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "w", encoding="ascii") as opened:
            opened.write(self.auth_token)
        os.replace(draft, self.token_file)

    @staticmethod
    def _remove(path: str) -> None:
        try:
            os.remove(path)
        except OSError:
            # Not there, or not ours; nothing depends on it.
            pass

    def command_line(self) -> list[str]:
        words = super().command_line()
        return [*words, "--state-file", self.state_file] if self.runs_dataplane else words

    def environment(self) -> dict[str, str]:
        environment = super().environment()
        package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        if self.runs_dataplane and package != os.getcwd():
            # A directory called `jupyterhub` where the hub runs must not be taken for the package.
            environment["PYTHONSAFEPATH"] = "1"
        return environment

    async def start(self) -> None:
        """Adopt the proxy that runs, or start one, and wait until it answers. Raises ProxyFailedToStart."""
        if not self.runs_dataplane:
            await super().start()
            return
        # Read before it is written: the default takes a kept token.
        _ = self.auth_token
        if await self._adopt():
            return
        self._keep_token()
        try:
            await super().start()
        except ProxyFailedToStart:
            # A hub that was killed may have started one in the moment before; then the ports are that one's.
            if not await self._adopt():
                raise

    async def _adopt(self) -> bool:
        process = self._find_running()
        if process is None:
            return False
        if not await self._answers(process):
            # It is ours, from this very directory, but not usable: the pid file marks it for ending.
            if process.poll() is None:
                self._write_pid_file(process.pid)
            return False
        self.log.info("Adopting the proxy that is running, process %i", process.pid)
        self.proxy_process = process
        self._write_pid_file(process.pid)
        if self.ssl_cert or getattr(self.app, "internal_ssl", False):
            # The certificates may be newer than the process.
            signal_process(process.pid, signal.SIGHUP)
        self._watch()
        return True

    def _find_running(self) -> AdoptedProcess | None:
        """The process that is our proxy as we want it.

        Same user, same command line, in this same directory.
        """
        pid = read_pid(self.pid_file)
        if pid is None and "unix" not in urlsplit(self.api_url).scheme:
            pid = find_listener(_port(self.api_url)) if self._api_port_taken() else None
        if pid is None:
            return None
        try:
            process = AdoptedProcess(pid)
        except ProcessLookupError:
            return None
        if process.poll() is not None or not process.is_ours():
            return None
        return process if is_same_command(process.command_line(), self.command_line()) else None

    def _api_port_taken(self) -> bool:
        import socket

        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((urlsplit(self.api_url).hostname or "127.0.0.1", _port(self.api_url))) == 0

    async def _answers(self, process: AdoptedProcess) -> bool:
        """Ask it with our token. It may still be starting, so it has as long as one that we start."""
        url = self.api_url.rstrip("/") + "/api/routes?inactive_since=1970-01-01"
        headers = {"Authorization": f"token {self.auth_token}"}
        end = time.monotonic() + START_TIMEOUT
        told = False
        while process.poll() is None and time.monotonic() < end:
            try:
                answer = await self._send("GET", url, headers, b"", timeout=5)
            except (OSError, TimeoutError) as error:
                if isinstance(error, ssl.SSLError) and not told:
                    # It listens, with certificates of before `recreate_internal_certs`.
                    signal_process(process.pid, signal.SIGHUP)
                    told = True
                await asyncio.sleep(0.05)
                continue
            return answer.code == 200 and answer.headers.get("server") == _SERVER
        return False

    async def restore_routes(self) -> None:
        """The proxy has its routes from disk; only what differs is corrected."""
        if not self.runs_dataplane:
            await super().restore_routes()
            return
        await self.check_routes(self.app.users, self.app._service_map)

    async def stop(self) -> None:
        """End the proxy and remove its files, routes and token included."""
        running: Any = self.proxy_process
        await super().stop()
        if self.runs_dataplane and (running is None or running.poll() is not None):
            self._remove(self.state_file)
            self._remove(self.token_file)
