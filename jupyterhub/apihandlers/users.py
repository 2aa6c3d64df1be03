"""Users, their servers, tokens and activity (rest-api §4.3 to §4.8)."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Any

from dateutil.parser import parse as parse_time
from tornado import web
from tornado.iostream import StreamClosedError

from ..core import lifecycle
from ..core.activity import check_reported
from ..core.clock import aware, utcnow
from ..core.errors import HubError, ServerBusy, ServerNotRunning, ServerRunning, UserExists
from ..core.names import check_display_name, check_server_name
from ..core.scopes.algebra import AllType, Resource
from ..core.scopes.expand import OwnerRef, identify_scopes, token_scopes
from ..store import runs
from ..store import users as user_store
from .base import APIHandler
from .declare import operation, register
from . import models

USER_KEYS: dict[str, type] = {"name": str, "admin": bool, "groups": list, "roles": list, "auth_state": dict}
SORTS = {"id", "-id", "name", "-name", "last_activity", "-last_activity"}


class SelfAPIHandler(APIHandler):
    """`/hub/api/user`: who the credentials stand for. Hot: every request to a server may lead here."""

    @operation("Who the credentials stand for", public=True, responses={200: "identity", 403: "nobody"})
    async def get(self) -> None:
        caller = self.caller
        if caller is None:
            raise web.HTTPError(403)
        scopes = sorted(caller.scopes.expanded)
        self._identity_scopes = caller.scopes.union(
            type(caller.scopes).parse(identify_scopes(OwnerRef(caller.kind, caller.name)))
        )
        if caller.kind == "user":
            user = self.current_user
            model = models.user_model(self, user.record, list(user.records.values()))
        else:
            model = models.service_model(self, self.current_user)
            for name, unset in (("url", ""), ("info", {}), ("display", True)):
                if model.get(name) == unset and name in model:
                    model[name] = None
        token = caller.token
        model["token_id"] = token.public_id if token is not None else None
        model["session_id"] = token.session_id if token is not None else None
        model["scopes"] = scopes
        self.write_json(model)

    _identity_scopes: Any = None

    @property
    def held_scopes(self) -> Any:
        return self._identity_scopes if self._identity_scopes is not None else super().held_scopes


class _UserHandler(APIHandler):
    def check_user_model(self, model: dict[str, Any]) -> None:
        """Raise 400 for a member that a user does not have, or of another type."""
        for name, value in model.items():
            if name not in USER_KEYS:
                raise web.HTTPError(400, f"{name!r} is not one of {', '.join(USER_KEYS)}")
            if not isinstance(value, USER_KEYS[name]) or (USER_KEYS[name] is not bool and isinstance(value, bool)):
                raise web.HTTPError(400, f"{name} must be of type {USER_KEYS[name].__name__}, not {type(value).__name__}")

    _check_user_model = check_user_model

    def check_may_make_admin(self, model: dict[str, Any]) -> None:
        caller = self.caller
        if model.get("admin") and (caller is None or not caller.admin):
            raise web.HTTPError(403, "Only administrators may make administrators")

    def include_stopped(self) -> bool:
        value = self.get_argument("include_stopped_servers", None)
        return value is not None and value.lower() not in ("0", "false")


class UserListAPIHandler(_UserHandler):
    """`/hub/api/users`."""

    @operation("Users that the caller may list", scopes=("list:users",), lists=True, responses={200: "users"})
    async def get(self) -> None:
        offset, limit = self.get_api_pagination()
        state = self.get_argument("state", None) or None
        if state not in (None, "active", "ready", "inactive"):
            raise web.HTTPError(400, f"state must be active, ready or inactive, not {state!r}")
        sort = self.get_argument("sort", "id")
        if sort not in SORTS:
            raise web.HTTPError(400, f"sort must be one of {', '.join(sorted(SORTS))}, not {sort!r}")
        caller = self.caller
        assert caller is not None
        filters = self.context.access.filter_for(caller, "list:users")
        if not isinstance(filters, AllType) and set(filters) - {"user", "group"}:
            raise web.HTTPError(403)
        records, total = await self.context.directory.page(
            offset=offset, limit=limit, state=state, sort=sort, name_filter=self.get_argument("name_filter", ""),
            filters=filters,
        )
        loaded = await self.context.database.read(runs.load_users, [record.id for record in records])
        servers = {record.id: rows for record, rows in loaded}
        from ..spawning.record import SpawnerRecord

        items = []
        for record in records:
            known = self.context.users.cached(record.id)
            stored = (
                list(known.records.values()) if known is not None
                else [SpawnerRecord.from_server(row) for row in servers.get(record.id, ())]
            )
            model = models.user_model(self, record, stored, include_stopped=self.include_stopped())
            if model:
                items.append(model)
        self.write_list(items, offset, limit, total)

    @operation("Make several users", scopes=("admin:users",), body="usernames, admin", responses={201: "users"})
    async def post(self) -> None:
        body = self.get_json_body()
        if not isinstance(body, dict) or not body.get("usernames"):
            raise web.HTTPError(400, "Give at least one name in 'usernames'")
        names = body.pop("usernames")
        self.check_user_model(body)
        self.check_may_make_admin(body)
        authenticator = self.authenticator
        wanted, invalid = [], []
        for name in names:
            name = authenticator.normalize_username(str(name))
            (wanted if authenticator.validate_username(name) else invalid).append(name)
        if invalid:
            raise web.HTTPError(400, f"Invalid user names: {', '.join(invalid)}")
        new = [name for name in wanted if await self.context.directory.find(name) is None]
        if not new:
            raise web.HTTPError(409, f"All {len(wanted)} users exist already")
        created = []
        for name in dict.fromkeys(new):
            created.append(await self._create(name, bool(body.get("admin"))))
        by_name = {user.name: user for user in created}
        self.write_json([self.user_model(by_name[name]) for name in new], status=201)

    async def _create(self, name: str, admin: bool) -> Any:
        try:
            return await self.context.directory.create(name, admin=admin)
        except HubError:
            raise
        except Exception as error:
            self.log.exception("The authenticator refuses the user %s", name)
            raise web.HTTPError(400, f"Failed to create user {name}: {error}") from error


class UserAPIHandler(_UserHandler):
    """`/hub/api/users/{user}`."""

    @operation(
        "One user",
        scopes=(
            "read:users", "read:users:name", "read:servers", "read:users:groups", "read:users:activity",
            "read:roles:users",
        ),
        responses={200: "user", 404: "none such"},
    )
    async def get(self, user_name: str) -> None:
        user = await self.user_or_404(user_name)
        auth_state = None
        if await self.may("admin:auth_state", user=user_name):
            auth_state = await user.get_auth_state()
        self.write_json(
            models.user_model(
                self, user.record, list(user.records.values()), include_stopped=self.include_stopped(),
                auth_state=auth_state,
            )
        )

    @operation("Make a user", scopes=("admin:users",), body="admin", responses={201: "user", 409: "exists"})
    async def post(self, user_name: str) -> None:
        model = self.get_json_object()
        self.check_user_model(model)
        self.check_may_make_admin(model)
        if await self.context.directory.find(user_name) is not None:
            raise UserExists(user_name)
        try:
            user = await self.context.directory.create(user_name, admin=bool(model.get("admin")))
        except HubError:
            raise
        except Exception as error:
            raise web.HTTPError(400, f"Failed to create user {user_name}: {error}") from error
        self.write_json(self.user_model(user), status=201)

    @operation("Delete a user", scopes=("delete:users",), responses={204: "gone", 400: "a server runs"})
    async def delete(self, user_name: str) -> None:
        user = await self.user_or_404(user_name)
        caller = self.caller
        if caller is not None and caller.is_user and caller.name == user_name:
            raise web.HTTPError(400, "You cannot delete yourself")
        for name in user.active_names():
            status = self.context.servers.status(user, name)
            if status.pending == "stop":
                raise web.HTTPError(400, f"A server of {user_name} is stopping; try again when it has stopped")
            stop = await self.context.servers.stop(user, name, requested_by=caller, why="its user is deleted")
            if not await stop.wait(self.context.slow_stop_timeout):
                raise web.HTTPError(400, f"A server of {user_name} is slow to stop; try again when it has stopped")
        await self.context.directory.delete(user)
        self.set_status(204)
        self.clear_header("Content-Type")

    @operation("Change a user", scopes=("admin:users",), body="name, admin, auth_state", responses={200: "user"})
    async def patch(self, user_name: str) -> None:
        user = await self.user_or_404(user_name)
        model = self.get_json_object(required=True)
        self.check_user_model(model)
        caller = self.caller
        if (user.admin or model.get("admin")) and not (caller and caller.admin):
            raise web.HTTPError(403, "Only administrators may change administrators")
        if "name" in model and model["name"] != user.name:
            name = self.authenticator.normalize_username(model["name"])
            if not self.authenticator.validate_username(name):
                raise web.HTTPError(400, f"Invalid user name: {name!r}")
            if await self.context.directory.find(name) is not None:
                raise web.HTTPError(400, f"User {name} exists already")
            await self.context.directory.rename(user, name)
        if "admin" in model:
            await self.context.directory.set_admin(user, model["admin"])
        if "auth_state" in model:
            await user.save_auth_state(model["auth_state"])
        for name in ("groups", "roles"):
            if name in model:
                raise web.HTTPError(400, f"{name} cannot be changed here; use the group and role operations")
        result = models.user_model(self, user.record, list(user.records.values()))
        result["auth_state"] = await user.get_auth_state()
        self.write_json(result)


# Servers


class UserServerAPIHandler(APIHandler):
    """`/hub/api/users/{user}/server` and `…/servers/{server}`."""

    async def check_named(self, user: Any, server_name: str, display_name: str | None) -> None:
        """Raise 400 for a named server that may not be made or started."""
        await self._check_named_server_request(user, server_name)
        if display_name:
            check_display_name(display_name)

    def start_body(self) -> tuple[str, dict[str, Any] | None]:
        """Return (display name, options or None) of a body (rest-api §4.6)."""
        body = self.get_json_body()
        if not body:
            return "", None
        if not isinstance(body, dict):
            raise web.HTTPError(400, "The body must be a JSON object")
        if "display_name" not in body and "user_options" not in body:
            return "", body
        display_name = body.get("display_name", "")
        if not isinstance(display_name, str):
            raise web.HTTPError(400, "display_name must be a text")
        options = body.get("user_options")
        if options is not None and not isinstance(options, dict):
            raise web.HTTPError(400, "user_options must be an object or null")
        return display_name, options

    @operation("One server", scopes=("read:servers",), responses={200: "server", 404: "none such"})
    async def get(self, user_name: str, server_name: str = "") -> None:
        user = await self.user_or_404(user_name)
        record = user.records.get(server_name)
        if record is None:
            raise web.HTTPError(404)
        self.write_json(models.server_of_record(self, record, user))

    @operation("Make a server without starting it", scopes=("start:servers",), responses={201: "server"})
    async def put(self, user_name: str, server_name: str = "") -> None:
        user = await self.user_or_404(user_name)
        display_name, options = self.start_body()
        if not server_name or server_name in user.records:
            raise web.HTTPError(409, f"{user_name} has a server named {server_name!r} already")
        await self.check_named(user, server_name, display_name)
        record = await user.ensure_server(server_name, display_name)
        if options is not None:
            await self.context.database.run(runs.save_options, record.id, options)
            record.user_options = dict(options)
        self.write_json(models.server_of_record(self, record, user), status=201)

    @operation(
        "Start a server", scopes=("start:servers",), body="display_name, user_options",
        responses={201: "runs", 202: "starts", 429: "too many"},
    )
    async def post(self, user_name: str, server_name: str = "") -> None:
        user = await self.user_or_404(user_name)
        display_name, options = self.start_body()
        await self.check_named(user, server_name, display_name)
        self.set_header("Content-Type", "text/plain")
        status = self.context.servers.status(user, server_name)
        if status.pending == "spawn":
            self.set_status(202)
            return
        if status.ready and await self.context.servers.check(user, server_name):
            raise ServerRunning(user_name, server_name)
        start = await self.context.servers.start(
            user, server_name, display_name=display_name, options=options, handler=self, requested_by=self.caller
        )
        finished = await start.wait(self.context.slow_spawn_timeout)
        self.set_status(201 if finished else 202)

    @operation("Change a stopped server", scopes=("start:servers",), body="name, display_name, user_options")
    async def patch(self, user_name: str, server_name: str = "") -> None:
        user = await self.user_or_404(user_name)
        body = self.get_json_object(required=True)
        known = {name: body[name] for name in ("name", "display_name", "user_options") if name in body}
        if not known:
            raise web.HTTPError(400, "Give at least one of name, display_name, user_options")
        record = user.records.get(server_name)
        if record is None:
            raise web.HTTPError(404, f"{user_name} has no server named {server_name!r}")
        if lifecycle.is_active(record.lifecycle):
            raise web.HTTPError(400, "Only a stopped server can be changed")
        if (server_name or "name" in known or "display_name" in known) and not self.allow_named_servers:
            raise web.HTTPError(400, "Named servers are not enabled")
        options = known.get("user_options")
        if options is not None:
            if not isinstance(options, dict):
                raise web.HTTPError(400, "user_options must be an object")
            await self.context.database.run(runs.save_options, record.id, options)
            record.user_options = dict(options)
        if known.get("display_name"):
            if not isinstance(known["display_name"], str):
                raise web.HTTPError(400, "display_name must be a text")
            record = await user.ensure_server(server_name, known["display_name"])
        new_name = known.get("name")
        if new_name is not None:
            if not isinstance(new_name, str):
                raise web.HTTPError(400, "name must be a text")
            if new_name in user.records:
                raise web.HTTPError(409, f"{user_name} has a server named {new_name!r} already")
            check_server_name(new_name)
            await self.context.servers.rename(user, server_name, new_name)
            if not server_name:
                await user.ensure_server("")
            record = user.records[new_name]
        self.write_json(models.server_of_record(self, record, user))
        self.set_header("Content-Type", "application/json; charset=UTF-8")

    @operation("Stop a server", scopes=("delete:servers",), body="remove", responses={204: "stopped", 202: "stops"})
    async def delete(self, user_name: str, server_name: str = "") -> None:
        user = await self.user_or_404(user_name)
        body = self.get_json_body() or {}
        remove = bool(body.get("remove")) if isinstance(body, dict) else False
        if server_name:
            if not self.allow_named_servers:
                raise web.HTTPError(400, "Named servers are not enabled")
            if server_name not in user.records:
                raise web.HTTPError(404, f"{user_name} has no server named {server_name!r}")
        elif remove:
            raise web.HTTPError(400, "The default server cannot be removed")
        if "" not in user.records:
            await user.ensure_server("")
        try:
            stop = await self.context.servers.stop(
                user, server_name, requested_by=self.caller, handler=self, remove=remove
            )
        except ServerNotRunning:
            if remove:
                await self.context.servers.remove(user, server_name)
            self._stopped()
            return
        if await stop.wait(self.context.slow_stop_timeout):
            self._stopped()
        else:
            self.set_status(202)
            self.set_header("Content-Type", "text/plain")

    def _stopped(self) -> None:
        self.set_status(204)
        self.clear_header("Content-Type")


class SpawnProgressAPIHandler(APIHandler):
    """`…/progress`: server-sent events of a start (rest-api §4.7)."""

    keepalive_interval = 8
    _finish_future: Any = None

    def get_content_type(self) -> str:
        return "text/event-stream"

    async def send_event(self, event: dict[str, Any]) -> None:
        """Send one event; the stream ends quietly when the client is gone."""
        try:
            self.write(f"data: {json.dumps(event, default=str)}\n\n")
            await self.flush()
        except StreamClosedError:
            self.log.debug("The listener is gone")
            raise

    async def keepalive(self) -> None:
        """Send a blank line now and then, so that nothing in between gives up."""
        while True:
            try:
                self.write("\n\n")
                await self.flush()
            except (StreamClosedError, RuntimeError):
                return
            await asyncio.sleep(self.keepalive_interval)

    @operation("Follow the start of a server", scopes=("read:servers",), responses={200: "events", 400: "not starting"})
    async def get(self, user_name: str, server_name: str = "") -> None:
        user = await self.user_or_404(user_name)
        if server_name not in user.records:
            raise web.HTTPError(404)
        events = self.context.servers.progress(user, server_name)
        try:
            first = await events.__anext__()
        except (ServerNotRunning, StopAsyncIteration):
            raise web.HTTPError(400, f"The server {user_name}/{server_name} is not starting") from None
        self.set_header("Cache-Control", "no-cache")
        beat = self.context.background.start(self.keepalive(), name="keep a progress stream alive")
        try:
            await self.send_event(first)
            async for event in events:
                await self.send_event(event)
        except StreamClosedError:
            return
        finally:
            beat.cancel()
            await events.aclose()


class ActivityAPIHandler(APIHandler):
    """`…/activity`: servers report when they were used. Hot."""

    @operation("Report activity", scopes=("users:activity",), body="last_activity, servers", responses={200: "noted"})
    async def post(self, user_name: str) -> None:
        user = await self.context.directory.find(user_name)
        if user is None:
            raise web.HTTPError(404, f"There is no user {user_name!r}")
        body = self.get_json_object(required=True)
        servers = body.get("servers") or {}
        own = body.get("last_activity")
        if not own and not servers:
            raise web.HTTPError(400, "Give last_activity or servers")
        if not isinstance(servers, dict):
            raise web.HTTPError(400, "servers must be an object")
        own_time = self._time(own) if own else None
        times = {}
        for name, entry in servers.items():
            if name not in user.records:
                raise web.HTTPError(400, f"{user_name} has no server named {name!r}")
            if not isinstance(entry, dict) or "last_activity" not in entry:
                raise web.HTTPError(400, f"servers[{name!r}] must be an object with last_activity")
            times[name] = self._time(entry["last_activity"])
        if own_time is not None:
            self.context.activity.note_user(user.id, own_time)
        for name, when in times.items():
            record = user.records[name]
            if record.last_activity is None or record.last_activity < when:
                record.last_activity = when
            self.context.activity.note_server(record.id, when)
        self.finish()

    @staticmethod
    def _time(text: Any) -> datetime:
        try:
            moment = aware(parse_time(text))
        except (TypeError, ValueError, OverflowError):
            raise web.HTTPError(400, f"{text!r} is not a time") from None
        return check_reported(moment, utcnow())


class UserAdminAccessAPIHandler(APIHandler):
    """Old: administrators enter servers by scope now."""

    @operation("Old: ask for admin access", scopes=("servers",), responses={200: "allowed", 403: "off"})
    async def post(self, user_name: str) -> None:
        if not self.context.admin_access:
            raise web.HTTPError(403, "Admin access to servers is off; use the scope access:servers")
        await self.user_or_404(user_name)
        self.finish()


# Tokens


class UserTokenListAPIHandler(APIHandler):
    """`…/tokens`."""

    @operation("Tokens of a user", scopes=("read:tokens",), responses={200: "tokens"})
    async def get(self, user_name: str) -> None:
        user = await self.user_or_404(user_name)
        tokens = await self.context.tokens.list_for(user)
        self.write_json({"api_tokens": [await self.token_of(user, token) for token in tokens]})

    async def token_of(self, user: Any, token: Any) -> dict[str, Any]:
        """Return a token's model with the scopes that it really has now."""
        owner = await self.context.access.caller_for_user(user.id)
        scopes: Any = ()
        if owner is not None:
            client = None
            if token.client_id and token.client_id != "jupyterhub":
                from ..core.scopes.expand import ClientRef
                from ..store.tokens import client_target

                target = await self.context.database.read(client_target, token.client_id)
                client = ClientRef(
                    token.client_id, user=target.get("client_user"), server=target.get("client_server"),
                    service=target.get("client_service"),
                )
            scopes = token_scopes(
                token.scopes, owner.scopes, owner.owner, client,
                lambda name: owner.groups if name == owner.name else (),
            ).expanded
        return models.token_model(token, scopes)

    @operation(
        "Make a token for a user", public=True, body="note, expires_in, scopes, roles, auth",
        responses={201: "token", 400: "not allowed"},
    )
    async def post(self, user_name: str) -> None:
        body = self.get_json_object()
        caller = self.caller
        if caller is None:
            caller = await self._log_in_with(body)
        if caller is None:
            raise web.HTTPError(403)
        if not await self.context.access.covers(caller, "tokens", user=user_name):
            raise web.HTTPError(403, f"{caller.kind} {caller.name} may not make tokens for {user_name}")
        user = await self.context.directory.find(user_name)
        if user is None:
            raise web.HTTPError(403, f"{caller.kind} {caller.name} may not make tokens for {user_name}")
        note = body.get("note") or ""
        if not note:
            note = "Requested via api"
            if not (caller.is_user and caller.name == user_name):
                note += f" by {caller.kind} {caller.name}"
        scopes, roles = self._lists(body)
        text, token = await self.context.tokens.issue(
            user, scopes=scopes, roles=roles, note=str(note), expires_in=self._expires_in(body)
        )
        self.write_json({**await self.token_of(user, token), "token": text}, status=201)

    async def _log_in_with(self, body: dict[str, Any]) -> Any:
        """Who has no token yet may bring a user name and password instead; no session comes of it."""
        if "auth" not in body:
            return None
        try:
            model = await self.authenticate(body.get("auth"))
        except web.HTTPError:
            raise web.HTTPError(403) from None
        user = await self.context.directory.find(model["name"]) if model else None
        return await self.context.access.caller_for_user(user.id) if user is not None else None

    def _lists(self, body: dict[str, Any]) -> tuple[list[str] | None, list[str] | None]:
        found = []
        for name in ("scopes", "roles"):
            value = body.get(name)
            if value is not None and (
                not isinstance(value, list) or not all(isinstance(item, str) for item in value)
            ):
                raise web.HTTPError(400, f"{name} must be a list of texts")
            found.append(value)
        return found[0], found[1]

    def _expires_in(self, body: dict[str, Any]) -> int | None:
        highest = int(self.settings.get("token_expires_in_max_seconds", 0) or 0)
        value = body.get("expires_in")
        if value is None:
            return highest or None
        if not isinstance(value, int) or value < 1:
            raise web.HTTPError(400, f"expires_in must be a whole number of seconds, at least 1, not {value!r}")
        if highest and value > highest:
            raise web.HTTPError(400, f"expires_in may be {highest} seconds at most")
        return int(value)

    def check_xsrf_cookie(self) -> None:
        """Who brings a password in the body uses no cookie, so nothing can be forged."""
        if getattr(self, "_jupyterhub_user", None) is None and self.request.method == "POST":
            try:
                if "auth" in (self.get_json_body() or {}):
                    return
            except (web.HTTPError, TypeError):
                pass
        super().check_xsrf_cookie()


