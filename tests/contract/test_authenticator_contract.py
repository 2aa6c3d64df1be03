"""What every Authenticator does, and what those that come with the Hub add (plugins §4, config §8)."""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import pwd
import sys
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from tornado import web
from traitlets import Set, TraitError
from traitlets.config import Config

from jupyterhub import auth
from jupyterhub.auth import (
    Authenticator,
    DummyAuthenticator,
    LocalAuthenticator,
    NullAuthenticator,
    PAMAuthenticator,
)
from jupyterhub.authenticators.shared import SharedPasswordAuthenticator


class KnowsEverybody(Authenticator):
    """Accepts any name; `answer` is what `authenticate` returns, a form's data if it is not set."""

    answer: Any = None

    def authenticate(self, handler: Any, data: Any) -> Any:
        return self.answer if self.answer is not None else data["username"]


def person(name: str) -> Any:
    return SimpleNamespace(name=name)


@pytest.fixture
def warnings_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING)
    logging.getLogger("traitlets").propagate = True
    return caplog


# The steps of a log-in


async def test_a_name_becomes_a_whole_model():
    model = await KnowsEverybody(allow_all=True).get_authenticated_user(None, {"username": "Ada"})
    assert model == {"name": "ada", "auth_state": None, "user_info": None, "admin": None}


async def test_a_dictionary_keeps_what_it_says():
    authenticator = KnowsEverybody(allow_all=True)
    authenticator.answer = {"name": "ada", "admin": True, "groups": ["maths"], "auth_state": {"token": "t"}}
    model = await authenticator.get_authenticated_user(None, None)
    assert model == {
        "name": "ada", "admin": True, "groups": ["maths"], "auth_state": {"token": "t"}, "user_info": None,
    }


async def test_a_dictionary_without_a_name_is_the_plugins_mistake():
    authenticator = KnowsEverybody(allow_all=True)
    authenticator.answer = {"user": "ada"}
    with pytest.raises(ValueError, match="without 'name'"):
        await authenticator.get_authenticated_user(None, None)


async def test_none_refuses():
    assert await Authenticator(allow_all=True).get_authenticated_user(None, {"username": "ada"}) is None


@pytest.mark.parametrize("how", ["plain", "coroutine", "executor"])
async def test_authenticate_may_be_plain_async_or_on_an_executor(how: str):
    class OneOfThree(Authenticator):
        def authenticate(self, handler: Any, data: Any) -> Any:
            if how == "plain":
                return "ada"
            if how == "executor":
                future: Future[str] = Future()
                future.set_result("ada")
                return future

            async def later() -> str:
                await asyncio.sleep(0)
                return "ada"

            return later()

    model = await OneOfThree(allow_all=True).get_authenticated_user(None, None)
    assert model is not None and model["name"] == "ada"


async def test_the_map_has_the_last_word_about_a_name():
    authenticator = KnowsEverybody(allow_all=True, username_map={"alice": "Bob"})
    model = await authenticator.get_authenticated_user(None, {"username": "ALICE"})
    assert model is not None and model["name"] == "Bob"


@pytest.mark.parametrize("name", ["", "a/b", "..", "%2e", " ada", "a\n"])
async def test_impossible_names_are_refused(name: str):
    authenticator = KnowsEverybody(allow_all=True)
    assert not authenticator.validate_username(name)
    authenticator.answer = {"name": name}
    assert await authenticator.get_authenticated_user(None, None) is None


def test_a_pattern_is_matched_at_the_beginning_only():
    authenticator = Authenticator(username_pattern="[a-z]+")
    assert authenticator.validate_username("abc1")
    assert not authenticator.validate_username("1abc")
    authenticator.username_pattern = ""
    assert authenticator.validate_username("1abc")


async def test_blocked_comes_before_everything_that_allows():
    authenticator = KnowsEverybody(allow_all=True, allowed_users={"ada"}, blocked_users={"ada"})
    assert await authenticator.get_authenticated_user(None, {"username": "ada"}) is None
    assert await authenticator.get_authenticated_user(None, {"username": "bob"}) is not None


async def test_nobody_is_allowed_unless_something_allows():
    authenticator = KnowsEverybody(admin_users={"ada"})
    assert await authenticator.get_authenticated_user(None, {"username": "ada"}) is None


async def test_an_administrator_is_one_and_others_are_left_alone():
    authenticator = KnowsEverybody(allow_all=True, admin_users={"ada"})
    model = await authenticator.get_authenticated_user(None, {"username": "ada"})
    assert model is not None and model["admin"] is True
    model = await authenticator.get_authenticated_user(None, {"username": "bob"})
    assert model is not None and model["admin"] is None


