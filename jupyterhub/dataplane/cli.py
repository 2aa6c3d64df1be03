"""The program `jupyterhub-proxy`."""

from __future__ import annotations

import sys

from .control import Control
from .log import Log
from .options import Options, parse_options
from .process import allow_many_files, new_loop, quieten_collector
from .sockets import CannotListen
from .tls import TLSProblem

__all__ = ["main"]


async def _serve(options: Options, log: Log) -> int:
    try:
        control = Control(options, log)
        await control.start()
    except (CannotListen, TLSProblem, ValueError, OSError) as error:
        log.error(str(error))
        return 1
    return await control.run()


def main(arguments: list[str] | None = None) -> None:
    """Run the proxy until a signal ends it. The process's exit status is 1 when it cannot start, else 2."""
    options = parse_options(sys.argv[1:] if arguments is None else arguments)
    allow_many_files()
    loop = new_loop()
    quieten_collector()
    try:
        status = loop.run_until_complete(_serve(options, Log(options.log_level)))
    finally:
        loop.close()
    sys.exit(status)


if __name__ == "__main__":
    main()
