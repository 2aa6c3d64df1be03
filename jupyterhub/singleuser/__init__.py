"""The server of one user: chooses between the extension of Jupyter Server and the older, wrapped application.

Nothing heavy is imported here before the choice is made (cli §2.1).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import SingleUserNotebookApp

__all__ = ["SingleUserNotebookApp", "main", "use_extension"]

#: Values of JUPYTERHUB_SINGLEUSER_APP that the extension can serve.
EXTENSION_APPS = frozenset(
    {"", "jupyter_server", "jupyter-server", "extension", "jupyter_server.serverapp.ServerApp"}
)


def _has_jupyter_server() -> bool:
    try:
        import jupyter_server
    except ImportError:
        return False
    return int(jupyter_server.__version__.split(".")[0]) >= 2


def use_extension(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether to run the extension; False is the wrapped application.

    Raises ValueError if the two variables contradict each other.
    """
    switch = environ.get("JUPYTERHUB_SINGLEUSER_EXTENSION", "")
    app = environ.get("JUPYTERHUB_SINGLEUSER_APP", "")
    if switch == "0":
        return False
    if switch or app == "extension":
        if app not in EXTENSION_APPS:
            raise ValueError(
                f"JUPYTERHUB_SINGLEUSER_APP={app} cannot be run by the extension: unset it, or set "
                "JUPYTERHUB_SINGLEUSER_EXTENSION=0"
            )
        return True
    if not app or "jupyter_server" in app or "jupyter-server" in app:
        return _has_jupyter_server()
    return False


def main(argv: list[str] | None = None) -> None:
    """Run the server that the environment asks for, until it is stopped."""
    try:
        extension = use_extension()
    except ValueError as error:
        sys.exit(str(error))
    module = "extension" if extension else "app"
    importlib.import_module(f"{__name__}.{module}").main(argv)


def __getattr__(name: str) -> Any:
    """Import the wrapped application only for those who ask for it."""
    if name == "SingleUserNotebookApp":
        from .app import SingleUserNotebookApp

        return SingleUserNotebookApp
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
