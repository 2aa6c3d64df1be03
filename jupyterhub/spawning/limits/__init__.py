"""Limits of local servers that the kernel enforces: memory, processors, number of processes.

A server that has a limit gets a group of its own, made by one of several mechanisms; its process is put there before
it becomes the server, so that nothing it ever starts is outside.
"""

from .choice import Choice, choose, mechanism_of
from .mechanism import Group, LimitError, LimitMechanism, Limits, Usage, format_bytes, notices, unenforced_in
from .placement import Placement

__all__ = [
    "Choice",
    "Group",
    "LimitError",
    "LimitMechanism",
    "Limits",
    "Placement",
    "Usage",
    "choose",
    "format_bytes",
    "mechanism_of",
    "notices",
    "unenforced_in",
]
