"""Cases in which all proxies carry the same traffic, in turn."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from . import load
from .programs import PATH, Running

Row = tuple[str, str, dict[str, float]]
Rows = list[Row]
MIB = 1 << 20


def traffic(proxies: list[Running], seconds: float, repetitions: int, wanted: Callable[[str], bool]) -> Iterator[Row]:
    """Microseconds of CPU for each request (or for each MiB), the median of several runs."""

    async def downloads(port: int) -> int:
        for _ in range(3):
            await load.download(port, PATH, 100 * MIB)
        return 300

    async def uploads(port: int) -> int:
        for _ in range(3):
            await load.upload(port, f"{PATH}/up", 100 * MIB)
        return 300

    small, large = f"{PATH}/small", f"{PATH}/1m"
    cases: list[tuple[str, str, Callable[[int], Awaitable[int]]]] = [
        ("small, 64 connections", "µs/request", lambda port: load.busy(port, small, 64, seconds)),
        ("small, 1 connection", "µs/request", lambda port: load.busy(port, small, 1, seconds)),
        ("small, new connections", "µs/request", lambda port: load.fresh(port, small, 16, seconds)),
        ("1 MiB, 8 connections", "µs/request", lambda port: load.busy(port, large, 8, seconds)),
        ("100 MiB down", "µs/MiB", downloads),
        ("100 MiB up", "µs/MiB", uploads),
        (
            "WebSocket, 100 connections, 100 B",
            "µs/message",
            lambda port: load.echo(port, f"{PATH}/ws", 100, 100, seconds),
        ),
        (
            "WebSocket, 100 connections, 64 KiB",
            "µs/message",
            lambda port: load.echo(port, f"{PATH}/ws", 100, 65536, seconds),
        ),
    ]
    for name, unit, work in cases:
        if not wanted(name):
            continue
        found: dict[str, list[float]] = {proxy.name: [] for proxy in proxies}
        for turn in range(repetitions + 1):
            # Whoever is measured after whom must make no difference in the end.
            for proxy in proxies if turn % 2 else proxies[::-1]:
                before = proxy.cpu()
                count = load.run(lambda: work(proxy.port))  # noqa: B023
                # The first turn warms up.
                if turn or repetitions == 0:
                    found[proxy.name].append((proxy.cpu() - before) * 1e6 / max(1, count))
        yield name, unit, {name: statistics.median(values) for name, values in found.items()}


def latency(proxies: list[Running], direct_port: int, seconds: float, repetitions: int) -> Rows:
    """Microseconds a small request takes longer than without a proxy, at a rate none of them has trouble with.

    The rate is half of what configurable-http-proxy can do, so it is a load that people have.
    """
    busiest = min(load.run(lambda: load.busy(proxy.port, f"{PATH}/small", 64, 1.0)) for proxy in proxies)  # noqa: B023
    rate = busiest / 2
    places: list[tuple[str, int]] = [("none", direct_port), *((proxy.name, proxy.port) for proxy in proxies)]
    found: dict[str, list[list[float]]] = {name: [] for name, _ in places}
    for _ in range(max(1, repetitions)):
        for name, port in places:
            times = sorted(load.run(lambda: load.paced(port, f"{PATH}/small", rate, 64, seconds)))  # noqa: B023
            found[name].append([times[len(times) // 2] * 1e6, times[int(len(times) * 0.99)] * 1e6])
    rows: Rows = []
    for index, which in enumerate(("p50", "p99")):
        middle = {name: statistics.median(run[index] for run in runs) for name, runs in found.items()}
        direct = middle.pop("none")
        rows.append(
            (f"added latency, {rate:.0f} requests/s", f"µs {which}", {n: v - direct for n, v in middle.items()})
        )
    return rows


def idle_sockets(proxies: list[Running], count: int) -> Rows:
    """KiB resident for each of many WebSockets on which nobody speaks."""
    rows: dict[str, float] = {}
    for proxy in proxies:

        async def hold(proxy: Running = proxy) -> float:
            # What is made once, at the first, is not part of it.
            warm = [await load.open_socket(proxy.port, f"{PATH}/ws", b"", lambda _: None) for _ in range(50)]
            before = proxy.resident()
            held = []
            for _ in range(0, count, 50):
                opening = (load.open_socket(proxy.port, f"{PATH}/ws", b"", lambda _: None) for _ in range(50))
                held += await asyncio.gather(*opening)
            each = (proxy.resident() - before) / len(held) / 1024
            for client in (*warm, *held):
                client.transport.close()
            await asyncio.gather(*(client.closed for client in (*warm, *held)))
            return each

        rows[proxy.name] = load.run(hold)
    return [(f"idle WebSocket, {count} held", "KiB each", rows)]


def stream(proxies: list[Running], size: int) -> Rows:
    """MiB by which a proxy grows at most while a body passes, up, down, and down to a slow reader."""
    rows: Rows = []
    ways: dict[str, Callable[[int], Awaitable[Any]]] = {
        "up": lambda port: load.upload(port, f"{PATH}/up", size),
        "down": lambda port: load.download(port, PATH, size),
        "down, slow reader": lambda port: load.download(port, PATH, size, 0.01),
    }
    for way, work in ways.items():
        grown: dict[str, float] = {}
        for proxy in proxies:

            async def watch(proxy: Running = proxy, work: Any = work) -> float:
                before = most = proxy.resident()
                task = asyncio.create_task(work(proxy.port))
                while not task.done():
                    most = max(most, proxy.resident())
                    await asyncio.sleep(0.05)
                await task
                return (most - before) / MIB

            grown[proxy.name] = load.run(watch)
        rows.append((f"{size / (1 << 30):.3g} GiB {way}", "MiB grown", grown))
    return rows
