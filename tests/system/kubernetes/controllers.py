"""What the controller manager and the scheduler do: bind claims, find a node, clear away what nobody owns."""

from __future__ import annotations

import secrets
from typing import Any

from .kinds import CLAIMS, EVENTS, NAMESPACES, NODES, PODS, SERVICES, Resource
from .quota import quantity
from .refusals import Object, Refused
from .rules import CLAIM_IN_USE
from .store import Store, now


def tell(store: Store, pod: Object, kind: str, reason: str, message: str, component: str) -> None:
    """Record an event of a pod; `kind` is ``Normal`` or ``Warning``."""
    metadata = pod["metadata"]
    involved = {"kind": "Pod", "apiVersion": "v1"}
    involved |= {key: metadata[key] for key in ("namespace", "name", "uid", "resourceVersion")}
    event = {
        "metadata": {"name": f"{metadata['name']}.{secrets.token_hex(8)}"},
        "involvedObject": involved,
        "reason": reason,
        "message": message,
        "type": kind,
        "source": {"component": component},
        "firstTimestamp": now(),
        "lastTimestamp": now(),
        "count": 1,
        "eventTime": None,
        "reportingComponent": "",
        "reportingInstance": "",
    }
    try:
        store.create(EVENTS, metadata["namespace"], event)
    except Refused:
        # Its namespace is gone, and the pod with it.
        pass


class Controllers:
    """Looks at everything after each change. `node` is where all pods go."""

    def __init__(self, store: Store, node: str) -> None:
        self._store, self._node = store, node
        #: What was last told of pods without a place, so that it is told once.
        self._unplaced: dict[str, str] = {}

    def look(self) -> None:
        """Do what there is to do now."""
        for claim in self._store.find(CLAIMS):
            self._settle_claim(claim)
        for pod in self._store.find(PODS):
            if not pod["spec"].get("nodeName") and not pod["metadata"].get("deletionTimestamp"):
                self._place(pod)
        self._collect()

    def _settle_claim(self, claim: Object) -> None:
        metadata = claim["metadata"]
        if metadata.get("deletionTimestamp"):
            if CLAIM_IN_USE in (metadata.get("finalizers") or []) and not self._is_used(claim):
                metadata["finalizers"].remove(CLAIM_IN_USE)
                self._store.replace(CLAIMS, metadata["namespace"], metadata["name"], claim)
        elif claim["status"]["phase"] == "Pending":
            claim["spec"]["volumeName"] = f"pvc-{metadata['uid']}"
            asked = claim["spec"]["resources"]["requests"]
            claim["status"] = {"phase": "Bound", "accessModes": claim["spec"]["accessModes"], "capacity": asked}
            self._store.update_own(CLAIMS, metadata["namespace"], metadata["name"], claim)

    def _is_used(self, claim: Object) -> bool:
        pods = self._store.find(PODS, claim["metadata"]["namespace"])
        return any(claim["metadata"]["name"] in claims_of(pod) for pod in pods)

    def _place(self, pod: Object) -> None:
        why = self._why_no_place(pod)
        metadata = pod["metadata"]
        condition: Object = {"type": "PodScheduled", "status": "False" if why else "True", "lastTransitionTime": now()}
        if why:
            if self._unplaced.get(metadata["uid"]) == why:
                return
            self._unplaced[metadata["uid"]] = why
            condition.update(reason="Unschedulable", message=why)
            tell(self._store, pod, "Warning", "FailedScheduling", why, "default-scheduler")
        else:
            pod["spec"]["nodeName"] = self._node
            placed = f"Successfully assigned {metadata['namespace']}/{metadata['name']} to {self._node}"
            tell(self._store, pod, "Normal", "Scheduled", placed, "default-scheduler")
        pod["status"]["conditions"] = [condition]
        self._store.update_own(PODS, metadata["namespace"], metadata["name"], pod)

    def _why_no_place(self, pod: Object) -> str:
        bound = {
            claim["metadata"]["name"]: claim["status"]["phase"] == "Bound"
            for claim in self._store.find(CLAIMS, pod["metadata"]["namespace"])
        }
        for name in claims_of(pod):
            if name not in bound:
                return f'0/1 nodes are available: 1 persistentvolumeclaim "{name}" not found.'
            if not bound[name]:
                return "0/1 nodes are available: 1 pod has unbound immediate PersistentVolumeClaims."
        room = self._store.get(NODES, "", self._node)["status"]["allocatable"]
        others = [
            each
            for each in self._store.find(PODS)
            if each["spec"].get("nodeName") and each["status"]["phase"] in ("Pending", "Running")
        ]
        for what in ("cpu", "memory"):
            asked = sum(requested(each, what) for each in [pod, *others])
            if asked > quantity(room[what]):
                return f"0/1 nodes are available: 1 Insufficient {what}."
        return ""

    def _collect(self) -> None:
        """Delete what belongs to something that is gone: to an owner, or to a namespace."""
        found = list(self._store.everything())
        alive = {each["metadata"]["uid"] for _, each in found}
        spaces = {each["metadata"]["name"] for key, each in found if key[0] is NAMESPACES}
        for (resource, namespace, name), each in found:
            owners = each["metadata"].get("ownerReferences") or []
            orphan = bool(owners) and not any(owner["uid"] in alive for owner in owners)
            homeless = resource.namespaced and namespace not in spaces
            if (orphan or homeless) and not each["metadata"].get("deletionTimestamp"):
                self._delete(resource, namespace, name)

    def _delete(self, resource: Resource, namespace: str, name: str) -> None:
        try:
            self._store.delete(resource, namespace, name, {})
        except Refused:
            pass


def services_of(store: Store, namespace: str) -> dict[str, str]:
    """Return the names of a namespace's services and the address of a running pod of each.

    A real cluster has name service and addresses of services; here a pod knows what there is when it begins.
    """
    found = {}
    for service in store.find(SERVICES, namespace):
        wanted = (service["spec"].get("selector") or {}).items()
        for pod in store.find(PODS, namespace):
            labels, status = pod["metadata"].get("labels") or {}, pod["status"]
            if wanted and wanted <= labels.items() and status["phase"] == "Running":
                found[service["metadata"]["name"]] = status["podIP"]
    return found


def claims_of(pod: Object) -> set[str]:
    """Return the names of the claims that a pod uses."""
    volumes = pod["spec"].get("volumes") or []
    return {volume["persistentVolumeClaim"]["claimName"] for volume in volumes if volume.get("persistentVolumeClaim")}


def requested(pod: Object, what: str) -> Any:
    """Return how much of ``cpu`` or ``memory`` a pod asks for."""
    containers = pod["spec"]["containers"]
    return sum(quantity((each["resources"].get("requests") or {}).get(what, 0)) for each in containers)
