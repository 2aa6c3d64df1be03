"""The variables, texts and settings that a server is given (config §9.7, §9.8)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from traitlets import TraitError
from traitlets import Union as TraitUnion

from jupyterhub.objects import Hub, Server
from jupyterhub.spawning.fakes import StartsNothing
from jupyterhub.traitlets import ByteSpecification, Callable

from .spawner_world import make_hub, make_record, make_spawner, make_user


def env(**settings: Any) -> dict[str, str]:
    return dict(make_spawner(StartsNothing, **settings).get_env())


def test_what_every_server_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUPYTERHUB_SINGLEUSER_APP", raising=False)
    found = env(api_token="t0ken", oauth_client_id="jupyterhub-user-ada", port=8888, oauth_access_scopes=["a", "b"])
    assert found == {
        "JUPYTERHUB_API_TOKEN": "t0ken",
        "JPY_API_TOKEN": "t0ken",
        "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-ada",
        "JUPYTERHUB_COOKIE_HOST_PREFIX_ENABLED": "0",
        "JUPYTERHUB_HOST": "",
        "JUPYTERHUB_OAUTH_CALLBACK_URL": "/user/ada/oauth_callback",
        "JUPYTERHUB_OAUTH_SCOPES": '["a", "b"]',
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["a", "b"]',
        "JUPYTERHUB_OAUTH_CLIENT_ALLOWED_SCOPES": "[]",
        "JUPYTERHUB_USER": "ada",
        "JUPYTERHUB_SERVER_NAME": "",
        "JUPYTERHUB_API_URL": "http://127.0.0.1:8081/hub/api",
        "JUPYTERHUB_ACTIVITY_URL": "http://127.0.0.1:8081/hub/api/users/ada/activity",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_SERVICE_PREFIX": "/user/ada/",
        "JUPYTERHUB_SERVICE_URL": "http://127.0.0.1:8888/user/ada/",
        "JUPYTERHUB_PUBLIC_URL": "",
        "JUPYTERHUB_PUBLIC_HUB_URL": "",
    }


def test_the_scopes_that_open_a_server_follow_from_its_names() -> None:
    named = env(_record=make_record(name="lab"), user=make_user("ada"))
    scopes = ["access:servers!server=ada/lab", "access:servers!user=ada"]
    assert json.loads(named["JUPYTERHUB_OAUTH_ACCESS_SCOPES"]) == scopes


def test_certificates_are_passed_on_wherever_they_come_from() -> None:
    assert not [name for name in env() if "_SSL_" in name]
    found = env(cert_paths={"keyfile": "/k", "certfile": "/c", "cafile": "/a"})
    assert {name: value for name, value in found.items() if "_SSL_" in name} == {
        "JUPYTERHUB_SSL_KEYFILE": "/k",
        "JUPYTERHUB_SSL_CERTFILE": "/c",
        "JUPYTERHUB_SSL_CLIENT_CA": "/a",
    }


def test_structured_values_reach_the_spawners_that_understand_them() -> None:
    reference = {"valueFrom": {"secretKeyRef": {"name": "licence", "key": "token"}}}
    found = env(environment={"TOKEN": reference, "LATER": lambda spawner: [spawner.user.name], "NUMBER": 5})
    assert {name: found[name] for name in ("TOKEN", "LATER", "NUMBER")} == {
        "TOKEN": reference,
        "LATER": [make_user().name],
        "NUMBER": "5",
    }


def test_works_with_a_user_by_name_a_hub_by_hand_and_no_server() -> None:
    spawner = StartsNothing(user=make_user("al@x y"), hub=make_hub())
    found = spawner.get_env()
    assert "JUPYTERHUB_SERVICE_PREFIX" not in found
    assert found["JUPYTERHUB_ACTIVITY_URL"].endswith("/users/al@x%20y/activity")
    assert found["JUPYTERHUB_SERVICE_URL"] == "http://127.0.0.1:0/"


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        ({"admin_access": True}, "JUPYTERHUB_ADMIN_ACCESS", "1"),
        ({"cookie_options": {"secure": True}}, "JUPYTERHUB_COOKIE_OPTIONS", '{"secure": true}'),
        ({"cookie_host_prefix_enabled": True}, "JUPYTERHUB_COOKIE_HOST_PREFIX_ENABLED", "1"),
        ({"hub_connect_url": "http://elsewhere:1/x"}, "JUPYTERHUB_API_URL", "http://elsewhere:1/x/hub/api"),
        ({"mem_limit": "512M"}, "MEM_LIMIT", "536870912"),
        ({"mem_guarantee": 5.9}, "MEM_GUARANTEE", "5"),
        ({"cpu_limit": 0.5}, "CPU_LIMIT", "0.5"),
        ({"cpu_guarantee": 2}, "CPU_GUARANTEE", "2.0"),
        ({"notebook_dir": "~/{username}"}, "JUPYTERHUB_ROOT_DIR", "~/ada"),
        ({"notebook_dir": "/home/%U/notes"}, "JUPYTERHUB_ROOT_DIR", "/home/ada/notes"),
        ({"default_url": "{base_url}lab"}, "JUPYTERHUB_DEFAULT_URL", "/user/ada/lab"),
        ({"default_url": "/{{x}}"}, "JUPYTERHUB_DEFAULT_URL", "/{x}"),
        ({"debug": True}, "JUPYTERHUB_DEBUG", "1"),
        ({"disable_user_config": True}, "JUPYTERHUB_DISABLE_USER_CONFIG", "1"),
        ({"ip": "[::1]", "port": 5}, "JUPYTERHUB_SERVICE_URL", "http://[::1]:5/user/ada/"),
        ({"internal_ssl": True, "port": 5}, "JUPYTERHUB_SERVICE_URL", "https://127.0.0.1:5/user/ada/"),
        ({"public_url": "https://x/"}, "JUPYTERHUB_PUBLIC_URL", "https://x/"),
        ({"environment": {"MEM_LIMIT": "mine"}, "mem_limit": 5}, "MEM_LIMIT", "mine"),
        ({"environment": {"WHO": lambda spawner: spawner.user.name}}, "WHO", "ada"),
        ({"oauth_client_allowed_scopes": ["self"]}, "JUPYTERHUB_OAUTH_CLIENT_ALLOWED_SCOPES", '["self"]'),
    ],
)  # fmt: skip
def test_one_setting_is_one_variable(settings: dict[str, Any], name: str, value: str) -> None:
    assert env(**settings)[name] == value


@pytest.mark.parametrize("name", ["MEM_LIMIT", "CPU_LIMIT", "JUPYTERHUB_ROOT_DIR", "JUPYTERHUB_ADMIN_ACCESS"])
def test_what_is_not_set_is_not_there(name: str) -> None:
    assert name not in env()


def test_only_named_variables_of_the_hub_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANTED", "1")
    monkeypatch.setenv("SECRET", "2")
    found = env(env_keep=["WANTED", "MISSING"])
    assert found["WANTED"] == "1"
    assert {"SECRET", "MISSING"}.isdisjoint(found)


def test_a_function_for_client_scopes_was_called_by_the_hub() -> None:
    spawner = make_spawner(StartsNothing, oauth_client_allowed_scopes=lambda spawner: ["never called here"])
    spawner._resolved_client_scopes = ["read:users!user"]
    assert json.loads(spawner.get_env()["JUPYTERHUB_OAUTH_CLIENT_ALLOWED_SCOPES"]) == ["read:users!user"]


def test_a_named_server_has_its_own_paths() -> None:
    found = env(_record=make_record(name="gpu"), port=1)
    assert found["JUPYTERHUB_SERVER_NAME"] == "gpu"
    assert found["JUPYTERHUB_SERVICE_PREFIX"] == "/user/ada/gpu/"
    assert found["JUPYTERHUB_OAUTH_CALLBACK_URL"] == "/user/ada/gpu/oauth_callback"


def test_an_unknown_placeholder_is_an_error() -> None:
    with pytest.raises(KeyError, match="servername"):
        env(notebook_dir="/{servername}")


def test_a_limit_declared_wider_by_a_plugin_may_be_a_function() -> None:
    class Wider(StartsNothing):
        mem_limit = TraitUnion([ByteSpecification(), Callable()], allow_none=True).tag(config=True)

    found = make_spawner(Wider, mem_limit=lambda spawner: 5 * len(spawner.user.name)).get_env()
    assert found["MEM_LIMIT"] == "15"


@pytest.mark.parametrize("value", ["1024", "1g", "1GB", "1G ", "", True, object()])
def test_an_amount_that_cannot_be_read_is_refused(value: Any) -> None:
    with pytest.raises(TraitError):
        StartsNothing(mem_limit=value)


@pytest.mark.parametrize(
    ("value", "amount"),
    [("0.5G", 536870912), ("1.5K", 1536), (" 1G", 1073741824), ("1e3K", 1024000), (1.9, 1)],
)
def test_amounts(value: Any, amount: int) -> None:
    assert StartsNothing(mem_limit=value).mem_limit == amount


# -- addresses (plugins §9) --


@pytest.mark.parametrize(
    ("server", "url"),
    [
        (Server(ip="10.0.0.1", port=5), "http://10.0.0.1:5/"),
        (Server(ip="::1", port=5, base_url="x"), "http://[::1]:5/x/"),
        (Server(ip="10.0.0.1", port=5, proto="https"), "https://10.0.0.1:5/"),
        (Server(ip="0.0.0.0", port=5, connect_ip="10.0.0.9", connect_port=6), "http://10.0.0.9:6/"),
        (Server.from_url("http://h.example:9/a"), "http://h.example:9/a/"),
        (Server.from_url("https://h.example"), "https://h.example:443/"),
        (Server(bind_url="http+unix://%2Ftmp%2Fsock/p/"), "http+unix://%2Ftmp%2Fsock/p/"),
        (Server(ip="x", port=1, connect_url="http://y:2/z/"), "http://y:2/z/"),
    ],
)
def test_where_a_server_is_reached(server: Server, url: str) -> None:
    assert server.url == url


def test_a_server_over_a_row_writes_through() -> None:
    class Row:
        proto, ip, port, base_url, cookie_name = "http", "", 9, "/user/ada/", "cookie"

    row = Row()
    server = Server.from_orm(row)
    server.ip, server.port = "10.0.0.1", 5
    assert (row.ip, row.port, server.url) == ("10.0.0.1", 5, "http://10.0.0.1:5/user/ada/")


def test_the_bind_url_follows_its_parts() -> None:
    server = Server(ip="10.0.0.1", port=5)
    server.port = 6
    assert server.bind_url == "http://10.0.0.1:6/"
    server.bind_url = "https://[::1]:7/a"
    assert (server.proto, server.ip, server.port, server.base_url) == ("https", "::1", 7, "/a/")


def test_the_hub_knows_its_api_and_warns_about_its_old_name() -> None:
    hub = Hub(ip="127.0.0.1", port=8081, base_url="/hub/", cookie_name="other")
    assert hub.api_url == "http://127.0.0.1:8081/hub/api"
    assert hub.cookie_name == "jupyterhub-hub-login"
    with pytest.warns(DeprecationWarning, match=r"Hub\.server"):
        assert hub.server is hub
