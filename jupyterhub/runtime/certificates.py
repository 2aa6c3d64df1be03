"""The Hub's own authorities for internal TLS, and the certificates of Hub and proxy (config §5).

The store is certipy's: a directory with an index and one sub-directory per record. Servers' certificates are made at
each start, by their spawner.
"""

from __future__ import annotations

import os
import shutil
import socket
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..core.clock import utcnow
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
#: How long before its end a pair is replaced, at a start of the Hub.
RENEW_BEFORE = timedelta(days=30)
#: Name of the Hub's own pair.
HUB = "hub-internal"


def prepare_internal_tls(app: Any) -> None:
    """Make or find everything, and set the application's attributes `internal_…` to the files.

    Authorities of `external_ssl_authorities` are taken as they are; existing pairs are used again while they
    are good, unless `recreate_internal_certs` empties the store first. Raises OSError when the store or a file cannot be
    used, ValueError for an authority that cannot sign or a name that is none.
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


def _is_good(path: str, alternative_names: list[str]) -> bool:
    from cryptography.x509 import DNSName, IPAddress, SubjectAlternativeName, load_pem_x509_certificate

    try:
        certificate = load_pem_x509_certificate(Path(path).read_bytes())
    except (OSError, ValueError):
        return False
    names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    known = {f"DNS:{name}" for name in names.get_values_for_type(DNSName)}
    known |= {f"IP:{address}" for address in names.get_values_for_type(IPAddress)}
    wanted = {name for name in alternative_names if name.startswith("DNS:")}
    wanted |= {f"IP:{ip_address(name[3:])}" for name in alternative_names if name.startswith("IP:")}
    return wanted <= known and certificate.not_valid_after_utc - utcnow() > RENEW_BEFORE


def _pair(store: Certipy, name: str, authority: str, alternative_names: list[str]) -> dict[str, str]:
    """Return the files of a pair; it is made if there is none, or none that is good for the names and for a while."""
    record = store.store.store.get(name)
    if record is None or not _is_good(record["files"]["cert"], alternative_names):
        record = make_pair(store, name, authority, alternative_names)
    return {"keyfile": record["files"]["key"], "certfile": record["files"]["cert"], "cafile": record["files"]["ca"]}
