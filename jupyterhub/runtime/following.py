"""Follow a start: the manager's own events, the spawner's progress and the server's output as one stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from html import escape
from typing import TYPE_CHECKING, Any

from ..core.errors import ServerNotRunning
from ..core.lifecycle import Failure, State, pending
from ..spawner import Spawner
from ..spawning.base import GENERAL_PROGRESS
from ..spawning.container_output import container_logs
from ..spawning.hooks import call_hook
from ..spawning.pods import before_progress, pod_logs
from ..spawning.unit_output import unit_logs
from .bulletin import Board
from .handles import Handle
from .launch import Launch, call_plugin

if TYPE_CHECKING:
    from .context import HubContext

#: Lines of a server's output that are shown while it starts and kept when it fails.
TAIL_LINES = 100
#: Characters of one line that are shown and kept.
MAX_LINE = 2000
#: Seconds between two looks at the output of a server that starts.
OUTPUT_INTERVAL = 1.0
#: Seconds that a failure waits for the output which may explain it: its owner hears of it within a second.
LAST_WORDS_TIMEOUT = 0.8
#: Characters of what a scheduler may say of a job in one line.
MAX_QUEUE_STATE = 200


async def follow_start(context: HubContext, handle: Handle) -> AsyncGenerator[dict[str, Any], None]:
    """Yield events until one that is terminal. Raises ServerNotRunning when there is nothing to follow."""
    if _is_ready(handle):
        yield await ready_event(context, handle)
        return
    if pending(handle.state) != "spawn":
        failure = handle.record.failure
        if failure is None:
            raise ServerNotRunning(handle.user.name, handle.name)
        phases = [phase.to_dict() for phase in handle.launch.phases] if handle.launch else handle.phases
        yield failed_event(failure, handle.output, phases)
        return
    board = context.bulletin.board(handle.record.id)
    if board is None:
        raise ServerNotRunning(handle.user.name, handle.name)
    async for event in _merge(context, handle, board):
        yield event
        if event.get("failed"):
            return
    if handle.start is not None:
        await asyncio.wait([handle.start.done])
    if _is_ready(handle):
        yield await ready_event(context, handle)
    else:
        yield {"progress": 100, "failed": True, "message": "The server did not start"}


def _is_ready(handle: Handle) -> bool:
    return handle.state is State.READY


def failed_event(failure: Failure, output: list[str], phases: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the terminal event of a start that failed or was cancelled."""
    event: dict[str, Any] = {
        "progress": 100,
        "failed": True,
        "message": "Spawn cancelled"
        if failure.cause == "cancelled"
        else f"Spawn failed: {failure.detail or failure.message}",
        "failure": failure.to_dict(),
        "log": list(output),
        "phases": list(phases),
    }
    if failure.html_message:
        event["html_message"] = failure.html_message
    return event


async def ready_event(context: HubContext, handle: Handle) -> dict[str, Any]:
    """Return the terminal event of a ready server, as the spawner's hook may change it."""
    url = handle.user.server_url(handle.name)
    shown = escape(url)
    event: dict[str, Any] = {
        "progress": 100,
        "ready": True,
        "message": f"Server ready at {url}",
        "html_message": f'Server ready at <a href="{shown}">{shown}</a>',
        "url": url,
    }
    spawner = handle.spawner
    if not getattr(spawner, "progress_ready_hook", None):
        return event
    plugin = type(spawner).__name__
    try:
        changed = await call_plugin(
            context,
            f"{plugin}.progress_ready_hook",
            lambda: call_hook(spawner, "progress_ready_hook", dict(event)),
            30,
        )
    except Exception as error:
        context.reporting.plugin_mistake(plugin, f"progress_ready_hook failed: {error}")
        return event
    return dict(changed) if isinstance(changed, dict) else event


async def _merge(context: HubContext, handle: Handle, board: Board) -> AsyncGenerator[dict[str, Any], None]:
    """Mix the board's events with the server's output, until the board is closed."""
    queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    spawner = handle.spawner

    async def from_board() -> None:
        try:
            async for event in board.listen():
                queue.put_nowait(event)
        finally:
            queue.put_nowait(None)

    async def from_output() -> None:
        seen = 0
        while True:
            lines = await read_output(context, spawner, TAIL_LINES)
            if len(lines) > seen:
                queue.put_nowait({"log": lines[seen:]})
                seen = len(lines)
            await asyncio.sleep(OUTPUT_INTERVAL)

    name = handle.log_name
    tasks = [
        context.background.start(from_board(), name=f"events of {name}"),
        context.background.start(from_output(), name=f"output of {name}"),
    ]
    try:
        while (event := await queue.get()) is not None:
            yield event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def begin_progress(context: HubContext, launch: Launch) -> asyncio.Task[None] | None:
    """Begin to post what the spawner's `progress` tells; there is no task where it has nothing of its own to tell."""
    spawner = launch.spawner
    if type(spawner).progress is Spawner.progress and "progress" not in vars(spawner):
        launch.board.post(dict(GENERAL_PROGRESS))
        return None
    return context.background.start(relay_progress(context, launch), name=f"progress of {launch.log_name}")


async def relay_progress(context: HubContext, launch: Launch) -> None:
    """Post what the spawner's `progress` tells on the board of the start, for everybody, and keep its words.

    What is told again and again, as of a job that waits for hours, is posted once.
    """
    spawner, last = launch.spawner, None
    try:
        await before_progress(spawner)
        async for event in spawner._generate_progress():
            event = with_queue_state(spawner, event)
            if event == last:
                continue
            last = event
            launch.board.post(event)
            message = str(event.get("message") or "")
            if message:
                launch.messages.append(message)
    except Exception as error:
        context.reporting.plugin_mistake(type(spawner).__name__, f"progress() failed: {error}")


def with_queue_state(spawner: Spawner, event: dict[str, Any]) -> dict[str, Any]:
    """Add the scheduler's own words to the message of a progress event.

    Batch spawners keep them in `job_status`, and tell only that the job is waiting. Some schedulers answer with
    whole documents: those are for programs.
    """
    status, message = getattr(spawner, "job_status", None), event.get("message")
    if not (isinstance(status, str) and isinstance(message, str)) or status in message:
        return event
    if len(status) > MAX_QUEUE_STATE or "\n" in status or status.startswith("<"):
        return event
    return {**event, "message": f"{message} {status}"}


async def last_words(context: HubContext, launch: Launch, lines: int = TAIL_LINES) -> list[str]:
    """Return the last lines of a server that has failed: its output, else what its spawner told as progress."""
    return await read_output(context, launch.spawner, lines, timeout=LAST_WORDS_TIMEOUT) or list(launch.messages)


async def read_output(context: HubContext, spawner: Spawner, lines: int, *, timeout: float = 5) -> list[str]:
    """Return the last lines of a server's output from the spawner's optional `logs`, [] when it has none or fails."""
    logs = getattr(spawner, "logs", None) or container_logs(spawner) or unit_logs(spawner) or pod_logs(spawner)
    if logs is None:
        return []
    try:
        value = await call_plugin(context, f"{type(spawner).__name__}.logs", lambda: logs(lines), timeout)
    except Exception as error:
        context.reporting.plugin_mistake(type(spawner).__name__, f"logs() failed: {error}")
        return []
    text = value.splitlines() if isinstance(value, str) else list(value or [])
    return [str(line)[:MAX_LINE] for line in text][-lines:]
