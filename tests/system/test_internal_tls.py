"""Internal TLS of a whole Hub: everything works as without it, and nobody without a certificate gets in beside it."""

from __future__ import annotations

import json
import os
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import websocket

from .dataplane_program import installed_node_proxy
from .hub_process import Answer, HubProcess, free_port, wait_for
from .person import Person
from .public_environment import public_environment
from .system_users import system_users
from .test_survival import Listener, execute
from .upstream import upstream_environment

pytestmark = pytest.mark.timeout(240)

NODE = installed_node_proxy()
CONFIG = """
c.JupyterHub.internal_ssl = True
c.JupyterHub.internal_certs_location = "certificates"
c.ConfigurableHTTPProxy.api_url = c.ConfigurableHTTPProxy.api_url.replace("http:", "https:")
c.JupyterHub.cleanup_servers = False
c.JupyterHub.activity_resolution = 0
c.Spawner.cmd = ["{bin}/jupyterhub-singleuser"]
c.Spawner.args = {arguments}
c.Spawner.http_timeout = 90
c.Spawner.environment = {{"PATH": "{bin}:/usr/bin:/bin", "JUPYTERHUB_ACTIVITY_INTERVAL": "1"}}
"""
SERVICE = """
c.JupyterHub.services.append({{
    "name": "web", "url": "https://127.0.0.1:{port}", "command": [{python!r}, "-m", "jupyterhub.tests.mockservice"],
    "oauth_no_confirm": True,
}})
c.JupyterHub.load_roles.append({{"name": "visitors", "users": ["ada"], "scopes": ["access:services!service=web"]}})
"""


class TLSHub(HubProcess):
    """A Hub with internal TLS. Its API is reached through the proxy, as by everybody who has no certificate."""

    def api(self, method: str, path: str, body: Any = None, **kwargs: Any) -> Answer:
        return self.request(method, f"/hub/api{path}", body, token=self.token, **kwargs)

    def certificate(self, name: str) -> tuple[str, str]:
        """Return the files of a certificate and its key, for `requests`."""
        place = self.directory / "certificates" / name / name
        return f"{place}.crt", f"{place}.key"

    def authority(self, name: str) -> str:
        return self.certificate(name)[0]


@contextmanager
def running_hub(directory: Path, more: str = "", *, bin_directory: Path | None = None) -> Iterator[TLSHub]:
    arguments = ["--allow-root"] if os.geteuid() == 0 else []
    place = bin_directory or Path(sys.executable).parent
    hub = TLSHub(directory / "hub", CONFIG.format(bin=place, arguments=arguments) + more)
    try:
        hub.start()
        yield hub
    finally:
        hub.clean_up()


@pytest.fixture(scope="module")
def service_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, service_port: int) -> Iterator[TLSHub]:
    service = SERVICE.format(port=service_port, python=sys.executable)
    with running_hub(tmp_path_factory.mktemp("tls"), service) as hub:
        yield hub


@pytest.fixture(scope="module")
def ada(hub: TLSHub) -> Person:
    """Somebody who has logged in and whose server runs."""
    return with_server(hub, "ada")


def with_server(hub: HubProcess, name: str, password: str = "any") -> Person:
    person = Person(hub, name)
    assert person.log_in(password).status_code == 200
    assert hub.start_server(name).status in {201, 202}
    hub.wait_ready(name, timeout=120)
    return person


def kernel_of(person: Person) -> websocket.WebSocket:
    """Start a kernel and connect to it, as JupyterLab does: with the cookies that the log-in gave."""
    base = f"/user/{person.name}"
    # The page hands out the server's own XSRF token.
    assert person.get(f"{base}/lab").status_code == 200
    xsrf = next(c.value or "" for c in person.session.cookies if c.name == "_xsrf" and c.path.startswith(base))
    made = person.post(f"{base}/api/kernels", json={}, headers={"X-XSRFToken": xsrf})
    assert made.status_code == 201, made.text
    url = f"{person.hub.url}{base}/api/kernels/{made.json()['id']}/channels"
    prepared = person.session.prepare_request(requests.Request("GET", url))
    return websocket.create_connection(
        url.replace("http:", "ws:"), header={"Cookie": prepared.headers["Cookie"]}, timeout=60
    )


def prints(listener: Listener, words: str) -> None:
    command = json.dumps(execute(f"print({words!r}[::-1])"))
    listener.connection.send(command)
    wait_for(lambda: words[::-1] in listener.printed or listener.ended, "the kernel's answer", 60)
    assert not listener.ended, "the connection was cut"


@contextmanager
def listening(person: Person) -> Iterator[Listener]:
    with closing(kernel_of(person)) as connection:
        listener = Listener(connection)
        listener.start()
        yield listener


