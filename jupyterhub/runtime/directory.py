"""Find, create, rename and delete users. The only writer of the wrappers behind `app.users`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..core.errors import ServerBusy, UserExists, UserNotFound
from ..core.names import check_user_name
from ..metrics import TOTAL_USERS
from ..store import grants as grant_store
from ..store import loading
from ..store import users as user_store
from ..user import User
from .launch import HOOK_TIMEOUT, call_plugin

if TYPE_CHECKING:
    from ..store.values import ServerRecord, UserRecord
    from .context import HubContext


class Directory:
    """People known to this Hub."""

    def __init__(self, context: HubContext) -> None:
        self._context = context

    async def find(self, name: str) -> User | None:
        """Return the user of this (normalised) name, or None."""
        user = self._context.users.cached(name)
        return user if user is not None else await self._load(name)

    async def find_by_id(self, user_id: int) -> User | None:
        """Return the user of this row id, or None."""
        user = self._context.users.cached(user_id)
        return user if user is not None else await self._load(user_id)

    async def get(self, name: str) -> User:
        """Return the user of this name. Raises UserNotFound."""
        user = await self.find(name)
        if user is None:
            raise UserNotFound(name)
        return user

    async def _load(self, key: str | int) -> User | None:
        loaded = await self._context.database.read(loading.load_user, key)
        if loaded is None:
            return None
        record, servers = loaded
        return self._context.users.keep(User(record, self._context.settings, servers=servers))

    async def load_owners(self, rows: Iterable[ServerRecord]) -> dict[int, User]:
        """Return the wrappers of the owners of these servers, loaded together."""
        context = self._context
        wanted = {row.user_id for row in rows}
        found = {}
        for user_id in list(wanted):
            user = context.users.cached(user_id)
            if user is not None:
                found[user_id] = user
                wanted.discard(user_id)
        for record, servers in await context.database.read(loading.load_users, sorted(wanted)):
            found[record.id] = context.users.keep(User(record, context.settings, servers=servers))
        return found

    async def reload(self, user: User) -> None:
        """Read the user's record again after something changed it; servers are the manager's and stay."""
        record = await self._context.database.read(user_store.find_by_id, user.id)
        if record is not None:
            user.record = record
        self._context.access.forget_user(user.id)

    async def create(self, name: str, *, admin: bool = False, roles: bool = True) -> User:
        """Create a user with the default roles, and let the authenticator prepare the account.

        When the authenticator refuses, the user is deleted again and its error raised. Raises InvalidName or
        UserExists.
        """
        context = self._context
        check_user_name(name)
        if await self.find(name) is not None:
            raise UserExists(name)
        record = await context.database.run(user_store.create, name, admin=admin, default_roles=roles)
        user = context.users.keep(User(record, context.settings, servers=[]))
        TOTAL_USERS.inc()
        try:
            await self._tell_authenticator("add_user", user)
        except BaseException:
            await context.database.run(user_store.delete, user.id)
            context.users.forget(user)
            TOTAL_USERS.dec()
            raise
        return user

    def find_or_create_at_once(self, name: str) -> User:
        """Return the user of this name, made with the default roles if there is none; blocks.

        For handlers of old plugins, which expect an answer without awaiting it. `add_user` is not called.
        """
        context = self._context
        user: User | None = context.users.get(name)
        if user is not None:
            return user
        check_user_name(name)
        record = context.database.run_sync(user_store.create, name, admin=False, default_roles=True)
        TOTAL_USERS.inc()
        return context.users.keep(User(record, context.settings, servers=[]))

    async def _tell_authenticator(self, method: str, user: User) -> None:
        authenticator = self._context.authenticator
        call = getattr(authenticator, method)
        await call_plugin(self._context, f"{type(authenticator).__name__}.{method}", lambda: call(user), HOOK_TIMEOUT)

    async def rename(self, user: User, new_name: str) -> None:
        """Give a user another name. Raises InvalidName, UserExists, or ServerBusy while a server is active."""
        context = self._context
        check_user_name(new_name)
        if new_name == user.name:
            return
        if await self.find(new_name) is not None:
            raise UserExists(new_name)
        for name in user.active_names():
            raise ServerBusy(user.name, name, pending=context.servers.status(user, name).pending or "stop")
        old = user.name
        await context.database.run(user_store.rename, user.id, new_name)
        await self.reload(user)
        context.users.renamed(user, old)
        user.spawners.clear()
        context.access.forget_all()

    async def set_admin(self, user: User, admin: bool) -> None:
        """Set the admin flag, and grant or strip the role that goes with it."""
        await self._context.database.run(user_store.set_admin, user.id, admin)
        await self.reload(user)

    async def delete(self, user: User) -> None:
        """Delete a user and everything that belongs to it. Active servers are the caller's to stop first.

        Raises ServerBusy naming a server that is still active.
        """
        context = self._context
        for name in user.active_names():
            raise ServerBusy(user.name, name, pending=context.servers.status(user, name).pending or "stop")
        await self._tell_authenticator("delete_user", user)
        await user.delete_spawners()
        await context.database.run(user_store.delete, user.id)
        context.access.forget_user(user.id)
        context.access.forget_all()
        context.users.forget(user)
        TOTAL_USERS.dec()

    async def page(self, **query: Any) -> tuple[list[UserRecord], int]:
        """Return one page of users and how many there are, filtered in SQL."""
        return await self._context.database.read(user_store.list_page, **query)

    async def server_records(self, user: User) -> dict[str, ServerRecord]:
        """Return the user's servers as the database has them."""
        rows = await self._context.database.read(loading.servers_of, user.id)
        return {row.name: row for row in rows}

    async def role_scopes(self, role_name: str) -> list[str]:
        """Return the raw scopes of one role; a role that does not exist has none."""
        return await self.roles_to_scopes([role_name])

    async def roles_to_scopes(self, role_names: list[str]) -> list[str]:
        """Return the raw scopes of several roles together. Raises RoleNotFound."""
        return await self._context.database.read(grant_store.scopes_of_roles, list(role_names))

    async def raw_scopes(self, user: User) -> list[str]:
        """Return the raw scopes of the user's roles, those of its groups included."""
        return await self._context.database.read(grant_store.raw_scopes_of_user, user.id)