async def test_the_hook_may_change_or_refuse():
    async def promote(authenticator: Any, handler: Any, model: dict[str, Any]) -> Any:
        return {**model, "admin": True} if model["name"] == "ada" else None

    authenticator = KnowsEverybody(allow_all=True, post_auth_hook=promote)
    model = await authenticator.get_authenticated_user(None, {"username": "ada"})
    assert model is not None and model["admin"] is True
    assert await authenticator.get_authenticated_user(None, {"username": "bob"}) is None


async def test_an_http_error_is_what_the_visitor_sees():
    class Refuses(KnowsEverybody):
        async def check_allowed(self, username: str, authentication: Any = None) -> bool:
            raise web.HTTPError(403, "Join the group first")

    with pytest.raises(web.HTTPError, match="Join the group"):
        await Refuses().get_authenticated_user(None, {"username": "ada"})


# Who is allowed


def test_existing_users_are_allowed_where_a_list_was_given():
    assert not Authenticator().allow_existing_users
    authenticator = Authenticator(allowed_users={"ada"})
    assert authenticator.allow_existing_users
    authenticator.add_user(person("bob"))
    assert authenticator.allowed_users == {"ada", "bob"}
    authenticator.delete_user(person("bob"))
    assert authenticator.allowed_users == {"ada"}


async def test_a_user_known_to_the_hub_is_looked_up_at_log_in():
    asked = []

    async def known(name: str) -> bool:
        asked.append(name)
        return name == "bob"

    authenticator = KnowsEverybody(allowed_users={"ada"})
    authenticator._knows_user = known
    assert await authenticator.get_authenticated_user(None, {"username": "bob"}) is not None
    assert await authenticator.get_authenticated_user(None, {"username": "eve"}) is None
    assert await authenticator.get_authenticated_user(None, {"username": "ada"}) is not None
    assert asked == ["bob", "eve"]
    authenticator.allow_existing_users = False
    authenticator.allowed_users.discard("bob")
    assert await authenticator.get_authenticated_user(None, {"username": "bob"}) is None


def test_adding_a_user_with_an_impossible_name_fails():
    with pytest.raises(ValueError, match="a/b"):
        Authenticator().add_user(person("a/b"))


def test_any_setting_that_allows_counts():
    class ByTeam(Authenticator):
        allowed_teams = Set().tag(config=True)
        club = Set().tag(config=True, allow_config=True)

    assert not ByTeam().any_allow_config
    assert not ByTeam(admin_users={"ada"}).any_allow_config
    assert ByTeam(allowed_teams={"red"}).any_allow_config
    assert ByTeam(club={"chess"}).any_allow_config
    assert ByTeam(allow_all=True).any_allow_config


def test_a_hub_nobody_can_enter_is_warned_about(warnings_logged: pytest.LogCaptureFixture):
    Authenticator(allow_all=True).check_allow_config()
    assert not warnings_logged.records
    Authenticator().check_allow_config()
    assert "Nobody is allowed to log in" in warnings_logged.text


def test_names_of_a_single_letter_hint_at_a_missing_list(warnings_logged: pytest.LogCaptureFixture):
    Authenticator(allowed_users=set("ada"))
    assert "single letter: a, d" in warnings_logged.text


# Old names


def test_the_old_name_of_the_list_still_fills_it(warnings_logged: pytest.LogCaptureFixture):
    config = Config()
    config.Authenticator.whitelist = {"a1"}
    assert Authenticator(config=config).allowed_users == {"a1"}
    assert "whitelist is deprecated" in warnings_logged.text
    config = Config()
    config.LocalAuthenticator.group_whitelist = {"wheel"}
    assert not LocalAuthenticator(config=config).allowed_groups


async def test_methods_with_old_names_and_signatures_still_count():
    class Ancient(KnowsEverybody):
        def check_whitelist(self, username: str) -> bool:
            return username == "ada"

        def check_blacklist(self, username: str) -> bool:
            return username != "eve"

    authenticator = Ancient()
    assert await authenticator.get_authenticated_user(None, {"username": "ada"}) is not None
    assert await authenticator.get_authenticated_user(None, {"username": "bob"}) is None
    assert not authenticator.check_blocked_users("eve", None)

    class LessAncient(Ancient):
        def check_allowed(self, username: str, authentication: Any = None) -> bool:
            return True

    assert await LessAncient().get_authenticated_user(None, {"username": "bob"}) is not None


async def test_an_old_override_may_ask_its_base():
    class AsksBase(KnowsEverybody):
        def check_whitelist(self, username: str, authentication: Any = None) -> Any:
            return super().check_whitelist(username, authentication)

    assert await AsksBase(allowed_users={"ada"}).get_authenticated_user(None, {"username": "ada"}) is not None


