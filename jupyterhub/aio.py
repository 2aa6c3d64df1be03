"""Waiting, with deadlines and owners: `maybe_future`, backoff, bounded iteration, named background tasks."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import logging
import random
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

__all__ = [
    "AnyTimeoutError",
    "BackgroundTasks",
    "asyncio_all_tasks",
    "asyncio_current_task",
    "deadline",
    "exponential_backoff",
    "iterate_until",
    "maybe_future",
]

T = TypeVar("T")

AnyTimeoutError: tuple[type[BaseException], ...] = (
    TimeoutError,
    asyncio.TimeoutError,
    concurrent.futures.TimeoutError,
)
"""What plugins may mean by "timed out"; one class from Python 3.11 on, three before."""


def maybe_future(obj: Any) -> asyncio.Future[Any]:
    """A future for whatever a plugin returned (plugins §2). Needs a running loop.

    Awaitables of any kind become a task or future, futures of an executor are wrapped, any other value is the
    result of a future that is already done.
    """
    if inspect.isawaitable(obj):
        return asyncio.ensure_future(obj)
    loop = asyncio.get_running_loop()
    if isinstance(obj, concurrent.futures.Future):
        return asyncio.wrap_future(obj, loop=loop)
    future: asyncio.Future[Any] = loop.create_future()
    future.set_result(obj)
    return future


async def deadline(awaitable: Awaitable[T], timeout: float | None, what: str) -> T:
    """Await, for at most `timeout` seconds (None: for ever).

    Raises TimeoutError, which names `what` and the limit; a TimeoutError raised inside passes unchanged.
    """
    if timeout is None:
        return await awaitable
    if sys.version_info >= (3, 11):
        # No task is made for it: most of what is awaited here does not wait at all.
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await awaitable
        except TimeoutError:
            if not limit.expired():
                raise
    else:
        task = asyncio.ensure_future(awaitable)
        try:
            return await asyncio.wait_for(task, timeout)
        except asyncio.TimeoutError:
            if task.done() and not task.cancelled():
                raise
    raise TimeoutError(f"{what} did not finish within {timeout:g} seconds")


async def exponential_backoff(
    pass_func: Callable[..., Any],
    fail_message: str,
    start_wait: float = 0.2,
    scale_factor: float = 2,
    max_wait: float = 5,
    timeout: float = 10,
    timeout_tolerance: float = 0.1,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Call `pass_func(*args, **kwargs)` (plain or async) until its result is true, and return that (plugins §10).

    Times are seconds. Pauses grow by `scale_factor` up to `max_wait` and are drawn at random, so that many
    waiters do not ask at the same instants; for the same reason the deadline varies by `timeout_tolerance`, a
    fraction of `timeout`. Raises TimeoutError(`fail_message`). The last call is made at the deadline itself.
    """
    if timeout_tolerance:
        spread = timeout_tolerance * timeout
        timeout = max(0.0, timeout + random.uniform(-spread, spread))
    end = time.monotonic() + timeout
    step = start_wait
    while True:
        result = await maybe_future(pass_func(*args, **kwargs))
        if result:
            return result
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError(fail_message)
        pause = min(max_wait, random.uniform(0, step * scale_factor), left)
        step = min(step * scale_factor, max_wait)
        await asyncio.sleep(pause)


async def iterate_until(deadline_future: Awaitable[Any], generator: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    """Yield the generator's items until it ends or `deadline_future` is done (plugins §10).

    Items that are ready at the same moment as the deadline are still yielded. The future's own outcome is left
    for whoever owns it.
    """
    end = asyncio.ensure_future(deadline_future)
    iterator = generator.__aiter__()
    try:
        while True:
            item = asyncio.ensure_future(_next(iterator))
            try:
                await asyncio.wait((end, item), return_when=asyncio.FIRST_COMPLETED)
                if not item.done():
                    # An item that needs no more than one turn of the loop is not lost to the deadline.
                    await asyncio.sleep(0)
                if not item.done():
                    return
                try:
                    yield item.result()
                except StopAsyncIteration:
                    return
            finally:
                if not item.done():
                    item.cancel()
                    await asyncio.wait((item,))
    finally:
        close = getattr(generator, "aclose", None)
        if close is not None:
            await close()


async def _next(iterator: AsyncIterator[T]) -> T:
    # A StopAsyncIteration must not leave a bare coroutine: asyncio accepts coroutines only, not `__anext__` objects.
    return await iterator.__anext__()


class BackgroundTasks:
    """Owner of tasks nobody waits for: keeps references, logs failures, cancels the rest when closed."""

    def __init__(self, log: logging.Logger | logging.LoggerAdapter[Any] | None = None) -> None:
        self._log = log or logging.getLogger("jupyterhub")
        self._tasks: set[asyncio.Task[Any]] = set()
        self._endless: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def names(self) -> list[str]:
        """The names of the tasks that run, in order."""
        return sorted(task.get_name() for task in self._tasks)

    def start(self, coroutine: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Run `coroutine` as a task of this owner. Raises RuntimeError after `close`."""
        if self._closed:
            coroutine.close()
            raise RuntimeError(f"no new background task ({name}): the owner is closed")
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def repeat(
        self,
        function: Callable[[], Any],
        *,
        every: float | Callable[[], float],
        name: str,
        first: float | None = None,
    ) -> asyncio.Task[None]:
        """Call `function` (plain or async) every so many seconds; a failure is logged and the next call still made.

        `every` may be a function that is asked before each pause; `first` is the pause before the first call.
        """

        async def loop() -> None:
            pause = first
            # Asked each time: a cancellation that comes in the moment a call ends can be lost inside of it.
            while not self._closed:
                if pause is None:
                    pause = every() if callable(every) else every
                await asyncio.sleep(pause)
                pause = None
                try:
                    await maybe_future(function())
                except Exception:
                    self._log.exception("The periodic task '%s' failed and will be tried again", name)

        task = self.start(loop(), name=name)
        self._endless.add(task)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._endless.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._log.error(
                "The background task '%s' failed: %s",
                task.get_name(),
                error,
                exc_info=(type(error), error, error.__traceback__),
            )

    async def drain(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for the present tasks to end by themselves; whether all did.

        Periodic tasks never do, and are not waited for.
        """
        others = self._tasks - self._endless - {asyncio.current_task()}
        if not others:
            return True
        _, running = await asyncio.wait(others, timeout=timeout)
        return not running

    async def close(self, timeout: float = 5) -> None:
        """Cancel what still runs and wait at most `timeout` seconds for it; tasks that do not end are named."""
        self._closed = True
        others = self._tasks - {asyncio.current_task()}
        if not others:
            return
        end = asyncio.get_running_loop().time() + timeout
        stuck = others
        while stuck and (left := end - asyncio.get_running_loop().time()) > 0:
            for task in stuck:
                task.cancel()
            # Again after a while: `asyncio.wait_for` may lose a cancellation when what it waits for ends just then.
            _, stuck = await asyncio.wait(stuck, timeout=min(left, 0.5))
        for task in stuck:
            self._log.error("The background task '%s' did not end within %g seconds", task.get_name(), timeout)


def asyncio_all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> set[asyncio.Task[Any]]:
    """All tasks of a loop that are not done; the running loop unless given."""
    return asyncio.all_tasks(loop)


def asyncio_current_task(loop: asyncio.AbstractEventLoop | None = None) -> asyncio.Task[Any] | None:
    """The task that runs now; None outside any."""
    return asyncio.current_task(loop)
