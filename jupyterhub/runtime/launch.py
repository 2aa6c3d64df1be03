"""The steps of starting a server, each with its undo (LAYOUT §6). A stop is the same list taken back.

Plugins see one order that plain reversal would change: the rows (address, token, OAuth client) are gone before the
closing hooks run (plugins §3.4). That is why `close` is the first step: its undo runs last.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .._version import INTERFACE_VERSION, _check_version
from ..aio import deadline
from ..core.clock import utcnow
from ..core.errors import PluginMistake, ServerStillRunning
from ..core.urls import url_path_join
from ..net import ServerAnswer, ServerExited, ServerSilent, make_ssl_context, wait_for_answer
from ..spawning import pods
from ..spawning.results import interpret_start_result
from ..store import runs, starts
from ..store.starts import ServerSecrets
from .bulletin import Board
from .server_secrets import new_secrets, resolve_client_scopes, resolve_token_scopes, spawner_path
from .steps import Step

if TYPE_CHECKING:
    from ..spawner import Spawner
    from ..user import User
    from .context import HubContext

#: Seconds `Spawner.stop` may take. Container engines and batch systems need minutes to let go; nothing needs more.
STOP_TIMEOUT = 600.0
#: Seconds one closing hook may take.
HOOK_TIMEOUT = 120.0
#: Seconds a `poll` may take for which somebody waits, the end of the Hub perhaps: without an answer it counts as running.
POLL_TIMEOUT = 10.0
#: Seconds the `poll` may take that tells a server which has ended from one that is slow.
LAST_LOOK_TIMEOUT = 0.8
#: Seconds between two looks at `get_state` while `start` runs: what a plugin has created must be in the database
#: before a crash can make us forget it.
STATE_WATCH_INTERVAL = 0.5


@dataclass
class Phase:
    """One phase of a start as the owner sees it; times are aware UTC."""

    name: str
    started: datetime
    ended: datetime | None = None
    _told: dict[str, Any] | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return it with texts for times; one that is over is told with every later one, and always the same."""
        if self._told is None or (self.ended is not None and self._told["ended"] is None):
            self._told = {
                "phase": self.name,
                "started": self.started.isoformat(),
                "ended": self.ended.isoformat() if self.ended else None,
            }
        return self._told


@dataclass
class Launch:
    """One run of one server: what the steps need to know and to remember."""

    context: HubContext
    user: User
    spawner: Spawner
    spawner_id: int
    fence: int
    board: Board
    options: dict[str, Any] | None = None
    handler: Any = None
    requested_by: str = ""
    #: Raw scopes: those of the role for servers where the spawner asks for none itself, and those its owner holds.
    scopes: tuple[Sequence[str], Sequence[str]] = ((), ())
    #: What was stored together with the wish, where nobody had to be asked first.
    secrets: ServerSecrets | None = None
    began: float = field(default_factory=time.monotonic)
    #: Whether the task that does the steps runs: one that does not yet would end by a cancellation without a trace.
    entered: bool = False
    begun: list[str] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    #: Set by the manager: writes one move of the life cycle under our fence.
    move: Callable[..., Awaitable[None]] | None = None
    process_gone: bool = False
    #: What the last run could not stop, in a sentence: it is looked for before anything is started.
    left_behind: str = ""
    #: A sentence when the server may still be running after all we did.
    stop_problem: str = ""
    #: The plugin's method that was called last.
    calling: str = ""
    #: Whether there was no authentication state to give to the hooks.
    auth_state_missing: bool = False
    #: What the spawner's `progress` has told, newest last.
    messages: deque[str] = field(default_factory=lambda: deque(maxlen=100))
    final_state: dict[str, Any] | None = None
    own_token: str = ""

    @property
    def log_name(self) -> str:
        return self.spawner._log_name

    @property
    def phase(self) -> str:
        return self.phases[-1].name if self.phases else ""

    def enter_phase(self, name: str) -> None:
        """Begin a phase, end the one before, and tell whoever follows the start."""
        now = utcnow()
        if self.phases and self.phases[-1].ended is None:
            self.phases[-1].ended = now
        self.phases.append(Phase(name, now))
        self.board.post({"phase": name, "phases": [phase.to_dict() for phase in self.phases]})

    def end_phases(self) -> None:
        if self.phases and self.phases[-1].ended is None:
            self.phases[-1].ended = utcnow()

    async def plugin(self, what: str, call: Callable[[], Any], timeout: float | None = HOOK_TIMEOUT) -> Any:
        """Call into a plugin through the one adapter, under a deadline, and settle what it left in its session.

        Raises what the plugin raises; TimeoutError names the call.
        """
        self.calling = what
        return await call_plugin(self.context, f"{type(self.spawner).__name__}.{what}", call, timeout)


