"""Shares of servers, and codes that give one (rest-api §4.11)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from tornado import web

from ..core.errors import ShareCodeNotFound, UserNotFound
from ..core.scopes.algebra import ScopeSet
from ..core.shares import check_code_request, check_share_request, decide_grant
from ..core.urls import url_path_join
from ..store import shares as share_store
from ..store.values import ShareCodeRecord, ShareRecord
from . import models
from .base import APIHandler
from .declare import operation, register
from .schemas import Page, ShareBody, ShareCodeBody, ShareCodeModel, ShareModel

_PAGE_QUERY = {"offset": "where the page begins", "limit": "how many to return at most"}


class _ShareHandler(APIHandler):
    """What all of them do. Lists of shares are always pages, whatever the client accepts."""

    async def share_models(self, shares: Iterable[ShareRecord]) -> list[dict[str, Any]]:
        viewer = self.viewer
        found = []
        for share in shares:
            owner = await self.context.directory.find(share.owner)
            if owner is not None:
                found.append(models.share_model(viewer, share, owner))
        return found

    async def code_models(self, codes: Iterable[ShareCodeRecord]) -> list[dict[str, Any]]:
        viewer = self.viewer
        found = []
        for code in codes:
            owner = await self.context.directory.find(code.owner)
            if owner is not None:
                found.append(models.share_code_model(viewer, code, owner))
        return found

    async def write_share(self, share: ShareRecord) -> None:
        (model,) = await self.share_models([share])
        self.write_json(model)

    async def owner_or_404(self, name: str) -> Any:
        user = await self.context.directory.find(name)
        if user is None:
            raise UserNotFound(name)
        return user

    async def require_held(self, scopes: Iterable[str], owner: str) -> None:
        """Raise 403 for scopes on a server that the caller does not hold: only what one has can be shared."""
        groups = await self.context.access.groups_of(owner)
        decision = decide_grant(scopes, self.held_scopes or ScopeSet(), lambda name: groups if name == owner else ())
        if not decision:
            raise web.HTTPError(403, decision.reason)

    def changed(self) -> None:
        """What somebody may do has changed, perhaps through a group."""
        self.context.access.forget_all()

    async def write_page(self, items: list[dict[str, Any]], offset: int, limit: int, total: int) -> None:
        self.write_list(items, offset, limit, total, always=True)


# The owner's side


class ShareListAPIHandler(_ShareHandler):
    """`/hub/api/shares/{user}`."""

    @operation(
        "List what is shared of all servers of a user", scopes=("read:shares",), query=_PAGE_QUERY,
        responses={200: Page}, errors={404: "no such user"},
    )
    async def get(self, user_name: str) -> None:
        offset, limit = self.get_api_pagination()
        await self.user_or_404(user_name)
        shares, total = await self.context.database.read(
            share_store.granted_by, user_name, None, offset=offset, limit=limit
        )
        await self.write_page(await self.share_models(shares), offset, limit, total)

    @operation(
        "Not possible: name a server", scopes=("shares",), errors={405: "name a server"}, deprecated=True
    )
    async def post(self, user_name: str) -> None:
        raise web.HTTPError(405)

    patch = delete = post


class ServerShareAPIHandler(_ShareHandler):
    """`/hub/api/shares/{user}/{server}`."""

    @operation(
        "List what is shared of a server", scopes=("read:shares",), query=_PAGE_QUERY, responses={200: Page},
        errors={404: "no such server"},
    )
    async def get(self, user_name: str, server_name: str) -> None:
        offset, limit = self.get_api_pagination()
        await self.owner_or_404(user_name)
        shares, total = await self.context.database.read(
            share_store.granted_by, user_name, server_name, offset=offset, limit=limit
        )
        await self.write_page(await self.share_models(shares), offset, limit, total)

    @operation(
        "Share a server, or share more of it", scopes=("shares",), request=ShareBody, responses={200: ShareModel},
        errors={400: "not possible", 403: "you do not hold that, or may not see the recipient", 404: "no such server"},
    )
    async def post(self, user_name: str, server_name: str) -> None:
        wanted = check_share_request(self.get_json_body(), user_name, server_name)
        await self.context.database.read(share_store.check_server, user_name, server_name)
        await self.require_held(wanted.scopes, user_name)
        if wanted.user is not None:
            visible = await self.may("read:users:name", user=wanted.user)
        else:
            visible = await self.may("read:groups:name", group=wanted.group or "")
        if not visible:
            kind = "user" if wanted.user is not None else "group"
            raise web.HTTPError(403, f"You may not look for the {kind} {wanted.user or wanted.group}")
        share = await self.context.database.run(
            share_store.grant, user_name, server_name, wanted.scopes, user=wanted.user, group=wanted.group
        )
        self.changed()
        await self.write_share(share)

    @operation(
        "Revoke what one recipient was granted, or a part of it", scopes=("shares",), request=ShareBody,
        responses={200: ShareModel}, errors={400: "not possible", 404: "no such server"},
    )
    async def patch(self, user_name: str, server_name: str) -> None:
        wanted = check_share_request(self.get_json_body(), user_name, server_name, needs_scopes=False)
        share = await self.context.database.run(
            share_store.revoke, user_name, server_name, wanted.scopes, user=wanted.user, group=wanted.group
        )
        self.changed()
        if share is None:
            self.write_json({})
        else:
            await self.write_share(share)

    @operation(
        "Revoke all shares of a server", scopes=("shares",), responses={204: None}, errors={404: "no such server"}
    )
    async def delete(self, user_name: str, server_name: str) -> None:
        await self.context.database.run(share_store.revoke_all, user_name, server_name)
        self.changed()
        self.write_nothing()


# The recipient's side


class UserSharedListAPIHandler(_ShareHandler):
    """`/hub/api/users/{user}/shared`."""

    @operation(
        "List what others share with a user, directly or through a group", scopes=("read:users:shares",),
        query=_PAGE_QUERY, responses={200: Page}, errors={404: "no such user"},
    )
    async def get(self, user_name: str) -> None:
        offset, limit = self.get_api_pagination()
        await self.owner_or_404(user_name)
        shares, total = await self.context.database.read(
            share_store.granted_to_user, user_name, offset=offset, limit=limit
        )
        await self.write_page(await self.share_models(shares), offset, limit, total)


class UserSharedAPIHandler(_ShareHandler):
    """`/hub/api/users/{user}/shared/{owner}/{server}`."""

    @operation(
        "What of a server is shared with a user", scopes=("read:users:shares",), responses={200: ShareModel},
        errors={404: "nothing"},
    )
    async def get(self, user_name: str, owner: str, shared_server: str) -> None:
        await self.write_share(
            await self.context.database.read(share_store.find, owner, shared_server, user=user_name)
        )

    @operation(
        "Give up what of a server is shared with a user", scopes=("users:shares",), responses={204: None},
        errors={404: "nothing"},
    )
    async def delete(self, user_name: str, owner: str, shared_server: str) -> None:
        await self.context.database.run(share_store.leave, owner, shared_server, user=user_name)
        self.changed()
        self.write_nothing()


class _GroupSharesHandler(_ShareHandler):
    async def check_group(self, name: str) -> None:
        if not await self.context.database.read(share_store.check_group, name):
            raise web.HTTPError(404, f"There is no group {name!r}")


class GroupSharedListAPIHandler(_GroupSharesHandler):
    """`/hub/api/groups/{group}/shared`."""

    @operation(
        "List what is shared with a group", scopes=("read:groups:shares",), query=_PAGE_QUERY, responses={200: Page},
        errors={404: "no such group"},
    )
    async def get(self, group_name: str) -> None:
        offset, limit = self.get_api_pagination()
        await self.check_group(group_name)
        shares, total = await self.context.database.read(
            share_store.granted_to_group, group_name, offset=offset, limit=limit
        )
        await self.write_page(await self.share_models(shares), offset, limit, total)


class GroupSharedAPIHandler(_GroupSharesHandler):
    """`/hub/api/groups/{group}/shared/{owner}/{server}`."""

    @operation(
        "What of a server is shared with a group", scopes=("read:groups:shares",), responses={200: ShareModel},
        errors={404: "nothing"},
    )
    async def get(self, group_name: str, owner: str, shared_server: str) -> None:
        await self.check_group(group_name)
        await self.write_share(
            await self.context.database.read(share_store.find, owner, shared_server, group=group_name)
        )

    @operation(
        "Give up what of a server is shared with a group", scopes=("groups:shares",), responses={204: None},
        errors={404: "nothing"},
    )
    async def delete(self, group_name: str, owner: str, shared_server: str) -> None:
        await self.check_group(group_name)
        await self.context.database.run(share_store.leave, owner, shared_server, group=group_name)
        self.changed()
        self.write_nothing()


# Codes


class ShareCodeListAPIHandler(_ShareHandler):
    """`/hub/api/share-codes/{user}`."""

    @operation(
        "List the share codes for all servers of a user", scopes=("read:shares",), query=_PAGE_QUERY,
        responses={200: Page}, errors={404: "no such user"},
    )
    async def get(self, user_name: str) -> None:
        offset, limit = self.get_api_pagination()
        await self.user_or_404(user_name)
        codes, total = await self.context.database.read(
            share_store.codes_of, user_name, None, offset=offset, limit=limit
        )
        await self.write_page(await self.code_models(codes), offset, limit, total)

    @operation(
        "Not possible: name a server", scopes=("shares",), errors={405: "name a server"}, deprecated=True
    )
    async def post(self, user_name: str) -> None:
        raise web.HTTPError(405)

    delete = post


class ServerShareCodeAPIHandler(_ShareHandler):
    """`/hub/api/share-codes/{user}/{server}`."""

    @operation(
        "List the share codes for a server", scopes=("read:shares",), query=_PAGE_QUERY, responses={200: Page},
        errors={404: "no such server"},
    )
    async def get(self, user_name: str, server_name: str) -> None:
        offset, limit = self.get_api_pagination()
        codes, total = await self.context.database.read(
            share_store.codes_of, user_name, server_name, offset=offset, limit=limit
        )
        await self.write_page(await self.code_models(codes), offset, limit, total)

    @operation(
        "Make a share code", scopes=("shares",), request=ShareCodeBody, responses={200: ShareCodeModel},
        errors={400: "not possible", 403: "you do not hold that", 404: "no such server"},
    )
    async def post(self, user_name: str, server_name: str) -> None:
        wanted = check_code_request(self.get_json_body(), user_name, server_name)
        await self.require_held(wanted.scopes, user_name)
        text, code = await self.context.database.run(
            share_store.new_code, user_name, server_name, wanted.scopes, wanted.expires_in or 0
        )
        (model,) = await self.code_models([code])
        accept = f"{url_path_join(self.hub_prefix, 'accept-share')}?{urlencode({'code': text})}"
        self.write_json(
            {**model, "code": text, "accept_url": accept, "full_accept_url": self.viewer.absolute(accept)}
        )

    @operation(
        "Delete one share code of a server, or all", scopes=("shares",), responses={204: None},
        query={"code": "the code to delete", "id": "the id of the code to delete"},
        errors={404: "no such server, or no such code"},
    )
    async def delete(self, user_name: str, server_name: str) -> None:
        text = self.get_argument("code", None)
        code_id = self.get_argument("id", None)
        number = None
        if text is None and code_id is not None:
            if not (code_id.startswith("sc_") and code_id[3:].isdecimal()):
                raise ShareCodeNotFound(f"{code_id!r} is no id of a share code")
            number = min(int(code_id[3:]), 2**62)
        await self.context.database.run(
            share_store.delete_codes, user_name, server_name, text=text, code_id=number
        )
        self.write_nothing()


default_handlers = register(
    [
        (r"/api/shares/([^/]+)", ShareListAPIHandler),
        (r"/api/shares/([^/]+)/([^/]*)", ServerShareAPIHandler),
        (r"/api/users/([^/]+)/shared", UserSharedListAPIHandler),
        (r"/api/users/([^/]+)/shared/([^/]+)/([^/]*)", UserSharedAPIHandler),
        (r"/api/groups/([^/]+)/shared", GroupSharedListAPIHandler),
        (r"/api/groups/([^/]+)/shared/([^/]+)/([^/]*)", GroupSharedAPIHandler),
        (r"/api/share-codes/([^/]+)", ShareCodeListAPIHandler),
        (r"/api/share-codes/([^/]+)/([^/]*)", ServerShareCodeAPIHandler),
    ]
)
