"""Released spawners, authenticators and services, unmodified, with a Hub of this checkout."""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import jupyterhub
from jupyterhub.core.known_plugins import KNOWN_PACKAGES

from .hub_process import HubProcess, wait_for
from .packages_environment import CLUSTER, environment_beside_upstream, packages_environment
from .person import Person
from .upstream import VERSION as UPSTREAM_VERSION
from .upstream import NotAvailable

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

HERE = Path(__file__).parent
TINY_SERVER = str(HERE / "tiny_server.py")


@pytest.fixture(scope="module")
def commands() -> Path:
    try:
        return packages_environment()
    except NotAvailable as reason:
        pytest.skip(f"NOT RUN, as the packages could not be had: {reason}")


@pytest.fixture
def start_hub(commands: Path, tmp_path: Path) -> Iterator[Callable[..., HubProcess]]:
    """Start a Hub whose environment has the packages; `config` is added to its configuration."""
    started: list[HubProcess] = []

    def start(config: str) -> HubProcess:
        hub = HubProcess(tmp_path / "hub", config, bin_dir=commands, env={"TEST_HUB_DIRECTORY": str(tmp_path / "hub")})
        started.append(hub)
        hub.start()
        return hub

    yield start
    for hub in started:
        hub.clean_up()


# By name


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run a program of this directory in one of the environments; returns its last line."""
    directory = tmp_path_factory.mktemp("run")
    (directory / "cluster").write_text(CLUSTER)

    def run_in(commands: Path, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [commands / "python", HERE / program, *arguments],
            cwd=directory,
            env={**os.environ, "KUBECONFIG": str(directory / "cluster")},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.splitlines()[-1]

    return run_in


@pytest.fixture(scope="module")
def told(commands: Path, run: Callable[..., str]) -> Any:
    """What the classes say of themselves."""
    return json.loads(run(commands, "packages_probe.py"))


@pytest.mark.parametrize("group", KNOWN_PACKAGES)
def test_short_names_select_the_classes_that_the_packages_register_themselves(told: Any, group: str):
    about = told[group]
    assert about["chosen"] == about["listed"]
    # Every name that one of the packages registers is known, and means the same.
    assert {name: about["listed"].get(name) for name in about["registered"]} == about["registered"]


def test_spawners_give_their_server_what_it_needs(told: Any):
    spawners = told["jupyterhub.spawners"]["spawners"]
    listed = {path for package in KNOWN_PACKAGES["jupyterhub.spawners"] for path in package.classes.values()}
    assert len(spawners) == len(listed)
    for path, about in spawners.items():
        env, user = about["env"], about["user"]
        assert env["JUPYTERHUB_API_TOKEN"] == "secret" and env["JUPYTERHUB_USER"] == user, path
        assert env["JUPYTERHUB_API_URL"].endswith("/hub/api"), path
        assert env["JUPYTERHUB_SERVICE_PREFIX"] == f"/user/{user}/", path
        # The state came here as JSON, as it goes into the database: no secret is in it.
        assert "secret" not in json.dumps(about["state"]), path


# Beside JupyterHub 6.1.1

COMPARED = {"docker": "dockerspawner", "batch": "batchspawner", "kubernetes": "jupyterhub-kubespawner"}


@pytest.fixture(scope="module")
def beside_upstream(commands: Path) -> Path:
    """The same releases in an environment of JupyterHub 6.1.1."""
    frozen = subprocess.run([commands / "pip", "freeze"], capture_output=True, text=True, timeout=60, check=True).stdout
    try:
        return environment_beside_upstream([line for line in frozen.splitlines() if line.split("==")[0] in COMPARED.values()])
    except NotAvailable as reason:
        pytest.skip(f"NOT RUN, as JupyterHub 6.1.1 could not be had: {reason}")


def without_versions(text: str) -> str:
    """Leave out which JupyterHub it is: images and labels are named for it."""
    for version in (jupyterhub.__version__, UPSTREAM_VERSION):
        text = text.replace(version, "VERSION").replace(f':{version.rpartition(".")[0]}"', ':VERSION"')
    return text


@pytest.mark.parametrize("engine", COMPARED)
def test_spawners_ask_their_engine_for_what_they_ask_it_for_with_jupyterhub_6(
    commands: Path, beside_upstream: Path, run: Callable[..., str], engine: str
):
    """Manifests, scripts, commands, calls, addresses and states of dozens of servers, with the engine stood in for."""
    here, there = (
        json.loads(without_versions(run(environment, "packages_answers.py", engine)))
        for environment in (commands, beside_upstream)
    )
    assert len(here) == len(there) > 10
    for ours, theirs in zip(here, there, strict=True):
        assert ours == theirs


# Authenticators


def test_firstuse_keeps_the_first_password(start_hub: Callable[..., HubProcess]):
    hub = start_hub("""
