"""Lists in pages, and watches: which changes a client is told, and when a watch ends."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
from typing import Any

from aiohttp import web

from .kinds import Resource
from .refusals import Object, Refused
from .requests import Target, flag, number
from .selectors import Matches, fields_matching, labels_matching
from .store import Change, Store


def selection(request: web.Request, resource: Resource) -> Matches:
    """Return which objects a request means. Raises Refused."""
    by_labels = labels_matching(request.query.get("labelSelector", ""))
    by_fields = fields_matching(resource, request.query.get("fieldSelector", ""))
    return lambda found: by_labels(found) and by_fields(found)


def listed(store: Store, request: web.Request, target: Target) -> Object:
    """Return the answer to a list, or a page of it. Raises Refused."""
    resource, matches = target.resource, selection(request, target.resource)
    limit, token = number(request, "limit"), request.query.get("continue", "")
    version, after = _read_token(token) if token else (store.version, None)
    if version < store.oldest:
        raise Refused(
            410,
            "The provided continue parameter is too old to display a consistent list result. You can start a new list "
            "without the continue parameter.",
        )
    found = [each for each in store.find(resource, target.namespace, version if token else None) if matches(each)]
    if after is not None:
        found = [each for each in found if _key(each) > after]
    if not limit or len(found) <= limit:
        return store.as_list(resource, found, version)
    page = found[:limit]
    more: Object = {"continue": _token(version, _key(page[-1]))}
    if not request.query.get("labelSelector") and not request.query.get("fieldSelector"):
        more["remainingItemCount"] = len(found) - limit
    return store.as_list(resource, page, version, **more)


def _key(found: Object) -> list[str]:
    return [found["metadata"].get("namespace", ""), found["metadata"]["name"]]


def _token(version: int, after: list[str]) -> str:
    return base64.urlsafe_b64encode(
        json.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": after}).encode()
    ).decode()


def _read_token(token: str) -> tuple[int, list[str]]:
    try:
        read = json.loads(base64.urlsafe_b64decode(token))
        return int(read["rv"]), [str(each) for each in read["start"]]
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(400, f"continue key is not valid: {error}") from error


async def watched(store: Store, request: web.Request, target: Target) -> web.StreamResponse:
    """Tell a client what changes, until its time is over or it goes. Raises Refused before the answer has begun."""
    matches = selection(request, target.resource)
    seconds = number(request, "timeoutSeconds") or random.randint(1800, 3600)
    asked = number(request, "resourceVersion") or 0
    answer = web.StreamResponse(headers={"Content-Type": "application/json"})
    answer.enable_chunked_encoding()
    await answer.prepare(request)
    teller = _Teller(store, answer, target, matches)
    # Who has gone, or is cut off, is told no more.
    with contextlib.suppress(ConnectionError, asyncio.CancelledError):
        try:
            async with _timeout(seconds):
                await teller.tell_from(asked)
        except asyncio.TimeoutError:
            if flag(request, "allowWatchBookmarks"):
                await teller.bookmark()
        except Refused as refused:
            await teller.send("ERROR", refused.status)
        await answer.write_eof()
    return answer


class _timeout:
    """asyncio.timeout, which Python 3.10 does not have."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._over = seconds, False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handle = asyncio.get_running_loop().call_later(self._seconds, self._end, task)

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._over = True
        task.cancel()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._handle.cancel()
        if self._over and kind is asyncio.CancelledError:
            raise asyncio.TimeoutError


class _Teller:
    def __init__(self, store: Store, answer: web.StreamResponse, target: Target, matches: Matches) -> None:
        self._store, self._answer, self._target, self._matches = store, answer, target, matches
        self._version = store.version

    async def tell_from(self, version: int) -> None:
        """Tell every change after a version, for ever. With none given, all that is there is told as new first."""
        if version == 0:
            self._version = self._store.version
            for found in self._store.find(self._target.resource, self._target.namespace):
                if self._matches(found):
                    await self.send("ADDED", found)
        else:
            self._version = version
        while True:
            changes = self._store.changes_after(self._version) if self._version <= self._store.version else []
            for change in changes:
                self._version = change.version
                await self._tell(change)
            if not changes:
                await self._store.next_change()

    async def _tell(self, change: Change) -> None:
        resource, namespace, _ = change.key
        if resource is not self._target.resource or self._target.namespace not in ("", namespace):
            return
        before = change.before if change.before is not None and self._matches(change.before) else None
        after = change.after if change.after is not None and self._matches(change.after) else None
        if after is not None:
            await self.send("MODIFIED" if before is not None else "ADDED", after)
        elif before is not None:
            # Gone, or no longer one of those that were asked for: the client cannot tell the difference.
            gone = change.after or before
            metadata = {**gone["metadata"], "resourceVersion": str(change.version)}
            await self.send("DELETED", {**gone, "metadata": metadata})

    async def bookmark(self) -> None:
        resource, version = self._target.resource, max(self._version, self._store.version)
        metadata = {"resourceVersion": str(version), "creationTimestamp": None}
        await self.send("BOOKMARK", {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata})

    async def send(self, kind: str, found: Object) -> None:
        await self._answer.write(json.dumps({"type": kind, "object": found}).encode() + b"\n")
