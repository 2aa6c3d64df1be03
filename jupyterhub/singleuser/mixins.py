"""The older way to run a server for a Hub: a class made from an application class (cli §2, plugins §12.3).

`make_singleuser_app(App)` mixes log-in at the Hub into a Jupyter Server application, or into the classic
notebook before its version 7. With Jupyter Server it is the same protection as the extension's.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Iterable
from typing import Any

from tornado import web
from traitlets import Bool, Bytes, CUnicode, Dict, Integer, Unicode, default
from traitlets.config import Config, Configurable

from .._version import INTERFACE_VERSION, __version__
from ..core.urls import url_path_join
from ..services._hubclient import run_blocking
from ..services._identity import UserModel, env_bool
from ..services.auth import HubOAuth, HubOAuthCallbackHandler, HubOAuthenticated
from .hublink import HubLink, HubNotFound
from .searchpath import HubSearchPaths

__all__ = ["HubAuthenticatedHandler", "SingleUserNotebookAppMixin", "make_singleuser_app"]


class HubAuthenticatedHandler(HubOAuthenticated):
    """Log-in at the Hub for the handlers of one user's server: that user's, if no scopes say more."""

    @property
    def hub_users(self) -> Iterable[str]:  # type: ignore[override]
        """The owner of the server."""
        return {name for name in [self._setting("user")] if name}

    @property
    def hub_groups(self) -> Iterable[str]:  # type: ignore[override]
        """A group that shares the server."""
        return {name for name in [self._setting("group")] if name}

    @property
    def allow_admin(self) -> bool:  # type: ignore[override]
        """Whether administrators may use the server."""
        return env_bool("JUPYTERHUB_ADMIN_ACCESS", False)

    def _setting(self, name: str) -> str:
        settings: dict[str, Any] = self.settings  # type: ignore[attr-defined]
        return str(settings.get(name) or "")


class SingleUserNotebookAppMixin(HubSearchPaths, Configurable):
    """What the wrapped application has beyond its own settings."""

    version = __version__
    examples = ""

    user = CUnicode(help="The name of the server's owner.").tag(config=True)
    group = CUnicode(help="A group whose members may use the server, where the Hub gives no scopes.").tag(
        config=True
    )
    hub_prefix = Unicode(help="The path of the Hub's pages.").tag(config=True)
    hub_host = Unicode(help="Scheme and host of the Hub's pages, if they are not on this host.").tag(
        config=True
    )
    hub_api_url = Unicode(help="Where to reach the Hub's API.").tag(config=True)
    hub_activity_url = Unicode(help="Where to report activity to; empty switches the reports off.").tag(
        config=True
    )
    hub_activity_interval = Integer(
        300, help="Seconds between two reports of activity, give or take a tenth; 0 switches them off."
    ).tag(config=True)
    disable_user_config = Bool(False, help="Leave out what the user has configured.").tag(config=True)
    cookie_secret = Bytes()
    server_name = CUnicode()

    link: HubLink | None = None

    @default("user")
    def _default_user(self) -> str:
        return os.environ.get("JUPYTERHUB_USER", "")

    @default("group")
    def _default_group(self) -> str:
        return os.environ.get("JUPYTERHUB_GROUP", "")

    @default("hub_prefix")
    def _default_hub_prefix(self) -> str:
        return url_path_join(os.environ.get("JUPYTERHUB_BASE_URL") or "/", "hub/")

    @default("hub_api_url")
    def _default_hub_api_url(self) -> str:
        return os.environ.get("JUPYTERHUB_API_URL") or "http://127.0.0.1:8081/hub/api"

    @default("hub_activity_url")
    def _default_hub_activity_url(self) -> str:
        return os.environ.get("JUPYTERHUB_ACTIVITY_URL", "")

    @default("hub_activity_interval")
    def _default_hub_activity_interval(self) -> int:
        return int(os.environ.get("JUPYTERHUB_ACTIVITY_INTERVAL") or 300)

    @default("disable_user_config")
    def _default_disable_user_config(self) -> bool:
        return env_bool("JUPYTERHUB_DISABLE_USER_CONFIG", False)

    @default("server_name")
    def _default_server_name(self) -> str:
        return os.environ.get("JUPYTERHUB_SERVER_NAME", "")

    @default("cookie_secret")
    def _default_cookie_secret(self) -> bytes:
        # Cookies of an earlier start hold tokens that are dead anyway.
        return secrets.token_bytes(32)

    @default("log_level")
    def _default_log_level(self) -> int:
        return logging.DEBUG if env_bool("JUPYTERHUB_DEBUG", False) else logging.INFO

    @property
    def disables_user_config(self) -> bool:
        """Whether the user's own configuration is left out."""
        return bool(self.disable_user_config)

    @property
    def hub_auth(self) -> HubOAuth:
        """What asks the Hub. Ends the process where the environment names no application of a Hub."""
        if not HubOAuth.initialized():
            token = os.environ.get("JUPYTERHUB_API_TOKEN") or os.environ.get("JPY_API_TOKEN")
            client_id = os.environ.get("JUPYTERHUB_CLIENT_ID")
            if not token or not client_id:
                missing = "JUPYTERHUB_CLIENT_ID" if token else "JUPYTERHUB_API_TOKEN"
                sys.exit(f"{missing} is not set: jupyterhub-singleuser is started by a JupyterHub")
            server: Any = self
            more = {"hub_host": self.hub_host} if self.hub_host else {}
            HubOAuth.instance(
                parent=self,
                oauth_client_id=client_id,
                base_url=server.base_url,
                api_url=self.hub_api_url,
                api_token=token,
                hub_prefix=self.hub_prefix,
                **more,
            )
            self.hub_host = HubOAuth.instance().hub_host
        auth: HubOAuth = HubOAuth.instance()
        return auth

    def init_configurables(self) -> None:
        """Build the parts of the server; what asks the Hub comes first, as others find it by its class."""
        self.hub_auth  # noqa: B018
        super().init_configurables()  # type: ignore[misc]

    def join_hub(self) -> None:
        """Check the Hub's version and prepare the reports of activity. Ends the process if there is no
        Hub.
        """
        server: Any = self
        self.link = HubLink(
            self.hub_auth,
            server.log,
            server_name=self.server_name,
            activity_url=self.hub_activity_url,
            interval=self.hub_activity_interval,
            last_activity=server.web_app.last_activity,
        )
        try:
            run_blocking(self.link.check_version())
        except HubNotFound as error:
            sys.exit(str(error))

    def start(self) -> None:
        """Run the server until it is stopped, and report activity meanwhile."""
        server: Any = self
        if self.link is not None:
            from tornado.ioloop import IOLoop

            (getattr(server, "io_loop", None) or IOLoop.current()).add_callback(self.link.start)
        super().start()  # type: ignore[misc]


