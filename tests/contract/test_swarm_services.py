"""What the Hub makes of a swarm's services; tasks and nodes are as a real swarm tells them (`system/test_swarm.py`)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from jupyterhub.spawning.container_output import container_logs
from jupyterhub.spawning.swarm_services import end_of_service

READY = {"State": "ready"}
DOWN = {"State": "down", "Message": "heartbeat failure"}
RUNNING = {"State": "running", "Message": "started", "ContainerStatus": {"ContainerID": "c1", "ExitCode": 0}}
PENDING = {"State": "pending", "Err": "no suitable node (scheduling constraints not satisfied on 3 nodes)"}
FAILED = {"State": "failed", "Err": "task: non-zero exit (3)", "ContainerStatus": {"ContainerID": "c1", "ExitCode": 3}}
REJECTED = {"State": "rejected", "Err": "No such image: lab:2", "ContainerStatus": {"ContainerID": ""}}


class Manager:
    """A client of Docker's that knows one service."""

    def __init__(self, tasks: list[dict[str, Any]], node: dict[str, Any]) -> None:
        self.known, self.node = tasks, node
        self.written = [b"Traceback\nthe key ", b"file is empty\n"]

    def tasks(self, filters: dict[str, str]) -> list[dict[str, Any]]:
        return self.known if filters == {"service": "jupyter-ada"} else []

    def inspect_node(self, node: str) -> dict[str, Any]:
        return {"Description": {"Hostname": node}, "Status": self.node}

    def service_logs(self, service: str, stdout: bool, stderr: bool, tail: int) -> Iterator[bytes]:
        assert self.node is READY, "a real manager would not answer"
        return iter(self.written)


class Service:
    """A spawner like SwarmSpawner."""

    object_type, service_name, object_id, _log_name, log = "service", "jupyter-ada", "s1", "ada", logging.getLogger()

    def __init__(self, *tasks: dict[str, Any], node: dict[str, Any] = READY) -> None:
        self.client = Manager(list(tasks), node)


def task(status: dict[str, Any], desired: str = "running", node: str = "node2", at: str = "1") -> dict[str, Any]:
    return {"CreatedAt": at, "NodeID": node, "DesiredState": desired, "Status": status}


@pytest.mark.parametrize(
    ("service", "end"),
    [
        (Service(task(RUNNING)), None),
        # The swarm has not noticed yet, or has only begun to end it.
        (Service(task(RUNNING), node=DOWN), None),
        (Service(task(RUNNING, "shutdown")), None),
        (Service(task(RUNNING, "shutdown"), node=DOWN), "The machine node2 is down (heartbeat failure)."),
        # Its restart policy has another one started.
        (Service(task(PENDING, node="", at="2"), task(RUNNING, "shutdown"), node=DOWN), None),
        (Service(), None),
        (object(), None),
    ],
)
async def test_a_service_ends_with_its_machine(service: Any, end: str | None) -> None:
    assert await end_of_service(service) == end


@pytest.mark.parametrize(
    ("service", "lines"),
    [
        (Service(task(RUNNING)), ["Traceback", "the key file is empty"]),
        (Service(task(FAILED, "shutdown")), ["Traceback", "the key file is empty"]),
        (Service(task(REJECTED, "shutdown")), ["rejected on node2: No such image: lab:2"]),
        (Service(task(PENDING, node="")), [f"pending: {PENDING['Err']}"]),
        (Service(task(RUNNING, "shutdown"), node=DOWN), []),
        (Service(), []),
    ],
)
async def test_what_a_service_wrote_or_waits_for_is_told(service: Any, lines: list[str]) -> None:
    logs = container_logs(service)
    assert logs is not None
    assert await logs(100) == lines


async def test_what_the_engine_says_of_the_output_is_not_taken_for_the_servers_words() -> None:
    service = Service(task(FAILED, "shutdown"))
    service.client.written = [
        b"Error grabbing logs: rpc error: code = Unknown desc = warning: incomplete log stream. some logs could not be "
        b"retrieved for the following reasons: node n0de is not available\n"
    ]
    logs = container_logs(service)
    assert logs is not None
    assert await logs(100) == [
        "(The swarm does not hand over what the server wrote on node2: node n0de is not available)"
    ]


async def test_an_engine_that_is_away_is_no_end_of_the_output() -> None:
    service = Service(task(RUNNING))
    del service.client.known
    logs = container_logs(service)
    assert logs is not None
    assert await logs(100) == []
