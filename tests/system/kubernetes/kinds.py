"""Which resources there are, and by which fields each may be selected."""

from __future__ import annotations

from dataclasses import dataclass

_POD_FIELDS = "spec.nodeName spec.restartPolicy spec.schedulerName spec.serviceAccountName status.phase status.podIP"
_EVENT_FIELDS = (
    "involvedObject.kind involvedObject.namespace involvedObject.name involvedObject.uid involvedObject.apiVersion "
    "involvedObject.resourceVersion involvedObject.fieldPath reason reportingComponent source type"
)


@dataclass(frozen=True)
class Resource:
    """One kind of object; `plural` is its word in paths."""

    plural: str
    kind: str
    group: str = ""
    namespaced: bool = True
    fields: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def qualified(self) -> str:
        """The name that messages use."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def selectable(self) -> set[str]:
        return {"metadata.name", *(("metadata.namespace",) if self.namespaced else ()), *self.fields}


PODS = Resource("pods", "Pod", fields=tuple(_POD_FIELDS.split()))
EVENTS = Resource("events", "Event", fields=tuple(_EVENT_FIELDS.split()))
NAMESPACES = Resource("namespaces", "Namespace", namespaced=False, fields=("status.phase",))
NODES = Resource("nodes", "Node", namespaced=False, fields=("spec.unschedulable",))
SECRETS = Resource("secrets", "Secret", fields=("type",))
SERVICES = Resource("services", "Service")
CONFIG_MAPS = Resource("configmaps", "ConfigMap")
CLAIMS = Resource("persistentvolumeclaims", "PersistentVolumeClaim")
QUOTAS = Resource("resourcequotas", "ResourceQuota")
INGRESSES = Resource("ingresses", "Ingress", group="networking.k8s.io")

ALL = (PODS, EVENTS, NAMESPACES, NODES, SECRETS, SERVICES, CONFIG_MAPS, CLAIMS, QUOTAS, INGRESSES)
BY_PATH = {(resource.group, resource.plural): resource for resource in ALL}
