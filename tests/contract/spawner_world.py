"""What a spawner is given in these tests: a user with a name, a Hub made by hand, and a record as the Hub keeps it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jupyterhub.core.lifecycle import State
from jupyterhub.objects import Hub, Server
from jupyterhub.spawner import SimpleLocalProcessSpawner
from jupyterhub.spawning.record import SpawnerRecord

TINY_SERVER = [sys.executable, str(Path(__file__).parents[1] / "system" / "tiny_server.py")]


def make_user(name: str = "ada", **more: Any) -> Any:
    return SimpleNamespace(name=name, url=f"/user/{name}/", **more)


def make_hub() -> Hub:
    return Hub(ip="127.0.0.1", port=8081, base_url="/hub/")


def make_record(row: int = 7, fence: int = 1, name: str = "", **more: Any) -> SpawnerRecord:
    """A record like that of a start under way: there is a place for the address, and no address yet."""
    path = f"/user/ada/{name}/" if name else "/user/ada/"
    more.setdefault("address", Server(ip="", port=1, base_url=path))
    more.setdefault("lifecycle", State.STARTING)
    return SpawnerRecord(id=row, fence=fence, name=name, **more)


class LocalForTests(SimpleLocalProcessSpawner):
    """The real local spawner with the smallest of servers."""

    cmd = TINY_SERVER
    interrupt_timeout = 5
    term_timeout = 5


def make_spawner(cls: Callable[..., Any], tmp_path: Path | None = None, **more: Any) -> Any:
    """A spawner as the Hub makes one, with `load_state` called as the Hub does."""
    more.setdefault("_record", make_record())
    more.setdefault("user", make_user())
    more.setdefault("hub", make_hub())
    if tmp_path is not None and issubclass(cls, SimpleLocalProcessSpawner):  # type: ignore[arg-type]
        more.setdefault("runtime_dir", str(tmp_path / "run"))
        more.setdefault("home_dir_template", str(tmp_path / "home-{username}"))
    spawner = cls(**more)
    spawner.load_state(dict(more["_record"].state))
    return spawner
