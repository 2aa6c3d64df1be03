"""The application `jupyterhub`: reads its configuration, builds a Hub, runs it, ends it (cli §1)."""

import asyncio
import gc
import inspect
import logging
import os
import shlex
import signal
import ssl
import sys
import time
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.log import access_log, app_log, gen_log
from tornado.web import Application as WebApplication
from traitlets import Any as AnyTrait
from traitlets import Bool, Dict, Instance, Integer, List, TraitError, Unicode, default
from traitlets.config import Application
from traitlets.config.loader import LazyConfigValue

from . import wiring
from ._data import DATA_FILES_PATH
from ._version import __version__
from .aio import maybe_future
from .appconfig import (
    DatabaseSettings,
    LimitSettings,
    NetworkSettings,
    PageSettings,
    PeopleSettings,
    SecuritySettings,
    ServiceSettings,
)
from .appconfig.files import DEFAULT_CONFIG_FILE, ConfigurationFiles
from .auth import Authenticator, DummyAuthenticator, LocalAuthenticator, PAMAuthenticator
from .authenticators.shared import SharedPasswordAuthenticator
from .commands import NewToken, UpgradeDB, write_config_file
from .core.errors import HubError
from .core.urls import subdomain_hook_idna, url_path_join
from .crypto import CryptKeeper, EncryptionUnavailable
from .httpclient import JupyterHubHTTPClient
from .log import DEFAULT_DATE_FORMAT, DEFAULT_LOG_FORMAT, CoroutineLogFormatter
from .metrics import HUB_STARTUP_DURATION_SECONDS, PeriodicMetricsCollector
from .proxy import ConfigurableHTTPProxy, Proxy
from .runtime.context import HubContext
from .runtime.periodic import start_periodic_tasks
from .spawner import LocalProcessSpawner, SimpleLocalProcessSpawner, Spawner
from .store.database import Database

__all__ = ["DATA_FILES_PATH", "JupyterHub", "NewToken", "UpgradeDB", "app_log", "main", "subdomain_hook_idna"]

#: Seconds that everything the Hub stops at its own end may take together.
SHUTDOWN_TIMEOUT = 120.0
#: Seconds between the last straw of `consecutive_failure_limit` and the end.
FAILURE_EXIT_DELAY = 2.0
#: Seconds within which the proxy has to answer once it runs.
PROXY_ANSWER_TIMEOUT = 15.0
#: Allocations between two looks for garbage, of the youngest and of the older generations. Every start makes hundreds
#: of objects that are needed until it is over: Python's own 700 let each be looked at again and again.
GARBAGE_THRESHOLDS = (10_000, 20, 20)

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
    "upgrade-db": ({"JupyterHub": {"upgrade_db": True}}, "Bring an older database up to date first."),
    "no-ssl": ({"JupyterHub": {"confirm_no_ssl": True}}, "Deprecated and without effect."),
}

#: Deprecated settings of the Hub → those of the proxy that say the same.
OLD_PROXY_SETTINGS = {
    "proxy_cmd": "command",
    "debug_proxy": "debug",
    "proxy_auth_token": "auth_token",
    "proxy_check_interval": "check_running_interval",
}


