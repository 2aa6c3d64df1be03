"""Child processes that begin with the signals as every program expects them, however the Hub was started.

What a process ignores or blocks, the programs that it becomes ignore and block, too. A shell without job control starts
`jupyterhub &` with SIGINT ignored, and `nohup` ignores SIGHUP: the Hub keeps to that, its children were not meant. They
would not hear the signal with which each stop begins.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["start_child"]

_CHANGEABLE = tuple(sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))
"""All signals whose disposition a process may choose."""
_RESTORED_BY_SUBPROCESS = frozenset(
    getattr(signal, name) for name in ("SIGPIPE", "SIGXFZ", "SIGXFSZ") if hasattr(signal, name)
)
"""Python ignores these itself, and `subprocess` knows."""


def start_child(
    command: Sequence[str],
    *,
    preexec_fn: Callable[[], None] | None = None,
    restore_signals: bool = True,
    **options: Any,
) -> subprocess.Popen[bytes]:
    """Start a process with nothing ignored and nothing blocked, and otherwise as `subprocess.Popen` does.

    `preexec_fn` is called after that, so it has the last word; without `restore_signals` signals stay as they are.
    Blocks until the child has become the command. Raises what Popen raises.
    """
    restore = _restorer() if restore_signals else None
    prepare = preexec_fn
    if restore is not None and preexec_fn is not None:
        restore_first, then = restore, preexec_fn

        def prepare() -> None:
            restore_first()
            then()

    elif restore is not None:
        prepare = restore
    if prepare is not None and sys.version_info >= (3, 12):
        # The child does little more than system calls before it becomes the command.
        warnings.filterwarnings("ignore", r"This process .* is multi-threaded", DeprecationWarning)
    return subprocess.Popen(list(command), preexec_fn=prepare, restore_signals=restore_signals, **options)


def _restorer() -> Callable[[], None] | None:
    """What a child of this thread has to do first; None, as most often, when it inherits nothing unusual."""
    # Handlers need nothing: they are gone with the program that has them.
    ignored = [
        number
        for number in _CHANGEABLE
        if number not in _RESTORED_BY_SUBPROCESS and signal.getsignal(number) is signal.SIG_IGN
    ]
    if not ignored and not signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        return None

    def restore() -> None:
        for number in ignored:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    return restore
