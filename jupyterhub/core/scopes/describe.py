"""Scopes in sentences, for the consent page and the page that accepts a share (oauth §3.3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .catalogue import scope_definitions
from .expand import ClientRef, OwnerRef, access_scopes, expand, identify_scopes
from .grammar import Scope

__all__ = ["ScopeText", "describe_filter", "describe_for_consent", "describe_scopes"]


@dataclass(frozen=True, slots=True)
class ScopeText:
    """One line of a consent page.

    `filter` says for what the scope holds; empty when it holds for everything.
    """

    scope: str
    description: str
    filter: str = ""

    def to_dict(self) -> dict[str, str]:
        return {"scope": self.scope, "description": self.description, "filter": self.filter}


def describe_filter(scope: Scope, user_name: str = "") -> str:
    """What a filter selects, as the end of a sentence; the reader is called "you"."""
    kind, value = scope.kind, scope.value
    if kind is None:
        return ""
    if value is None:
        return {"user": "only you", "server": "only this server", "service": "only this service"}.get(
            kind, f"only {kind}"
        )
    if kind == "user":
        return "only you" if value == user_name else f"only user {value}"
    if kind == "group":
        return f"only group {value} and its members"
    if kind == "server":
        owner, _, server = value.partition("/")
        whose = "your" if owner == user_name else f"{owner}'s"
        return f"only {whose} server {server}" if server else f"only {whose} default server"
    return f"only {kind} {value}"


def describe_scopes(raw: Iterable[str], user_name: str = "") -> list[ScopeText]:
    """One line per raw scope, sorted. Scopes that no longer exist are left out."""
    lines = []
    for text in sorted(set(raw)):
        scope = Scope.parse(text)
        definition = scope_definitions.get(scope.name)
        if definition is not None:
            lines.append(ScopeText(text, str(definition["description"]), describe_filter(scope, user_name)))
    return lines


def describe_for_consent(
    raw: Iterable[str], user_name: str, client: ClientRef | None = None
) -> list[ScopeText]:
    """What somebody is asked to agree to, beyond being identified and let in.

    With nothing beyond, one line says so. `inherit` stands for everything, so it is the only line. A scope
    that another one contains gets no line of its own.
    """
    raw = set(raw)
    if "inherit" in raw:
        return describe_scopes(["inherit"])
    owner = OwnerRef.user(user_name)
    understood = identify_scopes() | identify_scopes(owner) | access_scopes(client)
    beyond = {
        text: expand([text], owner, client, drop_unknown=True).scopes.expanded
        for text in sorted(raw - understood)
    }
    named = [text for text, scopes in beyond.items() if scopes and not scopes <= understood]
    shown = [
        text
        for text in named
        if not any(beyond[text] < beyond[other] for other in named)
        and not any(beyond[text] == beyond[other] and other < text for other in named)
    ]
    return describe_scopes(shown or ["(no_scope)"], user_name)
