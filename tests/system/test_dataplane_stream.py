"""Bodies are passed on, never collected: memory stays where it was, however large they are and whoever is slow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.system.dataplane_program import Program, Target, program, read_head, target

SIZE = 200 << 20
PIECE = b"0123456789abcdef" * 8192
#: Bytes by which the proxy may grow. It has 256 KiB to read into and as much on its way to each side.
GROWTH = 16 << 20


class Memory:
    """The largest resident size of a process while a block runs, above what it was before."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process

    async def __aenter__(self) -> Memory:
        self.before = self.most = self._process.memory_info().rss
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _watch(self) -> None:
        while True:
            self.most = max(self.most, self._process.memory_info().rss)
            await asyncio.sleep(0.005)

    @property
    def growth(self) -> int:
        return self.most - self.before


async def swallow(reader: asyncio.StreamReader, size: int, *, slowly: bool, end: bytes = b"") -> int:
    """Read a body of at least so many bytes that ends with `end`.

    `slowly`: with rests in which the other side could send all of it.
    """
    seen, tail = 0, b""
    rests = 20 if slowly else 0
    while seen < size or not tail.endswith(end):
        data = await reader.read(1 << 18)
        if not data:
            break
        seen += len(data)
        tail = (tail + data)[-len(end) :] if end else b""
        if rests and seen > (21 - rests) * (1 << 20):
            rests -= 1
            await asyncio.sleep(0.05)
    return seen


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Program]:
    async with program(tmp_path) as running:
        yield running


@pytest.mark.parametrize("slowly", [False, True], ids=["fast", "slow-target"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_upload(proxy: Program, chunked: bool, slowly: bool) -> None:
    seen = 0

    async def take(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        await read_head(reader)
        # Chunked, the framing comes on top; the end is a chunk of no bytes.
        seen = await swallow(reader, SIZE, slowly=slowly, end=b"0\r\n\r\n" if chunked else b"")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with target(take, limit=1 << 18) as place, proxy.connection() as (reader, writer):
        await proxy.route("/", place.url)
        length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % SIZE
        async with Memory(psutil.Process(proxy.process.pid)) as memory:
            writer.write(b"POST / HTTP/1.1\r\nHost: p\r\n" + length + b"\r\n\r\n")
            piece = b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE
            for _ in range(SIZE // len(PIECE)):
                writer.write(piece)
                await writer.drain()
            if chunked:
                writer.write(b"0\r\n\r\n")
            first, _ = await asyncio.wait_for(read_head(reader), 60)
    assert first == "HTTP/1.1 200 OK"
    assert seen >= SIZE
    assert memory.growth < GROWTH


@pytest.mark.parametrize("slowly", [False, True], ids=["fast", "slow-client"])
async def test_download(proxy: Program, slowly: bool) -> None:
    async def give(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        for _ in range(SIZE // len(PIECE)):
            writer.write(PIECE)
            await writer.drain()

    async with target(give) as place:
        await proxy.route("/", place.url)
        async with Memory(psutil.Process(proxy.process.pid)) as memory:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, limit=1 << 18)
            writer.write(b"GET / HTTP/1.1\r\nHost: p\r\n\r\n")
            await read_head(reader)
            assert await asyncio.wait_for(swallow(reader, SIZE, slowly=slowly), 60) == SIZE
            writer.close()
    assert memory.growth < GROWTH


async def test_many_slow_downloads_share_little_memory(proxy: Program) -> None:
    """Fifty clients that take nothing, of answers without an end."""
    started = 0

    async def give(place: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal started
        await read_head(reader)
        started += 1
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(PIECE)
            await writer.drain()

    async with target(give) as place:
        await proxy.route("/", place.url)
        process = psutil.Process(proxy.process.pid)
        async with Memory(process) as memory:
            clients = [await asyncio.open_connection("127.0.0.1", proxy.port, limit=1024) for _ in range(50)]
            for _, writer in clients:
                writer.write(b"GET / HTTP/1.1\r\nHost: p\r\n\r\n")
            # Until nothing moves any more: the proxy has no work to do.
            quiet = 0
            end = time.monotonic() + 30
            while quiet < 5:
                assert time.monotonic() < end
                spent = sum(process.cpu_times()[:2])
                await asyncio.sleep(0.1)
                still = started == 50 and sum(process.cpu_times()[:2]) - spent <= 0.01
                quiet = quiet + 1 if still else 0
            for _, writer in clients:
                writer.close()
    # Two pieces of 256 KiB each at most, and what the allocator keeps.
    assert memory.growth < 50 * (1 << 19) + GROWTH
