"""A Hub for a Kubernetes cluster; each server is a pod, made by the package jupyterhub-kubespawner.

docs/how-to/kubernetes.md leads there from nothing.
"""

import os

c = get_config()

c.JupyterHub.spawner_class = "kubernetes"
c.KubeSpawner.namespace = "jupyterhub"
c.KubeSpawner.image = "registry.example.org/jupyterhub-lab:1"

# The proxy's port is the one that people use; pods reach the Hub by the name of its service.
c.JupyterHub.bind_url = "http://:8000"
c.JupyterHub.hub_ip = "0.0.0.0"
c.JupyterHub.hub_connect_ip = "hub"

# Database, cookie secret and the proxy's routes: what must outlive the Hub's own pod.
data = os.environ.get("HUB_DATA", "/srv/jupyterhub")
c.JupyterHub.db_url = f"sqlite:///{data}/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = f"{data}/cookie_secret"
# Servers go on while the Hub's pod is replaced.
c.JupyterHub.cleanup_servers = False

# What people keep lies in a volume for each server of each person, and outlives their pods.
work = "/home/jovyan/work"
c.KubeSpawner.notebook_dir = work
c.KubeSpawner.storage_pvc_ensure = True
c.KubeSpawner.storage_capacity = "10Gi"
c.KubeSpawner.pvc_name_template = "work-{user_server}"
c.KubeSpawner.volumes = [{"name": "work", "persistentVolumeClaim": {"claimName": "{pvc_name}"}}]
c.KubeSpawner.volume_mounts = [{"name": "work", "mountPath": work}]
# The account in the image, which may write there.
c.KubeSpawner.uid = 1000
c.KubeSpawner.fs_gid = 1000

# The cluster sees to it that nobody takes more.
c.KubeSpawner.mem_limit = "2G"
c.KubeSpawner.mem_guarantee = "512M"
c.KubeSpawner.cpu_limit = 1
c.KubeSpawner.cpu_guarantee = 0.1

# A server that ends for lack of memory ends its pod, which is looked at before it is deleted: its owner reads why. The
# default, OnFailure, starts the server again in the same pod, and nobody is told where their kernels have gone.
c.KubeSpawner.extra_pod_config = {"restartPolicy": "Never"}

c.JupyterHub.allow_named_servers = True

# For a first try: everybody who knows the password gets in, under any name. docs/reference/plugins.md has others.
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = os.environ["HUB_PASSWORD"]
c.Authenticator.allow_all = True
