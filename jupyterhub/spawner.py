"""Spawners: what starts, watches and stops people's servers (plugins §3, config §9, spawner system).

A spawner is a class with `start`, `stop` and `poll`. The Hub makes an object for each server, in this order:

1. the class is constructed with keywords only; `load_state` gets what was stored;
2. for a start: `clear_state`, the hooks, then `start`, which returns where the server listens;
3. `get_state` is asked for what has to survive the Hub; `poll` is asked every `poll_interval` seconds;
4. for a stop: `poll`, and `stop` if that says "running"; then `post_stop_hook`, `clear_state`, `get_state`.

After a restart of the Hub it begins again with 1, followed by `poll`.
"""

import ast
import inspect
import os
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any

from tornado.ioloop import PeriodicCallback
from traitlets import Any as AnyTrait
from traitlets import Bool, Dict, Float, Integer, List, TraitError, Unicode, Union, default, validate
from traitlets.config import LoggingConfigurable

from .aio import exponential_backoff, maybe_future
from .core import lifecycle
from .core.clock import aware
from .core.overrides import check_group_overrides, group_overrides_for, merged
from .objects import Server
from .spawning import environment, options, profiles
from .spawning.declaring import SpawnerMeta
from .spawning.localprocess import LocalProcesses, set_user_setuid
from .spawning.options import SpawnException
from .spawning.record import RowRecord, SpawnerRecord
from .spawning.results import interpret_start_result
from .traitlets import ByteSpecification, Command
from .traitlets import Callable as CallableTrait

__all__ = [
    "LocalProcessSpawner",
    "SimpleLocalProcessSpawner",
    "SpawnException",
    "Spawner",
    "_quote_safe",
    "set_user_setuid",
]


def _quote_safe(text: str) -> str:
    """Return the text quoted if it would otherwise be read as a Python value on a command line."""
    try:
        ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
    return repr(text)


