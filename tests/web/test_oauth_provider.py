"""The OAuth provider (oauth §3 to §8, §13)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from html import unescape
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
from sqlalchemy import update
from tornado.httpclient import HTTPResponse

from jupyterhub import orm

from .fakes import Browser
from .live_hub import Answer, LiveHub

AUTHORIZE = "/hub/api/oauth2/authorize"
CALLBACK = "http://127.0.0.1:9/callback"
SECRET = "s" * 20
ALWAYS = {"read:users:name!user", "read:users:groups!user", "access:services!service=app"}

SETTINGS: dict[str, Any] = {
    "services": [
        {
            "name": "app", "api_token": SECRET, "oauth_redirect_uri": CALLBACK,
            "oauth_client_allowed_scopes": ["read:users!user", "list:users", "servers!user"],
        },
        {"name": "trusted", "api_token": "t" * 20, "oauth_redirect_uri": "/services/trusted/cb", "oauth_no_confirm": True},
        {"name": "all", "api_token": "a" * 20, "oauth_redirect_uri": CALLBACK, "oauth_client_allowed_scopes": ["inherit"]},
        {"name": "me", "api_token": "m" * 20, "oauth_redirect_uri": CALLBACK, "oauth_client_allowed_scopes": ["self"]},
        {"name": "secretless", "oauth_redirect_uri": CALLBACK},
    ],
    "load_roles": [
        {"name": "user", "scopes": ["self", "access:services"]},
        {"name": "outsider", "scopes": ["self"]},
    ],
}


@pytest.fixture
async def hub() -> AsyncIterator[LiveHub]:
    """A Hub with applications that people log in to."""
    live = LiveHub(**SETTINGS)
    await live.start()
    yield live
    await live.close()


def authorize_url(client_id: str | None = "service-app", **arguments: Any) -> str:
    values = {"client_id": client_id, "response_type": "code", "state": "s/1 ", **arguments}
    return f"{AUTHORIZE}?{urlencode({name: value for name, value in values.items() if value is not None})}"


def sent_back(answer: HTTPResponse) -> dict[str, str]:
    """Return the parameters with which the browser is sent back."""
    assert answer.code == 302, answer.body
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()}


def asked_scopes(answer: HTTPResponse) -> set[str]:
    """Return the scopes in a consent form."""
    assert answer.code == 200, answer.body
    return {unescape(value) for value in re.findall(r'name="scopes" value="([^"]*)"', answer.body.decode())}


async def agree(browser: Browser, url: str, scopes: set[str] | None = None) -> HTTPResponse:
    """Post the consent form, as it is or with other scopes."""
    answer = await browser.get(url)
    chosen = asked_scopes(answer) if scopes is None else scopes
    form = [("_xsrf", browser.cookie("_xsrf") or ""), *(("scopes", scope) for scope in sorted(chosen))]
    return await browser.fetch(url, "POST", body=urlencode(form))


async def code_for(browser: Browser, url: str, scopes: set[str] | None = None) -> str:
    return sent_back(await agree(browser, url, scopes))["code"]


async def exchange(hub: LiveHub, code: str | None, **arguments: Any) -> Answer:
    """Exchange a code as the application does; arguments replace what it sends, None leaves it out."""
    headers = arguments.pop("headers", {})
    query = arguments.pop("query", "")
    values = {
        "grant_type": "authorization_code", "code": code, "client_id": "service-app", "client_secret": SECRET, **arguments,
    }
    body = urlencode({name: value for name, value in values.items() if value is not None})
    return await hub.call(
        "POST", f"/oauth2/token{query}", raw=body, headers={"Content-Type": "application/x-www-form-urlencoded", **headers}
    )


# The authorisation endpoint


async def test_strangers_log_in_first(hub: LiveHub) -> None:
    """Rows 1, 2: the whole address comes back after the log-in; a token is no log-in here."""
    url = authorize_url()
    stranger = Browser(hub.url)
    for headers in ({}, {"Authorization": f"token {await hub.token('alice')}"}):
        answer = await stranger.get(url, headers=headers)
        assert (answer.code, answer.headers["Location"]) == (302, f"/hub/login?next={quote(url, safe='')}")
    hub.app.authenticator.auto_login_oauth2_authorize = True
    hub.app.authenticator.login_url = lambda base_url: f"{base_url}elsewhere"
    assert (await stranger.get(url)).headers["Location"].startswith("/hub/elsewhere?next=")
    for method in ("HEAD", "OPTIONS"):
        assert (await stranger.fetch(url, method)).code == 405


async def test_wrong_clients_and_redirects_are_pages(hub: LiveHub) -> None:
    """Rows 3 to 5: nobody is sent anywhere by a request that cannot be trusted."""
    browser = await hub.browser("alice")
    for url in (
        authorize_url(None), authorize_url("service-none"), authorize_url("jupyterhub"), authorize_url("service-secretless"),
        authorize_url(redirect_uri=f"{CALLBACK}/x"), authorize_url(redirect_uri="callback"),
        authorize_url(redirect_uri="//127.0.0.1:9/callback"),
        f"{authorize_url()}&state=2", f"{authorize_url()}&client_id=service-app", f"{authorize_url(scope='self')}&scope=x",
    ):
        answer = await browser.get(url)
        assert answer.code == 400 and b"<h1" in answer.body, url
    assert (await browser.get(authorize_url(redirect_uri=CALLBACK))).code == 200
    assert (await browser.get(authorize_url())).code == 200


async def test_other_mistakes_go_back_to_the_application(hub: LiveHub) -> None:
    """Rows 6, 7, 9, 11: with an error and the state, to the registered address."""
    browser = await hub.browser("alice")
    for arguments, error in (
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": ""}, "invalid_scope"),
        ({"scope": "read:users"}, "invalid_scope"),
        ({"scope": "nope"}, "invalid_scope"),
        ({"scope": "read:users!user user"}, "invalid_scope"),
        ({"scope": "self"}, "invalid_scope"),
        ({"code_challenge": "x" * 43, "code_challenge_method": "bad"}, "invalid_request"),
    ):
        answer = await browser.get(authorize_url(**arguments))
        back = sent_back(answer)
        assert (back["error"], back["state"]) == (error, "s/1 "), arguments
        assert answer.headers["Location"].startswith(f"{CALLBACK}?")
    hub.settings["oauth_require_pkce"] = True
    assert sent_back(await browser.get(authorize_url()))["error"] == "invalid_request"
    assert (await browser.get(authorize_url(code_challenge="x" * 43))).code == 200


async def test_what_is_asked_for_is_resolved(hub: LiveHub) -> None:
    """Rows 8, 10 and the examples of rbac §10: against the client's limit, then against what the user has."""
    browser = await hub.browser("alice")
    every = asked_scopes(await browser.get(authorize_url()))
    assert every == ALWAYS | {"read:users!user", "servers!user", "read:users:name!user=alice"}
    assert asked_scopes(await browser.get(authorize_url(scope="read:servers!user"))) == ALWAYS | {"read:servers!user"}
    assert asked_scopes(await browser.get(authorize_url(scope="identify"))) == ALWAYS
    assert asked_scopes(await browser.get(authorize_url("service-all"))) == {"inherit"}
    inherit_only = await browser.get(authorize_url("service-all", scope="read:users!user"))
    assert sent_back(inherit_only)["error"] == "invalid_scope"
    role = asked_scopes(await browser.get(authorize_url("service-me", scope="outsider")))
    assert role == {"self", "read:users:name!user", "read:users:groups!user", "access:services!service=me"}


