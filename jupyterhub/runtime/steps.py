"""Run a list of steps, each written next to how it is taken back. Knows nothing about servers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Step(Generic[Subject]):
    """One change of the world and its inverse.

    `do` and `undo` receive the subject. A step that was begun is undone even when it failed half-way, so an
    `undo` has to cope with a half-done `do`.
    """

    name: str
    do: Callable[[Subject], Awaitable[None]]
    undo: Callable[[Subject], Awaitable[None]] | None = None


@dataclass
class Undone:
    """What went wrong while steps were taken back: (step name, exception), in the order it happened."""

    problems: list[tuple[str, Exception]] = field(default_factory=list)


async def run_steps(
    steps: Sequence[Step[Subject]],
    subject: Subject,
    *,
    begun: list[str],
    entering: Callable[[Step[Subject]], None] | None = None,
) -> None:
    """Do the steps in order and note each begun step's name in `begun`, which the caller hands to `undo_steps`.

    Raises whatever a step raises, cancellation included; nothing is taken back here, because the caller first
    writes down that taking back has begun.
    """
    for step in steps:
        if entering is not None:
            entering(step)
        begun.append(step.name)
        await step.do(subject)


async def undo_steps(
    steps: Sequence[Step[Subject]],
    subject: Subject,
    *,
    begun: Sequence[str],
    report: Callable[[str, Exception], None],
) -> Undone:
    """Take back the begun steps, last first.

    An undo that fails is reported with its step's name and does not stop the others; cancellation waits until all
    is taken back, because half a clean-up is a leak.
    """
    undone = Undone()
    wanted = set(begun)

    async def take_back() -> None:
        for step in reversed(steps):
            if step.name not in wanted or step.undo is None:
                continue
            try:
                await step.undo(subject)
            except Exception as error:
                undone.problems.append((step.name, error))
                report(step.name, error)

    await finish_despite_cancellation(take_back())
    return undone


async def finish_despite_cancellation(work: Awaitable[None]) -> None:
    """Await `work` to its end, then pass on a cancellation that arrived meanwhile."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except Exception:
            break
    await task
    if cancelled is not None:
        raise cancelled
