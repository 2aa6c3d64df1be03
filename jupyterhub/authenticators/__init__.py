"""Authenticators that are not among the classes of `jupyterhub.auth`."""
