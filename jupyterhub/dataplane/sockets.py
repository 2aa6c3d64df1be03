"""What is asked of the operating system about sockets."""

from __future__ import annotations

import errno
import os
import resource
import socket
import stat
from typing import Any

__all__ = ["most_connections", "remove_stale_socket", "watch_peer"]

#: Files for everything but clients and their targets: ports, logs, routes, the REST API.
_RESERVED_FILES = 200


def watch_peer(connection: Any) -> None:
    """Let the kernel find peers that vanished without a word, within about two minutes."""
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 20), ("TCP_KEEPCNT", 4)):
        option = getattr(socket, name, None)
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


def most_connections() -> int:
    """Clients for which there are files enough: each may need a second one for its target."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return 1 << 20
    return max(16, (files - _RESERVED_FILES) // 2)


def remove_stale_socket(path: str) -> None:
    """Remove a socket file that nobody listens on any more: it would keep us from listening. Raises OSError."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            pass
        else:
            raise OSError(errno.EADDRINUSE, "the socket is in use")
