"""Processes of this machine: switching user, finding a process again after a crash, bounded output.

A process id alone proves nothing, because the system gives it to another process later. Here it is always paired
with the moment at which that process began.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

from ..children import start_child
from .limits import Placement

__all__ = [
    "OutputFile",
    "RunFile",
    "add_system_user",
    "check_account",
    "default_add_user_command",
    "is_running",
    "kill_descendants",
    "launch",
    "private_directory",
    "process_identity",
    "set_user_setuid",
    "with_known_program",
]

MAX_OUTPUT = 2 * 1024**2
"""Bytes of a server's output beyond which the older part is dropped."""
KEPT_OUTPUT = 256 * 1024
"""Bytes that stay when the older part is dropped."""


# -- which process is it -------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return ""


def process_identity(pid: int) -> str | None:
    """A text that no other process has, not even a later one with the same id; None if there is no such process.

    On Linux it is made of the boot and of the clock tick at which the process began: exact, and not moved by
    changes of the clock. Elsewhere the time at which it began must do.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # The name of the program stands in brackets and may contain anything.
            fields = stat.read().rpartition(b")")[2].split()
        return f"{_boot_id()}-{fields[19].decode()}"
    except FileNotFoundError:
        if os.path.exists("/proc/self/stat"):
            return None
    except (OSError, IndexError):
        return None
    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return None


def is_running(pid: int, identity: str = "") -> bool:
    """Whether the process is alive, is the one meant (if `identity` is known) and not a leftover entry."""
    if pid <= 0:
        return False
    found = process_identity(pid)
    if found is None or (identity and found != identity):
        return False
    try:
        status: str = psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True
    return status != psutil.STATUS_ZOMBIE


def kill_descendants(pid: int) -> Callable[[], None]:
    """Note the process's descendants now; the function given back kills those that are left later.

    A killed server cannot end its kernels by itself any more.
    """
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        children = []

    def kill() -> None:
        for child in children:
            # psutil compares the start time, so a reused id is left alone.
            with contextlib.suppress(psutil.Error):
                child.kill()

    return kill


# -- files of a run ------------------------------------------------------------------------------------------


def private_directory(wanted: str) -> Path:
    """The directory for run and output files, only for us: the wanted one, else one below the temporary files.

    Raises OSError when neither can be had safely.
    """
    # Two Hubs of one account must not meet there: their servers have the same row numbers.
    place = hashlib.sha256(os.fsencode(Path(wanted).absolute())).hexdigest()[:8]
    fallback = Path(tempfile.gettempdir()) / f"jupyterhub-run-{os.geteuid()}-{place}"
    problem: OSError | None = None
    for directory in (Path(wanted).absolute(), fallback):
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = directory.lstat()
            if status.st_uid != os.geteuid() or not directory.is_dir() or directory.is_symlink():
                raise PermissionError(f"{directory} belongs to somebody else")
            if status.st_mode & 0o077:
                directory.chmod(0o700)
            if os.access(directory, os.W_OK):
                return directory
        except OSError as error:
            problem = error
    raise problem or PermissionError(f"{wanted} is not writable")


@dataclass(frozen=True)
class RunFile:
    """A small file, written by the child before it becomes the server, from which a killed Hub's heir finds it.

    `row` and `fence` are the server's row and the number of its run (JUPYTERHUB_SERVER_ROW and _FENCE).
    """

    directory: Path
    row: int
    fence: int

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.directory / f"{self.row}-{self.fence}.json"

    def write(self) -> None:
        """Write this process's id and identity. Called in the child: no locks, no logging."""
        text = json.dumps({"pid": os.getpid(), "process": process_identity(os.getpid())})
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(handle, text.encode())
        finally:
            os.close(handle)

    def remove(self) -> None:
        """Forget it."""
        with contextlib.suppress(OSError):
            self.path.unlink()

    @classmethod
    def remove_all(cls, directory: Path, row: int) -> None:
        """Forget all runs of a server."""
        for path in directory.glob(f"{int(row)}-*.json"):
            with contextlib.suppress(OSError):
                path.unlink()

    @classmethod
    def find_process(cls, directory: Path, row: int) -> tuple[int, str] | None:
        """Process id and identity of a living process that was started for this row; stale files are removed."""
        found = None
        for path in sorted(directory.glob(f"{int(row)}-*.json"), key=_fence_of, reverse=True):
            try:
                content = json.loads(path.read_text())
                pid, identity = int(content["pid"]), str(content["process"] or "")
            except (OSError, ValueError, TypeError, KeyError):
                pid, identity = 0, ""
            if identity and is_running(pid, identity):
                found = found or (pid, identity)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()
        return found


