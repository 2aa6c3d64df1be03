"""Which `next` is safe to follow, and what is carried over to where a person goes (web §6)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from tornado.httputil import HTTPServerRequest

#: Characters that no address may hold. What Tornado turned into blanks before is not among them any more.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Site:
    """What counts as "this site" when an absolute address is given.

    `scheme` and `host` are as the browser sees them, the host with its port. `hub_host` is host and port of the Hub
    when every user has a domain, else empty.
    """

    scheme: str
    host: str
    hub_host: str = ""


def browser_protocol(request: HTTPServerRequest) -> str:
    """Return 'http' or 'https' as the browser saw it: the outermost hop that says so, else the connection's.

    Looked for in this order: `Forwarded`, `X-Scheme`, `X-Forwarded-Proto` (web §6 step 3).
    """
    headers = request.headers
    forwarded = headers.get("Forwarded")
    if forwarded:
        for pair in forwarded.split(",", 1)[0].split(";"):
            key, _, value = pair.strip().partition("=")
            if key.strip().lower() == "proto" and value.strip():
                return value.strip().strip('"').lower()
    for name in ("X-Scheme", "X-Forwarded-Proto"):
        first = headers.get(name, "").split(",", 1)[0].strip()
        if first:
            return first.lower()
    return request.protocol


def site_of(request: HTTPServerRequest, *, public_url: object = "", subdomain_host: str = "") -> Site:
    """Return what this site is for a request. A configured public URL wins over what the request says."""
    hub_host = urlsplit(subdomain_host).netloc if subdomain_host else ""
    scheme, host = getattr(public_url, "scheme", ""), getattr(public_url, "netloc", "")
    if scheme and host:
        return Site(scheme, host, hub_host)
    return Site(browser_protocol(request), request.host, hub_host)


def _belongs_to(host: str, hub_host: str) -> bool:
    return bool(hub_host) and (host == hub_host or host.endswith("." + hub_host))


def validate_next(value: str, site: Site) -> str:
    """Return `value` as a path on this site, or '' when it would lead elsewhere (web §6).

    The result has no scheme and no host and starts with exactly one slash, whatever was given.
    """
    url = value.strip().replace("\\", "%5C")
    if not url or _CONTROL.search(url):
        return ""
    if url.startswith("///"):
        url = "//" + url.lstrip("/")
    try:
        parts = urlsplit(url)
        own = (url + "/").startswith((f"{site.scheme}://{site.host}/", f"//{site.host}/"))
        if own or _belongs_to(parts.netloc, site.hub_host):
            url = urlunsplit(("", "", "/" + parts.path.lstrip("/"), parts.query, parts.fragment))
            parts = urlsplit(url)
    except ValueError:
        return ""
    if parts.scheme or parts.netloc or not url.startswith("/") or url.startswith("//"):
        return ""
    return url


def append_query(url: str, query: str, *, exclude: Iterable[str] = ()) -> str:
    """Add the arguments of a query string to a URL, except the excluded names. Blank values are kept."""
    left_out = frozenset(exclude)
    added = [(key, value) for key, value in parse_qsl(query, keep_blank_values=True) if key not in left_out]
    if not added:
        return url
    parts = urlsplit(url)
    joined = f"{parts.query}&{urlencode(added)}" if parts.query else urlencode(added)
    return urlunsplit(parts._replace(query=joined))


def location(url: str) -> str:
    """Return a URL as it may stand in a header: what is not ASCII is percent-encoded, the rest is left alone."""
    return quote(url, safe="".join(map(chr, range(0x20, 0x7F))))
