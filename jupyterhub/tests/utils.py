"""Requests to a Hub under test, and users made at once."""

import asyncio
import functools
import inspect
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import requests
from sqlalchemy import create_engine, exc, text

from jupyterhub import orm, roles
from jupyterhub.utils import url_path_join

__all__ = [
    "AsyncSession",
    "add_user",
    "api_request",
    "async_requests",
    "auth_header",
    "check_db_locks",
    "find_user",
    "get_page",
    "public_host",
    "public_url",
    "ssl_setup",
]

#: Seconds until a request that nobody gave a timeout is given up: a Hub that hangs fails the test, not the suite.
REQUEST_TIMEOUT = 60.0
#: Seconds somebody may hold a write lock before `check_db_locks` complains.
LOCK_TIMEOUT = 2.0


class _AsyncRequests:
    """The functions of `requests`, each run on a thread and awaited: `await async_requests.get(url)`."""

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(4, thread_name_prefix="requests")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(requests, name)
        if not callable(function):
            return function

        def on_thread(*args: Any, **kwargs: Any) -> asyncio.Future[Any]:
            kwargs.setdefault("timeout", REQUEST_TIMEOUT)
            return asyncio.wrap_future(self.executor.submit(function, *args, **kwargs))

        return on_thread


async_requests = _AsyncRequests()


class AsyncSession(requests.Session):
    """A session of `requests` whose calls run on a thread and are awaited."""

    def request(self, *args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("timeout", REQUEST_TIMEOUT)
        return asyncio.wrap_future(async_requests.executor.submit(super().request, *args, **kwargs))


def ssl_setup(cert_dir: str, authority_name: str) -> dict[str, Any]:
    """Make an authority and a certificate for this machine; returns the record whose `files` has key, cert and ca."""
    from certipy import Certipy

    maker = Certipy(store_dir=cert_dir)
    maker.create_ca(authority_name, overwrite=True)
    names = ["IP:127.0.0.1", "DNS:localhost"]
    record = maker.create_signed_pair("external", authority_name, alt_names=names, overwrite=True)
    return dict(record)


# Addresses


def public_host(app: Any) -> str:
    """Return `scheme://host:port` where people reach the Hub under test."""
    if app.subdomain_host:
        return str(app.subdomain_host)
    parts = urlsplit(app.proxy.public_url)
    return f"{parts.scheme}://{parts.netloc}"


def public_url(app: Any, user_or_service: Any = None, path: str = "") -> str:
    """Return the public address of the Hub's site, of a user's server or of a service, with `path` at its end."""
    if user_or_service is None:
        host, prefix = public_host(app), app.base_url
    else:
        host, prefix = user_or_service.host or public_host(app), user_or_service.prefix
    return host + (url_path_join(prefix, path) if path else prefix)


# Users


def find_user(db: Any, name: str, app: Any = None) -> Any:
    """Return the row of a user, with `app` the wrapper; None if there is none."""
    row = orm.User.find(db, name)
    if row is None or app is None:
        return row
    return app.users[row.id]


def add_user(db: Any, app: Any = None, **kwargs: Any) -> Any:
    """Make a user, or change the one of this name; returns the wrapper when `app` is given, else the row.

    Keywords are columns of the table, `name` among them; `roles` lists rows or names of roles that the user gets
    beside the default ones.
    """
    wanted_roles = kwargs.pop("roles", None) or ()
    row = find_user(db, kwargs["name"])
    if row is None:
        row = orm.User(**kwargs)
        db.add(row)
    else:
        for column, value in kwargs.items():
            setattr(row, column, value)
    db.commit()
    roles.assign_default_roles(db, row)
    for role in wanted_roles:
        roles.grant_role(db, row, role)
    return row if app is None else _wrapper_of(app, row)


def _wrapper_of(app: Any, row: Any) -> Any:
    """Return the wrapper of a row, with the values that the row has now."""
    from jupyterhub.store import users as user_store

    user = app.users[row.id]
    if app.database is not None:
        user.record = app.database.run_sync(user_store.find_by_id, user.id)
        app.context.access.forget_all()
    return user


def auth_header(db: Any, name: str) -> dict[str, str]:
    """Return a header with a new token of this user. Raises KeyError when there is no such user."""
    user = find_user(db, name)
    if user is None:
        raise KeyError(f"There is no user {name!r}")
    return {"Authorization": f"token {user.new_api_token()}"}


# Requests


def _with_certificates(app: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    authority = getattr(app, "external_certs", {}).get("files", {}).get("ca")
    if authority:
        kwargs.setdefault("verify", authority)
    return kwargs


def _with_xsrf(kwargs: dict[str, Any]) -> None:
    """Whoever shows cookies shows the token that belongs to them, as the pages' own scripts do."""
    params = dict(kwargs.get("params") or {})
    for cookie in kwargs["cookies"] if hasattr(kwargs["cookies"], "list_domains") else ():
        if cookie.name == "_xsrf":
            params.setdefault("_xsrf", cookie.value)
    kwargs["params"] = params


async def api_request(
    app: Any, *path: str, method: str = "get", noauth: bool = False, name: str = "admin", **kwargs: Any
) -> Any:
    """Ask the Hub's API as user `name`, an administrator if nobody else is named; returns the response.

    With `cookies` or an `Authorization` header those count, with `noauth` nothing does. Other keywords go to
    `requests`.
    """
    headers = kwargs["headers"] = dict(kwargs.get("headers") or {})
    if "cookies" in kwargs:
        _with_xsrf(kwargs)
    elif not noauth and "Authorization" not in headers:
        headers.update(auth_header(app.db, name))
    url = public_host(app) + url_path_join(app.hub.base_url, "api", *path)
    return await getattr(async_requests, method.lower())(url, **_with_certificates(app, kwargs))


async def get_page(path: str, app: Any, hub: bool = True, **kwargs: Any) -> Any:
    """Get a page of the Hub, or with `hub=False` one below the base URL; keywords go to `requests`."""
    prefix = app.hub.base_url if hub else app.base_url
    url = public_host(app) + url_path_join(prefix, path)
    return await async_requests.get(url, **_with_certificates(app, kwargs))


# The database


def check_db_locks(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate `async def f(app, …)`: fails when the database is still locked for writing after it returned."""

    @functools.wraps(function)
    async def checked(app: Any, *args: Any, **kwargs: Any) -> Any:
        result = function(app, *args, **kwargs)
        if inspect.isawaitable(result):
            result = await result
        url = getattr(app, "db_url", "")
        if url.startswith("sqlite") and os.path.exists(url.partition("///")[2]):
            await asyncio.to_thread(_check_writable, url)
        return result

    return checked


def _check_writable(url: str) -> None:
    engine = create_engine(url, connect_args={"timeout": LOCK_TIMEOUT})
    try:
        with engine.connect() as connection:
            connection.execute(text("BEGIN IMMEDIATE"))
            connection.rollback()
    except exc.OperationalError as error:
        raise AssertionError(f"Somebody left the database locked: {error}") from error
    finally:
        engine.dispose()