async def test_the_session_is_asked_for_only_by_those_who_use_it(warnings_logged: pytest.LogCaptureFixture):
    class App(Authenticator):
        opened = 0

        @property
        def db(self) -> Any:
            self.opened += 1
            return "session"

    app = App()
    authenticator = KnowsEverybody(parent=app, allow_all=True)
    await authenticator.get_authenticated_user(None, {"username": "ada"})
    assert app.opened == 0
    assert authenticator.db == "session"
    assert "deprecated" in warnings_logged.text


# Pages


def test_addresses_and_handlers_of_the_base():
    authenticator = Authenticator()
    assert authenticator.login_url("/hub/") == "/hub/login"
    assert authenticator.logout_url("/hub/") == "/hub/logout"
    assert [path for path, _ in authenticator.get_handlers(None)] == ["/login"]
    assert authenticator.get_custom_html("/hub/") == ""


async def test_managed_roles_that_cannot_be_listed_are_not_reset():
    assert await Authenticator().load_managed_roles() == []
    with pytest.raises(NotImplementedError, match="load_managed_roles"):
        await Authenticator(reset_managed_roles_on_startup=True).load_managed_roles()


async def test_a_log_in_stands_until_an_authenticator_says_otherwise():
    assert await Authenticator().refresh_user(person("ada")) is True


# Those that come with the Hub


async def test_dummy_takes_any_password():
    model = await DummyAuthenticator().get_authenticated_user(None, {"username": "ada", "password": "x"})
    assert model is not None and model["name"] == "ada"
    assert not DummyAuthenticator(allowed_users={"bob"}).allow_all


async def test_dummy_with_a_password_takes_only_that():
    authenticator = DummyAuthenticator(password="münch")
    assert await authenticator.get_authenticated_user(None, {"username": "a", "password": "x"}) is None
    assert await authenticator.get_authenticated_user(None, {"username": "a", "password": "münch"})


async def test_null_lets_nobody_in():
    authenticator = NullAuthenticator()
    assert authenticator.auto_login and authenticator.login_service == "null"
    assert authenticator.get_handlers(None) == []
    assert await authenticator.get_authenticated_user(None, {"username": "ada", "password": ""}) is None


ADMIN_PASSWORD = "x" * 32


async def test_shared_passwords():
    authenticator = SharedPasswordAuthenticator(
        user_password="everybody", admin_password=ADMIN_PASSWORD, admin_users={"root"}, allow_all=True,
        manage_groups=True, password_groups={"physicists": ["physics"]},
    )

    async def log_in(name: str, password: str) -> Any:
        return await authenticator.get_authenticated_user(None, {"username": name, "password": password})

    root = await log_in("Root", ADMIN_PASSWORD)
    assert (root["admin"], root["groups"]) == (True, [])
    assert await log_in("root", "everybody") is None
    assert await log_in("root", "physicists") is None
    ada = await log_in("ada", "everybody")
    assert (ada["admin"], ada["groups"]) == (False, [])
    assert (await log_in("ada", "physicists"))["groups"] == ["physics"]
    assert await log_in("ada", ADMIN_PASSWORD) is None
    assert await log_in("ada", "") is None


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"user_password": "seven77"}, "at least 8"),
        ({"admin_password": "x" * 31}, "at least 32"),
        ({"user_password": ADMIN_PASSWORD, "admin_password": ADMIN_PASSWORD}, "the same"),
        ({"password_groups": {"a": ["b"]}}, "manage_groups"),
    ],
)
def test_weak_shared_passwords_stop_the_hub(settings: dict[str, Any], why: str):
    with pytest.raises((TraitError, ValueError), match=why):
        SharedPasswordAuthenticator(**settings)


# Accounts of this machine


ME = pwd.getpwuid(os.getuid()).pw_name
MY_GROUP = grp.getgrgid(os.getgid()).gr_name


async def test_members_of_an_allowed_group_get_in():
    assert LocalAuthenticator(allowed_groups={"no-such-group", MY_GROUP}).check_allowed(ME, None)
    assert not LocalAuthenticator(allowed_groups={"no-such-group"}).check_allowed(ME, None)
    with pytest.raises(KeyError):
        LocalAuthenticator(allowed_groups={MY_GROUP}).check_allowed("no-such-user", None)


async def test_a_user_without_an_account_cannot_be_added():
    await LocalAuthenticator().add_user(person(ME))
    with pytest.raises(KeyError, match="create_system_users"):
        await LocalAuthenticator().add_user(person("no-such-user"))


async def test_an_account_is_made_with_the_configured_command(tmp_path: Any):
    seen = tmp_path / "arguments"
    script = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(' '.join(sys.argv[2:]))"
    authenticator = LocalAuthenticator(
        create_system_users=True, uids={"no-such-user": 5000},
        add_user_cmd=[sys.executable, "-c", script, str(seen), "/homes/USERNAME"],
    )
    await authenticator.add_user(person("no-such-user"))
    assert seen.read_text() == "/homes/no-such-user --uid 5000 no-such-user"


