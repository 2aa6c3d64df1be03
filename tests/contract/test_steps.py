"""Steps are done in order and taken back in reverse; nothing stops a clean-up half-way."""

from __future__ import annotations

import asyncio

import pytest

from jupyterhub.runtime.steps import Step, run_steps, undo_steps


class Diary:
    """Remembers what was done; `fails` names the calls that raise, `waits` the one that blocks until released."""

    def __init__(self, *fails: str, waits: str = "") -> None:
        self.entries: list[str] = []
        self.fails = set(fails)
        self.waits = waits
        self.waiting = asyncio.Event()
        self.release = asyncio.Event()

    async def note(self, entry: str) -> None:
        self.entries.append(entry)
        if entry == self.waits:
            self.waiting.set()
            await self.release.wait()
        if entry in self.fails:
            raise RuntimeError(entry)


def step(name: str) -> Step[Diary]:
    return Step(name, lambda diary: diary.note(f"do {name}"), lambda diary: diary.note(f"undo {name}"))


STEPS = [step("token"), step("process"), Step("answer", lambda diary: diary.note("do answer")), step("route")]


async def test_steps_are_done_in_order() -> None:
    diary, begun = Diary(), []
    await run_steps(STEPS, diary, begun=begun)
    assert diary.entries == ["do token", "do process", "do answer", "do route"]
    assert begun == ["token", "process", "answer", "route"]


async def test_a_failure_stops_the_list_and_the_failed_step_counts_as_begun() -> None:
    diary, begun = Diary("do process"), []
    with pytest.raises(RuntimeError, match="do process"):
        await run_steps(STEPS, diary, begun=begun)
    assert begun == ["token", "process"]


async def test_only_begun_steps_are_taken_back_last_first() -> None:
    diary = Diary()
    await undo_steps(STEPS, diary, begun=["token", "process"], report=lambda *_: None)
    assert diary.entries == ["undo process", "undo token"]


async def test_a_failing_undo_is_reported_and_the_others_still_run() -> None:
    diary, reported = Diary("undo route"), []
    undone = await undo_steps(
        STEPS,
        diary,
        begun=["token", "process", "answer", "route"],
        report=lambda name, error: reported.append((name, str(error))),
    )
    assert diary.entries == ["undo route", "undo process", "undo token"]
    assert reported == [("route", "undo route")]
    assert [name for name, _ in undone.problems] == ["route"]


async def test_cancelling_a_clean_up_does_not_leave_it_half_done() -> None:
    diary = Diary(waits="undo process")
    task = asyncio.ensure_future(undo_steps(STEPS, diary, begun=["token", "process"], report=lambda *_: None))
    await diary.waiting.wait()
    task.cancel()
    diary.release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert diary.entries == ["undo process", "undo token"]