ALIASES = {
    "user": "SingleUserNotebookAppMixin.user",
    "group": "SingleUserNotebookAppMixin.group",
    "hub-prefix": "SingleUserNotebookAppMixin.hub_prefix",
    "hub-host": "SingleUserNotebookAppMixin.hub_host",
    "hub-api-url": "SingleUserNotebookAppMixin.hub_api_url",
}
FLAGS = {
    "disable-user-config": (
        {"SingleUserNotebookAppMixin": {"disable_user_config": True}},
        "Leave out what the user has configured.",
    )
}


def _class_dict(value: Any) -> dict[str, Any]:
    """Return a class's aliases or flags, which some declare as a trait."""
    if isinstance(value, Dict):
        value = (value.default_args or ({},))[0]
    return dict(value)


def _is_jupyter_server(app: type) -> bool:
    return any(cls.__module__.partition(".")[0] == "jupyter_server" for cls in app.__mro__)


def make_singleuser_app(App: Any) -> Any:
    """Return a class that is `App` with log-in at the Hub; `launch_instance()` runs it.

    `App` is a subclass of Jupyter Server's ServerApp or of the classic NotebookApp. TypeError for a class
    that has no log-in which could be replaced.
    """
    traits = App.class_traits() if hasattr(App, "class_traits") else {}
    if "login_handler_class" not in traits or "logout_handler_class" not in traits:
        raise TypeError(
            f"{App.__name__} cannot serve one user of a Hub: it has no log-in and log-out to replace"
        )
    mixin = _server_mixin() if _is_jupyter_server(App) else _classic_mixin(App)
    section = "ServerApp" if _is_jupyter_server(App) else "NotebookApp"
    names = {
        "__module__": __name__,
        "__doc__": f"{App.__name__} for one user of a JupyterHub.",
        "name": App.name,
        "description": f"{App.__name__} for one user of a JupyterHub, which starts it.",
        "aliases": {**_class_dict(App.aliases), **ALIASES, "base-url": f"{section}.base_url"},
        "flags": {**_class_dict(App.flags), **FLAGS},
    }
    return type(f"SingleUser{App.__name__}", (mixin, App), names)


