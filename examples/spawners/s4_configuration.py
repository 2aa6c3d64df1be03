"""S4: the settings that most deployments begin with.

    jupyterhub -f examples/spawners/s4_configuration.py

Log in with the name of an account of this machine, whose home is below /home: with your own, or as root with
anybody's. The directory `notebooks` has to be there; a server does not make the one it opens.
"""

import os

# jupyterhub_config.py
c = get_config()
load_subconfig("common.py", path=os.path.dirname(__file__) or ".")

# Use local process spawner (default)
c.JupyterHub.spawner_class = 'localprocess'

# Configure spawner settings
c.Spawner.start_timeout = 60
c.Spawner.http_timeout = 30

# Set notebook directory
c.Spawner.notebook_dir = '/home/{username}/notebooks'

# Configure environment variables
c.Spawner.environment = {
    'JUPYTER_ENABLE_LAB': 'yes',
    'JUPYTERHUB_SINGLEUSER_APP': 'jupyter_server.serverapp.ServerApp',
}
