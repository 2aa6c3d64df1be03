"""Where a server listens, from the URL that the Hub gives it."""

from __future__ import annotations

from urllib.parse import urlsplit

__all__ = ["bind_address"]


def bind_address(service_url: str) -> tuple[str, int]:
    """Return (ip, port) to listen on; an empty ip is every interface, the default port is the scheme's."""
    parts = urlsplit(service_url)
    port = parts.port
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    return parts.hostname or "", port
