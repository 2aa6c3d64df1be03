"""Which `next` is followed. The table is the one observed on a running JupyterHub 6 (web §6, web-flows §5)."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from jupyterhub.web.redirects import Site, append_query, browser_protocol, location, site_of, validate_next

from .fakes import PlayedHub

HOST = "127.0.0.1:21300"
SITE = Site("http", HOST)

REFUSED = [
    "//evil.com", "///evil.com", "////evil.com/x", "\\\\evil.com", "\\/evil.com",
    "http://evil.com", "https://evil.com/x", "http:evil.com", "http:/evil.com", "http:///evil.com",
    "http:////evil.com", "https:\\\\evil.com", "javascript:alert(1)", "data:text/html,x",
    f"ftp://{HOST}/x", f"https://{HOST}/x", f"HTTP://{HOST}/hub/home", "http://127.0.0.1/hub/home",
    "http://127.0.0.1:1/hub/home", "http://localhost:21300/hub/home", f"http://{HOST}@evil.com/",
    f"http://{HOST}.evil.com/", f"///{HOST}@evil.com", f"//{HOST}\\@evil.com/", f"//user:pw@{HOST}/x",
    "//@evil.com", "//[::1]/", "//evil.com:80", "/\t/evil.com", "/\n/evil.com", " //evil.com", "\t//evil.com",
    "%2F%2Fevil.com", "hub/home", "?x=1", "#f", "\uff0f\uff0fevil.com", f"http://{HOST}?x=//e",
    f"http://{HOST}#//e", "/hub/home\r\nX: 1", "/\x0b/evil.com", "", "   ", "//[evil",
]  # fmt: skip

FOLLOWED = {
    "/hub/home?a=1&b=2#frag": "/hub/home?a=1&b=2#frag",
    "/\\evil.com": "/%5Cevil.com",
    "/\\/evil.com": "/%5C/evil.com",
    "/\\\\evil.com": "/%5C%5Cevil.com",
    f"http://{HOST}/hub/home": "/hub/home",
    f"//{HOST}/hub/home": "/hub/home",
    f"///{HOST}/hub/home": "/hub/home",
    f"http://{HOST}": "/",
    f"//{HOST}": "/",
    f"http://{HOST}//evil.com/x": "/evil.com/x",
    f"//{HOST}//evil.com": "/evil.com",
    f"http://{HOST}/\\evil.com": "/%5Cevil.com",
    "/": "/",
    "/hub": "/hub",
    "/user/bob/lab": "/user/bob/lab",
    "/hub/login?next=/hub/home": "/hub/login?next=/hub/home",
    "/hub/logout": "/hub/logout",
    "/%2Fevil.com": "/%2Fevil.com",
    "/%09/evil.com": "/%09/evil.com",
    "/..//evil.com": "/..//evil.com",
    "/hub/../..//evil.com": "/hub/../..//evil.com",
    "/@evil.com": "/@evil.com",
    "/;@evil.com": "/;@evil.com",
    " /hub/home": "/hub/home",
    "/ /evil.com": "/ /evil.com",
}


@pytest.mark.parametrize("value", REFUSED)
def test_a_next_that_leads_away_is_refused(value: str) -> None:
    assert validate_next(value, SITE) == ""


@pytest.mark.parametrize("value", FOLLOWED)
def test_a_next_on_this_site_is_followed_as_a_path(value: str) -> None:
    assert validate_next(value, SITE) == FOLLOWED[value]


@given(st.text(alphabet="/\\.:@?#[]%\t\n abhtps1", max_size=30) | st.text(max_size=30))
def test_what_is_followed_never_names_a_host(value: str) -> None:
    """CVE-2019-10255, CVE-2026-33709: whatever is given, the result stays on this site."""
    for site in (SITE, Site("https", "hub.example", "hub.example")):
        result = validate_next(value, site)
        if result:
            parts = urlsplit(result)
            assert not parts.scheme and not parts.netloc
            assert result.startswith("/") and not result.startswith("//")
            assert "\\" not in result


def test_a_user_domain_counts_as_this_site_with_subdomains_only() -> None:
    site = Site("http", "hub.localhost:1", "hub.localhost:1")
    assert validate_next("http://ivy.hub.localhost:1/user/ivy/lab", site) == "/user/ivy/lab"
    assert validate_next("http://evilhub.localhost:1/x", site) == ""
    assert validate_next("http://ivy.hub.localhost/x", site) == ""
    assert validate_next("http://hub.localhost:1.evil.com/x", site) == ""
    assert validate_next("http://ivy.hub.localhost:1/x", Site("http", "hub.localhost:1")) == ""


def request(**headers: str) -> HTTPServerRequest:
    given = HTTPHeaders({name.replace("_", "-"): value for name, value in headers.items()})
    given["Host"] = "hub.example"
    line = RequestStartLine("GET", "/", "HTTP/1.1")
    return HTTPServerRequest(start_line=line, headers=given)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, "http"),
        ({"X_Forwarded_Proto": "https,http"}, "https"),
        ({"X_Scheme": "https"}, "https"),
        ({"Forwarded": 'for=1.2.3.4;proto="https", proto=http'}, "https"),
        ({"Forwarded": "for=1.2.3.4", "X_Scheme": "https"}, "https"),
    ],
)
def test_the_outermost_hop_says_how_the_browser_connects(headers: dict[str, str], expected: str) -> None:
    assert browser_protocol(request(**headers)) == expected


def test_a_public_url_is_the_only_site() -> None:
    site = site_of(request(), public_url=urlsplit("https://public.example/"))
    assert validate_next("https://public.example/hub/home", site) == "/hub/home"
    assert validate_next("http://hub.example/hub/home", site) == ""


def test_queries_are_carried_over_except_what_is_left_out() -> None:
    assert append_query("/a?x=1#f", "y=2&next=/b&z=", exclude=["next"]) == "/a?x=1&y=2&z=#f"
    assert append_query("/a", "next=/b", exclude=["next"]) == "/a"


def test_a_location_is_ascii() -> None:
    assert location("/user/é?x=1#ü") == "/user/%C3%A9?x=1#%C3%BC"
    assert location("/a%20b") == "/a%20b"


@pytest.mark.parametrize("route", ["/hub/login", "/hub/", "/hub/spawn", "/hub/spawn-pending/ada"])
@pytest.mark.parametrize("value", ["//evil.com", "///evil.com", "/\\evil.com", "http://evil.com", "/hub/token"])
async def test_every_page_that_takes_next_follows_the_same_rules(hub: PlayedHub, route: str, value: str) -> None:
    from jupyterhub.core.lifecycle import State

    browser = await hub.logged_in("ada")
    hub.people["ada"].set_state("", State.READY)
    answer = await browser.get(f"{route}?next={quote(value, safe='')}")
    assert answer.code == 302
    expected = {"/\\evil.com": "/%5Cevil.com", "/hub/token": "/hub/token"}.get(value, "/user/ada/")
    assert answer.headers["Location"] == expected


async def test_a_full_address_of_this_hub_is_made_a_path(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    answer = await browser.get(f"/hub/login?next={quote(hub.url + '/hub/token', safe='')}")
    assert answer.headers["Location"] == "/hub/token"
    answer = await browser.get("/hub/login?next=/hub/home&next=/hub/token")
    assert answer.headers["Location"] == "/hub/token", "of several the last counts"


async def test_text_that_is_no_utf8_is_a_bad_request(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    assert (await browser.get("/hub/login?next=%ff%fe")).code == 400


async def test_other_arguments_go_along_only_without_next(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    assert (await browser.get("/hub/?foo=bar")).headers["Location"] == "/hub/spawn?foo=bar"
    assert (await browser.get("/hub/?foo=bar&next=/hub/token")).headers["Location"] == "/hub/token"


async def test_where_people_go_is_configured(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    hub.settings["redirect_to_server"] = False
    assert (await browser.get("/hub/")).headers["Location"] == "/hub/home"
    hub.settings["default_url"] = lambda handler: "/hub/token"
    assert (await browser.get("/hub/?next=/hub/home")).headers["Location"] == "/hub/token"
    assert (await browser.get("/hub/login")).headers["Location"] == "/hub/token"


async def test_addresses_outside_the_hub_lead_into_it(hub: PlayedHub) -> None:
    browser = hub.browser()
    for path, code, target in [
        ("/", 302, "/hub/"),
        ("/foo?x=1", 302, "/hub/foo?x=1"),
        ("/user/nina/lab?x=1", 302, "/hub/user/nina/lab?x=1"),
        ("/user/nina", 301, "/user/nina/"),
        ("/services/x?y=1", 301, "/services/x/?y=1"),
    ]:
        answer = await browser.get(path)
        assert (answer.code, answer.headers["Location"]) == (code, target)


@pytest.mark.parametrize("path", ["//evil.com", "//evil.com/user/x", "/\\evil.com", "///evil.com"])
async def test_no_address_outside_the_hub_leads_to_another_host(hub: PlayedHub, path: str) -> None:
    answer = await hub.browser().get(hub.url + path)
    assert answer.code in {301, 302}
    assert answer.headers["Location"].startswith("/hub/")


async def test_a_write_to_a_stopped_server_is_answered_as_programs_expect(hub: PlayedHub) -> None:
    """Web §26, 15: 424 JSON instead of a page about tokens."""
    for method in ("POST", "PUT", "PATCH"):
        answer = await hub.browser().fetch("/user/nina/api/contents/a.ipynb", method)
        assert answer.code == 424
        assert answer.headers["Content-Type"] == "application/json"
