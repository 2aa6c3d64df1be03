"""May a server start now:

limits, throttling, when to try again, failures in a row (config §10, rest-api §4.6).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from .decisions import YES, Decision, no
from .errors import HubError, NamedServersDisabled, TooManyNamedServers
from .lifecycle import State, pending
from .names import check_display_name, check_server_name

__all__ = [
    "FailureCount",
    "Limits",
    "Load",
    "RETRY_RANGE",
    "check_new_server",
    "counts_as_failure",
    "decide_start",
    "rounded_delay",
]


RETRY_RANGE: Final = (30, 60)
"""Seconds after which a refused start may be tried again, from and to."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings that decide; 0 switches a limit off. `retry_range` is in seconds, from and to."""

    concurrent_spawn_limit: int = 100
    active_server_limit: int = 0
    retry_range: Sequence[float] = RETRY_RANGE


@dataclass(frozen=True, slots=True)
class Load:
    """What goes on now, without the server that asks. Servers in motion count as active."""

    pending_starts: int = 0
    active_servers: int = 0


def decide_start(
    limits: Limits,
    load: Load,
    state: State = State.STOPPED,
    *,
    draw: Callable[[int, int], int] = random.randint,
) -> Decision:
    """Whether one more server, which is in `state`, may start now.

    Causes of a refusal, in the order they are looked for: ``server-busy``, ``server-running``,
    ``too-many-starts`` (with `retry_after`, drawn so that those refused together do not come back together)
    and ``too-many-servers`` (without: nobody knows when a server will stop).
    """
    busy = pending(state)
    if busy is not None:
        return no("server-busy", f"The server is pending {busy}")
    if state is State.READY:
        return no("server-running", "The server is already running")
    if 0 < limits.concurrent_spawn_limit <= load.pending_starts:
        shortest, longest = (int(each) for each in limits.retry_range)
        seconds = draw(shortest, max(shortest, longest))
        return no(
            "too-many-starts",
            f"Many servers are starting at the moment. Please try again in about {rounded_delay(seconds)}",
            retry_after=seconds,
        )
    if 0 < limits.active_server_limit <= load.active_servers:
        return no(
            "too-many-servers",
            f"All {limits.active_server_limit} places for servers are taken. "
            "Please try again when somebody has stopped theirs",
        )
    return YES


def rounded_delay(seconds: int) -> str:
    """A delay for people: up to tens of seconds, above 90 seconds up to minutes."""
    if seconds > 90:
        return f"{-(-seconds // 60)} minutes"
    return f"{-(-seconds // 10) * 10} seconds"


def check_new_server(
    name: str,
    *,
    user: str = "",
    enabled: bool,
    stored_count: int,
    limit: int,
    exists: bool = False,
    display_name: str | None = None,
) -> None:
    """Whether a named server may be made; the checks come in the order of rest-api §4.6.

    `stored_count` counts the user's named servers, running or not; an existing one may always be used again.
    Raises NamedServersDisabled, TooManyNamedServers or InvalidName.
    """
    if not enabled:
        raise NamedServersDisabled
    if exists:
        return
    if 0 < limit <= stored_count:
        raise TooManyNamedServers(user, limit)
    check_server_name(name)
    if display_name:
        check_display_name(display_name)


WARN_FROM: Final = 2


@dataclass(frozen=True, slots=True)
class FailureCount:
    """Failed starts in a row, against `consecutive_failure_limit` (0: no limit)."""

    limit: int = 0
    in_a_row: int = 0

    def after_failure(self) -> FailureCount:
        return replace(self, in_a_row=self.in_a_row + 1)

    def after_success(self) -> FailureCount:
        return replace(self, in_a_row=0)

    @property
    def should_warn(self) -> bool:
        """From the second failure on it looks like more than one person's bad luck."""
        return self.limit > 0 and self.in_a_row >= WARN_FROM

    @property
    def should_exit(self) -> bool:
        """Time to give up, so that whatever supervises the hub can start it anew."""
        return 0 < self.limit <= self.in_a_row


def counts_as_failure(status: int | None, *, is_policy_refusal: bool = False, error: object = None) -> bool:
    """Whether a failed start counts towards the limit: faults do, refusals (`status` below 500) do not.

    `status` is the HTTP status that the failure carries, if any.
    """
    if is_policy_refusal:
        return False
    if isinstance(error, HubError) and status is None:
        return error.reason in ("error", "start-failed")
    return status is None or status >= 500