# -- Jupyter Server ------------------------------------------------------------------------------------------


def _server_mixin() -> type:
    """Make the mixin for Jupyter Server, which is imported only here."""
    from .extension import JupyterHubAuthorizer, JupyterHubIdentityProvider
    from .handlers import JupyterHubStatusHandler
    from .serversetup import HubConfiguredServer, add_page_template, prepare_web_app

    class SingleUserServerMixin(SingleUserNotebookAppMixin, HubConfiguredServer):
        """Jupyter Server with the identity provider of the extension."""

        def hub_classes(self) -> dict[str, type]:
            """Return the classes that protect the server."""
            return {
                "identity_provider_class": JupyterHubIdentityProvider,
                "authorizer_class": JupyterHubAuthorizer,
            }

        def load_config_file(self, suppress_errors: bool = True) -> None:
            """Load the configuration; the Hub's first page is above that of any file."""
            super().load_config_file(suppress_errors)
            if os.environ.get("JUPYTERHUB_DEFAULT_URL"):
                url = os.environ["JUPYTERHUB_DEFAULT_URL"]
                self.update_config(Config({"ServerApp": {"default_url": url}}))

        def init_webapp(self) -> None:
            """Make the web application one of the Hub, before any extension is loaded."""
            super().init_webapp()  # type: ignore[misc]
            server: Any = self
            provider = server.identity_provider
            if not isinstance(provider, JupyterHubIdentityProvider):
                sys.exit(f"ServerApp.identity_provider_class is {type(provider).__name__}, not the Hub's")
            provider.legacy_names = frozenset(name for name in [self.user] if name)
            provider.legacy_groups = frozenset(name for name in [self.group] if name)
            provider.legacy_admin = env_bool("JUPYTERHUB_ADMIN_ACCESS", False)
            prepare_web_app(self, self.hub_auth)
            status = url_path_join(server.base_url, "api/status")
            server.web_app.add_handlers(".*$", [(status, JupyterHubStatusHandler)])
            self.join_hub()

        def start(self) -> None:
            """Run the server until it is stopped."""
            server: Any = self
            add_page_template(server.web_app.settings)
            super().start()

        async def _cleanup(self) -> None:
            if self.link is not None:
                await self.link.stop()
            await super()._cleanup()  # type: ignore[misc]

    return SingleUserServerMixin


# -- the classic notebook ------------------------------------------------------------------------------------


