"""The application `jupyterhub`: reads its configuration, builds a Hub, runs it, ends it (cli §1)."""

import asyncio
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.log import access_log, app_log, gen_log
from tornado.web import Application as WebApplication
from traitlets import Any as AnyTrait
from traitlets import Bool, Dict, Instance, Integer, List, TraitError, Unicode, default
from traitlets.config import Application, LazyConfigValue, catch_config_error

from . import wiring
from ._data import DATA_FILES_PATH
from ._version import __version__
from .appconfig import (
    DatabaseSettings,
    LimitSettings,
    NetworkSettings,
    PageSettings,
    PeopleSettings,
    SecuritySettings,
    ServiceSettings,
)
from .appconfig.checks import describe_unknown_keys
from .commands import NewToken, UpgradeDB
from .core.errors import HubError
from .core.urls import subdomain_hook_idna, url_path_join
from .crypto import CryptKeeper
from .log import CoroutineLogFormatter
from .metrics import HUB_STARTUP_DURATION_SECONDS
from .objects import Hub
from .runtime.context import HubContext
from .runtime.periodic import start_periodic_tasks
from .store.database import Database
from .user import UserDict

__all__ = ["DATA_FILES_PATH", "JupyterHub", "NewToken", "UpgradeDB", "app_log", "main", "subdomain_hook_idna"]

#: Seconds that everything the Hub stops at its own end may take together.
SHUTDOWN_TIMEOUT = 120.0
#: Seconds between the last straw of `consecutive_failure_limit` and the end.
FAILURE_EXIT_DELAY = 2.0

ALIASES = {
    "log-level": "Application.log_level",
    "f": "JupyterHub.config_file",
    "config": "JupyterHub.config_file",
    "y": "JupyterHub.answer_yes",
    "ssl-key": "JupyterHub.ssl_key",
    "ssl-cert": "JupyterHub.ssl_cert",
    "url": "JupyterHub.bind_url",
    "ip": "JupyterHub.ip",
    "port": "JupyterHub.port",
    "base-url": "JupyterHub.base_url",
    "db": "JupyterHub.db_url",
    "pid-file": "JupyterHub.pid_file",
    "log-file": "JupyterHub.extra_log_file",
}

FLAGS: dict[str, Any] = {
    "debug": ({"Application": {"log_level": logging.DEBUG}}, "Log everything there is to say."),
    "show-config": ({"Application": {"show_config": True}}, "Print the configuration and end."),
    "show-config-json": ({"Application": {"show_config_json": True}}, "Print the configuration as JSON and end."),
    "generate-config": ({"JupyterHub": {"generate_config": True}}, "Write a configuration file and end."),
    "generate-certs": ({"JupyterHub": {"generate_certs": True}}, "Write the internal certificates and end."),
    "no-db": ({"JupyterHub": {"db_url": "sqlite:///:memory:"}}, "Keep everything in memory only."),
    "upgrade-db": ({"JupyterHub": {"upgrade_db": True}}, "Bring an older database to the present schema first."),
    "no-ssl": ({"JupyterHub": {"confirm_no_ssl": True}}, "Old, does nothing."),
}


