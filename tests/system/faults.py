"""Faults that are really produced: spawner, authenticator and proxy of a Hub in which every user has another one.

The Hub's configuration imports this file; `fault_report` starts the servers and notes what their owners read. A fault
is named like the user whom it hits.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tornado import web

from jupyterhub.auth import DummyAuthenticator
from jupyterhub.proxy.builtin import BuiltinProxy
from jupyterhub.spawner import LocalProcessSpawner, SimpleLocalProcessSpawner
from jupyterhub.spawning.options import SpawnException

SERVER = str(Path(__file__).with_name("fault_server.py"))
PYTHON = sys.executable
#: An account that owns nothing.
NOBODY = 65534


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and what has to be made of it: the cause, the phase, and words that the owner must read."""

    what: str
    cause: str
    phase: str
    words: tuple[str, ...] = ()
    #: What replaces the ordinary server: its command,
    command: Callable[[Any], list[str]] | None = None
    #: the whole of `start`,
    start: Callable[[Any], Any] | None = None
    #: `pre_spawn_hook`,
    hook: Callable[[Any], Any] | None = None
    #: settings of the spawner,
    settings: dict[str, Any] = field(default_factory=dict)
    #: and what the person chose.
    options: dict[str, Any] = field(default_factory=dict)
    #: A request to the server makes it fail when it is ready.
    after_ready: bool = False
    #: The status of the page, where it is not 500.
    status: int = 500


def shell(line: str) -> Callable[[Any], list[str]]:
    return lambda spawner: ["sh", "-c", line]


def server(how: str) -> Callable[[Any], list[str]]:
    return lambda spawner: [PYTHON, SERVER, how]


def python(line: str) -> Callable[[Any], list[str]]:
    return lambda spawner: [PYTHON, "-c", line]


def program(mode: int, content: bytes) -> Callable[[Any], list[str]]:
    """A program of the user's own with these rights and this content."""

    def write(spawner: Any) -> list[str]:
        path = Path(spawner.home_dir).with_suffix(".program")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
        return [str(path)]

    return write


def raising(error: Exception) -> Callable[[Any], Any]:
    def fail(spawner: Any) -> None:
        raise error

    return fail


async def for_ever(spawner: Any) -> None:
    await asyncio.Event().wait()


async def find_engine(spawner: Any) -> None:
    await asyncio.get_running_loop().getaddrinfo("engine.invalid", 2376)


async def reach_engine(spawner: Any) -> None:
    try:
        await asyncio.open_connection("127.0.0.1", 1)
    except OSError as error:
        raise RuntimeError("no server can be made") from error


async def a_bug(spawner: Any) -> Any:
    return spawner.no_such_method()


async def nonsense(spawner: Any) -> Any:
    return {"address": "somewhere"}


async def nothing(spawner: Any) -> None:
    return None


def missing_module(spawner: Any) -> None:
    import no_such_module_of_the_hub  # type: ignore[import-not-found]  # noqa: F401


def port_of_somebody(spawner: Any) -> list[str]:
    """Take the port first, and say nothing there."""
    silent = socket.create_server(("127.0.0.1", spawner.port))
    spawner.somebody = silent
    return [PYTHON, SERVER, "good"]


def closed_home(spawner: Any) -> list[str]:
    home = Path(spawner.home_dir)
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0 if os.geteuid() else stat.S_IRWXU)
    return [PYTHON, SERVER, "good"]


async def slow_to_say(spawner: Any) -> None:
    """As a batch system does: it says why it waits, and waits."""
    spawner.said = "Pending in queue: (Resources)"
    await asyncio.Event().wait()


SHORT = {"start_timeout": 1}
SILENT = {"http_timeout": 1}
#: A busy machine needs a moment until the server gives its wrong answer.
UNFIT = {"http_timeout": 5}

