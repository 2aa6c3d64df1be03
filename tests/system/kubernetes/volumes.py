"""Volumes of pods as directories of this machine, and the environment of their containers."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from .kinds import CLAIMS, CONFIG_MAPS, SECRETS, Resource
from .refusals import Object, Refused
from .store import Store

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class NotMounted(Exception):
    """Something that the pod needs is not there yet."""


class Volumes:
    """Keeps each volume in a directory of its own below `directory`."""

    def __init__(self, store: Store, directory: Path) -> None:
        self._store, self._directory = store, directory
        #: The files of a service account, by namespace and name.
        self.accounts: dict[tuple[str, str], dict[str, str]] = {}

    def binds(self, pod: Object, container: Object) -> list[str]:
        """Return what is mounted where, as Docker is told. Raises NotMounted."""
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or []}
        binds = []
        for mount in container.get("volumeMounts") or []:
            source = self._source(pod, volumes[mount["name"]])
            if path := mount.get("subPath"):
                source = source / path
                if not source.exists():
                    source.mkdir(parents=True)
                    _own(source, pod)
            mode = ":ro" if mount.get("readOnly") else ""
            binds.append(f"{source}:{mount['mountPath']}{mode}")
        spec = pod["spec"]
        account = self.accounts.get((pod["metadata"]["namespace"], spec["serviceAccountName"]))
        if account is not None and spec.get("automountServiceAccountToken", True):
            place = self._directory / "pods" / pod["metadata"]["uid"] / "account"
            _write(place, {name: text.encode() for name, text in account.items()})
            binds.append(f"{place}:{SERVICE_ACCOUNT}:ro")
        return binds

    def _source(self, pod: Object, volume: Object) -> Path:
        namespace, uid = pod["metadata"]["namespace"], pod["metadata"]["uid"]
        if claim := volume.get("persistentVolumeClaim"):
            found = _get(self._store, CLAIMS, namespace, claim["claimName"])
            place = self._directory / "claims" / found["metadata"]["uid"]
            if not place.exists():
                place.mkdir(parents=True)
                # As a new file system is: root's, unless the pod names a group for its files.
                _own(place, pod)
            return place
        if host := volume.get("hostPath"):
            return Path(host["path"])
        place = self._directory / "pods" / uid / volume["name"]
        if secret := volume.get("secret"):
            _write(place, _secret_files(_get(self._store, SECRETS, namespace, secret["secretName"])))
        elif settings := volume.get("configMap"):
            data = _get(self._store, CONFIG_MAPS, namespace, settings["name"]).get("data") or {}
            _write(place, {name: text.encode() for name, text in data.items()})
        elif "emptyDir" in volume:
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(0o777)
        else:
            raise NotMounted(f'the stand-in has no volumes of the kind of "{volume["name"]}"')
        return place


def _own(place: Path, pod: Object) -> None:
    group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
    if group is not None:
        os.chown(place, 0, group)
        place.chmod(0o2775)


def _get(store: Store, resource: Resource, namespace: str, name: str) -> Object:
    try:
        return store.get(resource, namespace, name)
    except Refused as refused:
        raise NotMounted(f"MountVolume.SetUp failed: {refused}") from refused


def _secret_files(secret: Object) -> dict[str, bytes]:
    return {name: base64.b64decode(value) for name, value in (secret.get("data") or {}).items()}


def _write(place: Path, files: dict[str, bytes]) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (place / name).write_bytes(data)


def environment_of(store: Store, pod: Object, container: Object, address: str) -> dict[str, str]:
    """Return a container's environment. Raises NotMounted for what refers to something that is not there."""
    namespace, environment = pod["metadata"]["namespace"], {}
    for source in container.get("envFrom") or []:
        if found := source.get("configMapRef"):
            data = _get(store, CONFIG_MAPS, namespace, found["name"]).get("data") or {}
        else:
            files = _secret_files(_get(store, SECRETS, namespace, source["secretRef"]["name"]))
            data = {name: value.decode() for name, value in files.items()}
        environment.update({f"{source.get('prefix', '')}{name}": value for name, value in data.items()})
    for entry in container.get("env") or []:
        if source := entry.get("valueFrom"):
            environment[entry["name"]] = _value_from(store, pod, source, address)
        else:
            environment[entry["name"]] = _expand(entry.get("value") or "", environment)
    return environment


def _value_from(store: Store, pod: Object, source: Object, address: str) -> str:
    namespace = pod["metadata"]["namespace"]
    if field := source.get("fieldRef"):
        return {
            "metadata.name": pod["metadata"]["name"],
            "metadata.namespace": namespace,
            "metadata.uid": pod["metadata"]["uid"],
            "status.podIP": address,
            "spec.nodeName": pod["spec"].get("nodeName", ""),
            "spec.serviceAccountName": pod["spec"]["serviceAccountName"],
        }[field["fieldPath"]]
    if key := source.get("secretKeyRef"):
        return _secret_files(_get(store, SECRETS, namespace, key["name"]))[key["key"]].decode()
    key = source["configMapKeyRef"]
    return str(_get(store, CONFIG_MAPS, namespace, key["name"])["data"][key["key"]])


def _expand(value: str, known: dict[str, str]) -> str:
    """Put in values of variables that stand before, written ``$(NAME)``."""
    for name, text in known.items():
        value = value.replace(f"$({name})", text)
    return value
