"""A Docker engine for tests: a daemon with data, socket and bridge of its own, and an image with JupyterLab.

Needs root. Nothing of an engine that this machine may have is touched: the daemon keeps its files in one directory,
makes no rules for packets, and ends with the test. Containers reach the Hub at the address of the bridge.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import psutil

from .hub_process import wait_for
from .public_environment import public_environment

PROGRAMS = ("dockerd", "containerd", "runc", "docker-proxy", "docker", "ip", "ldd")
#: What the engine needs of the kernel, by the numbers of linux/capability.h.
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}
#: Nobody listens there: an engine that wants to fetch an image is refused at once, wherever the tests run.
REGISTRY = "127.0.0.1:1"
IMAGE = f"{REGISTRY}/lab:1"
#: The account in the image.
USER, UID = "jovyan", 1000


def why_not(programs: Iterable[str] = PROGRAMS) -> str:
    """Return why no engine can run here, "" where one can."""
    if missing := [program for program in programs if not shutil.which(program, path=_path())]:
        return f"needs Docker (Debian's package is docker.io): no {', '.join(missing)}"
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux: starts a Docker engine"
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    held = int(status["CapEff"], 16)
    if lacking := [name for name, bit in CAPABILITIES.items() if not held >> bit & 1]:
        return f"needs to make networks and mounts; root lacks {' and '.join(lacking)} here, as in most containers"
    return ""


def _path() -> str:
    # Debian's own comes first: another client on PATH may be too new for the daemon.
    return f"/usr/sbin:/usr/bin:/sbin:/bin:{os.environ.get('PATH', '')}"


def run(*command: str, stdin: IO[bytes] | None = None, environment: dict[str, str] | None = None) -> str:
    """Run a command and return what it says. Raises AssertionError with its errors."""
    done = subprocess.run(
        command,
        stdin=stdin or subprocess.DEVNULL,
        env={**os.environ, "PATH": _path(), **(environment or {})},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.decode(errors='replace')}"
    return done.stdout.decode(errors="replace").strip()


class DockerEngine:
    """dockerd, which can be stopped and started again.

    `environment` is what a client needs; `address` is that of this machine as containers see it.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="docker-", dir="/var/tmp"))
        self.environment = {"DOCKER_HOST": f"unix://{self.directory}/socket"}
        self.bridge = f"br-{secrets.token_hex(4)}"
        self.address = unused_address()
        self._daemon: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> DockerEngine:
        try:
            run("ip", "link", "add", self.bridge, "type", "bridge")
            run("ip", "address", "add", f"{self.address}/24", "dev", self.bridge)
            run("ip", "link", "set", self.bridge, "up")
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        with (self.directory / "log").open("ab") as log:
            self._daemon = subprocess.Popen(
                self._command(),
                env={**os.environ, "PATH": _path()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_for(self._answers, f"the Docker engine answers\n{self.log()}", 30, 0.1)

    def _command(self) -> list[str]:
        return [
            *daemon_command(self.directory),
            f"--bridge={self.bridge}",
            # Ports are then published by a program, which needs no rules of the kernel.
            *("--iptables=false", "--ip6tables=false", "--ip-masq=false"),
        ]

    def _answers(self) -> bool:
        assert self._daemon is not None
        assert self._daemon.poll() is None, f"dockerd ended:\n{self.log()}"
        try:
            return bool(self.docker("version", "--format", "{{.Server.Version}}"))
        except AssertionError:
            return False

    def stop(self) -> None:
        """End the daemon, and with it every container."""
        if self._daemon is None:
            return
        daemon, self._daemon = self._daemon, None
        below = psutil.Process(daemon.pid).children(recursive=True) if daemon.poll() is None else []
        daemon.terminate()
        try:
            daemon.wait(30)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait(10)
        for process in below:
            if process.is_running():
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(below, timeout=10)

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """Nobody can talk to the daemon; containers go on."""
        socket, elsewhere = self.directory / "socket", self.directory / "socket-elsewhere"
        socket.rename(elsewhere)
        try:
            yield
        finally:
            elsewhere.rename(socket)

    def close(self) -> None:
        """End the daemon; delete its bridge and its files."""
        try:
            self.stop()
        finally:
            subprocess.run(["ip", "link", "delete", self.bridge], check=False, capture_output=True)
            self._delete_files()

    def _delete_files(self) -> None:
        for place in reversed(psutil.disk_partitions(all=True)):
            if place.mountpoint.startswith(f"{self.directory}/"):
                subprocess.run(["umount", "--lazy", place.mountpoint], check=False, capture_output=True)
        # An unpacked image has tens of thousands of files, which Python would take long for.
        subprocess.run(["rm", "-rf", self.directory], check=False, capture_output=True)

    def log(self) -> str:
        """Return the end of what the daemon has written."""
        path = self.directory / "log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    def docker(self, *words: str, stdin: IO[bytes] | None = None) -> str:
        """Run a command of the client and return what it says. Raises AssertionError with its errors."""
        return run("docker", *words, stdin=stdin, environment=self.environment)

    def containers(self) -> set[str]:
        """Return the names of all containers, running or not."""
        return set(self.docker("ps", "--all", "--format", "{{.Names}}").split())

    def inspect(self, container: str) -> dict[str, Any]:
        """Return all that the engine knows of a container."""
        (found,) = json.loads(self.docker("inspect", container))
        known: dict[str, Any] = found
        return known

    def make_image(self, packed: Packed) -> None:
        """Make IMAGE of what `packed_image` has packed."""
        with packed.archive.open("rb") as file:
            self.docker(
                "import",
                *("--change", f"USER {USER}", "--change", f"WORKDIR /home/{USER}"),
                *("--change", f"ENV HOME=/home/{USER} PATH={packed.commands}:/usr/bin:/bin LANG=C.UTF-8"),
                *("--change", 'CMD ["jupyterhub-singleuser"]', "--change", "EXPOSE 8888"),
                *("-", IMAGE),
                stdin=file,
            )


def daemon_command(place: Path) -> list[str]:
    """Return how a daemon is started that keeps all its files in one directory."""
    return [
        *("dockerd", f"--host=unix://{place}/socket", f"--data-root={place}/data"),
        *(f"--exec-root={place}/exec", f"--pidfile={place}/pid", "--shutdown-timeout=5"),
    ]


class Packed(NamedTuple):
    """What becomes an image: an archive of files, and the directory in it that has the environment's commands."""

    archive: Path
    commands: Path


@contextmanager
def packed_image(*packages: str) -> Iterator[Packed]:
    """Pack what IMAGE has: what Python and JupyterLab need of this machine, the tests' environment, and an account.

    `packages` are released packages of others that are wanted in the environment.
    """
    commands = public_environment(*packages)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        path = Path(directory, "image.tar")
        with tarfile.open(path, mode="w", format=tarfile.GNU_FORMAT) as archive:
            _add_system(archive, commands.parent)
        yield Packed(path, commands)


def unused_address() -> str:
    """Return an address for a bridge in a network that this machine does not have yet."""
    taken = {address.address for each in psutil.net_if_addrs().values() for address in each}
    networks = [f"172.31.{number}" for number in range(1, 255)]
    secrets.SystemRandom().shuffle(networks)
    return next(f"{network}.1" for network in networks if not any(each.startswith(f"{network}.") for each in taken))


def _add_system(archive: tarfile.TarFile, environment: Path) -> None:
    for directory in ("bin", "sbin", "lib", "lib64"):
        link = tarfile.TarInfo(directory)
        link.type, link.linkname = tarfile.SYMTYPE, f"usr/{directory}"
        archive.addfile(link)
    for directory, mode in (("tmp", 0o1777), ("run", 0o755), ("proc", 0o755), ("sys", 0o755), ("dev", 0o755)):
        _add_directory(archive, directory, mode)
    for directory in (f"home/{USER}", f"home/{USER}/work"):
        _add_directory(archive, directory, 0o755, UID)
    _add_text(archive, "etc/passwd", f"root:x:0:0::/:/bin/sh\n{USER}:x:{UID}:{UID}::/home/{USER}:/bin/bash\n")
    _add_text(archive, "etc/group", f"root:x:0:\n{USER}:x:{UID}:\n")
    python = (environment / "bin/python").resolve()
    library = Path(run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"))
    programs = [*map(Path, ("/usr/bin/env", "/bin/sh", "/bin/bash", "/bin/cat", "/bin/ls", "/bin/sleep")), python]
    objects = [*programs, *library.rglob("*.so"), *environment.rglob("*.so*")]
    for path in {*programs, *(Path("/usr/bin") / python.name, Path("/usr/bin/python3")), *_libraries(objects)}:
        if path.exists() and environment not in path.parents:
            # Whatever the name by which it is asked for, here is the file itself.
            archive.add(path.resolve(), _inside(path), recursive=False)
    archive.add(library, _inside(library), filter=_without_tests)
    archive.add(environment, _inside(environment))


def _inside(path: Path) -> str:
    """Return where a file is in the image, whose /bin and /lib are links into /usr."""
    parts = path.parts[1:]
    return str(Path(*(("usr",) if parts[0] in ("bin", "sbin", "lib", "lib64") else ()), *parts))


def _without_tests(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if {"test", "tests", "idle_test", "dist-packages"} & set(Path(member.name).parts) else member


def _libraries(objects: Iterable[Path]) -> Iterator[Path]:
    """Yield the shared libraries that programs and modules are linked with, and the loader."""
    done = subprocess.run(["ldd", *map(str, objects)], capture_output=True, text=True, timeout=120, check=False)
    for line in done.stdout.splitlines():
        yield from (Path(word) for word in line.split() if word.startswith("/") and not word.endswith(":"))


def _add_directory(archive: tarfile.TarFile, name: str, mode: int, owner: int = 0) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.uid, member.gid = tarfile.DIRTYPE, mode, owner, owner
    archive.addfile(member)


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(text.encode())
    archive.addfile(member, BytesIO(text.encode()))


@contextmanager
def docker_engine() -> Iterator[DockerEngine]:
    """Run an engine that has IMAGE."""
    with DockerEngine() as engine:
        with packed_image() as packed:
            engine.make_image(packed)
        yield engine
