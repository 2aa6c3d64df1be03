"""Servers as processes of this machine: start, find again, signal, read their output (config §9.9)."""

from __future__ import annotations

import os
import pwd
import shlex
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from traitlets import Bool, Dict, HasTraits, Instance, Integer, List, Unicode

from ..aio import exponential_backoff, maybe_future
from ..net import random_port
from ..traitlets import Command
from .declaring import notes_address

#: Bytes of output that are kept of each server, and the size at which older output is cut off.
OUTPUT_KEPT = 64 * 1024
OUTPUT_LIMIT = 1024 * 1024
#: Fencing numbers are milliseconds; a process whose number is this close below belongs to the same start.
FENCE_SPAN = 1000


def set_user_setuid(username: str, chdir: bool = True) -> Callable[[], None]:
    """Return what a child process calls to become this user: group, groups, user, and with `chdir` the home.

    Everything is looked up here, before the fork. Raises KeyError when there is no such account.
    """
    account = pwd.getpwnam(username)
    uid, gid, home = account.pw_uid, account.pw_gid, account.pw_dir
    groups = os.getgrouplist(username, gid)

    def become_user() -> None:
        os.setgid(gid)
        try:
            os.setgroups(groups)
        except OSError:
            # Without the right to add groups the process must at least not keep those of the Hub.
            if os.geteuid() == 0:
                os.setgroups([])
        os.setuid(uid)
        if chdir:
            _enter_first(home)

    return become_user


def _enter_first(home: str) -> None:
    """Enter the home, or the nearest directory above that can be entered."""
    directory = home
    while True:
        try:
            os.chdir(directory)
            return
        except OSError:
            parent = os.path.dirname(directory)
            if parent == directory:
                os.chdir(tempfile.gettempdir())
                return
            directory = parent


def output_directory() -> Path:
    """Return the Hub's private directory for the output of servers, made if it is not there (0700)."""
    path = Path(tempfile.gettempdir()) / f"jupyterhub-{os.geteuid()}"
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            # Somebody else was faster; what servers print is not for them.
            path = Path(tempfile.mkdtemp(prefix=f"jupyterhub-{os.geteuid()}-"))
    return path


