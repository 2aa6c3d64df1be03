"""One typed view over the live Tornado settings (ARCHITECTURE: live settings).

The dictionary stays the only copy: third-party fixtures patch it while the Hub runs, and the next request must see
the change. Nothing here keeps a value.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..aio import BackgroundTasks
    from ..objects import Hub
    from ..proxy.base import Proxy
    from ..spawner import Spawner
    from ..store.database import Database
    from ..user import UserDict
    from .access import Access
    from .activity import ActivityBook
    from .bulletin import Bulletin
    from .directory import Directory
    from .leases import Leases
    from .logins import Logins
    from .reporting import Reporting
    from .routes import RouteKeeper
    from .servers import ServerManager
    from .tokens import Tokens


class HubContext:
    """What the runtime, the web layer and the pages ask of a running Hub.

    Built from the settings dictionary; `settings["context"]` is this object. Components (database, access,
    directory, …) are attributes set once by the composition root.
    """

    database: Database
    access: Access
    activity: ActivityBook
    background: BackgroundTasks
    bulletin: Bulletin
    directory: Directory
    leases: Leases
    logins: Logins
    reporting: Reporting
    routes: RouteKeeper
    servers: ServerManager
    service_keeper: Any
    tokens: Tokens

    def __init__(self, settings: MutableMapping[str, Any]) -> None:
        self.settings = settings

    def get(self, name: str, default: Any = None) -> Any:
        """Return a setting by its Tornado name, or the default."""
        return self.settings.get(name, default)

    @property
    def log(self) -> logging.Logger:
        log: logging.Logger = self.settings.get("log") or logging.getLogger("JupyterHub")
        return log

    @property
    def app(self) -> Any:
        return self.settings.get("app")

    @property
    def config(self) -> Any:
        return self.settings.get("config")

    @property
    def hub(self) -> Hub:
        hub: Hub = self.settings["hub"]
        return hub

    @property
    def proxy(self) -> Proxy:
        proxy: Proxy = self.settings["proxy"]
        return proxy

    @property
    def authenticator(self) -> Any:
        return self.settings["authenticator"]

    @property
    def spawner_class(self) -> type[Spawner]:
        spawner_class: type[Spawner] = self.settings["spawner_class"]
        return spawner_class

    @property
    def users(self) -> UserDict:
        users: UserDict = self.settings["users"]
        return users

    @property
    def services(self) -> MutableMapping[str, Any]:
        services: MutableMapping[str, Any] = self.settings.get("services") or {}
        return services

    @property
    def base_url(self) -> str:
        """URL prefix of the whole deployment, with slashes on both ends."""
        return str(self.settings.get("base_url", "/"))

    @property
    def hub_prefix(self) -> str:
        """URL prefix of the Hub's own pages, with slashes on both ends."""
        return str(self.settings.get("hub_prefix") or self.hub.base_url)

    @property
    def login_url(self) -> str:
        return str(self.settings.get("login_url", ""))

    @property
    def logout_url(self) -> str:
        return str(self.settings.get("logout_url", ""))

    @property
    def default_url(self) -> str | Callable[[Any], str]:
        value: str | Callable[[Any], str] = self.settings.get("default_url", "")
        return value

    @property
    def cookie_secret(self) -> bytes:
        secret: bytes = self.settings["cookie_secret"]
        return secret

    @property
    def cookie_max_age(self) -> timedelta:
        return timedelta(days=float(self.settings.get("cookie_max_age_days", 14)))

    @property
    def cookie_max_age_days(self) -> float:
        return float(self.settings.get("cookie_max_age_days", 14))

    @property
    def cookie_options(self) -> dict[str, Any]:
        return dict(self.settings.get("cookie_options") or {})

    @property
    def cookie_host_prefix_enabled(self) -> bool:
        return bool(self.settings.get("cookie_host_prefix_enabled", False))

    @property
    def subdomain_host(self) -> str:
        return str(self.settings.get("subdomain_host", ""))

    @property
    def domain(self) -> str:
        return str(self.settings.get("domain", ""))

    @property
    def subdomain_hook(self) -> Any:
        return self.settings.get("subdomain_hook")

    @property
    def public_url(self) -> Any:
        """Parsed public URL of the deployment, or an empty text."""
        return self.settings.get("public_url", "")

    @property
    def allow_named_servers(self) -> bool:
        return bool(self.settings.get("allow_named_servers", False))

    @property
    def named_server_limit_per_user(self) -> Any:
        return self.settings.get("named_server_limit_per_user", 0)

    @property
    def default_server_name(self) -> str:
        return str(self.settings.get("default_server_name", ""))

    @property
    def concurrent_spawn_limit(self) -> int:
        return int(self.settings.get("concurrent_spawn_limit", 100) or 0)

    @property
    def active_server_limit(self) -> int:
        return int(self.settings.get("active_server_limit", 0) or 0)

    @property
    def spawn_throttle_retry_range(self) -> tuple[int, int]:
        """Seconds, shortest and longest, that a refused caller is told to wait."""
        low, high = self.settings.get("spawn_throttle_retry_range", (30, 60))
        return int(low), int(high)

    @property
    def slow_spawn_timeout(self) -> float:
        return float(self.settings.get("slow_spawn_timeout", 10))

    @property
    def slow_stop_timeout(self) -> float:
        return float(self.settings.get("slow_stop_timeout", 10))

    @property
    def implicit_spawn_seconds(self) -> float:
        return float(self.settings.get("implicit_spawn_seconds", 0))

    @property
    def redirect_to_server(self) -> bool:
        return bool(self.settings.get("redirect_to_server", True))

    @property
    def admin_access(self) -> bool:
        return bool(self.settings.get("admin_access", False))

    @property
    def shutdown_on_logout(self) -> bool:
        return bool(self.settings.get("shutdown_on_logout", False))

    @property
    def template_vars(self) -> dict[str, Any]:
        return dict(self.settings.get("template_vars") or {})

    @property
    def jinja2_env(self) -> Any:
        return self.settings.get("jinja2_env")

    @property
    def jinja2_env_sync(self) -> Any:
        return self.settings.get("jinja2_env_sync")

    @property
    def version_hash(self) -> str:
        return str(self.settings.get("version_hash", ""))

    @property
    def activity_resolution(self) -> float:
        """Seconds between two written activity times of the same user."""
        return float(self.settings.get("activity_resolution", 30))

    @property
    def oauth_provider(self) -> Any:
        return self.settings.get("oauth_provider")

    @property
    def oauth_no_confirm_list(self) -> Any:
        return self.settings.get("oauth_no_confirm_list") or ()

    @property
    def user_redirect_hook(self) -> Any:
        return self.settings.get("user_redirect_hook")

    @property
    def eventlog(self) -> Any:
        return self.settings.get("eventlog")

    @property
    def internal_ssl(self) -> bool:
        return bool(self.settings.get("internal_ssl", False))

    @property
    def trusted_alt_names(self) -> list[str]:
        return list(self.settings.get("trusted_alt_names") or [])

    @property
    def shutting_down(self) -> bool:
        """Whether the Hub no longer accepts starts because it is on its way out."""
        return bool(self.settings.get("shutting_down", False))
