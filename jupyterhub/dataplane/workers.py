"""Several workers on one port: started, told of every change of the routes, asked what happened, replaced.

Each has a socket of its own on the public address, among which the kernel deals out the clients. The parent keeps all of
them open: when a worker dies, clients that were not yet accepted wait for the one that takes its place.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from time import monotonic
from typing import Any

from .channel import Channel, open_channel
from .log import Log
from .metrics import Metrics
from .options import Options
from .sockets import CannotListen, bind
from .table import Routes
from .tls import TLSProblem, server_context

__all__ = ["Workers"]

#: Seconds for a worker to begin, and to answer; one that does not is ended and replaced.
START_TIMEOUT = 30.0
ANSWER_TIMEOUT = 5.0
#: Seconds between two reports: what a worker that is killed takes with it.
REPORT_INTERVAL = 2.0
#: Seconds before a worker is replaced that lived no longer than this.
SHORT_LIFE = 1.0


class _Worker:
    """A worker's process, and what is under way with it."""

    def __init__(self, index: int, process: subprocess.Popen[bytes]) -> None:
        self.index = index
        self.process = process
        self.channel: Channel
        self.started_at = monotonic()
        self.asked: dict[int, asyncio.Future[Any]] = {}
        self.metrics: dict[str, Any] | None = None
        self._number = 0

    def ask(self, verb: str, *arguments: Any) -> asyncio.Future[Any]:
        """Send an order; the future is done when it has been carried out, or the worker is gone (then None)."""
        self._number += 1
        answer = asyncio.get_running_loop().create_future()
        self.asked[self._number] = answer
        self.channel.send([self._number, verb, *arguments])
        return answer

    def kill(self) -> None:
        """End it, whatever it does; if it is ending by itself, it has a moment for that."""
        try:
            self.process.wait(0.5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Workers:
    """All of them. `bind` and `start` once; then they serve until `drain` and `close`."""

    def __init__(self, options: Options, log: Log, routes: Routes, metrics: Metrics) -> None:
        self._options = options
        self._log = log
        self._routes = routes
        self._metrics = metrics
        # A mistake in the files is to be told here, once.
        server_context(options.public_tls, options)
        self._sockets: list[list[socket.socket]] = []
        self._workers: dict[int, _Worker] = {}
        #: Counters of workers that are gone.
        self._past: list[dict[str, Any]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending = False
        self._nobody_left = asyncio.Event()

    def bind(self) -> None:
        """Take the public address. Raises CannotListen."""
        public, count = self._options.public, self._options.workers
        if public.socket:
            self._sockets = [bind("public", public)] * count
            return
        self._sockets = [bind("public", public, shared=True)]
        while len(self._sockets) < count:
            self._sockets.append(bind("public", public, shared=True, among_ours=True))

    async def start(self) -> None:
        """Return when all of them take clients. Raises CannotListen."""
        began = [await self._spawn(index) for index in range(self._options.workers)]
        await asyncio.wait(began, timeout=START_TIMEOUT)
        if len(self._workers) < self._options.workers or not all(answer.done() for answer in began):
            raise CannotListen("Workers end as soon as they are started; the lines before this one say why")
        self._run(self._report_for_ever())

    async def _spawn(self, index: int) -> asyncio.Future[Any]:
        ours, theirs = socket.socketpair()
        given = [theirs.fileno(), *(each.fileno() for each in self._sockets[index])]
        environment = {name: value for name, value in os.environ.items() if name != "CONFIGPROXY_AUTH_TOKEN"}
        package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        if package != os.getcwd():
            # A directory called `jupyterhub` where the proxy runs must not be taken for the package.
            environment["PYTHONSAFEPATH"] = "1"
        process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker", ",".join(map(str, given)), *self._options.arguments],
            pass_fds=given,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        worker = _Worker(index, process)
        worker.channel = await open_channel(
            ours, lambda message: self._heard(worker, message), lambda: self._lost(worker)
        )
        self._workers[index] = worker
        table = [[entry.key, entry.body, entry.last_activity] for entry in self._routes.entries.values()]
        return worker.ask("begin", table)

    def _run(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What they say

    def _heard(self, worker: _Worker, message: Any) -> None:
        number, result = message
        if isinstance(result, dict):
            worker.metrics = result["metrics"]
            self._routes.note_used(result["used"])
        answer = worker.asked.pop(number, None)
        if answer is not None and not answer.done():
            answer.set_result(result)

    def _lost(self, worker: _Worker) -> None:
        worker.kill()
        if worker.metrics is not None:
            self._past.append(worker.metrics)
            # One sum is enough, however many there were. What it occupied is free again.
            past = Metrics.merged(self._past).snapshot()
            past["process"] = {name: value for name, value in past["process"].items() if name.endswith("_total")}
            self._past = [past]
        for answer in worker.asked.values():
            if not answer.done():
                answer.set_result(None)
        if self._workers.get(worker.index) is worker:
            del self._workers[worker.index]
        if not self._ending:
            self._log.error(f"Worker {worker.process.pid} ended with status {worker.process.returncode}: replacing it")
            self._run(self._replace(worker))
        elif not self._workers:
            self._nobody_left.set()

    async def _replace(self, worker: _Worker) -> None:
        if monotonic() - worker.started_at < SHORT_LIFE:
            await asyncio.sleep(SHORT_LIFE)
        if not self._ending:
            await self._spawn(worker.index)

    # For the program

    async def publish(self, verb: str, *arguments: Any) -> None:
        """Tell all workers of a change; return when it is in force everywhere."""
        await self._all(verb, *arguments)

    async def _all(self, verb: str, *arguments: Any) -> list[Any]:
        """Give all of them an order; return what they say, None for those that are gone."""
        asked = {worker.ask(verb, *arguments): worker for worker in tuple(self._workers.values())}
        if not asked:
            return []
        done, late = await asyncio.wait(asked, timeout=ANSWER_TIMEOUT)
        for answer in late:
            worker = asked[answer]
            self._log.error(f"Worker {worker.process.pid} has not answered for {ANSWER_TIMEOUT:g} s: it is ended")
            worker.process.kill()
            worker.channel.close()
        return [answer.result() for answer in done]

    async def refresh(self) -> None:
        """Ask all workers what was used since, so that the routes' last activity is of now."""
        await self._all("report")

    async def _report_for_ever(self) -> None:
        while True:
            await asyncio.sleep(REPORT_INTERVAL)
            await self.refresh()

    async def render(self) -> str:
        """The metrics of all of them in one text."""
        await self.refresh()
        known = [worker.metrics for worker in self._workers.values() if worker.metrics is not None]
        return Metrics.merged([self._metrics.snapshot(), *known, *self._past]).render()

    async def reload(self) -> None:
        """Let all of them read their certificates again. Raises TLSProblem when one could not."""
        for problem in await self._all("reload"):
            if problem is not None:
                raise TLSProblem(problem)

    async def drain(self, timeout: float) -> None:
        """Let them finish what has begun, for `timeout` seconds at most or until `give_up`."""
        self._ending = True
        self._close_sockets()
        if not self._workers:
            return
        for worker in self._workers.values():
            worker.ask("end")
        try:
            # They count by themselves; this is for those that are stuck.
            await asyncio.wait_for(self._nobody_left.wait(), timeout + 1.0)
        except asyncio.TimeoutError:
            self._log.warn(f"{len(self._workers)} workers are ended where they are")

    def give_up(self) -> None:
        """Do not wait for requests any longer."""
        for worker in self._workers.values():
            worker.ask("end")

    def close(self) -> None:
        """End all that are left."""
        self._ending = True
        for task in tuple(self._tasks):
            task.cancel()
        for worker in tuple(self._workers.values()):
            worker.kill()
        self._close_sockets()

    def _close_sockets(self) -> None:
        for sockets in self._sockets:
            for each in sockets:
                each.close()
