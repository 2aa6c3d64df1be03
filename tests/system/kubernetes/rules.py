"""What an object is given, and what it must satisfy, when it is made or changed."""

from __future__ import annotations

import base64
import copy
import re
import secrets
from collections.abc import Iterator
from typing import Any

from . import schema
from .kinds import CLAIMS, NAMESPACES, PODS, SECRETS, SERVICES, Resource
from .quota import quantity
from .refusals import (
    Cause,
    Object,
    cannot_be_handled,
    forbidden_field,
    invalid,
    invalid_value,
    not_found_value,
    not_supported,
    required,
)

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DNS_LABEL = re.compile(rf"^{_LABEL}$")
_DNS_SUBDOMAIN = re.compile(rf"^{_LABEL}(\.{_LABEL})*$")
_WORD = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
_KEY = re.compile(rf"^({_LABEL}(\.{_LABEL})*/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$")
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    f"end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_LABEL}(\\.{_LABEL})*')"
)
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    f"an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')"
)
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_KEEP_SPEC = (
    "pod updates may not change fields other than `spec.containers[*].image`, `spec.initContainers[*].image`, "
    "`spec.activeDeadlineSeconds` or `spec.tolerations` (only additions to existing tolerations)"
)
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_RESTART_POLICIES = ("Always", "OnFailure", "Never")
#: The finalizer that keeps a claim until no pod uses it.
CLAIM_IN_USE = "kubernetes.io/pvc-protection"


def decode(resource: Resource, given: Object) -> None:
    """Raise Refused for what a real API server cannot read as an object of this kind."""
    if why := schema.undecodable(given):
        raise cannot_be_handled(resource, why)
    for place, text in _quantities(given.get("spec")):
        try:
            quantity(text)
        except ValueError as error:
            raise cannot_be_handled(resource, f"{place}: {error}") from None


