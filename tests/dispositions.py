"""Signals as processes inherit them: ignored here for a while, and looked up in others (Linux's `/proc`)."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def inherited(*, ignored: set[signal.Signals], blocked: set[signal.Signals] | None = None) -> Iterator[None]:
    """Ignore and block signals, so that what is started meanwhile inherits that."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, blocked or ())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)


def signals_of(pid: int, kind: str) -> set[signal.Signals]:
    """Return the signals that a process ignores (`SigIgn`) or blocks (`SigBlk`)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == kind:
            return {number for number in signal.Signals if int(value, 16) >> (number - 1) & 1}
    raise AssertionError(f"{kind} of {pid} is not told")
