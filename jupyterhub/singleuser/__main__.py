"""`python -m jupyterhub.singleuser`: the same as the command jupyterhub-singleuser."""

from __future__ import annotations

from . import main

if __name__ == "__main__":
    main()