def _fence_of(path: Path) -> int:
    text = path.stem.rpartition("-")[2]
    return int(text) if text.isdigit() else 0


@dataclass(frozen=True)
class OutputFile:
    """Where a server's output goes. The server writes to it without anybody reading: a dead Hub does not block it."""

    path: Path

    def open(self) -> int:
        """A file descriptor for the server to append to; what an earlier run wrote is dropped."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC | os.O_NOFOLLOW
        return os.open(self.path, flags, 0o600)

    def tail(self, lines: int = 100) -> list[str]:
        """The last lines, without ends of line."""
        try:
            with open(self.path, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - KEPT_OUTPUT))
                text = file.read()
        except OSError:
            return []
        found = text.decode("utf8", "replace").splitlines()
        if size > KEPT_OUTPUT:
            # The first line is most probably the end of one.
            found = found[1:]
        return found[-lines:] if lines > 0 else []

    def bound(self, limit: int = MAX_OUTPUT, kept: int = KEPT_OUTPUT) -> None:
        """Drop the older part when the file has grown beyond `limit` bytes.

        The server appends, so it goes on at the new end; a line that it writes in between may be lost.
        """
        try:
            if self.path.stat().st_size <= limit:
                return
            with open(self.path, "r+b") as file:
                file.seek(-kept, os.SEEK_END)
                file.readline()
                rest = file.read()
                file.truncate(0)
            with open(self.path, "ab") as file:
                file.write(rest)
        except OSError:
            # Keeping output small must never cost anybody their server.
            pass

    def remove(self) -> None:
        """Delete it."""
        with contextlib.suppress(OSError):
            self.path.unlink()


# -- another user --------------------------------------------------------------------------------------------


def set_user_setuid(username: str, chdir: bool = True) -> Callable[[], None]:
    """The function that makes a child process run as `username` (config §9.9), for `preexec_fn`.

    Everything is looked up now; the child only switches: group, further groups, user, then (with `chdir`) to the
    home directory or the nearest parent that it may enter, else to a temporary directory. Raises KeyError when
    there is no such user.
    """
    import pwd

    user = pwd.getpwnam(username)
    uid, gid, home = user.pw_uid, user.pw_gid, user.pw_dir
    groups = os.getgrouplist(username, gid)
    temporary = tempfile.gettempdir()

    def preexec() -> None:
        switching = os.getuid() != uid
        os.setgid(gid)
        try:
            os.setgroups(groups)
        except OSError:
            with contextlib.suppress(OSError):
                os.setgroups([])
            extra = set(os.getgroups()) - {gid, *groups}
            if extra and switching:
                # Another's rights must not be handed on.
                raise
        os.setuid(uid)
        if chdir:
            _enter(home, temporary)

    return preexec


def _enter(home: str, temporary: str) -> None:
    path = home
    while path and path != os.path.dirname(path):
        try:
            os.chdir(path)
        except OSError:
            path = os.path.dirname(path)
        else:
            return
    os.chdir(temporary)


def _quote_safe(text: str) -> str:
    """`repr(text)` if `text` reads as a Python literal, else `text`; for values on a traitlets command line."""
    try:
        ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
    return repr(text)


def check_account(username: str) -> None:
    """Raise KeyError or PermissionError, which say what to do, when no process of this user can be started."""
    import pwd

    try:
        account = pwd.getpwnam(username)
    except KeyError:
        raise KeyError(
            f"{username} has no account on this machine: create one, or set LocalProcessSpawner.create_system_users"
        ) from None
    if os.geteuid() not in (0, account.pw_uid):
        raise PermissionError(
            f"The Hub does not run as root and cannot start processes of {username}; "
            "for trying things out use SimpleLocalProcessSpawner"
        )


def default_add_user_command() -> list[str]:
    """What makes a system user with a home directory and no password here; the name is added to it."""
    if sys.platform == "linux" and shutil.which("useradd"):
        return ["useradd", "--create-home", "--shell", "/bin/bash"]
    return ["adduser", "-q", "--gecos", "", "--disabled-password"]


def add_system_user(username: str, command: Sequence[str]) -> None:
    """Create the system user; blocks. The word USERNAME in `command` is replaced, and the name added at the end.

    Raises ValueError for a name that would be taken for an option, RuntimeError with what the command said.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*\$?", username):
        raise ValueError(f"{username!r} cannot be the name of a system user")
    words = [word.replace("USERNAME", username) for word in command] + [username]
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    if done.returncode:
        said = done.stdout.decode("utf8", "replace").strip()
        raise RuntimeError(f"The system user {username} could not be created: {said or done.returncode}")


