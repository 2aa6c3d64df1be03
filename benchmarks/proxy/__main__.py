"""Measure the data plane, side by side with configurable-http-proxy and nginx.

    python -m benchmarks.proxy [--chp COMMAND] [--nginx COMMAND] [--case PART[,PART]] [--seconds 2] [--repetitions 5]

The other two are taken where they are installed; an empty COMMAND leaves one out. All have the same upstream and 10,000
routes; CPU is what the operating system counted for their processes, so a busy machine changes it little. The result is a
table in Markdown; all of it takes about ten minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from tests.system.dataplane_program import installed_node_proxy

from . import alone, traffic
from .programs import Running, nginx, node, ours, upstream


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chp", default=installed_node_proxy())
    parser.add_argument("--nginx", default=shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin"))
    parser.add_argument("--case", default="", help="parts of the cases' names; all without it")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a run")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--routes", type=int, default=10_000)
    parser.add_argument("--stream", type=int, default=5 << 30, help="bytes of the large bodies")
    parser.add_argument("--sockets", type=int, default=9_500, help="idle WebSockets")
    parser.add_argument("--churn", type=int, default=200_000, help="connections of the storm; a tenth are WebSockets")
    options = parser.parse_args()
    parts = [part for part in options.case.split(",") if part]

    def wanted(name: str) -> bool:
        return not parts or any(part in name for part in parts)

    def say(rows: Iterable[traffic.Row]) -> None:
        for name, unit, values in rows:
            cells = [f"{values[column]:.4g}" if column in values else "" for column in columns]
            ratios = [
                f"{values[other] / values['ours']:.2f}" if other in values and values["ours"] > 0 else ""
                for other in columns[1:]
            ]
            print(f"| {name} | {unit} | " + " | ".join((*cells, *ratios)) + " |", flush=True)

    columns = ["ours", *(["chp"] if options.chp else []), *(["nginx"] if options.nginx else [])]
    print("| measure | unit | " + " | ".join((*columns, *(f"{c} / ours" for c in columns[1:]))) + " |")
    print("|---|---|" + "---|" * (2 * len(columns) - 1), flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        directory = Path(name)
        target = stack.enter_context(upstream(directory))
        if wanted("memory") or wanted("routes"):
            starters: dict[str, alone.Starter] = {"ours": lambda: ours(directory)}
            if options.chp:
                starters["chp"] = lambda: node(options.chp, directory)
            say(alone.routes(starters, target, options.routes))
        if wanted("look-up"):
            say(alone.lookup())
        proxies: list[Running] = [stack.enter_context(ours(directory))]
        if options.chp:
            proxies.append(stack.enter_context(node(options.chp, directory)))
        for proxy in proxies:
            proxy.load(options.routes, target)
        if options.nginx:
            proxies.append(stack.enter_context(nginx(options.nginx, directory, target, options.routes)))
        say(traffic.traffic(proxies, options.seconds, options.repetitions, wanted))
        if wanted("latency"):
            say(traffic.latency(proxies, urlsplit(target).port or 80, options.seconds, options.repetitions))
        if wanted("GiB"):
            say(traffic.stream(proxies, options.stream))
        if wanted("idle WebSocket"):
            say(traffic.idle_sockets(proxies, options.sockets))
        if wanted("churn"):
            say(alone.churn(directory, target, options.churn, options.churn // 10))
    return 0


if __name__ == "__main__":
    sys.exit(main())
