"""Addresses: paths, the hub's own, and host names."""

from __future__ import annotations

import pytest

from jupyterhub.core import urls
from jupyterhub.core.urls import subdomain_hook_idna, subdomain_hook_legacy, url_path_join


@pytest.mark.parametrize(
    ("pieces", "joined"),
    [
        ([], ""),
        (["/"], "/"),
        (["/", "/"], "/"),
        (["a"], "a"),
        (["", "a"], "a"),
        (["/a/", "/b", "", "c/"], "/a/b/c/"),
        (["a", ""], "a"),
        (["a/", ""], "a/"),
        (["http://x/", "y"], "http://x/y"),
        (["/", "a", "/"], "/a/"),
        (["a//b", "c"], "a//b/c"),
        (["/hub/", "/"], "/hub/"),
        (["", ""], ""),
        (["", "/a"], "a"),
    ],
)
def test_joining(pieces: list[str], joined: str) -> None:
    assert url_path_join(*pieces) == joined


@pytest.mark.parametrize(
    ("user", "server", "path"),
    [
        ("alice", "", "/user/alice/"),
        ("al@x", "named", "/user/al@x/named/"),
        ("fake@x y", "n~1", "/user/fake@x%20y/n~1/"),
        ("50%", "", "/user/50%25/"),
        ("ü", "", "/user/%C3%BC/"),
    ],
)
def test_paths_of_servers(user: str, server: str, path: str) -> None:
    assert urls.server_path("/", user, server) == path
    assert urls.server_path("/pre/", user, server) == "/pre" + path


def test_paths_of_services_are_not_encoded() -> None:
    assert urls.service_path("/", "web svc") == "/services/web svc/"


def test_specs_put_the_host_in_front() -> None:
    assert urls.join_spec("/user/a/", "a.hub") == "a.hub/user/a/"
    assert urls.join_spec("/user/a/") == "/user/a/"


@pytest.mark.parametrize(
    ("ip", "text"), [("::1", "[::1]"), ("[::1]", "[::1]"), ("10.0.0.1", "10.0.0.1"), ("", "")]
)
def test_addresses_in_urls(ip: str, text: str) -> None:
    assert urls.fmt_ip_url(ip) == text


@pytest.mark.parametrize(
    ("given", "base_url"), [("x", "/x/"), ("/pre", "/pre/"), ("/", "/"), ("", "/"), ("/a/b/", "/a/b/")]
)
def test_base_urls(given: str, base_url: str) -> None:
    assert urls.normalise_base_url(given) == base_url


@pytest.mark.parametrize(
    ("given", "tls", "expected", "notes"),
    [
        ("https://:443", False, "http://:443", 0),
        ("http://:80", True, "https://:80", 0),
        ("unix+http://%2Ftmp%2Fs", False, "http+unix://%2Ftmp%2Fs", 1),
        ("http+unix://%2Ftmp%2Fs/x", True, "http+unix://%2Ftmp%2Fs/x", 0),
    ],
)
def test_the_certificate_decides_the_scheme(given: str, tls: bool, expected: str, notes: int) -> None:
    url, found = urls.normalise_bind_url(given, tls=tls)
    assert url == expected
    assert len(found) == notes


def test_an_address_without_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="not a URL"):
        urls.normalise_bind_url("localhost:8000", tls=False)


def test_rebuilding_keeps_the_scheme_only() -> None:
    assert (
        urls.bind_url_with("http://1.2.3.4:80/foo", ip="", port=9000, base_url="/foo") == "http://:9000/foo/"
    )
    assert urls.bind_url_with("http://:8000", ip="::1", port=9000, base_url="/") == "http://[::1]:9000/"


@pytest.mark.parametrize(
    ("given", "base_url", "expected", "notes"),
    [
        ("", "/", "", 0),
        ("h", "/", "https://h/", 1),
        ("https://h/", "/p/", "https://h/p/", 1),
        ("https://h/a/p", "/p/", "https://h/a/p/", 0),
        ("https://h:8443/p/", "/p/", "https://h:8443/p/", 0),
    ],
)
def test_public_urls(given: str, base_url: str, expected: str, notes: int) -> None:
    url, found = urls.normalise_public_url(given, base_url)
    assert url == expected
    assert len(found) == notes


def test_a_public_url_elsewhere_is_refused() -> None:
    with pytest.raises(ValueError, match="/p/"):
        urls.normalise_public_url("https://h/x", "/p/")


def test_subdomain_hosts_get_a_scheme() -> None:
    assert urls.normalise_subdomain_host("hub.example")[0] == "https://hub.example"
    assert urls.normalise_subdomain_host("http://hub.example") == ("http://hub.example", [])
    assert urls.normalise_subdomain_host("") == ("", [])


@pytest.mark.parametrize(
    ("given", "subdomains", "spec"),
    [
        ("", False, "/x/"),
        ("", True, "/"),
        ("hub", False, "/hub/"),
        ("hub.example", True, "hub.example/"),
        ("/a/", False, "/a/"),
    ],
)
def test_the_hubs_own_route(given: str, subdomains: bool, spec: str) -> None:
    assert urls.hub_route_spec(given, "/x/", subdomains=subdomains) == spec


HOSTS = [
    ("alice", "alice", "alice--service", "alice"),
    ("Alice", "Alice", "Alice--service", "alice"),
    ("user_1", "u-user1--79b0aa0", "u-user1--79b0aa0--service", "user_5f1"),
    ("a.b", "u-ab--2e7336d", "u-ab--2e7336d--service", "a.b"),
    ("user@example.com", "u-userexam--b4c9a28", None, "user_40example.com"),
    ("123", "u-123--a665a45", None, "123"),
    ("ünïcode", "xn--ncode-cta3g", "xn--ncode-cta3g--service", "_c3_bcn_c3_afcode"),
    ("日本語", "xn--wgv71a119e", None, "_e6_97_a5_e6_9c_ac_e8_aa_9e"),
    ("a--b", "u-ab--90827a2", None, "a--b"),
    ("straße", "xn--strae-oqa", None, "stra_c3_9fe"),
    ("a b", "u-ab--c8687a0", None, "a_20b"),
    ("~x", "u-x--52fa217", None, "_7ex"),
    ("Ω", "u-x--e3c622e", None, "_ce_a9"),
    ("😀", "u-x--f0443a3", None, "_f0_9f_98_80"),
    ("a" * 64, "u-aaaaaaaa--ffe054f", None, "a" * 64),
]


@pytest.mark.parametrize(("name", "user", "service", "legacy"), HOSTS)
def test_host_names_are_as_listed(name: str, user: str, service: str | None, legacy: str) -> None:
    assert subdomain_hook_idna(name, "hub.example", "user") == f"{user}.hub.example"
    if service:
        assert subdomain_hook_idna(name, "hub.example", "service") == f"{service}.hub.example"
    assert subdomain_hook_legacy(name, "hub.example", "user") == f"{legacy}.hub.example"
    assert subdomain_hook_legacy(name, "hub.example", "service") == "services.hub.example"
