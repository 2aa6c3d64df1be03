"""Settings of the JupyterHub class by topic (LAYOUT §7).

Each module holds one mixin: `HasTraits`, but not `Configurable`, so that `c.JupyterHub.x` reaches the setting
and no new section appears in configuration files.
"""

from .database import DatabaseSettings
from .limits import LimitSettings
from .network import NetworkSettings
from .pages import PageSettings
from .people import PeopleSettings
from .security import SecuritySettings
from .services import ServiceSettings

__all__ = [
    "DatabaseSettings",
    "LimitSettings",
    "NetworkSettings",
    "PageSettings",
    "PeopleSettings",
    "SecuritySettings",
    "ServiceSettings",
]
