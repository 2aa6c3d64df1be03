"""S1: a spawner from nothing but the base class, with every part of the contract.

    jupyterhub -f examples/spawners/s1_base_class.py

Any user name will do; servers run under your own account.
"""

import os
import signal
import subprocess

from jupyterhub.spawner import Spawner
from jupyterhub.utils import random_port

c = get_config()
load_subconfig("common.py", path=os.path.dirname(__file__) or ".")


class PlainSpawner(Spawner):
    """Runs the command as a child of the Hub, in the directory of the Hub."""

    process = None
    pid = 0

    async def start(self):
        """Start, and return where the server listens."""
        self.port = self.port or random_port()
        env = {"PATH": os.environ["PATH"], "HOME": os.path.expanduser("~"), **self.get_env()}
        self.process = subprocess.Popen([*self.cmd, *self.get_args()], env=env, start_new_session=True)
        self.pid = self.process.pid
        return (self.ip, self.port)

    async def stop(self, now=False):
        """Ask the server to end; with `now` end it."""
        os.kill(self.pid, signal.SIGKILL if now else signal.SIGTERM)
        if not await self.wait_for_death(timeout=20):
            os.kill(self.pid, signal.SIGKILL)
            await self.wait_for_death()

    async def poll(self):
        """None while it runs, else the exit code."""
        if self.process is not None:
            return self.process.poll()
        if not self.pid:
            return 0
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return 0
        return None

    def get_state(self):
        """The process id is what finds the server again after a restart of the Hub."""
        state = super().get_state()
        if self.pid:
            state["pid"] = self.pid
        return state

    def load_state(self, state):
        super().load_state(state)
        self.pid = state.get("pid", 0)

    def clear_state(self):
        super().clear_state()
        self.process, self.pid = None, 0

    def get_env(self):
        env = super().get_env()
        env["STARTED_BY"] = "PlainSpawner"
        return env

    def get_args(self):
        args = super().get_args()
        # Jupyter refuses to run as root unless told that this is meant.
        return [*args, "--allow-root"] if os.geteuid() == 0 else args


c.JupyterHub.spawner_class = PlainSpawner
