"""Decisions are true or false and say why."""

from __future__ import annotations

from jupyterhub.core.decisions import YES, no


def test_a_yes_is_true_and_a_no_tells_why() -> None:
    refusal = no("full", "There is no place left", retry_after=30)
    assert YES
    assert not refusal
    assert (refusal.cause, refusal.reason, refusal.retry_after) == ("full", "There is no place left", 30)