def refused(url: str, authority: str, pair: tuple[str, str] | None = None) -> bool:
    """Whether nothing is said to somebody with this certificate, or without one."""
    try:
        answer = requests.get(url, verify=authority, cert=pair, timeout=20)
    except requests.ConnectionError as error:
        # It was the far side's decision; a certificate of theirs that we do not trust would prove nothing.
        assert "CERTIFICATE_VERIFY_FAILED" not in str(error), error
        return True
    assert answer.status_code < 500, answer
    return False


def server_url(hub: HubProcess, name: str = "ada") -> str:
    target: str = hub.routes()[f"/user/{name}/"]["target"]
    return target


def test_a_person_gets_to_their_server(hub: TLSHub, ada: Person) -> None:
    """The whole log-in dance, then the server's own API with the cookie that it gave."""
    assert server_url(hub).startswith("https://")
    page = ada.get("/user/ada/lab")
    assert page.status_code == 200 and "jupyter-config-data" in page.text
    status = ada.get("/user/ada/api/status")
    assert status.status_code == 200 and "started" in status.json()
    assert Person(hub, "eve").get("/user/ada/api/status").status_code == 403


def test_a_kernel_answers(ada: Person) -> None:
    with listening(ada) as listener:
        prints(listener, "over websocket")


def test_the_server_tells_of_activity(hub: TLSHub, ada: Person) -> None:
    before = hub.server("ada")["last_activity"]
    assert ada.get("/user/ada/api/contents").status_code == 200
    wait_for(lambda: hub.server("ada")["last_activity"] > before, "a later moment of activity", 30)


def test_only_hub_and_proxy_may_connect_to_a_server(hub: TLSHub, ada: Person) -> None:
    url, authority = f"{server_url(hub)}/user/ada/api", hub.authority("notebooks-ca")
    assert refused(url, authority)
    # Nor may other servers: the pair of one opens none.
    assert refused(url, authority, hub.certificate("user-ada"))
    for friend in ("hub-internal", "proxy-client"):
        assert not refused(url, authority, hub.certificate(friend))


def test_the_hub_is_reached_through_the_proxy_or_with_a_certificate(hub: TLSHub, ada: Person) -> None:
    url, authority = f"https://127.0.0.1:{hub.hub_port}/hub/api/", hub.authority("hub-ca")
    assert refused(url, authority)
    assert not refused(url, authority, hub.certificate("user-ada"))
    with pytest.raises(requests.ConnectionError):
        requests.get(url.replace("https:", "http:"), timeout=20)
    assert hub.request("GET", "/hub/api/").status == 200


def test_the_api_of_the_proxy_wants_a_certificate(hub: TLSHub) -> None:
    url, authority = f"https://127.0.0.1:{hub.proxy_api_port}/api/routes", hub.authority("proxy-api-ca")
    assert refused(url, authority)
    assert not refused(url, authority, hub.certificate("hub-internal"))


def test_a_service_has_a_certificate_and_asks_for_one(hub: TLSHub, ada: Person, service_port: int) -> None:
    environment = ada.get("/services/web/env").json()
    for variable in ("KEYFILE", "CERTFILE", "CLIENT_CA"):
        assert Path(environment[f"JUPYTERHUB_SSL_{variable}"]).is_file()
    assert environment["JUPYTERHUB_API_URL"] == f"https://127.0.0.1:{hub.hub_port}/hub/api"
    # It asks the Hub with its token, and logs people in.
    assert ada.get("/services/web/api/user").json()["name"] == "web"
    assert ada.get("/services/web/owhoami").json()["name"] == "ada"
    assert refused(f"https://127.0.0.1:{service_port}/services/web/env", hub.authority("notebooks-ca"))


def test_private_keys_are_private(hub: TLSHub, ada: Person) -> None:
    store = hub.directory / "certificates"
    keys = sorted(store.glob("*/*.key"))
    assert {"hub-internal.key", "hub-ca.key", "proxy-api.key", "user-ada.key", "service-web.key"} <= {
        key.name for key in keys
    }
    assert {stat.S_IMODE(key.stat().st_mode) for key in [*keys, store / ".lock"]} == {0o600}


def test_after_kill_and_restart_everything_is_taken_over(hub: TLSHub, ada: Person) -> None:
    """An open connection to a kernel lives on, and everything is the same process; then the server is stopped."""
    process = psutil.Process(hub.server("ada")["state"]["pid"])
    proxy = (hub.directory / "proxy.pid").read_text()
    with listening(ada) as listener:
        prints(listener, "before")
        hub.kill()
        hub.start()
        prints(listener, "after the restart")
    assert (hub.directory / "proxy.pid").read_text() == proxy
    model = hub.wait_ready("ada")
    assert model["state"]["pid"] == process.pid
    assert ada.get("/user/ada/api/status").status_code == 200
    # The service is a new process, on its new address as soon as it listens there.
    wait_for(lambda: ada.get("/services/web/owhoami").status_code == 200, "the service", 30)
    assert hub.stop_server("ada").status in {202, 204}
    hub.wait_stopped("ada")
    wait_for(lambda: not process.is_running(), "the server's process has ended")


