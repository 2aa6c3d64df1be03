"""Why a server failed, in words: from what is known about a failure to a cause, a sentence and a next step.

Plain values in, a plain value out. The rules are tried from the most telling to the vaguest; what the server
itself wrote says more than the exception that the Hub saw.
"""

from __future__ import annotations

from typing import Final

from .causes import CAUSES, Cause, title_of
from .engines import ENGINE_RULES
from .evidence import Evidence, Rule, Verdict
from .hub_side import DECISION_RULES, LAST_RULES, TIME_RULES, unexplained
from .programs import END_RULES, FILE_RULES, PROGRAM_RULES

__all__ = ["CAUSES", "Cause", "Evidence", "Verdict", "classify", "title_of"]

_RULES: Final[tuple[Rule, ...]] = (
    *DECISION_RULES,
    *PROGRAM_RULES,
    *ENGINE_RULES,
    *FILE_RULES,
    *TIME_RULES,
    *END_RULES,
    *LAST_RULES,
)


def classify(given: Evidence) -> Verdict:
    """Name the cause of a failed start, or of the end of a running server."""
    for rule in _RULES:
        if verdict := rule(given):
            return verdict
    return unexplained(given)