def with_known_program(command: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """Return a command whose program is looked for beside the Hub's Python when the server's PATH does not have it.

    A Hub that is started by its path, as services are, does not have its own environment's programs on its PATH.
    """
    words = list(command)
    if words and os.sep not in words[0] and shutil.which(words[0], path=env.get("PATH", os.defpath)) is None:
        beside = Path(sys.executable).with_name(words[0])
        if os.access(beside, os.X_OK):
            words[0] = str(beside)
    return words


def launch(
    command: Sequence[str],
    *,
    env: Mapping[str, Any],
    options: Mapping[str, Any],
    run_file: RunFile | None,
    output: OutputFile | None,
    place: Callable[[int], None] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process; blocks until it has become the command. `options` are those of subprocess.Popen.

    It ignores and blocks no signals, and its output goes to `output`, unless the options say otherwise. `place` is
    called with its id before it switches users or becomes the command. Raises OSError when it cannot be run, and
    RuntimeError with the reason when the child fails before that (switching user, for instance).
    """
    arguments: dict[str, Any] = {"start_new_session": True, **options}
    inner: Callable[[], None] | None = arguments.get("preexec_fn")
    placement = None if place is None else Placement(place)
    complaint_reader, complaint_writer = os.pipe()

    def preexec() -> None:
        try:
            if run_file is not None:
                run_file.write()
            if placement is not None:
                placement.hold()
            if inner is not None:
                inner()
        except BaseException as error:
            # subprocess itself says only that something was raised.
            os.write(complaint_writer, f"{type(error).__name__}: {error}"[:2000].encode())
            raise

    if run_file is not None or placement is not None or inner is not None:
        arguments["preexec_fn"] = preexec
    descriptor = None
    try:
        if output is not None and "stdout" not in arguments and "stderr" not in arguments:
            descriptor = output.open()
            arguments.update(stdout=descriptor, stderr=subprocess.STDOUT)
        arguments.setdefault("stdin", subprocess.DEVNULL)
        # What other spawners make more of can only be a text here.
        arguments["env"] = {name: str(value) for name, value in env.items()}
        try:
            with placement or contextlib.nullcontext():
                return start_child(command, **arguments)
        except subprocess.SubprocessError:
            os.close(complaint_writer)
            complaint_writer = -1
            said = os.read(complaint_reader, 2000).decode("utf8", "replace")
            raise RuntimeError(f"The process could not be prepared: {said or 'no reason given'}") from None
        except OSError:
            if run_file is not None:
                run_file.remove()
            raise
    finally:
        os.close(complaint_reader)
        if complaint_writer >= 0:
            os.close(complaint_writer)
        if descriptor is not None:
            os.close(descriptor)
