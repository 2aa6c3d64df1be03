"""A Hub in a Docker Swarm; each server is a service on a node with room for it, made by the package dockerspawner.

docs/how-to/docker-swarm.md leads there from nothing; stack.yml, beside this file, runs the Hub itself.
"""

import asyncio
import os

c = get_config()

# People come to the proxy at port 8000. Servers reach the Hub by its name in the network that they share.
c.JupyterHub.bind_url = "http://:8000"
c.JupyterHub.hub_ip = "0.0.0.0"
c.JupyterHub.hub_connect_ip = "hub"
# A Hub that is replaced by another, of a newer version perhaps, finds the servers running.
c.JupyterHub.cleanup_servers = False

c.JupyterHub.spawner_class = "swarm"
c.SwarmSpawner.image = os.environ["SERVER_IMAGE"]
c.SwarmSpawner.network_name = "jupyterhub"
# Its name leads to a server itself. A virtual address in between would drop a connection that is silent for long.
c.SwarmSpawner.extra_endpoint_spec = {"mode": "dnsrr"}
# A server that ends, as its owner shut it down perhaps, stays ended.
c.SwarmSpawner.extra_task_spec = {"restart_policy": {"Condition": "none"}}

# Servers run on the workers. Each is sure of the memory that is set aside for it, and cannot take more than the limit.
c.SwarmSpawner.extra_placement_spec = {"constraints": ["node.role == worker"]}
c.SwarmSpawner.mem_guarantee = "256M"
c.SwarmSpawner.mem_limit = "2G"
c.SwarmSpawner.cpu_limit = 1

# What people keep lies in a directory that all nodes share. All else goes with the service, at the end of each server.
homes = os.environ["HOMES"]
work = "/home/jovyan/work"
c.SwarmSpawner.notebook_dir = work
c.SwarmSpawner.volumes = {f"{homes}/{{username}}": work}


async def prepare(spawner):
    home = os.path.join(homes, spawner.escaped_name)
    os.makedirs(home, exist_ok=True)
    os.chown(home, 1000, 1000)
    # A server that was stopped a moment ago still has the name, until it has ended: ten seconds at most.
    for _ in range(20):
        tasks = await spawner.docker("tasks", filters={"name": f"{spawner.service_name}.1"})
        if not any(task["DesiredState"] == "remove" and task["Status"]["State"] == "running" for task in tasks):
            break
        await asyncio.sleep(0.5)


c.SwarmSpawner.pre_spawn_hook = prepare

# To begin with: any name, and one password. The Hub's container has no accounts of its own.
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = os.environ["HUB_PASSWORD"]
c.Authenticator.allow_all = True