def test_a_failed_command_says_what_it_said():
    authenticator = LocalAuthenticator(
        add_user_cmd=[sys.executable, "-c", "print('disk is full'); raise SystemExit(3)"]
    )
    with pytest.raises(RuntimeError, match=r"status 3.*\n?.*disk is full"):
        authenticator.add_system_user(person("no-such-user"))


def test_local_classes_cooperate_with_what_they_are_combined_with():
    class Club(Authenticator):
        def check_allowed(self, username: str, authentication: Any = None) -> bool:
            return username == "member"

    class LocalClub(LocalAuthenticator, Club):
        pass

    assert LocalClub().check_allowed("member", None)
    assert not LocalClub().check_allowed("stranger", None)


class PamThatKnows:
    """The functions of `pamela`; the password is the name, the account `expired` is not valid any more."""

    class PAMError(Exception):
        pass

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.sessions_fail = False

    def authenticate(self, username: str, password: Any, service: str, encoding: str) -> None:
        self.calls.append(("authenticate", username, password, service, encoding))
        if password not in (username, (username, "123456")):
            raise self.PAMError("Authentication failure")

    def check_account(self, username: str, service: str, encoding: str) -> None:
        self.calls.append(("check_account", username, service, encoding))
        if username == "expired":
            raise self.PAMError("Account expired")

    def open_session(self, username: str, service: str, encoding: str) -> None:
        self.calls.append(("open_session", username, service, encoding))
        if self.sessions_fail:
            raise self.PAMError("Cannot open")

    close_session = open_session


@pytest.fixture
def pam(monkeypatch: pytest.MonkeyPatch) -> PamThatKnows:
    found = PamThatKnows()
    monkeypatch.setitem(vars(auth), "pamela", found)
    return found


async def test_pam_checks_password_then_account(pam: PamThatKnows):
    authenticator = PAMAuthenticator(allow_all=True, service="hub")
    model = await authenticator.get_authenticated_user(None, {"username": "ada", "password": "ada"})
    assert model is not None and model["name"] == "ada" and model["admin"] is None
    assert pam.calls == [("authenticate", "ada", "ada", "hub", "utf8"), ("check_account", "ada", "hub", "utf8")]
    for name, password in (("ada", "eve"), ("expired", "expired")):
        data = {"username": name, "password": password}
        assert await authenticator.get_authenticated_user(None, data) is None


async def test_a_hub_that_is_not_root_says_so_when_pam_refuses_others(
    pam: PamThatKnows, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    authenticator = PAMAuthenticator(allow_all=True)
    await authenticator.get_authenticated_user(None, {"username": "ada", "password": "eve"})
    assert "not as root" not in caplog.text
    monkeypatch.setattr("os.geteuid", lambda: pwd.getpwnam("nobody").pw_uid)
    await authenticator.get_authenticated_user(None, {"username": "nobody", "password": "eve"})
    assert "not as root" not in caplog.text
    await authenticator.get_authenticated_user(None, {"username": "ada", "password": "eve"})
    assert "The Hub runs as nobody, not as root" in caplog.text


async def test_pam_takes_a_one_time_password_along(pam: PamThatKnows):
    data = {"username": "ada", "password": "ada", "otp": "123456"}
    assert await PAMAuthenticator(allow_all=True).get_authenticated_user(None, data) is not None


async def test_pam_administrators_by_group(pam: PamThatKnows):
    authenticator = PAMAuthenticator(allow_all=True, admin_groups={MY_GROUP})
    assert await authenticator.is_admin(None, {"name": ME}) is True
    authenticator = PAMAuthenticator(allow_all=True, admin_groups={"no-such-group"})
    assert await authenticator.is_admin(None, {"name": ME}) is False
    authenticator.admin_users = {ME}
    assert authenticator.is_admin(None, {"name": ME}) is True


async def test_pam_sessions_end_with_their_first_failure(pam: PamThatKnows):
    authenticator = PAMAuthenticator(open_sessions=True)
    await authenticator.pre_spawn_start(person("ada"), None)
    assert pam.calls == [("open_session", "ada", "login", "utf8")]
    pam.sessions_fail = True
    await authenticator.pre_spawn_start(person("ada"), None)
    assert not authenticator.open_sessions
    assert authenticator.pre_spawn_start(person("ada"), None) is None


def test_pam_takes_the_systems_own_name():
    authenticator = PAMAuthenticator(pam_normalize_username=True)
    assert authenticator.normalize_username(ME) == ME
    assert PAMAuthenticator().normalize_username("ADA") == "ada"
