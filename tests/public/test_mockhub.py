"""What suites of plugins import from `jupyterhub.tests` works as they use it (plugins §13)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from jupyterhub import orm
from jupyterhub.tests.mocking import MockHub
from jupyterhub.tests.utils import api_request, public_url

SUITE = Path(__file__).parent / "data" / "plugin_suite.py"
INI = """[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = module
asyncio_default_test_loop_scope = module
python_files = plugin_suite.py
timeout = 50
"""


@pytest.fixture
def no_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    MockHub.clear_instance()
    yield
    MockHub.clear_instance()


def dead(process: Any) -> bool:
    return process is None or process.poll() is not None


@pytest.mark.timeout(180)
@pytest.mark.parametrize("tls", ["", "1"], ids=["plain", "tls"])
def test_a_suite_with_our_fixtures_as_its_plugin_passes(tmp_path: Path, tls: str) -> None:
    (tmp_path / "pytest.ini").write_text(INI)
    (tmp_path / "plugin_suite.py").write_text(SUITE.read_text())
    command = [sys.executable, "-m", "pytest", "-q", "-p", "jupyterhub.tests.conftest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "SSL_ENABLED": tls},
        capture_output=True,
        text=True,
        timeout=170,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


async def test_the_life_of_a_hub_in_a_test(no_instance: None) -> None:
    hub = MockHub.instance(config=Config({"JupyterHub": {"base_url": "/below/"}}))
    await hub.initialize()
    await hub.start()
    try:
        process = hub.proxy.proxy_process
        assert public_url(hub).endswith("/below/")
        assert (await api_request(hub, "info")).status_code == 200
    finally:
        await hub.stop()
    assert await asyncio.to_thread(process.wait, 10) is not None


async def test_stop_need_not_be_awaited(no_instance: None) -> None:
    hub = MockHub()
    await hub.initialize([])
    await hub.start()
    process = hub.proxy.proxy_process
    hub.stop()
    hub.http_server.stop()
    while not dead(process):
        await asyncio.sleep(0.02)
    await hub.shutdown_cancel_tasks(sig=None)


def test_stop_after_the_loop_has_ended(no_instance: None) -> None:
    loop = asyncio.new_event_loop()
    hub = MockHub()
    loop.run_until_complete(hub.initialize([]))
    loop.run_until_complete(hub.start())
    process = hub.proxy.proxy_process
    hub.stop()
    loop.close()
    assert dead(process)


def test_stop_after_the_loop_is_closed_ends_the_proxy(no_instance: None) -> None:
    loop = asyncio.new_event_loop()
    hub = MockHub()
    loop.run_until_complete(hub.initialize([]))
    loop.run_until_complete(hub.start())
    process = hub.proxy.proxy_process
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.wait(tasks))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    hub.stop()
    process.wait(10)
    hub.database.close()
    assert dead(process)


def test_the_database_alone(no_instance: None) -> None:
    """One suite builds a Hub only for its database."""
    hub = MockHub()
    hub.init_db()
    assert hub.db.query(orm.User).count() == 0
    hub.db.add(orm.User(name="ada"))
    hub.db.commit()
    assert hub.db_url == f"sqlite:///{hub.db_file}"
    hub.database.close()


def test_the_addresses_alone(no_instance: None) -> None:
    """One suite builds a Hub only for `hub`, with settings assigned before."""
    hub = MockHub(hub_ip="127.0.0.1")
    hub.tornado_settings = {"slow_spawn_timeout": 1}
    hub.init_hub()
    assert hub.hub.url == f"http://127.0.0.1:{hub.hub_port}/@/space%20word/hub/"


async def test_class_attributes_may_be_assigned(no_instance: None) -> None:
    class OnAnotherAddress(MockHub):
        pass

    OnAnotherAddress.hub_ip = "0.0.0.0"
    OnAnotherAddress.hub_connect_ip = "127.0.0.1"
    hub = OnAnotherAddress()
    await hub.initialize([])
    assert hub.hub.bind_url.startswith("http://0.0.0.0:") and hub.hub.url.startswith("http://127.0.0.1:")
    await hub.stop()


async def test_arguments_and_configuration_of_the_test_win(no_instance: None) -> None:
    config = Config()
    config.Authenticator.allow_all = False
    config.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:1"
    config.JupyterHub.db_url = "sqlite:///own.sqlite"
    hub = MockHub.instance(config=config, cookie_secret=b"s" * 32)
    await hub.initialize([])
    assert hub.authenticator.allow_all is False and hub.proxy.api_url == "http://127.0.0.1:1"
    assert hub.cookie_secret == b"s" * 32 and Path("own.sqlite").exists() and hub.db_file is None
    await hub.stop()


async def test_a_database_is_kept_when_that_is_asked_for(no_instance: None) -> None:
    for clean, expected in ((True, None), (False, "ada"), (True, None)):
        hub = MockHub(db_url="sqlite:///kept.sqlite", test_clean_db=clean)
        hub.init_db()
        found = orm.User.find(hub.db, "ada")
        assert (found.name if found else None) == expected
        if found is None:
            hub.db.add(orm.User(name="ada"))
            hub.db.commit()
        hub.database.close()


async def test_no_configuration_file_is_read(no_instance: None) -> None:
    Path("jupyterhub_config.py").write_text("raise RuntimeError('read')\n")
    hub = MockHub()
    await hub.initialize([])
    await hub.stop()


async def test_signals_stay_with_the_test_runner(no_instance: None) -> None:
    import signal

    assert threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    hub = MockHub()
    await hub.initialize([])
    await hub.start()
    assert signal.getsignal(signal.SIGTERM) is before
    await hub.stop()
