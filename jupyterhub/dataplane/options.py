"""The command line: configurable-http-proxy's options and a few of our own (services-and-proxy D)."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, field
from typing import Any, NoReturn

from .._version import __version__
from .log import LEVELS

__all__ = ["Listen", "Options", "TLSFiles", "build_parser", "parse_options"]


@dataclass(frozen=True, slots=True)
class Listen:
    """An address to listen on: a Unix socket, or a port with an IP address (None: all of them)."""

    ip: str | None = None
    port: int = 0
    socket: str | None = None

    def __str__(self) -> str:
        return self.socket or f"{self.ip or '*'}:{self.port}"


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """Certificate files of one of the three sides, and what is asked of the peer."""

    key: str | None = None
    cert: str | None = None
    ca: str | None = None
    request_cert: bool = False
    reject_unauthorized: bool = False
    passphrase: str | None = field(default=None, repr=False)

    @property
    def given(self) -> bool:
        """True when any file is named."""
        return bool(self.key or self.cert or self.ca)


@dataclass(frozen=True, slots=True)
class Options:
    """Everything the command line and the environment say. Times are in seconds."""

    public: Listen
    api: Listen
    metrics: Listen | None = None
    public_tls: TLSFiles = TLSFiles()
    api_tls: TLSFiles = TLSFiles()
    client_tls: TLSFiles = TLSFiles()
    tls_protocol: str | None = None
    tls_ciphers: str | None = None
    tls_dhparam: str | None = None
    insecure: bool = False
    default_target: str | None = None
    error_target: str | None = None
    error_path: str | None = None
    redirect_port: int | None = None
    redirect_to: int | None = None
    pid_file: str | None = None
    x_forward: bool = True
    prepend_path: bool = True
    include_prefix: bool = True
    auto_rewrite: bool = False
    change_origin: bool = False
    protocol_rewrite: str | None = None
    custom_headers: tuple[tuple[str, str], ...] = ()
    host_routing: bool = False
    log_level: str = "info"
    timeout: float | None = None
    proxy_timeout: float | None = None
    keep_alive_timeout: float = 5.0
    state_file: str | None = None
    drain_timeout: float = 5.0
    head_timeout: float = 60.0
    body_timeout: float = 300.0
    connect_timeout: float = 10.0
    websocket_timeout: float | None = None
    max_connections: int | None = None
    workers: int = 1
    #: The command line itself, for workers.
    arguments: tuple[str, ...] = ()
    auth_token: str | None = field(default=None, repr=False)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(1, f"jupyterhub-proxy: {message}\nTry 'jupyterhub-proxy --help'.\n")


def build_parser() -> argparse.ArgumentParser:
    """The command line, as `--help` and the reference show it."""
    parser = _Parser(
        prog="jupyterhub-proxy",
        allow_abbrev=False,
        description="HTTP and WebSocket proxy whose routes are set through a REST API.",
    )
    add = parser.add_argument
    add("-V", "--version", action="version", version=__version__)
    add("--ip", metavar="A", help="public address (default: all)")
    add("--port", type=int, metavar="N", help="public port (8000)")
    add("--socket", metavar="PATH", help="public Unix socket, instead of address and port")
    add("--api-ip", metavar="A", help="address of the REST API (localhost)")
    add("--api-port", type=int, metavar="N", help="port of the REST API (public port + 1)")
    add("--api-socket", metavar="PATH", help="Unix socket of the REST API")
    add("--metrics-ip", metavar="A", help="address of the metrics")
    add("--metrics-port", type=int, metavar="N", help="port of the metrics; without it there are none")
    add("--metrics-socket", metavar="PATH", help="Unix socket of the metrics")
    for side, text in (("", "public side"), ("api-", "REST API"), ("client-", "requests to https targets")):
        add(f"--{side}ssl-key", metavar="FILE", help=f"TLS key, {text}")
        add(f"--{side}ssl-cert", metavar="FILE", help=f"TLS certificate, {text}")
        add(f"--{side}ssl-ca", metavar="FILE", help=f"trusted authorities, {text}")
        add(f"--{side}ssl-request-cert", action="store_true", help=f"ask the peer for a certificate, {text}")
        add(f"--{side}ssl-reject-unauthorized", action="store_true", help=f"refuse peers without one, {text}")
    add("--ssl-protocol", metavar="P", help="one TLS version, such as TLSv1_2")
    add("--ssl-ciphers", metavar="LIST", help="ciphers, colon-separated")
    add("--ssl-allow-rc4", action="store_true", help=argparse.SUPPRESS)
    add("--ssl-dhparam", metavar="FILE", help="Diffie-Hellman parameters")
    add("--default-target", metavar="URL", help="where requests go that no other route takes")
    add("--error-target", metavar="URL", help="where error pages are asked for: URL/404?url=...")
    add("--error-path", metavar="DIR", help="directory with 404.html, 503.html, error.html")
    add("--redirect-port", type=int, metavar="N", help="port whose visitors are sent to https")
    add("--redirect-to", type=int, metavar="N", help="port they are sent to (the public one)")
    add("--pid-file", metavar="FILE", help="where to write the process id")
    add("--no-x-forward", action="store_true", help="do not tell targets about the client (X-Forwarded-*)")
    add("--no-prepend-path", action="store_true", help="leave out the path of targets")
    add("--no-include-prefix", action="store_true", help="leave out the matched route when forwarding")
    add("--auto-rewrite", action="store_true", help="put the visitor's host into redirects")
    add("--change-origin", action="store_true", help="send the target's own host name to it")
    add("--protocol-rewrite", metavar="SCHEME", help="put this scheme into redirects")
    add(
        "--custom-header",
        action="append",
        default=[],
        metavar="'K: V'",
        help="header for targets; repeatable",
    )
    add("--insecure", action="store_true", help="accept any certificate from https targets")
    add("--host-routing", action="store_true", help="routes begin with a host name")
    add("--log-level", default="info", metavar="L", help="debug, info, warn or error")
    add("--timeout", type=float, metavar="MS", help="close clients that are silent for so long")
    add("--proxy-timeout", type=float, metavar="MS", help="give up on targets that do not answer for so long")
    add(
        "--keep-alive-timeout",
        type=float,
        default=5000,
        metavar="MS",
        help="keep idle clients for so long (5000)",
    )
    add("--storage-backend", metavar="MODULE", help=argparse.SUPPRESS)
    add("--state-file", metavar="FILE", help="keep the routes here, and take them from here at start")
    add(
        "--drain-timeout",
        type=float,
        default=5000,
        metavar="MS",
        help="let requests finish for so long (5000)",
    )
    for name, default, text in (
        ("head", 60000, "let the head of a request arrive for so long"),
        ("body", 300000, "close clients that send nothing of a body for so long"),
        ("connect", 10000, "let targets accept a connection for so long"),
    ):
        add(f"--{name}-timeout", type=float, default=default, metavar="MS", help=f"{text} ({default})")
    add("--websocket-timeout", type=float, metavar="MS", help="close WebSockets on which nobody speaks for so long")
    add("--workers", type=int, default=1, metavar="N", help="processes that share the public port (1)")
    add(
        "--max-connections",
        type=int,
        metavar="N",
        help="clients of a worker at once (half of the files it may open)",
    )
    return parser


def _tls(given: argparse.Namespace, side: str, passphrase: str | None) -> TLSFiles:
    def value(name: str) -> Any:
        return getattr(given, f"{side}ssl_{name}")

    return TLSFiles(
        key=value("key"),
        cert=value("cert"),
        ca=value("ca"),
        request_cert=value("request_cert"),
        reject_unauthorized=value("reject_unauthorized"),
        passphrase=passphrase,
    )


def parse_options(arguments: list[str], environ: dict[str, str] | None = None, *, told: bool = True) -> Options:
    """Options from a command line. Ends the process with status 1 and a sentence when it makes no sense.

    `told`: say what is merely odd, on standard error.
    """
    environment = os.environ if environ is None else environ
    parser = build_parser()
    given = parser.parse_args(arguments)

    if given.socket and (given.ip is not None or given.port is not None):
        parser.error("--socket cannot be used together with --ip or --port")
    if given.api_socket and (given.api_ip is not None or given.api_port is not None):
        parser.error("--api-socket cannot be used together with --api-ip or --api-port")
    if given.metrics_socket and (given.metrics_ip is not None or given.metrics_port is not None):
        parser.error("--metrics-socket cannot be used together with --metrics-ip or --metrics-port")
    if given.error_target and given.error_path:
        parser.error("--error-target and --error-path cannot be used together")
    if (given.redirect_port or given.redirect_to) and not (given.ssl_key or given.ssl_cert):
        parser.error("--redirect-port and --redirect-to need --ssl-key and --ssl-cert: there is no https to send to")
    if given.ssl_allow_rc4:
        parser.error("--ssl-allow-rc4: no TLS library of today can use RC4; leave the option out")
    if given.storage_backend and given.storage_backend != "memory":
        parser.error(
            f"--storage-backend {given.storage_backend}: modules for Node cannot be loaded; --state-file "
            "keeps the routes in a file"
        )
    if given.workers < 1:
        parser.error(f"--workers {given.workers}: at least one is needed")
    if given.workers > 1 and given.port == 0:
        parser.error("--workers needs a --port that is known beforehand")
    if given.max_connections is not None and given.max_connections < 1:
        parser.error(f"--max-connections {given.max_connections}: at least one is needed")
    if given.log_level.lower() not in LEVELS:
        parser.error(f"--log-level {given.log_level}: choose debug, info, warn or error")
    for name in ("port", "api_port", "metrics_port", "redirect_port", "redirect_to"):
        number = getattr(given, name)
        if number is not None and not 0 <= number <= 65535:
            parser.error(f"--{name.replace('_', '-')} {number}: a port is a number from 0 to 65535")
    headers = []
    for text in given.custom_header:
        name, colon, value = text.partition(":")
        if not name.strip() or not colon or any(ord(sign) < 32 or ord(sign) > 255 for sign in text):
            parser.error(f"--custom-header {text!r}: write it as 'Name: value'")
        headers.append((name.strip(), value.strip()))
    ip = given.ip
    if ip == "*" and told:
        sys.stderr.write("jupyterhub-proxy: --ip '*' means all addresses; leaving the option out does too\n")
    port = 8000 if given.port is None else given.port
    if given.api_socket:
        api = Listen(socket=given.api_socket)
    else:
        api_port = given.api_port if given.api_port is not None else (8001 if given.socket or not port else port + 1)
        api = Listen(_any(given.api_ip) if given.api_ip is not None else "localhost", api_port)
    metrics = None
    if given.metrics_socket:
        metrics = Listen(socket=given.metrics_socket)
    elif given.metrics_port is not None:
        metrics = Listen(_any(given.metrics_ip), given.metrics_port)

    def seconds(milliseconds: float | None) -> float | None:
        return milliseconds / 1000 if milliseconds else None

    return Options(
        public=Listen(socket=given.socket) if given.socket else Listen(_any(ip), port),
        api=api,
        metrics=metrics,
        public_tls=_tls(given, "", environment.get("CONFIGPROXY_SSL_KEY_PASSPHRASE")),
        api_tls=_tls(given, "api_", environment.get("CONFIGPROXY_API_SSL_KEY_PASSPHRASE")),
        client_tls=_tls(given, "client_", None),
        tls_protocol=given.ssl_protocol,
        tls_ciphers=given.ssl_ciphers,
        tls_dhparam=given.ssl_dhparam,
        insecure=given.insecure,
        default_target=given.default_target,
        error_target=given.error_target,
        error_path=given.error_path,
        redirect_port=given.redirect_port,
        redirect_to=given.redirect_to,
        pid_file=given.pid_file,
        x_forward=not given.no_x_forward,
        prepend_path=not given.no_prepend_path,
        include_prefix=not given.no_include_prefix,
        auto_rewrite=given.auto_rewrite,
        change_origin=given.change_origin,
        protocol_rewrite=given.protocol_rewrite,
        custom_headers=tuple(headers),
        host_routing=given.host_routing,
        log_level=given.log_level.lower(),
        timeout=seconds(given.timeout),
        proxy_timeout=seconds(given.proxy_timeout),
        keep_alive_timeout=given.keep_alive_timeout / 1000,
        state_file=given.state_file,
        drain_timeout=given.drain_timeout / 1000,
        head_timeout=given.head_timeout / 1000,
        body_timeout=given.body_timeout / 1000,
        connect_timeout=given.connect_timeout / 1000,
        websocket_timeout=seconds(given.websocket_timeout),
        max_connections=given.max_connections,
        workers=given.workers,
        arguments=tuple(arguments),
        auth_token=environment.get("CONFIGPROXY_AUTH_TOKEN") or None,
    )


def _any(ip: str | None) -> str | None:
    return None if ip in (None, "", "*") else ip
