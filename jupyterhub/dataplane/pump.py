"""What is large goes from socket to socket inside the kernel: it is not copied into this process and out of it again."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from typing import Any, ClassVar, Protocol

__all__ = ["FILES", "Pump", "Pumped"]

#: Descriptors that each needs.
FILES = 4
#: Bytes that may be on their way, where the system allows as much; else it is what a pipe has anyway.
_CAPACITY = 1 << 20


class Pumped(Protocol):
    """Whoever wants bytes to be moved."""

    def pump_moved(self, count: int) -> None:
        """So many bytes have come."""

    def pump_blocked(self, *, full: bool) -> None:
        """The destination takes no more, has taken a little, or takes everything again."""

    def pump_stopped(self) -> None:
        """Everything was moved, or nothing more can be. The source is read again by whoever else does."""


class Pump:
    """Moves so many bytes from one socket to another, no faster than they are taken there.

    While it works nothing else may read from the one or write to the other. When anything goes wrong it stops, and
    whoever reads from the source next finds out what.
    """

    #: How many there are in this process.
    working: ClassVar[int] = 0

    __slots__ = ("_destination", "_in", "_in_pipe", "_left", "_loop", "_out", "_owner", "_pipe", "_reading", "stopped")

    def __init__(self, owner: Pumped, source: Any, destination: Any, size: int) -> None:
        """Raises OSError when there are not descriptors enough. `begin` once after that."""
        self._owner = owner
        self._destination = destination
        self._left = size
        self._in_pipe = 0
        #: What is waited for: the source, or the destination; None at first.
        self._reading: bool | None = None
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
        Pump.working += 1
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._pipe[1], fcntl.F_SETPIPE_SZ, _CAPACITY)

    @classmethod
    def between(cls, owner: Pumped, source: Any, destination: Any, size: int) -> Pump | None:
        """One for the next so many bytes; None where the kernel cannot do it, or not now."""
        if not hasattr(os, "splice") or source.is_closing() or destination.is_closing():
            return None
        if destination.get_write_buffer_size():
            # What waits there has to go first.
            return None
        if source.get_extra_info("sslcontext") or destination.get_extra_info("sslcontext"):
            return None
        try:
            return cls(owner, source, destination, size)
        except OSError:
            return None

    @property
    def blocked(self) -> bool:
        """True while the destination takes nothing."""
        return self._reading is False

    def begin(self) -> None:
        """Move what is there, then what comes, until it has stopped."""
        self._move()
        if not self.stopped and self._reading is None:
            self._wait(reading=True)

    def look(self) -> None:
        """See what has become of the source.

        To be called about every second: the loop tells of an error once, and that may have been when there was still
        something to move.
        """
        if self._reading:
            self._move()

    def _move(self) -> None:
        """Move until one of the two sides has to be waited for."""
        if self._in_pipe or self._fill():
            self._empty()

    def _fill(self) -> bool:
        """Take what has come. False when there is nothing."""
        try:
            count = os.splice(self._in, self._pipe[1], min(self._left, _CAPACITY), flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            return False
        except OSError:
            count = 0
        if not count:
            # It was closed too early. The transport will see the same.
            self.stop()
            return False
        self._left -= count
        self._in_pipe += count
        self._owner.pump_moved(count)
        return True

    def _empty(self) -> None:
        """Write what was taken."""
        try:
            while self._in_pipe:
                self._in_pipe -= os.splice(self._pipe[0], self._out, self._in_pipe, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            if not self.blocked:
                self._wait(reading=False)
            self._owner.pump_blocked(full=True)
        except OSError:
            # What is in the pipe is lost, so nothing may come after it.
            self._destination.abort()
            self.stop()
        else:
            if not self._left:
                self.stop()
            elif self.blocked:
                self._wait(reading=True)

    def _wait(self, *, reading: bool) -> None:
        was, self._reading = self._reading, reading
        if reading:
            self._loop.remove_writer(self._out)
            self._loop.add_reader(self._in, self._move)
            if was is False:
                self._owner.pump_blocked(full=False)
        else:
            self._loop.remove_reader(self._in)
            self._loop.add_writer(self._out, self._move)

    def stop(self) -> None:
        """Leave both sockets to their transports, and to the destination's what has come and was not taken."""
        if self.stopped:
            return
        self.stopped = True
        Pump.working -= 1
        self._loop.remove_reader(self._in)
        self._loop.remove_writer(self._out)
        if self._in_pipe and not self._destination.is_closing():
            self._destination.write(os.read(self._pipe[0], self._in_pipe))
        for descriptor in (*self._pipe, self._in, self._out):
            os.close(descriptor)
        blocked, self._reading = self.blocked, None
        if blocked:
            self._owner.pump_blocked(full=False)
        self._owner.pump_stopped()
