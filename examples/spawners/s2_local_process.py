"""S2: the default spawner. Each server is a process under its user's own account.

    jupyterhub -f examples/spawners/s2_local_process.py

Log in with the name of an account of this machine: with your own, or as root with anybody's. As root, accounts that
are missing are created.
"""

import os
import shutil

c = get_config()
load_subconfig("common.py", path=os.path.dirname(__file__) or ".")

c.JupyterHub.spawner_class = "localprocess"
c.LocalProcessSpawner.create_system_users = os.geteuid() == 0

# The command runs through a log-in shell, so that what people set in their profile counts. Such a shell sets PATH anew,
# which is why the command is named by its full path.
c.Spawner.cmd = [shutil.which("jupyterhub-singleuser") or "jupyterhub-singleuser"]
c.LocalProcessSpawner.shell_cmd = ["bash", "-l", "-c"]
