"""A spawner that finds its server again by name, as container spawners do, with a delay at every step.

The "engine" is a directory: one JSON file per server with pid and port. Whatever the Hub remembers, a server exists
exactly when its file names a living process; so a killed Hub can leave one behind at any point of `start`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
from traitlets import Float, Unicode

from jupyterhub.spawner import Spawner
from jupyterhub.utils import random_port


class FoundByNameSpawner(Spawner):
    """Starts the tiny server detached, under a name derived from user and server."""

    engine_dir = Unicode(config=True)
    longest_delay = Float(0.3, config=True)
    command = Unicode(config=True)

    @property
    def container(self) -> Path:
        return Path(self.engine_dir) / f"{self.user.name}--{self.name}.json"

    async def _delay(self) -> None:
        await asyncio.sleep(random.uniform(0, self.longest_delay))

    def _find(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self.container.read_text())
            process = psutil.Process(found["pid"])
            if process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - found["born"]) < 1:
                return found
        except (OSError, ValueError, psutil.NoSuchProcess):
            pass
        return None

    async def start(self) -> tuple[str, int]:
        await self._delay()
        if self._find() is not None:
            raise RuntimeError(f"container {self.container.stem} exists already")
        self.port = self.port or random_port()
        container, port = self.container, self.port

        def register() -> None:
            # In the child, before the command runs: an engine knows its container from the moment that it exists,
            # whatever happens to whoever asked for it.
            me = psutil.Process(os.getpid())
            container.write_text(json.dumps({"pid": me.pid, "port": port, "born": me.create_time()}))

        subprocess.Popen(
            [sys.executable, self.command],
            env={**os.environ, **self.get_env()},
            start_new_session=True,
            preexec_fn=register,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        await self._delay()
        return ("127.0.0.1", self.port)

    async def poll(self) -> int | None:
        found = self._find()
        return None if found is not None else 1

    async def stop(self, now: bool = False) -> None:
        await self._delay()
        found = self._find()
        if found is not None:
            os.kill(found["pid"], signal.SIGKILL)
            while self._find() is not None:
                await asyncio.sleep(0.01)
        self.container.unlink(missing_ok=True)
        await self._delay()
