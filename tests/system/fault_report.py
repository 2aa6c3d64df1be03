"""Produce faults in a real Hub, and note what their owners read: on the page, by the API, in the log."""

from __future__ import annotations

import html
import json
import re
import tempfile
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .faults import Fault
from .hub_process import HubProcess, wait_for
from .person import Person

ROOT = Path(__file__).resolve().parents[2]

CONFIG = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from jupyterhub.runtime import routes
from tests.system.faults import FaultyAuthenticator, FaultyProxy, FaultySpawner
routes.ROUTE_TIMEOUT = 1
c.JupyterHub.spawner_class = FaultySpawner
c.JupyterHub.authenticator_class = FaultyAuthenticator
c.JupyterHub.proxy_class = FaultyProxy
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 0}}
c.JupyterHub.concurrent_spawn_limit = 0
c.JupyterHub.cleanup_servers = True
c.Spawner.consecutive_failure_limit = 0
c.SimpleLocalProcessSpawner.interrupt_timeout = c.SimpleLocalProcessSpawner.term_timeout = 1
"""

#: For the authentication state; the name service must not be asked for longer than a moment.
ENVIRONMENT = {"JUPYTERHUB_CRYPT_KEY": "0" * 64, "RES_OPTIONS": "timeout:1 attempts:1"}


@contextmanager
def faulty_hub() -> Iterator[HubProcess]:
    """Run a Hub of CONFIG in a directory that every account can get to: one of the servers needs that."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        hub = HubProcess(Path(directory, "hub"), CONFIG, env=ENVIRONMENT)
        try:
            hub.start()
            yield hub
        finally:
            hub.clean_up()


@dataclass
class Page:
    """What a person reads of /hub/spawn-pending/…."""

    status: int
    text: str

    def part(self, pattern: str) -> str:
        found = re.search(pattern, self.text, re.DOTALL)
        return " ".join(html.unescape(re.sub(r"<[^>]+>", "", found.group(1))).split()) if found else ""

    @property
    def title(self) -> str:
        return self.part(r"<h1[^>]*>(.*?)</h1>")

    @property
    def sentence(self) -> str:
        return self.part(r'class="failure-message">(.*?)</')

    @property
    def next_step(self) -> str:
        return self.part(r"<strong>What to do:</strong>(.*?)</p>")

    @property
    def failed_phase(self) -> str:
        found = re.search(r'data-phase="(\w+)"[^>]*class="failed"', self.text, re.DOTALL)
        return found.group(1) if found else ""

    @property
    def lines(self) -> list[str]:
        found = re.search(r'<pre class="log"[^>]*>(.*?)</pre>', self.text, re.DOTALL)
        return html.unescape(found.group(1)).splitlines() if found else []

    @property
    def without_lines(self) -> str:
        """The page without what the server itself said, which may be anything."""
        return re.sub(r'<pre class="log".*?</pre>', "", self.text, flags=re.DOTALL)


@dataclass
class Reading:
    """One fault as its owner and an operator read it."""

    name: str
    fault: Fault
    #: The last event of the progress stream; empty for a server that failed when it was ready.
    event: dict[str, Any] = field(default_factory=dict)
    #: Seconds from the failure until its owner's program had that event.
    told_after: float = 0.0
    model: dict[str, Any] = field(default_factory=dict)
    page: Page = field(default_factory=lambda: Page(0, ""))
    log: str = ""

    @property
    def failure(self) -> dict[str, Any]:
        found: dict[str, Any] = self.model.get("failure", {})
        return found


def produce(hub: HubProcess, faults: dict[str, Fault], password: str = "any") -> dict[str, Reading]:
    """Start the servers that these faults are to hit, and read what becomes of them."""
    with ThreadPoolExecutor(12) as pool:
        reading = pool.map(lambda name: _read(hub, name, faults[name], password), faults)
        readings = {each.name: each for each in reading}
    log = hub.log_path.read_text(errors="replace")
    for reading in readings.values():
        reading.log = log_entry(log, reading.name)
    return readings


def _read(hub: HubProcess, name: str, fault: Fault, password: str) -> Reading:
    reading = Reading(name, fault)
    person = Person(hub, name)
    assert person.log_in(password).status_code == 200
    answer = hub.start_server(name, options=reading.fault.options)
    if reading.fault.after_ready:
        hub.wait_ready(name)
        try:
            person.get(f"/user/{name}/fail")
        except OSError:
            pass
        wait_for(lambda: _stopped(hub, name).get("failure"), f"the failure of {name} is known")
    else:
        assert answer.status in (201, 202, *range(400, 600)), answer
        reading.event = last_event(hub, name)
        assert reading.event.get("failed"), f"{name}: {reading.event}"
        at = datetime.fromisoformat(reading.event["failure"]["at"])
        reading.told_after = (datetime.now(timezone.utc) - at).total_seconds()
    # At once, and again when all is cleared away: the same is said.
    page = person.get(f"/hub/spawn-pending/{name}")
    reading.page = Page(page.status_code, page.text)
    reading.model = wait_for(lambda: _settled(hub, name), f"{name} is cleared away", timeout=40)
    assert Page(0, person.get(f"/hub/spawn-pending/{name}").text).sentence == reading.page.sentence
    return reading


def _stopped(hub: HubProcess, name: str) -> dict[str, Any]:
    user = hub.api("GET", f"/users/{name}?include_stopped_servers").json()
    found: dict[str, Any] = user["servers"][""]
    return found


def _settled(hub: HubProcess, name: str) -> dict[str, Any] | None:
    model = _stopped(hub, name)
    return model if model["stopped"] else None


def last_event(hub: HubProcess, name: str) -> dict[str, Any]:
    """Follow a start by the API up to its terminal event."""
    request = urllib.request.Request(
        f"http://{hub.hub_ip}:{hub.hub_port}/hub/api/users/{name}/server/progress",
        headers={"Authorization": f"token {hub.token}"},
    )
    with urllib.request.urlopen(request, timeout=60) as stream:
        for line in stream:
            if line.startswith(b"data:"):
                event: dict[str, Any] = json.loads(line[5:])
                if event.get("failed") or event.get("ready"):
                    return event
    raise AssertionError(f"the progress of {name} ended without an end")


def log_entry(log: str, name: str) -> str:
    """Return the entry of the log that says why a server failed: its line, and those that belong to it."""
    found = re.search(rf"^\[[WE] [^\]]*\] Server {re.escape(name)}(?: did not start)?: .*?(?=^\[[DIWEC] |\Z)", log, re.M | re.S)
    return found.group(0) if found else ""