def _quantities(spec: Any) -> Iterator[tuple[str, Any]]:
    """Yield the quantities of a pod, a claim or a quota, and where they stand."""
    spec = spec if isinstance(spec, dict) else {}
    holders = [spec, *(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    for holder in holders:
        resources = holder.get("resources") or {}
        for side in ("requests", "limits"):
            yield from ((f"resources.{side}.{key}", value) for key, value in (resources.get(side) or {}).items())
    yield from ((f"hard.{key}", value) for key, value in (spec.get("hard") or {}).items())


def complete(resource: Resource, given: Object) -> None:
    """Fill in what a real API server gives to an object that does not say it."""
    metadata = given["metadata"]
    if "name" not in metadata and metadata.get("generateName"):
        metadata["name"] = metadata["generateName"] + secrets.token_hex(3)[:5]
    if resource is PODS:
        _complete_pod(given)
    elif resource is CLAIMS:
        given["status"] = {"phase": "Pending"}
        given.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
        metadata.setdefault("finalizers", []).append(CLAIM_IN_USE)
    elif resource is SECRETS:
        given.setdefault("type", "Opaque")
        keep_secret(given)
    elif resource is NAMESPACES:
        given["status"] = {"phase": "Active"}
    elif resource is SERVICES:
        spec = given.setdefault("spec", {})
        for key, value in (("type", "ClusterIP"), ("sessionAffinity", "None")):
            spec.setdefault(key, value)
        for port in spec.get("ports") or []:
            port.setdefault("protocol", "TCP")
            port.setdefault("targetPort", port.get("port"))


def keep_secret(given: Object) -> None:
    """Put what was said as text where it is kept: nothing is ever read back as text."""
    for key, text in (given.pop("stringData", None) or {}).items():
        given.setdefault("data", {})[key] = base64.b64encode(text.encode()).decode()


def _complete_pod(pod: Object) -> None:
    spec = pod.setdefault("spec", {})
    for key, value in (
        ("restartPolicy", "Always"),
        ("dnsPolicy", "ClusterFirst"),
        ("terminationGracePeriodSeconds", 30),
        ("schedulerName", "default-scheduler"),
        ("serviceAccountName", "default"),
        ("enableServiceLinks", True),
        ("securityContext", {}),
    ):
        spec.setdefault(key, value)
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        tag = str(container.get("image", "")).rpartition("/")[2].partition(":")[2]
        container.setdefault("imagePullPolicy", "Always" if tag in ("", "latest") else "IfNotPresent")
        resources = container.setdefault("resources", {})
        for side in resources.values():
            side.update({key: _as_text(value) for key, value in side.items()})
        if limits := resources.get("limits"):
            resources["requests"] = {**limits, **(resources.get("requests") or {})}
        for port in container.get("ports") or []:
            port.setdefault("protocol", "TCP")
    pod["status"] = {"phase": "Pending", "qosClass": "Burstable"}


def _as_text(value: Any) -> str:
    """Return a quantity as it is read back: whoever sent a number gets text."""
    if isinstance(value, str):
        return value
    number = quantity(value)
    return str(int(number)) if number == int(number) else f"{int(number * 1000)}m"


def check_new(resource: Resource, given: Object) -> None:
    """Raise Refused with everything that is wrong with a new object."""
    name = given["metadata"].get("name", "")
    causes = [*_name_causes(resource, name), *_metadata_causes(given["metadata"])]
    if resource is PODS:
        causes += _pod_causes(given["spec"])
    elif resource is CLAIMS:
        causes += _claim_causes(given["spec"])
    if causes:
        raise invalid(resource, name, causes)


def check_change(resource: Resource, given: Object, before: Object) -> None:
    """Raise Refused for a change that an object of this kind does not allow."""
    name = before["metadata"]["name"]
    causes = _metadata_causes(given["metadata"])
    if resource is PODS and _fixed_part(given["spec"]) != _fixed_part(before["spec"]):
        causes.append(forbidden_field("spec", _KEEP_SPEC))
    if resource is CLAIMS and {**given["spec"], "resources": 0} != {**before["spec"], "resources": 0}:
        causes.append(
            forbidden_field("spec", "spec is immutable after creation except resources.requests for bound claims")
        )
    if causes:
        raise invalid(resource, name, causes)


def _fixed_part(spec: Object) -> Object:
    fixed = copy.deepcopy(spec)
    for key in ("activeDeadlineSeconds", "tolerations"):
        fixed.pop(key, None)
    for container in [*(fixed.get("initContainers") or []), *(fixed.get("containers") or [])]:
        container.pop("image", None)
    return fixed


def _name_causes(resource: Resource, name: str) -> list[Cause]:
    if not name:
        return [Cause("FieldValueRequired", "metadata.name", "Required value: name or generateName is required")]
    if resource in (NAMESPACES, SERVICES):
        fine, longest, rule = _DNS_LABEL.match(name), 63, _LABEL_RULE
    else:
        fine, longest, rule = _DNS_SUBDOMAIN.match(name), 253, _SUBDOMAIN_RULE
    if len(name) > longest:
        return [invalid_value("metadata.name", name, f"must be no more than {longest} characters")]
    return [] if fine else [invalid_value("metadata.name", name, rule)]


def _metadata_causes(metadata: Object) -> list[Cause]:
    causes = []
    for key, value in (metadata.get("labels") or {}).items():
        if not _KEY.match(key):
            causes.append(invalid_value("metadata.labels", key, "name part must consist of alphanumeric characters"))
        if len(value) > 63:
            causes.append(invalid_value("metadata.labels", value, "must be no more than 63 characters"))
        elif not _WORD.match(value):
            causes.append(invalid_value("metadata.labels", value, _VALUE_RULE))
    for key in metadata.get("annotations") or {}:
        if not _KEY.match(key.lower()):
            causes.append(
                invalid_value("metadata.annotations", key, "name part must consist of alphanumeric characters")
            )
    return causes


def _pod_causes(spec: Object) -> list[Cause]:
    causes: list[Cause] = []
    volumes = {volume.get("name") for volume in spec.get("volumes") or []}
    if not spec.get("containers"):
        causes.append(required("spec.containers"))
    if spec["restartPolicy"] not in _RESTART_POLICIES:
        causes.append(not_supported("spec.restartPolicy", spec["restartPolicy"], _RESTART_POLICIES))
    names: set[str] = set()
    for kind in ("initContainers", "containers"):
        for number, container in enumerate(spec.get(kind) or []):
            place = f"spec.{kind}[{number}]"
            causes += _container_causes(place, container, volumes)
            name = container.get("name")
            if name in names:
                causes.append(Cause("FieldValueDuplicate", f"{place}.name", f'Duplicate value: "{name}"'))
            names.add(name)
    for number, volume in enumerate(spec.get("volumes") or []):
        if not _DNS_LABEL.match(volume.get("name", "")):
            causes.append(invalid_value(f"spec.volumes[{number}].name", volume.get("name", ""), _LABEL_RULE))
    return causes


def _container_causes(place: str, container: Object, volumes: set[Any]) -> list[Cause]:
    causes = [required(f"{place}.{key}") for key in ("name", "image") if not container.get(key)]
    if container.get("name") and not _DNS_LABEL.match(container["name"]):
        causes.append(invalid_value(f"{place}.name", container["name"], _LABEL_RULE))
    if container["imagePullPolicy"] not in _PULL_POLICIES:
        causes.append(not_supported(f"{place}.imagePullPolicy", container["imagePullPolicy"], _PULL_POLICIES))
    for number, mount in enumerate(container.get("volumeMounts") or []):
        if mount.get("name") not in volumes:
            causes.append(not_found_value(f"{place}.volumeMounts[{number}].name", mount.get("name", "")))
        if not mount.get("mountPath"):
            causes.append(required(f"{place}.volumeMounts[{number}].mountPath"))
    requests, limits = (container["resources"].get(side) or {} for side in ("requests", "limits"))
    for key, value in requests.items():
        if key in limits and quantity(value) > quantity(limits[key]):
            why = f"must be less than or equal to {key} limit"
            causes.append(invalid_value(f"{place}.resources.requests", value, why))
    return causes


def _claim_causes(spec: Object) -> list[Cause]:
    causes = [] if spec.get("accessModes") else [required("spec.accessModes")]
    if "storage" not in ((spec.get("resources") or {}).get("requests") or {}):
        causes.append(required("spec.resources[storage]"))
    return causes
