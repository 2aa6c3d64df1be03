"""Servers as processes of this machine: under their users' accounts, or all under the Hub's own (config §9.9)."""

from __future__ import annotations

import asyncio
import os
import pwd
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from traitlets import (
    Bool,
    Dict,
    Instance,
    Integer,
    Unicode,
    default,
)

from ..aio import exponential_backoff, maybe_future
from ..net import random_port
from ..traitlets import Command
from . import certificates, localprocess
from .base import Spawner
from .limited import LimitedServer
from .localprocess import set_user_setuid

__all__ = ["LocalProcessSpawner", "SimpleLocalProcessSpawner"]


class LocalProcessSpawner(LimitedServer, Spawner):
    """Runs servers as processes of this machine, each under its user's own account.

    The Hub must be allowed to switch to other users, which usually means root. What a server writes goes to a file
    of the Hub's, of bounded size. Limits of a server are enforced where the machine can do that.
    """

    interrupt_timeout = Integer(30, help="Seconds that a server has to end after SIGINT, before SIGTERM.").tag(
        config=True
    )
    term_timeout = Integer(30, help="Seconds that a server has to end after SIGTERM, before SIGKILL.").tag(config=True)
    kill_timeout = Integer(5, help="Seconds to wait for the end after SIGKILL.").tag(config=True)
    popen_kwargs = Dict(
        help="""More arguments for subprocess.Popen, for instance a working directory. The environment cannot be set
        here, see `environment`."""
    ).tag(config=True)
    shell_cmd = Command(
        minlen=0,
        help="""A shell that runs the command, such as ["bash", "-l", "-c"]: the whole command, quoted, becomes one more
        argument of it.""",
    ).tag(config=True)
    create_system_users = Bool(
        False, help="Create the account of a user who has none, when their server is started."
    ).tag(config=True)
    add_user_cmd = Command(
        help="""Command that creates an account, for `create_system_users`. The name is added at the end, and takes the
        place of the word USERNAME."""
    ).tag(config=True)
    runtime_dir = Unicode(
        ".jupyterhub-run",
        help="""Directory for servers' output and for what finds their processes again after a crash of the Hub.

        It is only for the Hub (mode 0700). Where it cannot be made, one below the temporary files is used.
        """,
    ).tag(config=True)

    proc = Instance(subprocess.Popen, allow_none=True)
    pid = Integer(0)
    _process_identity = ""
    _output_path = ""
    _directory: Path | None = None
    _launching = False

    @default("env_keep")
    def _env_keep_default(self) -> list[str]:
        python = "CONDA_DEFAULT_ENV CONDA_ROOT PYTHONPATH VIRTUAL_ENV JUPYTERHUB_SINGLEUSER_APP"
        system = "LANG LC_ALL LD_LIBRARY_PATH PATH"
        return sorted([*python.split(), *system.split()])

    @default("add_user_cmd")
    def _add_user_cmd_default(self) -> list[str]:
        return localprocess.default_add_user_command()

    # -- state --

    def load_state(self, state: dict[str, Any]) -> None:
        """Take the process id, with what tells the process from a later one of the same id."""
        super().load_state(state)
        if "pid" in state:
            self.pid = int(state["pid"] or 0)
            self._process_identity = str(state.get("process") or "")
            if self.pid and not self._process_identity:
                # Stored by a JupyterHub that kept the id alone: from here on it is this process and no other.
                self._process_identity = localprocess.process_identity(self.pid) or ""
        self._output_path = str(state.get("output") or "")
        self._load_limits_state(state.get("limits"))

    def get_state(self) -> dict[str, Any]:
        """The process id and what belongs to it."""
        state = super().get_state()
        if self.pid:
            state["pid"] = self.pid
            if self._process_identity:
                state["process"] = self._process_identity
            if self._output_path:
                state["output"] = self._output_path
        if limits := self._limits_state():
            state["limits"] = limits
        return state

    def clear_state(self) -> None:
        """Forget the process; its output can be read until the next start."""
        super().clear_state()
        self._forget_process()

    def _forget_process(self) -> None:
        if self.pid and self._is_managed:
            localprocess.RunFile.remove_all(self._runtime_directory(), self._record.id)
        self.pid = 0
        self.proc = None
        self._process_identity = ""
        self._load_limits_state(None)

    # -- environment --

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        """Add what a log-in sets: USER, and HOME and SHELL of the account."""
        account = pwd.getpwnam(self.user.name)
        env["USER"] = self.user.name
        if account.pw_dir:
            env["HOME"] = account.pw_dir
        if account.pw_shell:
            env["SHELL"] = account.pw_shell
        return env

    def get_env(self) -> dict[str, str]:
        """The base's environment, then that of the account."""
        return self.user_env(super().get_env())

    def make_preexec_fn(self, name: str) -> Callable[[], None] | None:
        """What is called in the child, before it becomes the server: switch to the user `name`.

        Raises KeyError or PermissionError, which say what to do, when that cannot work.
        """
        localprocess.check_account(name)
        return set_user_setuid(name)

    async def _ensure_account(self) -> None:
        try:
            pwd.getpwnam(self.user.name)
        except KeyError:
            self.log.warning("Creating the system user %s", self.user.name)
            await asyncio.get_running_loop().run_in_executor(
                None, localprocess.add_system_user, self.user.name, list(self.add_user_cmd)
            )

    # -- start --

    async def start(self) -> Any:
        """Run the command as a process in a session of its own."""
        if self.create_system_users:
            await self._ensure_account()
        if self.port == 0:
            self.port = random_port()
        env = self.get_env()
        command = localprocess.with_known_program([*(self.cmd or []), *self.get_args()], env)
        if self.shell_cmd:
            command = [*self.shell_cmd, shlex.join(command)]
        run_file = self._run_file()
        if run_file is not None:
            env["JUPYTERHUB_SERVER_ROW"] = str(run_file.row)
            env["JUPYTERHUB_SERVER_FENCE"] = str(run_file.fence)
        popen_options = {"preexec_fn": self.make_preexec_fn(self.user.name), **self.popen_kwargs}
        # Without a Hub nobody would ever look at a file, or delete it.
        output = self._output_file() if self._is_managed else None
        self._output_path = "" if output is None else str(output.path)
        limits = self._limits()
        self.log.info("Starting %s: %s", self._log_name, shlex.join(command))

        def launch() -> subprocess.Popen[bytes]:
            place = self._make_group(limits)
            try:
                return localprocess.launch(
                    command, env=env, options=popen_options, run_file=run_file, output=output, place=place
                )
            except BaseException:
                self._remove_group_now()
                raise

        # On a thread, because preparing the child may wait for a home directory that is far away.
        launching = asyncio.get_running_loop().run_in_executor(None, launch)
        self._launching = True
        try:
            self._adopt(await asyncio.shield(launching))
        except asyncio.CancelledError:
            await self._settle_cancelled(launching)
            raise
        finally:
            self._launching = False
        return (self.ip or "127.0.0.1", self.port)

    def _adopt(self, process: subprocess.Popen[bytes]) -> None:
        self.proc = process
        self.pid = process.pid
        self._process_identity = localprocess.process_identity(process.pid) or ""

    async def _settle_cancelled(self, launching: asyncio.Future[subprocess.Popen[bytes]]) -> None:
        """Cancelled while the child is being made: whoever stops us next must find it, or it must die at once."""
        done, _ = await asyncio.wait([launching], timeout=5)
        if done:
            if launching.exception() is None:
                self._adopt(launching.result())
            return

        def kill(late: asyncio.Future[subprocess.Popen[bytes]]) -> None:
            if late.exception() is None:
                late.result().kill()
                late.get_loop().run_in_executor(None, self._remove_group_now)

        launching.add_done_callback(kill)

    # -- files of the run --

    def _runtime_directory(self) -> Path:
        if self._directory is None:
            self._directory = localprocess.private_directory(self.runtime_dir)
        return self._directory

    def _run_file(self) -> localprocess.RunFile | None:
        """Where the child writes who it is; None where no Hub manages the server."""
        if not self._is_managed:
            return None
        return localprocess.RunFile(self._runtime_directory(), self._record.id, self._record.fence)

    def _output_file(self) -> localprocess.OutputFile:
        return localprocess.OutputFile(self._runtime_directory() / f"{self._record.id}.log")

    def logs(self, lines: int = 100) -> list[str]:
        """The last lines that the server has written, without ends of line; none if they go elsewhere."""
        if not self._output_path:
            return []
        return localprocess.OutputFile(Path(self._output_path)).tail(lines)

    def find_orphan(self) -> bool:
        """Look for a process that a killed Hub had started for this server and not yet written down.

        Whether there is one; `poll` and `stop` then mean it.
        """
        self._find_group()
        if self.pid and localprocess.is_running(self.pid, self._process_identity):
            return True
        if not self._is_managed:
            return False
        found = localprocess.RunFile.find_process(self._runtime_directory(), self._record.id)
        if found is None:
            return False
        self.pid, self._process_identity = found
        self.log.warning("Found process %i of %s, which was not yet written down", self.pid, self._log_name)
        return True

    # -- watching and stopping --

    async def poll(self) -> int | None:
        """None while the process lives; else its exit status, 0 if that is not known."""
        status: int | None = None
        if self.proc is not None:
            status = self.proc.poll()
            lives = status is None
        else:
            lives = self._launching or localprocess.is_running(self.pid, self._process_identity)
        if lives:
            if self._output_path:
                localprocess.OutputFile(Path(self._output_path)).bound()
            self._watch_limits()
            return None
        status = await self._end_group(status)
        if self.pid:
            # A plugin may start its server anew from here; the token lasts as long as the run.
            token = self.api_token
            self.clear_state()
            self.api_token = token
        return status

    async def _signal(self, sig: int) -> bool:
        """Send a signal to the server's process; whether it was there."""
        if not localprocess.is_running(self.pid, self._process_identity):
            return False
        try:
            os.kill(self.pid, sig)
        except ProcessLookupError:
            return False
        return True

    async def stop(self, now: bool = False) -> None:
        """End the process: SIGINT, SIGTERM, SIGKILL, each with its time; with `now` SIGKILL at once.

        Raises RuntimeError when it outlives all of them.
        """
        stages = [
            (signal.SIGINT, self.interrupt_timeout),
            (signal.SIGTERM, self.term_timeout),
            (signal.SIGKILL, self.kill_timeout),
        ]
        for number, timeout in stages[2:] if now else stages:
            if await maybe_future(self._exit_status_now()) is not None:
                return
            pid = self.pid
            # A killed server cannot end its kernels any more.
            end_the_rest = localprocess.kill_descendants(pid) if number == signal.SIGKILL else None
            self.log.debug("Sending %s to %i, the server of %s", number.name, pid, self._log_name)
            await maybe_future(self._signal(number))
            gone = await self._wait_for_end(timeout)
            if end_the_rest is not None:
                end_the_rest()
            if gone:
                return
        raise RuntimeError(f"Process {self.pid} of {self._log_name} is still there after SIGKILL")

    async def _exit_status_now(self) -> int | None:
        """Like `poll`, but never that of a subclass, which may have its own idea of health."""
        return await LocalProcessSpawner.poll(self)

    async def _wait_for_end(self, timeout: float) -> bool:
        async def is_gone() -> bool:
            return await self._exit_status_now() is not None

        try:
            await exponential_backoff(
                is_gone,
                "the process did not end",
                start_wait=0.02,
                scale_factor=1.5,
                max_wait=max(self.death_interval, 0.02),
                timeout=timeout,
                timeout_tolerance=0,
            )
        except TimeoutError:
            return False
        return True

    async def delete_forever(self) -> None:
        """Delete the kept output."""
        await super().delete_forever()
        if self._is_managed:
            self._output_file().remove()

    async def move_certs(self, paths: dict[str, str]) -> dict[str, str]:
        """Copy the files to where only the user can read them, in the user's home."""
        if self.create_system_users:
            await self._ensure_account()
        preexec_fn, env = self.make_preexec_fn(self.user.name), self.user_env({})
        own = self._certificate_name
        directory = "jupyterhub-certs" if own.startswith("user-") else f"jupyterhub-certs-{own}"
        return await asyncio.get_running_loop().run_in_executor(
            None, certificates.hand_over, paths, preexec_fn, env, directory
        )


class SimpleLocalProcessSpawner(LocalProcessSpawner):
    """Runs all servers under the Hub's own account; no account per user is needed.

    For development and for deployments with a single user: users are not protected from each other.
    """

    create_system_users = False
    home_dir_template = Unicode(
        "/tmp/{username}", help="Home directory of each user; {username} stands for the name."
    ).tag(config=True)
    home_dir = Unicode(help="This user's home directory; follows from home_dir_template.")

    @default("home_dir")
    def _home_dir_default(self) -> str:
        return str(self.home_dir_template).format(username=self.user.name)

    def make_preexec_fn(self, name: str) -> Callable[[], None]:
        """Make the home directory and go there."""
        home = self.home_dir

        def enter_home() -> None:
            os.makedirs(home, 0o755, exist_ok=True)
            os.chdir(home)

        return enter_home

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        """Add USER, HOME and SHELL."""
        env["USER"] = self.user.name
        env["HOME"] = self.home_dir
        env["SHELL"] = "/bin/bash"
        return env

    async def move_certs(self, paths: dict[str, str]) -> dict[str, str]:
        """Everything runs as one user, so the files stay where they are."""
        return paths
