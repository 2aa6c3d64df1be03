"""Log lines on standard output, in configurable-http-proxy's form (metrics §4)."""

from __future__ import annotations

import os
import select
import time

__all__ = ["DEBUG", "ERROR", "INFO", "LEVELS", "WARN", "Log"]

DEBUG, INFO, WARN, ERROR = 10, 20, 30, 40
LEVELS = {"debug": DEBUG, "info": INFO, "warn": WARN, "error": ERROR}
_COLOURS = {DEBUG: "34", INFO: "32", WARN: "33", ERROR: "31"}
_NAMES = {number: name for name, number in LEVELS.items()}
#: A pipe takes this many bytes whole or not at all.
_PIPE_BUF = 4096


class Log:
    """Writes one line per message and never waits for whoever reads them.

    The reader may be gone or stuck: this process outlives the one that started it. A line that cannot be
    written at once is dropped, and the next one that can says how many were.
    """

    def __init__(self, level: str = "info", descriptor: int = 1) -> None:
        self.level = LEVELS[level]
        self._descriptor = descriptor
        self._lost = 0
        try:
            self._colour = os.isatty(descriptor)
            self._poll: select.poll | None = select.poll()
            self._poll.register(descriptor, select.POLLOUT)
        except (OSError, AttributeError):
            self._colour = False
            self._poll = None

    @property
    def debugging(self) -> bool:
        """True when debug lines are written; saves making them."""
        return self.level <= DEBUG

    def debug(self, message: str) -> None:
        if self.level <= DEBUG:
            self._write(DEBUG, message)

    def info(self, message: str) -> None:
        if self.level <= INFO:
            self._write(INFO, message)

    def warn(self, message: str) -> None:
        if self.level <= WARN:
            self._write(WARN, message)

    def error(self, message: str) -> None:
        if self.level <= ERROR:
            self._write(ERROR, message)

    def _write(self, level: int, message: str) -> None:
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        name = _NAMES[level]
        if self._colour:
            name = f"\x1b[{_COLOURS[level]}m{name}\x1b[39m"
        if self._lost:
            message = f"({self._lost} lines were dropped here, nobody read them) {message}"
        # What is logged comes from requests too: a line must stay one line.
        message = message.replace("\r", "\\r").replace("\n", "\\n")
        line = f"{stamp} [ConfigProxy] {name}: {message}\n".encode("utf-8", "replace")
        if len(line) > _PIPE_BUF:
            line = line[: _PIPE_BUF - 4] + b"...\n"
        try:
            ready = self._poll.poll(0) if self._poll is not None else [(0, select.POLLOUT)]
            if not ready or not ready[0][1] & select.POLLOUT:
                self._lost += 1
                return
            os.write(self._descriptor, line)
            self._lost = 0
        except OSError:
            self._lost += 1
