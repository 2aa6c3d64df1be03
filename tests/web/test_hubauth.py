"""HubAuth: who is behind a token, how long that is believed, and what visitors see when the Hub fails."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tornado import web
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_unix_socket
from traitlets import TraitError

from jupyterhub.services._hubclient import ExpiringCache
from jupyterhub.services.auth import HubAuth, HubOAuth, UserNotAllowed, check_scopes

from .fake_hub import FakeHub, running_hub


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    async with running_hub() as fake:
        yield fake


@pytest.fixture
def auth(hub: FakeHub) -> HubAuth:
    return HubAuth(api_url=hub.api_url, api_token="service-token")


# -- scopes


@pytest.mark.parametrize(
    ("required", "held", "granted"),
    [
        ("access:servers!server=a/b", ["access:servers!user=a"], {"access:servers!server=a/b"}),
        ("access:servers", ["access:servers!user=a"], set()),
        ("access:servers!user=a", ["access:servers"], {"access:servers!user=a"}),
        ({"read:hub", "proxy"}, ["proxy"], {"proxy"}),
        ("access:servers!group=g", ["access:servers!group=g"], {"access:servers!group=g"}),
        ("access:servers!user=a", ["access:servers!group=g"], set()),
        (
            "access:servers!user=a",
            ["access:servers!user=", "access:servers!user=a"],
            {"access:servers!user=a"},
        ),
        ("access:services", [], set()),
    ],
)
def test_check_scopes_returns_what_is_fully_granted(
    required: str | set[str], held: list[str], granted: set[str]
) -> None:
    assert check_scopes(required, held) == granted


# -- tokens


async def test_owner_of_a_token_and_nobody(hub: FakeHub, auth: HubAuth) -> None:
    token = hub.add_user("ada", ["access:services"], groups=["poets"])
    model = await auth.user_for_token(token, sync=False)
    assert model["name"] == "ada"
    assert model["groups"] == ["poets"]
    assert await auth.user_for_token("unknown", sync=False) is None
    assert hub.seen("/user")[0].headers["Authorization"] == f"token {token}"


async def test_blocking_calls_work_inside_a_running_loop(hub: FakeHub, auth: HubAuth) -> None:
    token = hub.add_user("ada", [])
    # The Hub of this test shares the loop, so the blocking call is made from another thread.
    model = await asyncio.to_thread(auth.user_for_token, token)
    assert model["name"] == "ada"
    assert asyncio.iscoroutine(pending := auth.user_for_token(token, sync=False))
    assert (await pending)["name"] == "ada"


async def test_answers_are_cached_by_session_also_negative_ones(hub: FakeHub, auth: HubAuth) -> None:
    token = hub.add_user("ada", [])
    for _ in range(3):
        await auth.user_for_token(token, sync=False)
        await auth.user_for_token("unknown", sync=False)
    assert len(hub.seen("/user")) == 2
    await auth.user_for_token(token, session_id="another", sync=False)
    assert len(hub.seen("/user")) == 3
    await auth.user_for_token(token, use_cache=False, sync=False)
    await auth.user_for_token(token, sync=False)
    assert len(hub.seen("/user")) == 4


async def test_a_page_full_of_requests_asks_the_hub_once(hub: FakeHub, auth: HubAuth) -> None:
    token = hub.add_user("ada", [])
    models = await asyncio.gather(*(auth.user_for_token(token, sync=False) for _ in range(30)))
    assert {model["name"] for model in models} == {"ada"}
    assert len(hub.seen("/user")) == 1


@pytest.mark.parametrize(("answer", "seen"), [(500, 502), (503, 502), (404, 500), (429, 500)])
async def test_failures_of_the_hub_are_told_and_not_remembered(
    hub: FakeHub, auth: HubAuth, answer: int, seen: int
) -> None:
    token = hub.add_user("ada", [])
    hub.failures["/user"] = [answer]
    with pytest.raises(web.HTTPError) as failure:
        await auth.user_for_token(token, sync=False)
    assert failure.value.status_code == seen
    assert (await auth.user_for_token(token, sync=False))["name"] == "ada"


async def test_a_hub_that_is_away_is_not_named_to_visitors(auth: HubAuth) -> None:
    auth.api_url = "http://127.0.0.1:1/hub/api"
    with pytest.raises(web.HTTPError) as failure:
        await auth.user_for_token("t", sync=False)
    assert failure.value.status_code == 500
    assert "127.0.0.1" not in str(failure.value)


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX-Evil: 1", "ä", "x" * 2000])
async def test_texts_that_cannot_be_tokens_are_not_sent_to_the_hub(
    hub: FakeHub, auth: HubAuth, token: str
) -> None:
    assert await auth.user_for_token(token, sync=False) is None
    assert hub.requests == []


async def test_private_request_takes_the_keywords_that_others_use(hub: FakeHub, auth: HubAuth) -> None:
    hub.add_user("ada", [])
    auth.api_token = hub.add_token("ada")
    assert (await auth._api_request("GET", auth.api_url + "/user"))["name"] == "ada"
    auth.api_token = hub.client_secret
    posted = await auth._api_request("POST", "users/ada/activity", json={"a": 1}, params={"b": "2"})
    assert posted is None
    request = hub.seen("/users/ada/activity")[0]
    assert json.loads(request.body) == {"a": 1}
    assert request.headers["Content-Type"] == "application/json"
    with pytest.raises(web.HTTPError) as failure:
        await auth._api_request("GET", "user")
    assert failure.value.status_code == 500


async def test_a_hub_behind_a_unix_socket(tmp_path: Path) -> None:
    """The Hub may listen on a socket; its URL is http+unix:// with the path escaped."""

    class Who(web.RequestHandler):
        def get(self) -> None:
            self.write({"name": "ada", "scopes": []})

    server = HTTPServer(web.Application([("/hub/api/user", Who)], log_function=lambda _: None))
    path = str(tmp_path / "hub.sock")
    server.add_socket(bind_unix_socket(path))
    try:
        auth = HubAuth(api_url=f"http+unix://{path.replace('/', '%2F')}/hub/api", api_token="x")
        assert (await auth.user_for_token("t", sync=False))["name"] == "ada"
    finally:
        server.stop()
        await server.close_all_connections()


