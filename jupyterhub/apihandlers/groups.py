"""Groups (rest-api §4.9)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tornado import web

from ..core.errors import GroupExists, GroupNotFound, InvalidRequest
from ..core.scopes.algebra import AllType
from ..store import groups as group_store
from . import models
from .base import APIHandler
from .declare import operation, register
from .schemas import GroupBody, GroupModel, GroupsBody


class _GroupHandler(APIHandler):
    async def group_or_404(self, name: str) -> Any:
        group = await self.context.database.read(group_store.find, name)
        if group is None:
            raise GroupNotFound(name)
        return group

    def read_group(self, shape: Any = GroupBody, *, required: bool = False) -> tuple[dict[str, Any], list[str]]:
        """Return the body and the normalised names of the users in it."""
        body = self.read_body(shape, required=required)
        return body, [self.authenticator.normalize_username(name) for name in body.get("users", ())]

    async def create_group(self, name: str, users: list[str]) -> Any:
        if await self.context.database.read(group_store.find, name) is not None:
            raise GroupExists(name)
        return await self.context.database.run(group_store.create, name, users)

    async def members_changed(self, names: Iterable[str]) -> None:
        """Let everybody know what these users are members of now."""
        self.context.access.forget_all()
        for name in names:
            user = self.context.users.cached(name)
            if user is not None:
                await self.context.directory.reload(user)

    def mention_authenticator(self) -> None:
        if self.authenticator.manage_groups:
            self.log.warning("Groups come from the authenticator: this change lasts until the users log in again")

    def write_group(self, group: Any, status: int = 200) -> None:
        self.write_json(models.group_model(self.viewer, group), status)


class GroupListAPIHandler(_GroupHandler):
    """`/hub/api/groups`."""

    @operation(
        "List groups", scopes=("list:groups",), lists=True, responses={200: list[GroupModel]},
        query={"offset": "where the page begins", "limit": "how many to return at most"},
    )
    async def get(self) -> None:
        offset, limit = self.get_api_pagination()
        caller = self.caller
        assert caller is not None
        filters = self.context.access.filter_for(caller, "list:groups")
        if not isinstance(filters, AllType) and not set(filters) <= {"group"}:
            raise web.HTTPError(403)
        found, total = await self.context.database.read(
            group_store.list_page, offset=offset, limit=limit, filters=filters
        )
        viewer = self.viewer
        shown = [models.group_model(viewer, group) for group in found]
        self.write_list([model for model in shown if model], offset, limit, total)

    @operation(
        "Make several groups", scopes=("admin:groups",), request=GroupsBody, responses={201: list[GroupModel]},
        errors={400: "a user is unknown", 409: "one exists; those before it in the list are made"},
    )
    async def post(self) -> None:
        body, users = self.read_group(GroupsBody, required=True)
        if not body.get("groups"):
            raise InvalidRequest("Give at least one name in groups")
        created = []
        try:
            for name in body["groups"]:
                created.append(await self.create_group(name, users))
        finally:
            await self.members_changed(users)
        self.write_json([models.group_model(self.viewer, group) for group in created], status=201)


class GroupAPIHandler(_GroupHandler):
    """`/hub/api/groups/{group}`."""

    @operation(
        "One group", scopes=("read:groups", "read:groups:name", "read:roles:groups"), responses={200: GroupModel},
        errors={404: "there is none"},
    )
    async def get(self, group_name: str) -> None:
        self.write_group(await self.group_or_404(group_name))

    @operation(
        "Make a group", scopes=("admin:groups",), request=GroupBody, responses={201: GroupModel},
        errors={400: "a user is unknown", 409: "there is one"},
    )
    async def post(self, group_name: str) -> None:
        _, users = self.read_group()
        group = await self.create_group(group_name, users)
        await self.members_changed(users)
        self.write_group(group, 201)

    @operation("Delete a group", scopes=("delete:groups",), responses={204: None}, errors={404: "there is none"})
    async def delete(self, group_name: str) -> None:
        group = await self.group_or_404(group_name)
        await self.context.database.run(group_store.delete, group_name)
        await self.members_changed(group.users)
        self.write_nothing()


class GroupUsersAPIHandler(_GroupHandler):
    """`/hub/api/groups/{group}/users`."""

    @operation(
        "Put users into a group", scopes=("groups",), request=GroupBody, responses={200: GroupModel},
        errors={400: "a user is unknown; nothing is changed", 404: "there is no such group"},
    )
    async def post(self, group_name: str) -> None:
        await self._change(group_name, group_store.add_users)

    @operation(
        "Take users out of a group", scopes=("groups",), request=GroupBody, responses={200: GroupModel},
        errors={400: "a user is unknown; nothing is changed", 404: "there is no such group"},
    )
    async def delete(self, group_name: str) -> None:
        await self._change(group_name, group_store.remove_users)

    async def _change(self, group_name: str, change: Callable[..., Any]) -> None:
        await self.group_or_404(group_name)
        body, users = self.read_group(required=True)
        if "users" not in body:
            raise InvalidRequest("Give the names of users in users")
        self.mention_authenticator()
        group = await self.context.database.run(change, group_name, users)
        await self.members_changed(users)
        self.write_group(group)


class GroupPropertiesAPIHandler(_GroupHandler):
    """`/hub/api/groups/{group}/properties`."""

    @operation(
        "Replace the properties of a group", scopes=("groups",), request=dict[str, Any],
        responses={200: GroupModel}, errors={400: "not an object", 404: "there is no such group"},
    )
    async def put(self, group_name: str) -> None:
        await self.group_or_404(group_name)
        properties = self.get_json_body()
        if not isinstance(properties, dict):
            raise InvalidRequest("The body must be an object: the new properties")
        self.write_group(await self.context.database.run(group_store.set_properties, group_name, properties))


_GROUP = r"/api/groups/([^/]+)"

default_handlers = register(
    [
        (r"/api/groups", GroupListAPIHandler),
        (_GROUP, GroupAPIHandler),
        (rf"{_GROUP}/properties", GroupPropertiesAPIHandler),
        (rf"{_GROUP}/users", GroupUsersAPIHandler),
    ]
)
