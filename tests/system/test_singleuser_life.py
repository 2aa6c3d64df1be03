"""How a user's server begins and ends, and what decides about its form (cli §2.1 to §2.6, §2.11, §2.12)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jupyterhub.singleuser import use_extension
from jupyterhub.singleuser.bindaddress import bind_address

from ..web.fake_hub import running_hub
from ..web.visitor import Visitor
from .hub_process import free_port
from .test_singleuser import PREFIX, Server, environment, running_server, until

pytestmark = pytest.mark.timeout(120)


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end without the Hub's environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "JPY_"))}
    return subprocess.run(
        [sys.executable, "-m", "jupyterhub.singleuser", *arguments],
        env={**kept, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# -- the choice


@pytest.mark.parametrize(
    ("switch", "app", "extension"),
    [
        ("", "", True),
        ("1", "", True),
        ("0", "", False),
        ("0", "extension", False),
        ("", "extension", True),
        ("1", "jupyter_server.serverapp.ServerApp", True),
        ("", "jupyter_server.serverapp.ServerApp", True),
        ("", "jupyter-server", True),
        ("", "notebook", False),
        ("", "jupyverse", False),
        ("", "jupyterlab.labapp.LabApp", False),
    ],
)
def test_the_environment_chooses_the_form(switch: str, app: str, extension: bool) -> None:
    env = {"JUPYTERHUB_SINGLEUSER_EXTENSION": switch, "JUPYTERHUB_SINGLEUSER_APP": app}
    assert use_extension(env) is extension


def test_contradicting_variables_end_the_process() -> None:
    with pytest.raises(ValueError, match="notebook"):
        use_extension({"JUPYTERHUB_SINGLEUSER_EXTENSION": "1", "JUPYTERHUB_SINGLEUSER_APP": "notebook"})
    done = run(JUPYTERHUB_SINGLEUSER_EXTENSION="1", JUPYTERHUB_SINGLEUSER_APP="notebook")
    assert done.returncode == 1
    assert "JUPYTERHUB_SINGLEUSER_APP=notebook" in done.stderr


@pytest.mark.parametrize("switch", ["0", "1"])
def test_version_is_ours(switch: str) -> None:
    import jupyterhub

    done = run("--version", JUPYTERHUB_SINGLEUSER_EXTENSION=switch)
    assert (done.returncode, done.stdout.strip()) == (0, jupyterhub.__version__)


@pytest.mark.parametrize(
    ("switch", "named"), [("1", "JUPYTERHUB_SERVICE_URL"), ("0", "JUPYTERHUB_API_TOKEN")]
)
def test_without_a_hub_nothing_starts(switch: str, named: str) -> None:
    """The message names the variable that is missing."""
    done = run("--allow-root", JUPYTERHUB_SINGLEUSER_EXTENSION=switch)
    assert done.returncode == 1
    assert named in done.stderr


def test_an_application_without_log_in_cannot_be_wrapped() -> None:
    done = run(JUPYTERHUB_SINGLEUSER_APP="traitlets.config.Application")
    assert done.returncode == 1
    assert "traitlets.config.Application" in done.stderr


def test_an_application_that_is_missing_is_named() -> None:
    done = run(JUPYTERHUB_SINGLEUSER_APP="no_such_package.App")
    assert done.returncode == 1
    assert "no_such_package" in done.stderr


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8888/user/a/", ("127.0.0.1", 8888)),
        ("http://:80/", ("", 80)),
        ("http://0.0.0.0/", ("0.0.0.0", 80)),
        ("https://example.org/", ("example.org", 443)),
        ("http://[::1]:9/", ("::1", 9)),
        ("http://127.0.0.1:0/", ("127.0.0.1", 0)),
    ],
)
def test_where_to_listen(url: str, address: tuple[str, int]) -> None:
    assert bind_address(url) == address


def test_names_that_others_import() -> None:
    """JupyterLab and deployments build upon these (plugins §12.3)."""
    program = """
