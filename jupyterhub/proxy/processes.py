"""Processes that are, or were, a proxy of ours: finding them, telling them from strangers, ending them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import time
from collections.abc import Sequence
from typing import Protocol

__all__ = [
    "AdoptedProcess",
    "RunningProcess",
    "end_process",
    "find_listener",
    "is_same_command",
    "listening_problem",
    "looks_like_proxy",
    "read_pid",
    "signal_process",
]


class RunningProcess(Protocol):
    """What `subprocess.Popen` and `AdoptedProcess` have in common."""

    @property
    def pid(self) -> int:
        """Its number."""

    def poll(self) -> int | None:
        """None while it runs, else its exit status."""


class AdoptedProcess:
    """A process that is not our child.

    It cannot be waited for, only looked at. Raises ProcessLookupError if gone.
    """

    def __init__(self, pid: int) -> None:
        import psutil

        try:
            self._process = psutil.Process(pid)
        except psutil.Error:
            raise ProcessLookupError(errno.ESRCH, f"no process {pid}") from None
        self.pid = pid
        #: Its exit status, which only a parent can know: 0 once it is gone.
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """None while it runs. Notices when the number belongs to another process by now."""
        import psutil

        if self.returncode is None:
            try:
                if not self._process.is_running() or self._process.status() == psutil.STATUS_ZOMBIE:
                    self.returncode = 0
            except psutil.Error:
                self.returncode = 0
        return self.returncode

    def command_line(self) -> list[str]:
        """Its arguments; empty when they may not be seen."""
        import psutil

        try:
            words: list[str] = self._process.cmdline()
        except psutil.Error:
            return []
        return words

    def is_ours(self) -> bool:
        """True when it runs as the same user as we do."""
        import psutil

        try:
            return bool(self._process.uids().effective == os.geteuid())
        except (psutil.Error, AttributeError):
            return False


def read_pid(path: str) -> int | None:
    """The number in a pid file; None without one, or when it is no number."""
    try:
        with open(path, encoding="ascii") as file:
            pid = int(file.read())
    except (OSError, ValueError):
        return None
    return pid if pid > 1 else None


def is_same_command(words: Sequence[str], wanted: Sequence[str]) -> bool:
    """True when a process's arguments are those of the wanted command.

    The kernel shows a script with its interpreter in front, so the first word counts by its name only.
    """
    if list(words) == list(wanted):
        return True
    rest = list(wanted[1:])
    front = list(words[: len(words) - len(rest)])
    if not rest or list(words[len(words) - len(rest) :]) != rest or not 1 <= len(front) <= 3:
        return False
    return os.path.basename(wanted[0]) in {os.path.basename(word) for word in front}


def looks_like_proxy(words: Sequence[str], command: Sequence[str]) -> bool:
    """True when a process's arguments are those of a proxy.

    Numbers of ended processes are given out again.
    """
    names = {os.path.basename(word) for word in words}
    known = {"configurable-http-proxy", "jupyterhub-proxy", "jupyterhub.dataplane.cli", *command[:1]}
    if any(os.path.basename(name) in names for name in known):
        return bool({"--api-port", "--api-socket"} & set(words)) or "--error-target" in words
    return "--api-ip" in words and "--error-target" in words


def signal_process(pid: int, number: int) -> None:
    """Signal a process, and its group when it leads one.

    The command may be a script around the real program.
    """
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(pid) == pid and pid != os.getpgid(0):
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


async def end_process(process: RunningProcess, *, patience: Sequence[float] = (1.0, 1.0, 3.0)) -> bool:
    """SIGTERM, SIGTERM, SIGKILL, with `patience` seconds after each.

    False when it is still there after all.
    """
    for number, wait in zip((signal.SIGTERM, signal.SIGTERM, signal.SIGKILL), patience, strict=False):
        if process.poll() is not None:
            return True
        signal_process(process.pid, number)
        end = time.monotonic() + wait
        while time.monotonic() < end:
            if process.poll() is not None:
                return True
            await asyncio.sleep(0.02)
    return process.poll() is not None


def find_listener(port: int) -> int | None:
    """Which process listens on a TCP port; None when nobody does, or when it cannot be known."""
    import psutil

    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return None
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            if connection.pid is not None:
                return int(connection.pid)
    return None


def listening_problem(ip: str, port: int) -> str | None:
    """Why nobody could listen on an address now, in a sentence; None when it is free."""
    try:
        places = socket.getaddrinfo(ip or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        return f"The address {ip}:{port} makes no sense: {error}"
    for family, kind, protocol, _, address in places:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
                probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"Port {port} is in use by {_describe_listener(port)}"
            if error.errno == errno.EACCES:
                return f"Port {port} may not be used by this user: ports below 1024 need a privilege"
            if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) and len(places) > 1:
                # A name that stands for several addresses may name some this machine does not have.
                continue
            if error.errno == errno.EADDRNOTAVAIL:
                return f"This machine does not have the address {ip}"
            return f"The address {ip}:{port} cannot be listened on: {error}"
    return None


def _describe_listener(port: int) -> str:
    import psutil

    pid = find_listener(port)
    if pid is None:
        return "another process (of another user, so its name cannot be seen)"
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        words = []
    line = " ".join(words)
    if len(line) > 120:
        line = line[:117] + "..."
    return f"process {pid} ({line or 'unknown command'})"
