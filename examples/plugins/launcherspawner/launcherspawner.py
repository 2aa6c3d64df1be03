"""A spawner for launchers: programs that run a command somewhere, say how it is, and end it.

The launcher has four verbs:

    run NAME COMMAND...   starts the command with the environment of the launcher, prints the job's number
    status JOB            prints `waiting REASON`, `running` or `ended EXIT-STATUS`
    stop JOB [--now]      asks the job to end, with --now ends it
    logs JOB              prints what the job has written

An exit status of 3 means that it refuses, any other but 0 that it failed; standard error says why.
"""

import asyncio
import os

from jupyterhub.spawner import Spawner, SpawnException
from jupyterhub.traitlets import Command
from jupyterhub.utils import random_port
from traitlets import Float

REFUSED = 3


class LauncherSpawner(Spawner):
    """Runs each server as a job of a launcher."""

    launcher = Command(["launcher"], help="The command of the launcher.").tag(config=True)

    patience = Float(1.0, help="Seconds between two questions about a job that waits.").tag(config=True)

    #: The job's number: all that it takes to find the server again.
    job = ""
    #: What the launcher last said about the job.
    status = ""

    async def ask(self, *words, env=None):
        """Return what the launcher answers; SpawnException if it refuses, RuntimeError if it fails."""
        process = await asyncio.create_subprocess_exec(
            *self.launcher, *words, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        answer, complaint = (text.decode(errors="replace").strip() for text in await process.communicate())
        if process.returncode == REFUSED:
            # Not a failure of the Hub's: the user reads the message, the metrics count the reason.
            raise SpawnException(complaint, reason="refused by the launcher", status_code=403)
        if process.returncode != 0:
            raise RuntimeError(f"the launcher's {words[0]} failed: {complaint or process.returncode}")
        return answer

    # The three methods that make a spawner

    async def start(self):
        """Start the server, and return where it will listen."""
        self.port = self.port or random_port()
        # The environment tells the server who it is, and holds its token: it goes where other people's `ps` does not look.
        env = {"PATH": os.environ["PATH"], **self.get_env()}
        self.job = await self.ask("run", f"{self.user.name}-{self.name}", *self.cmd, *self.get_args(), env=env)
        while await self.poll() is None and self.status.startswith("waiting"):
            await asyncio.sleep(self.patience)
        return (self.ip, self.port)

    async def poll(self):
        """None while the job waits or runs, else its exit status.

        An error here does not mean that the server is gone: the Hub goes on and asks again.
        """
        if not self.job:
            return 0
        self.status = await self.ask("status", self.job)
        state, _, rest = self.status.partition(" ")
        return int(rest) if state == "ended" else None

    async def stop(self, now=False):
        """End the job, and return when it has ended."""
        await self.ask("stop", self.job, *(["--now"] if now else []))
        if not await self.wait_for_death(timeout=20):
            await self.ask("stop", self.job, "--now")
            await self.wait_for_death()

    # What has to survive a restart of the Hub

    def get_state(self):
        state = super().get_state()
        if self.job:
            state["job"] = self.job
        return state

    def load_state(self, state):
        super().load_state(state)
        self.job = state.get("job", "")

    def clear_state(self):
        super().clear_state()
        self.job = self.status = ""

    # What the user sees

    async def progress(self):
        """Tell why it takes time, whenever there is something new to tell."""
        told = None
        while True:
            if self.status != told:
                told = self.status
                yield {"progress": 50 if told else 20, "message": f"The job is {told}" if told else "Asking the launcher"}
            await asyncio.sleep(self.patience / 2)

    async def logs(self, lines=100):
        """The last lines of the server's output, which the user is shown when a start fails."""
        return (await self.ask("logs", self.job)).splitlines()[-lines:] if self.job else []
