"""`Service`: one entry of `c.JupyterHub.services`, or a service made through the API (services-and-proxy A).

The keys of an entry are exactly the traits tagged `input=True`.
"""

import json
import os
from typing import Any
from urllib.parse import urlsplit

from traitlets import Any as AnyTrait
from traitlets import Bool, Dict, Integer, List, Set, TraitError, Unicode, default, observe, validate
from traitlets.config import LoggingConfigurable

from ..core.names import check_service_name, service_client_id
from ..core.urls import service_path, url_path_join
from ..objects import Server
from ..spawner import LocalProcessSpawner, set_user_setuid
from ..spawning import localprocess
from ..traitlets import Command

__all__ = ["Service"]


class _ServiceOwner:
    """Stands where a spawner expects its user: a service has none, or an account of this machine."""

    def __init__(self, name: str, host: str) -> None:
        self.name, self.host = name, host
        self.id = None
        self.url = self.base_url = "/"
        self.server = None
        self.escaped_name = name
        self.settings: dict[str, Any] = {}
        self.group_names: tuple[str, ...] = ()


class _ServiceSpawner(LocalProcessSpawner):
    """Runs a managed service as a process of this machine, optionally under another account."""

    cwd = Unicode()
    service = AnyTrait()

    def make_preexec_fn(self, name: str) -> Any:
        if not name:
            return None
        return set_user_setuid(name, chdir=False)

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        return super().user_env(env) if self.user.name else env

    def get_env(self) -> dict[str, str]:
        env = super().get_env()
        for name in ("JUPYTERHUB_ACTIVITY_URL", "JUPYTERHUB_SERVER_ROW", "JUPYTERHUB_SERVER_FENCE"):
            env.pop(name, None)
        env.update(self.service.environment_variables())
        return env

    @property
    def _certificate_name(self) -> str:
        return f"service-{self.service.name}"

    async def move_certs(self, paths: dict[str, str]) -> dict[str, str]:
        """A service under the Hub's own account reads the files where they are."""
        return await super().move_certs(paths) if self.user.name else paths

    async def start(self) -> Any:
        if self.internal_ssl:
            self.cert_paths = await self.move_certs(await self.create_certs())
        env = self.get_env()
        # A service reads and writes where the Hub does.
        options = {
            "cwd": self.cwd or None,
            "stdin": None,
            "preexec_fn": self.make_preexec_fn(self.user.name),
            **self.popen_kwargs,
        }
        self.proc = localprocess.launch(
            [*self.cmd, *self.args], env=env, options=options, run_file=None, output=None
        )
        self.pid = self.proc.pid
        return None


