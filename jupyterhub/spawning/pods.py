"""Servers in pods of a Kubernetes cluster, by spawners made like kubespawner's: what these do not say themselves.

They know pods by reflectors, which are shared by all spawners of a class: copies of what the cluster's API server has,
kept current by a watch. Two things of a copy mislead. One whose first load failed, as the API server was away, looks
like that of an empty cluster, and one whose watch has given up never changes again. And why a container ended is known
only until its pod is deleted, which their `poll` does.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ..aio import maybe_future
from .limits.mechanism import format_bytes

__all__ = ["PodEnded", "before_poll", "before_progress", "pod_logs", "start"]

#: Seconds between two looks whether a pod that starts has ended.
LOOK_INTERVAL = 0.5
#: Seconds that a `poll` waits for the last lines of a pod that has ended; some polls have less than a second in all.
LOG_TIMEOUT = 0.6
#: Lines that are kept of a pod that has ended.
LAST_LINES = 100


class PodEnded(RuntimeError):
    """The pod ended before its spawner saw it run; `exit_status` is that of its container."""

    def __init__(self, name: str, exit_status: int) -> None:
        super().__init__(f"The pod {name} ended with exit status {exit_status} before it was ready")
        self.exit_status = exit_status


@dataclass(frozen=True)
class _End:
    """How a pod ended: its uid, its container's exit status, its last lines."""

    uid: str
    exit_status: int
    lines: tuple[str, ...]


def _has_pods(spawner: Any) -> bool:
    return isinstance(getattr(type(spawner), "reflectors", None), dict) and hasattr(type(spawner), "pod_reflector")


async def before_poll(spawner: Any) -> None:
    """Let a `poll` that follows at once see what is there, and keep what it will take away. Does nothing for others."""
    if _has_pods(spawner):
        try:
            await _note_end(spawner)
            # Nothing may wait from here until `poll` asks for its reflector, and makes a new one.
            _drop_dead_reflectors(spawner)
        except Exception as error:
            _log_mistaken(spawner, error)


async def before_progress(spawner: Any) -> None:
    """Let a `progress` that follows tell of this start only. Does nothing for others.

    The pods of a server have the same name, and the cluster remembers their events for an hour. kubespawner's `start`
    notes the last of the old ones; a `progress` that asks before tells those, and not the new ones.
    """
    if not (_has_pods(spawner) and getattr(spawner, "events_enabled", False)):
        return
    try:
        await spawner._start_watching_events()
        if old := spawner.events:
            spawner._last_event = old[-1]["metadata"]["uid"]
    except Exception as error:
        # The cluster may be away, which `progress` finds out itself.
        _log_mistaken(spawner, error)


def _log_mistaken(spawner: Any, error: BaseException) -> None:
    """A class with the same attributes may mean something else by them; then it is left to itself."""
    spawner.log.debug("%s does not keep its pods as kubespawner does: %r", type(spawner).__name__, error)


