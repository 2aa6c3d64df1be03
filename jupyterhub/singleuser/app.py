"""The wrapped application: which class it is, and how it is run (cli §2.1)."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import Any

from traitlets.utils.importstring import import_item

from .mixins import make_singleuser_app

__all__ = ["SingleUserNotebookApp", "find_app", "main"]  # noqa: F822

_SHORT_NAMES = {
    "jupyter-server": "jupyter_server.serverapp.ServerApp",
    "jupyter_server": "jupyter_server.serverapp.ServerApp",
    "extension": "jupyter_server.serverapp.ServerApp",
    "notebook": "notebook.notebookapp.NotebookApp",
}

_CLASSIC_ENDED = (
    "JUPYTERHUB_SINGLEUSER_APP=notebook is the classic notebook, which ended with version 6; version {} is "
    "installed. Unset the variable: Notebook 7 runs as an extension"
)


def find_app(name: str) -> Any:
    """Return the application class for a value of JUPYTERHUB_SINGLEUSER_APP.

    An empty name is Jupyter Server, or the classic notebook if that is all there is. Raises ImportError if
    it is not installed.
    """
    if not name:
        try:
            return import_item(_SHORT_NAMES["jupyter-server"])
        except ImportError:
            if importlib.util.find_spec("notebook") is None:
                raise
            name = "notebook"
    if name in {"notebook", "notebook.notebookapp.NotebookApp"}:
        notebook = importlib.import_module("notebook")
        if int(notebook.__version__.split(".")[0]) >= 7:
            raise ImportError(_CLASSIC_ENDED.format(notebook.__version__))
    return import_item(_SHORT_NAMES.get(name, name))


def _wrap(App: Any) -> Any:
    """Return the single-user class for an application, or for an extension of Jupyter Server such as
    LabApp.
    """
    if not hasattr(App, "get_extension_package"):
        return make_singleuser_app(App)
    package, url = App.get_extension_package(), App.extension_url
    base = make_singleuser_app(App.serverapp_class)

    class SingleUserExtensionServer(base):  # type: ignore[misc, valid-type]
        """A Jupyter Server that begins with the page of one extension."""

        def _default_url_default(self) -> str:
            return str(url)

        def find_server_extensions(self) -> None:
            """Find extensions, and switch that one on."""
            super().find_server_extensions()
            self.jpserver_extensions[package] = True

    return SingleUserExtensionServer


def _load() -> Any:
    base = _wrap(find_app(os.environ.get("JUPYTERHUB_SINGLEUSER_APP", "")))
    # The name is the section of configuration files.
    return type("SingleUserNotebookApp", (base,), {"__module__": __name__, "__doc__": base.__doc__})


def __getattr__(name: str) -> Any:
    """Make the class when it is first asked for, as the environment says at that time."""
    if name == "SingleUserNotebookApp":
        globals()[name] = _load()
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _labhub() -> Any:
    """Return JupyterLab's own single-user class, or None if there is no JupyterLab 3.1 or later."""
    try:
        version = importlib.import_module("jupyterlab").__version__
        major, minor = (int(part) for part in version.split(".")[:2])
        return (
            importlib.import_module("jupyterlab.labhubapp").SingleUserLabApp
            if (major, minor) >= (3, 1)
            else None
        )
    except (ImportError, ValueError):
        return None


def main(argv: list[str] | None = None) -> None:
    """Run the wrapped application until it is stopped. Status 1 if there is none."""
    name = os.environ.get("JUPYTERHUB_SINGLEUSER_APP", "")
    try:
        if name == "jupyverse":
            importlib.import_module("fps_auth_jupyterhub").launch()
            return
        app = (_labhub() if not name else None) or __getattr__("SingleUserNotebookApp")
    except (ImportError, TypeError) as error:
        if name:
            sys.exit(f"Cannot run JUPYTERHUB_SINGLEUSER_APP={name!r}: {error}")
        sys.exit(f'There is no Jupyter to run: {error}. Install it with: pip install "jupyterhub[singleuser]"')
    app.launch_instance(argv)
