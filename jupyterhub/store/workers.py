"""Database threads that do the jobs waiting for them in groups: one transaction for a group, one wake-up for its results.

Beginning, committing and waking another thread cost more than most of our transactions do. While hundreds of servers
start, a job waits for the one before it anyway; those that wait together are done together. A group in which anything
fails is taken back and done again job by job, so a job that fails is nobody else's trouble (ARCHITECTURE §9).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from sqlalchemy.orm import Session

__all__ = ["Job", "Workers", "run_until_late"]

#: How many jobs share a transaction at most, and the seconds after which it takes no more of them: whoever needs the
#: database, another program beside us too, shall not wait long.
GROUP_SIZE = 32
GROUP_SECONDS = 0.02
#: Seconds after which a group is taken to wait for something (a lock, a slow server), and another thread goes on.
STUCK_SECONDS = 0.05


class Job:
    """One call of `work(session)` in a transaction, who waits for it, and how it ended."""

    __slots__ = ("error", "future", "value", "work")

    def __init__(self, work: Callable[[Session], Any], future: asyncio.Future[Any] | Future[Any]) -> None:
        self.work = work
        self.future = future
        self.value: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        """Tell whoever waits; on the loop's thread when that is who waits. Nobody may be waiting any more."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.value)


class Workers:
    """A few threads that take what waits in groups. Every method may be called from any thread.

    One of them works while the others wait for it to get stuck: two that compute only take the interpreter from each
    other. `do_group(jobs)` does the first of these jobs, tells who waits for them, and returns how many; it never
    raises.
    """

    def __init__(self, count: int, name: str, do_group: Callable[[Sequence[Job]], int]) -> None:
        self._do_group = do_group
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._name = name
        self._count = count
        self._threads: list[threading.Thread] = []
        self._idle = 0
        #: Whether an idle thread has been woken and has not looked yet, and whether one looks by itself, in time.
        self._woken = self._looking = False
        #: When each thread that works began with its present group.
        self._begun: dict[int, float] = {}

    def submit(self, job: Job) -> bool:
        """Queue a job. Returns False when no more are taken."""
        with self._changed:
            if self._closed:
                return False
            self._waiting.append(job)
            if not self._woken and not (self._looking and self._begun):
                self._wake_one()
        return True

    def _wake_one(self) -> None:
        if self._idle:
            self._changed.notify()
        elif len(self._threads) < self._count:
            thread = threading.Thread(target=self._work, name=f"{self._name}_{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        else:
            return
        self._woken = True

    def forget(self, job: Job) -> bool:
        """Take back a job that has not begun. Returns whether it was still waiting."""
        with self._changed:
            try:
                self._waiting.remove(job)
            except ValueError:
                return False
        return True

    def close(self) -> None:
        """Take no more jobs, do those that wait, and end the threads. Blocks."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _take(self, left_over: Sequence[Job]) -> list[Job]:
        """Wait until this thread is needed, and return what it has to do; nothing when it is over."""
        with self._changed:
            self._begun.pop(threading.get_ident(), None)
            self._waiting.extendleft(reversed(left_over))
            while (pause := self._seconds_until_needed()) != 0:
                self._woken = False
                if pause is None and self._closed:
                    return []
                self._idle += 1
                self._looking = pause is not None
                self._changed.wait(pause)
                self._looking = False
                self._idle -= 1
            self._woken = False
            self._begun[threading.get_ident()] = time.monotonic()
            return [self._waiting.popleft() for _ in range(min(GROUP_SIZE, len(self._waiting)))]

    def _seconds_until_needed(self) -> float | None:
        """Until a thread without work has to take what waits; None when nothing does."""
        if not self._waiting:
            return None
        last = max(self._begun.values(), default=0.0)
        return max(0.0, last + STUCK_SECONDS - time.monotonic())

    def _work(self) -> None:
        left_over: Sequence[Job] = ()
        while jobs := self._take(left_over):
            left_over = jobs[self._do_group(jobs) :]


def run_until_late(jobs: Sequence[Job], session: Session) -> int:
    """Call the jobs one after the other on one session, until the group has lasted long enough. Returns how many.

    Raises what a job raises. Rows do not outlive their job: the next may change the same ones with plain statements.
    """
    late = time.monotonic() + GROUP_SECONDS
    for number, job in enumerate(jobs, 1):
        job.value = job.work(session)
        session.flush()
        if time.monotonic() > late:
            return number
        session.expunge_all()
    return len(jobs)
