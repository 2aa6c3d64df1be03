"""Composition root: from settings to a running Hub, in order, with clean-up in reverse.

Each function is one step; `app.JupyterHub` calls them from its `init_…` methods, so that subclasses may replace one.
"""

from __future__ import annotations

import binascii
import errno
import logging
import os
import secrets as random_secrets
import stat
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from .aio import BackgroundTasks
from .core.clock import utcnow
from .core.errors import HubError, InvalidDefinition
from .core.scopes.catalogue import define_custom_scopes
from .core.urls import url_path_join
from .metrics import TOTAL_USERS
from .net import make_ssl_context
from .objects import Hub
from .runtime.access import Access
from .runtime.activity import ActivityBook
from .runtime.bulletin import Bulletin
from .runtime.context import HubContext
from .runtime.directory import Directory
from .runtime.leases import Leases
from .runtime.logins import Logins
from .runtime.recovery import Recovery
from .runtime.reporting import Reporting
from .runtime.routes import RouteKeeper
from .runtime.servers import ServerManager
from .runtime.service_registry import new_service, take_over_services
from .runtime.services import ServiceKeeper
from .runtime.tokens import Tokens
from .services.service import Service
from .spawning.limited import limit_notes
from .store import provisioning, server_names
from .store import users as user_store
from .store.database import Change, Database
from .user import UserDict

if TYPE_CHECKING:
    from tornado.httpserver import HTTPServer

    from .app import JupyterHub

COOKIE_SECRET_BYTES = 32


def build_context(app: JupyterHub, database: Database) -> HubContext:
    """Construct the runtime over the live settings dictionary of the application."""
    context = HubContext(app.tornado_settings)
    context.database = database
    context.background = BackgroundTasks(app.log)
    context.reporting = Reporting(context)
    context.access = Access(context)
    context.activity = ActivityBook(context)
    context.bulletin = Bulletin()
    context.directory = Directory(context)
    context.leases = Leases(context)
    context.logins = Logins(context)
    context.routes = RouteKeeper(context)
    context.servers = ServerManager(context)
    context.service_keeper = ServiceKeeper(context)
    context.tokens = Tokens(context)
    database.subscribe(lambda changes: follow_changes(context, changes))
    return context


def follow_changes(context: HubContext, changes: frozenset[Change]) -> None:
    """Drop what caches believe about rows that were changed, whoever changed them."""
    access = context.access
    for change in changes:
        table = change.table
        if table == "users":
            if change.id is None:
                access.forget_all()
            else:
                access.forget_user(change.id)
                _reload_later(context, change)
        elif table in ("api_tokens", "shares", "services"):
            if change.id is None or table != "api_tokens":
                access.forget_all()
            else:
                access.forget_token(change.id)
        elif table in ("roles", "groups", "*"):
            access.forget_all()


def _reload_later(context: HubContext, change: Change) -> None:
    """A plugin changed a user's row: the wrapper's values follow."""
    user = context.users.cached(change.id) if change.id is not None else None
    if user is not None and change.by_plugin and not change.deleted:
        context.background.start(context.directory.reload(user), name=f"reload {user.name}")


# Secrets


def load_cookie_secret(app: JupyterHub) -> bytes:
    """Return the key for cookies: setting, environment, file, or a new one that is written to the file (config §6.1).

    Raises ValueError naming the file when others can read it or it holds something else.
    """
    secret = bytes(app.cookie_secret) or _secret_from_environment() or _secret_from_file(app) or _new_secret(app)
    if len(secret) > COOKIE_SECRET_BYTES:
        app.log.warning(
            "The cookie secret has %i bytes; more than %i make nothing safer", len(secret), COOKIE_SECRET_BYTES
        )
    return secret


def _secret_from_environment() -> bytes:
    try:
        return bytes.fromhex(os.environ.get("JPY_COOKIE_SECRET", ""))
    except ValueError:
        raise ValueError(
            "The environment variable JPY_COOKIE_SECRET has to hold hexadecimal digits, such as `openssl rand -hex 32` "
            "makes"
        ) from None


def _secret_path(app: JupyterHub) -> str:
    return os.path.abspath(os.path.expanduser(app.cookie_secret_file))


def _secret_from_file(app: JupyterHub) -> bytes:
    path = _secret_path(app)
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        return b""
    if mode & 0o007:
        raise ValueError(
            f"Everybody on this machine can read or change the cookie secret {path} (mode {mode:04o}). Make it private "
            f"with: chmod 600 {path}"
        )
    text = Path(path).read_text(encoding="ascii", errors="replace").strip()
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        app.log.warning("The cookie secret %s is not in hexadecimal digits; reading it as base64", path)
        try:
            secret = binascii.a2b_base64(text)
        except ValueError:
            secret = b""
    if not secret:
        raise ValueError(f"The file {path} holds no cookie secret. Delete it to get a new one, which logs all out")
    return secret


