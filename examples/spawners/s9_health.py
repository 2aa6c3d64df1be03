"""S9: a spawner that watches its server's health and restarts it.

    jupyterhub -f examples/spawners/s9_health.py

Log in with the name of an account of this machine: with your own, or as root with anybody's.
"""

import os

import aiohttp

from jupyterhub.spawner import LocalProcessSpawner

c = get_config()
load_subconfig("common.py", path=os.path.dirname(__file__) or ".")


class MonitoredSpawner(LocalProcessSpawner):
    """Spawner with health monitoring"""

    async def poll(self):
        """Enhanced polling with health checks"""
        # Check process status
        status = await super().poll()
        if status is not None:
            return status
        # Additional health checks
        if not await self.health_check():
            # Server is running but unhealthy
            await self.restart_unhealthy_server()
        return None

    async def health_check(self):
        """Check if server is healthy"""
        try:
            # Make HTTP request to server
            async with aiohttp.ClientSession() as session:
                async with session.get(f'{self.url}/api/status') as resp:
                    return resp.status == 200
        except:
            return False

    async def restart_unhealthy_server(self):
        """Restart an unhealthy server"""
        await self.stop()
        await self.start()


c.JupyterHub.spawner_class = MonitoredSpawner
c.Spawner.poll_interval = 10
