"""The program `jupyterhub-proxy`."""

from __future__ import annotations

import asyncio
import resource
import sys

from .log import Log
from .options import Options, parse_options
from .server import CannotListen, DataPlane
from .tls import TLSProblem

__all__ = ["main"]


def _loop_factory() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        # Not made for this platform; everything works, more slowly.
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _allow_many_files() -> None:
    """Every connection is a file: take as many as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 1 << 20
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):
            # A container may forbid it; then it is what it is.
            pass


async def _serve(options: Options, log: Log) -> int:
    try:
        server = DataPlane(options, log)
        await server.start()
    except (CannotListen, TLSProblem, ValueError, OSError) as error:
        log.error(str(error))
        return 1
    return await server.run()


def main(arguments: list[str] | None = None) -> None:
    """Run the proxy until a signal ends it. The process's exit status is 1 when it cannot start, else 2."""
    options = parse_options(sys.argv[1:] if arguments is None else arguments)
    _allow_many_files()
    loop = _loop_factory()
    asyncio.set_event_loop(loop)
    try:
        status = loop.run_until_complete(_serve(options, Log(options.log_level)))
    finally:
        loop.close()
    sys.exit(status)


if __name__ == "__main__":
    main()