async def call_plugin(context: HubContext, who: str, call: Callable[[], Any], timeout: float | None) -> Any:
    """Await `call()` as plugins may write it, then commit or roll back their database session (ARCHITECTURE §9)."""
    failed = True
    try:
        result = call()
        if isinstance(result, concurrent.futures.Future):
            result = asyncio.wrap_future(result)
        if inspect.isawaitable(result):
            result = await deadline(result, timeout, who)
        failed = False
        return result
    finally:
        database = context.database
        if database.has_plugin_session:
            database.settle_plugin_session(who, failed=failed)


# The steps, in order.


async def _nothing(launch: Launch) -> None:
    """The closing calls have no counterpart at the beginning."""


async def _close(launch: Launch) -> None:
    """Closing calls, in the order plugins know: post_stop_hook, clear_state, get_state, post_spawn_stop."""
    if "secrets" not in launch.begun:
        return
    spawner, context = launch.spawner, launch.context
    if launch.stop_problem:
        # The state is all that can still find a server which did not go away.
        launch.final_state = spawner.get_state()
        return
    problems: list[Exception] = []
    try:
        await launch.plugin("post_stop_hook", spawner.run_post_stop_hook)
    except Exception as error:
        problems.append(error)
    try:
        spawner.clear_state()
        launch.final_state = spawner.get_state()
    except Exception as error:
        problems.append(error)
    authenticator = context.authenticator
    try:
        await call_plugin(
            context,
            f"{type(authenticator).__name__}.post_spawn_stop",
            lambda: authenticator.post_spawn_stop(launch.user, spawner),
            HOOK_TIMEOUT,
        )
    except Exception as error:
        problems.append(error)
    if problems:
        for extra in problems[1:]:
            context.reporting.undo_failed(launch.log_name, "close", extra)
        raise problems[0]


async def _issue_secrets(launch: Launch) -> None:
    """Issue the server's token and register its OAuth client, then hand both to the spawner."""
    spawner, user, context = launch.spawner, launch.user, launch.context
    spawner._begin_run()
    issued = launch.secrets
    token_scopes: list[str] = []
    if issued is None:
        token_scopes = await resolve_token_scopes(launch)
        issued = new_secrets(user, spawner, await resolve_client_scopes(launch))
    spawner.handler = launch.handler
    if launch.options is not None:
        spawner.user_options = launch.options
    if launch.secrets is None:
        await context.database.run(starts.register_secrets, launch.spawner_id, launch.fence, issued, token_scopes)
    launch.own_token = issued.token
    spawner._resolved_client_scopes = list(issued.client_scopes)
    spawner.clear_state()
    spawner.api_token = issued.token
    spawner.admin_access = context.admin_access or False
    spawner.oauth_access_scopes = [issued.access_scope, f"access:servers!user={user.name}"]


async def _forget_secrets(launch: Launch) -> None:
    """Delete address, token and OAuth client in one transaction; a server that resumes keeps the last two."""
    spawner = launch.spawner
    await launch.context.database.run(
        runs.forget_secrets,
        launch.spawner_id,
        launch.fence,
        note=f"Server at {launch.user.base_url}{spawner_path(spawner.name)}",
        client_id=spawner.oauth_client_id,
        keep=bool(spawner.will_resume),
    )
    spawner._record.address = None
    spawner._record.started = None
    if not spawner.will_resume:
        spawner.api_token = ""
    launch.context.access.forget_user(launch.user.id)


async def _prepare(launch: Launch) -> None:
    """All hooks before `start` (config §9.1, steps 6 to 11)."""
    spawner, user, context = launch.spawner, launch.user, launch.context
    authenticator = context.authenticator
    launch.calling = "pre_spawn_start"
    await call_plugin(
        context,
        f"{type(authenticator).__name__}.pre_spawn_start",
        lambda: authenticator.pre_spawn_start(user, spawner),
        float(spawner.start_timeout),
    )
    auth_state = await user.get_auth_state()
    launch.auth_state_missing = auth_state is None
    await launch.plugin("auth_state_hook", lambda: spawner.run_auth_state_hook(auth_state))
    await launch.plugin("group_overrides", spawner.apply_group_overrides)
    await launch.plugin("apply_user_options", lambda: spawner._run_apply_user_options(spawner.user_options))
    await launch.plugin("pre_spawn_hook", spawner.run_pre_spawn_hook, float(spawner.start_timeout))