FAULTS: dict[str, Fault] = {
    # The command and what it needs.
    "command-missing": Fault(
        "The command is not installed", "command-not-found", "starting", ("'no-such-notebook'",),
        command=lambda spawner: ["no-such-notebook"],
    ),
    "command-missing-in-shell": Fault(
        "A script calls a command that is not installed", "command-not-found", "connecting", ("'no-such-notebook'",),
        command=shell("no-such-notebook --ip=0.0.0.0"),
    ),
    "command-not-executable": Fault(
        "The command is a file without the right to execute it", "command-not-executable", "starting", (".program'",),
        command=program(0o644, b"#!/bin/sh\n"),
    ),
    "command-of-another-system": Fault(
        "The command is a program for another system", "command-not-executable", "starting", (".program'",),
        command=program(0o755, b"\x7fELF\x00for another machine"),
    ),
    "module-missing": Fault(
        "A Python module is not installed", "module-missing", "connecting", ("'no_such_lab'",),
        command=lambda spawner: [PYTHON, "-m", "no_such_lab"],
    ),
    "wrong-library": Fault(
        "Two packages of the environment do not fit together", "wrong-version", "connecting", ("cannot import name",),
        command=python("from json import a_later_addition"),
    ),
    "wrong-image": Fault(
        "The image has a JupyterHub of another major version that cannot talk to the Hub", "wrong-version",
        "connecting", ("0.9.6", "500"),
        command=server("old"), settings=UNFIT,
    ),
    # The server's process.
    "exit-with-message": Fault(
        "The server ends with status 1 and says why", "exited", "connecting", ("the key file is empty",),
        command=shell("date +%s.%N; echo 'the key file is empty' >&2; exit 1"),
    ),
    "exit-at-once": Fault(
        "The server ends at once, with status 0", "exited", "connecting", ("by itself",), command=shell("exit 0"),
    ),
    "killed": Fault(
        "Something kills the server (SIGKILL)", "killed", "connecting", ("SIGKILL",), command=shell("kill -KILL $$"),
    ),
    "crash": Fault(
        "The server has a memory fault (SIGSEGV)", "killed", "connecting", ("SIGSEGV",), command=shell("kill -SEGV $$"),
    ),
    "crash-when-ready": Fault(
        "The server was ready, and crashes", "exited", "running", ("exit status 3", "the disk of results is gone"),
        command=server("crash"), settings={"poll_interval": 1}, after_ready=True,
    ),
    "killed-when-ready": Fault(
        "The server was ready, and something kills it", "killed", "running", ("SIGKILL",),
        command=server("killed"), settings={"poll_interval": 1}, after_ready=True,
    ),
    "out-of-memory": Fault(
        "The server needs more memory than it may have (RLIMIT_AS)", "out-of-memory", "connecting", ("memory",),
        command=shell(f"ulimit -v 500000; exec {PYTHON} -c 'held = bytearray(2 * 1024**3)'"),
    ),
    # Answering.
    "port-never-opens": Fault(
        "The server runs and never opens its port", "port-never-opened", "connecting", ("1 second",),
        command=shell("exec sleep 600"), settings=SILENT,
    ),
    "answers-500": Fault(
        "The server answers with status 500 for ever", "bad-answer", "connecting", ("500",),
        command=server("broken"), settings=UNFIT,
    ),
    "not-a-web-server": Fault(
        "Something else than a web server listens at the port", "bad-answer", "connecting", ("does not speak HTTP",),
        command=server("shell"), settings=UNFIT,
    ),
    "port-taken": Fault(
        "Another program has the port", "port-taken", "connecting", ("port",), command=port_of_somebody,
        settings={"http_timeout": 60},
    ),
    # Files and accounts.
    "home-closed": Fault(
        "The home directory belongs to somebody else", "home-unusable", "starting", ("home-closed",),
        command=closed_home,
    ),
    "no-account": Fault(
        "The user has no account on this machine", "no-account", "starting", ("'no-account'",), command=server("good"),
    ),
    "file-closed": Fault(
        "A file that the server needs may not be read", "permission-denied", "connecting", ("/settings",),
        command=python(
            "import errno, os; raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), '/etc/lab/settings')"
        ),
    ),
    "disk-full": Fault(
        "The disk is full", "disk-full", "connecting", ("no space left",), command=shell("cat /etc/passwd > /dev/full"),
    ),
    "disk-quota": Fault(
        "The user's quota of disk space is used up", "disk-full", "preparing", ("quota",),
        hook=raising(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/home/ada")),
    ),
    # Before the spawner is asked.
    "hook-raises": Fault(
        "pre_spawn_hook raises an error", "hook-failed", "preparing", ("pre_spawn_hook", "no volume for you"),
        hook=raising(RuntimeError("no volume for you")),
    ),
    "hook-lacks-module": Fault(
        "pre_spawn_hook needs a module that the Hub does not have", "module-missing", "preparing",
        ("'no_such_module_of_the_hub'",), hook=missing_module,
    ),
    "hook-refuses": Fault(
        "pre_spawn_hook refuses with an HTTP error", "refused", "preparing", ("Your course is over",),
        hook=raising(web.HTTPError(403, "Your course is over")), status=403,
    ),
    "login-hook-raises": Fault(
        "The authenticator's pre_spawn_start raises an error", "hook-failed", "preparing",
        ("pre_spawn_start", "the directory is away"),
    ),
    "spawner-refuses": Fault(
        "The spawner refuses by policy", "refused", "starting", ("Your allowance is used up",),
        start=raising(SpawnException("Your allowance is used up", reason="allowance", status_code=429)), status=429,
    ),
    "option-refused": Fault(
        "A chosen option does not fit", "option-refused", "preparing", ("'a lot'",), options={"memory": "a lot"},
        status=400,
    ),
    "auth-state-missing": Fault(
        "A hook needs the authentication state, and there is none", "auth-state-missing", "preparing",
        ("auth_state_hook",),
    ),
    "auth-state-unreadable": Fault(
        "The authentication state was encrypted with a key that the Hub no longer has", "auth-state-missing",
        "preparing", ("auth_state_hook",),
    ),
    # Time.
    "hook-hangs": Fault(
        "pre_spawn_hook does not end", "prepare-timeout", "preparing", ("pre_spawn_hook",), hook=for_ever,
        settings=SHORT,
    ),
    "start-hangs": Fault(
        "start does not end", "start-timeout", "starting", ("1 second",), start=for_ever, settings=SHORT,
    ),
    "queue-too-long": Fault(
        "The batch system has no free machine for longer than start may take", "no-capacity", "starting",
        ("(Resources)",), start=slow_to_say, settings=SHORT,
    ),
    "proxy-hangs": Fault("The proxy does not take the route", "route-timeout", "routing", command=server("good")),
    "proxy-refuses": Fault(
        "The proxy refuses the route", "proxy-failed", "routing", ("400",), command=server("good"),
    ),
    # The spawner and what it needs.
    "start-gives-nonsense": Fault(
        "start returns something that is no address", "plugin-mistake", "starting", ("somewhere",), start=nonsense,
    ),
    "start-gives-nothing": Fault(
        "start returns nothing and leaves no address", "plugin-mistake", "starting", ("return (ip, port)",),
        start=nothing, settings={"port": 0},
    ),
    "start-has-bug": Fault(
        "start has a bug", "plugin-mistake", "starting", ("no_such_method",), start=a_bug,
    ),
    "name-unknown": Fault(
        "The name service does not know the engine's machine", "name-not-found", "starting", ("name",),
        start=find_engine,
    ),
    "engine-away": Fault(
        "The engine's machine refuses connections", "unreachable", "starting", ("no server can be made",),
        start=reach_engine,
    ),
}  # fmt: skip


def fault_of(plugin_user: Any) -> Fault:
    return FAULTS[plugin_user.name]


class FaultySpawner(SimpleLocalProcessSpawner):
    """Each user's server has the fault that the user is named for."""

    somebody: socket.socket | None = None
    said = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.user is not None and self.user.name in FAULTS:
            for name, value in fault_of(self.user).settings.items():
                setattr(self, name, value)

    async def pre_spawn_hook(self) -> Any:
        hook = fault_of(self.user).hook
        result = hook(self) if hook is not None else None
        return await result if asyncio.iscoroutine(result) else result

    def auth_state_hook(self, auth_state: Any) -> None:
        if self.user.name.startswith("auth-state"):
            self.environment = {"UPSTREAM_TOKEN": auth_state["token"]}

    def apply_user_options(self, options: dict[str, Any]) -> None:
        if "memory" in options:
            self.mem_limit = options["memory"]

    async def progress(self) -> Any:
        if fault_of(self.user).start is slow_to_say:
            while not self.said:
                await asyncio.sleep(0.01)
            yield {"progress": 30, "message": self.said}

    def get_args(self) -> list[str]:
        return []

    async def start(self) -> Any:
        fault = fault_of(self.user)
        if fault.start is not None:
            result = fault.start(self)
            return await result if asyncio.iscoroutine(result) else result
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as probe:
                self.port = probe.getsockname()[1]
        assert fault.command is not None, self.user.name
        self.cmd = fault.command(self)
        return await super().start()

    async def stop(self, now: bool = False) -> None:
        if self.somebody is not None:
            self.somebody.close()
        await super().stop(now)

    def make_preexec_fn(self, name: str) -> Callable[[], None]:
        if name == "no-account":
            return LocalProcessSpawner.make_preexec_fn(self, name)  # type: ignore[return-value]
        enter_home = super().make_preexec_fn(name)
        if name != "home-closed" or os.geteuid():
            return enter_home

        def as_nobody() -> None:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            enter_home()

        return as_nobody


class FaultyAuthenticator(DummyAuthenticator):
    """Everybody logs in; what is known of two of them is not what hooks expect."""

    enable_auth_state = True

    async def pre_spawn_start(self, user: Any, spawner: Any) -> None:
        if user.name == "login-hook-raises":
            raise RuntimeError("the directory is away")
        if user.name == "auth-state-unreadable":
            user.orm_user.encrypted_auth_state = b"written with another key"


class FaultyProxy(BuiltinProxy):
    """Takes all routes but two."""

    async def add_user(self, user: Any, server_name: str = "") -> None:
        if user.name == "proxy-hangs":
            await asyncio.Event().wait()
        if user.name == "proxy-refuses":
            # The real proxy answers 400 to a route that leads nowhere.
            await self.add_route(user.spawners[server_name].proxy_spec, None, {})  # type: ignore[arg-type]
        await super().add_user(user, server_name)
