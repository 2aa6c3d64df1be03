"""Starting a server without what its user has configured (cli §2.11).

Search paths below the home directory are left out. The user's settings of JupyterLab stay where they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from traitlets import default

from ..services._identity import env_bool

__all__ = ["HubSearchPaths", "outside_home", "user_config_disabled"]


def user_config_disabled() -> bool:
    """Return whether the environment forbids configuration by the user."""
    return env_bool("JUPYTERHUB_DISABLE_USER_CONFIG", False)


def outside_home(paths: Iterable[str]) -> list[str]:
    """Return the paths that are not below the home directory, links followed."""
    home = Path("~").expanduser().resolve()
    kept = []
    for path in paths:
        real = Path(path).resolve()
        if real != home and home not in real.parents:
            kept.append(path)
    return kept


class HubSearchPaths:
    """Mixin for Jupyter applications that can leave out the user's own configuration."""

    @property
    def disables_user_config(self) -> bool:
        """Whether the user's own configuration is left out."""
        return user_config_disabled()

    @property
    def config_file_paths(self) -> list[str]:
        """Where configuration files are looked for."""
        paths: list[str] = super().config_file_paths  # type: ignore[misc]
        return outside_home(paths) if self.disables_user_config else paths

    @property
    def nbextensions_path(self) -> list[str]:
        """Where extensions of the classic notebook are looked for."""
        paths: list[str] = super().nbextensions_path  # type: ignore[misc]
        return outside_home(paths) if self.disables_user_config else paths

    @default("jupyter_path")
    def _jupyter_path_default(self) -> list[str]:
        from jupyter_core.paths import jupyter_path

        paths: list[str] = jupyter_path()
        return outside_home(paths) if self.disables_user_config else paths

    @default("config_dir")
    def _config_dir_default(self) -> str:
        from jupyter_core.paths import ENV_CONFIG_PATH, jupyter_config_dir

        directory: str = jupyter_config_dir()
        if (
            self.disables_user_config
            and not os.environ.get("JUPYTER_CONFIG_DIR")
            and not outside_home([directory])
        ):
            return str(ENV_CONFIG_PATH[0])
        return directory


def labextension_settings() -> dict[str, Any]:
    """Return configuration that keeps JupyterLab from loading extensions out of the home directory."""
    from jupyter_core.paths import jupyter_path

    paths = outside_home(jupyter_path("labextensions"))
    return {name: {"labextensions_path": paths} for name in ("LabApp", "LabServerApp")}
