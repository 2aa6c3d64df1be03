"""S10: hooks as methods of the spawner class, each called exactly once per start.

    jupyterhub -f examples/spawners/s10_hooks.py

Log in with the name of an account of this machine: with your own, or as root with anybody's.
"""

import os

from jupyterhub.spawner import LocalProcessSpawner

c = get_config()
load_subconfig("common.py", path=os.path.dirname(__file__) or ".")


class HookedSpawner(LocalProcessSpawner):
    """Spawner with pre/post hooks"""

    async def start(self):
        """Start with pre/post hooks"""
        await self.pre_spawn_hook()
        try:
            result = await super().start()
            await self.post_spawn_hook()
            return result
        except Exception as e:
            await self.spawn_error_hook(e)
            raise

    async def pre_spawn_hook(self):
        """Hook called before spawning"""
        # Setup user workspace, check resources, etc.
        pass

    async def post_spawn_hook(self):
        """Hook called after successful spawn"""
        # Register with external systems, send notifications, etc.
        pass

    async def spawn_error_hook(self, error):
        """Hook called on spawn error"""
        # Log error, cleanup resources, send alerts, etc.
        pass


c.JupyterHub.spawner_class = HookedSpawner
