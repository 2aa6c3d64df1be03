"""What is asked of the operating system about sockets."""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import stat
from typing import Any

from .options import Listen

__all__ = [
    "BACKLOG",
    "CannotListen",
    "bind",
    "has_something_to_say",
    "most_connections",
    "most_idle",
    "reason",
    "watch_peer",
]

BACKLOG = 2048
#: Files for everything but clients and their targets: ports, logs, routes, the REST API.
_RESERVED_FILES = 200


class CannotListen(Exception):
    """An address cannot be listened on. The message names it and says why."""


def bind(name: str, where: Listen, *, shared: bool = False, among_ours: bool = False) -> list[socket.socket]:
    """Sockets for an address, one for each family, that do not listen yet. Raises CannotListen.

    `shared`: others of the same user may be bound to it too, and the kernel deals connections out to them.
    `among_ours`: some are, and they are ours.
    """
    try:
        if where.socket:
            _remove_stale_socket(where.socket)
            return [_bound(socket.AF_UNIX, where.socket)]
        sockets: list[socket.socket] = []
        places = socket.getaddrinfo(where.ip, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(places):
            try:
                if shared and not among_ours:
                    # Strangers that share the port would get a part of our clients.
                    _bound(family, address).close()
                sockets.append(_bound(family, address, shared=shared))
            except OSError as error:
                if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) and len(places) > 1:
                    # A name may stand for addresses that this machine does not have.
                    continue
                for each in sockets:
                    each.close()
                raise
        if not sockets:
            raise OSError("this machine has no such address")
        return sockets
    except OSError as error:
        raise CannotListen(f"Cannot listen on {where} ({name}): {reason(error)}") from None


def reason(error: OSError) -> str:
    """Why listening failed, in words."""
    if error.errno == errno.EADDRINUSE:
        return "it is in use by another process"
    if error.errno == errno.EACCES:
        return "this user may not (ports below 1024 need a privilege)"
    return str(error)


def _bound(family: int, address: Any, *, shared: bool = False) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # Connections inherit it.
            watch_peer(bound)
        bound.bind(address)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def watch_peer(connection: Any) -> None:
    """Let the kernel find peers that vanished without a word, within about two minutes."""
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 20), ("TCP_KEEPCNT", 4)):
        option = getattr(socket, name, None)
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


def _files() -> int:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return files if files != resource.RLIM_INFINITY else 1 << 20


def most_connections() -> int:
    """Clients for which there are files enough: each may need a second one for its target."""
    return max(16, (_files() - _RESERVED_FILES - most_idle()) // 2)


def most_idle() -> int:
    """Connections to targets that may be kept for later, all targets together."""
    return min(1024, max(32, _files() // 40))


def has_something_to_say(connection: Any) -> bool:
    """Whether a read would not have to wait."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _remove_stale_socket(path: str) -> None:
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
