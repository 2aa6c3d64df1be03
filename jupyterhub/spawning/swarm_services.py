"""Servers that are services of a Docker Swarm: what they wrote, and whether the swarm has given them up.

The released SwarmSpawner has no `logs`, and takes a service for running whose machine is down: the last that the
manager heard of it was that it runs. What the manager *wants* of it says more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

__all__ = ["end_of_service", "service_logs"]

_OVER: Final = {"shutdown", "remove", "orphaned"}
"""Desired states, from Docker's "How swarm mode works: tasks", from which none leads back to running."""

_NOT_HANDED_OVER: Final = "Error grabbing logs: "
"""How the engine begins a line of its own in the output that it is asked for."""


def is_service(spawner: Any) -> bool:
    """Return whether a spawner is made like dockerspawner's SwarmSpawner."""
    return getattr(spawner, "object_type", "") == "service" and hasattr(spawner, "service_name")


async def end_of_service(spawner: Any) -> str | None:
    """Return in words that a service which was running is over as its machine is lost, None otherwise.

    When the machine comes back, the swarm ends what still runs there: the server is lost in any case.
    """
    if not (is_service(spawner) and spawner.object_id):
        return None
    return await asyncio.to_thread(_lost_machine, spawner)


def _lost_machine(spawner: Any) -> str | None:
    tasks = _tasks(spawner)
    if not tasks or any(task["DesiredState"] not in _OVER for task in tasks):
        return None
    node = _node_of(spawner, tasks[-1])
    if node is None or node["Status"]["State"] == "ready":
        # The swarm is only about to end it.
        return None
    status = node["Status"]
    said = f" ({status['Message']})" if status.get("Message") else ""
    return f"The machine {_name(node)} is {status['State']}{said}."


def service_logs(spawner: Any) -> Callable[[int], Awaitable[list[str]]] | None:
    """Return a `logs` for a spawner that is made like dockerspawner's SwarmSpawner, None for any other."""
    if not is_service(spawner):
        return None

    async def logs(lines: int) -> list[str]:
        if not spawner.object_id:
            return []
        try:
            # Not by the spawner's own thread: it has one for all servers.
            return await asyncio.to_thread(_read, spawner, lines)
        except Exception as error:
            # The engine is away, or the service is: whoever asks knows that, or is told by `poll`.
            spawner.log.debug("No output of %s: %s", spawner._log_name, error)
            return []

    return logs


def _read(spawner: Any, lines: int) -> list[str]:
    tasks = _tasks(spawner)
    if not tasks:
        return []
    status = tasks[-1]["Status"]
    node = _node_of(spawner, tasks[-1])
    said: list[str] = []
    # The manager waits without end for the output of a machine that is down.
    if node is not None and node["Status"]["State"] == "ready" and status.get("ContainerStatus", {}).get("ContainerID"):
        written = spawner.client.service_logs(spawner.object_id, stdout=True, stderr=True, tail=lines)
        said = [_in_words(line, node) for line in b"".join(written).decode(errors="replace").splitlines()]
    problem = status.get("Err", "")
    if status["State"] != "running" and not problem.startswith("task: non-zero exit"):
        where = f" on {_name(node)}" if node else ""
        said.append(f"{status['State']}{where}{f': {problem}' if problem else ''}")
    return said


def _in_words(line: str, node: dict[str, Any]) -> str:
    """Return a line as it is, or what it means where it is not the server's: the engine writes its own among them.

    A machine that has been away for a moment can be ready and still hand over nothing: the manager takes the end of
    the former connection for that of the new one, until the machine connects once more.
    """
    if not line.startswith(_NOT_HANDED_OVER):
        return line
    reason = line.removeprefix(_NOT_HANDED_OVER).rpartition("following reasons: ")[2]
    return f"(The swarm does not hand over what the server wrote on {_name(node)}: {reason})"


def _tasks(spawner: Any) -> list[dict[str, Any]]:
    """Return the tasks of the service, the newest last."""
    tasks: list[dict[str, Any]] = spawner.client.tasks(filters={"service": spawner.service_name})
    return sorted(tasks, key=lambda task: str(task["CreatedAt"]))


def _node_of(spawner: Any, task: dict[str, Any]) -> dict[str, Any] | None:
    node: dict[str, Any] | None = spawner.client.inspect_node(task["NodeID"]) if task.get("NodeID") else None
    return node


def _name(node: dict[str, Any]) -> str:
    return str(node["Description"]["Hostname"])
