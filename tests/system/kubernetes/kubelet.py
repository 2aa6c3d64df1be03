"""A kubelet: the pods of its node really run, each as containers of a Docker engine that share a network."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from aiohttp import web

from .containers import Docker, EngineError, container_settings, sandbox_settings
from .controllers import services_of, tell
from .kinds import PODS
from .refusals import Object, Refused, not_found
from .store import Store, now
from .volumes import NotMounted, Volumes, environment_of

#: Seconds until a container is started again, from the second time on.
FIRST_BACK_OFF = 10
#: Seconds between two looks for what a pod lacks.
RETRY = 1.0


class Kubelet:
    """Follows the store, and keeps one task for each pod of its node."""

    def __init__(self, store: Store, node: str, docker: Docker, directory: Path, sandbox_image: str) -> None:
        self.store, self.node, self.docker, self.sandbox_image = store, node, docker, sandbox_image
        self.volumes = Volumes(store, directory)
        #: Where pods find the API server.
        self.api_server: dict[str, str] = {}
        self._pods: dict[str, RunningPod] = {}
        #: Pods that are gone from the store, and whose containers are being removed.
        self._ends: set[asyncio.Task[None]] = set()

    def look(self) -> None:
        """Begin what is new, end what shall go or is gone."""
        found = {
            pod["metadata"]["uid"]: pod for pod in self.store.find(PODS) if pod["spec"].get("nodeName") == self.node
        }
        for uid, pod in found.items():
            if uid not in self._pods and pod["status"]["phase"] not in ("Succeeded", "Failed"):
                self._pods[uid] = RunningPod(self, pod)
            if uid in self._pods and pod["metadata"].get("deletionTimestamp"):
                self._pods[uid].end(pod["metadata"].get("deletionGracePeriodSeconds", 0))
        for uid in [uid for uid in self._pods if uid not in found]:
            self._pods[uid].end(0)
            self._ends.add(self._pods.pop(uid).task)

    async def close(self) -> None:
        """End all pods at once."""
        for pod in self._pods.values():
            pod.end(0)
        await asyncio.gather(*(pod.task for pod in self._pods.values()), *self._ends, return_exceptions=True)
        await self.docker.close()

    async def logs(self, namespace: str, name: str, request: web.Request) -> str:
        """Return what a pod's container has written. Raises Refused."""
        pod = self.store.get(PODS, namespace, name)
        running = self._pods.get(pod["metadata"]["uid"])
        wanted = request.query.get("container") or pod["spec"]["containers"][0]["name"]
        container = running.containers.get(wanted) if running else None
        if container is None:
            raise Refused(400, f'container "{wanted}" in pod "{name}" is waiting to start: ContainerCreating')
        try:
            return await self.docker.logs(container, request.query.get("tailLines") or "all")
        except EngineError as error:
            raise not_found(PODS, name) from error


