"""Joining paths, addresses of users and services, host names under each domain scheme (config §4, §12)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeAlias
from urllib.parse import quote, urlsplit, urlunsplit

__all__ = [
    "PathNotes",
    "SubdomainHook",
    "bind_url_with",
    "dns_label",
    "fmt_ip_url",
    "hub_route_spec",
    "join_spec",
    "normalise_base_url",
    "normalise_bind_url",
    "normalise_public_url",
    "normalise_subdomain_host",
    "server_path",
    "service_path",
    "subdomain_hook_idna",
    "subdomain_hook_legacy",
    "url_escape_path",
    "url_path_join",
    "user_path",
]

PathNotes: TypeAlias = list[str]
"""Sentences worth a warning, collected while a value was repaired."""

SubdomainHook: TypeAlias = Callable[[str, str, str], str]
"""(name, domain, kind) → host name; kind is ``"user"`` or ``"service"``."""


#: Results kept: one request or start asks for the paths of the same user again and again.
REMEMBERED: Final = 512

# -- paths ---------------------------------------------------------------------------------------------------


@lru_cache(REMEMBERED)
def url_path_join(*pieces: str) -> str:
    """Join with single slashes between; a first leading and a last trailing slash stay (plugins §10)."""
    inner = [stripped for piece in pieces if (stripped := piece.strip("/"))]
    given = [piece for piece in pieces if piece]
    if not given:
        return ""
    joined = "/".join(inner)
    if pieces[0].startswith("/"):
        joined = "/" + joined
    if given[-1].endswith("/") and not joined.endswith("/"):
        joined += "/"
    return joined


@lru_cache(REMEMBERED)
def url_escape_path(text: str, safe: str = "@~") -> str:
    """Percent-encode everything but letters, digits, ``_.-`` and `safe`."""
    return quote(text, safe=safe)


def user_path(base_url: str, user: str) -> str:
    """The path of a user's default server: ``{base_url}user/{name}/``."""
    return url_path_join(base_url, "user", url_escape_path(user)) + "/"


def server_path(base_url: str, user: str, server: str = "") -> str:
    """The path of any server of a user, with a trailing slash."""
    path = user_path(base_url, user)
    return f"{path}{url_escape_path(server)}/" if server else path


def service_path(base_url: str, name: str) -> str:
    """The path of a service; its name is not encoded (services-and-proxy A1)."""
    return url_path_join(base_url, "services", name) + "/"


def join_spec(path: str, host: str = "") -> str:
    """The route spec of a path on a host; without a host for all hosts."""
    return host + path if host else path


# -- the hub's own addresses ---------------------------------------------------------------------------------


def fmt_ip_url(ip: str) -> str:
    """An address as it stands in a URL: IPv6 in brackets, once."""
    return f"[{ip}]" if ":" in ip and not ip.startswith("[") else ip


def normalise_base_url(base_url: str) -> str:
    """With a slash at either end."""
    inner = base_url.strip("/")
    return f"/{inner}/" if inner else "/"


def normalise_bind_url(bind_url: str, *, tls: bool) -> tuple[str, PathNotes]:
    """`bind_url` with the scheme that the certificate setting implies and a normal path (config §4.1).

    Raises ValueError without ``://``: such a value has no host that could be listened on.
    """
    notes: PathNotes = []
    if "://" not in bind_url:
        raise ValueError(f"bind_url {bind_url!r} is not a URL; write for example http://:8000")
    if bind_url.startswith("unix+http://"):
        bind_url = "http+unix://" + bind_url.removeprefix("unix+http://")
        notes.append("bind_url: 'unix+http' is written 'http+unix'")
    parts = urlsplit(bind_url)
    scheme = parts.scheme if parts.scheme == "http+unix" else ("https" if tls else "http")
    return f"{scheme}://{parts.netloc}{parts.path}", notes


