"""A suite such as those that plugins ship: everything it uses comes from `jupyterhub.tests`."""

import asyncio
import inspect
import json
import os

import pytest

from jupyterhub import orm
from jupyterhub.tests import mocking, utils
from jupyterhub.tests import test_api as api_helpers
from jupyterhub.tests import test_named_servers as named_servers_helpers
from jupyterhub.tests import test_spawner as spawner_helpers
from jupyterhub.tests.mocking import MockHub, MockPAMAuthenticator, MockSpawner, mock_authenticate, public_url
from jupyterhub.tests.utils import add_user, api_request, async_requests, auth_header, check_db_locks, get_page
from jupyterhub.tests.utils import public_host as host_of


@pytest.fixture(autouse=True)
def trust_the_hub(app, monkeypatch):
    """With `SSL_ENABLED` in the environment the same suite runs over TLS."""
    if app.external_certs:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", app.external_certs["files"]["ca"])


async def start_server(app, user, **kwargs):
    response = await api_request(app, "users", user.name, "server", method="post", **kwargs)
    while user.spawner.pending:
        await asyncio.sleep(0.02)
    return response


def test_every_name_is_where_suites_import_it():
    assert mocking.public_url is utils.public_url
    assert api_helpers.add_user is utils.add_user and api_helpers.api_request is utils.api_request
    assert inspect.iscoroutinefunction(spawner_helpers.wait_for_spawner)
    assert named_servers_helpers.named_servers is not None


def test_each_module_has_a_directory_of_its_own(tmp_cwd):
    assert os.getcwd() == str(tmp_cwd)


async def test_the_hub_has_its_known_shape(app):
    assert app is MockHub.instance()
    assert app.base_url == "/@/space%20word/" and app.bind_url.endswith("/@/space%20word/")
    assert app.config.Authenticator.allow_all is True
    scheme = "https" if os.environ.get("SSL_ENABLED") else "http"
    assert public_url(app).startswith(f"{scheme}://") and app.hub.api_url.startswith(f"{scheme}://")
    assert app.config.ConfigurableHTTPProxy.api_url.startswith(f"{scheme}://127.0.0.1:")
    assert app.spawner_class is MockSpawner and isinstance(app.authenticator, MockPAMAuthenticator)
    assert app.users["admin"].admin and not app.users["user"].admin
    assert app.tornado_settings is app.users.settings
    assert app.db.query(orm.User).count() == 2
    assert app.session_factory() is app.db


async def test_addresses(app):
    assert public_url(app) == f"{host_of(app)}/@/space%20word/"
    assert public_url(app, path="services/x") == f"{host_of(app)}/@/space%20word/services/x"
    assert public_url(app, app.users["user"]) == f"{host_of(app)}/@/space%20word/user/user/"
    assert public_url(app, app.users["user"], "tree").endswith("/user/user/tree")


async def test_a_log_in_gives_cookies_that_pages_and_api_accept(app):
    cookies = await app.login_user("user")
    assert cookies["_xsrf"]
    page = await get_page("home", app, cookies=cookies)
    assert page.status_code == 200 and page.url.endswith("/hub/home")
    answer = await api_request(app, "user", cookies=cookies)
    assert answer.json()["name"] == "user"
    made = await api_request(app, "users/user/tokens", method="post", cookies=cookies, data=json.dumps({"note": "x"}))
    assert made.status_code == 201


async def test_requests_as_somebody_and_as_nobody(app, user):
    assert (await api_request(app, "users")).status_code == 200
    assert (await api_request(app, "users", noauth=True)).status_code == 403
    assert (await api_request(app, "user", headers=auth_header(app.db, user.name))).json()["name"] == user.name
    assert (await api_request(app, "user", name="user")).json()["name"] == "user"
    assert (await async_requests.get(f"{public_url(app)}hub/api")).json()["version"]
    with pytest.raises(KeyError):
        auth_header(app.db, "nobody")


async def test_users_are_made_and_changed(app):
    wrapper = add_user(app.db, app, name="zoe")
    assert wrapper.name == "zoe" and not wrapper.admin
    assert add_user(app.db, app, name="zoe", admin=True) is wrapper and wrapper.admin
    row = add_user(app.db, name="zed", roles=["admin"])
    assert isinstance(row, orm.User) and {role.name for role in row.roles} == {"user", "admin"}
    assert utils.find_user(app.db, "zed") is row and utils.find_user(app.db, "nobody") is None


async def test_what_the_last_test_left_is_gone(app):
    assert {user.name for user in app.db.query(orm.User)} == {"admin", "user"}


