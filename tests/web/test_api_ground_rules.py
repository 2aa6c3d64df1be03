"""Rules that hold for every operation (rest-api §1)."""

from __future__ import annotations

import json

import pytest

from jupyterhub._version import INTERFACE_VERSION, __version__

from .live_hub import PAGINATION, LiveHub, page


async def test_root_is_open_to_everybody(live: LiveHub) -> None:
    """Rows 1, 7, 8, 9: the root asks nobody who they are; unknown paths and methods have no text."""
    for path in ("", "/"):
        answer = await live.call("GET", path, headers={"Authorization": "token nonsense"})
        assert answer.status == 200
        assert answer.json == {"version": INTERFACE_VERSION}
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["X-JupyterHub-Version"] == INTERFACE_VERSION
    admin = await live.token("admin")
    for method, path, status in (
        ("PUT", "/user", 405), ("POST", "/nothing", 404), ("GET", "/users/", 404), ("BREW", "/users", 405),
        ("OPTIONS", "/nothing", 404),
    ):
        answer = await live.call(method, path, token=admin)
        assert (answer.status, answer.json) == (status, {"status": status, "message": None}), path
    head = await live.call("HEAD", "/users", token=admin)
    assert (head.status, head.text) == (405, "")
    options = await live.call("OPTIONS", "/users")
    assert (options.status, options.text) == (200, "")
    assert (await live.call("GET", "/users/%ff", token=admin)).status == 400


async def test_headers_of_every_answer(live: LiveHub) -> None:
    """JSON without a charset, a policy that allows nothing, an entity tag that saves the body (row 96)."""
    answer = await live.as_("admin", "GET", "/users")
    assert answer.headers["Content-Type"] == "application/json"
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Access-Control-Allow-Headers"] == "accept, content-type, authorization"
    assert "Access-Control-Allow-Origin" not in answer.headers
    for tag in ("*", answer.headers["ETag"]):
        again = await live.as_("admin", "GET", "/users", headers={"If-None-Match": tag})
        assert (again.status, again.text) == (304, "")


@pytest.mark.parametrize("live", [{"tornado_settings": {"headers": {"X-Ours": "1", "Access-Control-Allow-Origin": "x"}}}], indirect=True)
async def test_configured_headers_win(live: LiveHub) -> None:
    """Headers of `tornado_settings` are on every answer, errors and the root included."""
    for path in ("/", "/user", "/nothing"):
        answer = await live.call("GET", path)
        assert (answer.headers["X-Ours"], answer.headers["Access-Control-Allow-Origin"]) == ("1", "x")


async def test_who_asks(live: LiveHub) -> None:
    """Rows 2, 11 to 14: the word token or bearer and one word; a bad token falls through to the cookie."""
    token = await live.token("alice")
    anonymous = await live.call("GET", "/user")
    assert (anonymous.status, anonymous.message) == (403, None)
    for value in (f"TOKEN {token}", f"Bearer {token}", f"token   {token}"):
        assert (await live.call("GET", "/user", headers={"Authorization": value})).status == 200
    for value in (f"Basic {token}", token, f"token {token} more", f"token{token}", f"token {'x' * 65}"):
        assert (await live.call("GET", "/user", headers={"Authorization": value})).status == 403
    assert (await live.call("GET", f"/user?token={token}")).status == 403
    browser = await live.browser("alice")
    answer = await browser.get("/hub/api/user", headers={"Authorization": "token unknown"})
    assert answer.code == 200 and json.loads(answer.body)["name"] == "alice"


async def test_refusals_say_what_is_missing(live: LiveHub) -> None:
    """Rows 3, 4 and the table of §1.5: no credentials, no scope, a scope for something else."""
    anonymous = await live.call("GET", "/info")
    assert anonymous.status == 403 and anonymous.message
    refused = await live.as_("alice", "GET", "/info")
    assert refused.status == 403 and "[read:hub]" in refused.message
    hidden = await live.as_("alice", "GET", "/users/admin")
    missing = await live.as_("alice", "GET", "/users/nobody")
    assert hidden.status == missing.status == 404 and hidden.message == missing.message
    filtered = await live.with_scopes(["admin:users!user=alice"], "POST", "/users", {"usernames": ["x"]})
    assert filtered.status == 403 and "[admin:users]" in filtered.message


async def test_error_texts_are_passed_on_as_they_are(live: LiveHub) -> None:
    """A percent sign in somebody's input comes back as one."""
    answer = await live.as_("admin", "GET", "/users?state=100%25")
    assert answer.status == 400 and "100%'" in answer.message


async def test_cookies_need_the_xsrf_token(live: LiveHub) -> None:
    """Rows 92 to 94: a cookie alone is not enough for what scripts do, and a form's type makes it count for nothing."""
    browser = await live.browser("alice")
    await browser.get("/hub/home")
    xsrf = browser.cookie("_xsrf")
    assert xsrf
    cors = {"Sec-Fetch-Mode": "cors"}
    assert (await browser.get("/hub/api/user")).code == 200
    assert (await browser.get("/hub/api/user", headers=cors)).code == 403
    assert (await browser.get("/hub/api/user", headers={**cors, "X-XSRFToken": xsrf})).code == 200
    assert (await browser.get(f"/hub/api/user?_xsrf={xsrf}", headers=cors)).code == 200
    body = json.dumps({"note": "x"})
    post = {"method": "POST", "body": body}
    as_json = {"Content-Type": "application/json"}
    refused = await browser.fetch("/hub/api/users/alice/tokens", headers=as_json, **post)
    assert refused.code == 403 and "_xsrf" in json.loads(refused.body)["message"]
    done = await browser.fetch("/hub/api/users/alice/tokens", headers={**as_json, "X-XSRFToken": xsrf}, **post)
    assert done.code == 201
    as_text = await browser.fetch(
        "/hub/api/users/alice/activity", headers={"Content-Type": "text/plain", "X-XSRFToken": xsrf}, **post
    )
    assert as_text.code == 403 and "redentials" in json.loads(as_text.body)["message"]
    stranger = await live.call("POST", "/users", {"usernames": ["x"]})
    assert stranger.status == 403 and "redentials" in stranger.message
    other_site = await live.call("POST", "/users", {"usernames": ["x"]}, headers={"Origin": "http://elsewhere"})
    assert other_site.status == 403 and "_xsrf" in other_site.message
    by_token = await live.as_("admin", "POST", "/users", raw='{"usernames": ["x"]}', headers={"Origin": "http://e", "Content-Type": "text/plain"})
    assert by_token.status == 201