class UserTokenAPIHandler(UserTokenListAPIHandler):
    """`…/tokens/{id}`."""

    @operation("One token", scopes=("read:tokens",), responses={200: "token", 404: "none such"})
    async def get(self, user_name: str, token_id: str) -> None:  # type: ignore[override]
        user = await self.user_or_404(user_name)
        token = await self.context.tokens.find(user, token_id)
        self.write_json(await self.token_of(user, token))

    @operation("Revoke a token", scopes=("tokens",), responses={204: "gone", 404: "none such"})
    async def delete(self, user_name: str, token_id: str) -> None:
        user = await self.user_or_404(user_name)
        token = await self.context.tokens.find(user, token_id)
        await self.context.tokens.revoke(token)
        self.set_status(204)
        self.clear_header("Content-Type")


default_handlers = register(
    [
        (r"/api/user", SelfAPIHandler),
        (r"/api/users", UserListAPIHandler),
        (r"/api/users/([^/]+)", UserAPIHandler),
        (r"/api/users/([^/]+)/server", UserServerAPIHandler),
        (r"/api/users/([^/]+)/server/progress", SpawnProgressAPIHandler),
        (r"/api/users/([^/]+)/tokens", UserTokenListAPIHandler),
        (r"/api/users/([^/]+)/tokens/([^/]*)", UserTokenAPIHandler),
        (r"/api/users/([^/]+)/servers/([^/]*)", UserServerAPIHandler),
        (r"/api/users/([^/]+)/servers/([^/]*)/progress", SpawnProgressAPIHandler),
        (r"/api/users/([^/]+)/activity", ActivityAPIHandler),
        (r"/api/users/([^/]+)/admin-access", UserAdminAccessAPIHandler),
    ]
)