def test_with_new_certificates_the_proxy_is_adopted_all_the_same(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub:
        old, proxy = Path(hub.authority("hub-ca")).read_text(), (hub.directory / "proxy.pid").read_text()
        hub.kill()
        with hub.config_path.open("a") as config:
            config.write("c.JupyterHub.recreate_internal_certs = True\n")
        hub.start()
        assert Path(hub.authority("hub-ca")).read_text() != old
        assert (hub.directory / "proxy.pid").read_text() == proxy
        assert with_server(hub, "ada").get("/user/ada/lab").status_code == 200


def test_certificates_are_made_beforehand(tmp_path: Path) -> None:
    """For a proxy that something else starts; a word about it when they would not be used."""
    done = subprocess.run(
        [sys.executable, "-m", "jupyterhub", "--generate-certs"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "internal_ssl is False" in done.stderr
    for name in ("hub-internal", "proxy-api", "proxy-client"):
        assert (tmp_path / f"internal-ssl/{name}/{name}.crt").is_file()
    assert not (tmp_path / "jupyterhub.sqlite").exists()


def test_an_address_of_the_proxy_without_tls_is_named(tmp_path: Path) -> None:
    hub = TLSHub(tmp_path / "hub", "c.JupyterHub.internal_ssl = True\n")
    try:
        hub.start(wait=False)
        assert hub.process is not None and hub.process.wait(30) == 1
        assert "ConfigurableHTTPProxy.api_url has to begin with https://" in hub.log_tail()
    finally:
        hub.clean_up()


@pytest.mark.engine
def test_a_server_of_jupyterhub_6(tmp_path: Path) -> None:
    """It finds its certificate, and the Hub, by the same variables."""
    with running_hub(tmp_path, bin_directory=upstream_environment().bin) as hub:
        ada = with_server(hub, "ada")
        assert ada.get("/user/ada/lab").status_code == 200
        assert ada.get("/user/ada/api/status").status_code == 200
        assert refused(f"{server_url(hub)}/user/ada/api", hub.authority("notebooks-ca"))


@pytest.mark.parametrize("command", [NODE] if NODE else [])
def test_configurable_http_proxy(tmp_path: Path, command: str) -> None:
    """The Node program takes the same certificates."""
    more = f'c.JupyterHub.proxy_class = "configurable-http-proxy"\nc.ConfigurableHTTPProxy.command = [{command!r}]\n'
    with running_hub(tmp_path, more) as hub:
        ada = with_server(hub, "ada")
        assert ada.get("/user/ada/lab").status_code == 200
        with listening(ada) as listener:
            prints(listener, "through the other proxy")
        assert refused(f"https://127.0.0.1:{hub.proxy_api_port}/api/routes", hub.authority("proxy-api-ca"))
        assert "configurable-http-proxy" in " ".join(
            psutil.Process(int((hub.directory / "proxy.pid").read_text())).cmdline()
        )


@pytest.mark.engine
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes an account and switches to it")
def test_certificates_are_handed_over_to_the_account(tmp_path: Path) -> None:
    """In the home of their owner, for nobody else; what the Hub had is gone."""
    config = 'c.JupyterHub.spawner_class = "localprocess"\n'
    with system_users("hubtesttls") as people, running_hub(tmp_path, config, bin_directory=public_environment()) as hub:
        (name,) = people
        person = with_server(hub, name)
        assert person.get(f"/user/{name}/lab").status_code == 200
        process = psutil.Process(hub.server(name)["state"]["pid"])
        environment = process.environ()
        home = Path(environment["HOME"])
        directory = home / ".jupyterhub/jupyterhub-certs"
        for variable in ("KEYFILE", "CERTFILE", "CLIENT_CA"):
            path = Path(environment[f"JUPYTERHUB_SSL_{variable}"])
            assert path.parent == directory
            assert (path.owner(), stat.S_IMODE(path.stat().st_mode)) == (name, 0o600)
        assert (directory.owner(), stat.S_IMODE(directory.stat().st_mode)) == (name, 0o700)
        assert not Path(hub.certificate(f"user-{name}")[1]).exists()
        context = ssl.create_default_context(cafile=environment["JUPYTERHUB_SSL_CLIENT_CA"])
        context.load_cert_chain(environment["JUPYTERHUB_SSL_CERTFILE"], environment["JUPYTERHUB_SSL_KEYFILE"])
        assert process.username() == name
        # The next start replaces them.
        before = (directory / f"user-{name}.key").read_text()
        hub.stop_server(name)
        hub.wait_stopped(name)
        hub.start_server(name)
        hub.wait_ready(name, timeout=120)
        assert (directory / f"user-{name}.key").read_text() != before