async def test_the_consent_page_says_what_it_is_about(hub: LiveHub) -> None:
    """The application and where it leads, the permissions in words, and a form against forgery."""
    browser = await hub.browser("alice")
    text = (await browser.get(authorize_url(scope="read:users!user"))).body.decode()
    assert "app" in text and CALLBACK in text and "only you" in text
    assert f'value="{browser.cookie("_xsrf")}"' in text
    bare = (await browser.get(authorize_url(scope="identify"))).body.decode()
    assert "only you" not in bare
    for form in ({}, {"_xsrf": "wrong"}):
        answer = await browser.post(authorize_url(), form)
        assert answer.code == 403 and b"<h1" in answer.body


async def test_what_the_form_may_choose(hub: LiveHub) -> None:
    """Rows 16 and beyond: no scopes identify alone; more than was offered goes back as an error."""
    browser = await hub.browser("alice")
    url = authorize_url()
    token = (await exchange(hub, await code_for(browser, url, set()))).json
    assert set(token["scope"].split()) == ALWAYS
    part = (await exchange(hub, await code_for(browser, url, {"read:users!user"}))).json
    assert set(part["scope"].split()) == ALWAYS | {"read:users!user"}
    for scopes in ({"admin:users"}, {"inherit"}, {"list:users"}):
        back = sent_back(await agree(browser, url, scopes))
        assert (back["error"], back["state"]) == ("invalid_scope", "s/1 "), scopes


