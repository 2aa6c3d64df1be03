"""What becomes of configured values, and what is said about wrong ones (config §1, §4, §6, §7, §20)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from traitlets import TraitError, Unicode, validate
from traitlets.config import Config
from traitlets.config.loader import DeferredConfigString

from jupyterhub.app import JupyterHub
from jupyterhub.appconfig.mistakes import check_values, explain_wrong_value, find_mistakes, find_places
from jupyterhub.auth import Authenticator, DummyAuthenticator, PAMAuthenticator
from jupyterhub.core.urls import subdomain_hook_idna, subdomain_hook_legacy
from jupyterhub.proxy import ConfigurableHTTPProxy
from jupyterhub.spawner import SimpleLocalProcessSpawner, Spawner
from jupyterhub.wiring import build_hub, load_cookie_secret


def hub(**settings: Any) -> JupyterHub:
    config = Config()
    for name, value in settings.items():
        config.JupyterHub[name] = value
    app = JupyterHub(config=config)
    app.log.propagate = True
    return app


# Addresses


def test_the_scheme_follows_from_the_certificate():
    assert hub().bind_url == "http://:8000"
    assert hub(ssl_cert="cert.pem").bind_url == "https://:8000"
    assert hub(bind_url="https://:443").bind_url == "http://:443"
    assert hub(bind_url="http://:80", ssl_cert="cert.pem").bind_url == "https://:80"
    assert hub(bind_url="http://:8000", ssl_cert="cert.pem").bind_url == "https://:8000"
    assert hub(port=443, ssl_cert="cert.pem").bind_url == "https://:443/"


def test_a_part_of_the_address_rebuilds_it(capsys: pytest.CaptureFixture[str]):
    app = hub(bind_url="http://1.2.3.4:80/foo", port=9000)
    assert app.bind_url == "http://:9000/foo/"
    assert app.base_url == "/foo/" and app.hub_prefix == "/foo/hub/"
    assert "is replaced by" in capsys.readouterr().err
    assert hub(ip="::1", port=9000).bind_url == "http://[::1]:9000/"


def test_parts_from_the_command_line_win_over_an_address_in_the_file():
    app = hub(port=9000)
    app.update_config(Config({"JupyterHub": {"bind_url": "http://1.2.3.4:80/foo"}}))
    assert app.bind_url == "http://:9000/foo/" and app.base_url == "/foo/"


def test_nothing_is_said_where_only_parts_are_given(capsys: pytest.CaptureFixture[str]):
    hub(ip="127.0.0.1", port=9000, base_url="/x")
    assert not capsys.readouterr().err


def test_a_base_url_moves_everything():
    app = hub(base_url="x")
    assert (app.base_url, app.hub_prefix, app.hub_routespec) == ("/x/", "/x/hub/", "/x/")
    assert app.bind_url == "http://:8000/x/"
    assert hub(bind_url="http://:8000/pre").base_url == "/pre/"


@pytest.mark.parametrize(
    ("settings", "public_url"),
    [
        ({"public_url": "h"}, "https://h/"),
        ({"public_url": "https://h/", "base_url": "/p/"}, "https://h/p/"),
        ({"public_url": "https://h/a/p", "base_url": "/p/"}, "https://h/a/p/"),
        ({"subdomain_host": "hub.example"}, "https://hub.example/"),
        ({}, ""),
    ],
)
def test_public_addresses(settings: dict[str, Any], public_url: str):
    assert hub(**settings).public_url == public_url


def test_a_public_address_elsewhere_stops_the_hub():
    with pytest.raises(TraitError, match="base_url"):
        hub(public_url="https://h/x", base_url="/p/")
    with pytest.raises(TraitError, match="not a URL"):
        hub(bind_url="nonsense")


def test_subdomains():
    app = hub(subdomain_host="hub.example")
    assert (app.subdomain_host, app.hub_routespec, app.domain) == ("https://hub.example", "/", "hub.example")
    assert hub().subdomain_hook is subdomain_hook_idna
    assert hub(subdomain_hook="idna").subdomain_hook is subdomain_hook_idna
    assert hub(subdomain_hook="legacy").subdomain_hook is subdomain_hook_legacy
    with pytest.raises(TraitError, match="neither"):
        hub(subdomain_hook="ida")


@pytest.mark.parametrize(
    ("settings", "api_url"),
    [
        ({}, "http://127.0.0.1:8081/hub/api"),
        ({"hub_ip": "10.0.0.1", "hub_port": 9}, "http://10.0.0.1:9/hub/api"),
        ({"hub_connect_ip": "hub"}, "http://hub:8081/hub/api"),
        ({"hub_connect_url": "http://elsewhere:1/x", "base_url": "/b"}, "http://elsewhere:1/b/hub/api"),
        ({"hub_bind_url": "http://127.0.0.1:90/ignored"}, "http://127.0.0.1:90/hub/api"),
        ({"hub_bind_url": "http+unix://%2Fsrv%2Fhub.sock"}, "http+unix://%2Fsrv%2Fhub.sock/hub/api"),
    ],
)
def test_how_others_find_the_hub(settings: dict[str, Any], api_url: str):
    app = hub(**settings)
    app.init_hub()
    assert app.hub.api_url == api_url
    assert build_hub(app).api_url == api_url


# Other values


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("foo.sqlite", "sqlite:///foo.sqlite"),
        ("/abs/foo.db", "sqlite:////abs/foo.db"),
        (":memory:", "sqlite:///:memory:"),
        ("postgresql://h/db", "postgresql://h/db"),
    ],
)
def test_a_database_without_a_scheme_is_a_file(given: str, url: str):
    assert hub(db_url=given).db_url == url


def test_cookie_secrets():
    assert hub(cookie_secret="ab").cookie_secret == b"\xab"
    assert hub(cookie_secret=b"x" * 32).cookie_secret == b"x" * 32
    with pytest.raises(TraitError, match="hexadecimal") as caught:
        hub(cookie_secret="abc")
    assert "abc" not in str(caught.value)


def test_a_cookie_secret_is_made_once_and_kept_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("JPY_COOKIE_SECRET", raising=False)
    file = tmp_path / "secret"
    app = hub(cookie_secret_file=str(file))
    secret = load_cookie_secret(app)
    assert len(secret) == 32 and file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == secret.hex() + "\n"
    assert load_cookie_secret(app) == secret
    file.chmod(0o640)
    assert load_cookie_secret(app) == secret
    file.chmod(0o604)
    with pytest.raises(ValueError, match="chmod 600"):
        load_cookie_secret(app)
    file.chmod(0o600)
    file.write_text("")
    with pytest.raises(ValueError, match="holds no cookie secret"):
        load_cookie_secret(app)


def test_a_cookie_secret_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JPY_COOKIE_SECRET", "ab" * 32)
    assert load_cookie_secret(hub(cookie_secret_file=str(tmp_path / "none"))) == b"\xab" * 32
    monkeypatch.setenv("JPY_COOKIE_SECRET", "zz")
    with pytest.raises(ValueError, match="JPY_COOKIE_SECRET"):
        load_cookie_secret(hub(cookie_secret_file=str(tmp_path / "none")))


def test_tokens_live_as_long_as_log_ins():
    assert hub(cookie_max_age_days=2).oauth_token_expires_in == 172800
    assert hub(cookie_max_age_days=0.5).oauth_token_expires_in == 43200


def test_classes_by_name_and_path():
    assert hub(authenticator_class="PAM").authenticator_class is PAMAuthenticator
    assert hub(authenticator_class="jupyterhub.auth.DummyAuthenticator").authenticator_class is DummyAuthenticator
    assert hub(spawner_class="simple").spawner_class is SimpleLocalProcessSpawner
    assert hub(spawner_class=Spawner).spawner_class is Spawner
    assert issubclass(hub().proxy_class, ConfigurableHTTPProxy)
    with pytest.raises(TraitError, match=r"registered name .*dummy.* not 'nope'"):
        _ = hub(authenticator_class="nope").authenticator_class
    with pytest.raises(TraitError, match=r"not 'dokcer'; did you mean 'docker'\?"):
        _ = hub(spawner_class="dokcer").spawner_class
    with pytest.raises(TraitError, match=r"cannot be imported: No module named 'no_such_module'.* PYTHONPATH"):
        _ = hub(spawner_class="no_such_module.Spawner").spawner_class
    with pytest.raises(TraitError, match=r"jupyterhub\.auth\.Authenticator"):
        _ = hub(authenticator_class=Spawner).authenticator_class


def test_a_subclass_may_say_where_its_logo_is():
    class Branded(JupyterHub):
        def _logo_file_default(self) -> str:
            return "/srv/logo.png"

    assert Branded().logo_file == "/srv/logo.png"
    assert hub()._template_paths_default() == hub().template_paths


# Mistakes

FILE = """c.JupyterHub.prot = 9000
c.Spawner.defualt_url = "/lab"
c.Authenticator.allow_all = True
c.Authentcator.allow_all = True
c.DummyAuthenticator.pasword = "x"
c.Spawner.cmd = ["x"]
c.SomePlugin.setting = 1
c.JupyterHub.port = "x"
"""


def loaded(text: str, tmp_path: Path) -> tuple[Config, str]:
    file = tmp_path / "hub_config.py"
    file.write_text(text)
    config = Config()
    exec(compile(text, str(file), "exec"), {"c": config})
    return config, str(file)


def test_unknown_names_are_told_with_their_line_and_the_nearest_right_one(tmp_path: Path):
    config, file = loaded(FILE, tmp_path)
    classes = [JupyterHub, SimpleLocalProcessSpawner, DummyAuthenticator]
    found = {str(each) for each in find_mistakes(config, classes, find_places([file]))}
    assert len(found) == 4
    assert any(f"`JupyterHub.prot` not recognized ({file}, line 1)" in each for each in found)
    assert any("did you mean JupyterHub.port?" in each for each in found)
    assert any("line 2" in each and "did you mean Spawner.default_url?" in each for each in found)
    assert any("`Authentcator` not recognized" in each and "did you mean Authenticator?" in each for each in found)
    assert any("line 5" in each and "did you mean DummyAuthenticator.password?" in each for each in found)


def test_a_base_section_may_set_what_any_class_in_use_has():
    config = Config({"Spawner": {"shell_cmd": ["x"]}})
    assert find_mistakes(config, [SimpleLocalProcessSpawner]) == []
    assert [each.name for each in find_mistakes(config, [Spawner])] == ["shell_cmd"]


def test_a_wrong_value_is_told_with_its_line(tmp_path: Path):
    config, file = loaded(FILE, tmp_path)
    with pytest.raises(TraitError) as caught:
        JupyterHub(config=config)
    text = explain_wrong_value(caught.value, find_places([file]))
    assert "'port'" in text and "'x'" in text and "int" in text and f"{file}, line 8" in text


def test_values_of_a_class_are_checked_without_making_one():
    class Careful(SimpleLocalProcessSpawner):
        def __init__(self, **kwargs: object):
            raise AssertionError("made")

        level = Unicode().tag(config=True)

        @validate("level")
        def _check_level(self, proposal: object):
            return self.user.name

    good = Config({"Spawner": {"start_timeout": 5, "mem_limit": "2G", "cmd": "x"}, "Careful": {"level": "a"}})
    good.Spawner.args.append("--debug")
    check_values(good, Careful)
    check_values(Config({"Spawner": {"mem_limit": "2 gigs"}, "Careful": {"mem_limit": "2G"}}), Careful)
    check_values(Config({"SomeSpawner": {"start_timeout": "sixty"}}), Careful)
    check_values(Config({"Spawner": {"start_timeout": DeferredConfigString("60")}}), Careful)
    for name, value in {"start_timeout": "sixty", "mem_limit": "2 gigs", "default_url": 1}.items():
        with pytest.raises(TraitError, match=f"{name}.*{value}"):
            check_values(Config({"Spawner": {name: value}}), Careful)


def test_setting_what_is_not_a_setting_is_a_mistake():
    config = Config({"JupyterHub": {"spawn_throttle_retry_range": (1, 2)}})
    assert [each.name for each in find_mistakes(config, [JupyterHub])] == ["spawn_throttle_retry_range"]


def test_old_names_still_count(caplog: pytest.LogCaptureFixture):
    app = hub(proxy_auth_token="t", debug_proxy=True, proxy_api_port=9)
    app.init_hub()
    app.init_proxy()
    assert (app.proxy.auth_token, app.proxy.log_level) == ("t", "debug")
    assert app.proxy.api_url == "http://127.0.0.1:9"
    assert "ConfigurableHTTPProxy.auth_token" in caplog.text


def test_authenticators_are_configured_by_their_base():
    config = Config({"Authenticator": {"allow_all": True}, "DummyAuthenticator": {"allowed_users": {"ada"}}})
    authenticator = DummyAuthenticator(config=config)
    assert authenticator.allow_all and authenticator.allowed_users == {"ada"}
    assert not Authenticator().allow_all
