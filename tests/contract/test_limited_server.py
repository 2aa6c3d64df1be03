"""The local spawner and its limits: what is asked of the mechanism, what is told, what is left; on the fake mechanism."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from traitlets import TraitError
from traitlets.config import Config

from jupyterhub.aio import exponential_backoff
from jupyterhub.spawner import LocalProcessSpawner, Spawner
from jupyterhub.spawning.limited import limit_notes
from jupyterhub.spawning.limits import Choice, Group, LimitError, Limits, choose, mechanism_of, notices
from jupyterhub.spawning.limits.fakes import RememberedLimits

from .spawner_world import LocalForTests, make_record, make_spawner

GIB = 2**30


class World:
    """A spawner class on a mechanism for tests, which lacks the kinds named in `missing`."""

    def __init__(self, tmp_path: Path, missing: tuple[str, ...] = ()) -> None:
        self.mechanism = RememberedLimits(missing)
        self.tmp_path = tmp_path
        self.made: list[Any] = []
        known = [self.mechanism]

        class Limited(LocalForTests):
            cmd = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
            _choose_mechanism = staticmethod(lambda limits: choose(limits, known))
            _mechanism_of = staticmethod(lambda name: mechanism_of(name, known))

        self.cls = Limited

    def spawner(self, cls: Any = None, **more: Any) -> Any:
        spawner = make_spawner(cls or self.cls, self.tmp_path, **more)
        self.made.append(spawner)
        return spawner

    @property
    def group_file(self) -> Path:
        return self.tmp_path / "run" / "7.limits.json"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    for spawner in made.made:
        await spawner.stop(now=True)
    assert not made.mechanism.members and not made.group_file.exists()


async def dead(spawner: Any) -> int:
    found: list[int] = []

    async def ended() -> bool:
        status = await spawner.poll()
        if status is not None:
            found.append(status)
        return status is not None

    await exponential_backoff(ended, "the server is dead", start_wait=0.01, max_wait=0.1, timeout=10)
    return found[0]


async def test_nothing_is_made_where_nothing_is_limited(world: World) -> None:
    spawner = world.spawner()
    await spawner.start()
    assert not world.mechanism.members and "limits" not in spawner.get_state()


async def test_the_process_is_in_its_group_and_the_group_in_the_state(world: World) -> None:
    spawner = world.spawner(mem_limit="2G", cpu_limit=0.5, process_limit=30)
    await spawner.start()
    [(name, members)] = world.mechanism.members.items()
    assert [member.pid for member in members] == [spawner.pid]
    assert world.mechanism.limits[name] == Limits(2 * GIB, 0.5, 30)
    assert Group.from_dict(spawner.get_state()["limits"]) == Group("fake", name, Limits(2 * GIB, 0.5, 30))
    await spawner.stop(now=True)
    assert not world.mechanism.members and not world.group_file.exists()


async def test_limits_declared_otherwise_in_a_subclass_count_too(world: World) -> None:
    class Declared(world.cls):  # type: ignore[name-defined,misc]
        mem_limit: str = "1G"

        def cpu_limit(self) -> float:
            return 1.5

    spawner = world.spawner(Declared)
    await spawner.start()
    assert list(world.mechanism.limits.values()) == [Limits(GIB, 1.5, None)]


async def test_nonsense_is_refused_before_anything_is_started(world: World) -> None:
    class Declared(world.cls):  # type: ignore[name-defined,misc]
        mem_limit: str = "plenty"

    spawner = world.spawner(Declared)
    with pytest.raises(TraitError, match="plenty"):
        await spawner.start()
    assert spawner.pid == 0


async def test_a_server_that_its_memory_limit_killed_says_so(world: World) -> None:
    spawner = world.spawner(mem_limit="2G")
    await spawner.start()
    world.mechanism.kill_for_memory(Group("fake", next(iter(world.mechanism.members)), Limits()))
    assert await dead(spawner) == -signal.SIGKILL
    assert spawner.exit_reason == "killed: memory limit 2 GiB"
    assert not world.mechanism.members
    # The next run begins without it.
    await spawner.start()
    assert spawner.exit_reason == ""


async def test_a_killed_server_that_was_still_seen_alive_says_so_too(world: World) -> None:
    spawner = world.spawner(mem_limit="2G")
    await spawner.start()
    # The kernel counts first.
    world.mechanism.kills[next(iter(world.mechanism.members))] = 1
    assert await spawner.poll() is None
    spawner.proc.kill()
    await dead(spawner)
    assert spawner.exit_reason == "killed: memory limit 2 GiB"


async def test_a_server_killed_by_somebody_else_does_not_blame_its_limit(world: World) -> None:
    spawner = world.spawner(mem_limit="2G")
    await spawner.start()
    name = next(iter(world.mechanism.members))
    # A kernel of it had been killed before, and that was seen.
    world.mechanism.kills[name] = 1
    assert await spawner.poll() is None
    spawner._kill_seen_at -= 60
    assert notices(spawner.get_state()) == ["A process of this server was killed: memory limit 2 GiB (once)."]
    assert spawner._record.state_changed
    spawner.proc.kill()
    assert await dead(spawner) == -signal.SIGKILL
    assert spawner.exit_reason == ""


async def test_after_a_restart_of_the_hub_it_is_found_in_the_state(world: World) -> None:
    before = world.spawner(mem_limit="2G")
    await before.start()
    after = world.spawner(_record=make_record(state=before.get_state()))
    assert await after.poll() is None
    world.mechanism.kill_for_memory(after._group)
    before.proc.wait(5)
    assert await dead(after) == -signal.SIGKILL
    assert after.exit_reason == "killed: memory limit 2 GiB"
    assert not world.mechanism.members


async def test_what_a_killed_hub_had_not_yet_stored_is_found_and_removed(world: World) -> None:
    before = world.spawner(mem_limit="2G")
    await before.start()
    after = world.spawner()
    assert after.find_orphan()
    await after.stop(now=True)
    assert not world.mechanism.members and not world.group_file.exists()


async def test_a_group_without_a_process_that_a_killed_hub_had_made_is_removed(world: World) -> None:
    left = world.mechanism.create(world.mechanism.plan("left", Limits(memory=GIB)))
    world.group_file.parent.mkdir(mode=0o700)
    world.group_file.write_text(json.dumps(left.to_dict()))
    spawner = world.spawner()
    assert not spawner.find_orphan()
    await spawner.stop()
    assert not world.mechanism.members and not world.group_file.exists()


async def test_a_start_that_fails_leaves_no_group(world: World) -> None:
    spawner = world.spawner(mem_limit="2G", cmd=["/does/not/exist"])
    with pytest.raises(FileNotFoundError):
        await spawner.start()
    assert not world.mechanism.members and not world.group_file.exists()


async def test_what_cannot_be_enforced_is_told_and_the_rest_is_enforced(tmp_path: Path) -> None:
    world = World(tmp_path, missing=("memory",))
    spawner = world.spawner(mem_limit="2G", process_limit=30)
    await spawner.start()
    assert list(world.mechanism.limits.values()) == [Limits(processes=30)]
    assert notices(spawner.get_state()) == [
        "The memory limit 2 GiB of this server is not enforced: this machine lacks it."
    ]
    await spawner.stop(now=True)


async def test_a_required_limit_that_cannot_be_enforced_refuses_the_start(tmp_path: Path) -> None:
    world = World(tmp_path, missing=("memory",))
    spawner = world.spawner(mem_limit="2G", process_limit=30, enforce_limits="required")
    with pytest.raises(LimitError, match="memory limit 2 GiB of this server is not enforced: this machine lacks it"):
        await spawner.start()
    assert spawner.pid == 0 and not world.mechanism.members


async def test_switched_off_nothing_is_made_and_the_server_is_told(world: World) -> None:
    spawner = world.spawner(mem_limit="2G", enforce_limits="off")
    await spawner.start()
    assert not world.mechanism.members and "limits" not in spawner.get_state()
    assert spawner.get_env()["MEM_LIMIT"] == str(2 * GIB)


async def test_a_mechanism_that_fails_after_all_is_no_limit(world: World, monkeypatch: Any) -> None:
    def refuse(group: Group) -> Group:
        raise LimitError("the disk of the kernel is full")

    monkeypatch.setattr(world.mechanism, "create", refuse)
    spawner = world.spawner(mem_limit="2G")
    await spawner.start()
    assert notices(spawner.get_state()) == [
        "The memory limit 2 GiB of this server is not enforced: the disk of the kernel is full."
    ]
    assert await spawner.poll() is None


# -- at the start of the Hub


def enforcing(limits: Limits) -> Choice:
    return choose(limits, [RememberedLimits()])


def lacking(limits: Limits) -> Choice:
    return choose(limits, [RememberedLimits(("memory", "cpu"), "no such thing")])


def test_the_log_says_at_the_start_what_is_enforced_and_what_is_not() -> None:
    config = Config({"Spawner": {"mem_limit": "2G"}, "LocalProcessSpawner": {"process_limit": 100}})
    assert limit_notes(LocalForTests, config, enforcing) == [(False, "mem_limit, process_limit: enforced by fake")]
    [(good, enforced), (bad, unenforced)] = limit_notes(LocalForTests, config, lacking)
    assert (good, bad) == (False, True)
    assert enforced == "process_limit: enforced by fake"
    assert unenforced.startswith("mem_limit CANNOT BE ENFORCED here, servers start without: no such thing.")
    config.LocalProcessSpawner.enforce_limits = "required"
    assert "servers that have it do not start" in limit_notes(LocalForTests, config, lacking)[1][1]
    config.LocalProcessSpawner.enforce_limits = "off"
    [(bad, text)] = limit_notes(LocalForTests, config, enforcing)
    assert bad and "not enforced, because" in text


def test_limits_of_profiles_groups_and_subclasses_are_seen_at_the_start() -> None:
    class Declared(LocalForTests):
        cpu_limit: float = 2.0

    profiles = [
        {"display_name": "Big", "profile_options": {"x": {"choices": {"a": {"overrides": {"mem_limit": "4G"}}}}}}
    ]
    overrides = {"a": {"groups": ["x"], "spawner_override": {"process_limit": 9}}}
    config = Config({"Spawner": {"profiles": profiles, "group_overrides": overrides}})
    assert limit_notes(Declared, config, enforcing) == [
        (False, "mem_limit, cpu_limit, process_limit: enforced by fake")
    ]


def test_nothing_is_said_where_there_is_nothing_to_say() -> None:
    assert limit_notes(LocalProcessSpawner, Config(), lacking) == []
    # Other spawners enforce limits by themselves, or do not.
    assert limit_notes(Spawner, Config({"Spawner": {"mem_limit": "2G"}}), lacking) == []