async def test_whoever_may_not_enter_is_not_asked(hub: LiveHub) -> None:
    """Rows 13, 14: a page that says so, for the link and for the form."""
    await hub.user("mallory")

    def limit(session: Any) -> None:
        user = orm.User.find(session, "mallory")
        assert user is not None
        user.roles = [orm.Role.find(session, "outsider")]

    await hub.context.database.run(limit)
    hub.context.access.forget_all()
    browser = await hub.browser("mallory")
    await hub.context.database.run(limit)
    hub.context.access.forget_all()
    await browser.get("/hub/home")
    assert (await browser.get(authorize_url())).code == 403
    assert (await browser.post(authorize_url(), {"_xsrf": browser.cookie("_xsrf") or ""})).code == 403


async def test_consent_is_asked_for_once(hub: LiveHub) -> None:
    """Rows 17 to 19: not for what was granted before or less, not for trusted services."""
    browser = await hub.browser("alice")
    await exchange(hub, await code_for(browser, authorize_url()))
    for arguments in ({}, {"scope": "read:users!user"}, {"scope": "identify"}):
        assert "code" in sent_back(await browser.get(authorize_url(**arguments)))
    trusted = await browser.get(authorize_url("service-trusted"))
    assert trusted.headers["Location"].startswith("/services/trusted/cb?code=")
    other = await hub.browser("bob")
    assert (await other.get(authorize_url())).code == 200


# Servers


async def test_the_way_into_ones_own_server(hub: LiveHub) -> None:
    """The whole flow with a server's path as redirect and PKCE, without a question (oauth §12)."""
    await hub.run_server("alice")
    secret = (await hub.user("alice")).spawners[""].api_token
    browser = await hub.browser("alice")
    verifier = "v" * 50
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    path = "/user/alice/oauth_callback"
    url = authorize_url("jupyterhub-user-alice", redirect_uri=path, code_challenge=challenge, code_challenge_method="S256")
    answer = await browser.get(url)
    assert answer.headers["Location"].startswith(f"{path}?")
    token = await exchange(
        hub, sent_back(answer)["code"], client_id="jupyterhub-user-alice", client_secret=secret, redirect_uri=path,
        code_verifier=verifier, headers={"Authorization": f"token {secret}"},
    )
    assert token.status == 200, token
    identity = (await hub.call("GET", "/user", token=token.json["access_token"])).json
    assert identity["name"] == "alice" and "access:servers!server=alice/" in identity["scopes"]
    assert identity["session_id"] == browser.cookie("jupyterhub-session-id")
    listed = (await hub.as_("alice", "GET", "/users/alice/tokens")).json["api_tokens"]
    (issued,) = [each for each in listed if each["id"] == identity["token_id"]]
    assert issued["oauth_client"] == "Server at /user/alice/" and issued["note"] == ""
    assert "access:servers!server=alice/" in issued["scopes"]
    assert (await hub.as_("alice", "DELETE", "/users/alice/server")).status == 204
    assert (await hub.call("GET", "/user", token=token.json["access_token"])).status == 403
    assert (await browser.get(url)).code == 400


@pytest.mark.parametrize("recipient", [{"user": "bob"}, {"group": "g1"}])
async def test_the_way_into_a_shared_server(hub: LiveHub, recipient: dict[str, str]) -> None:
    """Rows 20, 21: with consent, also when a group was given the share; no longer once it is revoked."""
    await hub.user("bob", groups=("g1",))
    await hub.run_server("alice")
    secret = (await hub.user("alice")).spawners[""].api_token
    browser = await hub.browser("bob")
    url = authorize_url("jupyterhub-user-alice")
    assert (await browser.get(url)).code == 403
    assert (await hub.as_("admin", "POST", "/shares/alice/", recipient)).status == 200
    code = await code_for(browser, url)
    token = await exchange(hub, code, client_id="jupyterhub-user-alice", client_secret=secret)
    assert token.status == 200, token
    access = token.json["access_token"]
    assert "access:servers!server=alice/" in (await hub.call("GET", "/user", token=access)).json["scopes"]
    assert (await hub.as_("admin", "PATCH", "/shares/alice/", recipient)).status == 200
    assert "access:servers!server=alice/" not in (await hub.call("GET", "/user", token=access)).json["scopes"]
    assert (await browser.get(url)).code == 403


