"""Settings of a Jupyter Server that runs for a Hub, for the extension and for the older way (cli §2.4,
§2.8).
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from jinja2 import ChoiceLoader, DictLoader, PrefixLoader
from traitlets.config import Config
from traitlets.utils.importstring import import_item

from .._version import INTERFACE_VERSION
from ..core.urls import url_path_join
from ..services.auth import HubOAuth
from .bindaddress import bind_address
from .handlers import guard_routes, hub_addresses, hub_auth_of, install_hooks
from .searchpath import HubSearchPaths, labextension_settings

__all__ = ["HubConfiguredServer", "add_page_template", "environment_config", "prepare_web_app"]

#: A link back to the Hub on the server's own pages, and a shorter address once a redirect has done its work.
PAGE_TEMPLATE = """\
{% extends "jupyterhub-original/page.html" %}
{% block logo %}<img src="{{ logo_url }}" alt="JupyterHub">{% endblock %}
{% block header_buttons %}
{{ super() }}
<a href="{{ hub_control_panel_url }}" id="jupyterhub-control-panel-link" class="pull-right btn btn-sm">
  Control Panel
</a>
{% endblock %}
{% block script %}
{{ super() }}
<script>
(() => {
  const address = new URL(window.location.href);
  if (address.searchParams.has("redirects")) {
    address.searchParams.delete("redirects");
    window.history.replaceState({}, "", address);
  }
})();
</script>
{% endblock %}
"""


def environment_config(*, disable_user_config: bool = False) -> Config:
    """Return the configuration that the Hub's environment asks for (cli §2.3, §2.4)."""
    env = os.environ
    server: dict[str, Any] = {
        "allow_remote_access": True,
        # A handler of an extension that forgets to ask who is there is closed, not open.
        "allow_unauthenticated_access": False,
        "open_browser": False,
        "trust_xheaders": True,
        "quit_button": False,
        "port_retries": 0,
        "answer_yes": True,
        "base_url": env.get("JUPYTERHUB_SERVICE_PREFIX") or "/",
    }
    if env.get("JUPYTER_SERVER_ALLOW_UNAUTHENTICATED_ACCESS"):
        del server["allow_unauthenticated_access"]
    if env.get("JUPYTERHUB_SERVICE_URL"):
        server["ip"], server["port"] = bind_address(env["JUPYTERHUB_SERVICE_URL"])
    if env.get("JUPYTERHUB_ROOT_DIR"):
        server["root_dir"] = os.path.expanduser(env["JUPYTERHUB_ROOT_DIR"])
    for trait, name in (("keyfile", "KEYFILE"), ("certfile", "CERTFILE"), ("client_ca", "CLIENT_CA")):
        if env.get(f"JUPYTERHUB_SSL_{name}"):
            server[trait] = env[f"JUPYTERHUB_SSL_{name}"]
    sections: dict[str, Any] = {
        "ServerApp": server,
        "FileContentsManager": {"delete_to_trash": False},
        # Kept out of the environment of kernels, where it would end up in people's notebooks.
        "IdentityProvider": {"token": ""},
    }
    if disable_user_config:
        sections.update(labextension_settings())
    return Config(sections)


class HubConfiguredServer(HubSearchPaths):
    """Mixin for a ServerApp that the Hub configures: above the files, below the command line."""

    def load_config_file(self, suppress_errors: bool = True) -> None:
        """Load the files, then add what the Hub asks for. The command line is applied after this once
        more.
        """
        super().load_config_file(suppress_errors)  # type: ignore[misc]
        server: Any = self
        config = environment_config(disable_user_config=self.disables_user_config)
        # Deployments may bring subclasses of ours, but nothing else: that would be a server without a lock.
        configured = server.config.get("ServerApp", {})
        for trait, ours in self.hub_classes().items():
            config.ServerApp[trait] = _subclass_or(configured.get(trait), ours)
        server.update_config(config)

    def hub_classes(self) -> dict[str, type]:
        """Return the classes that must be ours, by the trait that names them."""
        return {}


