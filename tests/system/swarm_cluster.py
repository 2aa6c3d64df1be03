"""A Docker Swarm of three nodes for tests: engines in network namespaces of their own, joined by a bridge.

Needs root. What the engines make of networks and rules for packets is in their namespaces, their files are in one
directory each, and all of it goes with the test. The first node manages the others.
"""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from . import docker_engine
from .docker_engine import DockerEngine, Packed, daemon_command, packed_image, run, unused_address
from .hub_process import wait_for
from .upstream import NotAvailable

NODES = 3
PROGRAMS = (*docker_engine.PROGRAMS, "iptables", "nsenter", "unshare", "hostname")
#: Where `ip netns` keeps names.
NAMESPACES = Path("/run/netns")


def why_not() -> str:
    """Return why no swarm can run here, "" where nothing speaks against it."""
    return docker_engine.why_not(PROGRAMS)


class SwarmNode(DockerEngine):
    """An engine in a namespace of its own, that of a machine with one cable."""

    def __init__(self, name: str, address: str, gateway: str, bridge: str) -> None:
        super().__init__()
        self.name, self.address, self.gateway, self.bridge = name, address, gateway, bridge
        # The name of an interface has 15 letters at most.
        self.namespace = self.cable = f"{bridge}-{name[-1]}"

    def __enter__(self) -> SwarmNode:
        try:
            self._connect()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def _connect(self) -> None:
        inside = ("ip", "-n", self.namespace)
        run("ip", "netns", "add", self.namespace)
        run("ip", "link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        run("ip", "link", "set", self.cable, "master", self.bridge, "up")
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "address", "add", f"{self.address}/24", "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "route", "add", "default", "via", self.gateway)

    def _command(self) -> list[str]:
        # Each of these becomes the next, so the process is the daemon's in the end.
        return [
            *("nsenter", f"--net={NAMESPACES / self.namespace}", "unshare", "--uts", "--"),
            *("sh", "-c", f'hostname {self.name}; exec "$@"', "sh", *daemon_command(self.directory)),
        ]

    @contextmanager
    def unplugged(self) -> Iterator[None]:
        """Pull the node's cable: what runs there goes on, and nobody can reach it."""
        run("ip", "link", "set", self.cable, "down")
        try:
            yield
        finally:
            run("ip", "link", "set", self.cable, "up")

    def close(self) -> None:
        """End the daemon; delete its namespace and its files."""
        try:
            self.stop()
        finally:
            # The cable first: a half-open connection can keep a deleted namespace alive, and a name with it.
            for words in (["link", "delete", self.cable], ["netns", "delete", self.namespace]):
                subprocess.run(["ip", *words], check=False, capture_output=True)
            self._delete_files()


class SwarmCluster:
    """`nodes[0]` is the manager. Each node has its own name as the label `machine`."""

    def __init__(self) -> None:
        self.bridge = f"sw{secrets.token_hex(4)}"
        self.address = unused_address()
        network = self.address.rpartition(".")[0]
        self.nodes = [
            SwarmNode(f"node{number}", f"{network}.{10 + number}", self.address, self.bridge)
            for number in range(1, NODES + 1)
        ]

    @property
    def manager(self) -> SwarmNode:
        return self.nodes[0]

    def __enter__(self) -> SwarmCluster:
        try:
            self._check_kernel()
            run("ip", "link", "add", self.bridge, "type", "bridge")
            run("ip", "address", "add", f"{self.address}/24", "dev", self.bridge)
            run("ip", "link", "set", self.bridge, "up")
            for node in self.nodes:
                node.__enter__()
            self._join()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_kernel(self) -> None:
        """Raises NotAvailable where the kernel has not what joins containers of several machines."""
        probe = f"{self.bridge}-x"
        try:
            run("ip", "netns", "add", probe)
            run("ip", "-n", probe, "link", "add", "vx", "type", "vxlan", "id", "1", "dstport", "4789")
            run("ip", "-n", probe, "link", "add", "ve", "type", "veth", "peer", "name", "ev")
        except AssertionError as error:
            raise NotAvailable(f"the kernel makes no namespace, VXLAN or veth here: {error}") from None
        finally:
            subprocess.run(["ip", "netns", "delete", probe], check=False, capture_output=True)

    def _join(self) -> None:
        manager = self.manager
        manager.docker("swarm", "init", "--advertise-addr", manager.address)
        token = manager.docker("swarm", "join-token", "--quiet", "worker")
        for node in self.nodes[1:]:
            node.docker("swarm", "join", "--token", token, f"{manager.address}:2377")
        for node in self.nodes:
            wait_for(lambda node=node: self.state_of(node) == "ready", f"{node.name} is ready", 20, 0.1)  # type: ignore[misc]
            manager.docker("node", "update", "--label-add", f"machine={node.name}", node.name)

    def make_image(self, packed: Packed) -> None:
        """Make the image on every node."""
        with ThreadPoolExecutor(NODES) as pool:
            for made in [pool.submit(node.make_image, packed) for node in self.nodes]:
                made.result()

    def state_of(self, node: SwarmNode) -> str:
        """Return what the manager thinks of a node: "ready", "down", or "unknown"."""
        return self.manager.docker("node", "inspect", node.name, "--format", "{{.Status.State}}")

    def services(self) -> set[str]:
        """Return the names of all services."""
        return set(self.manager.docker("service", "ls", "--format", "{{.Name}}").split())

    def service_id(self, service: str) -> str:
        """Return what tells a service from another that had its name before."""
        return self.manager.docker("service", "inspect", service, "--format", "{{.ID}}")

    def node_of(self, service: str) -> str:
        """Return the name of the node that a service runs on."""
        lines = self.manager.docker("service", "ps", service, "--format", "{{json .}}").splitlines()
        return next(str(task["Node"]) for task in map(json.loads, lines) if task["DesiredState"] == "Running")

    def close(self) -> None:
        """End the nodes, the manager last, as it waits for others that end with it; delete what joins them."""
        try:
            with ThreadPoolExecutor(NODES) as pool:
                for closed in [pool.submit(node.close) for node in self.nodes[1:]]:
                    closed.result()
        finally:
            self.manager.close()
            subprocess.run(["ip", "link", "delete", self.bridge], check=False, capture_output=True)


@contextmanager
def swarm_cluster(*packages: str) -> Iterator[SwarmCluster]:
    """Run a swarm whose nodes have the image, with released packages of others in it. Raises NotAvailable."""
    with SwarmCluster() as cluster:
        with packed_image(*packages) as packed:
            cluster.make_image(packed)
        yield cluster
