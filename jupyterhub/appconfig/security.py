"""Cookies, secrets, OAuth, internal TLS (config §5, §6)."""

from typing import Any

from traitlets import Bool, Bytes, Dict, Float, HasTraits, Integer, List, TraitError, Unicode, Union, default, validate


class SecuritySettings(HasTraits):
    """What keeps people apart."""

    cookie_secret = Union(
        [Bytes(), Unicode()],
        help="""
        Key with which cookies are signed: bytes, or text of hex digits. Better left to `cookie_secret_file`.

        All Hubs of one database need the same. The environment variable JPY_COOKIE_SECRET also sets it.
        """,
    ).tag(config=True)
    cookie_secret_file = Unicode(
        "jupyterhub_cookie_secret", help="File that holds the cookie secret; made at the first start, mode 0600."
    ).tag(config=True)
    cookie_max_age_days = Float(14, help="Days after which a log-in has to be repeated.").tag(config=True)
    cookie_host_prefix_enabled = Bool(
        False, help="Begin names of cookies with __Host-, so that other hosts of the domain cannot set them. Needs HTTPS."
    ).tag(config=True)
    trusted_downstream_ips = List(
        Unicode(), help="Addresses of proxies whose X-Forwarded-For is believed when a client's address is logged."
    ).tag(config=True)
    oauth_token_expires_in = Integer(help="Seconds that tokens issued to browsers live.").tag(config=True)
    oauth_require_pkce = Bool(False, help="Refuse OAuth clients that do not use PKCE.").tag(config=True)
    token_expires_in_max_seconds = Integer(
        0, help="Longest life of a token that people make for themselves; 0 is no limit."
    ).tag(config=True)
    trust_user_provided_tokens = Bool(
        False, help="Hash tokens from the configuration once, because they are random anyway. Faster at each use."
    ).tag(config=True)
    authenticate_prometheus = Bool(True, help="Whether reading /hub/metrics needs the scope read:metrics.").tag(
        config=True
    )

    internal_ssl = Bool(False, help="Encrypt and authenticate everything between Hub, proxy and servers.").tag(
        config=True
    )
    internal_certs_location = Unicode("internal-ssl", help="Directory of the internal certificates.").tag(config=True)
    recreate_internal_certs = Bool(False, help="Make the internal certificates anew at start.").tag(config=True)
    generate_certs = Bool(False, help="Write the internal certificates and end.").tag(config=True)
    trusted_alt_names = List(
        Unicode(), help="Further names in internal certificates, such as 'DNS:hub.example.org' or 'IP:10.0.0.1'."
    ).tag(config=True)
    external_ssl_authorities = Dict(help="Authorities of your own for internal_ssl: name → key, cert, ca.").tag(
        config=True
    )
    internal_ssl_key = Unicode()
    internal_ssl_cert = Unicode()
    internal_ssl_ca = Unicode()
    internal_trust_bundles = Dict()

    @validate("cookie_secret")
    def _check_cookie_secret(self, proposal: Any) -> bytes:
        value = proposal.value
        if isinstance(value, bytes):
            return value
        try:
            return bytes.fromhex(value)
        except ValueError:
            raise TraitError(
                "JupyterHub.cookie_secret: a text must be hex digits (make one with: openssl rand -hex 32)"
            ) from None

    @default("oauth_token_expires_in")
    def _oauth_token_expires_in_default(self) -> int:
        return int(self.cookie_max_age_days * 86400)