class Spawner(LoggingConfigurable, metaclass=SpawnerMeta):
    """Base of all spawners. Subclasses define `start`, `stop` and `poll`; see the module for their life."""

    # What the Hub gives to each object.
    user: Any = AnyTrait()
    hub: Any = AnyTrait()
    authenticator: Any = AnyTrait()
    orm_spawner: Any = AnyTrait()
    _record: Any = AnyTrait()
    _load_orm_spawner: Any = AnyTrait(None, allow_none=True)
    _deprecated_db_session: Any = AnyTrait()
    handler: Any = AnyTrait(None, allow_none=True)
    proxy_spec = Unicode()
    public_url = Unicode()
    public_hub_url = Unicode()
    api_token = Unicode()
    admin_access = Bool(False)
    oauth_client_id = Unicode()
    oauth_access_scopes: Any = List()
    cookie_options: Any = Dict()
    cookie_host_prefix_enabled = Bool(False)
    user_options: Any = Dict()
    will_resume = Bool(False)
    internal_ssl = Bool(False)
    internal_trust_bundles: Any = Dict(allow_none=True)
    internal_certs_location = Unicode()
    cert_paths: Any = Dict()
    trusted_alt_names: Any = List()
    env: Any = Dict()
    death_interval = Float(0.1)

    _poll_callback: Any = AnyTrait(None, allow_none=True)
    _callbacks: Any = List()
    _spawn_future: Any = AnyTrait(None, allow_none=True)
    _stop_future: Any = AnyTrait(None, allow_none=True)
    _jupyterhub_version: Any = AnyTrait(None, allow_none=True)
    _exit_status: Any = AnyTrait(None, allow_none=True)
    _resolved_client_scopes: Any = AnyTrait(None, allow_none=True)
    _address_listener: Any = AnyTrait(None, allow_none=True)

    # Settings

    ip = Unicode("127.0.0.1", help="Address on which the server should listen.").tag(config=True)
    port = Integer(0, help="Port on which the server should listen; 0 lets the spawner choose.").tag(config=True)
    start_timeout = Integer(60, help="Seconds that `start` may take.").tag(config=True)
    http_timeout = Integer(30, help="Seconds after `start` within which the server has to answer over HTTP.").tag(
        config=True
    )
    poll_interval = Integer(30, help="Seconds between two looks at whether the server still runs; 0: never.").tag(
        config=True
    )
    poll_jitter = Float(
        0.1, min=0, max=1, help="Share of `poll_interval` by which looks are spread, so that they do not all come at once."
    ).tag(config=True)
    consecutive_failure_limit = Integer(
        0,
        help="""
        Failed starts in a row, of any user, after which the Hub ends so that its supervisor starts it anew; 0: never.
        """,
    ).tag(config=True)
    environment: Any = Dict(
        help="Further variables for the server; a function as value is called with the spawner."
    ).tag(config=True)
    env_keep: Any = List(
        ["JUPYTERHUB_SINGLEUSER_APP"], help="Variables of the Hub's own environment that servers get too."
    ).tag(config=True)
    cmd: Any = Command(
        ["jupyterhub-singleuser"], allow_none=True, help="The command that runs a server."
    ).tag(config=True)
    args: Any = List(Unicode(), help="Further arguments of the command.").tag(config=True)
    notebook_dir = Unicode(help="Directory in which people start; {username} stands for the name, ~ for the home.").tag(
        config=True
    )
    default_url = Unicode(help="Page on which people start in their server, such as /lab or /tree.").tag(config=True)
    debug = Bool(False, help="Let servers log in detail.").tag(config=True)
    disable_user_config = Bool(False, help="Ignore configuration files in people's homes.").tag(config=True)
    mem_limit: Any = ByteSpecification(None, allow_none=True, help="Most memory of a server, e.g. '2G'.").tag(config=True)
    mem_guarantee: Any = ByteSpecification(None, allow_none=True, help="Memory that a server is sure to have.").tag(
        config=True
    )
    cpu_limit: Any = Float(None, allow_none=True, help="Most processors of a server, e.g. 0.5 or 2.").tag(config=True)
    cpu_guarantee: Any = Float(None, allow_none=True, help="Processors that a server is sure to have.").tag(config=True)
    hub_connect_url: Any = Unicode(
        None, allow_none=True, help="URL at which this server finds the Hub, if it is another one than for the rest."
    ).tag(config=True)
    server_token_scopes: Any = Union(
        [List(Unicode()), CallableTrait()], help="Scopes of the server's own token: a list, or a function of the spawner."
    ).tag(config=True)
    oauth_client_allowed_scopes: Any = Union(
        [CallableTrait(), List()],
        default_value=[],
        help="Further scopes that browsers may get through this server: a list, or a function of the spawner.",
    ).tag(config=True)
    oauth_roles: Any = Union(
        [CallableTrait(), List()], default_value=[], help="Old: use oauth_client_allowed_scopes."
    ).tag(config=True)
    options_form: Any = Union(
        [Unicode(), CallableTrait()],
        help="Inner HTML of a form that people see before a start, or a function of the spawner that returns it.",
    ).tag(config=True)
    options_from_form: Any = Union(
        [CallableTrait(), Unicode()],
        help="How the form's fields become options: 'passthrough', 'simple', or a function of the fields.",
    ).tag(config=True)
    apply_user_options: Any = Union(
        [CallableTrait(), Dict()],
        default_value=None,
        allow_none=True,
        help="""
        What options do: a mapping from option to setting, or a function of spawner and options, which may be async.
        """,
    ).tag(config=True)
    profiles: Any = Union(
        [List(Dict()), CallableTrait()],
        default_value=[],
        help="""
        Choices that people have before a start, each with display_name, description, default and overrides.

        A list, or a function of the spawner that returns one, which may be async. No HTML to write.
        """,
    ).tag(config=True)
    group_overrides: Any = Union(
        [CallableTrait(), Dict()], help="Settings for members of groups; see the how-to page on groups."
    ).tag(config=True)
    auth_state_hook: Any = AnyTrait(
        None, allow_none=True, help="Function of spawner and authentication state, called before each start."
    ).tag(config=True)
    pre_spawn_hook: Any = AnyTrait(
        None, allow_none=True, help="Function of the spawner, called before each start; an error prevents the start."
    ).tag(config=True)
    post_spawn_hook: Any = AnyTrait(
        None, allow_none=True, help="Function of the spawner, called once a server is ready."
    ).tag(config=True)
    spawn_error_hook: Any = AnyTrait(
        None, allow_none=True, help="Function of spawner and exception, called when a start has failed."
    ).tag(config=True)
    post_stop_hook: Any = AnyTrait(
        None, allow_none=True, help="Function of the spawner, called after each stop."
    ).tag(config=True)
    progress_ready_hook: Any = AnyTrait(
        None, allow_none=True, help="Function of spawner and the last progress event; returns the event to send."
    ).tag(config=True)
    ssl_alt_names: Any = Union(
        [List(Unicode()), CallableTrait()], help="Further names in the server's internal certificate."
    ).tag(config=True)
    ssl_alt_names_include_local = Bool(
        True, help="Whether localhost and 127.0.0.1 are among the names in the server's internal certificate."
    ).tag(config=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        missing = [
            name for name in ("start", "stop", "poll") if getattr(cls, name) is getattr(Spawner, name, None)
        ]
        if missing:
            raise NotImplementedError(f"{cls.__name__} does not define {', '.join(name + '()' for name in missing)}")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._hooks_run: set[str] = set()
        record = kwargs.pop("_record", None)
        if record is None:
            row = kwargs.get("orm_spawner")
            record = RowRecord(row) if row is not None else SpawnerRecord()
        kwargs["_record"] = record
        lazy_session = kwargs.get("_deprecated_db_session")
        if callable(lazy_session) and not hasattr(lazy_session, "query"):
            self._session_factory: Any = kwargs.pop("_deprecated_db_session")
        else:
            self._session_factory = None
        super().__init__(*args, **kwargs)

    def _load_config(self, cfg: Any, section_names: Any = None, traits: Any = None) -> None:
        # Values from files are held to what was declared; assignments in code are not (spawner system S5).
        self._loading_configuration = True
        try:
            super()._load_config(cfg, section_names, traits)
        finally:
            self._loading_configuration = False

    # What is known of the server

    @default("orm_spawner")
    def _orm_spawner_default(self) -> Any:
        return self._load_orm_spawner() if self._load_orm_spawner is not None else None

    @default("_deprecated_db_session")
    def _session_default(self) -> Any:
        return self._session_factory() if self._session_factory is not None else None

    @property
    def db(self) -> Any:
        """The database session that plugins share; old, and it blocks the Hub."""
        self.log.warning("%s uses Spawner.db, which is old and blocks the Hub", type(self).__name__)
        return self._deprecated_db_session

    @property
    def name(self) -> str:
        """Name of the server, empty for the default one."""
        return self._record.name or ""

    @property
    def display_name(self) -> str:
        """What people call the server."""
        return self._record.display_name or self.name

    @property
    def _log_name(self) -> str:
        return f"{self.user.name}:{self.name}" if self.name else self.user.name

    @property
    def server(self) -> Server | None:
        """Where the server listens, while there is an address."""
        server: Server | None = self._record.server
        return server

    @server.setter
    def server(self, server: Server | None) -> None:
        self._record.server = server

    @property
    def _server(self) -> Server | None:
        return self.server

    @_server.setter
    def _server(self, server: Server | None) -> None:
        self._record.server = server

    @property
    def url(self) -> str:
        """Full URL of the running server without a slash at its end; empty while there is no address."""
        server = self.server
        if server is None or not server.ip:
            return ""
        return str(server.url).rstrip("/")

    @property
    def last_activity(self) -> datetime | None:
        """When somebody last used the server; while it is active there is always a time."""
        value: datetime | None = self._record.last_activity
        if value is None and self._record.started is not None:
            value = self._record.started
        return value

    @last_activity.setter
    def last_activity(self, value: datetime | None) -> None:
        self._record.last_activity = aware(value) if value is not None else None

    @property
    def pending(self) -> str | None:
        """`spawn`, `stop`, `check`, `rename`, or None."""
        return lifecycle.pending(self._record.lifecycle)

    @property
    def ready(self) -> bool:
        """Whether it runs and nothing is pending."""
        return lifecycle.is_ready(self._record.lifecycle)

    @property
    def active(self) -> bool:
        """Whether it runs or something is pending."""
        return lifecycle.is_active(self._record.lifecycle)

    # Old private names of the same; what third parties assign is ignored, because one value decides.

    @property
    def _spawn_pending(self) -> bool:
        return self.pending == "spawn"

    @_spawn_pending.setter
    def _spawn_pending(self, value: bool) -> None:
        self.log.debug("_spawn_pending follows from the server's state")

    @property
    def _start_pending(self) -> bool:
        return self._record.lifecycle is lifecycle.State.STARTING

    @_start_pending.setter
    def _start_pending(self, value: bool) -> None:
        self.log.debug("_start_pending follows from the server's state")

    @property
    def _stop_pending(self) -> bool:
        return self.pending == "stop"

    @_stop_pending.setter
    def _stop_pending(self, value: bool) -> None:
        self.log.debug("_stop_pending follows from the server's state")

    @property
    def _check_pending(self) -> bool:
        return self.pending == "check"

    @_check_pending.setter
    def _check_pending(self, value: bool) -> None:
        self.log.debug("_check_pending follows from the server's state")

    @property
    def _rename_pending(self) -> bool:
        return self.pending == "rename"

    @property
    def _proxy_pending(self) -> bool:
        return self._record.lifecycle is lifecycle.State.ROUTING

    @_proxy_pending.setter
    def _proxy_pending(self, value: bool) -> None:
        self.log.debug("_proxy_pending follows from the server's state")

    @property
    def _waiting_for_response(self) -> bool:
        return self._record.lifecycle is lifecycle.State.CONNECTING

    @_waiting_for_response.setter
    def _waiting_for_response(self, value: bool) -> None:
        self.log.debug("_waiting_for_response follows from the server's state")

    @property
    def _failed(self) -> bool:
        return self._record.failure is not None and self._record.failure.cause != "cancelled"

    @_failed.setter
    def _failed(self, value: bool) -> None:
        self.log.debug("_failed follows from the server's last failure")

    @property
    def _progress_url(self) -> str:
        return str(self.user.progress_url(self.name))

    # Validation

    @validate("ip")
    def _ip_without_brackets(self, proposal: Any) -> str:
        return str(proposal.value).strip("[]")

    @validate("notebook_dir", "default_url")
    def _rewrite_old_placeholder(self, proposal: Any) -> str:
        value = str(proposal.value)
        if "%U" in value:
            self.log.warning("%s: %%U is old; write {username}", proposal.trait.name)
            value = value.replace("%U", "{username}")
        return value

    @validate("group_overrides")
    def _check_group_overrides(self, proposal: Any) -> Any:
        if isinstance(proposal.value, dict):
            try:
                check_group_overrides(proposal.value)
            except ValueError as error:
                raise TraitError(f"Spawner.{error}") from None
        return proposal.value

    @default("options_from_form")
    def _options_from_form(self) -> Any:
        return "passthrough"

    @default("ssl_alt_names")
    def _ssl_alt_names_default(self) -> list[str]:
        return self._default_ssl_alt_names()

    def _default_ssl_alt_names(self) -> list[str]:
        return list(self.trusted_alt_names)

    # The contract

    async def start(self) -> Any:
        """Start the server and return where it listens: `(ip, port)`, a port, or a URL.

        Called with `start_timeout` seconds to go. Raising means that it failed; the message reaches the user.
        """
        raise NotImplementedError("start() is what a spawner is for")

    async def stop(self, now: bool = False) -> None:
        """Stop the server and return when it is gone; `now` means at once, without grace."""
        raise NotImplementedError("stop() is what a spawner is for")

    async def poll(self) -> int | None:
        """Return None while the server runs, else its exit status, 0 if that is not known."""
        raise NotImplementedError("poll() is what a spawner is for")

    def get_state(self) -> dict[str, Any]:
        """Return what has to survive a restart of the Hub, as values that JSON can hold."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take what `get_state` returned."""

    def clear_state(self) -> None:
        """Forget what belongs to a run that is over."""
        self.api_token = ""

    def get_env(self) -> dict[str, str]:
        """Return the complete environment of the server."""
        return environment.build(self)

    def get_args(self) -> list[str]:
        """Return the arguments of the command."""
        return list(self.args)

    async def get_url(self) -> str:
        """Return the server's URL, asked after a restart of the Hub."""
        return self.server.url if self.server is not None else ""

    def template_namespace(self) -> dict[str, str]:
        """Return what stands for {…} in texts."""
        found = {"username": self.user.name}
        if self.server is not None:
            found["base_url"] = self.server.base_url
        return found

    def format_string(self, text: str) -> str:
        """Fill in the {…} of a text."""
        return text.format(**self.template_namespace())

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what to tell people while the server starts: dicts with progress, message, html_message."""
        yield {"progress": 50, "message": "Spawning server..."}

    async def _generate_progress(self) -> AsyncIterator[dict[str, Any]]:
        async for event in self.progress():
            yield event

    async def delete_forever(self) -> None:
        """Delete what is kept for a server that will never start again."""

    async def rename(self, old_name: str, new_name: str) -> None:
        """Prepare for another name; raising prevents it."""

    async def wait_for_death(self, timeout: float = 10) -> bool:
        """Wait until `poll` says that the server is gone. Returns whether it is."""

        async def is_gone() -> bool:
            return await maybe_future(self.poll()) is not None

        try:
            return bool(
                await exponential_backoff(
                    is_gone, "the server did not end", start_wait=self.death_interval, max_wait=1, timeout=timeout
                )
            )
        except TimeoutError:
            return False

    # Certificates of internal TLS

    async def create_certs(self) -> dict[str, str]:
        """Make the server's internal certificate; returns the paths of key, certificate and authority."""
        from .spawning.certificates import create_certificates

        return create_certificates(self)

    async def move_certs(self, paths: dict[str, str]) -> dict[str, str]:
        """Put certificates where the server can read them; returns the new paths."""
        raise NotImplementedError(f"{type(self).__name__} does not support internal_ssl: it has no move_certs()")

    # Options

    async def get_profiles(self) -> list[dict[str, Any]]:
        """Return the profiles that this user may choose from."""
        offered = self.profiles
        if callable(offered):
            offered = await maybe_future(offered(self))
        if not offered:
            return []
        return profiles.visible(profiles.check(offered), getattr(self.user, "group_names", ()) or ())

    async def get_options_form(self) -> str:
        """Return the inner HTML of the form, or an empty text for none."""
        form = self.options_form
        if callable(form):
            form = await maybe_future(form(self))
        if not form:
            offered = await self.get_profiles()
            if offered:
                form = profiles.form(offered, self.user_options or {})
        return form or ""

    async def run_options_from_form(self, formdata: dict[str, list[Any]]) -> dict[str, Any]:
        """Turn the form's fields into options."""
        chosen = await maybe_future(options.convert_form(self, formdata))
        return chosen if chosen is not None else {}

    async def options_from_query(self, query: dict[str, list[Any]]) -> dict[str, Any]:
        """Turn query arguments into options; like a form unless overridden."""
        return await self.run_options_from_form(query)

    async def _run_apply_user_options(self, user_options: dict[str, Any]) -> None:
        """Let options do what they do: `load_user_options`, then `apply_user_options` (config §9.2)."""
        await options.apply_user_options(self, dict(user_options or {}))

    async def load_user_options(self, user_options: dict[str, Any]) -> None:
        """Take the options that were chosen: here the profile, whose overrides become settings.

        Raises a refusal that names the field for what is not offered.
        """
        offered = await self.get_profiles()
        if not offered:
            return
        wanted = user_options.get("profile")
        profile = profiles.find(offered, wanted) if wanted else profiles.default_of(offered)
        for name, value in profiles.settings_for(profile, user_options):
            setattr(self, name, value(self) if callable(value) else value)

    async def apply_group_overrides(self) -> None:
        """Apply the settings that members of the user's groups get."""
        overrides = self.group_overrides
        if callable(overrides):
            overrides = await maybe_future(overrides(self))
        if not overrides:
            return
        groups = getattr(self.user, "group_names", None)
        if groups is None:
            groups = [group.name for group in self.user.groups]
        for key, setting, value in group_overrides_for(groups, overrides):
            if callable(value):
                value = await maybe_future(value(self))
            self.log.debug("Group override %s sets %s of %s", key, setting, self._log_name)
            setattr(self, setting, merged(getattr(self, setting, None), value))

    def _apply_overrides(self, spawner_override: dict[str, Any]) -> None:
        """Apply one set of overrides, for plugins that bring their own."""
        for setting, value in spawner_override.items():
            setattr(self, setting, merged(getattr(self, setting, None), value(self) if callable(value) else value))

    # Hooks: a setting that holds a function of the spawner, or a method of the class

    def _begin_run(self) -> None:
        """A new start: every hook may run once again."""
        self._hooks_run.clear()

    def _call_hook(self, name: str, *arguments: Any) -> Any:
        hook = getattr(self, name)
        if not hook:
            return None
        if inspect.ismethod(hook) and hook.__self__ is self:
            return hook(*arguments)
        return hook(self, *arguments)

    def run_pre_spawn_hook(self) -> Any:
        """Run `pre_spawn_hook`, once per start."""
        return self._call_hook("pre_spawn_hook")

    def run_post_spawn_hook(self) -> Any:
        """Run `post_spawn_hook`, once per start."""
        return self._call_hook("post_spawn_hook")

    def run_spawn_error_hook(self, error: BaseException) -> Any:
        """Run `spawn_error_hook`, once per start."""
        return self._call_hook("spawn_error_hook", error)

    async def run_post_stop_hook(self) -> None:
        """Run `post_stop_hook`; what it raises is only logged."""
        try:
            await maybe_future(self._call_hook("post_stop_hook"))
        except Exception:
            self.log.exception("post_stop_hook of %s failed", self._log_name)

    async def run_auth_state_hook(self, auth_state: dict[str, Any] | None) -> None:
        """Run `auth_state_hook`, also when there is no state."""
        await maybe_future(self._call_hook("auth_state_hook", auth_state))

    # Watching

    def start_polling(self) -> None:
        """Look every `poll_interval` seconds whether the server runs."""
        if self.poll_interval <= 0:
            self.log.debug("%s is not polled", self._log_name)
            return
        self.stop_polling()
        self._poll_callback = PeriodicCallback(
            self.poll_and_notify, 1000 * self.poll_interval, jitter=self.poll_jitter
        )
        self._poll_callback.start()

    def stop_polling(self) -> None:
        """Stop looking."""
        if self._poll_callback is not None:
            self._poll_callback.stop()
            self._poll_callback = None

    def add_poll_callback(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call this once, when a poll finds that the server is gone."""
        self._callbacks = [*self._callbacks, (callback, args, kwargs)]

    async def poll_and_notify(self) -> int | None:
        """Look once; when the server is gone, stop looking and call everybody who asked for it."""
        status: int | None = await maybe_future(self.poll())
        if status is None:
            if self._record.address_changed and self._address_listener is not None:
                await maybe_future(self._address_listener())
            return None
        self._exit_status = status
        self.stop_polling()
        callbacks, self._callbacks = self._callbacks, []
        for callback, args, kwargs in callbacks:
            try:
                await maybe_future(callback(*args, **kwargs))
            except Exception:
                self.log.exception("A poll callback of %s failed", self._log_name)
        return status

    def _note_address(self, result: Any) -> None:
        """`start` returned to whoever called it: note where the server is now (spawner system S9)."""
        record = self._record
        server = record.server
        if server is None or result is None:
            return
        try:
            proto, ip, port = interpret_start_result(result, self)
        except Exception:
            # Whoever reads the result of this start says what is wrong with it.
            return
        before = (server.proto, server.ip, server.port)
        server.proto, server.ip, server.port = proto, ip, port
        if record.lifecycle is lifecycle.State.READY and before != (proto, ip, port):
            record.address_changed = True


class LocalProcessSpawner(LocalProcesses, Spawner):
    """Runs each server as a process of this machine, under the account of its user.

    The Hub needs the right to switch users (usually root). For one account for all see
    `SimpleLocalProcessSpawner`.
    """


class SimpleLocalProcessSpawner(LocalProcessSpawner):
    """Runs all servers under the account of the Hub. For trying things out: people can reach each other's files."""

    create_system_users = Bool(False, help="Has no meaning here: no account is needed.")
    home_dir_template = Unicode("/tmp/{username}", help="Home directory of each user; {username} is the name.").tag(
        config=True
    )
    home_dir = Unicode(help="This user's home directory.")

    @default("home_dir")
    def _home_dir_default(self) -> str:
        return str(self.home_dir_template).format(username=self.user.name)

    def make_preexec_fn(self, name: str) -> Callable[[], None]:
        home = self.home_dir

        def enter_home() -> None:
            os.makedirs(home, 0o755, exist_ok=True)
            os.chdir(home)

        return enter_home

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        env["USER"] = self.user.name
        env["HOME"] = self.home_dir
        env["SHELL"] = "/bin/bash"
        return env

    async def move_certs(self, paths: dict[str, str]) -> dict[str, str]:
        return paths


