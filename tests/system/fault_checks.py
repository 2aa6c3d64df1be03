"""What is demanded of every failure: classified, and told in the same words on the page, by the API and in the log."""

from __future__ import annotations

from jupyterhub.core.classify import CAUSES

from .fault_report import Reading

#: The goal is one second; a busy machine may be slower, while a clean-up or a hook in between takes much longer.
AT_ONCE = 5.0


def classified(reading: Reading) -> None:
    """The cause and the phase are right, the thing itself is named, and there is a next step."""
    failure, fault = reading.failure, reading.fault
    assert (failure["cause"], failure["phase"]) == (fault.cause, fault.phase), failure
    said = f"{failure['message']} {failure.get('detail', '')}"
    for word in fault.words:
        assert word.lower() in said.lower(), f"{word!r} is not in {said!r}"
    assert failure["title"] == CAUSES[fault.cause].title
    assert failure["next_step"]


def page(reading: Reading) -> None:
    """The page has title, sentence, next step and phase, and no traceback but what the server itself wrote."""
    seen, failure = reading.page, reading.failure
    assert seen.status == reading.fault.status
    assert seen.title == failure["title"]
    assert seen.sentence == " ".join(failure["message"].split())
    assert seen.next_step == failure["next_step"]
    assert "Traceback" not in seen.without_lines
    if reading.fault.phase != "running":
        assert seen.failed_phase == reading.fault.phase


def stream(reading: Reading) -> None:
    """The last event of the start says the same as the server's model, at once, with phases and last lines."""
    failure, event = reading.failure, reading.event
    if reading.fault.after_ready:
        assert failure["at"], "its start was no failure; the model is what tells"
        return
    assert event["failed"] and event["progress"] == 100
    known = {name: value for name, value in failure.items() if name != "left_behind"}
    assert event["failure"] == known, (event["failure"], failure)
    assert "Traceback" not in event["message"]
    assert event["phases"][-1]["phase"] == reading.fault.phase and event["phases"][-1]["ended"]
    assert event["log"] == reading.page.lines, (event["log"], reading.page.lines)
    assert len(event["log"]) <= 100
    assert reading.told_after < AT_ONCE


def log(reading: Reading) -> None:
    """The Hub's log has the sentence, the cause, the next step and the last lines."""
    failure, entry = reading.failure, reading.log
    assert failure["message"] in entry, entry
    assert f"[{failure['cause']}" in entry
    assert f"What to do: {failure['next_step']}" in entry
    for line in reading.page.lines:
        assert f"  | {line}\n" in entry, (line, entry)


CHECKS = (classified, page, stream, log)
