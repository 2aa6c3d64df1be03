"""Where the Hub and its proxy listen, and how others reach them (config §4, §5, §12)."""

from typing import Any
from urllib.parse import urlsplit

from traitlets import Any as AnyTrait
from traitlets import Bool, Callable, HasTraits, Integer, TraitError, Unicode, Union, default, observe, validate

from ..core.urls import (
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
from ..traitlets import Command, URLPrefix


class NetworkSettings(HasTraits):
    """Public and private addresses, TLS of the public side, the proxy's old settings."""

    bind_url = Unicode(
        "http://:8000",
        help="""
        Where people reach the Hub: scheme, address, port and path on which the proxy listens.

        For example 'http://127.0.0.1:9000/jupyter/'. The scheme follows from whether `ssl_cert` is set.
        """,
    ).tag(config=True)
    ip = Unicode(help="Public address of the proxy; `bind_url` says the same in one setting.").tag(config=True)
    port = Integer(8000, help="Public port of the proxy; `bind_url` says the same in one setting.").tag(config=True)
    base_url = URLPrefix("/", help="Path below which the whole deployment lives; `bind_url` says the same.").tag(
        config=True
    )
    public_url = Unicode(
        help="""
        Address under which people know the Hub, path included, when the Hub cannot know it itself.

        Needed when another proxy or a load balancer is in front, and absolute links are wanted.
        """
    ).tag(config=True)
    subdomain_host = Unicode(
        help="""
        Give every user and service a host name of their own below this one, e.g. 'https://hub.example.org'.

        This keeps people's servers apart in the browser. Needs wildcard DNS and certificates.
        """
    ).tag(config=True)
    subdomain_hook = Union(
        [Callable(), Unicode()],
        default_value="idna",
        help="""
        How host names are made from names: 'idna' (always valid), 'legacy' (as before JupyterHub 5), or a function
        of name, domain and kind ('user' or 'service') that returns the host name.
        """,
    ).tag(config=True)
    domain = Unicode(help="Host name of `subdomain_host` without scheme and port.")

    hub_ip = Unicode("127.0.0.1", help="Address on which the Hub process itself listens, behind the proxy.").tag(
        config=True
    )
    hub_port = Integer(8081, help="Port on which the Hub process itself listens, behind the proxy.").tag(config=True)
    hub_bind_url = Unicode(
        help="URL on which the Hub process listens, in place of hub_ip and hub_port; 'http+unix://…' names a socket."
    ).tag(config=True)
    hub_socket_mode = Integer(0o600, help="Mode of the Hub's unix socket, if it listens on one.").tag(config=True)
    hub_connect_ip = Unicode(help="Host name or address at which proxy and servers find the Hub.").tag(config=True)
    hub_connect_port = Integer(0, help="Old: use hub_connect_url.").tag(config=True)
    hub_connect_url = Unicode(help="URL at which proxy and servers find the Hub, if it is not where it listens.").tag(
        config=True
    )
    hub_routespec = Unicode(help="Route that leads to the Hub: the path it serves, by default the whole base_url.").tag(
        config=True
    )
    hub_prefix = URLPrefix("/hub/")

    ssl_key = Unicode(help="File with the TLS key of the public address.").tag(config=True)
    ssl_cert = Unicode(help="File with the TLS certificate of the public address.").tag(config=True)
    confirm_no_ssl = Bool(False, help="Old, does nothing.").tag(config=True)
    forwarded_host_header = Unicode(help="Accepted, does nothing.").tag(config=True)

    proxy_cmd = Command(minlen=0, help="Old: use ConfigurableHTTPProxy.command.").tag(config=True)
    debug_proxy = Bool(False, help="Old: use ConfigurableHTTPProxy.debug.").tag(config=True)
    proxy_auth_token = Unicode(help="Old: use ConfigurableHTTPProxy.auth_token.").tag(config=True)
    proxy_check_interval = Integer(5, help="Old: use ConfigurableHTTPProxy.check_running_interval.").tag(config=True)
    proxy_api_ip = Unicode(help="Old: use ConfigurableHTTPProxy.api_url.").tag(config=True)
    proxy_api_port = Integer(0, help="Old: use ConfigurableHTTPProxy.api_url.").tag(config=True)

    cleanup_proxy = Bool(
        True,
        help="""
        Whether an ordinary stop of the Hub also stops the proxy that it started.

        Set it to False, together with `cleanup_servers`, to restart the Hub without anybody noticing.
        """,
    ).tag(config=True)
    cleanup_servers = Bool(True, help="Whether an ordinary stop of the Hub also stops everybody's servers.").tag(
        config=True
    )

    _bind_parts_given = AnyTrait(None, allow_none=True)

    @default("bind_url")
    def _bind_url_default(self) -> str:
        return "https://:8000" if self.ssl_cert else "http://:8000"

    @validate("bind_url")
    def _check_bind_url(self, proposal: Any) -> str:
        try:
            url, notes = normalise_bind_url(proposal.value, tls=bool(self.ssl_cert))
        except ValueError as error:
            raise TraitError(f"JupyterHub.bind_url: {error}") from None
        self._log_notes(notes)
        return url

    def _log_notes(self, notes: Any) -> None:
        for note in notes or ():
            self.log.warning("%s", note)  # type: ignore[attr-defined]

    @observe("ip", "port", "base_url")
    def _rebuild_bind_url(self, change: Any) -> None:
        parts = urlsplit(self.bind_url)
        ip = self.ip if "ip" in self._trait_values else (parts.hostname or "")
        port = self.port if "port" in self._trait_values else (parts.port or 8000)
        base_url = self.base_url if "base_url" in self._trait_values else (parts.path or "/")
        self.bind_url = bind_url_with(self.bind_url, ip=ip, port=port, base_url=base_url)

    @default("base_url")
    def _base_url_default(self) -> str:
        return normalise_base_url(urlsplit(self.bind_url).path or "/")

    @default("port")
    def _port_default(self) -> int:
        return urlsplit(self.bind_url).port or 8000

    @default("hub_prefix")
    def _hub_prefix_default(self) -> str:
        return url_path_join(self.base_url, "/hub/")

    @validate("subdomain_host")
    def _check_subdomain_host(self, proposal: Any) -> str:
        if not proposal.value:
            return ""
        try:
            host, notes = normalise_subdomain_host(proposal.value)
        except ValueError as error:
            raise TraitError(f"JupyterHub.subdomain_host: {error}") from None
        self._log_notes(notes)
        return host

    @validate("public_url")
    def _check_public_url(self, proposal: Any) -> str:
        if not proposal.value:
            return ""
        try:
            url, notes = normalise_public_url(proposal.value, self.base_url)
        except ValueError as error:
            raise TraitError(f"JupyterHub.public_url: {error}") from None
        self._log_notes(notes)
        return url

    @default("public_url")
    def _public_url_default(self) -> str:
        return url_path_join(self.subdomain_host, self.base_url) if self.subdomain_host else ""

    @validate("subdomain_hook")
    def _check_subdomain_hook(self, proposal: Any) -> Any:
        known = {"idna": subdomain_hook_idna, "legacy": subdomain_hook_legacy}
        if callable(proposal.value):
            return proposal.value
        if proposal.value not in known:
            raise TraitError(
                f"JupyterHub.subdomain_hook: use 'idna', 'legacy' or a function, not {proposal.value!r}"
            )
        return known[proposal.value]

    @default("subdomain_hook")
    def _subdomain_hook_default(self) -> Any:
        return subdomain_hook_idna

    @default("domain")
    def _domain_default(self) -> str:
        return urlsplit(self.subdomain_host).hostname or "" if self.subdomain_host else ""

    @default("hub_routespec")
    def _hub_routespec_default(self) -> str:
        return "/" if self.subdomain_host else self.base_url

    @validate("hub_routespec")
    def _check_hub_routespec(self, proposal: Any) -> str:
        return hub_route_spec(proposal.value, self.base_url, subdomains=bool(self.subdomain_host))
