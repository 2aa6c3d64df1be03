"""Where the Hub and its proxy listen, and how others reach them (config §4, §5, §12)."""

import logging
from typing import Any
from urllib.parse import urlsplit

from traitlets import Bool, Callable, Integer, Set, TraitError, Unicode, Union, default, observe, validate

from ..core.urls import (
    PathNotes,
    bind_url_with,
    hub_route_spec,
    normalise_base_url,
    normalise_bind_url,
    normalise_public_url,
    normalise_subdomain_host,
    subdomain_hook_idna,
    subdomain_hook_legacy,
    url_path_join,
)
from ..traitlets import Command, EntryPointType, TopicTraits, URLPrefix

SUBDOMAIN_HOOKS = {"idna": subdomain_hook_idna, "legacy": subdomain_hook_legacy}


class NetworkSettings(TopicTraits):
    """Public and private addresses, host names of users, TLS of the public side, the proxy."""

    log: Any

    # The public side

    bind_url = Unicode(
        "http://:8000",
        help="""
        Where people reach the Hub: the scheme, address, port and path on which the proxy listens.

        For example 'http://127.0.0.1:9000/jupyter/'. Without an address it listens on all of them. The scheme
        follows from `ssl_cert`, whatever is written here.
        """,
    ).tag(config=True)

    ip = Unicode(
        help="""
        The public address on which the proxy listens; empty means all of them.

        `bind_url` says address, port and path in one setting, and is rebuilt when one of `ip`, `port` and
        `base_url` is set.
        """
    ).tag(config=True)

    port = Integer(8000, help="The public port on which the proxy listens; see `bind_url`.").tag(config=True)

    base_url = URLPrefix(
        "/", help="The path below which everything lives, for a host name shared with other sites; see `bind_url`."
    ).tag(config=True)

    public_url = Unicode(
        help="""
        The address under which people know the Hub, with `base_url` at its end.

        Needed where another proxy or a load balancer stands in front, because the Hub cannot know it by
        itself: links in mails and to servers on subdomains are made of it, and whether cookies are for HTTPS
        only.
        """
    ).tag(config=True)

    subdomain_host = Unicode(
        help="""
        Give every user and service a host name of its own below this one, for example
        'https://hub.example.org'.

        The browser then keeps people's servers apart from each other and from the Hub, which is the safest
        arrangement. It takes a wildcard entry in the DNS and a wildcard certificate.
        """
    ).tag(config=True)

    subdomain_hook = Union(
        [Callable(), Unicode()],
        default_value=subdomain_hook_idna,
        help="""
        How host names are made of the names of users and services, where `subdomain_host` is set.

        'idna' gives a valid and unique host name for whatever name; 'legacy' is the scheme of JupyterHub 4
        and before, which cannot do that. A function is called as `hook(name, domain, kind)`, where `kind` is
        'user' or 'service', and returns the host name.
        """,
    ).tag(config=True)

    domain = Unicode(help="The host name of `public_url` or `subdomain_host`, without scheme and port.")

    ssl_key = Unicode(
        help="File with the private key for HTTPS on the public address. Something in front may do HTTPS instead."
    ).tag(config=True)

    ssl_cert = Unicode(
        help="File with the certificate for HTTPS on the public address, in PEM, with the chain."
    ).tag(config=True)

    # The Hub's own process, behind the proxy

    hub_ip = Unicode(
        "127.0.0.1",
        help="""
        The address on which the Hub's process listens, behind the proxy.

        When servers run on other machines or in containers, they have to reach it: then an address of the
        network between them, or '' for all addresses.
        """,
    ).tag(config=True)

    hub_port = Integer(
        8081, help="The port on which the Hub's process listens, behind the proxy."
    ).tag(config=True)

    hub_bind_url = Unicode(
        help="""
        The URL on which the Hub's process listens, in place of `hub_ip` and `hub_port`.

        'http+unix://%2Fsrv%2Fhub.sock' is a socket file. The path of the URL is always that of the Hub.
        """
    ).tag(config=True)

    hub_socket_mode = Integer(
        0o600, help="Permissions of the socket file, where `hub_bind_url` names one; the default is 0600."
    ).tag(config=True)

    hub_connect_ip = Unicode(
        help="""
        The host name or address at which proxy, servers and services find the Hub, if it is not `hub_ip`.

        For example the name of the service in a container network.
        """
    ).tag(config=True)

    hub_connect_port = Integer(0, help="Deprecated: use `hub_connect_url`.").tag(config=True)

    hub_connect_url = Unicode(
        help="The whole URL at which proxy, servers and services find the Hub, if it is not where it listens."
    ).tag(config=True)

    hub_prefix = URLPrefix("/hub/", help="The path of the Hub's own pages.")

    hub_routespec = Unicode(
        help="""
        The route for which the proxy sends requests to the Hub. By default everything that no server answers.

        Narrow it to '/hub/' where something else answers the rest.
        """
    ).tag(config=True)

    forwarded_host_header = Unicode(help="Accepted, without effect.").tag(config=True)

    confirm_no_ssl = Bool(False, help="Deprecated and without effect.").tag(config=True)

    # The proxy

    proxy_class = EntryPointType(
        default_value="jupyterhub.proxy.builtin.BuiltinProxy",
        klass="jupyterhub.proxy.Proxy",
        entry_point_group="jupyterhub.proxies",
        help="""
        The class that controls the proxy: a class, its import path, or a name such as 'configurable-http-proxy' or
        'traefik'.
        """,
    ).tag(config=True)

    cleanup_proxy = Bool(
        True,
        help="""
        Stop the proxy when the Hub is stopped, if the Hub started it.

        With False here and for `cleanup_servers`, the Hub can be restarted while people go on working.
        """,
    ).tag(config=True)

    proxy_cmd = Command(minlen=0, help="Deprecated: use `ConfigurableHTTPProxy.command`.").tag(config=True)
    debug_proxy = Bool(False, help="Deprecated: use `ConfigurableHTTPProxy.debug`.").tag(config=True)
    proxy_auth_token = Unicode(help="Deprecated: use `ConfigurableHTTPProxy.auth_token`.").tag(config=True)
    proxy_check_interval = Integer(
        5, help="Deprecated: use `ConfigurableHTTPProxy.check_running_interval`."
    ).tag(config=True)
    proxy_api_ip = Unicode(help="Deprecated: use `ConfigurableHTTPProxy.api_url`.").tag(config=True)
    proxy_api_port = Integer(0, help="Deprecated: use `ConfigurableHTTPProxy.api_url`.").tag(config=True)

    # How the parts of the public address follow each other

    #: Which of ip, port and base_url somebody has set; those win over what bind_url says.
    _address_parts_given = Set()
    _rebuilding = False

    @default("bind_url")
    def _bind_url_default(self) -> str:
        return "https://:8000" if self.ssl_cert else "http://:8000"

    @validate("bind_url")
    def _check_bind_url(self, proposal: Any) -> str:
        try:
            url, notes = normalise_bind_url(proposal.value, tls=bool(self.ssl_cert))
        except ValueError as error:
            raise TraitError(f"JupyterHub.bind_url: {error}") from None
        self._say(notes)
        return url

    @observe("ssl_cert")
    def _scheme_may_change(self, change: Any) -> None:
        url, _ = normalise_bind_url(self.bind_url, tls=bool(change.new))
        if url != self.bind_url:
            self.bind_url = url

    @default("base_url")
    def _base_url_default(self) -> str:
        return normalise_base_url(urlsplit(self.bind_url).path)

    @default("hub_prefix")
    def _hub_prefix_default(self) -> str:
        return url_path_join(self.base_url, "/hub/")

    @observe("ip", "port", "base_url")
    def _address_part_was_set(self, change: Any) -> None:
        if change.name == "base_url":
            self.hub_prefix = url_path_join(self.base_url, "/hub/")
        if not self._rebuilding:
            self._address_parts_given = {*self._address_parts_given, change.name}
            self._rebuild_bind_url()

    @observe("bind_url")
    def _bind_url_was_set(self, change: Any) -> None:
        if self._rebuilding:
            return
        if self._address_parts_given:
            self._rebuild_bind_url()
        else:
            self._follow_path(change.new)

    def _rebuild_bind_url(self) -> None:
        """Make `bind_url` of its parts.

        Only its scheme, and its path if there is no other, survive (config §4.1).
        """
        before = self.bind_url
        base_url = self.base_url if "base_url" in self._address_parts_given else urlsplit(before).path
        rebuilt = bind_url_with(before, ip=self.ip, port=self.port, base_url=base_url)
        given = ", ".join(sorted(self._address_parts_given))
        if before.rstrip("/") not in {self._bind_url_default(), rebuilt.rstrip("/"), self._last_rebuilt}:
            self.log.warning(
                "JupyterHub.bind_url = %r is replaced by %r, because %s is set as well: use either of "
                "them",
                before,
                rebuilt, given,
            )
        self._last_rebuilt = rebuilt.rstrip("/")
        self._rebuilding = True
        try:
            self.bind_url = rebuilt
        finally:
            self._rebuilding = False
        self._follow_path(rebuilt)

    _last_rebuilt = ""

    def _follow_path(self, bind_url: str) -> None:
        if "base_url" in self._address_parts_given:
            return
        self._rebuilding = True
        try:
            self.base_url = normalise_base_url(urlsplit(bind_url).path)
        finally:
            self._rebuilding = False

    # Host names

    @validate("subdomain_host")
    def _check_subdomain_host(self, proposal: Any) -> str:
        host, notes = normalise_subdomain_host(proposal.value)
        self._say(notes)
        if host and not urlsplit(host).hostname:
            raise TraitError(
                f"JupyterHub.subdomain_host must be a URL such as 'https://hub.example.org', not "
                f"{proposal.value!r}"
            )
        return host

    @default("public_url")
    def _public_url_default(self) -> str:
        return url_path_join(self.subdomain_host, self.base_url) if self.subdomain_host else ""

    @validate("public_url")
    def _check_public_url(self, proposal: Any) -> str:
        try:
            url, notes = normalise_public_url(proposal.value, self.base_url)
        except ValueError as error:
            raise TraitError(f"JupyterHub.public_url: {error}") from None
        self._say(notes)
        return url

    @default("domain")
    def _domain_default(self) -> str:
        return urlsplit(self.public_url or self.subdomain_host).hostname or ""

    @validate("subdomain_hook")
    def _check_subdomain_hook(self, proposal: Any) -> Any:
        hook = proposal.value
        if callable(hook):
            return hook
        if hook not in SUBDOMAIN_HOOKS:
            raise TraitError(
                f"JupyterHub.subdomain_hook: {hook!r} is neither 'idna' nor 'legacy' nor a function"
            )
        return SUBDOMAIN_HOOKS[hook]

    @default("hub_routespec")
    def _hub_routespec_default(self) -> str:
        return hub_route_spec("", self.base_url, subdomains=bool(self.subdomain_host))

    @validate("hub_routespec")
    def _check_hub_routespec(self, proposal: Any) -> str:
        subdomains = bool(self.subdomain_host)
        spec = hub_route_spec(proposal.value, self.base_url, subdomains=subdomains)
        notes: PathNotes = []
        if spec not in ("/", self.base_url):
            notes.append(f"hub_routespec is {spec!r}: whatever is not below it never reaches the Hub")
            if not subdomains and not url_path_join(self.base_url, "hub/api").startswith(spec):
                notes.append(f"hub_routespec {spec!r} does not contain the Hub's own API")
        self._say(notes)
        return spec

    def _say(self, notes: PathNotes) -> None:
        log: Any = getattr(self, "log", None) or logging.getLogger("JupyterHub")
        for note in notes:
            log.warning("JupyterHub.%s", note)