async def _make_certificates(launch: Launch) -> None:
    """Internal TLS for this server, if it is on."""
    spawner = launch.spawner
    if not spawner.internal_ssl:
        return
    paths = await launch.plugin("create_certs", spawner.create_certs)
    spawner.cert_paths = await launch.plugin("move_certs", lambda: spawner.move_certs(paths))


async def _start_process(launch: Launch) -> None:
    """`Spawner.start` within `start_timeout`, watching its state so that a crash cannot orphan what it makes."""
    spawner = launch.spawner
    watches: list[asyncio.Task[None]] = []
    # Most starts are over before there is anything to watch.
    alarm = asyncio.get_running_loop().call_later(
        STATE_WATCH_INTERVAL, lambda: watches.append(asyncio.ensure_future(_watch_state(launch)))
    )
    try:
        result = await launch.plugin("start", lambda: pods.start(spawner), float(spawner.start_timeout))
    finally:
        alarm.cancel()
        for watch in watches:
            watch.cancel()
            await asyncio.wait([watch])
    where = interpret_start_result(result, spawner)
    address = spawner._record.address
    if address is None:
        raise PluginMistake(type(spawner).__name__, "start() left the server without an address")
    if where != (address.proto, address.ip, address.port):
        address.proto, address.ip, address.port = where
    take_internal_pair(spawner, launch.context)


async def _watch_state(launch: Launch) -> None:
    known: dict[str, Any] = {}
    while True:
        known = await store_state_if_changed(launch, known)
        await asyncio.sleep(STATE_WATCH_INTERVAL)


async def store_state_if_changed(launch: Launch, known: dict[str, Any]) -> dict[str, Any]:
    """Ask the spawner for its state and store it when it differs from `known`; return what is stored now."""
    try:
        state = launch.spawner.get_state()
    except Exception:
        # A plugin may not be able to answer half-way through its own start; the end of `start` asks again.
        return known
    if state != known:
        await launch.context.database.run(runs.save_state, launch.spawner_id, launch.fence, state)
    return dict(state)


async def _stop_process(launch: Launch) -> None:
    """Ask `poll`; call `stop` only if that says "running", or nothing in time (plugins §3.7)."""
    spawner = launch.spawner
    if launch.process_gone:
        return
    try:
        status = await launch.plugin("poll", spawner.poll_once, POLL_TIMEOUT)
    except Exception as error:
        launch.context.reporting.undo_failed(launch.log_name, "poll", error)
        # It may be in the middle of starting the server anew, behind the back of the stop.
        await spawner._give_up_poll()
        status = None
    if status is not None:
        return
    try:
        await launch.plugin("stop", spawner.stop, STOP_TIMEOUT)
    except Exception as error:
        launch.stop_problem = f"it could not be stopped: {error}"
        raise


async def _store_address(launch: Launch) -> None:
    """Address and state go into the database in the move to `connecting`; a resumed server's token is checked."""
    spawner, address = launch.spawner, launch.spawner._record.address
    assert address is not None and launch.move is not None
    brought = spawner.api_token if spawner.api_token != launch.own_token else ""
    if brought:
        adopted = await launch.context.database.run(
            runs.adopt_token,
            launch.spawner_id,
            launch.fence,
            token=brought,
            replaced=launch.own_token,
            note=f"retrieved from spawner {launch.log_name}",
            client_id=spawner.oauth_client_id,
        )
        launch.context.access.forget_user(launch.user.id)
        if not adopted:
            raise PluginMistake(
                type(spawner).__name__, "it came back with an API token of somebody else, which is revoked now"
            )
    spawner.handler = None
    await launch.move("process_up", address=(address.proto, address.ip, address.port), spawner_state=spawner.get_state())


