"""Users and what belongs to them (rest-api §4.3 to §4.8). Servers and tokens have modules of their own below this."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tornado import web

from ..core.activity import check_reported, is_newer
from ..core.clock import aware, utcnow
from ..core.errors import HubError, InvalidRequest, UserExists, UserNotFound
from ..core.scopes.algebra import AllType, ScopeSet
from ..core.scopes.expand import identify_scopes
from ..crypto import EncryptionUnavailable
from ..store import services as service_store
from ..store import users as user_store
from . import models
from ._servers import SpawnProgressAPIHandler, UserServerAPIHandler
from ._tokens import UserTokenAPIHandler, UserTokenListAPIHandler
from .base import APIHandler
from .declare import operation, register
from .schemas import ActivityBody, IdentityModel, UserBody, UserModel, UsersBody

if TYPE_CHECKING:
    from ..runtime.access import Caller

__all__ = [
    "APIHandler",
    "ActivityAPIHandler",
    "SelfAPIHandler",
    "SpawnProgressAPIHandler",
    "UserAPIHandler",
    "UserAdminAccessAPIHandler",
    "UserListAPIHandler",
    "UserServerAPIHandler",
    "UserTokenAPIHandler",
    "UserTokenListAPIHandler",
    "default_handlers",
]

SORTS = ("id", "-id", "name", "-name", "last_activity", "-last_activity")
STATES = ("active", "ready", "inactive")

_LIST_QUERY = {
    "offset": "where the page begins",
    "limit": "how many to return at most",
    "state": "active, ready or inactive",
    "name_filter": "part of the name; % and _ stand for any characters and any one",
    "sort": "id, name or last_activity, with - before it for the other direction",
    "include_stopped_servers": "show stopped servers as well",
}


class _SelfViews:
    """What callers see of themselves: their scopes with those to identify oneself, and the scopes as sorted texts.

    `GET /hub/api/user` is the hottest route: every request to a server may lead to it. A caller is one object for as
    long as it is cached, so it is worked out once for each.
    """

    def __init__(self, size: int = 10_000) -> None:
        self._size = size
        self._known: OrderedDict[int, tuple[Caller, ScopeSet, list[str]]] = OrderedDict()

    def of(self, caller: Caller) -> tuple[ScopeSet, list[str]]:
        known = self._known.get(id(caller))
        if known is None or known[0] is not caller:
            # Keeping the caller keeps its id from being given to another one.
            held = caller.scopes.union(ScopeSet.parse(identify_scopes(caller.owner)))
            known = self._known[id(caller)] = (caller, held, sorted(caller.scopes.expanded))
            while len(self._known) > self._size:
                self._known.popitem(last=False)
        return known[1], known[2]


_self_views = _SelfViews()


class SelfAPIHandler(APIHandler):
    """`/hub/api/user`: whom the credentials stand for."""

    @operation(
        "Whom the credentials stand for", who="identified", responses={200: IdentityModel}, errors={403: "nobody"}
    )
    async def get(self) -> None:
        caller = self.caller
        assert caller is not None
        held, scopes = _self_views.of(caller)
        viewer = models.Viewer(self.context, held)
        if caller.kind == "user":
            model = models.user_model(viewer, self.current_user)
        else:
            stored = await self.context.database.read(service_store.find, caller.name)
            model = models.service_model(viewer, self.current_user, stored=stored)
        token = caller.token
        model["token_id"] = token.public_id if token is not None else None
        model["session_id"] = token.session_id if token is not None else None
        model["scopes"] = scopes
        self.write_json(model)


class _UserHandler(APIHandler):
    def refuse_new_admin(self, body: Mapping[str, Any]) -> None:
        """Raise 403 for somebody without the admin flag who wants to give it away."""
        caller = self.caller
        if body.get("admin") and not (caller is not None and caller.admin):
            raise web.HTTPError(403, "Only administrators may make somebody an administrator")

    def include_stopped(self) -> bool:
        value = self.get_argument("include_stopped_servers", None)
        return value is not None and value.lower() not in ("0", "false")

    async def create_user(self, name: str, admin: bool) -> Any:
        try:
            return await self.context.directory.create(name, admin=admin)
        except HubError:
            raise
        except Exception as error:
            self.log.warning("The authenticator does not take user %s: %r", name, error)
            raise InvalidRequest(f"User {name!r} cannot be made: {error}") from error

    async def read_page(self, **query: Any) -> tuple[list[dict[str, Any]], int]:
        rows, total = await self.context.database.read(user_store.page_with_servers, **query)
        viewer, include_stopped = self.viewer, self.include_stopped()
        shown = [models.listed_user(viewer, user, servers, include_stopped=include_stopped) for user, servers in rows]
        return [model for model in shown if model], total


class UserListAPIHandler(_UserHandler):
    """`/hub/api/users`."""

    @operation(
        "List users", scopes=("list:users",), lists=True, query=_LIST_QUERY, responses={200: list[UserModel]},
        errors={400: "a parameter is not possible"},
    )
    async def get(self) -> None:
        offset, limit = self.get_api_pagination()
        state = self.get_argument("state", None) or None
        if state is not None and state not in STATES:
            raise InvalidRequest(f"state must be one of {', '.join(STATES)}, not {state!r}")
        sort = self.get_argument("sort", "id")
        if sort not in SORTS:
            raise InvalidRequest(f"sort must be one of {', '.join(SORTS)}, not {sort!r}")
        caller = self.caller
        assert caller is not None
        filters = self.context.access.filter_for(caller, "list:users")
        if not isinstance(filters, AllType) and not set(filters) <= {"user", "group"}:
            raise web.HTTPError(403)
        items, total = await self.read_page(
            offset=offset, limit=limit, state=state, sort=sort, filters=filters,
            name_filter=self.get_argument("name_filter", "", strip=False),
        )
        self.write_list(items, offset, limit, total)

    @operation(
        "Make several users", scopes=("admin:users",), request=UsersBody, responses={201: list[UserModel]},
        errors={400: "a name is not possible, or the authenticator refuses", 409: "all of them exist"},
    )
    async def post(self) -> None:
        body = self.get_json_body()
        if not isinstance(body, dict) or not body.get("usernames"):
            raise InvalidRequest("Give at least one name in usernames")
        names = body.pop("usernames")
        if isinstance(names, str):
            names = list(names)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InvalidRequest("usernames must be an array of texts")
        self._check_user_model(body)
        self.refuse_new_admin(body)
        names = [self.authenticator.normalize_username(name) for name in names]
        invalid = [name for name in names if not self.authenticator.validate_username(name)]
        if invalid:
            raise InvalidRequest(f"Not possible as user names: {', '.join(map(repr, invalid))}")
        new = [name for name in names if await self.context.directory.find(name) is None]
        if not new:
            raise web.HTTPError(409, f"All {len(names)} users exist already")
        created = {name: await self.create_user(name, bool(body.get("admin"))) for name in dict.fromkeys(new)}
        self.write_json([self.user_model(created[name]) for name in new], status=201)


class UserAPIHandler(_UserHandler):
    """`/hub/api/users/{user}`."""

    @operation(
        "One user",
        scopes=(
            "read:users", "read:users:name", "read:servers", "read:users:groups", "read:users:activity",
            "read:roles:users",
        ),
        query={"include_stopped_servers": "show stopped servers as well"},
        responses={200: UserModel}, errors={404: "there is none, or none that you may see"},
    )
    async def get(self, user_name: str) -> None:
        user = await self.user_or_404(user_name)
        auth_state = None
        if await self.may("admin:auth_state", user=user_name):
            auth_state = await user.get_auth_state()
        self.write_json(
            models.user_model(self.viewer, user, include_stopped=self.include_stopped(), auth_state=auth_state)
        )

    @operation(
        "Make a user", scopes=("admin:users",), request=UserBody, responses={201: UserModel},
        errors={400: "the authenticator refuses", 409: "there is one already"},
    )
    async def post(self, user_name: str) -> None:
        body = self.read_body(UserBody)
        self.refuse_new_admin(body)
        if await self.context.directory.find(user_name) is not None:
            raise UserExists(user_name)
        user = await self.create_user(user_name, bool(body.get("admin")))
        self.write_json(self.user_model(user), status=201)

    @operation(
        "Change a user", scopes=("admin:users",), request=UserBody, responses={200: UserModel},
        errors={400: "the new name is not possible or taken", 403: "it takes an administrator", 404: "there is none"},
    )
    async def patch(self, user_name: str) -> None:
        user = await self.user_or_404(user_name)
        body = self.read_body(UserBody, required=True)
        caller = self.caller
        if user.admin and not (caller is not None and caller.admin):
            raise web.HTTPError(403, "Only administrators may change administrators")
        self.refuse_new_admin(body)
        for member, way in (("groups", "/groups/{group}/users"), ("roles", "roles in the configuration")):
            if member in body:
                raise InvalidRequest(f"{member} cannot be changed here; use {way}")
        name = user.name
        if "name" in body and body["name"] != user.name:
            name = self.authenticator.normalize_username(body["name"])
            if not self.authenticator.validate_username(name):
                raise InvalidRequest(f"{name!r} is not possible as a user name")
            if name != user.name and await self.context.directory.find(name) is not None:
                raise InvalidRequest(f"There is a user {name!r} already")
        if "auth_state" in body:
            try:
                await user.save_auth_state(body["auth_state"])
            except EncryptionUnavailable as error:
                raise InvalidRequest(f"auth_state cannot be stored: {error}") from error
        if name != user.name:
            await self.context.directory.rename(user, name)
        if "admin" in body:
            await self.context.directory.set_admin(user, body["admin"])
        model = self.user_model(user)
        model["auth_state"] = await user.get_auth_state()
        self.write_json(model)

    @operation(
        "Delete a user", scopes=("delete:users",), responses={204: None},
        errors={400: "it is you, or a server cannot be stopped now", 404: "there is none"},
    )
    async def delete(self, user_name: str) -> None:
        user = await self.user_or_404(user_name)
        caller = self.caller
        if caller is not None and caller.is_user and caller.id == user.id:
            raise InvalidRequest("You cannot delete yourself")
        servers = self.context.servers
        for name in user.active_names():
            if servers.status(user, name).pending == "stop":
                raise InvalidRequest(f"A server of {user_name} is stopping; try again when it has stopped")
        stops = [
            await servers.stop(user, name, requested_by=caller, handler=self, why="its user is deleted")
            for name in user.active_names()
        ]
        for stop in stops:
            if not await stop.wait(self.context.slow_stop_timeout):
                raise InvalidRequest(f"A server of {user_name} is slow to stop; try again when it has stopped")
        await self.context.directory.delete(user)
        self.write_nothing()


class ActivityAPIHandler(APIHandler):
    """`…/activity`: servers report when they were used. Hot: one look-up, and notes that are written in batches."""

    @operation(
        "Report activity", scopes=("users:activity",), request=ActivityBody, responses={200: None},
        errors={400: "a time is wrong, or a server is unknown", 404: "there is no such user"},
    )
    async def post(self, user_name: str) -> None:
        user = await self.context.directory.find(user_name)
        if user is None:
            raise UserNotFound(user_name)
        body = self.get_json_body()
        if not isinstance(body, dict):
            raise InvalidRequest("The body must be an object with last_activity, servers or both")
        servers = body.get("servers") or {}
        own = body.get("last_activity")
        if not own and not servers:
            raise InvalidRequest("Give last_activity, servers or both")
        if not isinstance(servers, dict):
            raise InvalidRequest("servers must be an object")
        now = utcnow()
        own_time = _read_time(own, now) if own else None
        times = {}
        for name, entry in servers.items():
            record = user.records.get(name)
            if record is None:
                raise InvalidRequest(f"{user_name} has no server named {name!r}")
            if not isinstance(entry, dict) or "last_activity" not in entry:
                raise InvalidRequest(f"servers[{name!r}] must be an object with last_activity")
            times[name] = record, _read_time(entry["last_activity"], now)
        book = self.context.activity
        if own_time is not None:
            book.note_user(user.id, own_time)
        for record, when in times.values():
            if is_newer(when, record.last_activity):
                record.last_activity = when
                book.note_server(record.id, when)
        self.finish()


def _read_time(text: Any, now: datetime) -> datetime:
    """Return a reported time, aware. Raises InvalidRequest for what is no time or lies in the future."""
    if not isinstance(text, str):
        raise InvalidRequest(f"{text!r} is not a time; write it as a text")
    try:
        # Servers write ISO times; everything else is for a lenient parser, which costs ten times as much.
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        from dateutil.parser import parse

        try:
            moment = parse(text)
        except (ValueError, OverflowError):
            raise InvalidRequest(f"{text!r} is not a time") from None
    try:
        return check_reported(aware(moment), now)
    except OverflowError:
        raise InvalidRequest(f"{text!r} is not a time that we can count with") from None


class UserAdminAccessAPIHandler(APIHandler):
    """Old: administrators enter servers by scope now."""

    @operation(
        "Ask for admin access", scopes=("servers",), responses={200: None}, deprecated=True,
        errors={403: "JupyterHub.admin_access is off", 404: "there is no such user"},
    )
    async def post(self, user_name: str) -> None:
        if not self.context.admin_access:
            raise web.HTTPError(403, "JupyterHub.admin_access is off; what counts is the scope access:servers")
        await self.user_or_404(user_name)
        self.finish()


_USER = r"/api/users/([^/]+)"
_SERVER = rf"{_USER}/servers/([^/]*)"

default_handlers = register(
    [
        (r"/api/user", SelfAPIHandler),
        (r"/api/users", UserListAPIHandler),
        (_USER, UserAPIHandler),
        (rf"{_USER}/activity", ActivityAPIHandler),
        (rf"{_USER}/admin-access", UserAdminAccessAPIHandler),
        (rf"{_USER}/server", UserServerAPIHandler),
        (rf"{_USER}/server/progress", SpawnProgressAPIHandler),
        (_SERVER, UserServerAPIHandler),
        (rf"{_SERVER}/progress", SpawnProgressAPIHandler),
        (rf"{_USER}/tokens/?", UserTokenListAPIHandler),
        (rf"{_USER}/tokens/([^/]+)", UserTokenAPIHandler),
    ]
)