# -- the cache


def test_cache_forgets_by_age_and_by_number() -> None:
    now = [0.0]
    cache = ExpiringCache(10, max_entries=2, clock=lambda: now[0])
    cache["a"] = None
    assert "a" in cache
    now[0] = 9
    cache["b"] = 2
    now[0] = 10
    assert "a" not in cache
    assert cache.get("b") == 2
    cache["c"], cache["d"] = 3, 4
    assert "b" not in cache
    assert len(cache) == 2
    assert cache.pop("c") == 3
    assert cache.pop("c", "gone") == "gone"
    cache.clear()
    assert len(cache) == 0


def test_cache_without_age_keeps_until_it_is_full() -> None:
    now = [0.0]
    cache = ExpiringCache(0, clock=lambda: now[0])
    cache["a"] = 1
    now[0] = 1e9
    assert cache["a"] == 1


# -- settings


def test_everything_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "JUPYTERHUB_HOST": "https://hub.example.org",
        "JUPYTERHUB_BASE_URL": "/jh/",
        "JUPYTERHUB_SERVICE_PREFIX": "/jh/services/x",
        "JUPYTERHUB_API_URL": "http://10.0.0.1:8081/jh/hub/api",
        "JUPYTERHUB_API_TOKEN": "secret",
        "JUPYTERHUB_CLIENT_ID": "service-x",
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["access:services", "access:services!service=x"]',
        "JUPYTERHUB_COOKIE_OPTIONS": '{"samesite": "Strict"}',
        "JUPYTERHUB_COOKIE_HOST_PREFIX_ENABLED": "1",
        "JUPYTERHUB_ALLOW_TOKEN_IN_URL": "no",
        "JUPYTERHUB_ALLOW_WEBSOCKET_COOKIE_AUTH": "False",
    }.items():
        monkeypatch.setenv(name, value)
    auth = HubOAuth()
    assert auth.hub_prefix == "/jh/hub/"
    assert auth.base_url == "/jh/services/x/"
    assert auth.api_token == "secret"
    assert auth.access_scopes == {"access:services", "access:services!service=x"}
    assert auth.cookie_options == {"samesite": "Strict"}
    assert auth.cookie_name == "__Host-service-x"
    assert auth.state_cookie_name == "__Host-service-x-oauth-state"
    assert auth.cookie_path == "/"
    # Every text but 0 and false means yes.
    assert auth.allow_token_in_url is True
    assert auth.allow_websocket_cookie_auth is False
    assert auth.oauth_redirect_uri == "/jh/services/x/oauth_callback"
    assert auth.oauth_token_url == "http://10.0.0.1:8081/jh/hub/api/oauth2/token"
    assert auth.login_url == (
        "https://hub.example.org/jh/hub/api/oauth2/authorize"
        "?client_id=service-x&redirect_uri=%2Fjh%2Fservices%2Fx%2Foauth_callback&response_type=code"
    )


