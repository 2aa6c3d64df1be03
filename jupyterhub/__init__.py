"""A multi-user server for Jupyter. This module stays light: it is imported in every user's image."""

from __future__ import annotations

from ._version import __version__, version_info

__all__ = ["__version__", "version_info", "_jupyter_server_extension_points"]


def _jupyter_server_extension_points() -> list[dict[str, object]]:
    """Tell Jupyter Server where our extension is (plugins §1)."""
    from .singleuser.extension import JupyterHubSingleUser

    return [{"module": "jupyterhub", "app": JupyterHubSingleUser}]