async def _wait_for_answer(launch: Launch) -> None:
    """Wait within `http_timeout` until the server answers HTTP below 500, noticing at once when it dies."""
    spawner, address = launch.spawner, launch.spawner._record.address
    assert address is not None and launch.move is not None
    url = url_path_join(address.url, "api")
    try:
        answer: ServerAnswer = await wait_for_answer(
            url,
            timeout=float(spawner.http_timeout),
            ssl_context=server_ssl_context(launch.context),
            gone=None if getattr(spawner, "proc", None) is None else lambda: process_exit_status(spawner),
        )
    except ServerSilent as error:
        await _raise_if_gone(launch, url, error)
        raise
    spawner._jupyterhub_version = answer.headers.get("X-JupyterHub-Version", "")
    _check_version(INTERFACE_VERSION, spawner._jupyterhub_version, spawner.log)
    launch.context.reporting.answered(launch.log_name, launch.began)
    # Only in memory: a Hub that takes over now waits for the answer again, which costs nothing.
    await launch.move("answered", stored=False)


async def _raise_if_gone(launch: Launch, url: str, error: ServerSilent) -> None:
    """Raise ServerExited when `poll` knows that a silent server has ended: the start is over, so it may judge now."""
    try:
        status = await call_plugin(
            launch.context, f"{type(launch.spawner).__name__}.poll", launch.spawner.poll_once, LAST_LOOK_TIMEOUT
        )
    except Exception:
        # The clean-up polls once more and reports what is wrong.
        return
    if status is not None:
        raise ServerExited(url, status) from error


def process_exit_status(spawner: Spawner) -> int | None:
    """Return the exit status of a child process of ours that has ended, else None.

    Only the process handle is asked, never `poll`: a plugin's poll may judge (and restart) a server that is still
    booting (spawner system S9).
    """
    process = getattr(spawner, "proc", None)
    if process is None:
        return None
    status: int | None = process.poll()
    return status


def server_ssl_context(context: HubContext) -> Any:
    """Return the TLS context with which the Hub talks to servers, or None without internal TLS."""
    if not context.internal_ssl:
        return None
    return make_ssl_context(*_internal_pair(context))


def take_internal_pair(spawner: Spawner, context: HubContext) -> None:
    """Let spawners that wait for their server themselves show what the Hub shows: nobody else is let in."""
    server = spawner.server if context.internal_ssl else None
    if server is not None:
        server.keyfile, server.certfile, server.cafile = _internal_pair(context)


def _internal_pair(context: HubContext) -> tuple[str, str, str]:
    """Return the Hub's own key and certificate, and whom it trusts."""
    get = context.settings.get
    return get("internal_ssl_key", ""), get("internal_ssl_cert", ""), get("internal_ssl_ca", "")


async def _add_route(launch: Launch) -> None:
    await launch.context.routes.add_server(launch.user, launch.spawner)


async def _remove_route(launch: Launch) -> None:
    await launch.context.routes.remove_server(launch.user, launch.spawner.name)


async def _start_polling(launch: Launch) -> None:
    launch.spawner.start_polling()


async def _stop_polling(launch: Launch) -> None:
    launch.spawner.stop_polling()


STEPS: tuple[Step[Launch], ...] = (
    Step("close", _nothing, _close),
    Step("secrets", _issue_secrets, _forget_secrets),
    Step("prepare", _prepare),
    Step("certificates", _make_certificates),
    Step("process", _start_process, _stop_process),
    Step("address", _store_address),
    Step("answer", _wait_for_answer),
    Step("route", _add_route, _remove_route),
    Step("watch", _start_polling, _stop_polling),
)

#: The step names whose undo makes a running server a stopped one.
ALL_STEPS = tuple(step.name for step in STEPS)

#: What the owner reads as phase while a step runs; steps without an entry belong to the phase before.
PHASE_OF_STEP = {
    "secrets": "preparing",
    "process": "starting",
    "address": "connecting",
    "route": "routing",
}


async def check_still_running(launch: Launch) -> None:
    """Refuse a start when the last stop failed and the old server is still there; try once more to stop it.

    Raises ServerStillRunning with the server's name, or what `poll` or `stop` raise. As long as it is not known to
    be gone, the state that can find it is kept.
    """
    spawner = launch.spawner
    launch.stop_problem = "it could not be stopped"
    if await launch.plugin("poll", spawner.poll_alone) is None:
        try:
            await launch.plugin("stop", spawner.stop, STOP_TIMEOUT)
        except Exception as error:
            launch.stop_problem = f"it could not be stopped: {error}"
            raise
        if await launch.plugin("poll", spawner.poll_alone) is None:
            raise ServerStillRunning(launch.user.name, spawner.name)
    launch.stop_problem = ""


__all__ = ["ALL_STEPS", "PHASE_OF_STEP", "STEPS", "Launch", "Phase", "call_plugin", "check_still_running"]