def test_defaults_without_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JUPYTERHUB_API_URL", "JUPYTERHUB_BASE_URL", "JUPYTERHUB_SERVICE_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    auth = HubAuth()
    assert (auth.api_url, auth.hub_prefix, auth.base_url) == ("http://127.0.0.1:8081/hub/api", "/hub/", "/")
    assert auth.login_url == ""
    monkeypatch.setenv("JUPYTERHUB_SERVICE_NAME", "x")
    assert HubAuth().access_scopes == {"access:services!service=x"}
    assert HubAuth(access_scopes={"y"}).oauth_scopes == {"y"}


def test_empty_credentials_are_a_mistake() -> None:
    with pytest.raises(TraitError):
        HubAuth(api_token="")
    with pytest.raises(TraitError):
        HubOAuth(oauth_client_id="")


def test_old_names_still_work_or_say_why_not() -> None:
    auth = HubAuth()
    auth.cookie_cache_max_age = 7
    assert auth.cache_max_age == 7
    with pytest.raises(RuntimeError):
        auth.user_for_cookie("name", "value")


def test_both_classes_share_one_instance() -> None:
    HubAuth.clear_instance()
    HubOAuth.clear_instance()
    try:
        auth = HubOAuth.instance(cache_max_age=9)
        assert HubAuth.instance() is auth
        assert auth.cache_max_age == 9
    finally:
        HubOAuth.clear_instance()


def test_pkce() -> None:
    verifier, challenge, method = HubOAuth().generate_pkce_code_challenge()
    assert (len(verifier), len(challenge), method) == (43, 43, "S256")
    assert verifier != challenge
    with pytest.raises(ValueError):
        HubOAuth().generate_pkce_code_challenge("plain")


def test_refusal_carries_the_model() -> None:
    refusal = UserNotAllowed({"kind": "service", "name": "x"})
    assert refusal.model["name"] == "x"
    assert "service 'x'" in str(refusal)


def test_classes_are_found_where_everybody_imports_them_from() -> None:
    assert {HubAuth.__module__, HubOAuth.__module__, check_scopes.__module__} == {"jupyterhub.services.auth"}


@pytest.mark.parametrize(
    "module", ["jupyterhub.services.auth", "jupyterhub.singleuser", "jupyterhub._xsrf_utils"]
)
def test_the_user_side_loads_alone(module: str) -> None:
    """Nothing of the Hub, no database, no PAM, no heavy library comes with it."""
    program = f"import sys, {module}; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    unwanted = (
        "sqlalchemy",
        "pamela",
        "aiohttp",
        "alembic",
        "oauthlib",
        "requests",
        "certipy",
        "jupyter_server",
        "jupyterhub.orm",
        "jupyterhub.store",
        "jupyterhub.runtime",
        "jupyterhub.handlers",
        "jupyterhub.app",
    )
    assert [
        name for name in loaded if name in unwanted or name.startswith(tuple(f"{u}." for u in unwanted))
    ] == []
