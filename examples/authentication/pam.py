"""Log in with the accounts of this machine; each server runs under its owner's account.

    sudo jupyterhub -f examples/authentication/pam.py
"""

c = get_config()

c.JupyterHub.authenticator_class = "pam"
# The rules for passwords and accounts: a file in /etc/pam.d.
c.PAMAuthenticator.service = "login"
# Whoever is in one of these groups may log in, and these administer the Hub.
c.PAMAuthenticator.allowed_groups = {"users"}
c.PAMAuthenticator.admin_groups = {"sudo"}

c.JupyterHub.spawner_class = "localprocess"
c.Spawner.notebook_dir = "~"
c.Spawner.default_url = "/lab"
