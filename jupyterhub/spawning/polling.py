"""Looking whether a server still runs, and telling those who want to know (plugins §3.8)."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Awaitable, Callable
from contextvars import Context, ContextVar
from typing import Any

from traitlets import Any as AnyTrait
from traitlets import List

from ..aio import exponential_backoff, maybe_future
from ..net import make_ssl_context, wait_for_answer
from .pods import before_poll
from .state import ServerView
from .swarm_services import end_of_service
from .traits import PollTraits

__all__ = ["PollGivenUp", "Polling"]

_NO_CONTEXT = Context()
"""Polls belong to nobody's request, whichever started the server."""

_polling: ContextVar[tuple[int, ...]] = ContextVar("polling", default=())
"""Ids of the spawners whose shared poll the present code is part of."""


GIVE_UP_SECONDS = 1.0
"""Seconds that a poll has to end in once it is cancelled."""

SHARED_WAKE = 0.25
"""Seconds to whose multiples polls are put off, so that those of a thousand servers share a few wake-ups."""


class PollGivenUp(RuntimeError):
    """A poll was cancelled because it took too long; raised for whoever else waited for it."""


class _Beat:
    """Awaits `call()` again and again, `seconds` after it last ended, give or take `jitter` as a part of that."""

    __slots__ = ("_call", "_jitter", "_seconds", "_stopped", "_task", "_timer")

    def __init__(self, call: Callable[[], Awaitable[None]], seconds: float, jitter: float) -> None:
        self._call, self._seconds, self._jitter = call, seconds, jitter
        self._stopped = False
        self._task: asyncio.Future[None] | None = None
        self._schedule()

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._seconds * (1 + self._jitter * (random.random() - 0.5))
        if self._seconds > 10 * SHARED_WAKE:
            due = math.ceil(due / SHARED_WAKE) * SHARED_WAKE
        self._timer = loop.call_at(due, self._begin, context=_NO_CONTEXT)

    def _begin(self) -> None:
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        await self._call()
        self._task = None
        if not self._stopped:
            self._schedule()

    def stop(self) -> None:
        """No more calls; one under way, which may be whoever stops this, goes on."""
        self._stopped = True
        self._timer.cancel()


class Polling(PollTraits, ServerView):
    """The part of `Spawner` that polls."""

    _poll_callback = AnyTrait()
    _callbacks: Any = List()

    poll: Callable[[], Any]
    _exit_status: int | None = None
    _restarted = False
    _poll_in_flight: asyncio.Future[int | None] | None = None
    _giving_up = False

    def start_polling(self) -> None:
        """Poll every `poll_interval` seconds from now on."""
        self.stop_polling()
        if self.poll_interval <= 0:
            self.log.debug("%s is not polled", self._log_name)
            return
        self._poll_callback = _Beat(self._poll_periodically, self.poll_interval, self.poll_jitter)

    def stop_polling(self) -> None:
        """Poll no more."""
        if self._poll_callback is not None:
            self._poll_callback.stop()
            self._poll_callback = None

    def add_poll_callback(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call `callback` once, when a poll finds the server gone; it may be async."""
        self._callbacks.append((callback, args, kwargs))

    async def _poll_periodically(self) -> None:
        try:
            await maybe_future(self.poll_and_notify())
        except PollGivenUp as error:
            self.log.debug("%s: %s", self._log_name, error)
        except Exception:
            # Not knowing is no reason to take a server away; the next look may know more.
            self.log.exception("%s.poll of %s failed", type(self).__name__, self._log_name)
        if self._record.on_polled is not None:
            try:
                await maybe_future(self._record.on_polled())
            except Exception:
                self.log.exception("What a poll of %s found could not be taken in", self._log_name)

    async def poll_once(self) -> int | None:
        """The result of `poll`, shared by all who ask while one is under way.

        A poll that stops and starts the server by itself must not be met half-way by another, nor may a server
        that it has just started be judged before it answers.
        """
        if id(self) in _polling.get():
            return await self.poll_alone()
        if self._poll_in_flight is None:
            self._poll_in_flight = asyncio.ensure_future(self._shared_poll())
            self._poll_in_flight.add_done_callback(self._poll_done)
        status: int | None = await asyncio.shield(self._poll_in_flight)
        return status

    async def poll_alone(self) -> int | None:
        """The result of `poll`, asked for by itself."""
        await before_poll(self)
        status: int | None = await maybe_future(self.poll())
        return status

    async def _give_up_poll(self) -> None:
        """Cancel the shared poll, if one is under way: what it might still do must not meet a stop.

        One that does not end by that is left to itself, and the next who asks begins another.
        """
        future = self._poll_in_flight
        if future is None:
            return
        self._giving_up = True
        try:
            future.cancel()
            await asyncio.wait([future], timeout=GIVE_UP_SECONDS)
        finally:
            self._giving_up = False
        if self._poll_in_flight is future:
            self._poll_in_flight = None

    def _poll_done(self, future: asyncio.Future[int | None]) -> None:
        if self._poll_in_flight is future:
            self._poll_in_flight = None
        if not future.cancelled():
            # Whoever asked hears of it; if nobody waits any more, there is nobody to tell.
            future.exception()

    async def _shared_poll(self) -> int | None:
        _polling.set((*_polling.get(), id(self)))
        try:
            return await self._poll_thoroughly()
        except asyncio.CancelledError:
            if self._giving_up:
                raise PollGivenUp(f"{type(self).__name__}.poll took too long and was given up") from None
            raise

    async def _poll_thoroughly(self) -> int | None:
        """The result of `poll`, with what is known from elsewhere, and once a server that it restarted answers."""
        status = await self.poll_alone()
        if status is None and (end := await end_of_service(self)):
            # Spawners of containers answer in words, too.
            return end  # type: ignore[return-value]
        if status is None and self._restarted:
            self._restarted = False
            server = self.server
            if server is not None and self.url:
                tls = make_ssl_context(server.keyfile, server.certfile, cafile=server.cafile)
                with contextlib.suppress(OSError, TimeoutError, ValueError):
                    await wait_for_answer(f"{self.url}/api", timeout=self.http_timeout, ssl_context=tls)
        return status

    async def poll_and_notify(self) -> int | None:
        """Poll once; when the server is gone, stop polling and call everybody who asked for it."""
        status = await self.poll_once()
        if status is None:
            return None
        self._exit_status = status
        self.stop_polling()
        callbacks, self._callbacks = self._callbacks, []
        for callback, args, kwargs in callbacks:
            try:
                await maybe_future(callback(*args, **kwargs))
            except Exception:
                self.log.exception("A callback after the end of %s failed", self._log_name)
        return status

    async def wait_for_death(self, timeout: float = 10) -> bool:
        """Poll until the server is gone, at most `timeout` seconds; whether it is."""

        async def is_gone() -> bool:
            return await self.poll_alone() is not None

        try:
            await exponential_backoff(
                is_gone,
                "the server did not end",
                start_wait=self.death_interval,
                timeout=timeout,
                timeout_tolerance=0,
            )
        except TimeoutError:
            return False
        return True
