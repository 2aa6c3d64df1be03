"""What a spawner tells as progress reaches those who follow a start."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from jupyterhub.runtime.bulletin import Board
from jupyterhub.runtime.following import relay_progress


class QueuedSpawner:
    """Tells again and again that it waits, and keeps what the scheduler says in `job_status`, as batch spawners do."""

    job_status = ""

    def __init__(self, *statuses: str) -> None:
        self.statuses = statuses

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        for status in self.statuses:
            self.job_status = status
            yield {"message": "Pending in queue..."}

    _generate_progress = progress


async def told(*statuses: str) -> tuple[list[str], list[str]]:
    """Return the messages that followers get, and those kept for the case of a failure."""
    launch: Any = SimpleNamespace(spawner=QueuedSpawner(*statuses), board=Board(), messages=deque())
    context: Any = None
    await relay_progress(context, launch)
    launch.board.close()
    return [event["message"] async for event in launch.board.listen()], list(launch.messages)


async def test_the_words_of_the_scheduler_are_told_with_each_change_and_once() -> None:
    waits = ["PENDING (Priority)"] * 3 + ["PENDING (Resources)"] * 50
    messages = ["Pending in queue... PENDING (Priority)", "Pending in queue... PENDING (Resources)"]
    assert await told(*waits) == (messages, messages)


@pytest.mark.parametrize("document", ["", "<Data><Job/></Data>", "Job Id: 1\n    job_state = Q", "Q" * 201])
async def test_what_is_no_line_for_people_is_left_out(document: str) -> None:
    assert await told(document, document) == (["Pending in queue..."],) * 2