class JupyterHub(
    NetworkSettings,
    DatabaseSettings,
    SecuritySettings,
    LimitSettings,
    PageSettings,
    PeopleSettings,
    ServiceSettings,
    Application,
):
    """A multi-user server for Jupyter: logs people in, starts a server for each, proxies them all."""

    name = "jupyterhub"
    version = __version__
    description = "Start a multi-user server for Jupyter: it logs people in, starts a server for each, and proxies them."
    examples = """
        jupyterhub --generate-config -f /etc/jupyterhub/jupyterhub_config.py
        jupyterhub -f /etc/jupyterhub/jupyterhub_config.py
        jupyterhub --url=http://127.0.0.1:9000/hub-below/
    """
    aliases = Dict(ALIASES)
    flags = Dict(FLAGS)
    raise_config_file_errors = True
    subcommands = {
        "token": (NewToken, "Issue an API token for a user."),
        "upgrade-db": (UpgradeDB, "Bring the database to the present schema."),
    }

    config_file = Unicode("jupyterhub_config.py", help="The configuration file.").tag(config=True)
    generate_config = Bool(False, help="Write a configuration file with every setting explained, and end.").tag(
        config=True
    )
    answer_yes = Bool(False, help="Answer every question with yes.").tag(config=True)
    pid_file = Unicode(help="File to which the Hub writes its process id.").tag(config=True)
    extra_log_file = Unicode(help="Old: also log to this file. Better redirect the output.").tag(config=True)
    extra_log_handlers = List(Instance(logging.Handler), help="Further handlers for the Hub's log.").tag(config=True)

    # What the steps of start-up make.
    authenticator: Any = AnyTrait()
    proxy: Any = AnyTrait()
    hub: Any = AnyTrait()
    users: Any = AnyTrait()
    eventlog: Any = AnyTrait(None, allow_none=True)
    oauth_provider: Any = AnyTrait(None, allow_none=True)
    http_server: Any = AnyTrait(None, allow_none=True)
    tornado_application: Any = AnyTrait(None, allow_none=True)
    handlers = List()
    _service_map = Dict()
    _log_formatter_cls = CoroutineLogFormatter
    exit_status = Integer(0)

    def __init__(self, **kwargs: Any) -> None:
        self.context: HubContext | None = None
        self.database: Database | None = None
        self.configured_tornado_settings: dict[str, Any] = {}
        self._ended: asyncio.Event | None = None
        self._began = time.monotonic()
        super().__init__(**kwargs)

    @default("log_level")
    def _log_level_default(self) -> int:
        return logging.INFO

    @default("log_datefmt")
    def _log_datefmt_default(self) -> str:
        return "%Y-%m-%d %H:%M:%S"

    @default("log_format")
    def _log_format_default(self) -> str:
        return (
            "%(color)s[%(levelname)1.1s %(asctime)s.%(msecs).03d %(name)s %(module)s:%(lineno)d]%(end_color)s "
            "%(message)s"
        )

    @default("classes")
    def _classes_default(self) -> list[type[Any]]:
        from .auth import Authenticator, LocalAuthenticator, PAMAuthenticator
        from .proxy import ConfigurableHTTPProxy, Proxy
        from .spawner import LocalProcessSpawner, SimpleLocalProcessSpawner, Spawner

        found: list[type[Any]] = [
            type(self), Spawner, LocalProcessSpawner, SimpleLocalProcessSpawner, Authenticator, LocalAuthenticator,
            PAMAuthenticator, Proxy, ConfigurableHTTPProxy, CryptKeeper,
        ]
        return found

    # Configuration

    @property
    def db(self) -> Any:
        """The session that plugins share; made on first use."""
        assert self.database is not None, "the database is not open yet"
        return self.database.plugin_session

    @property
    def session_factory(self) -> Any:
        return lambda: self.db

    @catch_config_error
    async def initialize(self, argv: list[str] | None = None) -> None:
        """Everything before `start`: configuration, database, people, web application."""
        self._began = time.monotonic()
        super().initialize(argv)
        if self.generate_config or self.generate_certs or self.subapp:
            return
        self.load_configuration()
        self.write_pid_file()
        self.init_logging()
        self.log_versions()
        self.init_secrets()
        self.init_internal_ssl()
        self.init_db()
        self.init_hub()
        self.init_authenticator()
        self.init_proxy()
        await self.init_people()
        self.init_eventlog()
        self.init_oauth()
        self.init_tornado_settings()
        self.init_handlers()
        self.init_tornado_application()

    def load_configuration(self) -> None:
        """Read the configuration file and say what in it is not a setting."""
        path = os.path.abspath(os.path.expanduser(self.config_file))
        given = "config_file" in self._trait_values and self.config_file != "jupyterhub_config.py"
        if os.path.exists(path):
            self.load_config_file(os.path.basename(path), path=os.path.dirname(path))
        elif given:
            self.fail(f"The configuration file {path} does not exist")
        else:
            self.log.debug("There is no %s; the defaults hold", path)
        self._read_command_line_again()
        classes = [*self.classes, self.authenticator_class, self.spawner_class, self.proxy_class]
        for sentence in describe_unknown_keys(self.config, classes, path):
            self.log.warning("%s", sentence)

    def _read_command_line_again(self) -> None:
        """What the command line says wins over the file."""
        cli = getattr(self, "cli_config", None)
        if cli:
            self.update_config(cli)

    def fail(self, sentence: str, status: int = 1) -> None:
        """End with a sentence for whoever started the Hub."""
        self.log.critical("%s", sentence)
        self.exit(status)

    def write_pid_file(self) -> None:
        if self.pid_file:
            Path(self.pid_file).write_text(str(os.getpid()))

    def init_logging(self) -> None:
        """One logger for the Hub and its libraries."""
        self.log.propagate = False
        formatter = self._log_formatter_cls(fmt=self.log_format, datefmt=self.log_datefmt)
        if self.extra_log_file:
            self.log.warning("JupyterHub.extra_log_file is old; redirect the output instead")
            self.extra_log_handlers = [
                *self.extra_log_handlers, logging.FileHandler(self.extra_log_file, encoding="utf-8")
            ]
        for handler in self.extra_log_handlers:
            if handler.formatter is None:
                handler.setFormatter(formatter)
            self.log.addHandler(handler)
        for logger in (app_log, access_log, gen_log, logging.getLogger("jupyterhub")):
            logger.name = self.log.name if logger is not logging.getLogger("jupyterhub") else logger.name
            logger.propagate = True
            logger.parent = self.log
            logger.setLevel(self.log.level)

    def log_versions(self) -> None:
        for role in ("authenticator", "spawner", "proxy"):
            cls = getattr(self, f"{role}_class")
            package = cls.__module__.partition(".")[0]
            version = getattr(sys.modules.get(package), "__version__", "")
            self.log.info("Using %s: %s.%s%s", role, cls.__module__, cls.__name__, f"-{version}" if version else "")

    # Steps of start-up; subclasses may override one and call it with super()

    def init_secrets(self) -> None:
        try:
            self.cookie_secret = wiring.load_cookie_secret(self)
        except (OSError, ValueError) as error:
            self.fail(str(error))

    def init_internal_ssl(self) -> None:
        """Make or load the internal certificates, if internal TLS is on."""
        if not self.internal_ssl:
            return
        from .runtime.certificates import prepare_internal_tls

        prepare_internal_tls(self)

    def init_db(self) -> None:
        """Open the database. A schema we do not know is refused untouched."""
        options = dict(self.db_kwargs)
        if self.debug_db:
            options.setdefault("echo", True)
        try:
            self.database = Database.open(
                self.db_url, engine_kwargs=options, upgrade=self.upgrade_db, reset=self.reset_db
            )
        except HubError as error:
            self.fail(str(error))
            return
        if self.context is None:
            self.configured_tornado_settings = dict(self.tornado_settings)
            self.tornado_settings = {}
            self.context = wiring.build_context(self, self.database)
            self.tornado_settings["context"] = self.context
            self.users = wiring.new_user_dict(self)
            self.tornado_settings["users"] = self.users
            self.tornado_settings["log"] = self.log

    def init_hub(self) -> None:
        """Where the Hub listens and how others reach it."""
        self.hub = wiring.build_hub(self)

    def init_authenticator(self) -> None:
        self.authenticator = self.authenticator_class(parent=self)
        if self.authenticator.enable_auth_state:
            try:
                CryptKeeper.instance(parent=self).check_available()
            except Exception as error:
                self.fail(
                    f"Authenticator.enable_auth_state needs a key: set JUPYTERHUB_CRYPT_KEY or CryptKeeper.keys ({error})"
                )
        self.authenticator.check_allow_config()
        wiring.prepare_named_users(self)

    def init_proxy(self) -> None:
        self.proxy = self.proxy_class(
            db_factory=lambda: self.db,
            public_url=self.bind_url,
            parent=self,
            app=self,
            log=self.log,
            hub=self.hub,
            host_routing=bool(self.subdomain_host),
            ssl_cert=self.ssl_cert,
            ssl_key=self.ssl_key,
        )
        self._hand_on_old_proxy_settings()

    def _hand_on_old_proxy_settings(self) -> None:
        for old, new in (
            ("proxy_cmd", "command"), ("debug_proxy", "debug"), ("proxy_auth_token", "auth_token"),
            ("proxy_check_interval", "check_running_interval"),
        ):
            if old in self._trait_values and self.config.get("JupyterHub", {}).get(old) is not None:
                self.log.warning("JupyterHub.%s is old; use ConfigurableHTTPProxy.%s", old, new)
                setattr(self.proxy, new, getattr(self, old))
        if self.proxy_api_ip or self.proxy_api_port:
            self.log.warning("JupyterHub.proxy_api_ip and proxy_api_port are old; use ConfigurableHTTPProxy.api_url")
            self.proxy.api_url = f"http://{self.proxy_api_ip or '127.0.0.1'}:{self.proxy_api_port or 8001}"

    async def init_people(self) -> None:
        """Roles, users, groups, services and tokens as configured, in one transaction."""
        assert self.context is not None
        managed: list[dict[str, Any]] = []
        if self.authenticator.manage_roles:
            managed = list(await self.authenticator.load_managed_roles())
        try:
            self._service_map = wiring.build_services(self)
            self.new_user_names = wiring.provision(self, self.context, managed)
        except (HubError, TraitError, KeyError, ValueError) as error:
            text = f"missing key {error}" if isinstance(error, KeyError) and not isinstance(error, HubError) else error
            self.fail(f"The configuration of roles, users, groups or services cannot be loaded: {text}")

    def init_eventlog(self) -> None:
        """The event log costs a second to import; only sites that configure it pay (ARCHITECTURE §7)."""
        handlers = self.config.get("EventLogger", {}).get("handlers")
        if not handlers or isinstance(handlers, LazyConfigValue):
            return
        from .runtime.eventlog import make_event_logger

        self.eventlog = make_event_logger(self)

    def init_oauth(self) -> None:
        from .oauth.provider import make_provider

        assert self.context is not None
        self.oauth_provider = make_provider(
            self.context,
            url_prefix=url_path_join(self.hub_prefix, "api/oauth2"),
            login_url=url_path_join(self.hub_prefix, "login"),
            token_expires_in=self.oauth_token_expires_in,
        )

    def init_tornado_settings(self) -> None:
        """Fill the live settings dictionary; the object stays the same, because others hold it."""
        settings = wiring.tornado_settings(self)
        settings["oauth_provider"] = self.oauth_provider
        self.tornado_settings.update(settings)

    @staticmethod
    def add_url_prefix(prefix: str, handlers: list[Any]) -> list[Any]:
        """Return the handlers with `prefix` before each path."""
        found = []
        for handler in handlers:
            pattern, *rest = handler
            found.append((url_path_join(prefix, pattern), *rest))
        return found

    def init_handlers(self) -> None:
        self.handlers = wiring.build_handlers(self)

    def init_tornado_application(self) -> None:
        self.tornado_application = WebApplication(self.handlers, **self.tornado_settings)
        # Tornado copies what it is given; ours has to stay the one dictionary that everybody patches.
        self.tornado_application.settings = self.tornado_settings

    # Running

    async def start(self) -> None:
        """Take over servers, listen, start the proxy, services and periodic tasks."""
        if self.subapp:
            self.subapp.start()
            self.exit(0)
            return
        assert self.context is not None
        context = self.context
        context.leases.register(self.hub.api_url)
        context.servers.on_failure_limit = self.exit_after_failures
        await wiring.take_over_servers(context)
        self.listen()
        await self.start_proxy()
        try:
            await context.service_keeper.start_all()
        except HubError as error:
            self.fail(str(error))
        await context.routes.check()
        start_periodic_tasks(context)
        if self.service_check_interval > 0 and any(service.url for service in self._service_map.values()):
            context.background.repeat(
                context.service_keeper.check_all, every=self.service_check_interval, name="check services"
            )
        context.background.start(self.introduce_users(), name="introduce users to the authenticator")
        self.install_signal_handlers()
        HUB_STARTUP_DURATION_SECONDS.observe(time.monotonic() - self._began)
        self.log.info("JupyterHub is now running at %s", self.bind_url)

    def listen(self) -> None:
        """Bind the Hub's own address. One in use is reported with its user, as far as that can be known."""
        ssl_options = None
        if self.internal_ssl:
            from .net import make_ssl_context

            ssl_options = make_ssl_context(
                self.internal_ssl_key, self.internal_ssl_cert, cafile=self.internal_ssl_ca
            )
        self.http_server = HTTPServer(
            self.tornado_application, xheaders=True, ssl_options=ssl_options,
            trusted_downstream=list(self.trusted_downstream_ips),
        )
        bind = self.hub.bind_url
        try:
            if bind.startswith("http+unix"):
                from urllib.parse import unquote, urlsplit

                from tornado.netutil import bind_unix_socket

                path = unquote(urlsplit(bind).netloc)
                self.http_server.add_socket(bind_unix_socket(path, mode=self.hub_socket_mode))
            else:
                self.http_server.listen(self.hub.port, address=self.hub.ip)
        except OSError as error:
            from .proxy.processes import find_listener

            holder = find_listener(self.hub.port)
            self.fail(
                f"The Hub cannot listen on {bind}: {error.strerror or error}"
                f"{f'; the port is used by {holder}' if holder else ''}. Another port: JupyterHub.hub_port"
            )
        self.log.info("The Hub listens on %s", bind)

    async def start_proxy(self) -> None:
        from .proxy.base import ProxyFailedToStart

        try:
            if self.proxy.should_start:
                result = self.proxy.start()
                if result is not None:
                    await result
            await self.proxy.get_all_routes()
        except ProxyFailedToStart as error:
            self.fail(str(error))
        except Exception as error:
            self.log.exception("The proxy failed")
            self.fail(f"The proxy {type(self.proxy).__name__} cannot be reached: {error}")

    async def introduce_users(self) -> None:
        """Call `add_user` for every known user, where that can have an effect (ARCHITECTURE §2.3)."""
        from .runtime.introduction import introduce_users

        assert self.context is not None
        await introduce_users(self.context)

    def exit_after_failures(self, sentence: str) -> None:
        """Too many starts in a row failed: end without touching proxy and servers, so that a supervisor restarts us."""
        self.log.critical("%s; the Hub ends in %g s", sentence, FAILURE_EXIT_DELAY)
        asyncio.get_running_loop().call_later(FAILURE_EXIT_DELAY, os._exit, 1)

    def install_signal_handlers(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                loop.add_signal_handler(number, self.request_stop)
            except (NotImplementedError, RuntimeError, ValueError):
                # Not the main thread, or a system without signals: whoever runs us there ends us another way.
                return
        for name in ("SIGUSR1", "SIGINFO"):
            if hasattr(signal, name):
                loop.add_signal_handler(getattr(signal, name), self.print_status)

    def print_status(self) -> None:
        from .net import print_ps_info, print_stacks

        self.log.critical("Status of the Hub, as asked for by a signal")
        print_ps_info()
        print_stacks()

    def request_stop(self) -> None:
        """End the Hub in an orderly way; a second request changes nothing."""
        if self._ended is not None and not self._ended.is_set():
            self._ended.set()

    def stop(self) -> None:
        """The public name of `request_stop`, for tests and the shutdown API."""
        self.request_stop()

    async def cleanup(self) -> None:
        """Stop what is configured to be stopped, in reverse order of start-up (cli §1.8)."""
        context = self.context
        if context is None:
            return
        self.tornado_settings["shutting_down"] = True
        if self._service_map:
            await context.service_keeper.stop_all()
        if self.cleanup_servers:
            await context.servers.stop_all(SHUTDOWN_TIMEOUT)
        else:
            context.servers.let_go()
        if self.cleanup_proxy and self.proxy.should_start:
            result = self.proxy.stop()
            if result is not None:
                await result
        elif hasattr(self.proxy, "release"):
            self.proxy.release()
        if self.http_server is not None:
            self.http_server.stop()
        await context.background.drain(1 if self.cleanup_servers else 0)
        try:
            await context.activity.flush()
            await context.leases.unregister()
        except HubError as error:
            self.log.warning("At the end: %s", error)
        await context.background.close(5)
        context.database.close()
        if self.pid_file and os.path.exists(self.pid_file):
            os.remove(self.pid_file)
        self.log.info("The Hub has ended")

    async def run(self, argv: list[str] | None = None) -> None:
        """The whole life of a Hub process."""
        self._ended = asyncio.Event()
        await self.initialize(argv)
        if self.generate_config:
            self.write_config_file()
            return
        if self.generate_certs:
            self.load_configuration()
            self.internal_ssl = True
            self.init_internal_ssl()
            return
        await self.start()
        await self._ended.wait()
        await self.cleanup()

    def write_config_file(self) -> None:
        """Write every setting, explained and commented out, unless a file is in the way and nobody says yes."""
        from .commands import write_config_file

        write_config_file(self)

    @classmethod
    def launch_instance(cls, argv: list[str] | None = None, **kwargs: Any) -> None:
        """Run the application and end the process with its status."""
        app = cls.instance(**kwargs)
        argv = sys.argv[1:] if argv is None else argv
        if argv and argv[0] in cls.subcommands:
            app.subcommand_status(argv)
            return
        try:
            asyncio.run(app.run(argv))
        except (KeyboardInterrupt, asyncio.CancelledError):
            pass
        except TraitError as error:
            app.log.critical("A setting has a value that is not allowed: %s", error)
            sys.exit(1)
        sys.exit(app.exit_status)

    def subcommand_status(self, argv: list[str]) -> None:
        """Run `jupyterhub token` or `jupyterhub upgrade-db`."""
        command = self.subcommands[argv[0]][0]
        command.launch_instance(argv[1:])


main = JupyterHub.launch_instance

if __name__ == "__main__":
    main()
