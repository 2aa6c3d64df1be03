"""The Hub's own authorities for internal TLS, and the certificates of Hub and proxy (config §5).

The store is certipy's: a directory with an index and one sub-directory per record. Servers' certificates are made at
each start, by their spawner.
"""

from __future__ import annotations

import os
import shutil
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..spawning.certificates import keep_key_private, make_pair, open_store

if TYPE_CHECKING:
    from certipy import Certipy

#: Whose certificates are accepted by whom: authority → authorities in its bundle.
TRUST = {
    "hub-ca": ("hub-ca", "notebooks-ca", "proxy-api-ca", "proxy-client-ca", "services-ca"),
    "proxy-api-ca": ("hub-ca", "services-ca", "notebooks-ca"),
    "proxy-client-ca": ("hub-ca", "notebooks-ca"),
    "notebooks-ca": ("hub-ca", "proxy-client-ca"),
    "services-ca": ("hub-ca", "proxy-api-ca"),
}
LOCAL_NAMES = ("IP:127.0.0.1", "IP:0:0:0:0:0:0:0:1", "DNS:localhost")
#: Name of the Hub's own pair.
HUB = "hub-internal"


def prepare_internal_tls(app: Any) -> None:
    """Make or find everything, and set the application's attributes `internal_…` to the files.

    Authorities of `external_ssl_authorities` are taken as they are; existing pairs are used again, unless
    `recreate_internal_certs` empties the store first.
    """
    # Servers and services run in other directories.
    location = app.internal_certs_location = os.path.abspath(os.path.expanduser(app.internal_certs_location))
    if app.recreate_internal_certs and os.path.isdir(location):
        app.log.info("Emptying the store of internal certificates, %s", location)
        shutil.rmtree(location)
    trust = {name: list(trusted) for name, trusted in TRUST.items()}
    with open_store(location) as store:
        for name, files in app.external_ssl_authorities.items():
            _register_external(store, name, files)
        for name in TRUST:
            _make_authority(store, name)
        bundles: dict[str, str] = store.trust_from_graph(trust)
        app.internal_trust_bundles = bundles
        app.internal_ssl_components_trust = trust
        app.internal_ssl_authorities = {name: store.store.get_record(name) for name in TRUST}
        hub = _pair(store, HUB, "hub-ca", hub_names(app))
        names = [*LOCAL_NAMES, *app.trusted_alt_names]
        app.internal_proxy_certs = {
            name: _pair(store, name, f"{name}-ca", names) for name in ("proxy-api", "proxy-client")
        }
    app.internal_ssl_key, app.internal_ssl_cert = hub["keyfile"], hub["certfile"]
    app.internal_ssl_ca = bundles["hub-ca"]


def hub_names(app: Any) -> list[str]:
    """Return the names under which proxy, servers and services reach the Hub."""
    names = list(LOCAL_NAMES)
    host = urlsplit(app.subdomain_host).hostname if app.subdomain_host else None
    if host:
        names.append(f"DNS:{host}")
    names.append(f"DNS:{socket.getfqdn()}")
    return [*dict.fromkeys([*names, *app.trusted_alt_names])]


def _register_external(store: Certipy, name: str, files: dict[str, str]) -> None:
    known = {kind: files.get(kind, "") for kind in ("key", "cert", "ca")}
    store.store.add_record(name, files=known, is_ca=True, overwrite=True)


def _make_authority(store: Certipy, name: str) -> None:
    from certipy import CertNotFoundError

    try:
        store.store.get_record(name)
    except CertNotFoundError:
        keep_key_private(store, name)
        store.create_ca(name)


def _pair(store: Certipy, name: str, authority: str, alternative_names: list[str]) -> dict[str, str]:
    """Return the files of a pair, made if it is not there."""
    from certipy import CertNotFoundError

    try:
        record = store.store.get_record(name)
    except CertNotFoundError:
        record = make_pair(store, name, authority, alternative_names)
    return {"keyfile": record["files"]["key"], "certfile": record["files"]["cert"], "cafile": record["files"]["ca"]}
