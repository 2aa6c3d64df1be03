"""Faults of engines, met by released spawners: dockerspawner and batchspawner, unmodified.

The engines are played: a Docker engine that answers as Docker does when something is wrong, and commands that say what
Slurm says. Everything else is real.
"""

from __future__ import annotations

import http.server
import json
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .fault_report import Reading, produce
from .faults import Fault
from .hub_process import HubProcess

DOCKER = """
def choose_image(spawner):
    spawner.image = f"lab/{spawner.user.name}:7"
c.JupyterHub.spawner_class = "docker"
c.Spawner.pre_spawn_hook = choose_image
c.Spawner.consecutive_failure_limit = 0
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
"""
SLURM = """
import os
c.JupyterHub.spawner_class = "slurm"
c.BatchSpawnerBase.exec_prefix = ""
c.BatchSpawnerBase.startup_poll_interval = 0.05
programs = os.environ["TEST_PROGRAMS"]
c.SlurmSpawner.batch_submit_cmd = f"{programs}/sbatch --parsable"
c.SlurmSpawner.batch_query_cmd = f"{programs}/squeue -h -j {{job_id}} -o '%T %B'"
c.SlurmSpawner.batch_cancel_cmd = f"{programs}/scancel {{job_id}}"
c.SlurmSpawner.start_timeout = 5
c.Spawner.consecutive_failure_limit = 0
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
"""

WITHOUT_ENGINE = {
    "engine-down": Fault(
        "The Docker engine does not run", "engine-unreachable", "starting", ("FileNotFoundError",),
    ),
}  # fmt: skip
WITH_ENGINE = {
    "image-missing": Fault("There is no such image", "image-missing", "starting", ("manifest unknown",)),
    "image-denied": Fault(
        "The registry does not give the image to this machine", "image-denied", "starting", ("pull access denied",),
    ),
    "no-command": Fault(
        "The image lacks the command", "command-not-found", "starting", ("'jupyterhub-singleuser'",),
    ),
    "port-allocated": Fault("The container's port is taken", "port-taken", "starting", ("already allocated",)),
}  # fmt: skip
#: batchspawner wants to know of accounts; these are on every machine.
SCHEDULER = {
    "daemon": Fault(
        "Slurm has no machine of the kind that is asked for", "scheduler-refused", "starting",
        ("Requested node configuration is not available",),
    ),
    "bin": Fault("Slurm's limit of jobs is reached", "limit-reached", "starting", ("QOSMaxSubmitJobPerUserLimit",)),
    "sys": Fault("Slurm's controller is away", "engine-unreachable", "starting", ("Unable to contact slurm controller",)),
    "games": Fault("The batch job dies while it waits", "exited", "starting", ("disappeared",)),
    "mail": Fault(
        "The batch job waits for longer than start may take", "no-capacity", "starting", ("Pending in queue",),
    ),
}  # fmt: skip

COMMANDS = {
    "sbatch": """#!/bin/sh
cat > /dev/null
case "$JUPYTERHUB_USER" in
daemon) echo "sbatch: error: Batch job submission failed: Requested node configuration is not available" >&2; exit 1;;
bin) echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2
     echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)" >&2; exit 1;;
sys) echo "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)" >&2; exit 1;;
games) echo 7;;
*) echo 8;;
esac
""",
    "squeue": """#!/bin/sh
case "$*" in *"-j 8"*) echo "PENDING ";; esac
""",
    "scancel": "#!/bin/sh\n",
}


class _Engine(http.server.BaseHTTPRequestHandler):
    """What the Docker engine's API answers in the cases above."""

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.endswith("/version"):
            self._answer(200, {"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Version": "20.10.24"})
        elif "/images/" in path and "lab/image-" not in path:
            self._answer(200, {"Id": "sha256:7", "Config": {"Cmd": ["jupyterhub-singleuser"]}})
        else:
            self._answer(404, {"message": f"No such object: {path}"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        if parts.path.endswith("/images/create"):
            image = parse_qs(parts.query)["fromImage"][0]
            self._answer(
                404,
                {
                    "message": f"pull access denied for {image}, repository does not exist or may require 'docker login'"
                    if image == "lab/image-denied"
                    else f"manifest for {image}:7 not found: manifest unknown: manifest unknown"
                },
            )
        elif parts.path.endswith("/containers/create"):
            self._answer(201, {"Id": parse_qs(parts.query)["name"][0], "Warnings": []})
        elif re.search(r"jupyter-no.*/start$", parts.path):
            self._answer(
                400,
                {
                    "message": "failed to create task for container: OCI runtime create failed: runc create failed: unable "
                    'to start container process: exec: "jupyterhub-singleuser": executable file not found in $PATH: unknown'
                },
            )
        else:
            self._answer(
                500,
                {
                    "message": "driver failed programming external connectivity on endpoint jupyter: Bind for "
                    "127.0.0.1:8888 failed: port is already allocated"
                },
            )

    def log_message(self, *args: object) -> None:
        pass

    def address_string(self) -> str:
        return "socket"


@contextmanager
def docker_engine(path: Path) -> Iterator[None]:
    """Play a Docker engine at a socket."""
    with socketserver.ThreadingUnixStreamServer(str(path), _Engine) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join(10)
            path.unlink()


def produce_engine_faults(directory: Path, commands: Path) -> dict[str, Reading]:
    """Run a Hub with each of the spawners, from the environment that has them, and read all of these faults."""
    readings: dict[str, Reading] = {}
    socket = directory / "engine"
    docker = HubProcess(directory / "docker", DOCKER, bin_dir=commands, env={"DOCKER_HOST": f"unix://{socket}"})
    programs = directory / "programs"
    programs.mkdir()
    for name, text in COMMANDS.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    slurm = HubProcess(directory / "slurm", SLURM, bin_dir=commands, env={"TEST_PROGRAMS": str(programs)})
    try:
        docker.start()
        readings |= produce(docker, WITHOUT_ENGINE)
        with docker_engine(socket):
            readings |= produce(docker, WITH_ENGINE)
        slurm.start()
        readings |= produce(slurm, SCHEDULER)
    finally:
        docker.clean_up()
        slurm.clean_up()
    return readings
