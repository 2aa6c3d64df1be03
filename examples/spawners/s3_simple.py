"""S3: all servers under one account, for development and single-user deployments.

    jupyterhub -f examples/spawners/s3_simple.py

Any user name will do.
"""

import os

c = get_config()
load_subconfig("common.py", path=os.path.dirname(__file__) or ".")

c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = "/tmp/jupyterhub-example-{username}"

if os.geteuid() == 0:
    c.Spawner.args = ["--allow-root"]
