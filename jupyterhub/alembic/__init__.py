"""Migrations. Run through `jupyterhub.dbutil`; the revision numbers are those of JupyterHub (database §8)."""
