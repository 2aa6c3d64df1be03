"""What may be shared, with whom, until when (rest-api §4.11)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .decisions import YES, Decision, no
from .errors import InvalidRequest
from .scopes.algebra import Membership, ScopeSet
from .scopes.expand import expand_scopes
from .scopes.grammar import Scope, check_scopes_exist

__all__ = [
    "DEFAULT_LIFETIME",
    "LIFETIMES",
    "ShareRequest",
    "check_code_request",
    "check_share_request",
    "decide_grant",
    "merged_scopes",
    "remaining_scopes",
    "renamed_scopes",
    "scopes_on_server",
]

DEFAULT_LIFETIME: Final = 86400
LIFETIMES: Final = (60, 31536000)
"""Shortest and longest life of a share code, in seconds."""


@dataclass(frozen=True, slots=True)
class ShareRequest:
    """A checked request: scopes on one server, and exactly one recipient (none for a share code)."""

    scopes: tuple[str, ...]
    user: str | None = None
    group: str | None = None
    expires_in: int | None = None


def scopes_on_server(scopes: Iterable[str] | None, owner: str, server: str) -> tuple[str, ...]:
    """Scopes limited to the server, sorted; without any, access to it.

    Raises ScopeNotFound, or InvalidRequest for a filter that means something else.
    """
    filter_text = f"{owner}/{server}"
    given = ["access:servers"] if scopes is None else list(scopes)
    check_scopes_exist(given)
    found = set()
    for text in given:
        scope = Scope.parse(text)
        if scope.is_filtered and (scope.kind, scope.value) != ("server", filter_text):
            raise InvalidRequest(
                f"Scope {text!r} must be limited to !server={filter_text}, or have no filter"
            )
        found.add(str(Scope(scope.name, "server", filter_text)))
    return tuple(sorted(found))


def check_share_request(body: Any, owner: str, server: str, *, needs_scopes: bool = True) -> ShareRequest:
    """Read the body of a grant or a revocation; all faults at once, one per line, as InvalidRequest.

    With `needs_scopes` omitted scopes mean access; without it (revoking) they mean all, and stay empty.
    """
    faults: list[str] = []
    if not isinstance(body, Mapping):
        raise InvalidRequest("The body must be a JSON object with 'user' or 'group'")
    if unknown := sorted(str(key) for key in body if key not in ("scopes", "user", "group")):
        faults.append(f"unknown member: {', '.join(unknown)}")
    recipients = {kind: body[kind] for kind in ("user", "group") if body.get(kind) is not None}
    if len(recipients) != 1:
        faults.append("exactly one of 'user' and 'group' must be given")
    for kind, name in recipients.items():
        if not isinstance(name, str):
            faults.append(f"{kind!r} must be a text")
    scopes = _check_scope_list(body.get("scopes"), faults)
    if faults:
        raise InvalidRequest("\n".join(["The request is not valid:", *faults]))
    if needs_scopes:
        scopes = scopes_on_server(scopes or None, owner, server)
    return ShareRequest(tuple(scopes or ()), recipients.get("user"), recipients.get("group"))


def check_code_request(body: Any, owner: str, server: str) -> ShareRequest:
    """Read the body of a request for a share code: `scopes` and `expires_in`, both optional."""
    faults: list[str] = []
    body = {} if body is None else body
    if not isinstance(body, Mapping):
        raise InvalidRequest("The body must be a JSON object")
    if unknown := sorted(str(key) for key in body if key not in ("scopes", "expires_in")):
        faults.append(f"unknown member: {', '.join(unknown)}")
    scopes = _check_scope_list(body.get("scopes"), faults)
    expires_in = _check_lifetime(body.get("expires_in", DEFAULT_LIFETIME), faults)
    if faults:
        raise InvalidRequest("\n".join(["The request is not valid:", *faults]))
    return ShareRequest(scopes_on_server(scopes or None, owner, server), expires_in=expires_in)


def _check_scope_list(scopes: Any, faults: list[str]) -> Collection[str] | None:
    if scopes is None or (
        isinstance(scopes, (list, tuple)) and all(isinstance(each, str) for each in scopes)
    ):
        return scopes
    faults.append("'scopes' must be a list of texts")
    return None


def _check_lifetime(value: Any, faults: list[str]) -> int:
    shortest, longest = LIFETIMES
    try:
        seconds = int(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else -1
    except ValueError:
        seconds = -1
    if not shortest <= seconds <= longest:
        faults.append(f"'expires_in' must be a number of seconds from {shortest} to {longest}")
    return seconds


def decide_grant(scopes: Iterable[str], held: ScopeSet, groups_of: Membership | None = None) -> Decision:
    """Whether somebody who holds `held` may share these scopes: only what one has can be shared."""
    for scope in sorted(scopes):
        for each in expand_scopes([scope]):
            if not held.covers(each, groups_of=groups_of):
                return no("scope-missing", f"You cannot share {scope}, because you do not have it yourself")
    return YES


def merged_scopes(stored: Iterable[str], granted: Iterable[str]) -> tuple[str, ...]:
    """The scopes of a share after granting again: the list only grows."""
    return tuple(sorted({*stored, *granted}))


def remaining_scopes(stored: Iterable[str], revoked: Iterable[str]) -> tuple[str, ...]:
    """The scopes left after revoking exactly the texts given; all go when none is given."""
    taken = set(revoked)
    return tuple(sorted(set(stored) - taken)) if taken else ()


def renamed_scopes(scopes: Iterable[str], old: str, new: str) -> tuple[str, ...]:
    """Stored scopes after a server moved from ``owner/server`` `old` to `new` (rest-api §3.7)."""
    found = set()
    for text in scopes:
        scope = Scope.parse(text)
        same = scope.kind == "server" and scope.value == old
        found.add(str(Scope(scope.name, "server", new)) if same else text)
    return tuple(sorted(found))
