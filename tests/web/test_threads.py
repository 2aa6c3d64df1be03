"""The event loop never waits for the database, and a plugin's session never makes the Hub wait (ARCHITECTURE §9)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from jupyterhub import orm
from jupyterhub.spawner import Spawner

from .fakes import Browser
from .live_hub import LiveHub, ObedientSpawner


class LeavesItsSessionDirty(ObedientSpawner):
    """Writes to the database through the plugins' session, and awaits before anybody has committed."""

    async def start(self) -> tuple[str, int]:
        row = self.orm_spawner
        row.user.user_info = {"written": "by a plugin"}
        self.db.flush()
        await asyncio.sleep(0)
        return await super().start()


async def live_hub(tmp_path: Path, spawner: type[Spawner] = ObedientSpawner) -> LiveHub:
    hub = LiveHub(JupyterHub__db_url=f"sqlite:///{tmp_path / 'hub.sqlite'}", JupyterHub__spawner_class=spawner)
    await hub.start()
    return hub


@pytest.fixture
async def on_file(tmp_path: Path) -> AsyncIterator[LiveHub]:
    hub = await live_hub(tmp_path)
    yield hub
    await hub.close()


async def test_no_statement_of_ours_runs_on_the_event_loop(on_file: LiveHub) -> None:
    """A whole log-in, home page, start, activity report, stop and log-out, and not one statement on the loop."""
    database = on_file.context.database
    token = await on_file.token("admin")
    browser = Browser(on_file.url)
    with database.record_threads() as recorder:
        answer = await browser.log_in("ada", next_url="/hub/home")
        assert answer.code == 302, answer
        assert (await browser.get("/hub/home")).code == 200
        assert (await on_file.call("POST", "/users/ada/server", {}, token=token)).status == 201
        assert (await on_file.call("GET", "/users/ada", token=token)).json["servers"][""]["ready"]
        assert (
            await on_file.call(
                "POST", "/users/ada/activity", {"last_activity": "2026-01-01T00:00:00Z"}, token=token
            )
        ).status == 200
        await on_file.context.activity.flush()
        assert (await on_file.call("DELETE", "/users/ada/server", token=token)).status == 204
        assert (await browser.get("/hub/logout")).code == 302
    assert recorder.seen, "nothing was recorded"
    assert recorder.on_thread(threading.get_ident()) == []
    assert not database.has_plugin_session, "something of ours opened the plugins' session"


async def test_a_plugin_that_leaves_its_session_dirty_blocks_nobody(tmp_path: Path) -> None:
    """What it wrote is kept, and the Hub's own writes do not wait for it to finish."""
    hub = await live_hub(tmp_path, LeavesItsSessionDirty)
    try:
        token = await hub.token("admin")
        await hub.user("ada")
        hub.behaviour.start_when.clear()
        began = time.monotonic()
        starting = asyncio.ensure_future(hub.call("POST", "/users/ada/server", {}, token=token))
        while not hub.context.database.has_plugin_session:
            await asyncio.sleep(0.01)
        # The plugin is in the middle of its start now, with a write that it has not committed.
        await hub.context.directory.create("grace")
        assert time.monotonic() - began < 10, "a write of the Hub waited for a plugin"
        hub.behaviour.start_when.set()
        assert (await starting).status == 201

        def written(session: Any) -> Any:
            return session.execute(text("SELECT user_info FROM users WHERE name = 'ada'")).scalar()

        assert "by a plugin" in await hub.context.database.read(written)
        row = hub.app.db.query(orm.User).filter(orm.User.name == "grace").first()
        assert row is not None, "the plugins' session does not see what the Hub wrote"
    finally:
        await hub.close()


async def test_a_row_held_by_a_plugin_follows_what_the_hub_writes(on_file: LiveHub) -> None:
    """Third-party code holds rows for days; the next read of an attribute is right."""
    user = await on_file.user("ada")
    row = on_file.app.db.query(orm.User).filter(orm.User.name == "ada").one()
    assert row.admin is False
    await on_file.context.directory.set_admin(user, True)
    assert row.admin is True