def _new_secret(app: JupyterHub) -> bytes:
    path = _secret_path(app)
    secret = random_secrets.token_bytes(COOKIE_SECRET_BYTES)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secret.hex() + "\n")
    app.log.info("Wrote a new cookie secret to %s", path)
    return secret


# Addresses


def build_hub(app: JupyterHub) -> Hub:
    """Return the Hub's own address as proxy and servers see it (config §4.2)."""
    arguments: dict[str, Any] = {
        "base_url": app.hub_prefix,
        "routespec": app.hub_routespec,
        "public_host": app.subdomain_host,
    }
    if app.hub_bind_url:
        parts = urlsplit(app.hub_bind_url)
        arguments["bind_url"] = f"{parts.scheme}://{parts.netloc}{app.hub_prefix}"
    else:
        arguments.update(ip=app.hub_ip, port=app.hub_port)
    hub = Hub(**arguments)
    if app.internal_ssl and not hub.proto.endswith("+unix"):
        hub.proto = "https"
    if app.hub_connect_ip:
        hub.connect_ip = app.hub_connect_ip
    if app.hub_connect_port:
        app.log.warning("JupyterHub.hub_connect_port is deprecated: use hub_connect_url")
        hub.connect_port = app.hub_connect_port
    if app.hub_connect_url:
        parts = urlsplit(app.hub_connect_url)
        hub.connect_url = f"{'https' if app.internal_ssl else parts.scheme}://{parts.netloc}{app.hub_prefix}"
    return hub


def bind(app: JupyterHub, server: HTTPServer) -> None:
    """Listen on the Hub's own address. Raises OSError."""
    if not app.hub.bind_url.startswith("http+unix"):
        server.listen(app.hub.port, address=app.hub.ip)
        return
    from tornado.netutil import bind_unix_socket

    server.add_socket(bind_unix_socket(_socket_path(app), mode=app.hub_socket_mode))


def _socket_path(app: JupyterHub) -> str:
    return unquote(urlsplit(app.hub.bind_url).netloc)


def explain_bind_error(app: JupyterHub, error: OSError) -> str:
    """Return why the Hub cannot listen, with whoever listens there instead, as far as that can be known."""
    from .proxy.processes import listening_problem

    if app.hub.bind_url.startswith("http+unix"):
        return f"The Hub cannot listen on the socket {_socket_path(app)}: {error}"
    problem = listening_problem(app.hub.ip, app.hub.port) or str(error)
    setting = "hub_port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "hub_ip"
    return f"The Hub cannot listen on {app.hub.bind_url}. {problem}. Choose another with JupyterHub.{setting}"


# Provisioning


def build_services(app: JupyterHub) -> dict[str, Service]:
    """Return the configured services by name. Raises InvalidDefinition for an entry with a mistake."""
    services: dict[str, Service] = {}
    allowed = sorted(Service.class_traits(input=True))
    for entry in app.services:
        if "name" not in entry:
            raise InvalidDefinition(f"JupyterHub.services: an entry has no name: {entry!r}")
        unknown = sorted(set(entry) - set(allowed))
        if unknown:
            raise InvalidDefinition(
                f"JupyterHub.services: service {entry['name']!r} has unknown keys {', '.join(unknown)}; "
                f"allowed are {', '.join(allowed)}"
            )
        if entry["name"] in services:
            raise InvalidDefinition(f"JupyterHub.services: service {entry['name']!r} is there twice")
        services[entry["name"]] = make_service(app, entry)
    return services


def make_service(app: Any, entry: dict[str, Any]) -> Service:
    """Return one service from its definition."""
    service = new_service(app, entry)
    if entry.get("admin"):
        app.log.warning(
            "Service %s: 'admin' is deprecated; give it the role 'admin' in JupyterHub.load_roles", service.name
        )
    return service


