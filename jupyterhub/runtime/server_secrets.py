"""What a server is given to be known by: its own token with its scopes, and its OAuth client (rbac §8.4, §8.5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..core import secrets
from ..core.scopes import expand
from ..core.scopes.expand import Resolution
from ..core.urls import url_escape_path, url_path_join
from ..store.starts import ServerSecrets

if TYPE_CHECKING:
    from ..spawner import Spawner
    from ..user import User
    from .launch import Launch

#: The role whose scopes a server's token has where its spawner does not ask for others (rbac §8.4).
SERVER_ROLE = "server"


def secrets_to_begin_with(user: User, spawner: Spawner) -> ServerSecrets | None:
    """Return the secrets of a start that nobody has to be asked about, so that they can be stored with the wish.

    None where functions of the deployment, or roles, decide about scopes.
    """
    if callable(spawner.server_token_scopes) or getattr(spawner, "oauth_roles", None):
        return None
    allowed: Any = spawner.oauth_client_allowed_scopes
    return None if callable(allowed) else new_secrets(user, spawner, list(allowed or ()))


def new_secrets(user: User, spawner: Spawner, client_scopes: Sequence[str]) -> ServerSecrets:
    """Return a new token for a server, and what its OAuth client is to be."""
    path = spawner_path(spawner.name)
    return ServerSecrets(
        token=secrets.new_token(),
        note=f"Server at {user.base_url}{path}",
        client_id=spawner.oauth_client_id,
        redirect_uri=url_path_join(user.url, path, "oauth_callback"),
        client_scopes=client_scopes,
        access_scope=f"access:servers!server={user.name}/{spawner.name}",
    )


def spawner_path(server_name: str) -> str:
    """Return the last path segment of a server's address, with its slash, or nothing for the default server."""
    return f"{url_escape_path(server_name)}/" if server_name else ""


async def resolve_token_scopes(launch: Launch) -> list[str]:
    """Return the raw scopes for the server's own token: what is asked for, as far as its owner holds it (rbac §8.4)."""
    spawner, context = launch.spawner, launch.context
    requested: Any = spawner.server_token_scopes
    if callable(requested):
        requested = await launch.plugin("server_token_scopes", lambda: spawner.server_token_scopes(spawner))
    default, held = launch.scopes
    if not requested and callable(spawner.server_token_scopes):
        default = await context.directory.role_scopes(SERVER_ROLE)
    resolution = decide_token_scopes(launch.user, spawner, requested or default, held)
    warn_of_refused(launch, resolution)
    return sorted(resolution.granted)


def decide_token_scopes(user: User, spawner: Spawner, requested: Iterable[str], held: Iterable[str]) -> Resolution:
    """Return which raw scopes a server's token gets, of those asked for and those its owner holds."""
    groups, name = user.group_names, user.name
    return expand.server_token_scopes(
        requested, held, name, spawner.name, groups_of=lambda who: groups if who == name else ()
    )


def warn_of_refused(launch: Launch, resolution: Resolution) -> None:
    """Log which scopes the server's token was meant to have and has not."""
    if resolution.refused:
        launch.context.log.warning(
            "The token of server %s goes without scopes that %s does not hold: %s",
            launch.log_name,
            launch.user.name,
            ", ".join(sorted(resolution.refused)),
        )


async def resolve_client_scopes(launch: Launch) -> list[str]:
    """Return the raw scopes that browsers may be granted through this server (rbac §8.5), access scope excluded."""
    spawner = launch.spawner
    allowed: Any = spawner.oauth_client_allowed_scopes
    if callable(allowed):
        allowed = await launch.plugin(
            "oauth_client_allowed_scopes", lambda: spawner.oauth_client_allowed_scopes(spawner)
        )
    scopes: list[str] = list(allowed or [])
    roles: Any = getattr(spawner, "oauth_roles", None)
    if callable(roles):
        roles = await launch.plugin("oauth_roles", lambda: roles(spawner))
    if roles and not scopes:
        scopes = await launch.context.directory.roles_to_scopes(list(roles))
    return scopes