# The token endpoint


async def test_a_token_for_a_code(hub: LiveHub) -> None:
    """Rows 26, 30, 31: thirty letters and digits, for two weeks, with the session it belongs to."""
    browser = await hub.browser("alice")
    code = await code_for(browser, authorize_url())
    assert re.fullmatch(r"[A-Za-z0-9]{30}", code)
    answer = await exchange(hub, code)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")
    assert re.fullmatch(r"[A-Za-z0-9]{30}", answer.json["access_token"])
    assert (answer.json["expires_in"], answer.json["token_type"]) == (1209600, "Bearer")
    assert "refresh_token" not in answer.json
    identity = (await hub.call("GET", "/user", token=answer.json["access_token"])).json
    assert identity["session_id"] == browser.cookie("jupyterhub-session-id")
    assert "access:services!service=app" in identity["scopes"]


async def test_clients_that_do_not_prove_who_they_are(hub: LiveHub) -> None:
    """Rows 22, 23, 24: 401 with a header, and the code stays good for the right one."""
    browser = await hub.browser("alice")
    code = await code_for(browser, authorize_url())
    basic = "Basic " + base64.b64encode(f"service-app:{SECRET}".encode()).decode()
    for arguments in (
        {"client_secret": "wrong"}, {"client_secret": None}, {"client_id": "service-none"}, {"client_id": None},
        {"client_id": None, "client_secret": None, "headers": {"Authorization": basic}},
        {"client_id": "jupyterhub", "client_secret": ""},
    ):
        answer = await exchange(hub, code, **arguments)
        assert (answer.status, answer.json["error"]) == (401, "invalid_client"), arguments
        assert 'error="invalid_client"' in answer.headers["WWW-Authenticate"]
    foreign = await exchange(hub, code, client_id="service-all", client_secret="a" * 20)
    assert (foreign.status, foreign.json["error"]) == (400, "invalid_grant")
    assert (await exchange(hub, code)).status == 200
    assert (await exchange(hub, code)).json["error"] == "invalid_grant"


async def test_requests_that_are_wrong(hub: LiveHub) -> None:
    """Rows 23, 28 and the table of oauth §6: OAuth's own words, as JSON."""
    browser = await hub.browser("alice")
    code = await code_for(browser, authorize_url())
    for arguments, error in (
        ({"code": None}, "invalid_request"),
        ({"code": "x" * 30}, "invalid_grant"),
        ({"grant_type": None}, "unsupported_grant_type"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"redirect_uri": f"{CALLBACK}/x"}, "invalid_request"),
        ({"query": "?x=1"}, "invalid_request"),
    ):
        answer = await exchange(hub, arguments.pop("code", code), **arguments)  # type: ignore[arg-type]
        assert (answer.status, answer.json["error"]) == (400, error), (arguments, answer)
    as_json = await hub.call("POST", "/oauth2/token", {"grant_type": "authorization_code", "code": code})
    assert (as_json.status, as_json.json["error"]) == (400, "unsupported_grant_type")
    wrong_method = await hub.call("GET", "/oauth2/token")
    assert (wrong_method.status, wrong_method.json) == (405, {"status": 405, "message": None})
    assert (await exchange(hub, code)).status == 200


async def test_browsers_of_other_sites_have_no_business_here(hub: LiveHub) -> None:
    """Row 29: an `Origin` is refused, unless a token comes along."""
    browser = await hub.browser("alice")
    code = await code_for(browser, authorize_url())
    origin = {"Origin": "http://elsewhere"}
    refused = await exchange(hub, code, headers=origin)
    assert refused.status == 403 and "_xsrf" in refused.message
    assert (await exchange(hub, code, headers={**origin, "Authorization": f"token {SECRET}"})).status == 200


