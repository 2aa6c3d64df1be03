"""The Jupyter Server extension that runs a user's server for a Hub (cli §2, plugins §12.3).

`JupyterHubIdentityProvider` says who a visitor is, `JupyterHubAuthorizer` what they may do, and
`JupyterHubSingleUser` sets up the server, checks the Hub's version and reports activity. If any of that fails
the process ends: a server must never run without the Hub's protection.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from jupyter_server.auth import Authorizer, IdentityProvider, User
from jupyter_server.extension.application import ExtensionApp
from jupyter_server.serverapp import ServerApp
from tornado import web
from traitlets import Bool, Instance, Integer, Type, Unicode, default

from .._version import __version__
from ..services._hubclient import run_blocking
from ..services._identity import UserNotAllowed, env_bool
from ..services.auth import HubOAuth
from .handlers import (
    JupyterHubLogoutHandler,
    JupyterHubOAuthCallbackHandler,
    JupyterHubStatusHandler,
)
from .hublink import HubLink
from .serversetup import HubConfiguredServer, add_page_template, prepare_web_app

__all__ = [
    "JupyterHubAuthorizer",
    "JupyterHubIdentityProvider",
    "JupyterHubSingleUser",
    "JupyterHubUser",
]


class JupyterHubUser(User):  # type: ignore[misc, unused-ignore]
    """A visitor the Hub knows. `hub_user` is all the Hub says, also `name`, `scopes` and `groups`."""

    def __init__(self, hub_user: dict[str, Any]) -> None:
        self.hub_user = hub_user
        info = hub_user.get("user_info") or {}
        shown = {
            name: info[name]
            for name in ("name", "display_name", "initials", "avatar_url", "color")
            if isinstance(info.get(name), str)
        }
        super().__init__(username=str(hub_user["name"]), **shown)


class JupyterHubIdentityProvider(IdentityProvider):  # type: ignore[misc, unused-ignore]
    """Identifies visitors by their token of the Hub, and lets in those whose scopes give access.

    Access is checked here and not only by the authorizer: handlers that ask for a log-in, but not for a
    permission, are closed to other users as well.
    """

    logout_handler_class = Type(JupyterHubLogoutHandler, klass=web.RequestHandler, config=True)

    hub_auth = Instance(HubOAuth)

    @default("hub_auth")
    def _default_hub_auth(self) -> HubOAuth:
        # Handlers of extensions that use HubOAuth get the same object, and so the same cookie.
        return HubOAuth.instance(parent=self)

    legacy_names: frozenset[str] = frozenset()
    legacy_groups: frozenset[str] = frozenset()
    legacy_admin: bool = False

    @default("token")
    def _token_default(self) -> str:
        return ""

    @default("updatable_fields")
    def _default_updatable_fields(self) -> list[str]:
        # What people are called is known to the Hub, which cannot be told from here.
        return []

    @property
    def login_available(self) -> bool:
        """People log in at the Hub, not here."""
        return False

    def get_handlers(self) -> list[Any]:
        """Return the pages of log-in and log-out."""
        return [
            (r"/logout", self.logout_handler_class),
            (r"/oauth_callback", JupyterHubOAuthCallbackHandler),
            # There is no form here. Without this route it would be one more page that asks for a log-in.
            (r"/login", web.ErrorHandler, {"status_code": 404}),
        ]

    async def get_user(self, handler: Any) -> JupyterHubUser | None:
        """Return who sent a request; None for strangers and for people without access here."""
        if hasattr(handler, "_hub_user"):
            known: JupyterHubUser | None = handler._hub_user
            return known
        model = await self.hub_auth.get_user(handler, sync=False)
        user: JupyterHubUser | None = None
        if model is not None:
            if self.has_access(model):
                user = JupyterHubUser(model)
                self._keep_url_token(handler)
            else:
                handler._hub_refused = UserNotAllowed(model)
                self.log.warning("%s", handler._hub_refused)
        handler._hub_user = user
        return user

    def has_access(self, model: dict[str, Any]) -> bool:
        """Return whether somebody's scopes open this server. Without any scopes to ask for, it is closed."""
        if self.hub_auth.access_scopes:
            return bool(self.hub_auth.check_scopes(self.hub_auth.access_scopes, model))
        if model.get("admin") and self.legacy_admin:
            return True
        if model.get("kind", "user") != "user":
            return False
        return model["name"] in self.legacy_names or not self.legacy_groups.isdisjoint(
            model.get("groups") or ()
        )

    def _keep_url_token(self, handler: Any) -> None:
        """Move a token from the URL of a page into the cookie, for everything that the page loads."""
        if handler.request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
            return
        token = self.hub_auth._url_token(handler)
        if token and getattr(handler, "_token_authenticated", False) and handler.request.method == "GET":
            if token != self.hub_auth._cookie_token(handler):
                self.hub_auth.set_cookie(handler, token)

    def is_token_authenticated(self, handler: Any) -> bool:
        """Return whether a request brought a token, so that no other site can have forged it."""
        return bool(getattr(handler, "_token_authenticated", False))

    def clear_login_cookie(self, handler: Any) -> None:
        """Take the token out of the browser."""
        self.hub_auth.clear_cookie(handler)

    def validate_security(self, app: Any, ssl_options: dict[str, Any] | None = None) -> None:
        """Nothing to warn of: every visitor is checked by the Hub."""


