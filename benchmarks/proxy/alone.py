"""Cases about the program itself: its memory, its routes, and what is left after a storm."""

from __future__ import annotations

import asyncio
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from . import load
from .programs import Running, ours, routes_of
from .traffic import MIB, Rows

Starter = Callable[[], AbstractContextManager[Running]]


def routes(starters: dict[str, Starter], target: str, count: int) -> Rows:
    """Memory at rest and with many routes, seconds to load them, milliseconds to add one more."""
    names = ("memory at rest", f"memory with {count} routes", f"{count} routes loaded", f"one more of {count}")
    units = ("MiB", "MiB", "s", "ms p50")
    values: list[dict[str, float]] = [{} for _ in names]
    for name, start in starters.items():
        with start() as proxy:
            values[0][name] = proxy.resident() / MIB
            values[2][name] = proxy.load(count, target)
            values[1][name] = proxy.resident() / MIB
            connection = proxy.api()
            times = []
            for number in range(500):
                began = time.perf_counter()
                proxy.add(connection, f"/user/more{number}", target)
                times.append(time.perf_counter() - began)
            values[3][name] = statistics.median(times) * 1000
            assert len(routes_of(proxy)) == count + 500
    return list(zip(names, units, values, strict=True))


_LOOKUP = """
import sys, time
from jupyterhub.dataplane.table import Routes
routes = Routes()
count = int(sys.argv[1])
for number in range(count):
    routes.add(f"/user/u{number}", {"target": "http://127.0.0.1:1"})
paths = [f"/user/u{number * 7919 % count}/api/kernels?1" for number in range(1000)]
best = 9.9
for _ in range(20):
    began = time.process_time()
    for path in paths:
        routes.find("", path)
    best = min(best, (time.process_time() - began) / len(paths))
print(best * 1e6)
"""


def lookup() -> Rows:
    """Microseconds to find the route of a request among more and more of them."""
    rows: Rows = []
    for count in (10, 10_000, 100_000):
        words = [sys.executable, "-c", _LOOKUP, str(count)]
        found = float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        rows.append((f"look-up among {count}", "µs", {"ours": found}))
    return rows


def churn(directory: Path, target: str, connections: int, sockets: int) -> Rows:
    """What is left of many short connections and WebSockets, of which three in ten are abandoned.

    Some targets die meanwhile. Growth is measured after a tenth of it has warmed everything up.
    """
    with ours(directory) as proxy:
        proxy.load(100, target)
        connection = proxy.api()
        at_rest = proxy.files()
        chance = random.Random(7)

        async def one(turn: int) -> None:
            if turn % 500 == 0:
                # A target that is gone, then another in its place.
                proxy.add(connection, "/user/u7", "http://127.0.0.1:1")
                proxy.add(connection, "/user/u7", target)
            path = f"/user/u{chance.randrange(100)}"
            if turn % (connections // sockets) == 0:
                client = await load.open_socket(proxy.port, path, load.frame(100), lambda c: c.transport.close())
                if chance.random() < 0.3:
                    client.transport.abort()
                elif not client.refusal:
                    client.say()
                await client.closed
                return
            failed = chance.random()
            plain = await load.connect(proxy.port, lambda client: client.transport.close())
            plain.send(load.get(f"{path}/bytes/{chance.choice((100, 100, 100, 200000))}"))
            if failed < 0.3:
                # Gone before, while or after the answer comes: without a word, or with a reset.
                await asyncio.sleep(chance.random() / 500)
                plain.transport.abort()
            await plain.closed

        async def storm(turns: int) -> None:
            waiting = asyncio.Semaphore(64)

            async def bounded(turn: int) -> None:
                async with waiting:
                    await one(turn)

            for first in range(0, turns, 1000):
                await asyncio.gather(*(bounded(turn) for turn in range(first, first + 1000)))

        load.run(lambda: storm(connections // 10))
        warm = proxy.resident()
        began = time.monotonic()
        load.run(lambda: storm(connections))
        took = time.monotonic() - began
        left = proxy.resident()
        # Unused connections to targets are kept for a minute, then the count is what it was.
        deadline = time.monotonic() + 90
        connection.close()
        while proxy.files() > at_rest and time.monotonic() < deadline:
            time.sleep(1)
        assert socket.create_connection(("127.0.0.1", proxy.port), 5)
        return [
            (f"churn: {connections} connections, {sockets} WebSockets", "s", {"ours": took}),
            ("churn: growth", "MiB", {"ours": (left - warm) / MIB}),
            ("churn: in CLOSE_WAIT after it", "sockets", {"ours": proxy.states().get("CLOSE_WAIT", 0)}),
            ("churn: more files than before", "files", {"ours": proxy.files() - at_rest}),
        ]