class JupyterHub(
    NetworkSettings,
    DatabaseSettings,
    SecuritySettings,
    LimitSettings,
    PageSettings,
    PeopleSettings,
    ServiceSettings,
    ConfigurationFiles,
    Application,
):
    """A multi-user server for Jupyter: logs people in, starts a server for each, proxies them all.

    `initialize` calls the `init_…` methods in order, `start` what follows; a subclass may override one and call it with
    `super()`.
    """

    name = "jupyterhub"
    version = __version__
    description = "Log people in, start a Jupyter server for each of them, and bring them there."
    examples = """A configuration file to begin with, every setting explained:

    jupyterhub --generate-config -f /etc/jupyterhub/jupyterhub_config.py

Run a Hub by that file:

    jupyterhub -f /etc/jupyterhub/jupyterhub_config.py

Try it out on another port, below a path:

    jupyterhub --url=http://127.0.0.1:9000/hub-below/
"""
    classes = [
        Spawner,
        LocalProcessSpawner,
        SimpleLocalProcessSpawner,
        Authenticator,
        LocalAuthenticator,
        PAMAuthenticator,
        DummyAuthenticator,
        SharedPasswordAuthenticator,
        Proxy,
        ConfigurableHTTPProxy,
        CryptKeeper,
        JupyterHubHTTPClient,
        PeriodicMetricsCollector,
    ]
    aliases = Dict(ALIASES)
    flags = Dict(FLAGS)
    raise_config_file_errors = True
    subcommands = {
        "token": (NewToken, "Print a new API token for a user."),
        "upgrade-db": (UpgradeDB, "Bring the database up to date with this release."),
    }

    config_file = Unicode(DEFAULT_CONFIG_FILE, help="The configuration file.").tag(config=True)

    generate_config = Bool(
        False, help="Write a configuration file with every setting explained, and end. For the command line."
    ).tag(config=True)

    answer_yes = Bool(False, help="Overwrite an existing file with --generate-config without asking.").tag(config=True)

    pid_file = Unicode(help="A file for the number of the Hub's process; removed when the Hub is stopped.").tag(
        config=True
    )

    extra_log_file = Unicode(help="Deprecated: a second copy of the log. Redirect the output instead.").tag(config=True)

    extra_log_handlers = List(
        Instance(logging.Handler),
        help="Further handlers for the Hub's log. One without a formatter gets the Hub's.",
    ).tag(config=True)

    # What the steps of start-up make.
    authenticator: Any = AnyTrait(None, allow_none=True)
    proxy: Any = AnyTrait(None, allow_none=True)
    hub: Any = AnyTrait(None, allow_none=True)
    users: Any = AnyTrait(None, allow_none=True)
    eventlog: Any = AnyTrait(None, allow_none=True)
    oauth_provider: Any = AnyTrait(None, allow_none=True)
    http_server: Any = AnyTrait(None, allow_none=True)
    tornado_application: Any = AnyTrait(None, allow_none=True)
    handlers: Any = List()
    exit_status = Integer(0)
    _service_map = Dict()
    _log_formatter_cls = CoroutineLogFormatter  # type: ignore[assignment]

    def __init__(self, **kwargs: Any) -> None:
        self.context: HubContext | None = None
        self.database: Database | None = None
        self.configured_tornado_settings: dict[str, Any] = {}
        self.metrics_collector: PeriodicMetricsCollector | None = None
        self._ended: asyncio.Event | None = None
        self._running = False
        self._cleaned_up = False
        self._began = time.monotonic()
        super().__init__(**kwargs)

    @default("log_level")
    def _log_level_default(self) -> int:
        return logging.INFO

    @default("log_datefmt")
    def _log_datefmt_default(self) -> str:
        return DEFAULT_DATE_FORMAT

    @default("log_format")
    def _log_format_default(self) -> str:
        return DEFAULT_LOG_FORMAT

    def _add_event_logger(self) -> None:
        """Let help and generated files mention the event log, whose library is too heavy for everything else."""
        try:
            from jupyter_events import EventLogger
        except ImportError:
            return
        if EventLogger not in self.classes:
            self.classes = [*self.classes, EventLogger]

    def print_help(self, classes: bool = False) -> None:
        """Print the help for the command line, with `classes` that for every setting."""
        if classes:
            self._add_event_logger()
        super().print_help(classes)

    def generate_config_file(self, classes: Any = None) -> str:
        """Return a configuration file in which every setting is explained and commented out."""
        self._add_event_logger()
        return super().generate_config_file(classes)

    # Start-up, step by step

    async def initialize(self, argv: Any = None) -> None:  # type: ignore[override]
        """Do everything before `start`: configuration, database, people, web application."""
        self._began = time.monotonic()
        super().initialize(argv)
        if self.subapp:
            return
        if self.extra_args:
            hint = "a configuration file is given with -f" if os.path.isfile(self.extra_args[0]) else "see jupyterhub --help"
            self.fail(f"Not understood: {shlex.join(self.extra_args)}; {hint}")
        if self.generate_config:
            return
        self.load_configuration()
        self.init_logging()
        if self.generate_certs:
            return
        for step in (
            self.write_pid_file,
            self.log_versions,
            self.init_secrets,
            self.init_internal_ssl,
            self.init_db,
            self.init_hub,
            self.init_authenticator,
            self.init_proxy,
            self.init_people,
            self.init_eventlog,
            self.init_oauth,
            self.init_tornado_settings,
            self.init_handlers,
            self.init_tornado_application,
        ):
            await maybe_future(step())

    def init_logging(self) -> None:
        """Send what the Hub and its libraries log to one logger with all configured handlers."""
        self.log.propagate = False
        if self.extra_log_file:
            self.log.warning("JupyterHub.extra_log_file is deprecated: redirect the output instead")
            handler = logging.FileHandler(self.extra_log_file, encoding="utf-8")
            self.extra_log_handlers = [*self.extra_log_handlers, handler]
        formatter = self._log_formatter_cls(fmt=self.log_format, datefmt=self.log_datefmt)
        for handler in self.extra_log_handlers:
            if handler.formatter is None:
                handler.setFormatter(formatter)
            if handler not in self.log.handlers:
                self.log.addHandler(handler)
        if self.log.handlers:
            # What no handler wants is not even put together; one without a level wants everything.
            self.log.setLevel(max(1, min(handler.level for handler in self.log.handlers)))
        for library in (app_log, access_log, gen_log):
            library.name = self.log.name
        for logger in (app_log, access_log, gen_log, logging.getLogger("oauthlib"), logging.getLogger("jupyterhub")):
            logger.setLevel(self.log.level)
            logger.parent, logger.propagate = self.log, True

    def write_pid_file(self) -> None:
        """Write the number of this process to `pid_file`, over whatever is there."""
        if self.pid_file:
            Path(self.pid_file).write_text(str(os.getpid()), encoding="ascii")

    def log_versions(self) -> None:
        """Say which authenticator, spawner and proxy are used, and from which release of which package."""
        for role in ("authenticator", "spawner", "proxy"):
            try:
                cls = getattr(self, f"{role}_class")
            except TraitError as error:
                self.fail(self._explained(error))
                return
            package = cls.__module__.partition(".")[0]
            version = getattr(sys.modules.get(package), "__version__", "")
            self.log.info("Using %s: %s.%s%s", role, cls.__module__, cls.__name__, f"-{version}" if version else "")

    def init_secrets(self) -> None:
        """Find or make the key for cookies."""
        try:
            self.cookie_secret = wiring.load_cookie_secret(self)
        except ValueError as error:
            self.fail(error)
        except OSError as error:
            self.fail(
                f"The cookie secret cannot be read or written: {error}. Start the Hub in a directory that its account may "
                "write to, or choose another JupyterHub.cookie_secret_file"
            )

    def init_internal_ssl(self) -> None:
        """Make or load the internal certificates, if internal TLS is on."""
        if self.internal_ssl:
            from .runtime.certificates import prepare_internal_tls

            try:
                prepare_internal_tls(self)
            except (OSError, ValueError) as error:
                self.fail(f"The certificates of JupyterHub.internal_ssl cannot be had: {error}")

    def init_db(self) -> None:
        """Open the database. A schema that is not ours is refused untouched."""
        options = dict(self.db_kwargs)
        if self.debug_db:
            options.setdefault("echo", True)
        try:
            self.database = Database.open(
                self.db_url, engine_kwargs=options, upgrade=self.upgrade_db, reset=self.reset_db
            )
        except HubError as error:
            self.fail(error)
            return
        except OSError as error:
            self.fail(
                f"The database cannot be opened: {error}. Its directory has to be there, and the Hub's account has to be "
                "allowed to write to it; JupyterHub.db_url says where it is"
            )
            return
        if self.context is None:
            self.configured_tornado_settings = dict(self.tornado_settings)
            self.tornado_settings = {}
            self.context = wiring.build_context(self, self.database)
            self.users = wiring.new_user_dict(self)
            self.tornado_settings.update(context=self.context, users=self.users, log=self.log)

    @property
    def db(self) -> Any:
        """The session that plugins share; made on first use."""
        if self.database is None:
            raise RuntimeError("The database is not open yet")
        return self.database.plugin_session

    @property
    def session_factory(self) -> Any:
        """A function that returns `db`, as plugins' tests call it."""
        return lambda: self.db

    def init_hub(self) -> None:
        """Work out where the Hub listens and how others reach it."""
        self.hub = wiring.build_hub(self)

    def init_authenticator(self) -> None:
        """Make the authenticator, see that it can keep its state, and put the configured names in order."""
        try:
            self.authenticator = self.authenticator_class(parent=self)
        except (TraitError, ValueError) as error:
            self.fail(self._explained(error))
        if not CryptKeeper.initialized():
            CryptKeeper.instance(parent=self)
        if self.authenticator.enable_auth_state:
            try:
                CryptKeeper.instance().check_available()
            except EncryptionUnavailable as error:
                self.fail(
                    "Authenticator.enable_auth_state needs a key: set the environment variable JUPYTERHUB_CRYPT_KEY or "
                    f"CryptKeeper.keys. {error}"
                )
        wiring.prepare_named_users(self)

    def init_proxy(self) -> None:
        """Make the object that controls the proxy; nothing is started."""
        self._hand_on_old_proxy_settings()
        try:
            self.proxy = self.proxy_class(
                hub=self.hub,
                public_url=self.bind_url,
                host_routing=bool(self.subdomain_host),
                ssl_key=self.ssl_key,
                ssl_cert=self.ssl_cert,
                app=self,
                parent=self,
                log=self.log,
                db_factory=lambda: self.db,
            )
        except (TraitError, ValueError) as error:
            self.fail(self._explained(error))

    def _hand_on_old_proxy_settings(self) -> None:
        handed_on: dict[str, Any] = {}
        for old, new in OLD_PROXY_SETTINGS.items():
            if old in self.config.get("JupyterHub", {}):
                self.log.warning("JupyterHub.%s is deprecated: use ConfigurableHTTPProxy.%s", old, new)
                handed_on[new] = getattr(self, old)
        if self.proxy_api_ip or self.proxy_api_port:
            self.log.warning(
                "JupyterHub.proxy_api_ip and proxy_api_port are deprecated: use ConfigurableHTTPProxy.api_url"
            )
            handed_on["api_url"] = f"http://{self.proxy_api_ip or '127.0.0.1'}:{self.proxy_api_port or 8001}"
        for name, value in handed_on.items():
            self.config.ConfigurableHTTPProxy.setdefault(name, value)

    async def init_people(self) -> None:
        """Store roles, users, groups, services and tokens as configured, in one transaction."""
        assert self.context is not None
        self.authenticator.check_allow_config()
        try:
            managed: list[dict[str, Any]] = []
            if self.authenticator.manage_roles:
                managed = list(await self.authenticator.load_managed_roles())
            self._service_map = wiring.build_services(self)
            self.config_role_names = [role["name"] for role in self.load_roles]
            wiring.provision(self, self.context, managed)
            wiring.check_server_names(self, self.context)
        except (HubError, TraitError, KeyError, ValueError, NotImplementedError) as error:
            missing_key = isinstance(error, KeyError) and not isinstance(error, HubError)
            text = f"a definition lacks the key {error}" if missing_key else str(error)
            self.fail(f"The configured roles, users, groups or services are not possible: {text}")

    def init_eventlog(self) -> None:
        """Make the event log where one is configured. Others do not pay the second its import takes."""
        handlers = self.config.get("EventLogger", {}).get("handlers")
        if not handlers or isinstance(handlers, LazyConfigValue):
            return
        from .runtime.eventlog import make_event_logger

        self.eventlog = make_event_logger(self)

    def init_oauth(self) -> None:
        """Make the OAuth provider."""
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
        return [(url_path_join(prefix, path), *rest) for path, *rest in handlers]

    def init_handlers(self) -> None:
        """List all handlers, first match wins (plugins §6.1)."""
        self.handlers = wiring.build_handlers(self)

    def init_tornado_application(self) -> None:
        """Make the web application over the live settings."""
        self.tornado_application = WebApplication(self.handlers, **self.tornado_settings)
        # Tornado copies what it is given; ours has to stay the one dictionary that everybody patches.
        for name, value in self.tornado_application.settings.items():
            self.tornado_settings.setdefault(name, value)
        self.tornado_application.settings = self.tornado_settings

    # Running

    async def start(self) -> None:  # type: ignore[override]
        """Take over servers, listen, start proxy, services and periodic tasks. Returns when all of that runs."""
        assert self.context is not None
        context = self.context
        context.leases.register(self.hub.api_url)
        context.servers.failures.on_limit = self.exit_after_failures
        wiring.prepare_http_client(self)
        wiring.tell_limits(self)
        await wiring.take_over_servers(self, context)
        self.listen()
        await self.start_proxy()
        try:
            await context.service_keeper.start_all()
        except HubError as error:
            self.fail(error)
        await context.routes.check()
        start_periodic_tasks(context)
        self.metrics_collector = PeriodicMetricsCollector(
            parent=self, count_active_users=wiring.active_users_counter(context)
        )
        self.metrics_collector.start()
        if self.service_check_interval > 0 and any(service.url for service in self._service_map.values()):
            context.background.repeat(
                context.service_keeper.check_all, every=self.service_check_interval, name="check services"
            )
        context.background.start(self.introduce_users(), name="introduce users to the authenticator")
        self.install_signal_handlers()
        HUB_STARTUP_DURATION_SECONDS.observe(time.monotonic() - self._began)
        self.log.info("JupyterHub is now running at %s", self.bind_url)

    def listen(self) -> None:
        """Listen on the Hub's own address. Ends with status 1 and a word about who is there when it is taken."""
        ssl_options = None
        if self.internal_ssl:
            from .net import make_ssl_context

            ssl_options = make_ssl_context(
                self.internal_ssl_key,
                self.internal_ssl_cert,
                cafile=self.internal_ssl_ca,
                purpose=ssl.Purpose.CLIENT_AUTH,
            )
        self.http_server = HTTPServer(
            self.tornado_application,
            xheaders=True,
            ssl_options=ssl_options,
            trusted_downstream=list(self.trusted_downstream_ips),
        )
        try:
            wiring.bind(self, self.http_server)
        except OSError as error:
            self.fail(wiring.explain_bind_error(self, error))
        self.log.info("The Hub listens on %s", self.hub.bind_url)

    async def start_proxy(self) -> None:
        """Start or adopt the proxy if it is ours to start, and see that it answers."""
        from .proxy.base import ProxyFailedToStart

        proxy = type(self.proxy).__name__
        try:
            if self.proxy.should_start:
                await maybe_future(self.proxy.start())
            await asyncio.wait_for(self.proxy.get_all_routes(), PROXY_ANSWER_TIMEOUT)
        except ProxyFailedToStart as error:
            self.fail(error)
        except (asyncio.TimeoutError, TimeoutError):
            self.fail(f"The proxy ({proxy}) does not answer within {PROXY_ANSWER_TIMEOUT:g} s. Is it running?")
        except Exception as error:
            self.log.debug("The proxy failed", exc_info=True)
            self.fail(f"The proxy ({proxy}) cannot be used: {error}")

    async def introduce_users(self) -> None:
        """Call `add_user` for every known user, where that can have an effect (ARCHITECTURE §2.3)."""
        from .runtime.introduction import introduce_users

        assert self.context is not None
        await introduce_users(self.context)

    def exit_after_failures(self, sentence: str) -> None:
        """End without touching proxy and servers after too many failed starts: a supervisor starts us anew."""
        self.log.critical("%s; the Hub ends in %g s", sentence, FAILURE_EXIT_DELAY)
        asyncio.get_running_loop().call_later(FAILURE_EXIT_DELAY, os._exit, 1)

    def install_signal_handlers(self) -> None:
        """End in an orderly way on SIGTERM and SIGINT, tell what goes on on SIGUSR1."""
        loop = asyncio.get_running_loop()
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.request_stop)
            for name in ("SIGUSR1", "SIGINFO"):
                if hasattr(signal, name):
                    loop.add_signal_handler(getattr(signal, name), self.print_status)
        except (NotImplementedError, RuntimeError, ValueError):
            # Not the main thread, or a system without signals: whoever runs us there ends us another way.
            self.log.debug("Signals are left to whoever runs this loop")

    def print_status(self) -> None:
        """Print what this process is doing."""
        from .diagnostics import print_ps_info, print_stacks

        self.log.critical("Somebody sent a signal to know what the Hub is doing")
        print_ps_info()
        print_stacks()

    # The end

    def request_stop(self) -> None:
        """End the Hub in an orderly way; a second request changes nothing."""
        if self._ended is not None:
            self._ended.set()

    def stop(self) -> None:
        """Stop answering, and let `run` clean up."""
        if self.http_server is not None:
            self.http_server.stop()
        self.request_stop()

    async def shutdown_cancel_tasks(self, sig: Any = None) -> None:
        """Clean up as a signal would make us, for whoever runs the loop."""
        if sig is not None:
            self.log.info("Received signal %s, ending", getattr(sig, "name", sig))
        await self.cleanup()
        self.stop()

    async def cleanup(self) -> None:
        """Stop what is configured to be stopped, in reverse order of start-up (cli §1.8). Does it once."""
        context = self.context
        if context is None or self._cleaned_up:
            return
        self._cleaned_up = True
        self.tornado_settings["shutting_down"] = True
        if self.metrics_collector is not None:
            await self.metrics_collector.stop()
        await self._stop_what_runs(context)
        if self.http_server is not None:
            self.http_server.stop()
        await context.background.drain(1 if self.cleanup_servers else 0)
        try:
            await context.activity.flush()
            await context.leases.unregister()
        except HubError as error:
            self.log.warning("At the end: %s", error)
        await context.background.close(5)
        await wiring.close_http_client()
        context.database.close()
        if self.pid_file:
            Path(self.pid_file).unlink(missing_ok=True)
        self.log.info("The Hub has ended")

    async def _stop_what_runs(self, context: HubContext) -> None:
        async def logged(what: str, work: Any) -> None:
            try:
                await maybe_future(work())
            except Exception:
                self.log.exception("At the end, %s failed", what)

        if self._service_map:
            await logged("stopping the services", context.service_keeper.stop_all)
        if self.cleanup_servers:
            await logged("stopping the servers", lambda: context.servers.stop_all(SHUTDOWN_TIMEOUT))
        else:
            context.servers.let_go()
        if self.proxy is not None and self.proxy.should_start:
            if self.cleanup_proxy:
                await logged("stopping the proxy", self.proxy.stop)
            elif hasattr(self.proxy, "release"):
                self.proxy.release()

    # The whole

    async def run(self, argv: Any = None) -> None:
        """Live the whole life of a Hub process."""
        self._ended = asyncio.Event()
        # What a start makes lives as long as the process: looking through it for garbage, now and later, is in vain.
        gc.disable()
        try:
            await self._run_until_started(argv)
        finally:
            gc.enable()
        if not self._running:
            return
        # Looking at the servers that were found left garbage, each connection a circle: not to be kept with the rest.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        await self._ended.wait()
        await self.cleanup()

    async def _run_until_started(self, argv: Any) -> None:
        await self.initialize(argv)
        if self.generate_config:
            write_config_file(self)
            return
        if self.generate_certs:
            self._write_certificates()
            return
        # Modules and configuration stay: whoever collects garbage after the start need not look through them.
        gc.freeze()
        # With --show-config this is a plain function that prints.
        started = self.start()
        if not inspect.isawaitable(started):
            if self.database is not None:
                self.database.close()
            return
        await started
        self._running = True

    def _write_certificates(self) -> None:
        from .runtime.certificates import prepare_internal_tls

        if not self.internal_ssl:
            self.log.warning("Certificates are made, and not used while JupyterHub.internal_ssl is False")
        prepare_internal_tls(self)

    @classmethod
    def launch_instance(cls, argv: Any = None, **kwargs: Any) -> None:
        """Run the application and end the process with its status."""
        argv = sys.argv[1:] if argv is None else list(argv)
        if argv and argv[0] in cls.subcommands:
            cls.subcommands[argv[0]][0].launch_instance(argv[1:])
            return
        app = cls.instance(**kwargs)
        try:
            asyncio.run(app.run(argv))
        except (KeyboardInterrupt, asyncio.CancelledError):
            sys.exit(1)
        except TraitError as error:
            app.log.critical("%s", app._explained(error))
            sys.exit(1)
        except HubError as error:
            app.log.critical("%s", error)
            sys.exit(1)
        except Exception:
            app.log.exception("The Hub failed")
            sys.exit(1)
        sys.exit(app.exit_status)


main = JupyterHub.launch_instance

if __name__ == "__main__":
    main()
