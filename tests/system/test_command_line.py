"""The commands as somebody types them: what they print, write and return (cli §1)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from .hub_process import free_port, wait_for

CONFIGURATION = """
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.spawner_class = "simple"
c.JupyterHub.bind_url = "http://127.0.0.1:{public}"
c.JupyterHub.hub_port = {hub}
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api}"
"""


class Shell:
    """A directory and an environment without anything of ours in it, in which commands are run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("JUPYTERHUB_", "JPY_", "CONFIGPROXY_"))
        }
        self.hubs: list[subprocess.Popen[str]] = []

    def run(self, *words: str, answers: str = "") -> subprocess.CompletedProcess[str]:
        # Files, not pipes: a proxy that is left running would hold those open.
        out, err = self.directory.parent / f"{self.directory.name}.out", self.directory.parent / f"{self.directory.name}.err"
        with out.open("w") as stdout, err.open("w") as stderr:
            done = subprocess.run(
                [sys.executable, "-m", "jupyterhub", *words], cwd=self.directory, env=self.environment, input=answers,
                stdout=stdout, stderr=stderr, text=True, timeout=50, check=False,
            )
        return subprocess.CompletedProcess(done.args, done.returncode, out.read_text(), err.read_text())

    def configure(self, more: str = "") -> int:
        """Write a configuration with ports of its own. Returns the Hub's port."""
        ports = {name: free_port() for name in ("public", "hub", "api")}
        (self.directory / "jupyterhub_config.py").write_text(CONFIGURATION.format(**ports) + more)
        return ports["hub"]

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a Hub and wait until it runs."""
        log = self.directory / f"hub{len(self.hubs)}.log"
        with log.open("w") as output:
            hub = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", *words], cwd=self.directory, env=self.environment, text=True,
                stdout=output, stderr=subprocess.STDOUT,
            )
        self.hubs.append(hub)

        def runs() -> bool:
            assert hub.poll() is None, log.read_text()
            return "is now running" in log.read_text()

        wait_for(runs, "the Hub to run", timeout=30)
        return hub

    def log(self, number: int = 0) -> str:
        return (self.directory / f"hub{number}.log").read_text()

    def close(self) -> None:
        for hub in self.hubs:
            children = psutil.Process(hub.pid).children() if hub.poll() is None else []
            if hub.poll() is None:
                hub.kill()
            hub.wait(10)
            for child in children:
                with contextlib.suppress(psutil.Error):
                    child.kill()
        pid_file = self.directory / "jupyterhub-proxy.pid"
        if pid_file.exists():
            with contextlib.suppress(psutil.Error):
                proxy = psutil.Process(int(pid_file.read_text()))
                if str(self.directory) in " ".join(proxy.cmdline()):
                    proxy.kill()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    found = Shell(tmp_path)
    yield found
    found.close()


# Options


def test_the_version_is_printed(shell: Shell):
    from jupyterhub import __version__

    done = shell.run("--version")
    assert (done.returncode, done.stdout.strip()) == (0, __version__)


def test_help_explains_options_and_settings(shell: Shell):
    done = shell.run("--help")
    assert done.returncode == 0 and "--generate-config" in done.stdout
    done = shell.run("--help-all")
    assert done.returncode == 0
    for setting in ("JupyterHub.bind_url", "Spawner.mem_limit", "PAMAuthenticator.service", "EventLogger.handlers"):
        assert f"--{setting}=" in done.stdout


def test_what_is_not_understood_is_named(shell: Shell):
    done = shell.run("foo", "bar baz")
    assert done.returncode == 1 and "foo 'bar baz'" in done.stderr
    (shell.directory / "mine.py").write_text("")
    assert "a configuration file is given with -f" in shell.run("mine.py").stderr
    assert shell.run("--nope").returncode == 2
    assert shell.run("-y").returncode == 2


# Configuration files


def test_a_file_that_is_not_there(shell: Shell):
    done = shell.run("-f", "missing.py")
    assert done.returncode == 1 and "missing.py does not exist" in done.stderr
    done = shell.run("-f", ".")
    assert done.returncode == 1 and "is a directory" in done.stderr
    assert shell.run("--generate-config", "-f", "missing.py").returncode == 0
    assert (shell.directory / "missing.py").exists()


def test_a_file_that_imports_a_package_that_is_missing_is_told_which_extra_brings_it(shell: Shell):
    (shell.directory / "jupyterhub_config.py").write_text(
        "import sys\nsys.modules['ltiauthenticator'] = None\nimport ltiauthenticator\n"
    )
    done = shell.run()
    assert done.returncode == 1
    assert "It imports ltiauthenticator: the package jupyterhub-ltiauthenticator is not installed" in done.stderr
    assert 'pip install "jupyterhub[lti]"' in done.stderr


def test_a_generated_file_is_valid_and_sets_nothing(shell: Shell):
    assert shell.run("--generate-config").returncode == 0
    text = (shell.directory / "jupyterhub_config.py").read_text()
    compile(text, "jupyterhub_config.py", "exec")
    assert "# c.JupyterHub.bind_url = 'http://:8000'" in text and "# c.Spawner.mem_limit" in text
    assert not [line for line in text.splitlines() if line and not line.startswith(("#", "c = get_config"))]
    assert sorted(path.name for path in shell.directory.iterdir()) == ["jupyterhub_config.py"]


def test_an_existing_file_is_overwritten_only_by_consent(shell: Shell):
    file = shell.directory / "jupyterhub_config.py"
    file.write_text("# mine\n")
    for answers in ("", "\n", "n\n"):
        assert shell.run("--generate-config", answers=answers).returncode == 0
        assert file.read_text() == "# mine\n"
    assert shell.run("--generate-config", answers="zz\ny\n").returncode == 0
    assert file.read_text() != "# mine\n"
    file.write_text("# mine\n")
    assert shell.run("--generate-config", "-y=True").returncode == 0
    assert file.read_text() != "# mine\n"
    assert shell.run("--generate-config", "-f", "nowhere/x.py").returncode == 1


def test_the_extension_does_not_matter_and_json_wins(shell: Shell):
    (shell.directory / "conf.txt").write_text("this is not Python")
    (shell.directory / "conf.py").write_text("c.JupyterHub.port = 1\nc.JupyterHub.hub_port = 2\n")
    (shell.directory / "conf.json").write_text(json.dumps({"JupyterHub": {"port": 3}}))
    done = shell.run("-f", "conf.txt", "--no-db", "--show-config-json", "--JupyterHub.authenticator_class=dummy")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)["JupyterHub"]
    assert (shown["port"], shown["hub_port"]) == (3, 2)
    assert "JupyterHub.port is given in" in done.stderr


def test_show_config_does_the_whole_start_up(shell: Shell):
    done = shell.run("--show-config", "--port=9")
    assert done.returncode == 0, done.stderr
    assert ".port = 9" in done.stdout
    assert (shell.directory / "jupyterhub.sqlite").exists()
    assert (shell.directory / "jupyterhub_cookie_secret").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("c.JupyterHub.port = 'x'", r"'port'.*int.*'x'.*line 1"),
        ("\nc.Spawner.mem_limit = '2gigs'\nc.JupyterHub.bind_url = 'nonsense'", r"nonsense.*line 3"),
        ("c.JupyterHub.authenticator_class = 'nope'", r"dummy.*pam.*'nope'.*line 1"),
        ("c.Spawner.mem_limit = '2gigs'", r"2gigs.*line 1"),
        ("c.Spawner.start_timeout = 'sixty'", r"'start_timeout'.*'sixty'.*line 1"),
        ("raise RuntimeError('boo')", r"cannot be read\s+Traceback[^\n]+\n[^\n]+jupyterhub_config\.py.*RuntimeError: boo"),
        ("c.JupyterHub.port = ", r"cannot be read\s+File [^\n]+jupyterhub_config\.py\", line 1.*SyntaxError"),
        ("c.JupyterHub.load_roles = [{'name': 'r1'}]", r"'r1' is not a valid role name"),
        ("c.JupyterHub.load_roles = [{'scopes': []}]", r"name"),
        ("c.JupyterHub.load_roles = [{'name': 'role', 'scopes': ['nope']}]", r"nope"),
        ("c.JupyterHub.load_roles = [{'name': 'role', 'scopes': ['self'], 'services': ['nope']}]", r"nope"),
        ("c.JupyterHub.services = [{'name': 'a', 'nope': 1}]", r"nope"),
        ("c.Authenticator.enable_auth_state = True", r"JUPYTERHUB_CRYPT_KEY"),
        ("c.Authenticator.manage_groups = True\nc.JupyterHub.load_groups = {'a': {}}", r"manage_groups"),
        ("c.Authenticator.admin_users = {'a/b'}", r"a/b"),
        ("c.ConfigurableHTTPProxy.should_start = False", r"auth_token"),
    ],
)
def test_a_wrong_configuration_stops_the_start(shell: Shell, text: str, said: str):
    shell.configure("\n" + text)
    (shell.directory / "jupyterhub_config.py").write_text(text)
    done = shell.run("--JupyterHub.authenticator_class=dummy" if "authenticator_class" not in text else "--debug")
    assert done.returncode == 1
    assert re.search(said, done.stderr, re.DOTALL), done.stderr


def test_a_wrong_value_on_the_command_line(shell: Shell):
    done = shell.run("--JupyterHub.port=abc")
    assert done.returncode == 1 and "'port'" in done.stderr and "'abc'" in done.stderr


def test_unknown_settings_are_warned_about(shell: Shell):
    (shell.directory / "jupyterhub_config.py").write_text("c.JupyterHub.prot = 9000\n")
    done = shell.run("--show-config", "--no-db")
    assert done.returncode == 0
    assert "JupyterHub.prot" in done.stderr and "line 1" in done.stderr and "JupyterHub.port?" in done.stderr
    assert done.stderr.count("JupyterHub.prot") == 1


# The database


def revision_of(file: Path) -> list[Any]:
    connection = sqlite3.connect(file)
    try:
        return connection.execute("SELECT * FROM alembic_version").fetchall()
    finally:
        connection.close()


def test_a_database_of_an_unknown_revision_is_refused_untouched(shell: Shell):
    file = shell.directory / "jupyterhub.sqlite"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY)")
    connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    connection.execute("INSERT INTO alembic_version VALUES ('fromthefuture')")
    connection.commit()
    connection.close()
    before = file.read_bytes()
    shell.configure()
    done = shell.run()
    assert done.returncode == 1 and "fromthefuture" in done.stderr
    assert file.read_bytes() == before


def test_upgrade_db_twice(shell: Shell):
    shell.configure()
    assert shell.run("upgrade-db").returncode == 0
    assert shell.run("upgrade-db").returncode == 0
    assert len(revision_of(shell.directory / "jupyterhub.sqlite")) == 1


def test_a_directory_for_database_or_secret_that_is_not_there(shell: Shell):
    shell.configure()
    done = shell.run("--db=sqlite:////nonexistent/hub.sqlite")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "cannot be opened" in done.stderr and "/nonexistent" in done.stderr and "JupyterHub.db_url" in done.stderr
    done = shell.run("--JupyterHub.cookie_secret_file=/nonexistent/secret")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "/nonexistent/secret" in done.stderr and "JupyterHub.cookie_secret_file" in done.stderr


# Tokens


def test_tokens_for_known_users(shell: Shell):
    shell.configure("c.Authenticator.allowed_users = {'ada'}\nc.Authenticator.admin_users = {'root'}\n")
    for name in ("ada", "root"):
        done = shell.run("token", name)
        assert done.returncode == 0, done.stderr
        assert re.fullmatch(r"[0-9a-f]{32}\n", done.stdout)
    done = shell.run("token", "nobody")
    assert done.returncode == 1 and "nobody" in done.stderr and not done.stdout
    done = shell.run("token", "ada", "bob")
    assert done.returncode == 1 and "ada bob" in done.stderr


# A running Hub


def test_a_port_in_use_is_named_with_its_user(shell: Shell):
    port = shell.configure()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        done = shell.run()
    assert done.returncode == 1
    assert f"Port {port}" in done.stderr and str(os.getpid()) in done.stderr


def test_an_address_that_the_machine_does_not_have_is_named_with_its_setting(shell: Shell):
    shell.configure()
    # An address for examples, which no machine has: as the one of an engine's network while the engine is not running.
    done = shell.run("--JupyterHub.hub_ip=192.0.2.1")
    assert done.returncode == 1
    assert "This machine does not have the address 192.0.2.1. Choose another with JupyterHub.hub_ip" in done.stderr


def test_a_hub_ends_in_order_and_leaves_nothing_running(shell: Shell):
    shell.configure("c.JupyterHub.pid_file = 'hub.pid'\n")
    hub = shell.start()
    children = psutil.Process(hub.pid).children()
    assert (shell.directory / "hub.pid").read_text() == str(hub.pid)
    assert children
    hub.send_signal(signal.SIGTERM)
    assert hub.wait(30) == 0
    assert not any(child.is_running() for child in children)
    left = {path.name for path in shell.directory.iterdir()}
    assert "hub.pid" not in left and "jupyterhub-proxy.pid" not in left


def test_a_second_hub_on_the_same_database_is_told_of_the_first(shell: Shell):
    shell.configure()
    hub = shell.start()
    done = shell.run()
    assert done.returncode == 1 and str(hub.pid) in done.stderr
    assert hub.poll() is None
    done = shell.run("token", "nobody")
    assert done.returncode == 1 and "no user 'nobody'" in done.stderr


def test_a_signal_prints_what_goes_on(shell: Shell):
    shell.configure()
    hub = shell.start()
    hub.send_signal(signal.SIGUSR1)
    wait_for(lambda: "tasks" in shell.log() and "MiB" in shell.log(), "the stacks")
    assert hub.poll() is None


def test_both_clean_ups_off_leave_the_proxy(shell: Shell):
    shell.configure("c.JupyterHub.cleanup_proxy = False\nc.JupyterHub.cleanup_servers = False\n")
    hub = shell.start()
    proxy = int((shell.directory / "jupyterhub-proxy.pid").read_text())
    hub.send_signal(signal.SIGINT)
    assert hub.wait(30) == 0
    assert psutil.pid_exists(proxy)
    again = shell.start()
    assert int((shell.directory / "jupyterhub-proxy.pid").read_text()) == proxy
    assert "Adopting" in shell.log(1)
    again.send_signal(signal.SIGTERM)
    assert again.wait(30) == 0


def test_a_killed_hub_starts_again_beside_its_proxy(shell: Shell):
    shell.configure()
    hub = shell.start()
    proxy = int((shell.directory / "jupyterhub-proxy.pid").read_text())
    hub.kill()
    hub.wait(10)
    shell.start()
    assert int((shell.directory / "jupyterhub-proxy.pid").read_text()) == proxy
