"""Processes of managed services that outlived a Hub which was killed.

Nothing is written down for this: a service carries its name and the address of its Hub in its environment, and leads a
session of its own. Two copies of a service would work against each other, or the second could not have its port.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

#: Seconds a leftover has to end by itself before it is killed.
PATIENCE = 5.0


def end_leftovers(names: Collection[str], api_url: str) -> list[str]:
    """End what still runs for these services of the Hub at this address; blocks.

    Returns a text for each process that was ended.
    """
    import psutil

    found = [(process, name) for process in psutil.process_iter() if (name := _service_of(process, names, api_url))]
    for process, _ in found:
        _try(process.terminate)
    _, stubborn = psutil.wait_procs([process for process, _ in found], timeout=PATIENCE)
    for process in stubborn:
        _try(process.kill)
    return [f"{name}, process {process.pid}" for process, name in found]


def _service_of(process: Any, names: Collection[str], api_url: str) -> str:
    """Return which of the services the process is, or an empty text."""
    import psutil

    try:
        # Programs that a service has started end with it, or are none of our business.
        if process.pid == os.getpid() or os.getsid(process.pid) != process.pid:
            return ""
        environment = process.environ()
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
    except (psutil.Error, OSError):
        return ""
    name = str(environment.get("JUPYTERHUB_SERVICE_NAME", ""))
    return name if name in names and environment.get("JUPYTERHUB_API_URL") == api_url else ""


def _try(action: Any) -> None:
    import psutil

    try:
        action()
    except psutil.Error:
        # It has ended in between, or belongs to somebody else.
        return
