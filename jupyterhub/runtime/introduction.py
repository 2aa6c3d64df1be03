"""Introduce known users to the authenticator after a start, only where that can have an effect (ARCHITECTURE §2.3)."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ..store import users as user_store
from .launch import HOOK_TIMEOUT, call_plugin

if TYPE_CHECKING:
    from .context import HubContext

BATCH = 200
_OWN_MODULES = ("jupyterhub.auth", "jupyterhub.authenticators.shared")


def add_user_matters(authenticator: Any) -> bool:
    """Whether calling `add_user` for users we know already can do anything.

    Our own classes' `add_user` only notes names for `allow_existing_users`, which is a look-up at log-in here.
    """
    method = getattr(type(authenticator), "add_user", None)
    redefined = method is not None and method.__module__ not in _OWN_MODULES
    return bool(redefined or getattr(authenticator, "create_system_users", False) or authenticator.delete_invalid_users)


async def introduce_users(context: HubContext) -> None:
    """Call `add_user` with every user's row, in batches. One that is refused is logged, or deleted if so configured."""
    authenticator = context.authenticator
    if not add_user_matters(authenticator):
        return
    blocked = set(authenticator.blocked_users)
    last = 0
    while True:
        names = await context.database.read(user_store.names_after, last, BATCH)
        if not names:
            return
        for user_id, name in names:
            last = user_id
            if name in blocked:
                continue
            user = await context.directory.find_by_id(user_id)
            if user is None:
                continue
            try:
                await call_plugin(
                    context,
                    f"{type(authenticator).__name__}.add_user",
                    functools.partial(authenticator.add_user, user),
                    HOOK_TIMEOUT,
                )
            except Exception as error:
                context.log.warning("The authenticator does not accept the known user %s: %s", name, error)
                if authenticator.delete_invalid_users and not user.active:
                    context.log.warning("Deleting the invalid user %s", name)
                    await context.directory.delete(user)
