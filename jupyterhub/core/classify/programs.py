"""Causes known by what a server's process, its files and the machine below it did."""

from __future__ import annotations

import errno as errors_of_system
import signal
from posixpath import basename
from typing import Final

from .evidence import ASK, RETRY, Evidence, Rule, Verdict, one_line, search

__all__ = ["END_RULES", "FILE_RULES", "PROGRAM_RULES"]


def _disk_full(given: Evidence) -> Verdict | None:
    quota = given.errno == errors_of_system.EDQUOT or search(r"Disk quota exceeded|EDQUOT", given.text)
    if quota:
        return Verdict(
            "disk-full",
            "Your quota of disk space is used up.",
            "Delete files you no longer need, or ask the administrator for a larger quota.",
        )
    if given.errno == errors_of_system.ENOSPC or search(r"No space left on device|ENOSPC", given.text):
        return Verdict(
            "disk-full",
            "There is no space left on the disk.",
            "Delete files you no longer need, or ask the administrator for more space.",
        )
    return None


def _over_limit(given: Evidence) -> Verdict | None:
    # Only as the last line: that is where what keeps the output of a server tells how it ended.
    reason = given.reason or given.last_line
    if not search(r"^killed: memory limit", reason):
        return None
    return Verdict(
        "out-of-memory",
        f"The server was {one_line(reason)}.",
        "Start it again and load less at once; choose a larger server if there is one, or ask the administrator for "
        "more memory.",
    )


def _out_of_memory(given: Evidence) -> Verdict | None:
    said = search(r"OOMKilled|out of memory|MemoryError|Cannot allocate memory|oom-kill|std::bad_alloc", given.text)
    if said or given.error_type == "MemoryError" or given.errno == errors_of_system.ENOMEM:
        return Verdict(
            "out-of-memory",
            f"The server ran out of memory {given.when}.",
            "Choose a larger server if there is one, or ask the administrator for more memory.",
        )
    if given.exit_status in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return Verdict(
            "killed",
            f"The server was killed from outside {given.when} (SIGKILL), most likely for lack of memory.",
            "Choose a larger server if there is one, or ask the administrator what killed it.",
        )
    return None


def _wrong_version(given: Evidence) -> Verdict | None:
    said = search(
        r"^.*(?:cannot import name .*|VersionConflict|ContextualVersionConflict|unrecognized arguments?: .*|"
        r"requires a different python|(?:requires|needs) (?:python|jupyter\w*|notebook|node)\b.*\d.*|"
        r"is not compatible with .*|incompatible (?:with )?versions?.*|undefined symbol: .*|GLIBC\w*_[\d.]+' not found.*)$",
        given.text,
    )
    if said:
        return Verdict(
            "wrong-version",
            f"The server's software does not fit together: {one_line(said.group(0))}",
            "Choose another image or environment if there is one; otherwise the administrator has to update it.",
        )
    if given.answer_status and given.server_version and _major(given.server_version) != _major(given.hub_version):
        return Verdict(
            "wrong-version",
            f"The server runs JupyterHub {given.server_version}, which does not fit the Hub's {given.hub_version}: "
            f"it answered with HTTP status {given.answer_status} only.",
            "Choose another image or environment if there is one; otherwise the administrator has to update it.",
        )
    return None


def _major(version: str) -> str:
    return version.split(".", 1)[0]


def _module_missing(given: Evidence) -> Verdict | None:
    match = search(r"(?:ModuleNotFoundError: )?No module named '?([\w.]+)'?", given.text)
    if match is None and given.error_type in ("ModuleNotFoundError", "ImportError"):
        return Verdict("module-missing", f"A Python module is missing: {one_line(given.message)}", ASK)
    if match is None:
        return None
    module = match.group(1)
    hint = "The server's environment lacks it; the administrator has to install it there."
    package = module.split(".")[0]
    if package in ("jupyterlab", "jupyter_server", "notebook"):
        hint = 'The administrator has to install it where the server runs, with: pip install "jupyterhub[singleuser]".'
    elif package == "jupyterhub":
        hint = "The administrator has to install jupyterhub where the server runs."
    if given.phase == "preparing" or given.error_type in ("ModuleNotFoundError", "ImportError"):
        hint = "The administrator has to install it where the Hub runs."
    return Verdict("module-missing", f"The Python module {module!r} is missing.", hint)


def _no_account(given: Evidence) -> Verdict | None:
    match = search(
        r"getpwnam\(\): name not found: ['\"]?(?P<one>[^'\"\n]+)|"
        r"['\"]?(?P<two>[^\s'\"]+) has no account on this machine|"
        r"unable to find user (?P<three>[^\s:]+)",
        given.text,
    )
    if match is None:
        return None
    name = next(group for group in match.groups() if group)
    return Verdict(
        "no-account",
        f"There is no account {name!r} on the machine that runs the servers.",
        "The administrator has to create it, or let the Hub do so.",
    )


def _home(given: Evidence) -> Verdict | None:
    match = search(
        r"process could not be prepared: (?:PermissionError|FileNotFoundError|NotADirectoryError|OSError): .*'(.+)'|"
        r"chdir to cwd \(\"(.+)\"\)|Changing to the requested working directory failed|"
        # systemd: the status of a process that it could not make ready.
        r"code=exited, status=200/CHDIR",
        given.text,
    )
    if match is None:
        return None
    path = next((group for group in match.groups() if group), "")
    return Verdict(
        "home-unusable",
        f"The home directory cannot be used{': ' + path if path else '.'}",
        "Check that your home directory is there and belongs to you; otherwise tell the administrator.",
    )


