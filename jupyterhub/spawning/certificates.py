"""Internal TLS for one server (config §5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..spawner import Spawner


def create_certificates(spawner: Spawner) -> dict[str, str]:
    """Make the certificate of a server, signed by the Hub's authority for servers; returns the paths."""
    from certipy import Certipy

    names = list(spawner.ssl_alt_names() if callable(spawner.ssl_alt_names) else spawner.ssl_alt_names)
    if spawner.ssl_alt_names_include_local:
        names += [name for name in ("DNS:localhost", "IP:127.0.0.1") if name not in names]
    common_name = spawner.user.name or "service"
    store = Certipy(store_dir=spawner.internal_certs_location)
    record = store.create_signed_pair(f"user-{common_name}", "notebooks-ca", alt_names=names, overwrite=True)
    return {
        "keyfile": record["files"]["key"],
        "certfile": record["files"]["cert"],
        "cafile": (spawner.internal_trust_bundles or {})["notebooks-ca"],
    }
