"""Two people with accounts of this machine: each server is its owner's, and nobody reads the other's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from .hub_process import HubProcess
from .person import Person
from .public_environment import public_environment
from .system_users import system_users

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes accounts and switches to them"),
]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/authentication/pam.py"
CONFIG = """
c.Authenticator.allow_all = False
c.Spawner.cmd = ["{bin}/jupyterhub-singleuser"]
c.Spawner.environment = {{"PATH": "{bin}:/usr/bin:/bin"}}
c.Spawner.http_timeout = 60
"""


@pytest.fixture(scope="module")
def people() -> Iterator[dict[str, str]]:
    with system_users("hubtestada", "hubtestgrace") as passwords:
        for name in passwords:
            subprocess.run(["usermod", "--append", "--groups", "users", name], check=True)
        subprocess.run(["usermod", "--append", "--groups", "sudo", "hubtestada"], check=True)
        yield passwords


@pytest.fixture(scope="module")
def hub(people: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    config = EXAMPLE.read_text() + CONFIG.format(bin=public_environment())
    hub = HubProcess(tmp_path_factory.mktemp("pam"), config)
    hub.start()
    yield hub
    hub.clean_up()


def server_process(hub: HubProcess, name: str) -> psutil.Process:
    state = hub.server(name)["state"]
    return psutil.Process(state["pid"])


def as_user(name: str, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["setpriv", f"--reuid={name}", f"--regid={name}", "--init-groups", *command], capture_output=True, text=True
    )


def test_a_wrong_password_is_refused_and_the_right_one_is_not(hub: HubProcess, people: dict[str, str]) -> None:
    ada = Person(hub, "hubtestada")
    assert ada.log_in("not the password").status_code == 403
    assert not ada.is_logged_in()
    assert ada.log_in(people["hubtestada"]).status_code == 200
    assert ada.is_logged_in()
    grace = Person(hub, "hubtestgrace")
    assert grace.log_in(people["hubtestgrace"]).status_code == 200
    admins = {name: hub.api("GET", f"/users/{name}").json()["admin"] for name in people}
    assert admins == {"hubtestada": True, "hubtestgrace": False}


def test_each_server_is_owned_by_its_own_user_and_closed_to_others(hub: HubProcess, people: dict[str, str]) -> None:
    visitors = {}
    for name, password in people.items():
        person = visitors[name] = Person(hub, name)
        assert person.log_in(password).status_code == 200
        assert hub.start_server(name).status in (201, 202)
    for name in people:
        hub.wait_ready(name)
        process = server_process(hub, name)
        assert process.username() == name
        assert process.uids().real == process.uids().effective == process.uids().saved
        assert visitors[name].get(f"/user/{name}/lab").status_code == 200
        answer = visitors[name].get(f"/user/{name}/api/status")
        assert answer.status_code == 200, answer.text
    ada, grace = "hubtestada", "hubtestgrace"
    assert visitors[grace].get(f"/user/{ada}/api/contents").status_code == 403
    assert visitors[grace].get(f"/user/{ada}/lab").status_code in (403, 404)

    secret = Path(f"~{ada}").expanduser() / "secret.txt"
    secret.write_text("mine")
    os.chown(secret, *server_process(hub, ada).uids()[:1], -1)
    pid = str(server_process(hub, ada).pid)
    assert as_user(grace, "cat", str(secret)).returncode != 0
    assert as_user(grace, "cat", f"/proc/{pid}/environ").returncode != 0
    token = server_process(hub, ada).environ()["JUPYTERHUB_API_TOKEN"]
    command_line = as_user(grace, "cat", f"/proc/{pid}/cmdline").stdout
    assert token and token not in command_line
    for name in people:
        assert hub.stop_server(name).status in (204, 202)
        hub.wait_stopped(name)
