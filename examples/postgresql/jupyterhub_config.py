"""A Hub that keeps what it knows in PostgreSQL.

docs/how-to/postgresql.md leads there from nothing.
"""

c = get_config()

# The password is not here: PostgreSQL's own library takes it from the file that PGPASSFILE names, or from ~/.pgpass.
c.JupyterHub.db_url = "postgresql://jupyterhub@127.0.0.1/jupyterhub"

# A Hub that ends leaves the servers and the proxy running; the next one finds them in the database.
c.JupyterHub.cleanup_servers = False
c.JupyterHub.cleanup_proxy = False

# Names and passwords are those of the accounts of this machine.
c.Authenticator.allow_all = True
