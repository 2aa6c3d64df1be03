"""Hub and proxy as two processes, each of which may die at any moment."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tornado.websocket import websocket_connect

from jupyterhub.proxy import BuiltinProxy, ConfigurableHTTPProxy, ProxyFailedToStart
from tests.contract.test_proxy_contract import FakeApp, FakeHub, FakeSpawner, FakeUser
from tests.system.dataplane_program import free_port, installed_node_proxy, target, until
from tests.system.test_dataplane_websocket import echo_url

__all__ = ["echo_url"]

NODE = installed_node_proxy()

#: A hub reduced to its proxy. It says when it is up, then waits to be killed.
HUB = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.system.test_dataplane_hub import Place
async def main():
    proxy = Place.read(sys.argv[1]).proxy()
    await proxy.start()
    Path(sys.argv[2]).write_text(str(proxy.proxy_process.pid))
    await asyncio.Event().wait()
asyncio.run(main())
"""


class Place:
    """A directory with a proxy's files, and its ports: what stays the same from one hub to the next."""

    def __init__(self, directory: Path, port: int, api_port: int) -> None:
        self.directory = directory
        self.port = port
        self.api_port = api_port

    @classmethod
    def read(cls, text: str) -> Place:
        directory, port, api_port = text.split(",")
        return cls(Path(directory), int(port), int(api_port))

    def __str__(self) -> str:
        return f"{self.directory},{self.port},{self.api_port}"

    @property
    def pid_file(self) -> Path:
        return self.directory / "jupyterhub-proxy.pid"

    @property
    def token_file(self) -> Path:
        return self.directory / "jupyterhub-proxy.token"

    def proxy(self, kind: type[ConfigurableHTTPProxy] = BuiltinProxy, **options: Any) -> Any:
        """The proxy object of a new hub."""
        hub = FakeHub()
        options.setdefault("app", FakeApp(hub))
        return kind(
            hub=hub,
            public_url=f"http://127.0.0.1:{self.port}/",
            api_url=f"http://127.0.0.1:{self.api_port}",
            pid_file=str(self.pid_file),
            **options,
        )

    async def hub_process(self, sign: Path) -> asyncio.subprocess.Process:
        """A hub in a process of its own. When it is up, it writes the proxy's pid into `sign`."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            HUB.format(root=str(Path(__file__).parents[2])),
            str(self),
            str(sign),
            stdout=subprocess.DEVNULL,
        )


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.delenv("CONFIGPROXY_AUTH_TOKEN", raising=False)
    (tmp_path / "hub").mkdir()
    place = Place(tmp_path / "hub", free_port(), free_port())
    yield place
    # Whatever a test leaves behind is found as a later hub would find it.
    proxy = place.proxy()
    if place.pid_file.exists():
        await proxy.start()
        await proxy.stop()


async def test_websocket_survives_the_death_of_the_hub(place: Place, tmp_path: Path, echo_url: str) -> None:
    """kill -9 of the hub: the proxy goes on, and the next hub adopts it with every connection and route."""
    hub = await place.hub_process(tmp_path / "up")
    await until((tmp_path / "up").exists, "the hub is up", 30)
    pid = int(place.pid_file.read_text())
    first = place.proxy()
    await first.add_route("/user/ada/", echo_url, {"user": "ada", "server_name": ""})
    socket = await websocket_connect(f"ws://127.0.0.1:{place.port}/user/ada/ws")
    await socket.write_message("before")
    assert await socket.read_message() == "before"

    hub.send_signal(signal.SIGKILL)
    await hub.wait()
    await socket.write_message("while there is no hub")
    assert await socket.read_message() == "while there is no hub"
    assert os.getpgid(pid) == pid

    second = place.proxy()
    await second.start()
    assert second.proxy_process.pid == pid
    await second.add_route("/user/bob/", echo_url, {"user": "bob", "server_name": ""})
    assert sorted(await second.get_all_routes()) == ["/user/ada/", "/user/bob/"]
    await socket.write_message("after")
    assert await socket.read_message() == "after"
    socket.close()

    await second.stop()
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert list(place.directory.iterdir()) == []


async def test_hub_killed_at_any_moment_of_its_start_leaves_one_proxy(place: Place, tmp_path: Path) -> None:
    for moment in (0.3, 0.4, 0.5, 0.6, 0.8, 1.0):
        process = await place.hub_process(tmp_path / "up")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), moment)
        process.kill()
        await process.wait()
    proxy = place.proxy()
    await proxy.start()
    mine = [p for p in psutil.process_iter(["cmdline"]) if str(place.api_port) in (p.info["cmdline"] or ())]
    assert [p.pid for p in mine] == [proxy.proxy_process.pid]
    assert await proxy.get_all_routes() == {}
    await proxy.stop()


async def test_token_is_kept_for_the_owner_alone(place: Place) -> None:
    proxy = place.proxy()
    await proxy.start()
    assert place.token_file.read_text() == proxy.auth_token
    assert place.token_file.stat().st_mode & 0o777 == 0o600
    words = psutil.Process(proxy.proxy_process.pid).cmdline()
    assert proxy.auth_token not in " ".join(words)
    await proxy.stop()
    assert not place.token_file.exists()


async def test_token_that_others_could_read_is_not_trusted(place: Place) -> None:
    place.token_file.write_text("guessed")
    place.token_file.chmod(0o644)
    assert place.proxy().auth_token != "guessed"


async def test_configured_token_is_not_written_down(place: Place) -> None:
    proxy = place.proxy(auth_token="configured")
    await proxy.start()
    assert not place.token_file.exists()
    again = place.proxy(auth_token="configured")
    proxy.release()
    await again.start()
    assert again.proxy_process.pid == proxy.proxy_process.pid
    await again.stop()


@pytest.mark.parametrize("change", [{"log_level": "error"}, {"host_routing": True}, {"auth_token": "other"}])
async def test_proxy_with_other_settings_is_replaced(place: Place, change: dict[str, Any]) -> None:
    """It is ended and started anew; its routes are there again unless they mean something else now."""
    first = place.proxy()
    await first.start()
    await first.add_route("/user/ada/", "http://127.0.0.1:1", {"user": "ada", "server_name": ""})
    old = first.proxy_process.pid
    first.release()
    second = place.proxy(**change)
    await second.start()
    assert second.proxy_process.pid != old
    assert first.proxy_process.poll() is not None
    assert list(await second.get_all_routes()) == ([] if "host_routing" in change else ["/user/ada/"])
    await second.stop()


async def test_proxy_is_found_without_its_pid_file(place: Place) -> None:
    """The hub may be killed between starting the proxy and writing down which process it is."""
    first = place.proxy()
    await first.start()
    first.release()
    place.pid_file.unlink()
    second = place.proxy()
    await second.start()
    assert second.proxy_process.pid == first.proxy_process.pid
    assert int(place.pid_file.read_text()) == first.proxy_process.pid
    await second.stop()


async def test_process_that_took_over_the_number_is_left_alone(place: Place) -> None:
    stranger = await asyncio.create_subprocess_exec("sleep", "60")
    place.pid_file.write_text(str(stranger.pid))
    proxy = place.proxy()
    await proxy.start()
    assert proxy.proxy_process.pid != stranger.pid
    assert stranger.returncode is None
    stranger.kill()
    await stranger.wait()
    await proxy.stop()


@pytest.mark.parametrize("text", ["", "nonsense", "999999999", "-1", "1"])
async def test_pid_file_that_says_nothing_is_no_obstacle(place: Place, text: str) -> None:
    place.pid_file.write_text(text)
    proxy = place.proxy()
    await proxy.start()
    await proxy.stop()


async def test_proxy_that_dies_is_started_again_with_its_routes(place: Place) -> None:
    """At once, not at the next look, and without asking the hub for what the proxy has on disk."""
    hub = FakeHub()
    app = FakeApp(hub, {"ada": FakeUser("ada", {"": FakeSpawner("/user/ada/")})})
    proxy = place.proxy(app=app, check_running_interval=3600)
    await proxy.start()
    await proxy.check_routes(app.users, {})
    old = proxy.proxy_process.pid
    os.kill(old, signal.SIGKILL)
    await until(lambda: proxy.proxy_process.pid != old, "a new proxy was started")
    await until(lambda: not proxy._restarting.locked(), "it is up")
    assert sorted(await proxy.get_all_routes()) == ["/", "/user/ada/"]
    await proxy.stop()


async def test_adopted_proxy_is_watched_too(place: Place) -> None:
    first = place.proxy()
    await first.start()
    first.release()
    second = place.proxy(check_running_interval=3600)
    await second.start()
    old = second.proxy_process.pid
    os.kill(old, signal.SIGKILL)
    await until(lambda: second.proxy_process.pid != old, "a new proxy was started")
    await until(lambda: not second._restarting.locked(), "it is up")
    await second.stop()
    assert first.proxy_process.poll() is not None


async def test_port_in_use_says_which_and_by_whom(place: Place) -> None:
    async with target() as taken:
        place.port = int(taken.url.rpartition(":")[2])
        with pytest.raises(ProxyFailedToStart) as failure:
            await place.proxy().start()
    assert f"Port {place.port} is in use by process {os.getpid()} (" in str(failure.value)
    assert "JupyterHub.bind_url" in str(failure.value)
    assert not place.pid_file.exists()


async def test_program_that_is_missing_or_ends_is_reported(place: Place) -> None:
    with pytest.raises(ProxyFailedToStart, match="'no-such-proxy' was not found"):
        await place.proxy(command=["no-such-proxy"]).start()
    with pytest.raises(ProxyFailedToStart, match="with status 1"):
        await place.proxy(command=["false"]).start()
    assert not place.pid_file.exists()


async def test_wrong_token_is_not_retried(place: Place) -> None:
    proxy = place.proxy()
    await proxy.start()
    proxy.auth_token = "wrong"
    with pytest.raises(Exception, match="403"):
        await asyncio.wait_for(proxy.get_all_routes(), 5)
    await proxy.stop()


async def test_proxy_may_be_another_one_from_now_on(place: Place, tmp_path: Path) -> None:
    """PATCH /hub/api/proxy assigns address and token; the next request uses them."""
    proxy = place.proxy()
    await proxy.start()
    (tmp_path / "other").mkdir()
    other = Place(tmp_path / "other", free_port(), free_port()).proxy()
    await other.start()
    await proxy.add_route("/a/", "http://127.0.0.1:1", {})
    token, proxy.api_url, proxy.auth_token = proxy.auth_token, other.api_url, other.auth_token
    assert await proxy.get_all_routes() == {}
    proxy.api_url, proxy.auth_token = f"http://127.0.0.1:{place.api_port}", token
    assert list(await proxy.get_all_routes()) == ["/a/"]
    await other.stop()
    await proxy.stop()


async def test_request_waits_while_the_proxy_is_away(place: Place) -> None:
    """A route asked for while the proxy restarts is made when it is back."""
    proxy = place.proxy(check_running_interval=3600)
    await proxy.start()
    os.kill(proxy.proxy_process.pid, signal.SIGKILL)
    await proxy.add_route("/a/", "http://127.0.0.1:1", {})
    await until(lambda: not proxy._restarting.locked(), "it is up")
    await proxy.stop()


if NODE:

    async def test_leftover_external_proxy_is_ended_and_replaced(place: Place) -> None:
        options: dict[str, Any] = {"kind": ConfigurableHTTPProxy, "command": [NODE], "auth_token": "t"}
        first = place.proxy(**options)
        await first.start()
        first.release()
        second = place.proxy(**options)
        await second.start()
        assert first.proxy_process.poll() is not None
        assert second.proxy_process.pid != first.proxy_process.pid
        await second.stop()

    async def test_change_of_program_ends_the_one_before(place: Place) -> None:
        """From the external proxy to the built-in one and back, with nothing but the setting changed."""
        node: dict[str, Any] = {"command": [NODE]}
        nothing: dict[str, Any] = {}
        previous: Any = None
        for options in (nothing, node, nothing):
            proxy = place.proxy(**options)
            await proxy.start()
            await proxy.add_route("/a/", "http://127.0.0.1:1", {"n": 1})
            if previous is not None:
                assert previous.proxy_process.poll() is not None
            proxy.release()
            previous = proxy
        await previous.stop()
