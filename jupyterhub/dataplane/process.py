"""What every process of the proxy does first."""

from __future__ import annotations

import asyncio
import gc
import resource

__all__ = ["allow_many_files", "new_loop", "quieten_collector"]


def new_loop() -> asyncio.AbstractEventLoop:
    """The event loop, set as this thread's."""
    try:
        import uvloop
    except ImportError:
        # Not made for this platform; everything works, more slowly.
        loop = asyncio.new_event_loop()
    else:
        loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


def allow_many_files() -> None:
    """Every connection is a file: take as many as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 1 << 20
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):
            # A container may forbid it; then it is what it is.
            pass


def quieten_collector() -> None:
    """Look for garbage in circles less often: requests leave next to none, and what is there now stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)