def wanted_provisioning(app: JupyterHub, managed_roles: list[dict[str, Any]]) -> provisioning.Provisioning:
    """Return everything the configuration asks of the database, with names of users normalised (rbac §6)."""
    authenticator = app.authenticator
    for warning in define_custom_scopes(app.custom_scopes):
        app.log.warning("%s", warning)
    if authenticator.manage_groups and app.load_groups:
        raise InvalidDefinition("JupyterHub.load_groups has no place beside Authenticator.manage_groups")
    roles = [dict(role) for role in app.load_roles]
    for role in roles:
        if authenticator.manage_roles and (role.get("users") or role.get("groups")):
            raise InvalidDefinition(
                f"Role {role.get('name')!r} lists users or groups; with Authenticator.manage_roles only log-ins do that"
            )
        if role.get("users"):
            role["users"] = [authenticator.normalize_username(name) for name in role["users"]]
    groups: dict[str, dict[str, Any]] = {}
    for name, value in app.load_groups.items():
        if isinstance(value, (list, set, tuple)):
            app.log.warning("JupyterHub.load_groups: write group %r as {'users': [...]}", name)
            value = {"users": list(value)}
        groups[name] = dict(value)
        groups[name]["users"] = [authenticator.normalize_username(user) for user in value.get("users") or ()]
    keeper = ServiceKeeper.definition
    services = []
    for service in app._service_map.values():
        scopes = list(service.oauth_client_allowed_scopes)
        if not scopes and service.oauth_roles:
            defined = {role["name"]: role.get("scopes") or [] for role in roles}
            scopes = [scope for name in service.oauth_roles for scope in defined.get(name, [])]
        services.append(keeper(service, scopes))
    if app.api_tokens:
        app.log.warning("JupyterHub.api_tokens is deprecated: use a service with an api_token, and load_roles")
    return provisioning.Provisioning(
        roles=roles,
        extra_user_scopes=set(app.extra_user_scopes),
        managed_roles=managed_roles,
        reset_managed_roles=bool(authenticator.reset_managed_roles_on_startup),
        admin_users=_names(app, "admin_users", authenticator.admin_users),
        allowed_users=_names(app, "allowed_users", authenticator.allowed_users),
        blocked_users=_names(app, "blocked_users", authenticator.blocked_users),
        groups=groups,
        services=services,
        user_tokens={token: authenticator.normalize_username(name) for token, name in app.api_tokens.items()},
        service_tokens=dict(app.service_tokens),
        trust_provided_tokens=app.trust_user_provided_tokens,
    )


def _names(app: JupyterHub, setting: str, names: Any) -> list[str]:
    found = []
    for name in sorted(names):
        normal = app.authenticator.normalize_username(name)
        if not app.authenticator.validate_username(normal):
            raise InvalidDefinition(f"Authenticator.{setting}: {name!r} is not a valid user name")
        found.append(normal)
    return found


def prepare_named_users(app: JupyterHub) -> None:
    """Normalise the names in the authenticator's sets; admins may log in where there is a list (config §8.1)."""
    authenticator = app.authenticator
    context = app.context

    async def knows(name: str) -> bool:
        return context is not None and await context.directory.find(name) is not None

    authenticator._knows_user = knows
    if app.admin_users and not authenticator.admin_users:
        app.log.warning("JupyterHub.admin_users is deprecated: use Authenticator.admin_users")
        authenticator.admin_users = set(app.admin_users)
    admins = {authenticator.normalize_username(name) for name in authenticator.admin_users}
    authenticator.blocked_users = {authenticator.normalize_username(name) for name in authenticator.blocked_users}
    authenticator.admin_users = admins
    allowed = {authenticator.normalize_username(name) for name in authenticator.allowed_users}
    if allowed:
        # Reading it first keeps the default of allow_existing_users, which follows from a list being given.
        _ = authenticator.allow_existing_users
        allowed |= admins
    authenticator.allowed_users = allowed


def provision(app: JupyterHub, context: HubContext, managed_roles: list[dict[str, Any]]) -> list[str]:
    """Store what is configured. Returns the names of users that are new."""
    done = context.database.run_sync(provisioning.provision, wanted_provisioning(app, managed_roles))
    for warning in done.warnings:
        app.log.warning("%s", warning)
    take_over_services(app, context)
    TOTAL_USERS.set(done.user_count)
    return done.created_users


def tell_limits(app: JupyterHub) -> None:
    """Say once, loudly where it is bad news, whether the configured limits of servers are enforced."""
    for is_warning, text in limit_notes(app.spawner_class, app.config):
        app.log.log(logging.WARNING if is_warning else logging.INFO, "Limits of servers: %s", text)


# The web application


