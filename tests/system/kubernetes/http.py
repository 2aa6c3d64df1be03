"""Requests in, answers out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from . import rules, schema
from .access import Access
from .kinds import ALL, NAMESPACES
from .refusals import Object, Refused, no_such_method
from .requests import Target, body_of, check_patch_type, object_for, options_of, patched, target_of, verb_of
from .store import Store
from .watch import listed, watched

#: Returns what a pod's container has written. Raises Refused.
Logs = Callable[[str, str, web.Request], Awaitable[str]]


class Server:
    """The API over a store. `received` has every object that came, `complaints` what a strict reader has against them."""

    def __init__(self, store: Store, access: Access, logs: Logs | None = None) -> None:
        self.store, self.access, self.logs = store, access, logs
        self.received: list[Object] = []
        self.complaints: list[str] = []
        #: Every request, as ``user verb resource``, for tests of permissions.
        self.asked: set[tuple[str, str, str]] = set()
        #: Those of them that were refused.
        self.not_permitted: set[tuple[str, str, str]] = set()

    def application(self) -> web.Application:
        application = web.Application(client_max_size=4 * 1024**2)
        application.router.add_route("*", "/{path:.*}", self._answer)
        return application

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._dispatch(request)
        except Refused as refused:
            return web.json_response(refused.status, status=refused.code)

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        account = self.access.account(request.headers.get("Authorization", ""))
        if request.method == "GET" and (told := _discovery(request.path)) is not None:
            return told
        target = target_of(request.path)
        verb = verb_of(request, target)
        resource, subresource, name = target.resource, target.subresource, target.name
        # A namespace is seen by those whose rules hold in it, although it lies in none.
        what = f"{resource.plural}/{subresource}" if subresource else resource.plural
        self.asked.add((account.user, verb, what))
        try:
            self.access.check(account, verb, resource, subresource, target.namespace, name)
        except Refused:
            self.not_permitted.add((account.user, verb, what))
            raise
        if verb == "watch":
            return await watched(self.store, request, target)
        status = 201 if verb == "create" else 200
        if subresource == "log":
            return await self._log(request, target)
        return web.json_response(await getattr(self, f"_{verb}")(request, target), status=status)

    # By verb

    async def _list(self, request: web.Request, target: Target) -> Object:
        return listed(self.store, request, target)

    async def _get(self, request: web.Request, target: Target) -> Object:
        return self.store.get(target.resource, _place(target), target.name)

    async def _create(self, request: web.Request, target: Target) -> Object:
        return self.store.create(target.resource, target.namespace, await self._read(request, target))

    async def _update(self, request: web.Request, target: Target) -> Object:
        given = await self._read(request, target)
        if given["metadata"].get("name") != target.name:
            raise Refused(
                400,
                f"the name of the object ({given['metadata'].get('name')}) does not match the name on the URL ({target.name})",
            )
        return self._put(target, given)

    async def _patch(self, request: web.Request, target: Target) -> Object:
        check_patch_type(request)
        patch = await body_of(request)
        found = self.store.get(target.resource, _place(target), target.name)
        given = patched(found, patch, request.content_type)
        rules.decode(target.resource, given)
        self._note(given)
        return self._put(target, given)

    async def _delete(self, request: web.Request, target: Target) -> Object:
        options = await options_of(request)
        told = schema.complaints_about_options(options)
        self.complaints += [f"options to delete {target.name}: {each}" for each in told]
        if target.subresource:
            raise no_such_method()
        found, gone = self.store.delete(target.resource, _place(target), target.name, options)
        if not gone or target.resource.kind in ("Pod", "PersistentVolumeClaim", "Service", "Namespace"):
            return found
        details = {"name": target.name, "kind": target.resource.plural, "uid": found["metadata"]["uid"]}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    async def _log(self, request: web.Request, target: Target) -> web.Response:
        if request.method != "GET" or self.logs is None:
            raise no_such_method()
        return web.Response(text=await self.logs(target.namespace, target.name, request))

    # What was sent

    def _put(self, target: Target, given: Object) -> Object:
        return self.store.replace(
            target.resource, _place(target), target.name, given, status=target.subresource == "status"
        )

    async def _read(self, request: web.Request, target: Target) -> Object:
        given = object_for(target, await body_of(request))
        rules.decode(target.resource, given)
        self._note(given)
        return given

    def _note(self, given: Object) -> None:
        self.received.append(given)
        name = given["metadata"].get("name", "")
        self.complaints += [f"{given['kind']} {name}: {each}" for each in schema.complaints(given)]


def _place(target: Target) -> str:
    return "" if target.resource is NAMESPACES else target.namespace


def _discovery(path: str) -> web.Response | None:
    groups = sorted({resource.group for resource in ALL if resource.group})
    answers: dict[str, Any] = {
        "/version": {"major": "1", "minor": "20+", "gitVersion": "v1.20.2-stand-in"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [
                {"name": group, "versions": [{"groupVersion": f"{group}/v1", "version": "v1"}]} for group in groups
            ],
        },
    }
    if path in ("/healthz", "/readyz", "/livez"):
        return web.Response(text="ok")
    path = path.rstrip("/")
    if path in answers:
        return web.json_response(answers[path])
    for group in ("", *groups):
        if path == (f"/apis/{group}/v1" if group else "/api/v1"):
            found = [
                {"name": each.plural, "namespaced": each.namespaced, "kind": each.kind, "verbs": []}
                for each in ALL
                if each.group == group
            ]
            version = f"{group}/v1" if group else "v1"
            return web.json_response({"kind": "APIResourceList", "groupVersion": version, "resources": found})
    return None