async def start(spawner: Any) -> Any:
    """Call a spawner's `start` and return what it returns.

    Spawners of pods wait until `start_timeout` for a pod that has ended already. Raises PodEnded as soon as it has,
    when it will not be started again.
    """
    if not _has_pods(spawner):
        result = spawner.start()
        return await (result if inspect.isawaitable(result) else maybe_future(result))
    spawner._pod_end, spawner.exit_reason = None, ""
    _drop_dead_reflectors(spawner)
    starting = asyncio.ensure_future(maybe_future(spawner.start()))
    ended = asyncio.ensure_future(_wait_for_end(spawner))
    try:
        await asyncio.wait({starting, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done() and (error := ended.exception()) is not None:
            if isinstance(error, PodEnded):
                raise error
            _log_mistaken(spawner, error)
        return await starting
    finally:
        for task in (starting, ended):
            task.cancel()
        await asyncio.gather(starting, ended, return_exceptions=True)


async def _wait_for_end(spawner: Any) -> None:
    while True:
        await asyncio.sleep(LOOK_INTERVAL)
        pod = _pod(spawner)
        # The pod of the last run may still be there: it has another token.
        if pod is None or pod["status"].get("phase") not in ("Failed", "Succeeded") or not _is_of_this_run(spawner, pod):
            continue
        await _note_end(spawner)
        end: _End | None = spawner._pod_end
        raise PodEnded(spawner.pod_name, end.exit_status if end else 1)


def _is_of_this_run(spawner: Any, pod: dict[str, Any]) -> bool:
    token = {"name": "JUPYTERHUB_API_TOKEN", "value": spawner.api_token}
    return any(token in (each.get("env") or []) for each in pod["spec"]["containers"])


def pod_logs(spawner: Any) -> Callable[[int], Awaitable[list[str]]] | None:
    """Return a `logs` for a spawner that is made like kubespawner's, None for any other."""
    if not _has_pods(spawner):
        return None

    async def logs(lines: int) -> list[str]:
        await _note_end(spawner)
        end: _End | None = getattr(spawner, "_pod_end", None)
        if end is not None:
            return list(end.lines)[-lines:]
        pod = _pod(spawner)
        if pod is None or "running" not in _container(pod).get("state", {}):
            return []
        return await _read_log(spawner, pod, lines)

    return logs


def _drop_dead_reflectors(spawner: Any) -> None:
    """Forget reflectors that could not load or have given up; whoever needs one makes a new one."""
    reflectors = type(spawner).reflectors
    for key, reflector in list(reflectors.items()):
        loaded, watch = getattr(reflector, "first_load_future", None), getattr(reflector, "watch_task", None)
        if loaded is None or not loaded.done():
            continue
        failed = loaded.cancelled() or loaded.exception() is not None
        if failed or watch is None or watch.done():
            spawner.log.warning("What is known of the cluster's %s is not current; asking it anew", key[0])
            del reflectors[key]


async def _note_end(spawner: Any) -> None:
    """Keep what is known of a pod that has ended, once."""
    pod = _pod(spawner)
    if pod is None:
        return
    uid, status, noted = pod["metadata"]["uid"], pod["status"], getattr(spawner, "_pod_end", None)
    terminated = _container(pod).get("state", {}).get("terminated")
    if (noted is not None and noted.uid == uid) or (terminated is None and status.get("phase") != "Failed"):
        return
    terminated = terminated or {}
    lines = await _read_log(spawner, pod, LAST_LINES) if terminated else []
    # Such as why it could not be executed, or why the pod was evicted from its node.
    for said in (terminated.get("message"), status.get("message")):
        lines += str(said or "").splitlines()
    if terminated.get("reason") == "OOMKilled":
        limit = getattr(spawner, "mem_limit", None)
        spawner.exit_reason = f"killed: memory limit{f' {format_bytes(int(limit))}' if limit else ''}"
    spawner._pod_end = _End(uid, int(terminated.get("exitCode", 1)), tuple(lines))


def _pod(spawner: Any) -> dict[str, Any] | None:
    """Return what the reflector has of the server's pod."""
    reflector = spawner.pod_reflector
    found: dict[str, Any] | None = reflector.pods.get(f"{spawner.namespace}/{spawner.pod_name}") if reflector else None
    return found


def _container(pod: dict[str, Any]) -> dict[str, Any]:
    """Return the status of the container that is the server; others may be beside it."""
    main = pod["spec"]["containers"][0]["name"]
    states = pod["status"].get("containerStatuses") or []
    return next((each for each in states if each["name"] == main), {})


async def _read_log(spawner: Any, pod: dict[str, Any], lines: int) -> list[str]:
    if getattr(spawner, "_pod_log_refused", False):
        return []
    metadata = pod["metadata"]
    try:
        written = await asyncio.wait_for(
            spawner.api.read_namespaced_pod_log(
                metadata["name"],
                metadata["namespace"],
                container=pod["spec"]["containers"][0]["name"],
                tail_lines=lines,
            ),
            LOG_TIMEOUT,
        )
    except Exception as error:
        # Not every Hub may read logs: it needs "get" on "pods/log".
        spawner._pod_log_refused = getattr(error, "status", None) == 403
        spawner.log.debug("No output of %s: %s", spawner._log_name, error)
        return []
    return str(written or "").splitlines()
