"""Spawners: what starts, watches and stops people's servers (plugins §3, config §9, spawner-system).

A spawner is a class with `start`, `stop` and `poll`. The Hub has an object of it for each server:

1. it is constructed with keywords only, and `load_state` gets what was stored;
2. for a start: `clear_state`, the hooks, then `start`, which returns where the server listens;
3. `get_state` is asked for what has to survive the Hub, `poll` every `poll_interval` seconds;
4. for a stop: `poll`, and `stop` if that says "running"; then `post_stop_hook`, `clear_state`, `get_state`.

After a restart of the Hub it goes on with 1 and `poll`. Nothing here asks a database: what a spawner knows of its
server is in its record, which the Hub keeps current.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from traitlets import Any as AnyTrait
from traitlets import (
    Bool,
    Bunch,
    Dict,
    List,
    TraitError,
    TraitType,
    Unicode,
    default,
    validate,
)
from traitlets.config import LoggingConfigurable

from ..aio import iterate_until, maybe_future
from ..core.errors import PluginMistake
from ..core.overrides import check_group_overrides
from . import certificates, environment, options, profiles
from .declared import SpawnerMeta
from .hooks import StartGuard, call_hook, wrap_class
from .lean import LeanTraits
from .polling import Polling
from .traits import (
    EnvironmentTraits,
    HealthTraits,
    HookTraits,
    NetworkTraits,
    OAuthTraits,
    OptionTraits,
    ResourceTraits,
    TLSTraits,
)

__all__ = ["GENERAL_PROGRESS", "Spawner"]

#: What a start tells whose spawner has nothing of its own to tell.
GENERAL_PROGRESS: Mapping[str, Any] = {"progress": 50, "message": "The server is being started"}


class Spawner(
    NetworkTraits,
    ResourceTraits,
    EnvironmentTraits,
    OAuthTraits,
    HookTraits,
    OptionTraits,
    HealthTraits,
    TLSTraits,
    Polling,
    LeanTraits,
    LoggingConfigurable,
    metaclass=SpawnerMeta,
):
    """Starts, watches and stops one server of one user. Subclasses define `start`, `stop` and `poll`."""

    # Given by the Hub.
    hub = AnyTrait()
    authenticator = AnyTrait()
    handler = AnyTrait()
    proxy_spec = Unicode("")
    public_url = Unicode("")
    public_hub_url = Unicode("")
    api_token = Unicode("")
    admin_access = Bool(False)
    oauth_client_id = Unicode("")
    oauth_access_scopes = List(Unicode())
    cookie_options = Dict()
    cookie_host_prefix_enabled = Bool(False)
    user_options = Dict()
    will_resume = Bool(False)

    _spawn_future: asyncio.Future[Any] | None = None
    _stop_future: asyncio.Future[Any] | None = None
    _jupyterhub_version: str | None = None
    _resolved_client_scopes: list[str] | None = None
    _loading_config = False
    #: Of exactly this class.
    _configurable_traits: dict[str, TraitType[Any, Any]] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        missing = [name for name in ("start", "stop", "poll") if getattr(cls, name) is getattr(Spawner, name)]
        if missing:
            wanted = ", ".join(f"{name}()" for name in missing)
            raise NotImplementedError(f"{cls.__name__} is a Spawner and must define {wanted}")
        wrap_class(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._flags: dict[str, bool] = {}
        self._start_guard = StartGuard()
        if isinstance(kwargs.get("_deprecated_db_session"), types.FunctionType):
            self._open_session = kwargs.pop("_deprecated_db_session")
        # An address, unlike the rest, is a property; plugins that wrap another spawner pass theirs on.
        server = kwargs.pop("server", None)
        super().__init__(*args, **kwargs)
        if server is not None and self._record.server is None:
            self.server = server

    def traits(self, **metadata: Any) -> dict[str, TraitType[Any, Any]]:
        """All traits by name, or those with this metadata.

        Each object asks for those with ``config=True`` when it is made, and for every class they are always the same.
        """
        if metadata != {"config": True}:
            return super().traits(**metadata)
        cls = type(self)
        known: dict[str, TraitType[Any, Any]] | None = vars(cls).get("_configurable_traits")
        if known is None:
            known = super().traits(**metadata)
            cls._configurable_traits = known
        return dict(known)

    def _load_config(self, cfg: Any, section_names: Any = None, traits: Any = None) -> None:
        # Traits made from annotations are strict with configuration only.
        self._loading_config = True
        try:
            super()._load_config(cfg, section_names, traits)
        finally:
            self._loading_config = False

    # -- the contract --

    async def start(self) -> Any:
        """Start the server and return where it listens: ``(ip, port)``, a port alone, or a URL.

        Called with `start_timeout` seconds to go. Whatever is raised ends the start and is shown to the user.
        """
        raise NotImplementedError("start() is what a spawner is for")

    async def stop(self, now: bool = False) -> None:
        """Stop the server and return when it is gone; `now` means at once, without grace."""
        raise NotImplementedError("stop() is what a spawner is for")

    async def poll(self) -> int | None:
        """None while the server runs, and during `start`; else its exit status, 0 if that is not known."""
        raise NotImplementedError("poll() is what a spawner is for")

    def get_state(self) -> dict[str, Any]:
        """What has to survive the Hub, as JSON values; asked for during and after `start`, and after a stop."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take what `get_state` gave; called right after construction, with an empty dictionary if there is none."""

    def clear_state(self) -> None:
        """Forget what belongs to a run that is over, or to one before the start that begins."""
        self.api_token = ""

    def get_env(self) -> dict[str, Any]:
        """The server's complete environment (config §9.7): texts, and what `environment` has of dictionaries and lists."""
        return environment.build(self)

    def get_args(self) -> list[str]:
        """The arguments that are added to `cmd`."""
        return list(self.args)

    async def get_url(self) -> str:
        """Where the server is; asked when a Hub has taken over a running server."""
        return self._address.url if self._address is not None else ""

    def template_namespace(self) -> dict[str, Any]:
        """What the placeholders in `notebook_dir` and `default_url` stand for (config §9.8)."""
        namespace = {"username": self.user.name}
        if self._address is not None:
            namespace["base_url"] = self._address.base_url
        return namespace

    def format_string(self, s: str) -> str:
        """Fill in the placeholders. Raises KeyError for one that is not known."""
        return s.format(**self.template_namespace())

    async def progress(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield what the user sees during a start: `progress` (0 to 100), `message`, `html_message`; all optional."""
        yield dict(GENERAL_PROGRESS)

    async def _generate_progress(self) -> AsyncGenerator[dict[str, Any], None]:
        """The events of `progress` until the start is over, without those members that only the Hub may set.

        Raises PluginMistake when `progress` is no asynchronous generator, or gives something else than dictionaries.
        """
        events: Any = self.progress()
        if not hasattr(events, "__aiter__"):
            raise PluginMistake(type(self).__name__, "progress() must be an asynchronous generator")
        if self._spawn_future is not None:
            events = iterate_until(self._spawn_future, events)
        async for event in events:
            if not isinstance(event, Mapping):
                raise PluginMistake(type(self).__name__, f"progress() gave {event!r}, which is no dictionary")
            yield {key: value for key, value in event.items() if key not in ("ready", "failed")}

    async def delete_forever(self) -> None:
        """Delete what is kept for a server whose user or name is deleted; called once, before that."""

    async def rename(self, old_name: str, new_name: str) -> None:
        """Prepare for another name of the (stopped) server; raising prevents it."""

    # -- internal TLS --

    @default("oauth_access_scopes")
    def _oauth_access_scopes_default(self) -> list[str]:
        user = self.user.name
        return [f"access:servers!server={user}/{self.name}", f"access:servers!user={user}"]

    @default("ssl_alt_names")
    def _default_ssl_alt_names(self) -> list[str]:
        names = list(self.trusted_alt_names)
        if getattr(self.user, "host", ""):
            names.append(f"DNS:{self.user.domain}")
        return names

    @property
    def _certificate_name(self) -> str:
        """What its certificate is called. Each server has its own: two of one user may start together."""
        return f"server-{self.name}+{self.user.name}" if self.name else f"user-{self.user.name}"

    async def create_certs(self) -> dict[str, str]:
        """Make the server's certificate; the paths of keyfile, certfile and cafile."""
        names: Any = self.ssl_alt_names
        if callable(names):
            names = await maybe_future(call_hook(self, "ssl_alt_names"))
        return await asyncio.get_running_loop().run_in_executor(
            None,
            lambda: certificates.create(
                self.internal_certs_location,
                self.internal_trust_bundles,
                self._certificate_name,
                list(names or []),
                include_local=self.ssl_alt_names_include_local,
            ),
        )

    async def move_certs(self, paths: dict[str, str]) -> dict[str, str]:
        """Bring the files of `create_certs` to where the server can read them; their paths there.

        Unless a spawner says otherwise they stay where the Hub made them. KubeSpawner, for one, has no `move_certs`: it
        reads them from there into a secret.
        """
        return paths

    # -- options --

    @default("options_from_form")
    def _options_from_form(self) -> Any:
        return options.passthrough

    @validate("options_from_form")
    def _valid_options_from_form(self, proposal: Bunch) -> Any:
        """The function that a known name stands for, so that `self.options_from_form(data)` works; else the value."""
        value = proposal.value
        return options.FORM_CONVERSIONS.get(value, value) if isinstance(value, str) else value

    @default("options_form")
    def _default_options_form(self) -> Any:
        return type(self)._profile_form if self.profiles else ""

    @validate("group_overrides")
    def _valid_group_overrides(self, proposal: Bunch) -> Any:
        if isinstance(proposal.value, Mapping):
            try:
                check_group_overrides(proposal.value)
            except ValueError as error:
                raise TraitError(f"{type(self).__name__}.{error}") from None
        return proposal.value

    @property
    def _group_names(self) -> list[str]:
        names = getattr(self.user, "group_names", None)
        if names is None:
            # A user made by hand in a plugin's test may have a name and nothing else.
            names = [group.name for group in getattr(self.user, "groups", None) or ()]
        return list(names)

    async def get_profiles(self) -> list[dict[str, Any]]:
        """The profiles that this user may choose. Raises InvalidDefinition for a malformed setting."""
        found: Any = self.profiles
        if callable(found):
            found = await maybe_future(call_hook(self, "profiles"))
        return profiles.visible(profiles.check(found), self._group_names) if found else []

    async def _profile_form(self) -> str:
        return profiles.form(await self.get_profiles(), self.user_options)

    async def get_options_form(self) -> str:
        """The HTML that asks the user for options; empty for no question."""
        form: Any = self.options_form
        if callable(form):
            form = await maybe_future(call_hook(self, "options_form"))
        if not form and self.profiles:
            form = await self._profile_form()
        return str(form or "")

    def run_options_from_form(self, form_data: dict[str, Any]) -> Any:
        """Turn the submitted form into options; awaitable if the deployment's own function is."""
        return options.convert_form(self, form_data)

    def options_from_query(self, query_data: dict[str, Any]) -> Any:
        """Turn the address's parameters into options: as from a form, or from a link to a profile."""
        if self.profiles and self.options_from_form in ("passthrough", options.passthrough):
            return profiles.options_from_link(query_data)
        return self.run_options_from_form(query_data)

    def load_user_options(self, user_options: dict[str, Any]) -> Any:
        """Take the chosen options, before each start: here the profile, whose settings are assigned.

        May be async in a subclass. Raises InvalidRequest, which names the field, for what is not offered.
        """
        return self._load_profile(user_options) if self.profiles else None

    async def _load_profile(self, user_options: Mapping[str, Any]) -> None:
        profile = profiles.find(await self.get_profiles(), user_options.get("profile"))
        for setting, value in profiles.settings_for(profile, user_options):
            setattr(self, setting, value(self) if callable(value) else value)

    async def _run_apply_user_options(self, user_options: Mapping[str, Any] | None) -> None:
        await options.apply_user_options(self, user_options or {})

    async def apply_group_overrides(self) -> None:
        """Assign the settings that members of the user's groups get (config §9.6)."""
        if self.group_overrides:
            for overrides in await options.overrides_by_entry(self, self._group_names):
                self._apply_overrides(overrides)

    def _apply_overrides(self, spawner_override: Mapping[str, Any]) -> None:
        options.override(self, spawner_override)

    # -- hooks --

    def _begin_run(self) -> None:
        """The Hub begins a start: every hook may run once again."""
        self._start_guard.prepare()

    def run_pre_spawn_hook(self) -> Any:
        """Run `pre_spawn_hook`; from now on it has run for the start that begins."""
        self._begin_run()
        self._start_guard.first_time("pre_spawn_hook")
        return call_hook(self, "pre_spawn_hook")

    def run_post_spawn_hook(self) -> Any:
        """Run `post_spawn_hook` unless the class's own `start` did."""
        if "post_spawn_hook" in self._start_guard.done:
            return None
        return call_hook(self, "post_spawn_hook")

    def run_spawn_error_hook(self, error: BaseException) -> Any:
        """Run `spawn_error_hook` unless the class's own `start` did."""
        if "spawn_error_hook" in self._start_guard.done:
            return None
        return call_hook(self, "spawn_error_hook", error)

    async def run_post_stop_hook(self) -> None:
        """Run `post_stop_hook`; its errors are only logged."""
        try:
            await maybe_future(call_hook(self, "post_stop_hook"))
        except Exception:
            self.log.exception("The post_stop_hook of %s failed", self._log_name)

    async def run_auth_state_hook(self, auth_state: dict[str, Any] | None) -> None:
        """Run `auth_state_hook`, also when there is no state."""
        await maybe_future(call_hook(self, "auth_state_hook", auth_state))
