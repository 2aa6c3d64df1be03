"""Issue, list and revoke API tokens (rbac §8.3)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from ..core.clock import utcnow
from ..core.errors import InvalidRequest, TokenNotFound
from ..core.scopes.expand import OwnerRef, check_requestable
from ..store import tokens as token_store

if TYPE_CHECKING:
    from ..store.values import TokenRecord
    from ..user import User
    from .context import HubContext


class Tokens:
    """Tokens of users. What a token may do is bounded by its owner at every use, not only here."""

    def __init__(self, context: HubContext) -> None:
        self._context = context

    async def issue(
        self,
        user: User,
        *,
        scopes: list[str] | None = None,
        roles: list[str] | None = None,
        note: str = "",
        expires_in: int | None = None,
        client_id: str = "jupyterhub",
        session_id: str | None = None,
        token: str | None = None,
    ) -> tuple[str, TokenRecord]:
        """Issue a token and return its text, which is shown once and stored nowhere, with its record.

        `scopes` are raw; without any, those of the role `token` (by default `inherit`). `expires_in` is in seconds.
        Raises InvalidRequest, ScopeNotFound, InvalidScope or ScopesNotHeld.
        """
        context = self._context
        if scopes is not None and roles is not None:
            raise InvalidRequest("Give scopes or roles, not both")
        if roles is not None:
            scopes = await context.directory.roles_to_scopes(roles)
        if scopes is None:
            scopes = await context.directory.role_scopes("token")
        caller = await context.access.caller_for_user(user.id)
        if caller is None:
            raise TokenNotFound(f"User {user.name!r} is gone")
        groups = caller.groups
        check_requestable(
            scopes, caller.scopes, OwnerRef.user(user.name), groups_of=lambda name: groups if name == user.name else ()
        )
        expires_at = utcnow() + timedelta(seconds=expires_in) if expires_in else None
        return await context.database.run(
            token_store.issue,
            user_id=user.id,
            scopes=sorted(set(scopes)),
            note=note,
            expires_at=expires_at,
            client_id=client_id,
            session_id=session_id,
            token=token,
        )

    async def list_for(self, user: User) -> list[TokenRecord]:
        """Return the user's tokens, oldest use first; expired ones are deleted on the way (rest-api §4.8)."""
        return await self._context.database.run(token_store.list_for_user, user.id)

    async def find(self, user: User, public_id: str) -> TokenRecord:
        """Return one token by its public id `a<number>`. Raises TokenNotFound."""
        for token in await self.list_for(user):
            if token.public_id == public_id:
                return token
        raise TokenNotFound(f"{user.name} has no token {public_id!r}")

    async def revoke(self, token: TokenRecord) -> None:
        """Revoke a token; one issued through OAuth takes all of its owner's tokens of that client along."""
        await self._context.database.run(token_store.revoke, token.id)
        if token.user_id is not None:
            self._context.access.forget_user(token.user_id)
        else:
            self._context.access.forget_all()

    async def purge(self) -> int:
        """Delete what has expired; returns how many rows went."""
        return await self._context.database.run(token_store.purge_expired)
