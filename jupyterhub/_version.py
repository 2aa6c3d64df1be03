"""The version of this package, and whether a Hub and a single-user server fit together."""

from __future__ import annotations

import logging
import re

__version__ = "7.0.0"

#: The release of JupyterHub whose interface we implement. It is what the `X-JupyterHub-Version` header and
#: `GET /hub/api/` announce: a single-user server of JupyterHub 6 warns at every start about any other major number.
INTERFACE_VERSION = "6.1.1"

#: The interface's version as three numbers, then two texts that are empty for a final release (plugins §1). Plugins
#: ask it what they may expect, and make the tags of container images from it; there are none for ours.
version_info = (*map(int, INTERFACE_VERSION.split(".")), "", "")

_COMPATIBLE_MAJORS = frozenset({6, 7})


def _release(version: str) -> tuple[int, int] | None:
    """Return (major, minor) of a version text, or None if it does not begin with numbers."""
    match = re.match(r"\s*v?(\d+)(?:\.(\d+))?", version)
    if match is None:
        return None
    return int(match[1]), int(match[2] or 0)


def _check_version(hub_version: str | None, singleuser_version: str | None, log: logging.Logger) -> None:
    """Log how well a Hub and a single-user server fit together.

    Both arguments are version texts, or empty when the other side did not say (plugins §1).
    """
    if not hub_version:
        log.warning("The Hub did not say its version; it is older than 0.8 and will probably not work with %s.",
                    singleuser_version)
        return
    if not singleuser_version:
        log.warning("The single-user server did not say its version; it is older than 0.8 and will probably not "
                    "work with Hub %s.", hub_version)
        return
    if hub_version == singleuser_version:
        log.debug("Hub and single-user server are both version %s", hub_version)
        return
    hub, singleuser = _release(hub_version), _release(singleuser_version)
    if hub is None or singleuser is None:
        log.warning("Cannot compare versions: Hub says %r, single-user server says %r", hub_version, singleuser_version)
        return
    same = hub[0] == singleuser[0] or {hub[0], singleuser[0]} <= _COMPATIBLE_MAJORS
    level = logging.DEBUG if same else logging.WARNING
    log.log(level, "Hub version %s, single-user server version %s%s", hub_version, singleuser_version,
            "" if same else ": update the older of the two, log-in may fail or loop")
