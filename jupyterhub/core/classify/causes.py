"""Every cause that a failure of a server can have: what it is called, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

__all__ = ["CAUSES", "Cause", "title_of"]


class Cause(NamedTuple):
    """`title` is the heading that the server's owner reads, `meaning` the sentence of the documentation."""

    title: str
    meaning: str


CAUSES: Final[Mapping[str, Cause]] = MappingProxyType(
    {
        # What somebody decided.
        "refused": Cause("The start was refused", "A hook or the spawner refused the start, and said why."),
        "option-refused": Cause("An option cannot be used", "One of the chosen options does not fit."),
        "log-in-stale": Cause("Please log in again", "The log-in has to be renewed before a server is started."),
        "cancelled": Cause("The start was cancelled", "Somebody stopped the server while it was starting."),
        # What happens before the spawner is asked.
        "auth-state-missing": Cause(
            "Your log-in left nothing to start with",
            "A hook needs the authentication state of the log-in, and there is none or it cannot be decrypted.",
        ),
        "hook-failed": Cause("The start could not be prepared", "A hook that runs before the start raised an error."),
        "prepare-timeout": Cause("Preparing the start took too long", "A hook that runs before the start did not end."),
        # The machine or the image.
        "command-not-found": Cause("The server's command is missing", "The program of `Spawner.cmd` is not there."),
        "command-not-executable": Cause(
            "The server's command cannot be run",
            "The program is there, but may not be executed or is for another system.",
        ),
        "module-missing": Cause("A Python module is missing", "The server's environment lacks a module that it needs."),
        "wrong-version": Cause(
            "The server's software does not fit", "What the server runs is too old, too new, or does not fit together."
        ),
        "no-account": Cause("There is no account", "The user has no account on the machine that runs the servers."),
        "directory-missing": Cause(
            "The server's directory does not exist", "What `Spawner.notebook_dir` names is not there for this user."
        ),
        "home-unusable": Cause("The home directory cannot be used", "It is missing, or the user may not enter it."),
        "permission-denied": Cause("Something may not be used", "The server may not use a file that it needs."),
        "disk-full": Cause("There is no space left", "A disk is full, or a quota of disk space is used up."),
        "port-taken": Cause("The server's port is taken", "Something else listens where the server should."),
        # The server's process.
        "out-of-memory": Cause("There was not enough memory", "The server needed more memory than it may have."),
        "killed": Cause("The server was killed", "A signal ended the server; nobody using the Hub had asked for that."),
        "exited": Cause(
            "The server ended by itself", "The server's process ended, and said nothing that is recognised."
        ),
        "start-timeout": Cause(
            "The server took too long to start", "`Spawner.start` did not return in `start_timeout`."
        ),
        "port-never-opened": Cause(
            "The server did not answer in time", "The server runs, but nothing answered within `http_timeout`."
        ),
        "bad-answer": Cause(
            "The server answers only with errors",
            "Something answers at the server's address, but with HTTP errors, or not in HTTP at all.",
        ),
        # Engines: containers, clusters, batch systems.
        "image-missing": Cause("The image was not found", "There is no container image of that name and tag."),
        "image-denied": Cause("The image may not be fetched", "The registry does not give the image to this system."),
        "engine-unreachable": Cause(
            "The system that runs the servers is away",
            "The container engine, the cluster or the batch system does not answer.",
        ),
        "scheduler-refused": Cause(
            "The scheduler refused the server", "The batch system or the cluster does not accept such a job."
        ),
        "limit-reached": Cause("A limit is reached", "The batch system or the cluster allows no more at the moment."),
        "no-capacity": Cause(
            "There is no free place",
            "All machines that the server could run on are in use, or none meets its conditions.",
        ),
        "machine-lost": Cause(
            "The server's machine is gone",
            "The machine that ran the server does not answer any more, and the cluster has given the server up.",
        ),
        # The network.
        "name-not-found": Cause(
            "A machine's name was not found", "The name service does not know a name that is needed."
        ),
        "unreachable": Cause(
            "Something cannot be reached", "A connection that is needed was refused, or has no route."
        ),
        "route-timeout": Cause(
            "The proxy did not answer in time", "The proxy did not take the server's route in time."
        ),
        "proxy-failed": Cause("The proxy could not be told", "The proxy refused the server's route, or is not there."),
        # Mistakes.
        "plugin-mistake": Cause("The spawner made a mistake", "The spawner broke its contract, or has a bug."),
        "unexplained": Cause("The server did not start", "No rule fits; the message is that of the error itself."),
        # Earlier runs, and what happens to running servers.
        "still-running": Cause("The old server is still there", "The last stop failed, and the server still runs."),
        "not-stopped": Cause("The server may not have stopped", "`Spawner.stop` failed; the server may still run."),
        "unhealthy": Cause("The server stopped working", "A running server failed its health checks."),
        "interrupted": Cause("The start was interrupted", "The Hub was restarted in the middle of the start."),
        "lease-lost": Cause("Another Hub has this server", "Another Hub process has taken the server over."),
    }
)


def title_of(cause: str) -> str:
    """Return the heading for a cause, a general one for a cause that a newer or older Hub has stored."""
    known = CAUSES.get(cause)
    return known.title if known else "The server did not start"
