"""What is read of servers in containers, of an engine whose answers are given."""

from __future__ import annotations

from typing import Any

import pytest
from tornado.log import app_log

from jupyterhub.spawning.container_output import container_logs


class Engine:
    """The part of Docker's client that tells of a container; each has written one line."""

    def __init__(self, *environment: str, out_of_memory: bool = False) -> None:
        self.container = {
            "Config": {"Env": list(environment)},
            "State": {"OOMKilled": out_of_memory},
            "HostConfig": {"Memory": 128 * 1024**2},
        }

    def inspect_container(self, name: str) -> dict[str, Any]:
        return self.container

    def logs(self, name: str, tail: int) -> bytes:
        return b"the key file is empty\n"


class ContainerSpawner:
    """Made like dockerspawner's."""

    log, _log_name = app_log, "ada"
    object_type, object_id = "container", "jupyter-ada"

    def __init__(self, client: Engine, api_token: str) -> None:
        self.client, self.api_token = client, api_token


async def read(client: Engine, api_token: str = "now") -> list[str]:
    logs = container_logs(ContainerSpawner(client, api_token))
    assert logs is not None
    return await logs(10)


@pytest.mark.parametrize(
    ("environment", "api_token"),
    [
        (("JUPYTERHUB_API_TOKEN=now",), "now"),
        # A Hub that was restarted may not know the token of a server that it has found.
        (("JUPYTERHUB_API_TOKEN=then",), ""),
        ((), "now"),
    ],
)
async def test_the_last_lines_are_those_of_the_container(environment: tuple[str, ...], api_token: str) -> None:
    assert await read(Engine(*environment), api_token) == ["the key file is empty"]


async def test_a_container_of_an_earlier_run_does_not_explain_this_one() -> None:
    assert await read(Engine("JUPYTERHUB_API_TOKEN=then", out_of_memory=True)) == []


async def test_a_container_at_its_memory_limit_says_so() -> None:
    assert (await read(Engine(out_of_memory=True)))[1:] == ["OOMKilled: the container reached its memory limit of 128 MiB."]
