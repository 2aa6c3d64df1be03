"""What is known about a failure, what is made of it, and the few tools that the rules share."""

from __future__ import annotations

import errno as errors_of_system
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["ASK", "RETRY", "Evidence", "Rule", "Saying", "Verdict", "duration", "one_line", "search", "unwrapped"]

ASK: Final = "Please tell the administrator; the time and the lines below help."
RETRY: Final = "Try again; if it keeps happening, tell the administrator."


@dataclass(frozen=True, slots=True)
class Verdict:
    """`cause` is one of CAUSES; `sentence` says what happened, `next_step` what the reader can do."""

    cause: str
    sentence: str
    next_step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Plain values; whatever is not known is left out."""

    error_type: str = ""
    """Name of the exception's class."""
    message: str = ""
    """Text of the exception."""
    because: str = ""
    """Classes and texts of the exceptions that it was raised from, one a line."""
    errno: int | None = None
    """Error number, if the exception or one that it was raised from has it from the system."""
    exit_status: int | None = None
    """That of the server's process; negative: ended by that signal."""
    reason: str = ""
    """Why the server ended, where its spawner knows that, such as ``killed: memory limit 2 GiB``."""
    output: str = ""
    """The last lines that the server wrote, or that its spawner told as progress."""
    phase: str = ""
    """``preparing``, ``starting``, ``connecting``, ``routing``, or ``running`` for a server that was ready."""
    call: str = ""
    """The plugin's method that was called last, such as ``pre_spawn_hook``."""
    command: str = ""
    """First word of the command that the spawner should run."""
    plugin: str = "spawner"
    """Name of the spawner's class."""
    start_timeout: float = 0
    """Seconds."""
    http_timeout: float = 0
    """Seconds."""
    http_status: int | None = None
    """Status of an HTTP error that a hook or the spawner raised on purpose."""
    answer_status: int | None = None
    """Status with which the server answered last, while none below 500 came."""
    server_version: str = ""
    """Version of JupyterHub that the server gave with that answer."""
    hub_version: str = ""
    """The version that the Hub speaks."""
    auth_state_missing: bool = False
    """Whether there was no authentication state to give to hooks."""

    @property
    def text(self) -> str:
        """All that was said.

        What a server wrote explains its end, but not its slowness: one that lives may complain and be fine.
        """
        said = [self.message, self.because]
        if not (self.timed_out and self.phase == "connecting" and self.exit_status is None):
            said.append(self.output)
        return "\n".join(said)

    @property
    def timed_out(self) -> bool:
        """Whether time ran out."""
        return "timeout" in self.error_type.lower() or self.errno == errors_of_system.ETIMEDOUT

    @property
    def when(self) -> str:
        """Words for the time at which the server was."""
        return "while it was running" if self.phase == "running" else "while it was starting"

    @property
    def last_line(self) -> str:
        """The last line of the output that says anything, shortened; systemd's own words about a unit are not it."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        lines = [line for line in lines if not re.match(r"\S+\.service: ", line)] or lines
        return lines[-1][:200] if lines else ""


#: What the clients of Docker and of Kubernetes write around the words of their engine.
_WRAPPED: Final = re.compile(
    r"^\d{3} (?:Client|Server) Error for \S+: [^(]*\(\"(?P<docker>.*)\"\)$|"
    r"^HTTP response body: .*\"message\": ?\"(?P<cluster>(?:[^\"\\]|\\.)*)\".*$"
)

Rule = Callable[[Evidence], "Verdict | None"]


@dataclass(frozen=True, slots=True)
class Saying:
    """A rule that knows a cause by what was said. `sentence` may have {line}: the telling line itself."""

    cause: str
    pattern: str
    sentence: str
    next_step: str = RETRY

    def __call__(self, given: Evidence) -> Verdict | None:
        """Return the verdict if the pattern is found."""
        text = f"{given.text}\n{given.error_type}"
        match = search(self.pattern, text)
        if match is None:
            return None
        start = text.rfind("\n", 0, match.start()) + 1
        end = text.find("\n", match.end())
        line = one_line(unwrapped(text[start : end if end >= 0 else None]))
        return Verdict(self.cause, self.sentence.replace("{line}", line), self.next_step)


def unwrapped(line: str) -> str:
    """Return what an engine said, without what its client has written around it."""
    match = _WRAPPED.match(line)
    if match is None:
        return line
    return match["docker"] if match["docker"] is not None else match["cluster"].replace('\\"', '"')


def search(pattern: str, text: str) -> re.Match[str] | None:
    """Look for a pattern in any line, whatever the case."""
    return re.search(pattern, text, re.IGNORECASE | re.MULTILINE)


def duration(seconds: float) -> str:
    """Return a number of seconds in words."""
    return f"{seconds:g} second{'' if seconds == 1 else 's'}"


def one_line(text: str) -> str:
    """Return a text as one line of bounded length."""
    return " ".join(text.split())[:300]