async def test_proof_keys(hub: LiveHub) -> None:
    """Row 27: missing, wrong, right and superfluous verifiers, plain and hashed challenges."""
    browser = await hub.browser("alice")
    verifier = "v" * 50
    hashed = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    for challenge in ({"code_challenge": hashed, "code_challenge_method": "S256"}, {"code_challenge": verifier}):
        url = authorize_url(**challenge)
        code = sent_back(await agree(browser, url) if b"<form" in (await browser.get(url)).body else await browser.get(url))["code"]
        assert (await exchange(hub, code)).json["error"] == "invalid_request"
        assert (await exchange(hub, code, code_verifier="w" * 50)).json["error"] == "invalid_grant"
        assert (await exchange(hub, code, code_verifier=verifier)).status == 200
    superfluous = sent_back(await browser.get(authorize_url()))["code"]
    assert (await exchange(hub, superfluous, code_verifier=verifier)).status == 200
    unprotected = sent_back(await browser.get(authorize_url()))["code"]
    hub.settings["oauth_require_pkce"] = True
    assert (await exchange(hub, unprotected, code_verifier=verifier)).json["error"] == "invalid_grant"


async def test_codes_expire(hub: LiveHub) -> None:
    """After five minutes a code is as good as unknown."""
    browser = await hub.browser("alice")
    code = await code_for(browser, authorize_url())

    def age(session: Any) -> None:
        (row,) = session.query(orm.OAuthCode).all()
        assert 295 <= row.expires_at - orm.OAuthCode.now() <= 300
        session.execute(update(orm.OAuthCode).values(expires_at=int(orm.OAuthCode.now()) - 1))

    await hub.context.database.run(age)
    assert (await exchange(hub, code)).json["error"] == "invalid_grant"


async def test_permissions_lost_since_the_consent(hub: LiveHub) -> None:
    """A code is worth no more than its user has at the exchange: OAuth's error, not a failure of ours."""
    await hub.grant("alice", "read:hub", "list:users")
    browser = await hub.browser("alice")
    code = await code_for(browser, authorize_url())
    without_access = await code_for(browser, authorize_url(scope="identify"))

    def take_away(session: Any, role: str) -> None:
        user = orm.User.find(session, "alice")
        assert user is not None
        user.roles = [orm.Role.find(session, role)]

    await hub.context.database.run(take_away, "user")
    answer = await exchange(hub, code)
    assert (answer.status, answer.json["error"]) == (400, "invalid_scope") and answer.json["error_description"]
    await hub.context.database.run(take_away, "outsider")
    answer = await exchange(hub, without_access)
    assert (answer.status, answer.json["error"]) == (400, "invalid_grant") and answer.json["error_description"]


async def test_logging_out_ends_the_tokens_of_the_session(hub: LiveHub) -> None:
    """Row 32: those of this browser; API tokens stay."""
    kept = await hub.token("alice")
    browser = await hub.browser("alice")
    token = (await exchange(hub, await code_for(browser, authorize_url()))).json["access_token"]
    assert (await hub.call("GET", "/user", token=token)).status == 200
    await browser.get("/hub/logout")
    for _ in range(200):
        if (await hub.call("GET", "/user", token=token)).status == 403:
            break
    assert (await hub.call("GET", "/user", token=token)).status == 403
    assert (await hub.call("GET", "/user", token=kept)).status == 200


# Clients of plugins


async def test_plugins_register_clients(hub: LiveHub) -> None:
    """A client can be added, changed and removed; its secret is kept as a hash."""
    provider = hub.app.oauth_provider
    row = provider.add_client("service-mine", "x" * 20, "/mine", ["read:users!user"], "Mine")
    assert row.identifier == "service-mine" and "x" * 20 not in row.secret
    found = await provider.find_client("service-mine")
    assert (found.description, found.allowed_scopes, found.redirect_uri) == ("Mine", ("read:users!user",), "/mine")
    provider.add_client("service-mine", "y" * 20, "/other")
    assert (await provider.find_client("service-mine")).redirect_uri == "/other"
    browser = await hub.browser("alice")
    assert (await browser.get(authorize_url("service-mine"))).code == 500
    provider.remove_client("service-mine")
    assert provider.fetch_by_client_id("service-mine") is None


async def test_the_error_of_a_page_is_a_page_and_that_of_the_endpoint_is_json(hub: LiveHub) -> None:
    """Each speaks the language of those who come there."""
    browser = await hub.browser("alice")
    page = await browser.get(authorize_url("service-none"))
    assert page.headers["Content-Type"] == "text/html"
    answer = await exchange(hub, "x")
    assert json.loads(answer.text)["error"] == "invalid_grant"