def _classic_mixin(App: Any) -> type:
    """Make the mixin for the classic notebook, whose handlers ask their log-in handler who a visitor is."""
    login_handler = App.class_traits()["login_handler_class"].default_value
    logout_handler = App.class_traits()["logout_handler_class"].default_value
    _protect_classic_handlers(login_handler.__mro__[1])

    class HubLoginHandler(login_handler):  # type: ignore[misc, valid-type]
        """Answers what handlers ask of their log-in handler; the page itself sends people to the Hub."""

        def get(self) -> None:
            """Send people to the Hub."""
            self.redirect(self.get_login_url())

        def post(self) -> None:
            """There is no password to send here."""
            raise web.HTTPError(405)

        @classmethod
        def get_user(cls, handler: Any) -> Any:
            """Return the visitor's name, or None."""
            model: UserModel | None = HubAuthenticatedHandler.get_current_user(handler)
            return model and model["name"]

        @classmethod
        def is_token_authenticated(cls, handler: Any) -> bool:
            """Return whether a request brought a token."""
            cls.get_user(handler)
            return bool(getattr(handler, "_token_authenticated", False))

        @classmethod
        def should_check_origin(cls, handler: Any) -> bool:
            """Return whether a request may come from another site."""
            return not cls.is_token_authenticated(handler)

        @classmethod
        def get_login_available(cls, settings: dict[str, Any]) -> bool:
            """There is a log-in."""
            return True

        @classmethod
        def validate_security(cls, app: Any, ssl_options: Any = None) -> None:
            """Nothing to warn of: the Hub checks every visitor."""

    class HubLogoutHandler(logout_handler):  # type: ignore[misc, valid-type]
        """Takes the token out of the browser and goes on to the Hub's log-out."""

        def get(self) -> None:
            """Log out."""
            auth: HubOAuth = self.hub_auth
            auth.clear_cookie(self)
            web.RequestHandler.redirect(self, auth.hub_host + url_path_join(auth.hub_prefix, "logout"))

    class SingleUserClassicMixin(SingleUserNotebookAppMixin):
        """The classic notebook with log-in at the Hub."""

        def load_config_file(self, suppress_errors: bool = True) -> None:
            """Load the files, then what the Hub asks for; the command line is applied after this once
            more.
            """
            super().load_config_file(suppress_errors)  # type: ignore[misc]
            from .bindaddress import bind_address

            env = os.environ
            settings: dict[str, Any] = {
                "allow_remote_access": True,
                "open_browser": False,
                "trust_xheaders": True,
                "quit_button": False,
                "port_retries": 0,
                "token": "",
                "password": "",
                "base_url": env.get("JUPYTERHUB_SERVICE_PREFIX") or "/",
                "login_handler_class": HubLoginHandler,
                "logout_handler_class": HubLogoutHandler,
            }
            if env.get("JUPYTERHUB_SERVICE_URL"):
                settings["ip"], settings["port"] = bind_address(env["JUPYTERHUB_SERVICE_URL"])
            if env.get("JUPYTERHUB_ROOT_DIR"):
                settings["notebook_dir"] = os.path.expanduser(env["JUPYTERHUB_ROOT_DIR"])
            if env.get("JUPYTERHUB_DEFAULT_URL"):
                settings["default_url"] = env["JUPYTERHUB_DEFAULT_URL"]
            for trait, name in (("keyfile", "KEYFILE"), ("certfile", "CERTFILE"), ("client_ca", "CLIENT_CA")):
                if env.get(f"JUPYTERHUB_SSL_{name}"):
                    settings[trait] = env[f"JUPYTERHUB_SSL_{name}"]
            self.update_config(Config({"NotebookApp": settings}))

        def init_webapp(self) -> None:
            """Make the web application one of the Hub."""
            auth, server = self.hub_auth, self
            settings: dict[str, Any] = server.tornado_settings  # type: ignore[attr-defined]
            headers = {"Content-Security-Policy": "frame-ancestors 'none'", **settings.get("headers", {})}
            settings.update(
                headers={**headers, "X-JupyterHub-Version": INTERFACE_VERSION},
                hub_auth=auth,
                hub_host=auth.hub_host,
                hub_prefix=auth.hub_prefix,
                user=self.user,
                group=self.group,
                xsrf_cookie_kwargs={**auth.cookie_options, "path": auth.base_url, "httponly": False},
            )
            super().init_webapp()  # type: ignore[misc]
            web_app: Any = server.web_app  # type: ignore[attr-defined]
            callback = url_path_join(auth.base_url, "oauth_callback")
            web_app.add_handlers(".*$", [(callback, HubOAuthCallbackHandler)])
            self.join_hub()

        def _confirm_exit(self) -> None:
            # There is nobody at a terminal to ask.
            self.stop()  # type: ignore[attr-defined]

    return SingleUserClassicMixin


def _protect_classic_handlers(base: Any) -> None:
    """Put log-in at the Hub under the base class of the classic handlers. Repeating it changes nothing."""
    if issubclass(base, HubAuthenticatedHandler):
        return
    for name in ("check_xsrf_cookie", "get_current_user", "get_login_url", "xsrf_token", "redirect"):
        if name in vars(base):
            delattr(base, name)
    base.__bases__ = (HubAuthenticatedHandler, *base.__bases__)
