"""Which mechanism this machine has."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .cgroup1 import ControlGroups1
from .cgroup2 import ControlGroups2
from .mechanism import LimitMechanism, Limits
from .systemd import SystemdScopes

__all__ = ["Choice", "choose", "mechanism_of", "mechanisms"]


@functools.lru_cache(maxsize=1)
def mechanisms() -> tuple[LimitMechanism, ...]:
    """Return all that there are, the best first.

    systemd comes first where it runs, because the tree of groups is its own, and its scopes outlive the Hub's unit.
    """
    return (SystemdScopes("system"), ControlGroups2(), SystemdScopes("user"), ControlGroups1())


@dataclass(frozen=True, slots=True)
class Choice:
    """The mechanism for some limits, None if none enforces any of them, and why kinds of limits are not enforced."""

    mechanism: LimitMechanism | None
    reasons: Mapping[str, str]


@functools.lru_cache(maxsize=32)
def _choose(kinds: tuple[str, ...], candidates: tuple[LimitMechanism, ...]) -> Choice:
    best, fewest = None, len(kinds)
    heard: dict[str, list[str]] = {kind: [] for kind in kinds}
    for candidate in candidates:
        reasons = candidate.why_not()
        missing = {kind: reasons[kind] for kind in kinds if kind in reasons}
        for kind, reason in missing.items():
            if reason not in heard[kind]:
                heard[kind].append(reason)
        if len(missing) < fewest:
            best, fewest = Choice(candidate, missing), len(missing)
        if not missing:
            break
    # Where nothing serves, whoever wants to change that has to know all of it.
    return best or Choice(None, {kind: "; ".join(texts) for kind, texts in heard.items()})


def choose(limits: Limits, candidates: Iterable[LimitMechanism] | None = None) -> Choice:
    """Find the first mechanism that enforces all of the limits, else the one that enforces most of them.

    What the machine has is looked at once per process.
    """
    return _choose(limits.kinds, tuple(candidates) if candidates is not None else mechanisms())


def mechanism_of(name: str, candidates: Sequence[LimitMechanism] | None = None) -> LimitMechanism | None:
    """Return the mechanism of that name, by which a group was made."""
    known = candidates if candidates is not None else mechanisms()
    return next((mechanism for mechanism in known if mechanism.name == name), None)
