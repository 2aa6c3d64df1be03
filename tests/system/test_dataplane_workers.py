"""Several workers look like one proxy, and none of them is missed when it dies."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.system.dataplane_program import (
    Answer,
    Program,
    Target,
    free_port,
    program,
    read_answer,
    read_request,
    target,
    until,
)

WORKERS = 3


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Program]:
    state = str(tmp_path / "routes")
    async with program(tmp_path, "--workers", str(WORKERS), "--state-file", state) as running:
        yield running


def workers(proxy: Program) -> list[psutil.Process]:
    return psutil.Process(proxy.process.pid).children()


def serving(process: psutil.Process, port: int) -> int:
    """Connections of the public port that a process holds."""
    return sum(c.status == psutil.CONN_ESTABLISHED and c.laddr.port == port for c in process.net_connections("tcp"))


async def reach_all(proxy: Program) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connections open at the same time, at least one with each worker."""
    connections = []
    for _ in range(200):
        connections.append(await asyncio.open_connection("127.0.0.1", proxy.port))
        if len(connections) % 10 == 0:
            # A connection is a worker's once it has been answered.
            for reader, writer in connections[-10:]:
                writer.write(b"GET /_chp_healthz HTTP/1.1\r\nHost: p\r\n\r\n")
                assert (await read_answer(reader)).status == 200
            if all(serving(worker, proxy.port) for worker in workers(proxy)):
                return connections
    raise AssertionError("not every worker was reached")


async def test_all_take_part_and_know_every_change_at_once(proxy: Program) -> None:
    assert len(workers(proxy)) == WORKERS
    connections = await reach_all(proxy)

    async def everywhere(path: str) -> set[int]:
        found = set()
        for reader, writer in connections:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: p\r\n\r\n".encode())
            found.add((await read_answer(reader)).status)
        return found

    async with target() as place:
        for number in range(20):
            # The answer of the API is the promise: no worker may be behind it.
            await proxy.route(f"/r{number}", place.url)
            assert await everywhere(f"/r{number}") == {200}
            assert (await proxy.api("DELETE", f"/r{number}")).status == 204
            assert await everywhere(f"/r{number}") == {404}
    for _, writer in connections:
        writer.close()


async def test_changes_at_the_same_time_leave_one_table(proxy: Program) -> None:
    async with target() as place, target() as other:
        await asyncio.gather(
            *(proxy.route("/same", url, turn=turn) for turn in range(20) for url in (place.url, other.url))
        )
        kept = (await proxy.api("GET", "/same")).json()
        asked = [await proxy.get("/same") for _ in range(40)]
        assert {answer.status for answer in asked} == {200}
        right, wrong = (place, other) if kept["target"] == place.url else (other, place)
        assert (len(right.requests), len(wrong.requests)) == (40, 0)


async def test_activity_of_all_is_seen_at_once(proxy: Program) -> None:
    async with target() as place:
        await proxy.route("/t", place.url)
        for _ in range(10):
            before = await proxy.activity("/t")
            await until(lambda: True, "a moment")
            assert (await proxy.get("/t")).status == 200
            assert await proxy.activity("/t") > before


async def test_metrics_are_the_sum(tmp_path: Path) -> None:
    port = free_port()
    options = ("--workers", "2", "--metrics-ip", "127.0.0.1", "--metrics-port", str(port))
    async with target() as place, program(tmp_path, *options) as proxy:
        await proxy.route("/t", place.url)
        for _ in range(30):
            await proxy.get("/t")
        await proxy.get("/nothing")

        async def value(name: str) -> float:
            answer = await proxy.send(b"GET /metrics HTTP/1.1\r\nHost: p\r\n\r\n", port=port)
            found = re.search(rf"^{re.escape(name)} (\S+)$", answer.body.decode(), re.M)
            assert found, answer.body
            return float(found[1])

        assert await value("requests_web") == 31
        assert await value('requests_proxy{status="200"}') == 30
        assert await value('requests_proxy{status="404"}') == 1
        assert await value("api_route_add") == 1
        assert await value("find_target_for_req_count") == 31
        # What a worker has counted does not die with it.
        await until(lambda: len(workers(proxy)) == 2, "both are there")
        for worker in workers(proxy):
            worker.send_signal(signal.SIGKILL)
        await until(lambda: proxy.log.read_text().count("replacing it") == 2, "both deaths are noticed")
        await until(lambda: len(workers(proxy)) == 2, "both are replaced")
        assert (await proxy.get("/t")).status == 200
        assert await value("requests_web") == 32