class RunningPod:
    """One pod, from its arrival on the node to the end of its containers. `containers` has their ids."""

    def __init__(self, kubelet: Kubelet, pod: Object) -> None:
        self._kubelet, self._pod, self._docker = kubelet, pod, kubelet.docker
        self.containers: dict[str, str] = {}
        self._sandbox = ""
        self._address = ""
        self._states: dict[str, Object] = {}
        self._grace: int | None = None
        self._asked_to_end = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._live())

    @property
    def _where(self) -> tuple[str, str]:
        return self._pod["metadata"]["namespace"], self._pod["metadata"]["name"]

    def end(self, grace: int) -> None:
        """Stop the containers, within so many seconds. A shorter time goes before a longer one."""
        self._grace = grace if self._grace is None else min(self._grace, grace)
        self._asked_to_end.set()

    async def _live(self) -> None:
        work = asyncio.ensure_future(self._work())
        asked = asyncio.ensure_future(self._asked_to_end.wait())
        try:
            await asked
        finally:
            work.cancel()
            asked.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await self._remove()

    async def _remove(self) -> None:
        for name, container in self.containers.items():
            if "running" in self._states.get(name, {}).get("state", {}):
                self._tell("Normal", "Killing", f"Stopping container {name}")
            await self._docker.stop(container, self._grace or 0)
        for container in [*self.containers.values(), *([self._sandbox] if self._sandbox else [])]:
            await self._docker.remove(container)
        with contextlib.suppress(Refused):
            namespace, name = self._where
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self._pod["metadata"]["uid"]}}
            self._kubelet.store.delete(PODS, namespace, name, options)

    async def _work(self) -> None:
        try:
            await self._prepare()
            for container in self._pod["spec"].get("initContainers") or []:
                await self._run(container, until_success=True)
            running = [self._run(container) for container in self._pod["spec"]["containers"]]
            codes = await asyncio.gather(*running)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # A mistake of the stand-in must be seen, not look like a slow pod.
            self._tell("Warning", "Failed", f"stand-in kubelet: {type(error).__name__}: {error}")
            raise
        self._report(phase="Failed" if any(codes) else "Succeeded")

    async def _prepare(self) -> None:
        for container in self._pod["spec"]["containers"]:
            self._set(container, waiting={"reason": "ContainerCreating"})
        self._report()
        services = services_of(self._kubelet.store, self._where[0])
        settings = sandbox_settings(self._pod, self._kubelet.sandbox_image, services)
        self._sandbox = await self._docker.create(f"k8s_POD_{self._pod['metadata']['uid']}", settings)
        await self._docker.start(self._sandbox)
        self._address = (await self._docker.inspect(self._sandbox))["NetworkSettings"]["IPAddress"]
        self._report()

    async def _run(self, container: Object, *, until_success: bool = False) -> int:
        """Run a container, again and again if its pod wants that, and return its last exit code."""
        policy, restarts = self._pod["spec"]["restartPolicy"], 0
        await self._fetch(container)
        while True:
            last = await self._run_once(container, restarts)
            code = int(last["exitCode"])
            if policy == "Never" or (code == 0 and (policy == "OnFailure" or until_success)):
                return code
            restarts += 1
            self._states[container["name"]].update(restartCount=restarts, lastState={"terminated": last})
            if restarts > 1:
                delay = FIRST_BACK_OFF * 2 ** (restarts - 2)
                self._set(
                    container,
                    waiting={"reason": "CrashLoopBackOff", "message": f"back-off {delay}s restarting failed container"},
                )
                self._tell("Warning", "BackOff", "Back-off restarting failed container")
                self._report()
                await asyncio.sleep(delay)
            await self._docker.remove(self.containers.pop(container["name"]))

    async def _fetch(self, container: Object) -> None:
        """Have the image, or wait for it for ever."""
        image, policy, told = container["image"], container["imagePullPolicy"], ""
        while True:
            present = await self._docker.has_image(image)
            if present and policy != "Always":
                self._tell("Normal", "Pulled", f'Container image "{image}" already present on machine')
                return
            if policy == "Never":
                reason, why = "ErrImageNeverPull", f'Container image "{image}" is not present with pull policy of Never'
                if told != reason:
                    self._tell("Warning", reason, why)
                    self._tell("Warning", "Failed", f"Error: {reason}")
            else:
                reason, why = await self._pull(image, told)
                if not reason:
                    return
            told = reason
            self._set(container, waiting={"reason": reason, "message": why})
            self._report()
            await asyncio.sleep(RETRY)

    async def _pull(self, image: str, told: str) -> tuple[str, str]:
        """Return reason and message of what went wrong, if it did."""
        if not told:
            self._tell("Normal", "Pulling", f'Pulling image "{image}"')
        try:
            await self._docker.pull(image)
        except EngineError as error:
            why = (
                f'Failed to pull image "{image}": rpc error: code = Unknown desc = Error response from daemon: {error}'
            )
            if not told:
                self._tell("Warning", "Failed", why)
                self._tell("Warning", "Failed", "Error: ErrImagePull")
                return "ErrImagePull", why
            if told == "ErrImagePull":
                self._tell("Normal", "BackOff", f'Back-off pulling image "{image}"')
                self._tell("Warning", "Failed", "Error: ImagePullBackOff")
            return "ImagePullBackOff", f'Back-off pulling image "{image}"'
        self._tell("Normal", "Pulled", f'Successfully pulled image "{image}"')
        return "", ""

    async def _run_once(self, container: Object, restarts: int) -> Object:
        """Run a container to its end; returns its `terminated` state."""
        name = container["name"]
        settings = await self._settings(container)
        uid = self._pod["metadata"]["uid"]
        self.containers[name] = await self._docker.create(
            f"k8s_{name}_{self._where[1][:40]}_{uid}_{restarts}", settings
        )
        self._tell("Normal", "Created", f"Created container {name}")
        try:
            await self._docker.start(self.containers[name])
        except EngineError as error:
            self._tell(
                "Warning", "Failed", f'Error: failed to start container "{name}": Error response from daemon: {error}'
            )
            code = 127 if "not found" in str(error) else 128
            return self._ended(container, code, "ContainerCannotRun" if code == 127 else "StartError", str(error))
        self._tell("Normal", "Started", f"Started container {name}")
        self._set(container, running={"startedAt": now()})
        self._report()
        await self._docker.wait(self.containers[name])
        state = (await self._docker.inspect(self.containers[name]))["State"]
        code = int(state["ExitCode"])
        reason = "OOMKilled" if state["OOMKilled"] and code else "Error" if code else "Completed"
        return self._ended(container, code, reason, "")

    def _ended(self, container: Object, code: int, reason: str, message: str) -> Object:
        terminated: Object = {"exitCode": code, "reason": reason, "finishedAt": now()}
        if message:
            terminated["message"] = message
        self._set(container, terminated=terminated)
        self._report()
        return terminated

    async def _settings(self, container: Object) -> Object:
        told = ""
        while True:
            try:
                environment = self._kubelet.api_server | environment_of(
                    self._kubelet.store, self._pod, container, self._address
                )
                binds = await asyncio.to_thread(self._kubelet.volumes.binds, self._pod, container)
                break
            except NotMounted as error:
                if told != str(error):
                    self._tell("Warning", "FailedMount", str(error))
                told = str(error)
                await asyncio.sleep(RETRY)
        context = self._pod["spec"].get("securityContext") or {}
        groups = [str(each) for each in context.get("supplementalGroups") or []]
        groups += [str(context["fsGroup"])] if "fsGroup" in context else []
        return container_settings(self._pod, container, environment, binds, groups, self._sandbox)

    # What is told

    def _set(self, container: Object, **state: Any) -> None:
        known = self._states.setdefault(
            container["name"], {"name": container["name"], "restartCount": 0, "lastState": {}}
        )
        running = "running" in state
        known.update(image=container["image"], imageID="", state=state, ready=running, started=running)

    def _tell(self, kind: str, reason: str, message: str) -> None:
        tell(self._kubelet.store, self._pod, kind, reason, message, "kubelet")

    def _report(self, phase: str = "") -> None:
        """Write what is known into the pod's status; a pod that is gone is fine."""
        namespace, name = self._where
        with contextlib.suppress(Refused):
            pod = self._kubelet.store.get(PODS, namespace, name)
            if pod["metadata"]["uid"] != self._pod["metadata"]["uid"]:
                return
            status = pod["status"]
            main = [each["name"] for each in self._pod["spec"]["containers"]]
            states = [self._states[each] for each in main if each in self._states]
            begun = any(
                "running" in each["state"] or "terminated" in each["state"] or each["restartCount"] for each in states
            )
            if status["phase"] not in ("Succeeded", "Failed"):
                status["phase"] = phase or ("Running" if begun else "Pending")
            ready = bool(states) and all(each["ready"] for each in states)
            kept = [each for each in status.get("conditions") or [] if each["type"] == "PodScheduled"]
            status["conditions"] = [
                *kept,
                *({"type": each, "status": str(ready)} for each in ("ContainersReady", "Ready")),
            ]
            status["containerStatuses"] = states
            if first := [each for each in self._states.values() if each["name"] not in main]:
                status["initContainerStatuses"] = first
            status.setdefault("startTime", now())
            if self._address:
                status.update(podIP=self._address, podIPs=[{"ip": self._address}], hostIP="127.0.0.1")
            self._kubelet.store.update_own(PODS, namespace, name, pod)