import jupyterhub.singleuser, jupyterhub.singleuser.app, jupyterhub.singleuser.extension as extension
from jupyterhub.singleuser import main, SingleUserNotebookApp
from jupyterhub.singleuser.mixins import make_singleuser_app, HubAuthenticatedHandler
from jupyterlab.labhubapp import SingleUserLabApp
assert jupyterhub.singleuser.app.SingleUserNotebookApp is SingleUserNotebookApp
assert SingleUserNotebookApp.__name__ == "SingleUserNotebookApp"
assert "hub-prefix" in SingleUserLabApp.aliases and "disable-user-config" in SingleUserLabApp.flags
assert "ip" in SingleUserLabApp.aliases and "debug" in SingleUserLabApp.flags
for name in ("JupyterHubSingleUser", "JupyterHubIdentityProvider", "JupyterHubAuthorizer", "JupyterHubUser"):
    getattr(extension, name)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=60)


def test_without_any_jupyter_it_says_what_to_install() -> None:
    program = """
import sys
sys.modules.update(jupyter_server=None, jupyterlab=None, notebook=None)
from jupyterhub.singleuser.app import main
main([])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "jupyter_server" in done.stderr and 'pip install "jupyterhub[singleuser]"' in done.stderr


# -- settings


async def text_of(server: Server, path: str) -> bytes:
    token = {"Authorization": f"token {server.hub.add_token('ada')}"}
    answer = await server.visitor().fetch(PREFIX + path, headers=token)
    assert answer.code == 200, answer.body
    return answer.body


@pytest.mark.parametrize("switch", ["1", "0"])
async def test_whose_word_counts(tmp_path: Path, switch: str) -> None:
    """The command line is above the Hub, the Hub above the user's files; nobody can take off the lock."""
    config = tmp_path / ".jupyter"
    config.mkdir()
    (config / "jupyter_server_config.py").write_text(
        "c.ServerApp.port = 1\n"
        "c.ServerApp.base_url = '/elsewhere'\n"
        "c.ServerApp.open_browser = True\n"
        "c.ServerApp.identity_provider_class = 'jupyter_server.auth.IdentityProvider'\n"
        "c.IdentityProvider.token = 'backdoor'\n"
        "c.ServerApp.token = 'backdoor'\n"
        "c.ServerApp.tornado_settings = {'headers': {'X-Mine': 'yes'}}\n"
    )
    arguments = ["--ServerApp.quit_button=True", "--ServerApp.allow_remote_access=True"]
    async with running_server(
        tmp_path, *arguments, JUPYTERHUB_SINGLEUSER_EXTENSION=switch, JUPYTERHUB_DEFAULT_URL="/tree"
    ) as server:
        assert (await server.visitor().fetch(PREFIX)).headers["Location"].rstrip("?") == PREFIX + "tree"
        backdoor = {"Authorization": "token backdoor"}
        stranger = await server.visitor().fetch(PREFIX + "api/contents", headers=backdoor)
        assert stranger.code == 403
        assert stranger.headers["X-Mine"] == "yes"
        assert stranger.headers["X-JupyterHub-Version"] == "6.1.1"
        page = await text_of(server, "lab")
        assert b'"quitButton": true' in page
        assert b"backdoor" not in page


async def test_a_lock_from_elsewhere_ends_the_process(tmp_path: Path) -> None:
    """Even the command line cannot run the server without the Hub's identity provider."""
    with pytest.raises(AssertionError, match="identity_provider_class"):
        async with running_server(
            tmp_path, "--ServerApp.identity_provider_class=jupyter_server.auth.PasswordIdentityProvider"
        ):
            pass


async def test_user_configuration_can_be_ignored(tmp_path: Path) -> None:
    config = tmp_path / ".jupyter"
    config.mkdir()
    (config / "jupyter_server_config.py").write_text("raise SystemExit('the file was read')")
    async with running_server(tmp_path, JUPYTERHUB_DISABLE_USER_CONFIG="1") as server:
        assert b'"identity"' in await text_of(server, "api/me")


