"""A Hub to try out: one password for everybody, servers as plain processes of whoever runs this, loopback only."""

import os
from pathlib import Path

c = get_config()  # noqa: F821

here = Path(os.environ.get("QUICKSTART_DIR", ".run")).absolute()

c.JupyterHub.bind_url = os.environ.get("QUICKSTART_URL", "http://127.0.0.1:8000")
c.JupyterHub.hub_port = int(os.environ.get("QUICKSTART_HUB_PORT", "8081"))
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{os.environ.get('QUICKSTART_PROXY_API_PORT', '8001')}"
c.JupyterHub.db_url = f"sqlite:///{here / 'jupyterhub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(here / "jupyterhub_cookie_secret")
c.ConfigurableHTTPProxy.pid_file = str(here / "jupyterhub-proxy.pid")
c.JupyterHub.allow_named_servers = True

# Everybody who knows the password is let in, under any name. It is made by scripts/quickstart.py.
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = os.environ["QUICKSTART_PASSWORD"]
c.Authenticator.allow_all = True

c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = str(here / "home" / "{username}")
if hasattr(os, "geteuid") and os.geteuid() == 0:
    c.Spawner.args = ["--allow-root"]
