"""TLS contexts for the public side, the REST API and the way to https targets."""

from __future__ import annotations

import ssl

from .options import Options, TLSFiles

__all__ = ["TLSProblem", "client_context", "reload_context", "server_context"]


class TLSProblem(Exception):
    """A certificate or a TLS option cannot be used. The message says which."""


def _restrict(context: ssl.SSLContext, options: Options) -> None:
    if options.tls_protocol:
        name = options.tls_protocol.removesuffix("_method")
        version = getattr(ssl.TLSVersion, name, None)
        if version is None:
            known = ", ".join(v.name for v in ssl.TLSVersion if v.name.startswith("TLS"))
            raise TLSProblem(f"--ssl-protocol {options.tls_protocol}: this version is not known (known: {known})")
        context.minimum_version = context.maximum_version = version
    if options.tls_ciphers:
        try:
            context.set_ciphers(options.tls_ciphers)
        except ssl.SSLError as error:
            raise TLSProblem(f"--ssl-ciphers {options.tls_ciphers}: {error}") from None
    if options.tls_dhparam:
        try:
            context.load_dh_params(options.tls_dhparam)
        except (OSError, ssl.SSLError) as error:
            raise TLSProblem(f"--ssl-dhparam {options.tls_dhparam}: {error}") from None


def reload_context(context: ssl.SSLContext, files: TLSFiles) -> None:
    """Read the certificate files again; connections made from now on use them. Raises TLSProblem."""
    try:
        if files.cert or files.key:
            context.load_cert_chain(files.cert or files.key or "", files.key, files.passphrase or "")
        if files.ca:
            context.load_verify_locations(files.ca)
    except (OSError, ssl.SSLError) as error:
        names = ", ".join(name for name in (files.cert, files.key, files.ca) if name)
        raise TLSProblem(f"Cannot use the TLS files {names}: {error}") from None


def server_context(files: TLSFiles, options: Options) -> ssl.SSLContext | None:
    """Context for a listening side; None when no certificate is given. Raises TLSProblem."""
    if not (files.key or files.cert):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context, options)
    reload_context(context, files)
    context.set_alpn_protocols(["http/1.1"])
    if files.request_cert:
        context.verify_mode = ssl.CERT_REQUIRED if files.reject_unauthorized else ssl.CERT_OPTIONAL
    return context


def client_context(options: Options) -> ssl.SSLContext:
    """Context for https targets: they are verified, by our own authorities if given, unless --insecure."""
    files = options.client_tls
    context = ssl.create_default_context(cafile=files.ca) if files.ca else ssl.create_default_context()
    if files.ca:
        # Newer Pythons ask more of authorities than those made for internal use have to offer.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    _restrict(context, options)
    if files.key or files.cert:
        reload_context(context, files)
    if options.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
