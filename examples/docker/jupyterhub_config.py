"""A Hub on one machine; each server is a Docker container, made by the package dockerspawner.

docs/how-to/docker.md leads there from nothing.
"""

c = get_config()

c.JupyterHub.spawner_class = "docker"
c.DockerSpawner.image = "jupyterhub-lab"

# Containers reach the Hub at this machine's address in Docker's own network; nobody else does.
c.JupyterHub.hub_ip = "172.17.0.1"

# What people keep lies in a volume for each of them. All else goes with the container, at the end of each server.
work = "/home/jovyan/work"
c.DockerSpawner.notebook_dir = work
c.DockerSpawner.volumes = {"jupyterhub-user-{username}": work}
c.DockerSpawner.remove = True
# A server that ends by itself leaves its container until the next start, so that its owner can be told why it ended.
c.DockerSpawner.extra_host_config = {"auto_remove": False}

# Docker sees to it that nobody takes more.
c.DockerSpawner.mem_limit = "2G"
c.DockerSpawner.cpu_limit = 1

# Names and passwords are those of the accounts of this machine.
c.Authenticator.allow_all = True