async def test_bodies_that_are_not_json(live: LiveHub) -> None:
    """Space around a body is fine; only space, broken JSON and broken UTF-8 are not."""
    for raw in ("   ", "{", b"\xff", "{'a': 1}"):
        answer = await live.as_("admin", "POST", "/users/x", raw=raw)
        assert answer.status == 400 and answer.message, raw
    assert (await live.as_("admin", "POST", "/users/x", raw='  {"admin": false}\n')).status == 201


async def test_pages_of_lists(small: LiveHub) -> None:
    """Rows 15 to 21: limits are brought into range, pages only for who asks for them, the next address is complete."""
    accept = {"Accept": f"text/html, {PAGINATION.upper()}"}
    for query, expected in (
        ("?limit=0", (0, 1, 1)), ("?limit=-2", (0, 2, 2)), ("?limit=100", (0, 5, 4)), ("", (0, 3, 3)),
        ("?offset=-1&limit=1", (1, 1, 1)), ("?offset=100", (100, 3, 0)),
    ):
        answer = await small.as_("admin", "GET", f"/users{query}", headers=accept)
        block = page(answer)
        assert (block["offset"], block["limit"], len(answer.json["items"])) == expected, query
        assert block["total"] == 4
        assert answer.headers["Content-Type"] == "application/json"
    assert page(await small.as_("admin", "GET", "/users?offset=100", headers=accept))["next"] is None
    for query in ("?limit=", "?limit=x", "?offset=1.5"):
        bad = await small.as_("admin", "GET", f"/users{query}", headers=accept)
        assert bad.status == 400 and bad.message, query
    bare = await small.as_("admin", "GET", "/users?limit=2", headers={"Accept": f"{PAGINATION};q=0.9"})
    assert len(bare.json) == 2
    following = page(await small.as_("admin", "GET", "/users?offset=1&limit=2&x=1&y=&x=2", headers=accept))["next"]
    assert following["offset"] == 3 and following["url"].startswith(small.url)
    assert following["url"].endswith("offset=3&limit=2&x=1&x=2&y=")


async def test_information_about_the_hub(live: LiveHub) -> None:
    """Versions, and the classes in use with the versions of their packages."""
    info = (await live.as_("admin", "GET", "/info")).json
    assert info["version"] == __version__
    assert info["spawner"]["class"] == "tests.web.live_hub.ObedientSpawner"
    assert info["authenticator"] == {"class": "tests.web.live_hub.PickyAuthenticator", "version": "unknown"}
    assert set(info) == {"version", "python", "sys_executable", "spawner", "authenticator"}


async def test_shutdown_reads_what_to_take_along(live: LiveHub) -> None:
    """Row 95: only true, false, 0 and 1 are understood, and nothing happens for anything else."""
    for body in ({"proxy": None}, {"servers": "yes"}, {"proxy": 2}):
        answer = await live.as_("admin", "POST", "/shutdown", body)
        assert answer.status == 400 and answer.message
    assert (await live.as_("alice", "POST", "/shutdown")).status == 403
    answer = await live.as_("admin", "POST", "/shutdown", {"proxy": 1, "servers": False})
    assert (answer.status, answer.json) == (202, {"message": "Shutting down Hub"})
    assert live.app.cleanup_proxy is True and live.app.cleanup_servers is False


async def test_the_proxy_table(live: LiveHub) -> None:
    """Row 102: routes with what they are for; a page of them; and the proxy's trouble as 500."""
    await live.run_server("alice")
    routes = (await live.as_("admin", "GET", "/proxy")).json
    assert routes["/user/alice/"]["data"] == {"user": "alice", "server_name": ""}
    assert "/" in routes and routes["/"]["data"]["hub"]
    assert list((await live.as_("admin", "GET", "/proxy?limit=1")).json) == ["/"]
    del live.app.proxy.routes["/user/alice/"]
    assert (await live.as_("admin", "POST", "/proxy")).status == 200
    assert "/user/alice/" in live.app.proxy.routes
    assert (await live.as_("admin", "PATCH", "/proxy", [])).status == 400
    assert (await live.as_("admin", "PATCH", "/proxy", {"else": 1})).status == 200

    async def away() -> None:
        raise ConnectionError("nobody there")

    live.app.proxy.get_all_routes = away
    broken = await live.as_("admin", "GET", "/proxy")
    assert broken.status == 500 and "nobody there" in broken.message


async def test_health_is_asked_of_nobody(live: LiveHub) -> None:
    """The health check is a page without content, for HEAD as well."""
    for method in ("GET", "HEAD"):
        answer = await live.call(method, "/health")
        assert (answer.status, answer.text, answer.headers["Content-Type"]) == (200, "", "text/html")