def tornado_settings(app: JupyterHub) -> dict[str, Any]:
    """Return the settings of the web application (plugins §6.4); the configured ones win."""
    from .log import log_request
    from .web.templates import build_environments

    own_templates = os.path.join(app.data_files_path, "templates")
    environment, environment_sync = build_environments(
        app.template_paths, own_templates, app.jinja_environment_options
    )
    authenticator = app.authenticator
    # Everybody begins at the Hub's own page; it leads to the authenticator's, if that has another.
    login_url = url_path_join(app.hub_prefix, "login")
    logout_url = authenticator.logout_url(app.hub_prefix)
    version_hash = datetime.now(timezone.utc).strftime("%Y%m%d%H%M%S")
    settings: dict[str, Any] = {
        "log_function": log_request,
        "log": app.log,
        "app": app,
        "config": app.config,
        "hub": app.hub,
        "proxy": app.proxy,
        "users": app.users,
        "services": app._service_map,
        "authenticator": authenticator,
        "spawner_class": app.spawner_class,
        "db": _LazySession(app),
        "base_url": app.base_url,
        "hub_prefix": app.hub_prefix,
        "default_url": app.default_url,
        "default_server_name": app.default_server_name,
        "redirect_to_server": app.redirect_to_server,
        "user_redirect_hook": app.user_redirect_hook,
        "cookie_secret": app.cookie_secret,
        "cookie_max_age_days": app.cookie_max_age_days,
        "cookie_host_prefix_enabled": app.cookie_host_prefix_enabled,
        "login_url": login_url,
        "logout_url": logout_url,
        "static_path": os.path.join(app.data_files_path, "static"),
        "static_url_prefix": url_path_join(app.hub_prefix, "static/"),
        "template_path": app.template_paths,
        "template_vars": app.template_vars,
        "jinja2_env": environment,
        "jinja2_env_sync": environment_sync,
        "version_hash": version_hash,
        "subdomain_host": app.subdomain_host,
        "domain": app.domain,
        "subdomain_hook": app.subdomain_hook,
        "public_url": urlsplit(app.public_url) if app.public_url else "",
        "allow_named_servers": app.allow_named_servers,
        "allow_existing_invalid_named_servers": app.allow_existing_invalid_named_servers,
        "named_server_limit_per_user": app.named_server_limit_per_user,
        "concurrent_spawn_limit": app.concurrent_spawn_limit,
        "active_server_limit": app.active_server_limit,
        "spawn_throttle_retry_range": tuple(app.spawn_throttle_retry_range),
        "activity_resolution": app.activity_resolution,
        "last_activity_interval": app.last_activity_interval,
        "admin_access": app.admin_access,
        "authenticate_prometheus": app.authenticate_prometheus,
        "internal_ssl": app.internal_ssl,
        "internal_certs_location": app.internal_certs_location,
        "internal_ssl_key": app.internal_ssl_key,
        "internal_ssl_cert": app.internal_ssl_cert,
        "internal_ssl_ca": app.internal_ssl_ca,
        "internal_trust_bundles": app.internal_trust_bundles,
        "trusted_alt_names": app.trusted_alt_names,
        "shutdown_on_logout": app.shutdown_on_logout,
        "implicit_spawn_seconds": app.implicit_spawn_seconds,
        "oauth_no_confirm_list": {
            service.oauth_client_id for service in app._service_map.values() if service.oauth_no_confirm
        },
        "oauth_token_expires_in": app.oauth_token_expires_in,
        "oauth_require_pkce": app.oauth_require_pkce,
        "token_expires_in_max_seconds": app.token_expires_in_max_seconds,
        "api_page_default_limit": app.api_page_default_limit,
        "api_page_max_limit": app.api_page_max_limit,
        "use_legacy_stopped_server_status_code": app.use_legacy_stopped_server_status_code,
        "eventlog": app.eventlog,
        "xsrf_cookies": True,
        "xsrf_cookie_kwargs": {"path": app.hub_prefix},
        "config_role_names": app.config_role_names,
        "failure_count": 0,
        "started_at": time.time(),
    }
    configured = dict(app.configured_tornado_settings)
    # The Hub's own values are where the configured ones say nothing.
    settings.update(configured)
    settings["cookie_options"] = dict(configured.get("cookie_options") or {})
    if "xsrf_cookie_kwargs" in configured:
        settings["xsrf_cookie_kwargs"] = {"path": app.hub_prefix, **configured["xsrf_cookie_kwargs"]}
    return settings


class _LazySession:
    """The plugins' session, made when somebody first asks something of it."""

    def __init__(self, app: Any) -> None:
        object.__setattr__(self, "_app", app)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app.db, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._app.db, name, value)

    def __iter__(self) -> Any:
        return iter(self._app.db)

    def __contains__(self, row: object) -> bool:
        return row in self._app.db


