"""Small helpers: users, servers and runs to begin with."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from jupyterhub import orm
from jupyterhub.store import runs, starts, users
from jupyterhub.store.values import ServerRecord, UserRecord

CLIENT = "jupyterhub-user-ada"
NOTE = "Server at /user/ada/"
TOKEN = "0123456789abcdef0123456789abcdef"


def make_user(session: Session, name: str = "ada", *, admin: bool = False) -> UserRecord:
    return users.create(session, name, admin=admin)


def begin(session: Session, user_id: int, name: str = "", *, owner: int | None = None) -> ServerRecord:
    """A server that somebody has asked for."""
    server = runs.ensure(session, user_id, name)
    return starts.begin(session, server.id, owner=owner, options={"size": "small"}, base_url=f"/user/ada/{name}").server


def register(session: Session, server_id: int, fence: int, *, token: str = TOKEN) -> None:
    starts.register_secrets(session, server_id, fence, make_secrets(token), ["users:activity!user"])


def make_secrets(token: str = TOKEN) -> starts.ServerSecrets:
    return starts.ServerSecrets(
        token=token,
        note=NOTE,
        client_id=CLIENT,
        redirect_uri="/user/ada/oauth_callback",
        client_scopes=["read:users"],
        access_scope="access:servers!server=ada/",
    )


def count(session: Session, model: type[object]) -> int:
    return session.scalar(select(func.count()).select_from(model)) or 0


def counts(session: Session) -> dict[str, int]:
    """How many rows there are of everything that a server leaves behind if nobody cleans up."""
    return {
        model.__tablename__: count(session, model)
        for model in (orm.Server, orm.Spawner, orm.APIToken, orm.OAuthClient, orm.OAuthCode, orm.Share, orm.ShareCode)
    }
