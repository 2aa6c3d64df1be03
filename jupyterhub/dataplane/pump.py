"""Large bodies go from socket to socket inside the kernel: they are not copied into this process and out of it again."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from typing import Any, ClassVar, Protocol

from .sockets import most_pumps

__all__ = ["LARGE", "Pump", "Pumped"]

#: Bytes still to come from which on it is worth the preparations.
LARGE = 1 << 18
#: Bytes that may be on their way, where the system allows as much; else it is what a pipe has anyway.
_CAPACITY = 1 << 20


class Pumped(Protocol):
    """Whoever wants a body to be moved."""

    def pump_moved(self, count: int) -> None:
        """So many bytes have come."""

    def pump_blocked(self, *, full: bool) -> None:
        """The destination takes no more, or does so again."""

    def pump_stopped(self) -> None:
        """Everything was moved, or nothing more can be. The source is read again by whoever else does."""


class Pump:
    """Moves so many bytes from one socket to another, no faster than they are taken there.

    While it works nothing else may read from the one or write to the other. When anything goes wrong it stops, and
    whoever reads from the source next finds out what.
    """

    #: How many there are: each needs four descriptors.
    _working: ClassVar[int] = 0

    __slots__ = ("_destination", "_full", "_in", "_in_pipe", "_left", "_loop", "_out", "_owner", "_pipe", "stopped")

    def __init__(self, owner: Pumped, source: Any, destination: Any, size: int) -> None:
        """Raises OSError when there are not descriptors enough. `begin` once after that."""
        self._owner = owner
        self._destination = destination
        self._left = size
        self._in_pipe = 0
        #: True while the destination takes nothing.
        self._full = False
        self._loop = asyncio.get_running_loop()
        #: True once both sockets are their transports' again.
        self.stopped = False
        self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        opened = [*self._pipe]
        try:
            # Of its own: the event loop knows the others as its transports', and may close them at any time.
            for transport in (source, destination):
                opened.append(os.dup(transport.get_extra_info("socket").fileno()))
        except OSError:
            for descriptor in opened:
                os.close(descriptor)
            raise
        self._in, self._out = opened[2:]
        Pump._working += 1
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._pipe[1], fcntl.F_SETPIPE_SZ, _CAPACITY)

    @classmethod
    def between(cls, owner: Pumped, source: Any, destination: Any, size: int) -> Pump | None:
        """One for the next so many bytes; None where the kernel cannot do it, or not now."""
        if not hasattr(os, "splice") or destination.get_write_buffer_size() or destination.is_closing():
            return None
        if source.get_extra_info("sslcontext") or destination.get_extra_info("sslcontext"):
            return None
        if cls._working >= most_pumps():
            return None
        try:
            return cls(owner, source, destination, size)
        except OSError:
            return None

    def begin(self) -> None:
        """Move what is there, then what comes, until it has stopped."""
        if self._move():
            self._loop.add_reader(self._in, self._move)

    def _move(self) -> bool:
        """Pass on what has come. True when more is to be read."""
        try:
            count = os.splice(self._in, self._pipe[1], min(self._left, _CAPACITY), flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            return True
        except OSError:
            count = 0
        if not count:
            # It was closed too early. The transport will see the same.
            self.stop()
            return False
        self._left -= count
        self._in_pipe += count
        self._owner.pump_moved(count)
        if self._empty():
            return not self.stopped
        if not self.stopped:
            self._loop.remove_reader(self._in)
            self._loop.add_writer(self._out, self._go_on)
            self._tell_blocked(True)
        return False

    def _tell_blocked(self, full: bool) -> None:
        if full != self._full:
            self._full = full
            self._owner.pump_blocked(full=full)

    def _empty(self) -> bool:
        """Write what is in the pipe. False when not all of it could be."""
        try:
            while self._in_pipe:
                self._in_pipe -= os.splice(self._pipe[0], self._out, self._in_pipe, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            return False
        except OSError:
            # What is in the pipe is lost, so nothing may come after it.
            self._destination.abort()
            self.stop()
            return False
        if not self._left:
            self.stop()
        return True

    def _go_on(self) -> None:
        """The destination takes more."""
        if self._empty() and not self.stopped:
            self._loop.remove_writer(self._out)
            self._tell_blocked(False)
            self._loop.add_reader(self._in, self._move)

    def stop(self) -> None:
        """Leave both sockets to their transports."""
        if self.stopped:
            return
        self.stopped = True
        Pump._working -= 1
        self._loop.remove_reader(self._in)
        self._loop.remove_writer(self._out)
        for descriptor in (*self._pipe, self._in, self._out):
            os.close(descriptor)
        self._tell_blocked(False)
        self._owner.pump_stopped()