async def test_a_subclass_of_the_authorizer_may_allow_less(tmp_path: Path) -> None:
    """Deployments narrow what people with access may do (plugins §12.3)."""
    (tmp_path / "narrow.py").write_text(
        "from jupyterhub.singleuser.extension import JupyterHubAuthorizer\n"
        "class Narrow(JupyterHubAuthorizer):\n"
        "    def is_authorized(self, handler, user, action, resource):\n"
        "        assert user.hub_user['name'] == 'ada' and self.hub_auth.api_url\n"
        "        return action == 'read' and super().is_authorized(handler, user, action, resource)\n"
    )
    config = tmp_path / "more.py"
    config.write_text(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from narrow import Narrow\n"
        "c.ServerApp.authorizer_class = Narrow\n"
    )
    async with running_server(tmp_path, f"--config={config}") as server:
        token = {"Authorization": f"token {server.hub.add_token('ada')}"}
        path = PREFIX + "api/contents"
        assert (await server.visitor().fetch(path, headers=token)).code == 200
        assert (await server.visitor().fetch(path, "POST", body="{}", headers=token)).code == 403


@pytest.mark.parametrize("app", ["jupyterlab.labapp.LabApp", "jupyter_server.serverapp.ServerApp"])
async def test_other_applications(tmp_path: Path, app: str) -> None:
    async with running_server(tmp_path, JUPYTERHUB_SINGLEUSER_APP=app, JUPYTERHUB_DEFAULT_URL="") as server:
        assert (await server.visitor().fetch(PREFIX)).headers["Location"].rstrip("?") == PREFIX + "lab"
        assert b"jupyter-config-data" in await text_of(server, "lab")


async def test_options_of_the_wrapped_application(tmp_path: Path) -> None:
    """Flags and aliases of the older form still do something."""
    async with running_server(
        tmp_path, "--user=ada", "--disable-user-config", "--debug", JUPYTERHUB_SINGLEUSER_EXTENSION="0"
    ) as server:
        assert b'"identity"' in await text_of(server, "api/me")
        assert "[D " in server.log.read_text()


async def test_classic_pages_lead_back_to_the_hub(tmp_path: Path) -> None:
    """Pages from Jupyter Server's own templates have the link and the logo."""
    async with running_server(tmp_path) as server:
        token = {"Authorization": f"token {server.hub.add_token('ada')}"}
        page = await server.visitor().fetch(PREFIX + "no-such-page", headers=token)
        assert page.code == 404
        assert b'id="jupyterhub-control-panel-link"' in page.body
        assert b'href="/hub/home"' in page.body
        assert b'src="/hub/logo"' in page.body


# -- the end


@pytest.mark.parametrize("switch", ["1", "0"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_server_without_a_question(
    tmp_path: Path, switch: str, number: signal.Signals
) -> None:
    async with running_server(tmp_path, JUPYTERHUB_SINGLEUSER_EXTENSION=switch) as server:
        server.process.send_signal(number)
        assert await asyncio.wait_for(server.process.wait(), 20) == 0, server.tail()


async def test_shutdown_by_its_own_api(tmp_path: Path) -> None:
    """`POST api/shutdown` with a token that has access ends the process; a stranger's does not."""
    async with running_server(tmp_path) as server:
        path = PREFIX + "api/shutdown"
        assert (await server.visitor().fetch(path, "POST", body="")).code == 403
        token = {"Authorization": f"token {server.hub.add_token('ada')}"}
        assert (await server.visitor().fetch(path, "POST", body="", headers=token)).code == 200
        assert await asyncio.wait_for(server.process.wait(), 20) == 0


async def test_the_port_stays_closed_until_the_hub_has_answered(tmp_path: Path) -> None:
    """Nobody can reach a server that has not found its Hub; the log says where it was looked for."""
    async with running_hub() as hub:
        port = free_port()
        env = {**environment(hub, port, tmp_path), "JUPYTERHUB_API_URL": "http://127.0.0.1:1/hub/api"}
        (tmp_path / "work").mkdir()
        log = tmp_path / "server.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *[sys.executable, "-m", "jupyterhub.singleuser", "--allow-root"],
                env=env,
                cwd=tmp_path,
                stdout=output,
                stderr=output,
            )
        try:
            await until(lambda: "attempt 2 of 5" in log.read_text(), "a second attempt", 60)
            with pytest.raises(ConnectionRefusedError):
                await Visitor(f"http://127.0.0.1:{port}").fetch(PREFIX + "api")
            assert "http://127.0.0.1:1/hub/api" in log.read_text()
        finally:
            process.kill()
            await process.wait()