async def test_a_server_starts_and_tells_about_itself(app, user):
    response = await start_server(app, user)
    assert response.status_code in (201, 202) and user.spawner.ready
    url = public_url(app, user)
    assert (await async_requests.get(url + "env")).json()["JUPYTERHUB_USER"] == user.name
    assert (await async_requests.get(url + "args")).json()[0].endswith("mocksu.py")
    assert (await async_requests.get(url + "some/path")).text == f"{user.prefix}some/path"
    response = await api_request(app, "users", user.name, "server", method="delete")
    assert response.status_code in (202, 204)


async def test_settings_are_live(app, user):
    class Marked(MockSpawner):
        def get_env(self):
            return {**super().get_env(), "MARK": "here"}

    before = app.tornado_settings["spawner_class"]
    app.tornado_settings["spawner_class"] = Marked
    try:
        await start_server(app, user)
        assert isinstance(user.spawner, Marked)
        assert (await async_requests.get(public_url(app, user) + "env")).json()["MARK"] == "here"
    finally:
        app.tornado_settings["spawner_class"] = before


async def test_a_bad_spawner_fails(app, user, bad_spawn):
    response = await start_server(app, user)
    assert response.status_code == 500 and not user.spawner.active


async def test_a_start_that_never_ends_is_pending(app, user, no_patience, never_spawn):
    response = await api_request(app, "users", user.name, "server", method="post")
    assert response.status_code == 202 and user.spawner.pending == "spawn"


async def test_a_slow_spawner_is_pending(app, user, no_patience, slow_spawn):
    app.tornado_settings["spawner_class"].delay = 0.3
    response = await start_server(app, user)
    assert response.status_code == 202 and user.spawner.ready


async def test_a_form_is_answered(app, user, form_spawn):
    body = json.dumps({"energy": "much"})
    await start_server(app, user, data=body)
    assert (await async_requests.get(public_url(app, user) + "env")).json()["ENERGY"] == "much"


async def test_named_servers(app, user, named_servers):
    response = await api_request(app, "users", user.name, "servers", "second", method="post")
    assert response.status_code in (201, 202)
    assert (await api_request(app, "users", user.name)).json()["servers"].keys() == {"second"}


async def test_a_server_is_waited_for(app, user):
    await start_server(app, user)
    await spawner_helpers.wait_for_spawner(user.spawner)


async def test_scopes_of_users_and_services(app, create_user_with_scopes, create_service_with_scopes):
    reader = create_user_with_scopes("list:users!user=admin")
    answer = await api_request(app, "users", headers=auth_header(app.db, reader.name))
    assert [found["name"] for found in answer.json()] == ["admin"]
    service = create_service_with_scopes("list:services")
    token = service.orm.new_api_token()
    answer = await api_request(app, "services", headers={"Authorization": f"token {token}"})
    assert service.name in answer.json()
    assert (await api_request(app, "users", headers={"Authorization": f"token {token}"})).status_code == 403


async def test_groups_and_roles(app, group, groupname, role, create_temp_role):
    assert (await api_request(app, "groups", group.name)).json()["users"] == []
    assert orm.Group.find(app.db, groupname) is None
    assert role.scopes == [] and create_temp_role(["self"], "mine").name == "mine"


async def test_a_managed_service_has_a_route(app, mockservice_url):
    url = public_url(app, mockservice_url)
    assert (await async_requests.get(url + "env")).json()["JUPYTERHUB_SERVICE_NAME"] == mockservice_url.name
    assert (await async_requests.get(url + "api/users")).status_code == 200
    header = auth_header(app.db, "admin")
    assert (await async_requests.get(url + "whoami", headers=header)).json()["name"] == "admin"


async def test_a_service_without_url_runs(mockservice):
    assert mockservice.pid


async def test_an_external_service_has_a_route(app, mockservice_external):
    url = public_url(app, mockservice_external)
    assert (await async_requests.get(url + "owhoami", allow_redirects=False)).status_code == 302


async def test_services_are_registered_by_request(app, service_name, service_data):
    response = await api_request(app, "services", service_name, method="post", data=json.dumps(service_data))
    assert response.status_code == 201, response.text


async def test_auth_state(app, auth_state_enabled):
    await app.login_user("user")
    assert await app.users["user"].get_auth_state() == {"who": "cares"}


@check_db_locks
async def touch(app):
    await api_request(app, "users")


async def test_nobody_holds_the_database(app):
    await touch(app)


def test_a_database_without_a_hub(db):
    user = db.query(orm.User).first()
    assert user.name == "user" and [role.name for role in user.roles] == ["user"]
    assert {role.name for role in db.query(orm.Role)} >= {"user", "admin", "server", "token"}


def test_every_password_is_the_name():
    import pamela

    assert mock_authenticate("ada", "ada", "login", "utf-8")
    with pytest.raises(pamela.PAMError):
        mock_authenticate("ada", "other", "login", "utf-8")
