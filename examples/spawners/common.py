"""What all spawner examples share: this machine only, a password made at the start, files below .run/.

EXAMPLE_URL, EXAMPLE_PASSWORD and EXAMPLE_DIR change the address, the password and the directory.
"""

import os
import secrets
import sys
from pathlib import Path

c = get_config()

here = Path(os.environ.get("EXAMPLE_DIR", ".run/spawner-examples")).absolute()
here.mkdir(mode=0o700, parents=True, exist_ok=True)

url = os.environ.get("EXAMPLE_URL", "http://127.0.0.1:8000")
password = os.environ.get("EXAMPLE_PASSWORD") or secrets.token_urlsafe(9)

c.JupyterHub.bind_url = url
c.JupyterHub.db_url = f"sqlite:///{here / 'jupyterhub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(here / "jupyterhub_cookie_secret")
c.ConfigurableHTTPProxy.pid_file = str(here / "jupyterhub-proxy.pid")
c.LocalProcessSpawner.runtime_dir = str(here / "run")

# Nobody is checked but for the password, which is why this listens on the loopback interface only.
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = password
c.Authenticator.allow_all = True

print(f"\n    {url}/    log in with the password   {password}\n", file=sys.stderr)
