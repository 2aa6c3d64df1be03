"""Groups (rest-api §4.9)."""

from __future__ import annotations

from typing import Any

from tornado import web

from ..core.errors import GroupExists, GroupNotFound, InvalidRequest
from ..store import groups as group_store
from .base import APIHandler
from .declare import operation, register
from . import models


def _model(group: Any) -> dict[str, Any]:
    return {
        "kind": "group", "name": group.name, "users": list(group.users), "roles": list(group.roles),
        "properties": dict(group.properties),
    }


class _GroupHandler(APIHandler):
    async def group_or_404(self, name: str) -> Any:
        group = await self.context.database.read(group_store.find, name)
        if group is None:
            raise GroupNotFound(name)
        return group

    def user_names(self) -> list[str]:
        names = self.get_json_object(required=True).get("users")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise web.HTTPError(400, "Give 'users', a list of names")
        return names

    def refuse_when_managed(self) -> None:
        if self.authenticator.manage_groups:
            self.log.warning("Groups are managed by the authenticator; the next log-in overwrites this change")


class GroupListAPIHandler(_GroupHandler):
    """`/hub/api/groups`."""

    @operation("Groups that the caller may list", scopes=("list:groups",), lists=True, responses={200: "groups"})
    async def get(self) -> None:
        offset, limit = self.get_api_pagination()
        caller = self.caller
        assert caller is not None
        found, total = await self.context.database.read(
            group_store.list_page, offset=offset, limit=limit,
            filters=self.context.access.filter_for(caller, "list:groups"),
        )
        items = [models.filter_group(self, _model(group)) for group in found]
        self.write_list([item for item in items if item], offset, limit, total)

    @operation("Make several groups", scopes=("admin:groups",), body="groups", responses={201: "groups"})
    async def post(self) -> None:
        names = self.get_json_object(required=True).get("groups")
        if not isinstance(names, list) or not names:
            raise web.HTTPError(400, "Give 'groups', a list of names")
        created = []
        for name in names:
            if await self.context.database.read(group_store.find, name) is not None:
                raise GroupExists(name)
        for name in names:
            created.append(await self.context.database.run(group_store.create, name, []))
        self.write_json([models.filter_group(self, _model(group)) for group in created], status=201)


class GroupAPIHandler(_GroupHandler):
    """`/hub/api/groups/{group}`."""

    @operation(
        "One group", scopes=("read:groups", "read:groups:name", "read:roles:groups"), responses={200: "group"}
    )
    async def get(self, group_name: str) -> None:
        group = await self.group_or_404(group_name)
        self.write_json(models.filter_group(self, _model(group)))

    @operation("Make a group", scopes=("admin:groups",), body="users, properties", responses={201: "group"})
    async def post(self, group_name: str) -> None:
        if await self.context.database.read(group_store.find, group_name) is not None:
            raise GroupExists(group_name)
        body = self.get_json_object()
        users = body.get("users", [])
        if not isinstance(users, list):
            raise web.HTTPError(400, "users must be a list of names")
        try:
            group = await self.context.database.run(
                group_store.create, group_name, users, properties=body.get("properties")
            )
        except InvalidRequest as error:
            raise web.HTTPError(400, str(error)) from None
        self.context.access.forget_all()
        self.write_json(models.filter_group(self, _model(group)), status=201)

    @operation("Delete a group", scopes=("delete:groups",), responses={204: "gone"})
    async def delete(self, group_name: str) -> None:
        await self.group_or_404(group_name)
        await self.context.database.run(group_store.delete, group_name)
        self.context.access.forget_all()
        self.set_status(204)
        self.clear_header("Content-Type")


class GroupUsersAPIHandler(_GroupHandler):
    """`/hub/api/groups/{group}/users`."""

    @operation("Put users into a group", scopes=("groups",), body="users", responses={200: "group"})
    async def post(self, group_name: str) -> None:
        await self._change(group_name, group_store.add_users)

    @operation("Take users out of a group", scopes=("groups",), body="users", responses={200: "group"})
    async def delete(self, group_name: str) -> None:
        await self._change(group_name, group_store.remove_users)

    async def _change(self, group_name: str, change: Any) -> None:
        self.refuse_when_managed()
        await self.group_or_404(group_name)
        try:
            group = await self.context.database.run(change, group_name, self.user_names())
        except InvalidRequest as error:
            raise web.HTTPError(400, str(error)) from None
        self.context.access.forget_all()
        for name in group.users:
            user = self.context.users.cached(name)
            if user is not None:
                await self.context.directory.reload(user)
        self.write_json(models.filter_group(self, _model(group)))


class GroupPropertiesAPIHandler(_GroupHandler):
    """`/hub/api/groups/{group}/properties`."""

    @operation("Replace a group's properties", scopes=("groups",), responses={200: "group"})
    async def put(self, group_name: str) -> None:
        await self.group_or_404(group_name)
        properties = self.get_json_object()
        group = await self.context.database.run(group_store.set_properties, group_name, properties)
        self.write_json(models.filter_group(self, _model(group)))


default_handlers = register(
    [
        (r"/api/groups", GroupListAPIHandler),
        (r"/api/groups/([^/]+)", GroupAPIHandler),
        (r"/api/groups/([^/]+)/users", GroupUsersAPIHandler),
        (r"/api/groups/([^/]+)/properties", GroupPropertiesAPIHandler),
    ]
)
