"""The authenticator by itself, and at the log-in page of a real Hub."""

import asyncio
import time

import pytest
import requests
from jupyterhub.tests.mocking import MockHub
from jupyterhub.tests.utils import api_request
from passwordfileauthenticator import PasswordFileAuthenticator, hash_password
from traitlets.config import Config


@pytest.fixture
def password_file(tmp_path):
    file = tmp_path / "passwords"
    # `login_user` of the helpers gives the name as the password, which is right for grace and wrong for ada.
    people = [f"ada:{hash_password('engine')}:staff,tutors", f"Grace:{hash_password('grace')}:staff,tutors"]
    file.write_text("\n".join(["# who", *people, "broken line", ""]))
    return file


@pytest.fixture
def authenticator(password_file):
    return PasswordFileAuthenticator(password_file=str(password_file), allow_listed=True, manage_groups=True)


async def log_in(authenticator, username, password):
    """All the steps of a log-in, as the Hub takes them; None is a refusal."""
    return await authenticator.get_authenticated_user(None, {"username": username, "password": password})


# By itself


async def test_the_right_password_lets_in(authenticator):
    known = await log_in(authenticator, "ada", "engine")
    assert known["name"] == "ada" and known["groups"] == ["staff", "tutors"]


async def test_names_are_alike_in_upper_and_lower_case(authenticator):
    assert (await log_in(authenticator, "GRACE", "grace"))["name"] == "grace"


@pytest.mark.parametrize(
    "username, password", [("ada", "grace"), ("ada", ""), ("nobody", "engine"), ("", ""), ("broken line", ""), ("# who", "")]
)
async def test_anything_else_does_not(authenticator, username, password):
    assert await log_in(authenticator, username, password) is None


async def test_a_right_password_is_not_enough_without_a_rule(authenticator):
    authenticator.allow_listed = False
    assert await log_in(authenticator, "ada", "engine") is None
    authenticator.allowed_users = {"ada"}
    assert await log_in(authenticator, "ada", "engine")
    assert await log_in(authenticator, "grace", "grace") is None


async def test_someone_who_is_blocked_stays_out(authenticator):
    authenticator.blocked_users = {"ada"}
    assert await log_in(authenticator, "ada", "engine") is None


# In a Hub


@pytest.fixture
async def hub(password_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config()
    config.JupyterHub.authenticator_class = PasswordFileAuthenticator
    config.PasswordFileAuthenticator.password_file = str(password_file)
    config.PasswordFileAuthenticator.allow_listed = True
    config.Authenticator.allow_all = False
    config.Authenticator.manage_groups = True
    config.Authenticator.auth_refresh_age = 1
    hub = MockHub(config=config)
    await hub.initialize([])
    await hub.start()
    yield hub
    await hub.stop()


async def test_the_page_lets_in_and_refuses(hub):
    cookies = await hub.login_user("grace")
    assert sorted((await api_request(hub, "user", cookies=cookies)).json()["groups"]) == ["staff", "tutors"]
    with pytest.raises(requests.HTTPError, match="403"):
        await hub.login_user("ada")


async def until(hub, cookies, condition):
    """Ask who is logged in until the answer is the expected one; a test that would wait for ever fails."""
    end = time.monotonic() + 20
    while not condition(await api_request(hub, "user", cookies=cookies)):
        assert time.monotonic() < end, "this took too long"
        await asyncio.sleep(0.1)


async def test_groups_follow_the_file_and_leaving_it_ends_the_session(hub, password_file):
    cookies = await hub.login_user("grace")
    password_file.write_text(f"grace:{hash_password('grace')}:staff\n")
    await until(hub, cookies, lambda answer: answer.json()["groups"] == ["staff"])
    password_file.write_text("")
    await until(hub, cookies, lambda answer: answer.status_code == 403)
