"""What `Spawner.start` may return (plugins §3.5), and what it means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..core.errors import PluginMistake

if TYPE_CHECKING:
    from ..spawner import Spawner


def interpret_start_result(result: Any, spawner: Spawner) -> tuple[str, str, int]:
    """Return (scheme, host, port) of the server that `start` has started.

    Accepted: `(ip, port)`, a port alone, a URL text, or nothing when the plugin has filled `self.server` itself.
    Raises PluginMistake, naming the class and what it returned.
    """
    scheme = "https" if spawner.internal_ssl else "http"
    if isinstance(result, bool):
        raise _nonsense(spawner, result)
    if isinstance(result, tuple | list):
        if len(result) != 2:
            raise _nonsense(spawner, result)
        ip, port = result
        return scheme, str(ip or spawner.ip or "127.0.0.1").strip("[]"), _port(port, spawner, result)
    if isinstance(result, int):
        return scheme, str(spawner.ip or "127.0.0.1"), _port(result, spawner, result)
    if isinstance(result, str) and result:
        if "://" not in result:
            raise _nonsense(spawner, result)
        try:
            parts = urlsplit(result)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise _nonsense(spawner, result) from None
        if parts.scheme == "http+unix":
            return parts.scheme, parts.netloc, 80
        if not parts.hostname:
            raise _nonsense(spawner, result)
        return parts.scheme, parts.hostname, port
    if result is None or result == "":
        server = spawner.server
        if server is None or not server.port or not server.ip:
            raise PluginMistake(
                type(spawner).__name__,
                "start() returned nothing and left self.server without an address; return (ip, port)",
            )
        return server.proto, server.ip, server.port
    raise _nonsense(spawner, result)


def _port(value: Any, spawner: Spawner, result: Any) -> int:
    try:
        port = int(value)
    except (TypeError, ValueError):
        raise _nonsense(spawner, result) from None
    if not 0 < port < 65536:
        raise _nonsense(spawner, result)
    return port


def _nonsense(spawner: Spawner, result: Any) -> PluginMistake:
    text = repr(result)
    return PluginMistake(
        type(spawner).__name__,
        f"start() returned {text if len(text) < 120 else text[:117] + '...'}; return (ip, port), a port or a URL",
    )