class Service(LoggingConfigurable):
    """A service of the Hub.

    *Managed* when it has a `command`: the Hub runs it, watches it and stops it. *External* otherwise: it runs by
    itself and talks to the Hub with its token. With a `url` it gets a route and people can log in to it.
    """

    name = Unicode(help="Name of the service; part of its address.").tag(input=True)
    admin = Bool(False, help="Old: give the service the role admin when it is first made. Use load_roles.").tag(
        input=True
    )
    url = Unicode(help="Where the service listens (http or https). Gives it a route below /services/.").tag(input=True)
    api_token = Unicode(help="The service's API token; made at each start for a managed service without one.").tag(
        input=True
    )
    info = Dict(help="Anything about the service, given out by the REST API.").tag(input=True)
    display = Bool(True, help="Whether people see the service in the menu.").tag(input=True)
    timeout = Integer(30, help="Seconds to wait until the service answers at its url.").tag(input=True)
    oauth_no_confirm = Bool(False, help="Let people in without asking whether the service may know who they are.").tag(
        input=True
    )
    command = Command(minlen=0, help="Command that runs the service; makes it a managed one.").tag(input=True)
    cwd = Unicode(help="Working directory of the command; empty means the Hub's.").tag(input=True)
    environment = Dict(help="Further environment variables of the command.").tag(input=True)
    user = Unicode(help="Account of this machine under which the command runs; needs privileges.").tag(input=True)
    oauth_client_id = Unicode(help="OAuth client id; begins with 'service-'.").tag(input=True)
    oauth_redirect_uri = Unicode(help="Where the Hub sends people back to after they logged in.").tag(input=True)
    oauth_client_allowed_scopes: Any = List(help="Scopes that the service may ask people for.").tag(input=True)
    oauth_roles: Any = List(help="Old: roles whose scopes the service may ask people for.").tag(input=True)

    app = AnyTrait()
    db = AnyTrait()
    hub = AnyTrait()
    proxy = AnyTrait()
    orm = AnyTrait()
    roles = AnyTrait()
    oauth_provider = AnyTrait()
    cookie_options = Dict()
    base_url = Unicode("/")
    domain = Unicode()
    host = Unicode()
    proc = AnyTrait()
    spawner = AnyTrait()
    from_config = Bool(True)
    id = Integer(0)
    given_keys = Set(help="Keys that the definition gave, whatever their values.")
    _oauth_specified = Set(help="OAuth keys that the definition gave, whatever their value.")

    @validate("name")
    def _check_name(self, proposal: Any) -> str:
        return check_service_name(proposal.value)

    @validate("url")
    def _check_url(self, proposal: Any) -> str:
        if proposal.value and urlsplit(proposal.value).scheme not in ("http", "https"):
            raise TraitError(
                f"Service {self.name!r}: url must begin with http:// or https://, not {proposal.value!r}"
            )
        return str(proposal.value)

    @default("oauth_client_id")
    def _client_id_default(self) -> str:
        return service_client_id(self.name)

    @validate("oauth_client_id")
    def _check_client_id(self, proposal: Any) -> str:
        if not proposal.value.startswith("service-"):
            raise TraitError(
                f"Service {self.name!r}: oauth_client_id must begin with 'service-', not {proposal.value!r}"
            )
        return str(proposal.value)

    @default("oauth_redirect_uri")
    def _redirect_uri_default(self) -> str:
        return f"{self.host}{url_path_join(self.prefix, 'oauth_callback')}" if self.url else ""

    @observe("oauth_client_id", "oauth_redirect_uri", "oauth_no_confirm")
    def _note_oauth(self, change: Any) -> None:
        self._oauth_specified = {*self._oauth_specified, change.name}

    @property
    def kind(self) -> str:
        """`managed` or `external`, for people."""
        return "managed" if self.managed else "external"

    @property
    def managed(self) -> bool:
        """Whether the Hub runs it."""
        return bool(self.command)

    @property
    def oauth_available(self) -> bool:
        """Whether people can log in to it (services-and-proxy A2, step 5)."""
        return bool(self.url or self._oauth_specified)

    @property
    def oauth_client(self) -> Any:
        return self.orm.oauth_client if self.orm is not None else None

    @property
    def prefix(self) -> str:
        """Path of the service."""
        return service_path(self.base_url, self.name)

    @property
    def href(self) -> str:
        """Where a browser finds it, or an empty text for one without a URL."""
        return f"{self.host}{self.prefix}" if self.url else ""

    @property
    def proxy_spec(self) -> str:
        return f"{self.domain}{self.prefix}" if self.domain else self.prefix

    @property
    def server(self) -> Server | None:
        """Its address, or None without a URL."""
        if not self.url:
            return None
        address = self.address()
        assert address is not None
        proto, ip, port, base_url = address
        server = Server(proto=proto, ip=ip, port=port, base_url=base_url, cookie_name=self.oauth_client_id)
        if self.app is not None and self.app.internal_ssl:
            # What the Hub shows when it asks whether the service answers.
            server.keyfile, server.certfile = self.app.internal_ssl_key, self.app.internal_ssl_cert
            server.cafile = self.app.internal_ssl_ca
        return server

    def address(self) -> tuple[str, str, int, str] | None:
        """(scheme, host, port, path) of a service with a URL; the path is always its prefix."""
        if not self.url:
            return None
        parts = urlsplit(self.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return parts.scheme, parts.hostname or "127.0.0.1", port, self.prefix

    @property
    def pid(self) -> int:
        """Process id of a managed service that runs, else 0."""
        return int(self.proc.pid) if self.proc is not None and self.proc.poll() is None else 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(name={self.name}{' managed' if self.managed else ''})>"

    def environment_variables(self) -> dict[str, str]:
        """What a managed service is told about itself (services-and-proxy A3)."""
        env = {name: str(value) for name, value in self.environment.items()}
        env["JUPYTERHUB_SERVICE_NAME"] = self.name
        env["JUPYTERHUB_SERVICE_URL"] = self.url or "http://127.0.0.1:0/"
        if self.url:
            env["JUPYTERHUB_SERVICE_PREFIX"] = self.prefix
        env["JUPYTERHUB_CLIENT_ID"] = self.oauth_client_id
        env["JUPYTERHUB_OAUTH_CALLBACK_URL"] = (
            f"{self.host}{url_path_join(self.prefix, 'oauth_callback')}" if self.url else "oauth_callback"
        )
        scopes = json.dumps(["access:services", f"access:services!service={self.name}"])
        env["JUPYTERHUB_OAUTH_ACCESS_SCOPES"] = env["JUPYTERHUB_OAUTH_SCOPES"] = scopes
        env["JUPYTERHUB_OAUTH_CLIENT_ALLOWED_SCOPES"] = "[]"
        return env

    async def start(self) -> None:
        """Start a managed service and watch it.

        Raises OSError when the command cannot be run, RuntimeError when its certificate cannot be given to it.
        """
        if not self.managed:
            raise RuntimeError(f"Service {self.name} is external: the Hub cannot start it")
        self.log.info("Starting service %s: %s", self.name, " ".join(self.command))
        app = self.app
        self.spawner = _ServiceSpawner(
            cmd=self.command,
            service=self,
            user=_ServiceOwner(self.user, self.host),
            api_token=self.api_token,
            oauth_client_id=self.oauth_client_id,
            hub=self.hub,
            internal_ssl=app.internal_ssl,
            internal_trust_bundles=app.internal_trust_bundles,
            internal_certs_location=app.internal_certs_location,
            trusted_alt_names=list(app.trusted_alt_names),
            cwd=os.path.expanduser(self.cwd) if self.cwd else "",
            parent=None,
            log=self.log,
        )
        await self.spawner.start()
        self.proc = self.spawner.proc
        self.spawner.add_poll_callback(self._restart)
        self.spawner.start_polling()

    async def _restart(self) -> None:
        """It ended by itself: say so and run it again (services-and-proxy A3)."""
        status = await self.spawner.poll() if self.spawner is not None else None
        self.log.error("Service %s ended with status %s; starting it again", self.name, status)
        try:
            await self.start()
        except (OSError, RuntimeError) as error:
            self.log.error("Service %s cannot be started again: %s", self.name, error)
            # Whatever is missing may come back; the next look is in half a minute.
            self.spawner.add_poll_callback(self._restart)
            self.spawner.start_polling()

    async def stop(self) -> None:
        """Stop a managed service; one that is stopped is left alone."""
        if not self.managed or self.spawner is None:
            return
        self.log.debug("Stopping service %s", self.name)
        spawner, self.spawner = self.spawner, None
        spawner.stop_polling()
        await spawner.stop()
        self.proc = None
