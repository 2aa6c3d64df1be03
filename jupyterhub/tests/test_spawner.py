"""Waiting for a server that a test started without a Hub; there is no test in here."""

import asyncio
import time
from typing import Any

from .utils import add_user, async_requests

__all__ = ["add_user", "async_requests", "wait_for_spawner"]


async def wait_for_spawner(spawner: Any, timeout: float = 10) -> None:
    """Wait until the server of this spawner answers HTTP.

    Raises AssertionError as soon as its process has ended, TimeoutError after `timeout` seconds.
    """
    end = time.monotonic() + timeout
    while True:
        status = await spawner.poll()
        assert status is None, f"The server ended with status {status} before it answered"
        left = end - time.monotonic()
        try:
            await spawner.server.wait_up(timeout=max(0.1, min(left, 1)), http=True)
        except (TimeoutError, asyncio.TimeoutError):
            if left <= 0:
                raise
        else:
            return
