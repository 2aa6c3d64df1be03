"""Objects, resource versions, history, and deletion with grace and finalizers. Nothing here waits."""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from . import quota, rules
from .kinds import NAMESPACES, PODS, QUOTAS, Resource
from .refusals import Object, Refused, already_exists, conflict, invalid, invalid_value, not_found, too_old

Key = tuple[Resource, str, str]
#: What clients may not set, or what is kept by others than who changes the object.
_OURS = ("uid", "creationTimestamp", "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")


def now(later: float = 0) -> str:
    """Return a time as objects have it, to the second."""
    moment = datetime.now(timezone.utc) + timedelta(seconds=later)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Change:
    """One step of the history; `before` is None for what is new, `after` for what is gone."""

    version: int
    key: Key
    before: Object | None
    after: Object | None


class Store:
    """All objects. What is handed out is a copy."""

    def __init__(self) -> None:
        self.version = 1
        #: Versions below this one are forgotten.
        self.oldest = 1
        self.history: list[Change] = []
        self._objects: dict[Key, Object] = {}
        self._changed = asyncio.Event()

    async def next_change(self) -> None:
        """Wait until there is a new version."""
        await self._changed.wait()

    def forget(self) -> None:
        """Drop the history, as a real API server does after some minutes."""
        self.history, self.oldest = [], self.version

    def changes_after(self, version: int) -> list[Change]:
        """Return the steps since a version. Raises Refused for one that is forgotten."""
        if version < self.oldest:
            raise too_old(version, self.oldest)
        return [change for change in self.history if change.version > version]

    # Reading

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """Raises Refused."""
        found = self._objects.get((resource, namespace, name))
        if found is None:
            raise not_found(resource, name)
        return copy.deepcopy(found)

    def find(self, resource: Resource, namespace: str = "", version: int | None = None) -> list[Object]:
        """Return the objects of a kind in a namespace, or in all, in the order of their names; as they were at a version."""
        state = self._objects if version is None else self._as_it_was(version)
        keys = sorted(
            (key for key in state if key[0] is resource and namespace in ("", key[1])), key=lambda key: key[1:]
        )
        return [copy.deepcopy(state[key]) for key in keys]

    def _as_it_was(self, version: int) -> dict[Key, Object]:
        state = dict(self._objects)
        for change in reversed(self.changes_after(version)):
            if change.before is None:
                state.pop(change.key, None)
            else:
                state[change.key] = change.before
        return state

    def everything(self) -> Iterator[tuple[Key, Object]]:
        """Yield all objects, which may be changed meanwhile."""
        yield from ((key, copy.deepcopy(found)) for key, found in list(self._objects.items()))

    # Writing

    def create(self, resource: Resource, namespace: str, given: Object) -> Object:
        """Add an object and return it as it is kept. Raises Refused."""
        given = copy.deepcopy(given)
        metadata = given.setdefault("metadata", {})
        if resource.namespaced:
            self._open_namespace(namespace)
            metadata["namespace"] = namespace
        if resource is PODS:
            given.pop("status", None)
        for key in _OURS:
            metadata.pop(key, None)
        rules.complete(resource, given)
        rules.check_new(resource, given)
        if resource.namespaced and resource is not QUOTAS:
            quota.admit(resource, given, self.find(QUOTAS, namespace), self.find(resource, namespace))
        name = metadata["name"]
        if (resource, namespace, name) in self._objects:
            raise already_exists(resource, name)
        metadata.update(uid=str(uuid.uuid4()), creationTimestamp=now())
        return self._put((resource, namespace, name), given)

    def _open_namespace(self, namespace: str) -> None:
        found = self.get(NAMESPACES, "", namespace)
        if found["metadata"].get("deletionTimestamp"):
            raise Refused(403, f'namespace "{namespace}" is being terminated')

    def replace(self, resource: Resource, namespace: str, name: str, given: Object, *, status: bool = False) -> Object:
        """Put a changed object in the place of the old one: its status, or all but its status. Raises Refused."""
        before, given = self.get(resource, namespace, name), copy.deepcopy(given)
        wanted = given.get("metadata", {}).get("resourceVersion")
        if wanted and wanted != before["metadata"]["resourceVersion"]:
            raise conflict(resource, name)
        if given.get("metadata", {}).get("uid", before["metadata"]["uid"]) != before["metadata"]["uid"]:
            raise conflict(resource, name)
        if status:
            given = {**before, "status": given.get("status", {})}
        elif resource.plural != "events" and "status" in before:
            given["status"] = before["status"]
        rules.keep_secret(given)
        metadata = given.setdefault("metadata", {})
        metadata.update({key: value for key, value in before["metadata"].items() if key in ("name", "namespace")})
        for key in _OURS:
            metadata.pop(key, None)
            if key in before["metadata"]:
                metadata[key] = before["metadata"][key]
        if not status:
            rules.check_change(resource, given, before)
        if given == before:
            return before
        after = self._put((resource, namespace, name), given)
        if (
            metadata.get("deletionTimestamp")
            and not metadata.get("finalizers")
            and before["metadata"].get("finalizers")
        ):
            self._drop((resource, namespace, name))
        return after

    def delete(self, resource: Resource, namespace: str, name: str, options: Object) -> tuple[Object, bool]:
        """Delete an object, or begin to. Returns it, and whether it is gone already. Raises Refused."""
        found, key = self.get(resource, namespace, name), (resource, namespace, name)
        metadata = found["metadata"]
        for field, wanted in (options.get("preconditions") or {}).items():
            if metadata.get(field) != wanted:
                raise conflict(resource, name)
        grace = self._grace(resource, found, options)
        if grace is not None and grace > 0:
            known = metadata.get("deletionGracePeriodSeconds")
            if known is None or grace < known:
                metadata.update(deletionTimestamp=now(grace), deletionGracePeriodSeconds=grace)
                found = self._put(key, found)
            return found, False
        if metadata.get("finalizers") or grace == 0:
            if not metadata.get("deletionTimestamp") or grace == 0:
                metadata.setdefault("deletionTimestamp", now())
                metadata["deletionGracePeriodSeconds"] = 0
                found = self._put(key, found)
            if metadata.get("finalizers"):
                return found, False
        self._drop(key)
        return found, True

    def _grace(self, resource: Resource, found: Object, options: Object) -> int | None:
        """Return the seconds that a kubelet has to end a pod; None for all that just goes."""
        if resource is not PODS:
            return None
        spec, asked = found["spec"], options.get("gracePeriodSeconds")
        if not spec.get("nodeName") or found["status"].get("phase") in ("Succeeded", "Failed"):
            return 0
        grace = spec.get("terminationGracePeriodSeconds", 30) if asked is None else asked
        if grace < 0:
            name = found["metadata"]["name"]
            cause = invalid_value("gracePeriodSeconds", str(grace), "must be greater than or equal to 0")
            raise invalid(resource, name, [cause])
        return int(grace)

    def update_own(self, resource: Resource, namespace: str, name: str, found: Object) -> Object:
        """Write as the cluster itself does, which may change anything. Raises Refused when the object is gone."""
        before = self.get(resource, namespace, name)
        return before if before == found else self._put((resource, namespace, name), copy.deepcopy(found))

    def _put(self, key: Key, found: Object) -> Object:
        before = self._objects.get(key)
        self.version += 1
        found["metadata"]["resourceVersion"] = str(self.version)
        found.update(kind=key[0].kind, apiVersion=key[0].api_version)
        self._objects[key] = found
        self._note(Change(self.version, key, before, found))
        return copy.deepcopy(found)

    def _drop(self, key: Key) -> None:
        before = self._objects.pop(key)
        self.version += 1
        self._note(Change(self.version, key, before, None))

    def _note(self, change: Change) -> None:
        self.history.append(change)
        self._changed.set()
        self._changed = asyncio.Event()

    def as_list(self, resource: Resource, items: list[Object], version: int, **metadata: Any) -> Object:
        """Return the answer to a list."""
        plain = [{key: value for key, value in item.items() if key not in ("kind", "apiVersion")} for item in items]
        return {
            "kind": f"{resource.kind}List",
            "apiVersion": resource.api_version,
            "metadata": {"resourceVersion": str(version), **metadata},
            "items": plain,
        }
