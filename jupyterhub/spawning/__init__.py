"""What the classes of `jupyterhub.spawner` are made of."""