def _subclass_or(configured: Any, ours: type) -> type:
    """Return the configured class if it is a subclass of ours, else ours."""
    if isinstance(configured, str):
        try:
            configured = import_item(configured)
        except ImportError:
            return ours
    return configured if isinstance(configured, type) and issubclass(configured, ours) else ours


# -- the web application -------------------------------------------------------------------------------------


def _page_config(handler: Any, page_config: dict[str, Any]) -> dict[str, Any]:
    """Tell JupyterLab about the Hub and give it the visitor's token (cli §2.8, web §23)."""
    auth = hub_auth_of(handler)
    if auth is None:
        return page_config
    user = handler.current_user
    page_config.update(
        hubUser=getattr(user, "username", "") or "",
        hubServerUser=os.environ.get("JUPYTERHUB_USER", ""),
        hubServerName=os.environ.get("JUPYTERHUB_SERVER_NAME", ""),
        hubPrefix=auth.hub_prefix,
        hubHost=auth.hub_host,
        shareUrl=url_path_join(auth.hub_prefix, "user-redirect"),
        token=_token_of(handler, auth),
    )
    return page_config


def _token_of(handler: Any, auth: HubOAuth) -> str:
    if not getattr(handler, "current_user", None):
        return ""
    if getattr(handler, "_token_authenticated", False):
        return auth.get_token(handler, in_cookie=False) or ""
    return auth._cookie_token(handler)


def add_page_template(settings: dict[str, Any]) -> None:
    """Put our page template before those of Jupyter Server and of the classic pages."""
    for name in ("jinja2_env", "nbclassic_jinja2_env"):
        environment = settings.get(name)
        if environment is None or getattr(environment, "_hub_page", False):
            continue
        original = environment.loader
        environment.loader = ChoiceLoader(
            [
                DictLoader({"page.html": PAGE_TEMPLATE}),
                original,
                PrefixLoader({"jupyterhub-original": original}),
            ]
        )
        if environment.cache is not None:
            environment.cache.clear()
        environment._hub_page = True


def prepare_web_app(serverapp: Any, auth: HubOAuth) -> None:
    """Make an initialized server's web application one of the Hub. Its port is not open yet."""
    settings = serverapp.web_app.settings
    headers = {
        "Content-Security-Policy": "frame-ancestors 'none'",
        **settings.get("headers", {}),
        "X-JupyterHub-Version": INTERFACE_VERSION,
    }
    earlier_hook = settings.get("page_config_hook")

    def page_config_hook(handler: Any, page_config: dict[str, Any]) -> dict[str, Any]:
        if earlier_hook is not None:
            page_config = earlier_hook(handler, page_config)
        return _page_config(handler, page_config)

    settings.update(
        headers=headers,
        hub_auth=auth,
        hub_host=auth.hub_host,
        hub_prefix=auth.hub_prefix,
        user=os.environ.get("JUPYTERHUB_USER", ""),
        login_url=auth.login_url,
        page_config_hook=page_config_hook,
        jupyterhub_hub_addresses=hub_addresses(auth.api_url),
        xsrf_cookie_kwargs={**auth.cookie_options, "path": auth.base_url, "httponly": False},
    )
    settings.setdefault("jinja_template_vars", {}).update(
        logo_url=auth.hub_host + url_path_join(auth.hub_prefix, "logo"),
        hub_control_panel_url=auth.hub_host + url_path_join(auth.hub_prefix, "home"),
    )
    serverapp.tornado_settings.update(
        hub_host=auth.hub_host, hub_prefix=auth.hub_prefix, user=settings["user"]
    )
    add_page_template(settings)
    install_hooks()
    if not serverapp.allow_unauthenticated_access:
        guard_routes(serverapp.web_app)
    stop_without_question(serverapp)


def stop_without_question(serverapp: Any) -> None:
    """Make the interrupt signal end the server: there is nobody at a terminal to ask."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, serverapp._signal_stop)