c.JupyterHub.authenticator_class = "firstuse"
c.FirstUseAuthenticator.create_users = True
""")
    first = Person(hub, "ada")
    first.log_in("the first one")
    assert first.is_logged_in()
    stranger = Person(hub, "ada")
    assert stranger.log_in("another one").status_code == 403 and not stranger.is_logged_in()
    again = Person(hub, "ada")
    again.log_in("the first one")
    assert again.is_logged_in()


def test_tmp_lets_everybody_in_under_a_name_of_its_own(start_hub: Callable[..., HubProcess]):
    hub = start_hub('c.JupyterHub.authenticator_class = "tmp"')
    people = [Person(hub, ""), Person(hub, "")]
    for person in people:
        person.get("/hub/home")
        assert person.is_logged_in()
    names = [user["name"] for user in hub.api("GET", "/users").json()]
    assert len(names) == 2


def test_native_takes_people_up_and_lets_them_in(start_hub: Callable[..., HubProcess]):
    hub = start_hub("""
import os, nativeauthenticator
c.JupyterHub.authenticator_class = "native"
c.JupyterHub.template_paths = [os.path.join(os.path.dirname(nativeauthenticator.__file__), "templates")]
c.NativeAuthenticator.open_signup = True
c.NativeAuthenticator.minimum_password_length = 8
""")
    ada = Person(hub, "ada")
    page = ada.get("/hub/signup").text
    form = {"username": "ada", "_xsrf": re.findall(r'name="_xsrf"\s+value="([^"]*)"', page)[0]}
    for password, sign in (("short", "alert-danger"), ("long enough", "alert-success")):
        answer = ada.post(
            "/hub/signup",
            data={**form, "signup_password": password, "signup_password_confirmation": password},
            headers={"Sec-Fetch-Mode": "navigate", "Origin": hub.url},
        )
        assert answer.status_code == 200 and sign in answer.text, answer.text[-3000:]
    assert ada.log_in("not the one").status_code == 200 and not ada.is_logged_in()
    ada.log_in("long enough")
    assert ada.is_logged_in()


# Spawners and services

QUEUE = """
c.JupyterHub.spawner_class = "slurm"
c.SlurmSpawner.exec_prefix = ""
c.SlurmSpawner.batch_submit_cmd = "{queue} submit"
c.SlurmSpawner.batch_query_cmd = "{queue} query {{job_id}}"
c.SlurmSpawner.batch_cancel_cmd = "{queue} cancel {{job_id}}"
c.SlurmSpawner.batch_script = "exec {{cmd}}"
c.SlurmSpawner.batchspawner_singleuser_cmd = "{commands}/batchspawner-singleuser"
c.Spawner.cmd = ["{commands}/jupyterhub-singleuser"]
c.Spawner.args = {arguments}
"""

#: A queue of one machine: the first question after a job finds it waiting, the others find it running.
QUEUE_PROGRAM = """#!/bin/bash
cd "$(dirname "$0")"
case $1 in
  submit) script=$(cat); setsid bash -c "$script" </dev/null >job.log 2>&1 & echo $! >asked-first; echo $! ;;
  query)
    if [ -s asked-first ]; then : >asked-first; echo "PENDING "
    elif kill -0 "$2" 2>/dev/null; then echo "RUNNING 127.0.0.1"; fi ;;
  cancel) kill "$2" ;;
esac
"""


def test_batchspawner_runs_a_real_server_as_a_job(
    commands: Path, start_hub: Callable[..., HubProcess], tmp_path: Path
):
    """The server chooses its port on its node and tells the Hub, by way of an address that the package adds to it."""
    queue = tmp_path / "queue"
    queue.write_text(QUEUE_PROGRAM)
    queue.chmod(0o755)
    arguments = ["--allow-root"] if os.geteuid() == 0 else []
    hub = start_hub(QUEUE.format(queue=shlex.quote(str(queue)), commands=commands, arguments=arguments))
    # Jobs run under the user's account; the queue of this test has ours only.
    name = pwd.getpwuid(os.getuid()).pw_name
    hub.api("POST", f"/users/{name}")
    assert hub.start_server(name).status in (201, 202)
    hub.wait_ready(name)
    answer = hub.request("GET", f"/user/{name}/api/status", token=hub.token)
    assert answer.status == 200 and "kernels" in answer.json()
    hub.stop_server(name)
    hub.wait_stopped(name)


def test_the_culler_stops_what_nobody_uses(commands: Path, start_hub: Callable[..., HubProcess]):
    hub = start_hub(f"""
c.Spawner.cmd = ["{commands / 'python'}", "{TINY_SERVER}"]
c.JupyterHub.services.append(
    {{"name": "idle-culler", "command": ["{commands / 'jupyterhub-idle-culler'}", "--timeout=2", "--cull-every=1"]}}
)
c.JupyterHub.load_roles.append(
    {{
        "name": "idle-culler",
        "services": ["idle-culler"],
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
    }}
)
""")
    hub.api("POST", "/users/ada")
    hub.start_server("ada")
    wait_for(lambda: "Starting server ada" in hub.log_path.read_text(), "the start is in the log")
    hub.wait_stopped("ada")
    assert "idle-culler" in hub.log_path.read_text()
