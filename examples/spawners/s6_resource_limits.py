"""S6: limits as plain annotated attributes of a spawner class, told to the server by its environment.

    jupyterhub -f examples/spawners/s6_resource_limits.py

Log in with the name of an account of this machine: with your own, or as root with anybody's.
"""

import os

from jupyterhub.spawner import LocalProcessSpawner

c = get_config()
load_subconfig("common.py", path=os.path.dirname(__file__) or ".")


class ResourceManagedSpawner(LocalProcessSpawner):
    """Spawner with resource limits"""

    mem_limit: str = '1G'      # Memory limit
    cpu_limit: float = 1.0     # CPU limit

    def get_env(self):
        """Add resource limits to environment"""
        env = super().get_env()
        env.update({
            'MEM_LIMIT': self.mem_limit,
            'CPU_LIMIT': str(self.cpu_limit),
        })
        return env

    async def start(self):
        """Start with resource constraints"""
        # Set resource limits before starting
        self.set_resource_limits()
        return await super().start()

    def set_resource_limits(self):
        """Apply resource limits to the process"""
        # Implementation depends on deployment method
        pass


# Configuration with resource management
c.JupyterHub.spawner_class = ResourceManagedSpawner
c.ResourceManagedSpawner.mem_limit = '2G'
c.ResourceManagedSpawner.cpu_limit = 2.0