def _directory_missing(given: Evidence) -> Verdict | None:
    # In the words of Jupyter Server, which puts the path into two pairs of quotes.
    match = search(r"No such (?:directory|notebook dir): '+(?P<path>[^'\n]+)'+\s*$", given.last_line)
    if match is None:
        return None
    return Verdict(
        "directory-missing",
        f"The directory in which the server should open does not exist: {match.group('path')}",
        "Make it, or ask the administrator to make it for everybody or to correct Spawner.notebook_dir.",
    )


def _port_taken(given: Evidence) -> Verdict | None:
    if given.errno == errors_of_system.EADDRINUSE or search(
        r"Address already in use|port \d+ is (?:already in use|not available)|port is already allocated", given.text
    ):
        return Verdict("port-taken", "The port for the server is in use by something else.", RETRY)
    return None


def _command_not_executable(given: Evidence) -> Verdict | None:
    said = search(
        r"(?:exec: \"?|^\S*sh: (?:line )?(?:\d+: )?)(?P<one>[^'\":\s]+)['\"]?: (?:cannot execute|Permission denied)|"
        r"Exec format error(?:: ['\"](?P<two>[^'\"]+))?",
        given.text,
    )
    # From `start` the system names what it could not execute.
    at_once = search(r"Permission denied: ['\"](?P<one>[^'\"]+)", given.message) if given.phase == "starting" else None
    found = said or (at_once if at_once and _is_command(at_once.group("one"), given) else None)
    if not found and given.exit_status != 126 and given.errno != errors_of_system.ENOEXEC:
        return None
    named = next((group for group in (found.groups() if found else ()) if group), "")
    return Verdict(
        "command-not-executable",
        f"{_command(named)} is there but cannot be executed.",
        "The administrator has to make it executable for the account that the server runs under, with the interpreter "
        "that its first line names and the directories of both, or install the one for this system.",
    )


def _command_missing(given: Evidence) -> Verdict | None:
    said = search(
        r"(?:exec: \"?|^\S*sh: (?:line )?(?:\d+: )?)(?P<program>[^'\":\s]+)"
        r"['\"]?: (?:executable file |command )?not found|"
        # systemd, before and after it has made a unit.
        r"Failed to (?:find|locate) executable (?P<of_unit>[^\s:]+)",
        given.text,
    )
    named = (said.group("program") or said.group("of_unit")) if said else ""
    missing = given.errno == errors_of_system.ENOENT or given.error_type == "FileNotFoundError"
    if not named and missing and given.phase in ("starting", ""):
        at_once = search(r"No such file or directory: ['\"](?P<program>[^'\"]+)", given.message)
        named = at_once.group("program") if at_once else given.command
        if not _is_command(named, given):
            # Some other file is missing; the error itself says which.
            return None
    elif not named and search(r"code=exited, status=203/EXEC", given.text):
        # systemd does not always say which, nor whether it is missing or closed to the account.
        named = given.command
    elif not named and given.exit_status != 127:
        return None
    return Verdict(
        "command-not-found",
        f"{_command(named)} was not found.",
        "The administrator has to install it where the server runs, in a directory that the server's account may enter, or "
        "correct Spawner.cmd.",
    )


def _is_command(path: str, given: Evidence) -> bool:
    return not given.command or basename(path) == basename(given.command)


def _command(named: str) -> str:
    return f"The command {named!r}" if named else "The command that starts the server"


def _permission(given: Evidence) -> Verdict | None:
    if given.error_type == "PermissionError" and given.errno is None and given.message:
        # Raised by a program that knows better than the system what may not be done.
        return Verdict("permission-denied", f"{one_line(given.message).rstrip('.')}.", ASK)
    refused = given.errno in (errors_of_system.EACCES, errors_of_system.EPERM)
    said = search(r"(?:Permission denied|Operation not permitted)(?:: ['\"](?P<path>[^'\"]+))?", given.text)
    if refused or said or given.error_type == "PermissionError":
        path = said.group("path") if said else None
        return Verdict(
            "permission-denied",
            f"{path or 'A file or program that the server needs'} may not be used.",
            "Check that your home directory and what is in it belong to you; otherwise tell the administrator.",
        )
    return None


PROGRAM_RULES: Final[tuple[Rule, ...]] = (_over_limit, _disk_full, _out_of_memory, _wrong_version, _module_missing)
"""Tried before those of engines: they are sure."""

FILE_RULES: Final[tuple[Rule, ...]] = (
    _no_account,
    _home,
    _directory_missing,
    _port_taken,
    _command_not_executable,
    _command_missing,
    _permission,
)
"""Tried after those of engines, which say the same words about files of their own."""


def _exited(given: Evidence) -> Verdict | None:
    status = given.exit_status
    last = given.last_line
    # What the spawner of a swarm's services says holds the state of its task.
    if status is None and (ended := search(r"^Service \S+ not running: [\s\S]*?'ExitCode': (\d+)", given.message)):
        status = int(ended.group(1))
    said = f": {last}" if last else "."
    if status is None:
        # A container that has ended already has no port; that is all that its spawner sees.
        gone = search(r"Failed to get port info for", given.message)
        return Verdict("exited", f"The container ended at once{said}", ASK) if gone else None
    if status < 0 or status > 128:
        number = -status if status < 0 else status - 128
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        return Verdict("killed", f"The server was ended by {name} {given.when}.", RETRY)
    if status == 0:
        return Verdict(
            "exited",
            "The server ended by itself right after it was started.",
            "The administrator should check Spawner.cmd; the lines below are its last output.",
        )
    if given.phase == "running":
        return Verdict(
            "exited",
            f"It ended by itself with exit status {status}{said}",
            "Start it again; if it keeps happening, tell the administrator.",
        )
    return Verdict("exited", f"The server ended with exit status {status}{said}", ASK)


END_RULES: Final[tuple[Rule, ...]] = (_exited,)
"""Tried late: an exit status alone says little."""
