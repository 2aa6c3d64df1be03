"""Causes known by what container engines, clusters, batch systems and the network say."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from .evidence import Evidence, Rule, Saying, Verdict, one_line, search, unwrapped

__all__ = ["ENGINE_RULES"]

_WAIT: Final = "Try again later, or stop a server or a job that you no longer need."

_AWAY: Final = (
    "Try again in a moment; if it keeps happening, the administrator has to look whether that system runs and the "
    "Hub may use it."
)


def _cluster_away(given: Evidence) -> Verdict | None:
    # The words are those of any connection; in a spawner for Kubernetes it is the one to the API server.
    if "kube" in given.plugin.lower() and given.phase == "starting" and search(
        r"Cannot connect to host|ServerDisconnected|Server disconnected", f"{given.message}\n{given.because}"
    ):
        return Verdict(
            "engine-unreachable", f"The system that runs the servers does not answer: {one_line(given.message)}", _AWAY
        )
    return None


def _hub_not_permitted(given: Evidence) -> Verdict | None:
    said = "\n".join(unwrapped(line) for line in given.text.splitlines())
    found = search(r"is forbidden: (User .* cannot \w+ resource .*)$", said)
    # A list that is refused says no more than this.
    silent = re.fullmatch(r"\(403\)\s+Reason: Forbidden\s*", given.message)
    if found is None and silent is None:
        return None
    why = one_line(found.group(1)) if found else "it answered 403 Forbidden."
    return Verdict(
        "scheduler-refused",
        f"The cluster does not let the Hub start servers: {why}",
        "The administrator has to give the Hub's service account that permission, in its Role.",
    )


def _registry_away(given: Evidence) -> Verdict | None:
    # The engine names the registry only; which image it was asked for is in the address of the request. An image whose
    # name is misspelt is looked for in a registry too.
    found = search(
        r"/images/create\?(?:\S*&)?fromImage=([^\s&:]+)\S*: .*?\(\"(.*(?:no such host|connection refused|no route to host|"
        r"network is unreachable|timeout|deadline exceeded|request canceled).*)\"\)$",
        given.message,
    )
    if found is None:
        return None
    return Verdict(
        "unreachable",
        f"The container image {unquote(found.group(1))} is not there, and the registry that may have it cannot be "
        f"reached: {one_line(found.group(2))}",
        "Check the image's name, or choose another image; otherwise tell the administrator.",
    )


ENGINE_RULES: Final[tuple[Rule, ...]] = (
    _registry_away,
    Saying(
        "image-denied",
        r"pull access denied|requested access to the resource is denied|unauthorized: |authentication required|"
        r"toomanyrequests|no basic auth credentials",
        "The registry does not give out the container image: {line}",
        "Check the image's name; the administrator may have to log in to the registry where the servers run.",
    ),
    Saying(
        "image-missing",
        r"ImageNotFound|Failed to pull image|is not present with pull policy|ErrImageNeverPull|ErrImagePull|ImagePullBackOff|"
        r"InvalidImageName|manifest (?:for \S+ )?(?:not found|unknown)|"
        r"No such image|repository \S+ not found",
        "The container image for the server could not be fetched: {line}",
        "Choose another image, or ask the administrator to check the name and tag of the image.",
    ),
    Saying(
        "name-not-found",
        r"Name or service not known|Temporary failure in name resolution|nodename nor servname|No address associated|"
        r"NameResolutionError|getaddrinfo failed|gaierror|no such host",
        "A machine's name was not found: {line}",
    ),
    Saying(
        "engine-unreachable",
        r"Error while fetching server API version:.*Permission ?denied|permission denied while trying to connect to the Docker",
        "The Hub may not use the system that runs the servers: {line}",
        "The administrator has to give the Hub's account that right; for Docker, by the group docker.",
    ),
    Saying(
        "engine-unreachable",
        r"Cannot connect to the Docker daemon|Error while fetching server API version|Is the docker daemon running|"
        r"Unable to contact slurm controller|Munge (?:en|de)code failed|Could not establish a configuration source|Failed to connect to (?:system scope )?bus|cannot connect to server|"
        r"MaxRetryError|Max retries exceeded with url|\('Connection aborted\.'",
        "The system that runs the servers does not answer: {line}",
        _AWAY,
    ),
    _cluster_away,
    _hub_not_permitted,
    Saying(
        "limit-reached",
        r"exceeded quota|job submit limit|QOSMax\w+|Assoc\w*(?:Max|Grp)\w+|would exceed \S+ .*limit|queue is full|"
        r"Maximum number of (?:user )?jobs|Pending job limit",
        "The system that runs the servers allows no more at the moment: {line}",
        _WAIT,
    ),
    Saying(
        "scheduler-refused",
        r"(?:sbatch|srun|salloc|qsub|bsub|condor_submit): error|^(?:qsub|bsub): |Batch job submission failed|Unable to run job|"
        r"Request aborted by \S+|batch job submission failure|admission webhook \S+ denied|violates PodSecurity|Forbidden.*\bpods?\b",
        "The scheduler refused the server: {line}",
        "Choose other options, such as a smaller server or another queue; otherwise tell the administrator.",
    ),
    Saying(
        "machine-lost",
        r"^The machine \S+ is (?:down|disconnected|unknown)\b",
        "The server is lost with the machine that it ran on: {line}",
        "Start it again, on another machine. What it held in memory is gone; your files are there if they lie where all "
        "machines find them.",
    ),
    Saying(
        "no-capacity",
        # A machine that is full meets the conditions; it may have room later.
        r"no suitable node(?!.*insufficient resources).*constraints not satisfied",
        "No machine meets the conditions for the server: {line}",
        "Choose other options. Otherwise the administrator has to look whether the machines meant for it are there, and "
        "have the labels that its placement asks for.",
    ),
    Saying(
        "no-capacity",
        r"Insufficient (?:cpu|memory|ephemeral|nvidia)|FailedScheduling|\b\d+/\d+ nodes are available|Unschedulable|"
        r"no suitable node|"
        # A job that waited and then ran had its place.
        r"(?:(?:queue|pending)\b.*\((?:Resources|Priority|Nodes required.*)\)|pending in queue)(?![\s\S]*\bjob running\b)",
        "No machine has room for the server at the moment: {line}",
        "Try again later, or choose a smaller server.",
    ),
    Saying(
        "exited",
        r"batch job has disappeared",
        "The batch job ended, or was taken away, before its server had started.",
        "Try again; if it keeps happening, look at the job's own output, or ask the administrator to.",
    ),
)
"""In this order: the wording of one may contain that of a later one."""