def build_handlers(app: JupyterHub) -> list[Any]:
    """Return all handlers as a flat list of tuples, first match wins (plugins §6.1)."""
    from . import apihandlers, handlers
    from .apihandlers.base import API404
    from .handlers.base import AddSlashHandler, PrefixRedirectHandler, Template404
    from .handlers.static import CacheControlStaticFilesHandler, LogoHandler

    hub_handlers: list[Any] = []
    own_login, own_logout = False, False
    for handler in app.authenticator.get_handlers(app):
        hub_handlers.append(handler)
        own_login = own_login or handler[0] == "/login"
        own_logout = own_logout or handler[0] == "/logout"
    hub_handlers += handlers.default_handlers
    hub_handlers += apihandlers.default_handlers
    hub_handlers += app.extra_handlers
    hub_handlers.append((r"/logo", LogoHandler, {"path": app.logo_file}))
    hub_handlers.append((r"/api/(.*)", API404))
    found = app.add_url_prefix(app.hub_prefix, hub_handlers)
    found += [
        (
            url_path_join(app.hub_prefix, r"static/(.*)"),
            CacheControlStaticFilesHandler,
            {"path": os.path.join(app.data_files_path, "static")},
        ),
        (rf"{app.base_url}((?:user|services)/[^/]+)", AddSlashHandler),
        (rf"(?!{app.hub_prefix}).*", PrefixRedirectHandler),
        (r"(.*)", Template404),
    ]
    return found


# Servers


async def take_over_servers(app: JupyterHub, context: HubContext) -> None:
    """Take over what an earlier Hub process left; looking at each goes on in the background."""
    recovery = Recovery(context)
    handles = await recovery.take_over()
    if handles:
        context.log.info("%i servers were active when the last Hub ended; looking at them", len(handles))

    async def settle() -> None:
        await recovery.settle_all(handles)
        await stop_servers_of_blocked(context)
        await context.routes.check()

    context.settings["recovery"] = recovery
    context.background.start(settle(), name="look at servers after the restart")


async def stop_servers_of_blocked(context: HubContext) -> None:
    """Stop what runs for people who may no longer log in (config §8.3)."""
    blocked = set(context.authenticator.blocked_users)
    for handle in context.servers.active_handles() if blocked else ():
        if handle.user.name in blocked:
            try:
                await context.servers.stop(handle.user, handle.name, why="its owner is blocked")
            except HubError as error:
                context.log.warning("The server %s of a blocked user is not stopped: %s", handle.log_name, error)


def check_server_names(app: JupyterHub, context: HubContext) -> None:
    """Do with named servers of older releases what is configured; their names may not be possible today (config §11).

    Raises InvalidDefinition for one that has a display name as well, which no release of JupyterHub makes.
    """
    if not app.allow_named_servers:
        return
    rename = app.allow_existing_invalid_named_servers == "autorename"
    found = context.database.run_sync(server_names.check, rename=rename)
    for text in found.renamed:
        app.log.warning("Named server renamed: %s", text)
    for text in found.running:
        app.log.error("Named server %s has a name that is no longer possible, and is not renamed while it runs", text)
    for text in found.kept:
        app.log.warning(
            "Named server %s has a name that is no longer possible; allow_existing_invalid_named_servers = %r applies",
            text, app.allow_existing_invalid_named_servers,
        )


def active_users_counter(context: HubContext) -> Callable[[timedelta], Awaitable[int]]:
    """Return a coroutine function from a period to how many users were active within it."""

    async def count(period: timedelta) -> int:
        return await context.database.read(user_store.count_active_since, utcnow() - period)

    return count


def prepare_http_client(app: JupyterHub) -> None:
    """Give the client that plugins may use the Hub's certificate, where servers and proxy ask for one."""
    from .httpclient import JupyterHubHTTPClient

    if app.internal_ssl and not JupyterHubHTTPClient.initialized():
        context = make_ssl_context(app.internal_ssl_key, app.internal_ssl_cert, cafile=app.internal_ssl_ca)
        JupyterHubHTTPClient.instance(parent=app, ssl_context=context)


async def close_http_client() -> None:
    """Close the connections of the client that plugins may have used."""
    module = sys.modules.get("jupyterhub.httpclient")
    if module is not None and module.JupyterHubHTTPClient.initialized():
        await module.JupyterHubHTTPClient.instance().close()
        module.JupyterHubHTTPClient.clear_instance()


def new_user_dict(app: JupyterHub) -> UserDict:
    """Return the registry behind `app.users`, over the same live settings dictionary."""
    return UserDict(lambda: app.db, app.tornado_settings)