def bind_url_with(bind_url: str, *, ip: str, port: int, base_url: str) -> str:
    """`bind_url` rebuilt from its parts; only its scheme survives (config §4.1)."""
    scheme = urlsplit(bind_url).scheme
    return f"{scheme}://{fmt_ip_url(ip)}:{port}{normalise_base_url(base_url)}"


def normalise_subdomain_host(host: str) -> tuple[str, PathNotes]:
    """`subdomain_host` with a scheme."""
    if host and "://" not in host:
        return f"https://{host}", [f"subdomain_host {host!r} has no scheme; https is assumed"]
    return host, []


def normalise_public_url(public_url: str, base_url: str) -> tuple[str, PathNotes]:
    """`public_url` with scheme, trailing slash and `base_url` at its end (config §4.1).

    Raises ValueError when it has a path that does not end with `base_url`.
    """
    if not public_url:
        return "", []
    notes: PathNotes = []
    if "://" not in public_url:
        notes.append(f"public_url {public_url!r} has no scheme; https is assumed")
        public_url = f"https://{public_url}"
    parts = urlsplit(public_url)
    path = parts.path if parts.path.endswith("/") else parts.path + "/"
    if not path.endswith(base_url):
        if path != "/":
            raise ValueError(f"public_url {public_url!r} must end with the base_url {base_url!r}")
        notes.append(f"public_url does not contain the base_url {base_url!r}; it is appended")
        path = base_url
    return urlunsplit((parts.scheme, parts.netloc, path, "", "")), notes


def hub_route_spec(spec: str, base_url: str, *, subdomains: bool) -> str:
    """The spec of the hub's own route; an empty one gets its default (config §4.2)."""
    if not spec:
        return "/" if subdomains else base_url
    if not spec.endswith("/"):
        spec += "/"
    return spec if subdomains or spec.startswith("/") else "/" + spec


# -- host names ----------------------------------------------------------------------------------------------

_DNS_LABEL: Final = re.compile(r"(?!\d+\Z)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_STUB_LENGTH: Final = 8
_STUB_HASH_DIGITS: Final = 7


def subdomain_hook_idna(name: str, domain: str, kind: str) -> str:
    """The default scheme:

    the name itself, its IDNA form, or a stub with a hash, as one label (config §12).
    """
    label = dns_label(name)
    return f"{label}.{domain}" if kind == "user" else f"{label}--{kind}.{domain}"


def dns_label(name: str) -> str:
    """One DNS label for a name: itself, its IDNA 2008 form, or a readable stub with a hash."""
    # "--" separates the name from a kind or a hash, so a name of its own with "--" could pass for another.
    if "--" in name:
        return _stub_label(name)
    if _is_dns_label(name):
        return name
    import idna

    try:
        encoded = idna.encode(name).decode("ascii")
    except idna.IDNAError:
        return _stub_label(name)
    return encoded if encoded != name and _is_dns_label(encoded) else _stub_label(name)


def _is_dns_label(text: str) -> bool:
    return _DNS_LABEL.fullmatch(text) is not None


def _stub_label(name: str) -> str:
    readable = "".join(c for c in name.lower() if c in "abcdefghijklmnopqrstuvwxyz0123456789")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"u-{readable[:_STUB_LENGTH] or 'x'}--{digest[:_STUB_HASH_DIGITS]}"


_LEGACY_UNSAFE: Final = re.compile(r"[^a-z0-9.%-]")


def subdomain_hook_legacy(name: str, domain: str, kind: str) -> str:
    """The scheme of older hubs: users percent-encoded with ``_`` for ``%``, all services on one host."""
    if kind != "user":
        return f"services.{domain}"
    # quote() keeps "_" and "~", which a host name must not contain; they are escaped in a second pass.
    quoted = quote(name, safe="").lower()
    quoted = _LEGACY_UNSAFE.sub(lambda match: f"%{ord(match.group()):x}", quoted)
    return f"{quoted.replace('%', '_')}.{domain}"
