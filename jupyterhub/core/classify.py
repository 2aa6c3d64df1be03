"""Why a start failed, in words: from what is known about a failure to a cause, a sentence and a next step.

Plain values in, a plain value out. The rules are tried from the most telling to the vaguest; what the server
itself wrote says more than the exception that the hub saw.
"""

from __future__ import annotations

import errno as errors_of_system
import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

__all__ = ["CAUSES", "Verdict", "classify"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`cause` is one of CAUSES; `sentence` says what happened, `next_step` what the reader can do."""

    cause: str
    sentence: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class _Evidence:
    error_type: str
    message: str
    errno: int | None
    exit_status: int | None
    output: str
    phase: str
    plugin: str
    start_timeout: float
    http_timeout: float
    text: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", f"{self.message}\n{self.output}")


def classify(
    *,
    error_type: str = "",
    message: str = "",
    errno: int | None = None,
    exit_status: int | None = None,
    output: str | Sequence[str] = "",
    phase: str = "",
    plugin: str = "spawner",
    start_timeout: float = 0,
    http_timeout: float = 0,
) -> Verdict:
    """Name the cause of a failed start.

    `error_type` is the name of the exception's class, `message` its text, `errno` its number if it came from
    the system; `exit_status` that of the server's process (negative: ended by that signal); `output` the last
    lines it wrote; `phase` one of ``preparing``, ``starting``, ``connecting``, ``routing``; `plugin` the
    spawner class; the time-outs are in seconds.
    """
    evidence = _Evidence(
        error_type=error_type,
        message=message,
        errno=errno,
        exit_status=exit_status,
        output=output if isinstance(output, str) else "\n".join(output),
        phase=phase,
        plugin=plugin,
        start_timeout=start_timeout,
        http_timeout=http_timeout,
    )
    for rule in _RULES:
        if verdict := rule(evidence):
            return verdict
    return _unexplained(evidence)


_ASK: Final = "Please tell the administrator; the time and the lines below help."
_RETRY: Final = "Try again; if it keeps happening, tell the administrator."


def _search(pattern: str, text: str) -> re.Match[str] | None:
    return re.search(pattern, text, re.IGNORECASE | re.MULTILINE)


def _refused(given: _Evidence) -> Verdict | None:
    if given.error_type == "SpawnException":
        return Verdict("refused", given.message or "The start was refused.")
    return None


def _cancelled(given: _Evidence) -> Verdict | None:
    if given.error_type in ("CancelledError", "StartCancelled"):
        return Verdict("cancelled", "The start was cancelled.", "Start the server again when you want it.")
    return None


def _already_there(given: _Evidence) -> Verdict | None:
    if given.error_type == "ServerStillRunning":
        return Verdict("still-running", given.message, "The administrator has to end the old server first.")
    return None


def _log_in(given: _Evidence) -> Verdict | None:
    if given.error_type == "AuthenticationStale":
        return Verdict(
            "log-in-stale", "Your log-in has to be renewed.", "Log in again, then start the server."
        )
    return None


def _option(given: _Evidence) -> Verdict | None:
    if given.phase != "preparing":
        return None
    if given.error_type in ("TraitError", "InvalidOption", "OptionRefused") or _search(
        r"\b(user[ _]options?|profile)\b", given.message
    ):
        return Verdict(
            "option-refused",
            f"One of the chosen options cannot be used: {_one_line(given.message)}",
            "Choose other options and start again.",
        )
    return None


def _out_of_memory(given: _Evidence) -> Verdict | None:
    said = _search(r"OOMKilled|out of memory|MemoryError|Cannot allocate memory|oom-kill", given.text)
    killed = given.exit_status in (-signal.SIGKILL, 128 + signal.SIGKILL)
    if said or killed or given.error_type == "MemoryError" or given.errno == errors_of_system.ENOMEM:
        return Verdict(
            "out-of-memory" if said or not killed else "killed",
            "The server ran out of memory while it was starting."
            if said or not killed
            else "The server was ended from outside while it was starting, most likely for lack of memory.",
            "Choose a larger server if there is one, or ask the administrator for more memory.",
        )
    return None


def _disk_full(given: _Evidence) -> Verdict | None:
    full = (errors_of_system.ENOSPC, errors_of_system.EDQUOT)
    if given.errno in full or _search(r"No space left on device|Disk quota exceeded|ENOSPC", given.text):
        return Verdict(
            "disk-full",
            "There is no space left on the disk.",
            "Delete files you no longer need, or ask the administrator for more space.",
        )
    return None


def _module_missing(given: _Evidence) -> Verdict | None:
    match = _search(r"(?:ModuleNotFoundError: )?No module named '?([\w.]+)'?", given.text)
    if match is None and given.error_type in ("ModuleNotFoundError", "ImportError"):
        return Verdict("module-missing", f"A Python module is missing: {_one_line(given.message)}", _ASK)
    if match is None:
        return None
    module = match.group(1)
    hint = "The server's environment lacks it; the administrator has to install it there."
    if module.split(".")[0] in ("jupyterhub", "jupyterlab", "jupyter_server", "notebook"):
        hint = f"The administrator has to install {module.split('.')[0]} where the server runs."
    return Verdict("module-missing", f"The Python module {module!r} is missing.", hint)


def _command_missing(given: _Evidence) -> Verdict | None:
    said = _search(
        r"(?:exec: \"?|No such file or directory: ['\"]|^\S*sh: (?:line )?(?:\d+: )?)(?P<program>[^'\":\s]+)"
        r"(?:['\"]|: (?:executable file |command )?not found)",
        given.text,
    )
    named = said.group("program") if said else ""
    missing = given.errno == errors_of_system.ENOENT or given.error_type == "FileNotFoundError"
    if given.exit_status == 127 or named or (missing and given.phase in ("starting", "")):
        what = f"The command {named!r}" if named else "The command that starts the server"
        return Verdict(
            "command-not-found",
            f"{what} was not found.",
            "The administrator has to install it where the server runs, or correct Spawner.cmd.",
        )
    return None


def _image_missing(given: _Evidence) -> Verdict | None:
    if _search(
        r"ImageNotFound|ErrImagePull|ImagePullBackOff|manifest (?:for \S+ )?(?:not found|unknown)|"
        r"pull access denied|No such image",
        f"{given.error_type}\n{given.text}",
    ):
        return Verdict(
            "image-missing",
            "The container image for the server could not be fetched.",
            "Choose another image, or ask the administrator to check the name and tag of the image.",
        )
    return None


def _port_taken(given: _Evidence) -> Verdict | None:
    if given.errno == errors_of_system.EADDRINUSE or _search(
        r"Address already in use|port \d+ is (?:already in use|not available)", given.text
    ):
        return Verdict("port-taken", "The port for the server is in use by something else.", _RETRY)
    return None


def _no_account(given: _Evidence) -> Verdict | None:
    match = _search(r"getpwnam\(\): name not found: ['\"]?([^'\"\n]+)", given.text)
    if match is None:
        return None
    return Verdict(
        "no-account",
        f"There is no account {match.group(1)!r} on the machine that runs the servers.",
        "The administrator has to create it, or let the hub do so.",
    )


def _permission(given: _Evidence) -> Verdict | None:
    refused = given.errno in (errors_of_system.EACCES, errors_of_system.EPERM)
    if (
        refused
        or given.error_type == "PermissionError"
        or given.exit_status == 126
        or _search(r"Permission denied|Operation not permitted", given.text)
    ):
        return Verdict(
            "permission-denied",
            "A file or program that the server needs may not be used.",
            "Check that your home directory belongs to you; otherwise tell the administrator.",
        )
    return None


def _timed_out(given: _Evidence) -> Verdict | None:
    if not _is_timeout(given):
        return None
    if given.phase == "connecting":
        within = _seconds(given.http_timeout)
        if given.exit_status is not None:
            return None
        return Verdict(
            "port-never-opened",
            f"The server was started but did not answer{within}.",
            f"Try again; where starting takes long, the administrator can raise {given.plugin}.http_timeout.",
        )
    if given.phase == "routing":
        return Verdict("route-timeout", "The proxy did not take the server's route in time.", _RETRY)
    if given.phase == "preparing":
        return Verdict("prepare-timeout", "Preparing the start took too long.", _RETRY)
    return Verdict(
        "start-timeout",
        f"The server did not start{_seconds(given.start_timeout)}.",
        f"Try again; where starting takes long, the administrator can raise {given.plugin}.start_timeout.",
    )


def _is_timeout(given: _Evidence) -> bool:
    return "timeout" in given.error_type.lower() or given.errno == errors_of_system.ETIMEDOUT


def _seconds(number: float) -> str:
    return f" within {number:g} seconds" if number else ""


def _exited(given: _Evidence) -> Verdict | None:
    status = given.exit_status
    if status is None:
        return None
    if status < 0 or status > 128:
        number = -status if status < 0 else status - 128
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        return Verdict("killed", f"The server was ended by {name} while it was starting.", _RETRY)
    if status == 0:
        return Verdict(
            "exited",
            "The server ended by itself right after it was started.",
            "The administrator should check Spawner.cmd; the lines below are its last output.",
        )
    last = _last_line(given.output)
    said = f": {last}" if last else "."
    return Verdict("exited", f"The server ended with exit status {status}{said}", _ASK)


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


def _proxy(given: _Evidence) -> Verdict | None:
    if given.phase == "routing" or given.error_type == "ProxyUnavailable":
        return Verdict("proxy-failed", "The proxy could not be told about the server.", _RETRY)
    return None


def _unreachable(given: _Evidence) -> Verdict | None:
    if given.errno in (errors_of_system.ECONNREFUSED, errors_of_system.EHOSTUNREACH) or _search(
        r"Connection refused|No route to host|Name or service not known|getaddrinfo", given.message
    ):
        what = "The server" if given.phase == "connecting" else "A system that is needed to start servers"
        return Verdict("unreachable", f"{what} cannot be reached over the network.", _RETRY)
    return None


def _plugin_mistake(given: _Evidence) -> Verdict | None:
    if given.error_type == "PluginMistake":
        return Verdict("plugin-mistake", _one_line(given.message), _ASK)
    programming = ("TypeError", "AttributeError", "NameError", "NotImplementedError", "AssertionError")
    if given.error_type in programming and given.phase == "starting":
        return Verdict("plugin-mistake", f"{given.plugin} made a mistake: {_one_line(given.message)}", _ASK)
    return None


def _hook(given: _Evidence) -> Verdict | None:
    if given.phase == "preparing" and given.error_type:
        said = _one_line(given.message) or given.error_type
        return Verdict("hook-failed", f"Preparing the start failed: {said}", _ASK)
    return None


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


_RULES: Final[tuple[Callable[[_Evidence], Verdict | None], ...]] = (
    _refused,
    _cancelled,
    _already_there,
    _log_in,
    _option,
    _disk_full,
    _out_of_memory,
    _module_missing,
    _image_missing,
    _no_account,
    _port_taken,
    _command_missing,
    _permission,
    _timed_out,
    _exited,
    _proxy,
    _unreachable,
    _plugin_mistake,
    _hook,
)


def _unexplained(given: _Evidence) -> Verdict:
    said = _one_line(given.message)
    kind = given.error_type or "an error"
    return Verdict("unexplained", f"The start failed with {kind}{f': {said}' if said else '.'}", _ASK)


CAUSES: Final = frozenset(
    {
        "cancelled",
        "command-not-found",
        "disk-full",
        "exited",
        "hook-failed",
        "image-missing",
        "killed",
        "log-in-stale",
        "module-missing",
        "no-account",
        "option-refused",
        "out-of-memory",
        "permission-denied",
        "plugin-mistake",
        "port-never-opened",
        "port-taken",
        "prepare-timeout",
        "proxy-failed",
        "refused",
        "route-timeout",
        "start-timeout",
        "still-running",
        "unexplained",
        "unreachable",
    }
)
"""Every cause there is; help pages and the documentation are keyed by them."""
