"""All of it in a thread of its own, at an address with TLS, which can be away for a while."""

from __future__ import annotations

import asyncio
import base64
import secrets
import shutil
import ssl
import tempfile
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml
from aiohttp import web

from ..docker_engine import IMAGE, DockerEngine
from ..hub_process import free_port
from .access import EVERYTHING, Access, Account
from .certificate import make_certificate
from .containers import Docker
from .controllers import Controllers
from .http import Server
from .kinds import NAMESPACES, NODES
from .kubelet import Kubelet
from .refusals import Object
from .store import Store

T = TypeVar("T")

NODE = "node-1"


class Cluster:
    """A cluster with one node. Without an engine nothing is scheduled and no pod runs.

    `admin` is a token that may do everything; `address` is that of the API server.
    """

    def __init__(self, engine: DockerEngine | None = None, *, ip: str = "127.0.0.1", memory: str = "8Gi") -> None:
        self.engine, self.ip, self._memory = engine, ip, memory
        self.port = free_port()
        self.address = f"https://{ip}:{self.port}"
        self.directory = Path(tempfile.mkdtemp(prefix="kubernetes-", dir="/var/tmp"))
        self.admin = secrets.token_hex(16)
        self.access = Access()
        self.access.give(self.admin, Account("admin", [EVERYTHING]))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kubernetes", daemon=True)
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._kubelet: Kubelet | None = None
        self.authority = make_certificate(self.directory, ip)

    def __enter__(self) -> Cluster:
        self._thread.start()
        try:
            self.call(self._begin)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call(self._end)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()
            shutil.rmtree(self.directory, ignore_errors=True)

    def call(self, function: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        """Run a function of the stand-in where it lives, and return what it returns."""
        return asyncio.run_coroutine_threadsafe(function(*arguments), self._loop).result(60)

    async def _begin(self) -> None:
        self.store = Store()
        logs: Callable[[str, str, web.Request], Awaitable[str]] | None = None
        self.store.create(NAMESPACES, "", {"metadata": {"name": "default"}})
        if self.engine is not None:
            self.store.create(NODES, "", {"metadata": {"name": NODE}, "status": self._capacity()})
            docker = Docker(f"{self.engine.directory}/socket")
            self._kubelet = Kubelet(self.store, NODE, docker, self.directory / "volumes", IMAGE)
            self._kubelet.api_server = {"KUBERNETES_SERVICE_HOST": self.ip, "KUBERNETES_SERVICE_PORT": str(self.port)}
            logs = self._kubelet.logs
            controllers = Controllers(self.store, NODE)
            self._tasks = [self._loop.create_task(self._keep(each.look)) for each in (controllers, self._kubelet)]
        self.server = Server(self.store, self.access, logs)
        await self._listen()

    def _capacity(self) -> Object:
        room = {"cpu": "8", "memory": self._memory, "pods": "110"}
        return {"allocatable": room, "capacity": room, "conditions": [{"type": "Ready", "status": "True"}]}

    async def _keep(self, look: Callable[[], None]) -> None:
        while True:
            look()
            await self.store.next_change()

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        failed = [
            each for each in await asyncio.gather(*self._tasks, return_exceptions=True) if isinstance(each, Exception)
        ]
        if self._kubelet is not None:
            await self._kubelet.close()
        await self._hang_up()
        # Requests that were still being answered, such as watches.
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for each in rest:
            each.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        if failed:
            raise failed[0]

    async def _listen(self) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.directory / "server.pem")
        self._runner = web.AppRunner(self.server.application(), access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.ip, self.port, ssl_context=context, reuse_address=True)
        await site.start()

    async def _hang_up(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody can talk to the API server, and whoever does is cut off; pods go on."""
        self.call(self._hang_up)
        try:
            yield
        finally:
            self.call(self._listen)

    # For tests

    def account(self, user: str, rules: list[Object], namespace: str = "") -> str:
        """Return a token of somebody who may do what these rules of a Role say."""
        token = secrets.token_hex(16)
        self.access.give(token, Account(user, rules, namespace))
        return token

    def kubeconfig(self, token: str) -> str:
        """Return the text of a file that leads a client here."""
        authority = base64.b64encode(self.authority.read_bytes()).decode()
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
                "clusters": [
                    {"name": "here", "cluster": {"server": self.address, "certificate-authority-data": authority}}
                ],
                "users": [{"name": "here", "user": {"token": token}}],
            }
        )

    def service_account(self, namespace: str, name: str, rules: list[Object]) -> str:
        """Make an account for pods, which may do what these rules say, and return its token."""
        assert self._kubelet is not None, "without an engine there are no pods"
        token = self.account(f"system:serviceaccount:{namespace}:{name}", rules, namespace)
        files = {"token": token, "namespace": namespace, "ca.crt": self.authority.read_text()}
        self._kubelet.volumes.accounts[namespace, name] = files
        return token

    @property
    def complaints(self) -> list[str]:
        """What a strict reader of the published schemas has against the objects that came."""
        return list(self.server.complaints)
