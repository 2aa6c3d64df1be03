"""``read:users!user=ada`` as text and as a value (rbac §3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..errors import InvalidScope, ScopeNotFound
from .catalogue import scope_definitions

__all__ = [
    "FILTER_KINDS",
    "SELF_RESOLVING_KINDS",
    "Scope",
    "check_scopes_exist",
    "split_scope",
]

FILTER_KINDS: Final = frozenset({"user", "group", "server", "service"})
SELF_RESOLVING_KINDS: Final = frozenset({"user", "server", "service"})
"""Kinds that may be written without a value: who is meant follows from the owner or the client."""


def split_scope(text: str) -> tuple[str, str]:
    """The name and the text of the filter (empty when there is none).

    A `!` with nothing behind it means no filter; further `!` belong to the value (rbac §3).
    """
    name, _, filter_text = text.partition("!")
    return name, filter_text


@dataclass(frozen=True, slots=True)
class Scope:
    """One scope.

    `kind` is None without a filter; `value` is None for a filter that is still to be resolved.
    """

    name: str
    kind: str | None = None
    value: str | None = None

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Read a scope. Raises InvalidScope for a filter with an empty kind or an empty value."""
        name, filter_text = split_scope(text)
        if not filter_text:
            return cls(name)
        kind, equals, value = filter_text.partition("=")
        if not kind or (equals and not value):
            raise InvalidScope(text, "its filter is empty; write !kind=value, for example !user=ada")
        return cls(name, kind, value if equals else None)

    @property
    def is_filtered(self) -> bool:
        return self.kind is not None

    @property
    def is_self_resolving(self) -> bool:
        """True for exactly ``!user``, ``!server`` and ``!service``."""
        return self.value is None and self.kind in SELF_RESOLVING_KINDS

    def __str__(self) -> str:
        if self.kind is None:
            return self.name
        if self.value is None:
            return f"{self.name}!{self.kind}"
        return f"{self.name}!{self.kind}={self.value}"


def check_scopes_exist(scopes: object, who_for: str = "") -> None:
    """Raise ScopeNotFound for the first entry whose name or kind of filter does not exist.

    `scopes` is an iterable of texts; a lone text is taken letter by letter, which refuses it (rbac §6.1).
    Values of filters are not looked at: unknown users or groups are legal and match nothing (rbac §3).
    """
    for text in scopes:  # type: ignore[attr-defined]
        if not isinstance(text, str):
            raise ScopeNotFound(repr(text), "a scope is a text", who_for=who_for)
        name, filter_text = split_scope(text)
        if name not in scope_definitions:
            if name == "all":
                raise ScopeNotFound(
                    text, "'all' no longer exists; it is called 'inherit' now", who_for=who_for
                )
            raise ScopeNotFound(text, who_for=who_for)
        if filter_text:
            kind, equals, _ = filter_text.partition("=")
            known = FILTER_KINDS if equals else SELF_RESOLVING_KINDS
            if kind not in known:
                raise ScopeNotFound(text, f"there is no filter !{filter_text}", who_for=who_for)
