"""S5: a spawner of its own that runs each server in a Docker container.

    jupyterhub -f examples/spawners/s5_containers.py

Needs the Docker engine, Python's `docker` package where the Hub runs, and an image whose own command is
`jupyterhub-singleuser`. Log in with any name of letters and digits.
"""

import os

import docker

from jupyterhub.spawner import LocalProcessSpawner

c = get_config()
load_subconfig("common.py", path=os.path.dirname(__file__) or ".")


class DockerSpawner(LocalProcessSpawner):
    """Example Docker-based spawner"""

    # Docker configuration
    image: str = 'jupyter/base-notebook'
    remove: bool = True

    # Where the server listens in its container; all of its interfaces, as it is reached from outside.
    ip = '0.0.0.0'
    port = 8888

    # The container has programs, accounts and a home directory of its own.
    env_keep = []

    def user_env(self, env):
        return env

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.client = docker.from_env()
        self.container = None

    async def start(self):
        """Start server in Docker container"""
        self.container = self.client.containers.run(
            image=self.image,
            command=self.get_args(),
            environment=self.get_env(),
            ports={'8888/tcp': None},
            detach=True,
            remove=self.remove,
            name=f'jupyter-{self.user.name}-{self.name}',
        )
        # What is known of the container is from before its start.
        self.container.reload()
        # Get container port mapping
        port_info = self.container.attrs['NetworkSettings']['Ports']['8888/tcp'][0]
        return (self.ip, int(port_info['HostPort']))

    async def stop(self, now=False):
        """Stop Docker container"""
        if self.container:
            self.container.stop()
            self.container = None

    async def poll(self):
        """Poll container status"""
        if not self.container:
            return 1
        try:
            self.container.reload()
        except docker.errors.NotFound:
            # It is removed as soon as it ends.
            return 1
        status = self.container.status
        if status == 'running':
            return None
        else:
            return 1

    def load_state(self, state):
        """Find the container again after a restart of the Hub"""
        super().load_state(state)
        try:
            self.container = self.client.containers.get(f'jupyter-{self.user.name}-{self.name}')
        except docker.errors.NotFound:
            self.container = None


# Register the spawner
c.JupyterHub.spawner_class = DockerSpawner
c.DockerSpawner.image = 'jupyter/scipy-notebook'

# Containers reach the Hub at this machine's address in Docker's own network.
c.JupyterHub.hub_ip = '172.17.0.1'
