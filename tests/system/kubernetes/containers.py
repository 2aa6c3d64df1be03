"""A Docker engine's own API, and what it has to be told for a container of a pod."""

from __future__ import annotations

import json
from typing import Any

import aiohttp

from .quota import quantity
from .refusals import Object


class EngineError(Exception):
    """The engine refused; `status` is that of its answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Docker:
    """The few calls that a kubelet makes. One session for all; `close` ends it."""

    def __init__(self, socket: str) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=socket, limit=0), timeout=aiohttp.ClientTimeout(total=None)
        )

    async def close(self) -> None:
        await self._session.close()

    async def _call(self, method: str, path: str, body: Any = None, **query: Any) -> bytes:
        async with self._session.request(method, f"http://docker{path}", json=body, params=query) as answer:
            data = await answer.read()
            if answer.status >= 400:
                raise EngineError(answer.status, json.loads(data).get("message", data.decode()))
            return data

    async def has_image(self, image: str) -> bool:
        try:
            await self._call("GET", f"/images/{image}/json")
        except EngineError as error:
            if error.status == 404:
                return False
            raise
        return True

    async def pull(self, image: str) -> None:
        """Raises EngineError."""
        name, _, tag = image.rpartition(":")
        if not name or "/" in tag:
            name, tag = image, "latest"
        for line in (await self._call("POST", "/images/create", fromImage=name, tag=tag)).splitlines():
            if "error" in (told := json.loads(line)):
                raise EngineError(500, told["error"])

    async def create(self, name: str, settings: Object) -> str:
        """Return the id of a new container. Raises EngineError."""
        found: Object = json.loads(await self._call("POST", "/containers/create", settings, name=name))
        return str(found["Id"])

    async def start(self, container: str) -> None:
        await self._call("POST", f"/containers/{container}/start")

    async def stop(self, container: str, grace: int) -> None:
        """SIGTERM, and SIGKILL after `grace` seconds. One that is gone is fine."""
        try:
            await self._call("POST", f"/containers/{container}/stop", t=grace)
        except EngineError as error:
            if error.status != 404:
                raise

    async def wait(self, container: str) -> None:
        """Return when a container has ended, or is gone."""
        try:
            await self._call("POST", f"/containers/{container}/wait")
        except EngineError as error:
            if error.status != 404:
                raise

    async def inspect(self, container: str) -> Object:
        found: Object = json.loads(await self._call("GET", f"/containers/{container}/json"))
        return found

    async def remove(self, container: str) -> None:
        try:
            await self._call("DELETE", f"/containers/{container}", force="1", v="1")
        except EngineError as error:
            if error.status not in (404, 409):
                raise

    async def logs(self, container: str, lines: str) -> str:
        """Return the end of what a container has written, both streams in one."""
        data = await self._call("GET", f"/containers/{container}/logs", stdout="1", stderr="1", tail=lines)
        text, at = b"", 0
        while at + 8 <= len(data):
            size = int.from_bytes(data[at + 4 : at + 8], "big")
            text += data[at + 8 : at + 8 + size]
            at += 8 + size
        return text.decode(errors="replace")


def sandbox_settings(pod: Object, image: str, services: dict[str, str]) -> Object:
    """Return the settings of the container that holds a pod's network, so that its address outlives restarts.

    `services` are the names that a pod can look up, and their addresses.
    """
    return {
        "Image": image,
        "Entrypoint": ["/bin/sleep", "infinity"],
        "Cmd": [],
        "User": "0",
        "Hostname": pod["spec"].get("hostname") or pod["metadata"]["name"],
        "Labels": {"pod": pod["metadata"]["uid"]},
        "HostConfig": {"ExtraHosts": [f"{name}:{address}" for name, address in services.items()]},
        # It does not wait for anything: a pod that goes shall go at once.
        "StopSignal": "SIGKILL",
    }


def container_settings(
    pod: Object, container: Object, environment: dict[str, str], binds: list[str], groups: list[str], network: str
) -> Object:
    """Return the settings of a container; `network` is the id of the pod's sandbox."""
    both = {**(pod["spec"].get("securityContext") or {}), **(container.get("securityContext") or {})}
    capabilities = both.get("capabilities") or {}
    limits = container["resources"].get("limits") or {}
    host: Object = {
        "NetworkMode": f"container:{network}",
        "Binds": binds,
        "GroupAdd": groups,
        "CapAdd": capabilities.get("add") or [],
        "CapDrop": capabilities.get("drop") or [],
        "ReadonlyRootfs": bool(both.get("readOnlyRootFilesystem")),
        "SecurityOpt": ["no-new-privileges"] if both.get("allowPrivilegeEscalation") is False else [],
    }
    if "memory" in limits:
        host["Memory"] = host["MemorySwap"] = int(quantity(limits["memory"]))
    if "cpu" in limits:
        host["NanoCpus"] = int(quantity(limits["cpu"]) * 10**9)
    settings: Object = {
        "Image": container["image"],
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Labels": {"pod": pod["metadata"]["uid"], "container": container["name"]},
        "HostConfig": host,
    }
    if command := container.get("command"):
        settings["Entrypoint"], settings["Cmd"] = command, container.get("args") or []
    elif arguments := container.get("args"):
        settings["Cmd"] = arguments
    if directory := container.get("workingDir"):
        settings["WorkingDir"] = directory
    if "runAsUser" in both:
        settings["User"] = ":".join(str(both[key]) for key in ("runAsUser", "runAsGroup") if key in both)
    return settings
