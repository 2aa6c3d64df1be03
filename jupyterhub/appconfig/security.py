"""Cookies, secrets, tokens, scopes, OAuth, internal TLS (config §5, §6)."""

from typing import Any

from traitlets import (
    Bool,
    Bytes,
    Dict,
    Float,
    Integer,
    List,
    Set,
    TraitError,
    Unicode,
    Union,
    default,
    validate,
)

from ..traitlets import TopicTraits

#: The authorities of internal TLS, in the order in which they are made.
INTERNAL_AUTHORITIES = ("hub-ca", "notebooks-ca", "proxy-api-ca", "proxy-client-ca", "services-ca")


class SecuritySettings(TopicTraits):
    """What keeps people apart, and strangers out."""

    # Cookies

    cookie_secret = Union(
        [Bytes(), Unicode()],
        default_value=b"",
        help="""
        The key with which cookies are signed: bytes, or a text of hexadecimal digits. 32 bytes are enough.

        Better leave it to `cookie_secret_file`, or to the environment variable JPY_COOKIE_SECRET. Whoever
        knows it can log in as anybody; a new one logs everybody out. All Hubs of one database need the same.
        """,
    ).tag(config=True, env="JPY_COOKIE_SECRET")

    cookie_secret_file = Unicode(
        "jupyterhub_cookie_secret",
        help="The file that holds the key for cookies. It is made at the first start, readable for its owner only.",
    ).tag(config=True)

    cookie_max_age_days = Float(
        14, help="Days after which people have to log in again, and after which tokens of their sessions end."
    ).tag(config=True)

    cookie_host_prefix_enabled = Bool(
        False,
        help="""
        Begin the names of cookies with `__Host-`: browsers then take them from this very host only, over
        HTTPS.

        For subdomains that are not all trusted. Servers follow if their JupyterHub is version 4.1 or newer.
        """,
    ).tag(config=True)

    # Tokens and OAuth

    oauth_token_expires_in = Integer(
        help="Seconds that tokens live which servers and services get when somebody logs in. By default as long as the "
        "log-in itself, `cookie_max_age_days`."
    ).tag(config=True)

    oauth_require_pkce = Bool(
        False,
        help="Refuse programs that log people in without PKCE. Single-user servers older than version 5 do not use it.",
    ).tag(config=True)

    token_expires_in_max_seconds = Integer(
        0,
        help="""
        The longest life of tokens that people make for themselves, in seconds; 0 is no limit.

        A token for which nothing else was asked then lives exactly that long.
        """,
    ).tag(config=True)

    trust_user_provided_tokens = Bool(
        False,
        help="""
        Trust that the tokens in the configuration are long and random, and hash them once instead of many
        times.

        The first request with each is a few milliseconds faster then.
        """,
    ).tag(config=True)

    # Scopes

    custom_scopes = Dict(
        key_trait=Unicode(),
        value_trait=Dict(key_trait=Unicode()),
        help="""
        Scopes for your services to ask about, beside those of the Hub.

        A dictionary from name to description. Names begin with 'custom:'; each needs a `description` for
        the page on which people agree to it, and may have `subscopes`, a list of other such names that come
        with it.
        """,
    ).tag(config=True)

    extra_user_scopes = Set(
        Unicode(),
        help="Scopes that every user has beside those of the role `user`, unless `load_roles` redefines that role.",
    ).tag(config=True)

    authenticate_prometheus = Bool(
        True, help="Let only those who hold the scope `read:metrics` read the metrics; with False anybody may."
    ).tag(config=True)

    admin_access = Bool(
        False, help="Deprecated: who may enter other people's servers is a matter of the scope `access:servers`."
    ).tag(config=True)

    trusted_downstream_ips = List(
        Unicode(),
        help="Addresses of proxies in front of ours. What X-Forwarded-For says before them counts as the client.",
    ).tag(config=True)

    # TLS between Hub, proxy and servers

    internal_ssl = Bool(
        False,
        help="""
        Encrypt what Hub, proxy, servers and services say to each other, and let each prove who it is.

        The Hub makes the certificates itself, with authorities of its own. The spawner has to bring them to
        where servers run, if that is another file system.
        """,
    ).tag(config=True)

    internal_certs_location = Unicode(
        "internal-ssl", help="The directory of the internal certificates. An absolute path is safest."
    ).tag(config=True)

    recreate_internal_certs = Bool(
        False, help="Make all internal certificates anew at start. Running servers no longer fit then."
    ).tag(config=True)

    trusted_alt_names = List(
        Unicode(),
        help="Further names in the internal certificates, as 'DNS:hub.internal' or 'IP:10.0.0.1'.",
    ).tag(config=True)

    external_ssl_authorities = Dict(
        help=f"""
        Authorities of your own in place of those the Hub would make for `internal_ssl`.

        A dictionary from name ({", ".join(INTERNAL_AUTHORITIES)}) to a dictionary of the files `key`, `cert`
        and `ca`. Without a key the authority can check certificates but not issue any.
        """
    ).tag(config=True)

    generate_certs = Bool(
        False, help="Write the internal certificates and end. For the command line, as --generate-certs."
    ).tag(config=True)

    internal_ssl_authorities = Dict(help="The authorities of internal TLS, by name.")
    internal_ssl_components_trust = Dict(help="Which authorities each component trusts, by name.")
    internal_trust_bundles = Dict(help="Files with the certificates that each component trusts, by name.")
    internal_proxy_certs = Dict(help="Files of the proxy's two pairs, by name.")
    internal_ssl_key = Unicode(help="File with the Hub's own internal key.")
    internal_ssl_cert = Unicode(help="File with the Hub's own internal certificate.")
    internal_ssl_ca = Unicode(help="File with the certificates that the Hub trusts.")

    @default("internal_ssl_authorities")
    def _internal_ssl_authorities_default(self) -> dict[str, Any]:
        return dict.fromkeys(INTERNAL_AUTHORITIES)

    @validate("cookie_secret")
    def _check_cookie_secret(self, proposal: Any) -> bytes:
        value = proposal.value
        if isinstance(value, bytes):
            return value
        try:
            return bytes.fromhex(value)
        except ValueError:
            # The value itself never appears in a message.
            raise TraitError(
                "JupyterHub.cookie_secret: a text has to be an even number of hexadecimal digits, such as "
                "`openssl rand -hex 32` makes"
            ) from None

    @validate("external_ssl_authorities")
    def _check_external_authorities(self, proposal: Any) -> Any:
        for name, files in proposal.value.items():
            if name not in INTERNAL_AUTHORITIES:
                raise TraitError(
                    f"JupyterHub.external_ssl_authorities: {name!r} is none of "
                    f"{', '.join(INTERNAL_AUTHORITIES)}"
                )
            if not (isinstance(files, dict) and files.get("cert")):
                raise TraitError(
                    f"JupyterHub.external_ssl_authorities: {name!r} needs at least the file `cert`"
                )
        return proposal.value

    @default("oauth_token_expires_in")
    def _oauth_token_expires_in_default(self) -> int:
        return int(self.cookie_max_age_days * 24 * 3600)