async def test_worker_that_dies_is_replaced_and_nobody_waiting_is_lost(proxy: Program) -> None:
    async with target() as place:
        await proxy.route("/t", place.url)
        before = {worker.pid for worker in workers(proxy)}
        for pid in before:
            os.kill(pid, signal.SIGSTOP)
        # Nobody is there to accept these; they wait in the kernel.
        asked = [asyncio.create_task(proxy.get("/t")) for _ in range(30)]
        await until(lambda: sum(len(p.net_connections("tcp")) for p in [psutil.Process()]) > 30, "they are connected")
        began = time.monotonic()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
        assert time.monotonic() - began < 5
        after = {worker.pid for worker in workers(proxy)}
        assert len(after) == WORKERS and not after & before
        # The new ones take part in what comes.
        await proxy.route("/more", place.url)
        assert {(await proxy.get("/more")).status for _ in range(20)} == {200}


async def test_worker_that_does_not_answer_is_replaced(proxy: Program) -> None:
    """The table of a worker that is stuck would be another one: a change waits, but not for ever."""
    async with target() as place:
        stuck = workers(proxy)[0].pid
        os.kill(stuck, signal.SIGSTOP)
        await proxy.route("/t", place.url)
        assert "has not answered" in proxy.log.read_text()
        await until(lambda: stuck not in {worker.pid for worker in workers(proxy)}, "it is gone")
        await until(lambda: len(workers(proxy)) == WORKERS, "it is replaced")
        assert {(await proxy.get("/t")).status for _ in range(20)} == {200}


async def test_routes_are_back_within_a_second_of_a_kill(tmp_path: Path) -> None:
    state = str(tmp_path / "routes")
    options = ("--workers", "2", "--state-file", state)
    async with target() as place:
        async with program(tmp_path, *options) as proxy:
            await proxy.route("/t", place.url)
            left = workers(proxy)
            proxy.process.kill()
            await proxy.process.wait()
            # Without their parent they would hold the port with a table nobody changes any more.
            await until(lambda: not any(worker.is_running() for worker in left), "they end by themselves", 2)
        began = time.monotonic()
        async with program(tmp_path, *options) as again:
            assert (await again.get("/t")).status == 200
            # One second on a machine that has nothing else to do; tests share theirs.
            assert time.monotonic() - began < 4


async def test_end_lets_requests_of_all_workers_finish(proxy: Program) -> None:
    release = asyncio.Event()

    async def slow(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(place, reader)
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with target(slow) as place:
        await proxy.route("/", place.url)
        asked: list[asyncio.Task[Answer]] = [asyncio.create_task(proxy.get("/")) for _ in range(12)]
        await until(lambda: len(place.requests) == 12, "all are under way")
        proxy.process.terminate()
        await until(lambda: "letting requests finish" in proxy.log.read_text(), "it was told")

        async def refused() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            except OSError:
                return True
            writer.close()
            return False

        end = time.monotonic() + 5
        while not await refused():
            assert time.monotonic() < end
        release.set()
        assert {answer.body for answer in await asyncio.gather(*asked)} == {b"ok"}
        assert await asyncio.wait_for(proxy.process.wait(), 5) == 2


async def test_unix_socket_is_shared(tmp_path: Path) -> None:
    path = str(tmp_path / "public.sock")
    async with target() as place:
        api = free_port()
        log = (tmp_path / "log").open("wb")
        process = await asyncio.create_subprocess_exec(
            *("jupyterhub-proxy", "--socket", path, "--api-ip", "127.0.0.1", "--api-port", str(api)),
            *("--workers", "2", "--default-target", place.url),
            env={**os.environ, "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]},
            stdout=log,
            stderr=log,
        )
        try:
            await until(lambda: os.path.exists(path) and b"Proxy API at" in (tmp_path / "log").read_bytes(), "it runs")
            for _ in range(10):
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(b"GET /u HTTP/1.1\r\nHost: p\r\n\r\n")
                assert (await read_answer(reader)).body == b"GET /u HTTP/1.1"
                writer.close()
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), 10)
        assert not os.path.exists(path)


async def test_port_of_somebody_else_is_not_shared(proxy: Program, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="in use by another process"):
        async with program(tmp_path, "--workers", "2", "--port", str(proxy.port)):
            pass
