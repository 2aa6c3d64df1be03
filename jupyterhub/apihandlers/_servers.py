"""Servers of users, and the events of their starts (rest-api §4.6, §4.7). Imported by others through `users`."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

from tornado import web
from tornado.iostream import StreamClosedError

from ..core.errors import (
    HubError,
    InvalidRequest,
    NamedServersDisabled,
    ServerExists,
    ServerNotFound,
    ServerNotRunning,
    ServerRunning,
)
from ..core.names import check_display_name, check_server_name
from ..store import runs
from . import models
from .base import APIHandler
from .declare import operation
from .schemas import ServerBody, ServerChange, ServerModel, StopBody, check_body


class UserServerAPIHandler(APIHandler):
    """`/hub/api/users/{user}/server` and `…/servers/{server}`."""

    __module__ = "jupyterhub.apihandlers.users"

    async def check_named(self, user: Any, server_name: str, display_name: str = "") -> None:
        """Raise 400 for a named server that may not be made or started."""
        await self._check_named_server_request(user, server_name)
        if server_name in user.records and server_name:
            if self.settings.get("allow_existing_invalid_named_servers", "allow-start") != "allow-start":
                check_server_name(server_name)
        if server_name and display_name:
            check_display_name(display_name)

    def read_start(self) -> tuple[str, dict[str, Any] | None]:
        """Return display name, empty for none, and options, None for those of the last time, of a body."""
        body = self.get_json_body()
        if not body:
            return "", None
        if not isinstance(body, dict):
            raise InvalidRequest("The body must be a JSON object")
        if "display_name" not in body and "user_options" not in body:
            # Before there was anything else to say, the whole body was the options.
            return "", body
        known = {name: body[name] for name in ("display_name", "user_options") if name in body}
        checked = check_body(known, ServerBody)
        return checked.get("display_name", ""), checked.get("user_options")

    def write_server(self, user: Any, server_name: str, status: int = 200) -> None:
        record = user.records.get(server_name) or models.StoredServer(name=server_name)
        self.write_json(models.server_model(self.viewer, record, user), status)

    @operation(
        "One server", scopes=("read:servers",), responses={200: ServerModel}, errors={404: "there is none"}
    )
    async def get(self, user_name: str, server_name: str = "") -> None:
        user = await self.user_or_404(user_name)
        if server_name and server_name not in user.records:
            raise web.HTTPError(404)
        self.write_server(user, server_name)

    @operation(
        "Make a server without starting it", scopes=("start:servers",), request=ServerBody,
        responses={201: ServerModel}, errors={400: "it may not be made", 404: "no such user", 409: "there is one"},
    )
    async def put(self, user_name: str, server_name: str = "") -> None:
        user = await self.user_or_404(user_name)
        display_name, options = self.read_start()
        if not server_name or server_name in user.records:
            raise ServerExists(user_name, server_name)
        await self.check_named(user, server_name, display_name)
        await user.ensure_server(server_name, display_name)
        if options is not None:
            await self._save_options(user, server_name, options)
        self.write_server(user, server_name, 201)

    async def _save_options(self, user: Any, server_name: str, options: dict[str, Any]) -> None:
        record = await user.ensure_server(server_name)
        await self.context.database.run(runs.save_options, record.id, options)
        record.user_options = dict(options)

    @operation(
        "Start a server", scopes=("start:servers",), request=ServerBody, responses={201: None, 202: None},
        errors={
            400: "it runs, is busy, or may not be made", 404: "no such user", 429: "too many servers run or start",
            500: "it did not start",
        },
    )
    async def post(self, user_name: str, server_name: str = "") -> None:
        user = await self.user_or_404(user_name)
        display_name, options = self.read_start()
        await self.check_named(user, server_name, display_name)
        servers = self.context.servers
        status = servers.status(user, server_name)
        if status.pending == "spawn":
            self._write_progress(202)
            return
        if status.ready and await servers.check(user, server_name):
            raise ServerRunning(user_name, server_name)
        start = await servers.start(
            user, server_name, display_name=display_name, options=options, handler=self, requested_by=self.caller
        )
        try:
            finished = await start.wait(self.context.slow_spawn_timeout)
        except web.HTTPError as error:
            # The spawner's own answer. It chooses the phrase, or there is none that fits (rest-api §1.3).
            error.reason = error.reason or "error"
            raise
        self._write_progress(201 if finished else 202)

    def _write_progress(self, status: int) -> None:
        self.set_header("Content-Type", "text/plain")
        self.write_nothing(status)

    @operation(
        "Change a stopped server", scopes=("start:servers",), request=ServerChange, responses={200: ServerModel},
        errors={400: "it runs, or the change is not possible", 404: "there is none", 409: "the new name is taken"},
    )
    async def patch(self, user_name: str, server_name: str = "") -> None:
        user = await self.user_or_404(user_name)
        body = self.read_body(ServerChange, required=True)
        new_name, display_name, options = (body.get(name) for name in ("name", "display_name", "user_options"))
        if new_name is None and display_name is None and "user_options" not in body:
            raise InvalidRequest("Give at least one of name, display_name and user_options")
        if "user_options" in body and options is None:
            raise InvalidRequest("user_options must be an object")
        if server_name and server_name not in user.records:
            raise ServerNotFound(user_name, server_name)
        if self.context.servers.status(user, server_name).active:
            raise InvalidRequest(f"The server {user_name}/{server_name} is active; only stopped ones can be changed")
        if not self.allow_named_servers and (server_name or new_name is not None or display_name is not None):
            raise NamedServersDisabled()
        if new_name is not None:
            await self._check_new_name(user, server_name, new_name)
        if options is not None:
            await self._save_options(user, server_name, options)
        if display_name:
            await user.ensure_server(server_name, display_name)
        if new_name is not None:
            await user.ensure_server(server_name)
            await self.context.servers.rename(user, server_name, new_name)
            # Everybody has a default server; the one that had been it is a named one now.
            await user.ensure_server("")
            server_name = new_name
        self.set_status(200)
        self.set_header("Content-Type", "application/json; charset=UTF-8")
        record = user.records.get(server_name) or models.StoredServer(name=server_name)
        self.finish(json.dumps(models.server_model(self.viewer, record, user)))

    async def _check_new_name(self, user: Any, server_name: str, new_name: str) -> None:
        if not new_name or new_name in user.records:
            raise ServerExists(user.name, new_name)
        if server_name:
            check_server_name(new_name)
        else:
            # One named server more than before.
            await self.check_named(user, new_name)

    @operation(
        "Stop a server", scopes=("delete:servers",), request=StopBody, responses={204: None, 202: None},
        errors={400: "it is being renamed, or cannot be removed", 404: "there is none"},
    )
    async def delete(self, user_name: str, server_name: str = "") -> None:
        user = await self.user_or_404(user_name)
        body = self.get_json_body() or {}
        if not isinstance(body, dict):
            raise InvalidRequest("The body must be a JSON object")
        remove = bool(body.get("remove"))
        if server_name:
            if not self.allow_named_servers:
                raise NamedServersDisabled()
            if server_name not in user.records:
                raise ServerNotFound(user_name, server_name)
        elif remove:
            raise InvalidRequest("The default server cannot be removed, only stopped")
        servers = self.context.servers
        stopping = servers.status(user, server_name).pending == "stop"
        if server_name not in user.records:
            self.write_nothing()
            return
        try:
            stop = await servers.stop(
                user, server_name, requested_by=self.caller, handler=self, remove=remove
            )
        except ServerNotRunning:
            if remove:
                await servers.remove(user, server_name)
            self.write_nothing()
            return
        if not stopping and await stop.wait(self.context.slow_stop_timeout):
            self.write_nothing()
        else:
            self._write_progress(202)


class SpawnProgressAPIHandler(APIHandler):
    """`…/progress`: a start as server-sent events."""

    __module__ = "jupyterhub.apihandlers.users"

    #: Seconds between blank lines, which keep whatever is in between from giving up.
    keepalive_interval = 8

    #: Done when the stream is over, or the listener is gone.
    _finish_future: asyncio.Future[None]

    def initialize(self) -> None:
        self._finish_future = asyncio.get_running_loop().create_future()

    def get_content_type(self) -> str:
        return "text/event-stream"

    def on_finish(self) -> None:
        self._end()
        super().on_finish()

    def on_connection_close(self) -> None:
        self._end()
        super().on_connection_close()

    def _end(self) -> None:
        if not self._finish_future.done():
            self._finish_future.set_result(None)

    async def send_event(self, event: dict[str, Any]) -> None:
        """Send one event. Raises StreamClosedError when the listener is gone."""
        await self._send(f"data: {json.dumps(event, default=str)}")

    async def _send(self, line: str) -> None:
        try:
            self.write(f"{line}\n\n")
            await self.flush()
        except StreamClosedError:
            self._end()
            raise

    async def keepalive(self) -> None:
        """Send blank lines until the stream is over: one at once, then every `keepalive_interval` seconds."""
        with contextlib.suppress(StreamClosedError):
            while not self._finish_future.done():
                await self._send("")
                await asyncio.wait([self._finish_future], timeout=self.keepalive_interval)

    @operation(
        "Follow the start of a server", scopes=("read:servers",), responses={200: "text/event-stream"},
        errors={400: "it is not starting", 404: "there is none"},
    )
    async def get(self, user_name: str, server_name: str = "") -> None:
        user = await self.user_or_404(user_name)
        if server_name not in user.records:
            raise web.HTTPError(404)
        events = self._events(user, server_name)
        try:
            try:
                first = await events.__anext__()
            except (ServerNotRunning, StopAsyncIteration):
                raise InvalidRequest(f"The server {user_name}/{server_name} is not starting") from None
            self.set_header("Cache-Control", "no-cache")
            beat = self.context.background.start(self.keepalive(), name="keep a progress stream alive")
            try:
                await self.send_event(first)
                async for event in events:
                    await self.send_event(event)
            except StreamClosedError:
                self.log.debug("The listener to the start of %s/%s is gone", user_name, server_name)
            except HubError as error:
                # Too late for a status: it ends as a failed start does.
                await self.send_event({"progress": 100, "failed": True, "message": str(error)})
            finally:
                self._end()
                await asyncio.wait([beat])
        finally:
            await events.aclose()

    async def _events(self, user: Any, server_name: str) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the manager's events until the listener is gone."""
        events: Any = self.context.servers.progress(user, server_name)
        try:
            while True:
                upcoming: asyncio.Future[Any] = asyncio.ensure_future(events.__anext__())
                try:
                    await asyncio.wait([upcoming, self._finish_future], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not upcoming.done():
                        upcoming.cancel()
                        await asyncio.wait([upcoming])
                if upcoming.cancelled():
                    return
                try:
                    yield upcoming.result()
                except StopAsyncIteration:
                    return
        finally:
            await events.aclose()