class JupyterHubAuthorizer(Authorizer):  # type: ignore[misc, unused-ignore]
    """Lets people do everything if they have access at all. Deployments subclass it to allow less."""

    @property
    def hub_auth(self) -> HubOAuth:
        """What asks the Hub."""
        return self._provider.hub_auth

    @property
    def _provider(self) -> JupyterHubIdentityProvider:
        if not isinstance(self.identity_provider, JupyterHubIdentityProvider):
            raise TypeError(f"{type(self).__name__} needs the identity provider of JupyterHub")
        return self.identity_provider

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        """Return whether `user` may do `action` to `resource`."""
        if not isinstance(user, JupyterHubUser):
            return False
        return self._provider.has_access(user.hub_user)


class SingleUserServerApp(HubConfiguredServer, ServerApp):  # type: ignore[misc, unused-ignore]
    """A Jupyter Server with the Hub's settings."""

    def hub_classes(self) -> dict[str, type]:
        """Return the classes that protect the server."""
        return {
            "identity_provider_class": JupyterHubIdentityProvider,
            "authorizer_class": JupyterHubAuthorizer,
        }


class JupyterHubSingleUser(ExtensionApp):  # type: ignore[misc, unused-ignore]
    """A Jupyter Server for one user of a Hub."""

    name = "jupyterhub-singleuser"
    version = __version__
    description = "Jupyter Server for one user of a JupyterHub, which starts it and says who may use it."
    serverapp_class = SingleUserServerApp
    load_other_extensions = True

    default_url = Unicode(help="The first page. Empty: JupyterLab's, or that of another extension.").tag(
        config=True
    )

    hub_activity_url = Unicode(help="Where to report activity to; empty switches the reports off.").tag(
        config=True
    )

    @default("hub_activity_url")
    def _default_activity_url(self) -> str:
        return os.environ.get("JUPYTERHUB_ACTIVITY_URL", "")

    hub_activity_interval = Integer(
        300, help="Seconds between two reports of activity, give or take a tenth; 0 switches them off."
    ).tag(config=True)

    @default("hub_activity_interval")
    def _default_activity_interval(self) -> int:
        return int(os.environ.get("JUPYTERHUB_ACTIVITY_INTERVAL") or 300)

    server_name = Unicode(help="The server's name; empty for the default one. The environment says it.")

    @default("server_name")
    def _default_server_name(self) -> str:
        return os.environ.get("JUPYTERHUB_SERVER_NAME", "")

    disable_user_config = Bool(False, help="Whether what the user has configured is left out. The environment says it.")

    @default("disable_user_config")
    def _default_disable_user_config(self) -> bool:
        return env_bool("JUPYTERHUB_DISABLE_USER_CONFIG", False)

    open_browser = Bool(False)

    link: HubLink | None = None
    serverapp: Any

    # -- configuration ---------------------------------------------------------------------------------------

    @default("default_url")
    def _default_url(self) -> str:
        """Find the first page (cli §2.6)."""
        serverapp = self.serverapp
        configured = serverapp.config.get("ServerApp", {}).get("default_url")
        if configured:
            return str(configured)
        if os.environ.get("JUPYTERHUB_DEFAULT_URL"):
            return os.environ["JUPYTERHUB_DEFAULT_URL"]
        points = serverapp.extension_manager.extension_points
        apps = {name: point.app for name, point in points.items() if point.app and point.app is not self}
        preferred = [name for name in ("lab", "retro", "nbclassic") if name in apps]
        for name in [*preferred, *apps]:
            url = apps[name].default_url
            if url and url != "/":
                return str(url)
        serverapp.log.warning("No extension has a page to begin with; set ServerApp.default_url")
        return "/"

    def _jupyter_server_config(self) -> dict[str, Any]:
        """Return the first page; the other settings were made when the server loaded its configuration."""
        if "default_url" in self.serverapp.cli_config.get("ServerApp", {}):
            return {}
        return {"ServerApp": {"default_url": self.default_url}}

    # -- life ------------------------------------------------------------------------------------------------

    @classmethod
    def initialize_server(cls, argv: list[str] | None = None, *args: Any, **kwargs: Any) -> Any:
        """Make the server. Without a Hub that says where to listen, that is refused."""
        if not os.environ.get("JUPYTERHUB_SERVICE_URL"):
            sys.exit("JUPYTERHUB_SERVICE_URL is not set: jupyterhub-singleuser is started by a JupyterHub")
        cls.load_other_extensions = env_bool("JUPYTERHUB_SINGLEUSER_LOAD_OTHER_EXTENSIONS", True)
        if os.environ.get("JUPYTERHUB_SINGLEUSER_LOAD_OTHER_EXTENSIONS") == "":
            cls.load_other_extensions = False
        kwargs["load_other_extensions"] = cls.load_other_extensions
        return super().initialize_server(argv, *args, **kwargs)  # type: ignore[no-untyped-call]

    @classmethod
    def _load_jupyter_server_extension(cls, serverapp: Any) -> Any:
        try:
            return super()._load_jupyter_server_extension(serverapp)  # type: ignore[no-untyped-call]
        except Exception as error:
            # Jupyter Server goes on without an extension that fails, which here would be without any lock.
            serverapp.log.critical(
                "The server ends, as it cannot be protected by the Hub: %s", error, exc_info=True
            )
            serverapp.exit(1)

    def initialize(self) -> None:  # type: ignore[override]
        """Join the server to its Hub. Raises HubNotFound if there is none."""
        super().initialize()  # type: ignore[no-untyped-call]
        serverapp = self.serverapp
        provider = serverapp.identity_provider
        if not isinstance(provider, JupyterHubIdentityProvider):
            raise RuntimeError(
                f"ServerApp.identity_provider_class is {type(provider).__name__}, not the Hub's"
            )
        auth = provider.hub_auth
        prepare_web_app(serverapp, auth)
        self.link = HubLink(
            auth,
            self.log,
            server_name=self.server_name,
            activity_url=self.hub_activity_url,
            interval=self.hub_activity_interval,
            last_activity=serverapp.web_app.last_activity,
        )
        run_blocking(self.link.check_version())

    def initialize_handlers(self) -> None:
        """Add the health check."""
        self.handlers.append((r"/api/status", JupyterHubStatusHandler))

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:
        # By now every extension is loaded, also those with templates of their own.
        add_page_template(serverapp.web_app.settings)
        if self.link is not None:
            self.link.start()

    async def stop_extension(self) -> None:
        """End the reports of activity."""
        if self.link is not None:
            await self.link.stop()


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    return [{"module": "jupyterhub", "app": JupyterHubSingleUser}]


def main(argv: list[str] | None = None) -> None:
    """Run a server for the user the environment names, until it is stopped."""
    JupyterHubSingleUser.launch_instance(argv)  # type: ignore[no-untyped-call]
