"""What servers in Docker containers wrote.

Released container spawners have no `logs`; their engine keeps the output, and knows whether a container ended for lack
of memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from .swarm_services import service_logs

__all__ = ["container_logs"]


def container_logs(spawner: Any) -> Callable[[int], Awaitable[list[str]]] | None:
    """Return a `logs` for a spawner that is made like dockerspawner's, None for any other."""
    if of_service := service_logs(spawner):
        return of_service
    if getattr(spawner, "object_type", "") != "container" or not hasattr(spawner, "object_id"):
        return None

    async def logs(lines: int) -> list[str]:
        if not spawner.object_id:
            return []
        try:
            # Not by the spawner's own thread: it has one for all servers, where a slow stop of one delays all others.
            container, written = await asyncio.to_thread(_ask, spawner, lines)
        except Exception as error:
            # The engine is away, or the container is: whoever asks knows that, or is told by `poll`.
            spawner.log.debug("No output of %s: %s", spawner._log_name, error)
            return []
        if not _is_of_this_run(spawner, container):
            return []
        said = written.decode(errors="replace").splitlines()
        if container["State"].get("OOMKilled"):
            said.append(f"OOMKilled: the container reached its memory limit{_size(container)}.")
        return said

    return logs


def _ask(spawner: Any, lines: int) -> tuple[dict[str, Any], bytes]:
    return spawner.client.inspect_container(spawner.object_id), spawner.client.logs(spawner.object_id, tail=lines)


def _is_of_this_run(spawner: Any, container: dict[str, Any]) -> bool:
    """A container that has ended stays, perhaps, until the next start is far enough to remove it; it has another token."""
    name = "JUPYTERHUB_API_TOKEN="
    tokens = [each for each in container["Config"].get("Env") or [] if each.startswith(name)]
    return not (tokens and spawner.api_token) or f"{name}{spawner.api_token}" in tokens


def _size(container: dict[str, Any]) -> str:
    limit = container.get("HostConfig", {}).get("Memory")
    return f" of {limit / 1024**2:.0f} MiB" if limit else ""
