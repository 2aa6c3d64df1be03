"""What servers in systemd units wrote.

The released systemdspawner has no `logs`, and its `poll` says only whether the unit is active. The journal has what the
server wrote and, from systemd itself, how it ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final

from .limits import format_bytes

__all__ = ["unit_logs"]

_OUT_OF_MEMORY: Final = "fe6faa94e7774663a0da52717891d8ef"
"""Message id of "A process of this unit has been killed by the OOM killer", from systemd's sd-messages.h."""
_AT_ONCE: Final = 10.0
"""Seconds between that message and the end of the server: a kernel that was killed earlier has not ended it."""
_KILLED: Final = "Main process exited, code=killed, status=9/"


def unit_logs(spawner: Any) -> Callable[[int], Awaitable[list[str]]] | None:
    """Return a `logs` for a spawner that is made like systemdspawner's, None for any other."""
    if not (hasattr(spawner, "unit_name_template") and isinstance(getattr(spawner, "unit_name", None), str)):
        return None

    async def logs(lines: int) -> list[str]:
        started = spawner.orm_spawner.started
        if started is None:
            return []
        try:
            entries = await _entries(spawner.unit_name, started, lines)
            said = [_text(entry) for entry in entries]
            if _killed_for_memory(entries):
                said.append(f"killed: {await _memory_limit(spawner.unit_name)}")
        except (OSError, ValueError) as error:
            spawner.log.debug("No output of %s: %s", spawner._log_name, error)
            return []
        return said or _why_none(spawner)

    return logs


async def _entries(unit: str, since: datetime, lines: int) -> list[dict[str, Any]]:
    """Return the last entries of the journal about a unit, of the present run only."""
    start = since.timestamp()
    written = await _ask(
        *("journalctl", f"--unit={unit}", f"--lines={lines}", f"--since=@{int(start)}", "--quiet", "--no-pager"),
        *("--output=json", "--output-fields=MESSAGE,MESSAGE_ID"),
    )
    entries = (json.loads(line) for line in written.splitlines())
    return [entry for entry in entries if _time(entry) >= start]


async def _memory_limit(unit: str) -> str:
    limit = (await _ask("systemctl", "show", "--property=MemoryMax", "--value", unit)).strip()
    return f"memory limit {format_bytes(int(limit))}" if limit.isdecimal() else "out of memory"


async def _ask(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        written, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return written.decode(errors="replace")


def _time(entry: dict[str, Any]) -> float:
    return int(entry["__REALTIME_TIMESTAMP"]) / 1e6


def _text(entry: dict[str, Any]) -> str:
    message = entry.get("MESSAGE") or ""
    # What is not plain text, such as a line in colours, comes as a list of bytes.
    return bytes(message).decode(errors="replace") if isinstance(message, list) else str(message)


def _killed_for_memory(entries: list[dict[str, Any]]) -> bool:
    warned = [_time(entry) for entry in entries if entry.get("MESSAGE_ID") == _OUT_OF_MEMORY]
    ended = [_time(entry) for entry in entries if _KILLED in _text(entry)]
    return bool(warned and ended) and abs(ended[-1] - warned[-1]) < _AT_ONCE


def _why_none(spawner: Any) -> list[str]:
    """systemd-run makes no unit for a program that is not there, and systemdspawner waits for one all the same."""
    program = next(iter(spawner.cmd or []), "")
    if os.path.isabs(program) and not shutil.which(program):
        return [f"Failed to find executable {program}: No such file or directory"]
    return []