class LocalProcesses(HasTraits):
    """The local-process part of `LocalProcessSpawner`."""

    interrupt_timeout = Integer(30, help="Seconds to wait after SIGINT before SIGTERM.").tag(config=True)
    term_timeout = Integer(30, help="Seconds to wait after SIGTERM before SIGKILL.").tag(config=True)
    kill_timeout = Integer(5, help="Seconds to wait after SIGKILL before giving up.").tag(config=True)
    popen_kwargs: Any = Dict(help="Further arguments for subprocess.Popen.").tag(config=True)
    shell_cmd: Any = Command(
        minlen=0,
        help="Shell that runs the command, e.g. ['bash', '-l', '-c']; the command is its last argument.",
    ).tag(config=True)
    create_system_users = Bool(False, help="Make the account of a user who has none on this machine.").tag(
        config=True
    )
    env_keep: Any = List(
        [
            "CONDA_DEFAULT_ENV",
            "CONDA_ROOT",
            "JUPYTERHUB_SINGLEUSER_APP",
            "LANG",
            "LC_ALL",
            "LD_LIBRARY_PATH",
            "PATH",
            "PYTHONPATH",
            "VIRTUAL_ENV",
        ],
        help="Variables of the Hub's own environment that servers get too.",
    ).tag(config=True)

    proc: Any = Instance(subprocess.Popen, allow_none=True)
    pid = Integer(0)
    _pid_born = 0.0
    _output_path = Unicode()

    # State

    def load_state(self, state: dict[str, Any]) -> None:
        """Take pid, its time of birth and the path of the output."""
        super().load_state(state)  # type: ignore[misc]
        self.pid = int(state.get("pid") or 0)
        self._pid_born = float(state.get("pid_born") or 0.0)
        self._output_path = str(state.get("output") or "")

    def get_state(self) -> dict[str, Any]:
        """Return what finds the process again; its time of birth tells it from a later one with the same pid."""
        state: dict[str, Any] = super().get_state()  # type: ignore[misc]
        if self.pid:
            state["pid"] = self.pid
            if self._pid_born:
                state["pid_born"] = self._pid_born
            if self._output_path:
                state["output"] = self._output_path
        return state

    def clear_state(self) -> None:
        """The process is no more."""
        super().clear_state()  # type: ignore[misc]
        self.pid, self._pid_born, self.proc = 0, 0.0, None
        self._remove_output()

    # Environment

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        """Add what a log-in would set: USER, HOME, SHELL."""
        env["USER"] = self.user.name  # type: ignore[attr-defined]
        account = pwd.getpwnam(self.user.name)  # type: ignore[attr-defined]
        if account.pw_dir:
            env["HOME"] = account.pw_dir
        if account.pw_shell:
            env["SHELL"] = account.pw_shell
        return env

    def get_env(self) -> dict[str, str]:
        env: dict[str, str] = super().get_env()  # type: ignore[misc]
        return self.user_env(env)

    def make_preexec_fn(self, name: str) -> Callable[[], None]:
        """Return what is called in the child before it runs the command: become the user."""
        self._check_account(name)
        return set_user_setuid(name)

    def _check_account(self, name: str) -> None:
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            if not self.create_system_users:
                raise KeyError(
                    f"{name} has no account on this machine; make one, or set LocalProcessSpawner.create_system_users"
                ) from None
            self._create_account(name)
            account = pwd.getpwnam(name)
        if os.geteuid() not in (0, account.pw_uid):
            raise PermissionError(
                f"The Hub runs as {pwd.getpwuid(os.geteuid()).pw_name} and may not start processes of {name}; "
                "run it as root, or use SimpleLocalProcessSpawner to try things out"
            )

    def _create_account(self, name: str) -> None:
        done = subprocess.run(
            ["useradd", "--create-home", "--shell", "/bin/bash", name],
            capture_output=True,
            text=True,
            timeout=30,
        )
        if done.returncode:
            raise RuntimeError(f"The account {name} could not be made: {done.stderr.strip()}")

    # Start

    @notes_address
    async def start(self) -> tuple[str, int]:
        """Run the command as a process of its own session and return where it listens."""
        if self.port == 0:  # type: ignore[has-type]
            self.port = random_port()
        if self.create_system_users:
            self._check_account(self.user.name)  # type: ignore[attr-defined]
        environment = self.get_env()
        command = [*self.cmd, *self.get_args()]  # type: ignore[attr-defined]
        if self.shell_cmd:
            command = [*self.shell_cmd, " ".join(shlex.quote(word) for word in command)]
        self.log.info("Starting %s", " ".join(shlex.quote(word) for word in command))  # type: ignore[attr-defined]
        options: dict[str, Any] = {
            "preexec_fn": self.make_preexec_fn(self.user.name),  # type: ignore[attr-defined]
            "start_new_session": True,
            **self.popen_kwargs,
        }
        output = self._open_output() if "stdout" not in options and "stderr" not in options else None
        if output is not None:
            options["stdout"] = options["stderr"] = output
        options.setdefault("stdin", subprocess.DEVNULL)
        options["env"] = environment
        try:
            self.proc = subprocess.Popen(command, **options)
        finally:
            if output is not None:
                os.close(output)
        self.pid = self.proc.pid
        self._pid_born = _born(self.pid)
        return (self.ip or "127.0.0.1", self.port)  # type: ignore[attr-defined]

    # Output

    def _open_output(self) -> int | None:
        """Open the file that takes the server's output. Appending, so that it can be cut while it is written to.

        A file and not a pipe: the server must not stop when the Hub is killed.
        """
        record = self._record  # type: ignore[attr-defined]
        try:
            path = output_directory() / f"{record.id}-{record.fence or os.getpid()}.log"
            descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            self.log.warning("The server's output is not kept: %s", error)  # type: ignore[attr-defined]
            return None
        self._output_path = str(path)
        return descriptor

    def logs(self, lines: int = 100) -> list[str]:
        """Return the last lines that the server has printed."""
        if not self._output_path:
            return []
        try:
            with open(self._output_path, "rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - OUTPUT_KEPT))
                return file.read().decode("utf-8", "replace").splitlines()[-lines:]
        except OSError:
            return []

    def _bound_output(self) -> None:
        """Cut older output once there is much."""
        if not self._output_path:
            return
        try:
            if os.path.getsize(self._output_path) <= OUTPUT_LIMIT:
                return
            with open(self._output_path, "r+b") as file:
                file.seek(-OUTPUT_KEPT, os.SEEK_END)
                kept = file.read()
                file.truncate(0)
                file.seek(0)
                file.write(kept)
        except OSError as error:
            self.log.debug("The output of %s cannot be cut: %s", self._log_name, error)  # type: ignore[attr-defined]

    def _remove_output(self) -> None:
        if self._output_path:
            try:
                os.unlink(self._output_path)
            except OSError:
                # Gone already, or the directory was cleaned up by somebody else.
                pass
            self._output_path = ""

    # Watch

    def _alive(self) -> bool:
        """Whether the process with our pid is the one we started, and lives."""
        if not self.pid:
            return False
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return not self._pid_born or abs(process.create_time() - self._pid_born) < 1.0
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True

    async def poll(self) -> int | None:
        """Return None while the process lives, else its exit status (0 if it is not our child)."""
        if self.proc is not None:
            status: int | None = self.proc.poll()
        else:
            status = None if self._alive() else 0
        if status is None:
            self._bound_output()
            return None
        # A plugin may start its server anew from here; the token has to last as long as the run.
        token, path = self.api_token, self._output_path  # type: ignore[has-type]
        self._output_path = ""
        self.clear_state()
        self.api_token, self._output_path = token, path
        return status

    # Stop

    async def _signal(self, number: int) -> bool:
        """Send a signal. Returns whether the process was there to receive it."""
        if not self._alive():
            return False
        try:
            if number == signal.SIGKILL:
                # Whatever the server has started dies with it; it leads a session of its own.
                try:
                    if os.getpgid(self.pid) == self.pid:
                        os.killpg(self.pid, number)
                        return True
                except (PermissionError, ProcessLookupError):
                    pass
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    async def stop(self, now: bool = False) -> None:
        """SIGINT, then SIGTERM, then SIGKILL, each with its time to act; `now` is SIGKILL at once."""
        rounds = [
            (signal.SIGINT, self.interrupt_timeout),
            (signal.SIGTERM, self.term_timeout),
            (signal.SIGKILL, self.kill_timeout),
        ]
        for number, timeout in rounds[2:] if now else rounds:
            if await maybe_future(self.poll()) is not None:
                return
            await self._signal(number)
            if await self._wait_until_dead(timeout):
                return
        if await maybe_future(self.poll()) is None:
            raise RuntimeError(f"process {self.pid} is still there after SIGKILL")

    async def _wait_until_dead(self, timeout: float) -> bool:
        def is_dead() -> bool:
            return self.proc.poll() is not None if self.proc is not None else not self._alive()

        try:
            return bool(
                await exponential_backoff(
                    is_dead,
                    "still there",
                    start_wait=0.02,
                    scale_factor=1.5,
                    max_wait=0.5,
                    timeout=timeout or 0.01,
                    timeout_tolerance=0,
                )
            )
        except TimeoutError:
            return False

    # After a crash

    def find_orphan(self) -> bool:
        """Look for a process that a killed Hub had started for this server and not yet written down.

        It carries the server's row and fencing number in its environment. Returns whether one was found; `poll` and
        `stop` then work on it.
        """
        if self._alive():
            return True
        record = self._record  # type: ignore[attr-defined]
        hub = self.hub  # type: ignore[attr-defined]
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) != process.pid:
                    continue
                environment = process.environ()
            except (psutil.Error, OSError):
                continue
            if environment.get("JUPYTERHUB_SERVER_ROW") != str(record.id):
                continue
            if hub is not None and environment.get("JUPYTERHUB_API_URL") != hub.api_url:
                continue
            fence = environment.get("JUPYTERHUB_SERVER_FENCE", "")
            if fence.isdigit() and record.fence - FENCE_SPAN < int(fence) <= record.fence:
                self.pid, self._pid_born = process.pid, process.create_time()
                self.log.warning(  # type: ignore[attr-defined]
                    "Found process %i of %s, which nobody had written down",
                    self.pid,
                    self._log_name,  # type: ignore[attr-defined]
                )
                return True
        return False

    # Certificates

    async def move_certs(self, paths: dict[str, str]) -> dict[str, str]:
        """Put the certificates into the user's home, readable for the user alone."""
        import shutil

        key, cert, ca = paths["keyfile"], paths["certfile"], paths["cafile"]
        account = pwd.getpwnam(self.user.name)  # type: ignore[attr-defined]
        directory = os.path.join(account.pw_dir, ".jupyterhub", "jupyterhub-certs")
        os.makedirs(directory, 0o700, exist_ok=True)
        moved = {}
        for name, source in (("keyfile", key), ("certfile", cert), ("cafile", ca)):
            target = os.path.join(directory, os.path.basename(source))
            shutil.copy(source, target)
            shutil.chown(target, user=account.pw_uid, group=account.pw_gid)
            os.chmod(target, 0o600)
            moved[name] = target
        for path in (directory, os.path.dirname(directory)):
            shutil.chown(path, user=account.pw_uid, group=account.pw_gid)
        return moved


def _born(pid: int) -> float:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0
