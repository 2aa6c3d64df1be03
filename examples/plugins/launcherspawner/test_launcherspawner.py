"""The spawner in a real Hub, with a launcher that can be told to misbehave."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from jupyterhub.tests.utils import api_request, async_requests, public_url
from launcherspawner import LauncherSpawner

LAUNCHER = str(Path(__file__).with_name("launcher.py"))


@pytest.fixture
def hub(app, tmp_path, monkeypatch):
    """A Hub that starts servers with the launcher; the server is the smallest there is."""
    monkeypatch.setitem(app.tornado_settings, "spawner_class", LauncherSpawner)
    app.config.LauncherSpawner.launcher = [sys.executable, LAUNCHER, str(tmp_path)]
    app.config.LauncherSpawner.cmd = [sys.executable, "-m", "jupyterhub.tests.mocksu"]
    app.config.LauncherSpawner.patience = 0.05
    app.config.LauncherSpawner.http_timeout = 5
    return app


async def until(condition):
    """Wait until it holds; a test that would wait for ever fails."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "this took too long"
        await asyncio.sleep(0.02)


async def settled(user):
    """Return the spawner once it is neither starting nor stopping."""
    await until(lambda: not user.spawner.pending)
    return user.spawner


async def start(hub, user):
    answer = await api_request(hub, "users", user.name, "server", method="post")
    await settled(user)
    return answer


async def model(hub, user):
    return (await api_request(hub, "users", user.name)).json()


async def test_a_server_starts_answers_and_stops(hub, user):
    assert (await start(hub, user)).status_code in (201, 202)
    assert user.spawner.ready
    page = await async_requests.get(public_url(hub, user) + "env")
    assert page.json()["JUPYTERHUB_USER"] == user.name

    await api_request(hub, "users", user.name, "server", method="delete")
    spawner = await settled(user)
    assert not spawner.active and await spawner.poll() == 0 and spawner.get_state() == {}


async def test_it_is_found_again(hub, user):
    """After a restart of the Hub there is a new object, and what `get_state` returned."""
    await start(hub, user)
    another = LauncherSpawner(user=user, hub=hub.hub, config=hub.config)
    assert await another.poll() == 0
    another.load_state(user.spawner.get_state())
    assert await another.poll() is None


async def test_its_death_is_noticed(hub, user, tmp_path):
    await start(hub, user)
    os.killpg(int((tmp_path / f"{user.spawner.job}.pid").read_text()), signal.SIGKILL)
    status = tmp_path / f"{user.spawner.job}.status"
    await until(lambda: status.read_text() == f"ended {-signal.SIGKILL}")
    assert await user.spawner.poll() == -signal.SIGKILL
    await user.spawner.poll_and_notify()
    await settled(user)
    assert not (await model(hub, user))["servers"]


async def test_a_launcher_that_is_away_costs_nobody_the_server(hub, user, tmp_path):
    await start(hub, user)
    (tmp_path / "broken").touch()
    with pytest.raises(RuntimeError, match="out of order"):
        await user.spawner.poll()
    # Before it starts anything the Hub asks whether the server still runs, and takes no answer for a yes.
    assert (await start(hub, user)).status_code == 400
    assert user.spawner.ready
    (tmp_path / "broken").unlink()
    assert await user.spawner.poll() is None


async def test_a_refusal_is_told_to_the_user(hub, user, tmp_path):
    (tmp_path / "refuse").write_text("Your allowance is used up")
    answer = await start(hub, user)
    assert answer.status_code == 403
    assert "Your allowance is used up" in answer.json()["message"]
    assert not user.spawner.active


async def test_waiting_is_explained(hub, user, tmp_path, no_patience):
    (tmp_path / "wait").write_text("for a node with a GPU")
    assert (await api_request(hub, "users", user.name, "server", method="post")).status_code == 202
    messages = []
    async for event in user.spawner.progress():
        messages.append(event["message"])
        if "for a node with a GPU" in event["message"]:
            break
    assert messages[-1] == "The job is waiting for a node with a GPU"
    (tmp_path / "wait").unlink()
    assert (await settled(user)).ready


async def test_a_start_that_fails_shows_what_the_server_said(hub, user):
    hub.config.LauncherSpawner.http_timeout = 1
    hub.config.LauncherSpawner.cmd = [sys.executable, "-c", "import sys; sys.exit('no licence for this program')"]
    answer = await start(hub, user)
    assert answer.status_code == 500 and not user.spawner.active
    events = await api_request(hub, "users", user.name, "server", "progress")
    assert "no licence for this program" in events.text
