"""Limits by systemd: a transient slice that has them, and in it a scope with the server's process.

A scope goes when its last process does, and what the kernel has counted goes with it; the slice stays until it is
stopped. Servers in slices are outside the Hub's own unit, so that a restart of that unit leaves them alone.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from . import cgroup1, cgroup2
from .files import REMOVE_TIMEOUT, Hierarchies, counter
from .mechanism import CPU, KINDS, MEMORY, PROCESSES, Group, LimitError, Limits, Usage

__all__ = ["SystemdScopes"]

_SERVICE: Final = "org.freedesktop.systemd1"
_ROOT: Final = "/org/freedesktop/systemd1"
_MANAGER: Final = f"{_SERVICE}.Manager"
_CONTROLLER: Final = {MEMORY: "memory", CPU: "cpu", PROCESSES: "pids"}
_CALL_TIMEOUT: Final = 30.0
"""Seconds that systemd has for an answer."""


class SystemdScopes:
    """Scopes of the system's systemd, which takes them from root only, or of the Hub's own user's."""

    def __init__(self, bus: Literal["system", "user"] = "system") -> None:
        self.bus = bus
        self.name = "systemd" if bus == "system" else "systemd --user"

    # -- talking to it --

    def _busctl(self, *words: str) -> str:
        command = ["busctl", f"--{self.bus}", *words]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_CALL_TIMEOUT, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LimitError(f"systemd could not be asked: {error}") from error
        if done.returncode:
            raise LimitError(f"systemd refused: {done.stderr.strip() or done.returncode}")
        return done.stdout.strip()

    def _start_unit(self, name: str, properties: Sequence[Sequence[str]]) -> None:
        words = [word for each in properties for word in each]
        self._busctl(
            *("call", _SERVICE, _ROOT, _MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail"),
            *(str(len(properties)), *words, "0"),
        )

    def _property(self, path: str, interface: str, name: str) -> str:
        # The answer is its type and the value in quotation marks.
        return self._busctl("get-property", _SERVICE, path, interface, name).partition(" ")[2].strip('"')

    def _stop_unit(self, name: str) -> None:
        try:
            self._busctl("call", _SERVICE, _ROOT, _MANAGER, "StopUnit", "ss", name, "replace")
        except LimitError as error:
            if "not loaded" not in str(error):
                raise

    # -- what there is --

    def why_not(self) -> dict[str, str]:
        """systemd may not run here, not be reachable, or not have a controller itself."""
        problem = self._problem()
        if problem:
            return dict.fromkeys(KINDS, problem)
        try:
            own = self._property(_ROOT, _MANAGER, "ControlGroup")
        except LimitError as error:
            return dict.fromkeys(KINDS, str(error))
        hierarchies = Hierarchies.of_this_process()
        if hierarchies.by_controller.keys() >= set(_CONTROLLER.values()) and self.bus == "system":
            return {}
        given = cgroup2.controllers_in(Path(f"/sys/fs/cgroup{own}"))
        return {
            kind: f"{self.name} may not limit it ({controller} is not delegated to it)"
            for kind, controller in _CONTROLLER.items()
            if controller not in given
        }

    def _problem(self) -> str:
        if not os.path.isdir("/run/systemd/system"):
            return "systemd does not run this machine"
        if shutil.which("busctl") is None:
            return "the program busctl is not installed"
        if self.bus == "system":
            return "" if os.geteuid() == 0 else "only root may ask systemd for scopes"
        if os.geteuid() == 0:
            return "root uses the system's systemd"
        runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}")
        return "" if os.path.exists(f"{runtime}/bus") else "the Hub's account has no systemd of its own running"

    # -- groups --

    def plan(self, name: str, limits: Limits) -> Group:
        """Names for the units."""
        # A dash would make it a slice within another one, which would stay.
        plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
        return Group(self.name, name, limits, {"slice": f"{plain}.slice"})

    def create(self, group: Group) -> Group:
        """Start the slice."""
        self.remove(group)
        limits = group.limits
        properties: list[tuple[str, ...]] = [
            ("Description", "s", f"A server of JupyterHub ({group.name})"),
            ("MemoryAccounting", "b", "true"),
            ("CPUAccounting", "b", "true"),
            ("TasksAccounting", "b", "true"),
        ]
        if limits.memory is not None:
            properties += [("MemoryMax", "t", str(limits.memory)), ("MemorySwapMax", "t", "0")]
        if limits.cpu is not None:
            properties.append(("CPUQuotaPerSecUSec", "t", str(max(10_000, int(limits.cpu * 1_000_000)))))
        if limits.processes is not None:
            properties.append(("TasksMax", "t", str(limits.processes)))
        self._start_unit(group.places["slice"], properties)
        deadline = time.monotonic() + _CALL_TIMEOUT
        while not (control_group := self._control_group(group)):
            # The call gives back a job; the slice is there a moment later.
            if time.monotonic() > deadline:
                raise LimitError(f"systemd did not start {group.places['slice']}")
            time.sleep(0.01)
        return dataclasses.replace(group, places={**group.places, "path": control_group})

    def _control_group(self, group: Group) -> str:
        """Return where the slice is in the hierarchy, empty while it is not there."""
        escaped = re.sub(r"[^A-Za-z0-9]", lambda found: f"_{ord(found.group()):02x}", group.places["slice"])
        return self._property(f"{_ROOT}/unit/{escaped}", f"{_SERVICE}.Slice", "ControlGroup")

    def place(self, group: Group, pid: int) -> None:
        """Start a scope with it, and wait until it is there."""
        if self._directories(group) == (None, {}):
            # systemd would make a slice of that name, without limits.
            raise LimitError(f"{group.places['slice']} is gone")
        scope = f"{group.places['slice'].removesuffix('.slice')}_{pid}.scope"
        properties = [
            ("Description", "s", f"A server of JupyterHub ({group.name})"),
            ("Slice", "s", group.places["slice"]),
            ("PIDs", "au", "1", str(pid)),
            ("KillSignal", "i", "9"),
            ("CollectMode", "s", "inactive-or-failed"),
        ]
        try:
            # A kernel that takes too much is killed alone; by default systemd would then end the server too.
            self._start_unit(scope, [*properties, ("OOMPolicy", "s", "continue")])
        except LimitError as error:
            if "OOMPolicy" not in str(error):
                raise
            # An older systemd, which does not know this of scopes and leaves them alone.
            self._start_unit(scope, properties)
        deadline = time.monotonic() + _CALL_TIMEOUT
        while scope not in Path(f"/proc/{pid}/cgroup").read_text():
            if time.monotonic() > deadline:
                raise LimitError(f"systemd did not put process {pid} into {scope}")
            time.sleep(0.005)

    def _directories(self, group: Group) -> tuple[Path | None, dict[str, Path]]:
        """Return where the slice is, in version 2 and by controllers of version 1."""
        inside = group.places.get("path", "").strip("/")
        if not inside:
            return None, {}
        unified = Path("/sys/fs/cgroup") / inside
        if unified.is_dir():
            return unified, {}
        places = {name: Path("/sys/fs/cgroup") / name / inside for name in ("memory", "cpu", "cpuacct", "pids")}
        return None, {name: path for name, path in places.items() if path.is_dir()}

    def usage(self, group: Group) -> Usage:
        """Read the counters of the slice; version 1 does not count there what was killed in the scope."""
        unified, places = self._directories(group)
        if unified is not None:
            used = cgroup2.usage_in(unified)
            # Before Linux 6.11 a refusal is counted where it was wanted, not where the limit is.
            refused = max((counter(file, "max") for file in unified.glob("*.scope/pids.events")), default=0)
            return dataclasses.replace(used, refused_processes=max(used.refused_processes, refused))
        return cgroup1.usage_in(places)

    def remove(self, group: Group) -> None:
        """Stop the slice, and with it the scopes, whose processes are killed."""
        if "path" not in group.places:
            group = dataclasses.replace(group, places={**group.places, "path": self._control_group(group)})
        self._stop_unit(group.places["slice"])
        deadline = time.monotonic() + max(REMOVE_TIMEOUT, _CALL_TIMEOUT)
        while True:
            unified, places = self._directories(group)
            if unified is None and not places:
                return
            if time.monotonic() > deadline:
                raise LimitError(f"systemd did not remove {group.places['slice']}")
            time.sleep(0.01)
