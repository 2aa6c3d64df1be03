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
import os
import pwd
import shlex
import signal
import subprocess
import types
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any

from traitlets import Any as AnyTrait
from traitlets import (
    Bool,
    Bunch,
    Dict,
    Instance,
    Integer,
    List,
    TraitError,
    Unicode,
    default,
    validate,
)
from traitlets.config import LoggingConfigurable

from .aio import exponential_backoff, iterate_until, maybe_future
from .core.errors import PluginMistake
from .core.overrides import check_group_overrides
from .net import random_port
from .spawning import certificates, environment, localprocess, options, profiles
from .spawning.declared import SpawnerMeta
from .spawning.hooks import StartGuard, call_hook, wrap_class
from .spawning.localprocess import _quote_safe, set_user_setuid
from .spawning.options import SpawnException
from .spawning.polling import Polling
from .spawning.traits import (
    EnvironmentTraits,
    HealthTraits,
    HookTraits,
    NetworkTraits,
    OAuthTraits,
    OptionTraits,
    ResourceTraits,
    TLSTraits,
)
from .traitlets import Command

__all__ = [
    "LocalProcessSpawner",
    "SimpleLocalProcessSpawner",
    "SpawnException",
    "Spawner",
    "_quote_safe",
    "set_user_setuid",
]


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

    def get_env(self) -> dict[str, str]:
        """The server's complete environment (config §9.7)."""
        return environment.build(self)

    def get_args(self) -> list[str]:
        """The arguments that are added to `cmd`."""
        return list(self.args)

    async def get_url(self) -> str:
        """Where the server is; asked when a Hub has taken over a running server."""
        return self.server.url if self.server is not None else ""

    def template_namespace(self) -> dict[str, Any]:
        """What the placeholders in `notebook_dir` and `default_url` stand for (config §9.8)."""
        namespace = {"username": self.user.name}
        if self.server is not None:
            namespace["base_url"] = self.server.base_url
        return namespace

    def format_string(self, s: str) -> str:
        """Fill in the placeholders. Raises KeyError for one that is not known."""
        return s.format(**self.template_namespace())

    async def progress(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield what the user sees during a start: `progress` (0 to 100), `message`, `html_message`; all optional."""
        yield {"progress": 50, "message": "The server is being started"}

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
        """Bring the files of `create_certs` to where the server can read them; their paths there."""
        raise NotImplementedError(f"{type(self).__name__} has no move_certs(), which internal_ssl needs")

    # -- options --

    @default("options_from_form")
    def _options_from_form(self) -> Any:
        return "passthrough"

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
        if self.profiles and self.options_from_form == "passthrough":
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


class LocalProcessSpawner(Spawner):
    """Runs servers as processes of this machine, each under its user's own account.

    The Hub must be allowed to switch to other users, which usually means root. What a server writes goes to a file
    of the Hub's, of bounded size.
    """

    interrupt_timeout = Integer(30, help="Seconds that a server has to end after SIGINT, before SIGTERM.").tag(
        config=True
    )
    term_timeout = Integer(30, help="Seconds that a server has to end after SIGTERM, before SIGKILL.").tag(config=True)
    kill_timeout = Integer(5, help="Seconds to wait for the end after SIGKILL.").tag(config=True)
    popen_kwargs = Dict(
        help="""More arguments for subprocess.Popen, for instance a working directory. The environment cannot be set
        here, see `environment`."""
    ).tag(config=True)
    shell_cmd = Command(
        minlen=0,
        help="""A shell that runs the command, such as ["bash", "-l", "-c"]: the whole command, quoted, becomes one more
        argument of it.""",
    ).tag(config=True)
    create_system_users = Bool(
        False, help="Create the account of a user who has none, when their server is started."
    ).tag(config=True)
    add_user_cmd = Command(
        help="""Command that creates an account, for `create_system_users`. The name is added at the end, and takes the
        place of the word USERNAME."""
    ).tag(config=True)
    runtime_dir = Unicode(
        ".jupyterhub-run",
        help="""Directory for servers' output and for what finds their processes again after a crash of the Hub.

        It is only for the Hub (mode 0700). Where it cannot be made, one below the temporary files is used.
        """,
    ).tag(config=True)

    proc = Instance(subprocess.Popen, allow_none=True)
    pid = Integer(0)
    _process_identity = ""
    _output_path = ""
    _directory: Path | None = None
    _launching = False

    @default("env_keep")
    def _env_keep_default(self) -> list[str]:
        python = "CONDA_DEFAULT_ENV CONDA_ROOT PYTHONPATH VIRTUAL_ENV JUPYTERHUB_SINGLEUSER_APP"
        system = "LANG LC_ALL LD_LIBRARY_PATH PATH"
        return sorted([*python.split(), *system.split()])

    @default("add_user_cmd")
    def _add_user_cmd_default(self) -> list[str]:
        return localprocess.default_add_user_command()

    # -- state --

    def load_state(self, state: dict[str, Any]) -> None:
        """Take the process id, with what tells the process from a later one of the same id."""
        super().load_state(state)
        if "pid" in state:
            self.pid = int(state["pid"] or 0)
            self._process_identity = str(state.get("process") or "")
            if self.pid and not self._process_identity:
                # Stored by a JupyterHub that kept the id alone: from here on it is this process and no other.
                self._process_identity = localprocess.process_identity(self.pid) or ""
        self._output_path = str(state.get("output") or "")

    def get_state(self) -> dict[str, Any]:
        """The process id and what belongs to it."""
        state = super().get_state()
        if self.pid:
            state["pid"] = self.pid
            if self._process_identity:
                state["process"] = self._process_identity
            if self._output_path:
                state["output"] = self._output_path
        return state

    def clear_state(self) -> None:
        """Forget the process; its output can be read until the next start."""
        super().clear_state()
        self._forget_process()

    def _forget_process(self) -> None:
        if self.pid and self._is_managed:
            localprocess.RunFile.remove_all(self._runtime_directory(), self._record.id)
        self.pid = 0
        self.proc = None
        self._process_identity = ""

    # -- environment --

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        """Add what a log-in sets: USER, and HOME and SHELL of the account."""
        account = pwd.getpwnam(self.user.name)
        env["USER"] = self.user.name
        if account.pw_dir:
            env["HOME"] = account.pw_dir
        if account.pw_shell:
            env["SHELL"] = account.pw_shell
        return env

    def get_env(self) -> dict[str, str]:
        """The base's environment, then that of the account."""
        return self.user_env(super().get_env())

    def make_preexec_fn(self, name: str) -> Callable[[], None] | None:
        """What is called in the child, before it becomes the server: switch to the user `name`.

        Raises KeyError or PermissionError, which say what to do, when that cannot work.
        """
        localprocess.check_account(name)
        return set_user_setuid(name)

    async def _ensure_account(self) -> None:
        try:
            pwd.getpwnam(self.user.name)
        except KeyError:
            self.log.warning("Creating the system user %s", self.user.name)
            await asyncio.get_running_loop().run_in_executor(
                None, localprocess.add_system_user, self.user.name, list(self.add_user_cmd)
            )

    # -- start --

    async def start(self) -> Any:
        """Run the command as a process in a session of its own."""
        if self.create_system_users:
            await self._ensure_account()
        if self.port == 0:
            self.port = random_port()
        env = self.get_env()
        command = localprocess.with_known_program([*(self.cmd or []), *self.get_args()], env)
        if self.shell_cmd:
            command = [*self.shell_cmd, shlex.join(command)]
        run_file = self._run_file()
        if run_file is not None:
            env["JUPYTERHUB_SERVER_ROW"] = str(run_file.row)
            env["JUPYTERHUB_SERVER_FENCE"] = str(run_file.fence)
        popen_options = {"preexec_fn": self.make_preexec_fn(self.user.name), **self.popen_kwargs}
        # Without a Hub nobody would ever look at a file, or delete it.
        output = self._output_file() if self._is_managed else None
        self._output_path = "" if output is None else str(output.path)
        self.log.info("Starting %s: %s", self._log_name, shlex.join(command))

        def launch() -> subprocess.Popen[bytes]:
            return localprocess.launch(command, env=env, options=popen_options, run_file=run_file, output=output)

        # On a thread, because preparing the child may wait for a home directory that is far away.
        launching = asyncio.get_running_loop().run_in_executor(None, launch)
        self._launching = True
        try:
            self._adopt(await asyncio.shield(launching))
        except asyncio.CancelledError:
            await self._settle_cancelled(launching)
            raise
        finally:
            self._launching = False
        return (self.ip or "127.0.0.1", self.port)

    def _adopt(self, process: subprocess.Popen[bytes]) -> None:
        self.proc = process
        self.pid = process.pid
        self._process_identity = localprocess.process_identity(process.pid) or ""

    async def _settle_cancelled(self, launching: asyncio.Future[subprocess.Popen[bytes]]) -> None:
        """Cancelled while the child is being made: whoever stops us next must find it, or it must die at once."""
        done, _ = await asyncio.wait([launching], timeout=5)
        if done:
            if launching.exception() is None:
                self._adopt(launching.result())
            return

        def kill(late: asyncio.Future[subprocess.Popen[bytes]]) -> None:
            if late.exception() is None:
                late.result().kill()

        launching.add_done_callback(kill)

    # -- files of the run --

    def _runtime_directory(self) -> Path:
        if self._directory is None:
            self._directory = localprocess.private_directory(self.runtime_dir)
        return self._directory

    def _run_file(self) -> localprocess.RunFile | None:
        """Where the child writes who it is; None where no Hub manages the server."""
        if not self._is_managed:
            return None
        return localprocess.RunFile(self._runtime_directory(), self._record.id, self._record.fence)

    def _output_file(self) -> localprocess.OutputFile:
        return localprocess.OutputFile(self._runtime_directory() / f"{self._record.id}.log")

    def logs(self, lines: int = 100) -> list[str]:
        """The last lines that the server has written, without ends of line; none if they go elsewhere."""
        if not self._output_path:
            return []
        return localprocess.OutputFile(Path(self._output_path)).tail(lines)

    def find_orphan(self) -> bool:
        """Look for a process that a killed Hub had started for this server and not yet written down.

        Whether there is one; `poll` and `stop` then mean it.
        """
        if self.pid and localprocess.is_running(self.pid, self._process_identity):
            return True
        if not self._is_managed:
            return False
        found = localprocess.RunFile.find_process(self._runtime_directory(), self._record.id)
        if found is None:
            return False
        self.pid, self._process_identity = found
        self.log.warning("Found process %i of %s, which was not yet written down", self.pid, self._log_name)
        return True

    # -- watching and stopping --

    async def poll(self) -> int | None:
        """None while the process lives; else its exit status, 0 if it is not our own child."""
        if self.proc is not None:
            status: int | None = self.proc.poll()
        elif self._launching or localprocess.is_running(self.pid, self._process_identity):
            status = None
        else:
            status = 0
        if status is None:
            if self._output_path:
                localprocess.OutputFile(Path(self._output_path)).bound()
            return None
        if self.pid:
            # A plugin may start its server anew from here; the token lasts as long as the run.
            token = self.api_token
            self.clear_state()
            self.api_token = token
        return status

    async def _signal(self, sig: int) -> bool:
        """Send a signal to the server's process; whether it was there."""
        if not localprocess.is_running(self.pid, self._process_identity):
            return False
        try:
            os.kill(self.pid, sig)
        except ProcessLookupError:
            return False
        return True

    async def stop(self, now: bool = False) -> None:
        """End the process: SIGINT, SIGTERM, SIGKILL, each with its time; with `now` SIGKILL at once.

        Raises RuntimeError when it outlives all of them.
        """
        stages = [
            (signal.SIGINT, self.interrupt_timeout),
            (signal.SIGTERM, self.term_timeout),
            (signal.SIGKILL, self.kill_timeout),
        ]
        for number, timeout in stages[2:] if now else stages:
            if await maybe_future(self._exit_status_now()) is not None:
                return
            pid = self.pid
            # A killed server cannot end its kernels any more.
            end_the_rest = localprocess.kill_descendants(pid) if number == signal.SIGKILL else None
            self.log.debug("Sending %s to %i, the server of %s", number.name, pid, self._log_name)
            await maybe_future(self._signal(number))
            gone = await self._wait_for_end(timeout)
            if end_the_rest is not None:
                end_the_rest()
            if gone:
                return
        raise RuntimeError(f"Process {self.pid} of {self._log_name} is still there after SIGKILL")

    async def _exit_status_now(self) -> int | None:
        """Like `poll`, but never that of a subclass, which may have its own idea of health."""
        return await LocalProcessSpawner.poll(self)

    async def _wait_for_end(self, timeout: float) -> bool:
        async def is_gone() -> bool:
            return await self._exit_status_now() is not None

        try:
            await exponential_backoff(
                is_gone,
                "the process did not end",
                start_wait=0.02,
                scale_factor=1.5,
                max_wait=max(self.death_interval, 0.02),
                timeout=timeout,
                timeout_tolerance=0,
            )
        except TimeoutError:
            return False
        return True

    async def delete_forever(self) -> None:
        """Delete the kept output."""
        await super().delete_forever()
        if self._is_managed:
            self._output_file().remove()

    async def move_certs(self, paths: dict[str, str]) -> dict[str, str]:
        """Copy the files to where only the user can read them, in the user's home."""
        if self.create_system_users:
            await self._ensure_account()
        preexec_fn, env = self.make_preexec_fn(self.user.name), self.user_env({})
        own = self._certificate_name
        directory = "jupyterhub-certs" if own.startswith("user-") else f"jupyterhub-certs-{own}"
        return await asyncio.get_running_loop().run_in_executor(
            None, certificates.hand_over, paths, preexec_fn, env, directory
        )


class SimpleLocalProcessSpawner(LocalProcessSpawner):
    """Runs all servers under the Hub's own account; no account per user is needed.

    For development and for deployments with a single user: users are not protected from each other.
    """

    create_system_users = False
    home_dir_template = Unicode(
        "/tmp/{username}", help="Home directory of each user; {username} stands for the name."
    ).tag(config=True)
    home_dir = Unicode(help="This user's home directory; follows from home_dir_template.")

    @default("home_dir")
    def _home_dir_default(self) -> str:
        return str(self.home_dir_template).format(username=self.user.name)

    def make_preexec_fn(self, name: str) -> Callable[[], None]:
        """Make the home directory and go there."""
        home = self.home_dir

        def enter_home() -> None:
            os.makedirs(home, 0o755, exist_ok=True)
            os.chdir(home)

        return enter_home

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        """Add USER, HOME and SHELL."""
        env["USER"] = self.user.name
        env["HOME"] = self.home_dir
        env["SHELL"] = "/bin/bash"
        return env

    async def move_certs(self, paths: dict[str, str]) -> dict[str, str]:
        """Everything runs as one user, so the files stay where they are."""
        return paths
