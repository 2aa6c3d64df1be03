"""Tokens, and what each may do: the rules of Roles as they stand in manifests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .kinds import Resource
from .refusals import Object, not_permitted, unauthorized

EVERYTHING: Object = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
ANONYMOUS = "system:anonymous"


@dataclass
class Account:
    """Who has a token. `rules` are those of a Role; `namespace` is where they hold, "" is everywhere."""

    user: str
    rules: list[Object] = field(default_factory=list)
    namespace: str = ""

    def may(self, verb: str, resource: Resource, subresource: str, namespace: str) -> bool:
        if self.namespace and self.namespace != namespace:
            return False
        what = f"{resource.plural}/{subresource}" if subresource else resource.plural
        return any(
            _has(rule.get("apiGroups"), resource.group)
            and _has(rule.get("resources"), what)
            and _has(rule.get("verbs"), verb)
            for rule in self.rules
        )


def _has(allowed: Iterable[str] | None, wanted: str) -> bool:
    return bool({"*", wanted} & set(allowed or ()))


class Access:
    """Who may do what."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}

    def give(self, token: str, account: Account) -> None:
        self._accounts[token] = account

    def account(self, authorization: str) -> Account:
        """Return who asks, by the header of a request. Raises Refused for a token that nobody has."""
        if not authorization:
            return Account(ANONYMOUS)
        account = self._accounts.get(authorization.removeprefix("Bearer ").strip())
        if account is None:
            raise unauthorized()
        return account

    def check(
        self, account: Account, verb: str, resource: Resource, subresource: str, namespace: str, name: str
    ) -> None:
        """Raise Refused when this account may not do that."""
        if not account.may(verb, resource, subresource, namespace):
            raise not_permitted(resource, subresource, verb, namespace, name, account.user)
