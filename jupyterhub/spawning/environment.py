"""The variables that a server is given (config §9.7), and the texts with placeholders (config §9.8)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..core.urls import fmt_ip_url, url_escape_path, url_path_join
from . import certificates
from .hooks import accepts_positional

if TYPE_CHECKING:
    from ..spawner import Spawner

__all__ = ["build", "hub_api_url", "kept", "service_url"]


def build(spawner: Spawner) -> dict[str, Any]:
    """All variables of a server; later ones win, `Spawner.environment` last.

    Values are texts, except for dictionaries and lists in `environment`, which stay: KubeSpawner makes references to
    secrets and fields of a pod from them.
    """
    env: dict[str, Any] = {}
    env.update(_old_env(spawner))
    env.update(kept(spawner.env_keep))
    env.update(_hub_variables(spawner))
    env.update(_resource_variables(spawner))
    if spawner.cert_paths:
        env.update(certificates.variables(spawner.cert_paths))
    if spawner.notebook_dir:
        env["JUPYTERHUB_ROOT_DIR"] = spawner.format_string(spawner.notebook_dir)
    if spawner.default_url:
        env["JUPYTERHUB_DEFAULT_URL"] = spawner.format_string(spawner.default_url)
    if spawner.debug:
        env["JUPYTERHUB_DEBUG"] = "1"
    if spawner.disable_user_config:
        env["JUPYTERHUB_DISABLE_USER_CONFIG"] = "1"
    for name, value in spawner.environment.items():
        env[name] = value(spawner) if callable(value) else value
    # A variable without value is one that the administrator takes away.
    return {
        name: value if isinstance(value, (Mapping, list)) else str(value)
        for name, value in env.items()
        if value is not None
    }


def kept(names: Iterable[str], environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Those of the Hub's own variables that are passed on."""
    return {name: environment[name] for name in names if name in environment}


def _old_env(spawner: Spawner) -> Mapping[str, str]:
    env: Mapping[str, str] = spawner.env
    if env:
        spawner.log.warning("%s.env is deprecated; use environment", type(spawner).__name__)
    return env


def hub_api_url(spawner: Spawner) -> str:
    """The Hub's API as this server reaches it (config §4.2)."""
    url: str = spawner.hub.api_url
    if spawner.hub_connect_url:
        return url_path_join(spawner.hub_connect_url, urlsplit(url).path)
    return url


def service_url(spawner: Spawner) -> str:
    """Where the server has to listen: scheme, `ip` and `port` as they are now, and the path of its address."""
    server = spawner._address
    proto = "https" if spawner.internal_ssl else "http"
    base_url = server.base_url if server is not None else "/"
    return f"{proto}://{fmt_ip_url(spawner.ip)}:{spawner.port}{base_url}"


def _hub_variables(spawner: Spawner) -> dict[str, Any]:
    user, hub = spawner.user, spawner.hub
    api_url = hub_api_url(spawner)
    env: dict[str, Any] = {
        "JUPYTERHUB_API_TOKEN": spawner.api_token,
        "JPY_API_TOKEN": spawner.api_token,
    }
    if spawner.admin_access:
        env["JUPYTERHUB_ADMIN_ACCESS"] = "1"
    env["JUPYTERHUB_CLIENT_ID"] = spawner.oauth_client_id
    if spawner.cookie_options:
        env["JUPYTERHUB_COOKIE_OPTIONS"] = json.dumps(spawner.cookie_options)
    env["JUPYTERHUB_COOKIE_HOST_PREFIX_ENABLED"] = "1" if spawner.cookie_host_prefix_enabled else "0"
    env["JUPYTERHUB_HOST"] = hub.public_host
    env["JUPYTERHUB_OAUTH_CALLBACK_URL"] = url_path_join(user.url, url_escape_path(spawner.name), "oauth_callback")
    access = json.dumps(list(spawner.oauth_access_scopes))
    env["JUPYTERHUB_OAUTH_SCOPES"] = env["JUPYTERHUB_OAUTH_ACCESS_SCOPES"] = access
    env["JUPYTERHUB_OAUTH_CLIENT_ALLOWED_SCOPES"] = json.dumps(_client_scopes(spawner))
    env["JUPYTERHUB_USER"] = user.name
    env["JUPYTERHUB_SERVER_NAME"] = spawner.name
    env["JUPYTERHUB_API_URL"] = api_url
    env["JUPYTERHUB_ACTIVITY_URL"] = url_path_join(api_url, "users", url_escape_path(user.name), "activity")
    base_url = hub.base_url
    # The Hub's own prefix is always "hub/" below that of the deployment.
    env["JUPYTERHUB_BASE_URL"] = base_url.removesuffix("hub/")
    if spawner._address is not None:
        env["JUPYTERHUB_SERVICE_PREFIX"] = spawner._address.base_url
    env["JUPYTERHUB_SERVICE_URL"] = service_url(spawner)
    env["JUPYTERHUB_PUBLIC_URL"] = spawner.public_url
    env["JUPYTERHUB_PUBLIC_HUB_URL"] = spawner.public_hub_url
    return env


def _client_scopes(spawner: Spawner) -> list[str]:
    """What the server may ask of its visitors; the Hub has called a function before the start, if it is one."""
    scopes: Any = spawner.oauth_client_allowed_scopes
    if callable(scopes):
        scopes = spawner._resolved_client_scopes
    return list(scopes or [])


def _resource_variables(spawner: Spawner) -> dict[str, str]:
    env: dict[str, str] = {}
    for setting in ("mem_limit", "mem_guarantee", "cpu_limit", "cpu_guarantee"):
        # Subclasses declare these with kinds of their own, functions of the spawner among them.
        value = getattr(spawner, setting, None)
        if callable(value):
            value = value(spawner) if accepts_positional(value, 1) else value()
        if value:
            env[setting.upper()] = str(value)
    return env
