"""`python -m jupyterhub` starts the Hub."""

from .app import main

main()
