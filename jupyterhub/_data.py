"""Where templates and static files are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["DATA_FILES_PATH", "get_data_files"]


def get_data_files() -> str:
    """The folder that holds `templates/` and `static/`: beside the source, else where the wheel put it.

    When there is none (a user's image without the Hub's data), the place where it belongs.
    """
    package = Path(__file__).resolve().parent
    candidates = [package.parent / "share" / "jupyterhub"]
    # A --user or --target installation puts data beside its own lib folder, not below sys.prefix.
    candidates += [parent / "share" / "jupyterhub" for parent in package.parents[1:5]]
    candidates.append(Path(sys.prefix) / "share" / "jupyterhub")
    for candidate in candidates:
        if (candidate / "templates").is_dir():
            return os.fspath(candidate)
    return os.path.join(sys.prefix, "share", "jupyterhub")


DATA_FILES_PATH = get_data_files()
