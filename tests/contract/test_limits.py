"""Every mechanism that enforces limits, held to the same tests; the real ones are those that this machine has."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from traitlets import TraitError

from jupyterhub.spawning import localprocess
from jupyterhub.spawning.limits import (
    Group,
    LimitError,
    Limits,
    Placement,
    choose,
    format_bytes,
    mechanism_of,
    notices,
    unenforced_in,
)
from jupyterhub.spawning.limits.cgroup1 import ControlGroups1
from jupyterhub.spawning.limits.cgroup2 import ControlGroups2
from jupyterhub.spawning.limits.fakes import RememberedLimits
from jupyterhub.spawning.limits.files import Hierarchies

from ..system.hub_process import wait_for
from .limit_worlds import WORLDS, LimitWorld

MIB = 2**20
LIMITS = Limits(memory=64 * MIB, cpu=0.5, processes=20)


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> Iterator[LimitWorld]:
    with WORLDS[request.param]() as made:
        yield made


@pytest.fixture
def group(world: LimitWorld) -> Iterator[Group]:
    made = world.mechanism.create(world.mechanism.plan("jupyterhub-test-7", LIMITS))
    yield made
    world.mechanism.remove(made)
    assert world.left(made) == []


def start(world: LimitWorld, group: Group, code: str) -> subprocess.Popen[bytes]:
    """Run Python code in the group, as the spawner does."""
    return localprocess.launch(
        [sys.executable, "-c", code],
        env=os.environ,
        options={"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL},
        run_file=None,
        output=None,
        place=lambda pid: world.mechanism.place(group, pid),
    )


def test_a_group_counts_what_its_processes_use(world: LimitWorld, group: Group) -> None:
    before = world.mechanism.usage(group)
    assert (before.processes, before.memory_kills) == (0, 0)
    start(
        world,
        group,
        "import subprocess, time; subprocess.Popen(['sleep', '60'])\nx = bytearray(b'1') * (8 << 20)\nwhile 1: pass",
    )
    wait_for(
        lambda: (
            (now := world.mechanism.usage(group)).processes == 2 and now.cpu_seconds > 0.05 and now.memory > 8 * MIB
        ),
        "two processes that use time and memory",
    )


def test_removing_kills_everything_even_what_left_the_session(world: LimitWorld, group: Group) -> None:
    process = start(
        world,
        group,
        "import subprocess, time\n"
        "subprocess.Popen(['sleep', '1234'], start_new_session=True)\nsubprocess.Popen(['sleep', '1234'])\ntime.sleep(60)",
    )
    wait_for(lambda: world.mechanism.usage(group).processes == 3, "three processes")
    children = psutil.Process(process.pid).children(recursive=True)
    world.mechanism.remove(group)
    assert process.wait(5) == -signal.SIGKILL
    wait_for(lambda: not any(child.is_running() and child.status() != "zombie" for child in children), "no child", 5)
    assert world.left(group) == []
    world.mechanism.remove(group)
    assert world.mechanism.usage(group).processes == 0


def test_what_is_left_of_that_name_goes_when_it_is_made_anew(world: LimitWorld, group: Group) -> None:
    old = start(world, group, "import time; time.sleep(60)")
    again = world.mechanism.create(world.mechanism.plan(group.name, Limits(processes=5)))
    assert old.wait(5) == -signal.SIGKILL
    assert world.mechanism.usage(again).processes == 0
    start(world, again, "import time; time.sleep(60)")
    assert world.mechanism.usage(again).processes == 1


def test_memory_is_limited_and_the_kill_is_counted(world: LimitWorld, group: Group) -> None:
    code = "x = []\nwhile 1: x.append(bytearray(1 << 20))" if world.is_real else "import time; time.sleep(60)"
    began = time.monotonic()
    process = start(world, group, code)
    if isinstance(world.mechanism, RememberedLimits):
        world.mechanism.kill_for_memory(group)
    assert process.wait(20) == -signal.SIGKILL
    took = time.monotonic() - began
    assert world.mechanism.usage(group).memory_kills == 1
    # A kernel in a process of another kernel takes its time.
    assert took < (2 if os.cpu_count() != 1 else 20)


def test_a_child_is_limited_too_and_its_parent_lives(world: LimitWorld, group: Group) -> None:
    bomb = "x = []\\nwhile 1: x.append(bytearray(1 << 20))" if world.is_real else "import os; os.kill(os.getpid(), 9)"
    process = start(
        world,
        group,
        f"import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', '{bomb}'])\ntime.sleep(60)",
    )
    if world.is_real:
        wait_for(lambda: world.mechanism.usage(group).memory_kills == 1, "the child is killed")
        wait_for(lambda: world.mechanism.usage(group).processes == 1, "only the parent is left")
    assert process.poll() is None


def test_the_number_of_processes_is_limited(world: LimitWorld, group: Group) -> None:
    if not world.is_real:
        assert isinstance(world.mechanism, RememberedLimits)
        assert world.mechanism.limits[group.name].processes == 20
        return
    process = start(
        world,
        group,
        "import os, time\nwhile 1:\n    try: os.fork()\n    except OSError: time.sleep(0.01)\n",
    )
    wait_for(lambda: world.mechanism.usage(group).refused_processes > 0, "a fork is refused")
    assert world.mechanism.usage(group).processes <= 20
    began = time.monotonic()
    world.mechanism.remove(group)
    assert process.wait(5) == -signal.SIGKILL
    assert time.monotonic() - began < 10
    assert world.left(group) == []


def test_processor_time_is_limited(world: LimitWorld, group: Group) -> None:
    if not world.is_real:
        assert isinstance(world.mechanism, RememberedLimits)
        assert world.mechanism.limits[group.name].cpu == 0.5
        return
    for _ in range(3):
        start(world, group, "while 1: pass")
    wait_for(lambda: world.mechanism.usage(group).cpu_seconds > 0.2, "they run")
    began, used = time.monotonic(), world.mechanism.usage(group).cpu_seconds
    wait_for(lambda: world.mechanism.usage(group).cpu_seconds > used + 0.5, "half a second of processor time more")
    took, used = time.monotonic() - began, world.mechanism.usage(group).cpu_seconds - used
    # One period of the kernel's accounting more at either end.
    assert used <= 0.5 * (took + 0.2)


def test_only_what_is_limited_is_limited(world: LimitWorld) -> None:
    free = world.mechanism.create(world.mechanism.plan("jupyterhub-test-8", Limits(processes=50)))
    try:
        process = start(world, free, "x = bytearray(100 << 20); x[::4096] = b'1' * len(x[::4096])")
        assert process.wait(30) == 0
    finally:
        world.mechanism.remove(free)
    assert world.left(free) == []


def test_a_process_that_cannot_be_placed_is_not_started(world: LimitWorld, group: Group, tmp_path: Path) -> None:
    world.mechanism.remove(group)
    mark = tmp_path / "ran"
    with pytest.raises(RuntimeError, match="its limits could not be set"):
        start(world, group, f"open({str(mark)!r}, 'w')")
    assert not mark.exists()


def test_what_was_only_planned_can_be_removed(world: LimitWorld) -> None:
    planned = world.mechanism.plan("jupyterhub-test-9", LIMITS)
    world.mechanism.remove(planned)
    made = world.mechanism.create(planned)
    process = start(world, made, "import time; time.sleep(60)")
    world.mechanism.remove(planned)
    assert process.wait(5) == -signal.SIGKILL
    wait_for(lambda: world.left(made) == [], "nothing is left", 10)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may switch to another user")
def test_another_user_is_in_the_group_and_cannot_leave_it(world: LimitWorld, group: Group) -> None:
    places = [path for path in world.left(group) if os.path.isdir(path)]
    leave = "; ".join(f"echo $$ > {os.path.dirname(path)}/cgroup.procs && exit 3" for path in places)
    process = localprocess.launch(
        ["/bin/sh", "-c", f"{leave or ':'}; sleep 1234; exit 0"],
        env=os.environ,
        options={"preexec_fn": lambda: os.setuid(65534), "stderr": subprocess.DEVNULL},
        run_file=None,
        output=None,
        place=lambda pid: world.mechanism.place(group, pid),
    )
    wait_for(lambda: world.mechanism.usage(group).processes == 2, "it has tried, and sleeps within the group")
    assert psutil.Process(process.pid).uids().real == 65534
    assert process.poll() is None


def test_a_group_is_found_again_from_what_was_stored(world: LimitWorld, group: Group) -> None:
    stored = Group.from_dict(group.to_dict())
    assert stored == group
    process = start(world, group, "import time; time.sleep(60)")
    world.mechanism.remove(stored)
    assert process.wait(5) == -signal.SIGKILL


# -- values and choice, without any mechanism


def test_a_child_whose_parent_goes_is_told_nothing_and_ends() -> None:
    with Placement(lambda pid: None) as placement:
        placement._ours.shutdown(2)
        child = os.fork()
        if not child:
            try:
                placement.hold()
            except (RuntimeError, OSError):
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_settings_are_read_as_people_write_them() -> None:
    assert Limits.of("2G", "0.5", 100) == Limits(2 * 2**30, 0.5, 100)
    assert Limits.of(None, 0, None) == Limits() and Limits().kinds == ()
    with pytest.raises(TraitError):
        Limits.of("plenty", None)


def test_amounts_are_written_for_people() -> None:
    shown = [format_bytes(amount) for amount in (2 * 2**30, 1536 * MIB, 100 * MIB, 1000, 3 * 2**40)]
    assert shown == ["2 GiB", "1.5 GiB", "100 MiB", "1000 bytes", "3 TiB"]
    assert Limits(memory=2 * 2**30).describe("memory") == "memory limit 2 GiB"


def test_the_first_that_enforces_all_is_chosen_else_the_one_that_enforces_most() -> None:
    none = RememberedLimits(("memory", "cpu", "processes"), "first lacks it")
    some = RememberedLimits(("cpu",), "second lacks it")
    full = RememberedLimits()
    assert choose(LIMITS, [none, some, full]).mechanism is full
    found = choose(LIMITS, [none, some])
    assert found.mechanism is some and found.reasons == {"cpu": "second lacks it"}
    assert choose(Limits(memory=1), [none, some, full]).mechanism is some
    nothing = choose(LIMITS, [none, RememberedLimits(("memory", "cpu", "processes"), "nor does this")])
    assert nothing.mechanism is None
    assert nothing.reasons["memory"] == "first lacks it; nor does this"
    assert unenforced_in(Limits(memory=MIB), nothing.reasons) == [
        "The memory limit 1 MiB of this server is not enforced: first lacks it; nor does this."
    ]


def test_a_mechanism_is_found_by_its_name() -> None:
    for name in ("systemd", "systemd --user", "cgroup v1", "cgroup v2"):
        found = mechanism_of(name)
        assert found is not None and found.name == name
    assert mechanism_of("of another release") is None


def test_states_of_other_spawners_say_nothing() -> None:
    assert notices(None) == notices({"pid": 1}) == notices({"limits": "2G"}) == []
    group = Group("fake", "x", Limits(memory=2 * 2**30))
    assert notices({"limits": {**group.to_dict(), "memory_kills": 2}}) == [
        "A process of this server was killed: memory limit 2 GiB (2 times)."
    ]


MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/sys\\040temd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def test_our_own_groups_are_found_whatever_part_of_the_hierarchy_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    (tmp_path / "cgroup").write_text("4:memory:/docker/abc/hub\n2:cpu,cpuacct:/hub\n1:name=systemd:/x\n0::/a/b\n")
    found = Hierarchies.of_this_process(tmp_path)
    assert found.unified == Path("/sys/fs/cgroup/unified/a/b")
    assert found.by_controller == {
        "cpu": Path("/sys/fs/cgroup/cpu,cpuacct/hub"),
        "cpuacct": Path("/sys/fs/cgroup/cpu,cpuacct/hub"),
        "memory": Path("/sys/fs/cgroup/memory/hub"),
        "name=systemd": Path("/sys/fs/cgroup/sys temd/x"),
    }


def test_a_machine_without_control_groups_says_so_for_each_kind(tmp_path: Path) -> None:
    nothing = Hierarchies.of_this_process(tmp_path / "none")
    for mechanism in (ControlGroups1(nothing), ControlGroups2(nothing)):
        assert set(mechanism.why_not()) == {"memory", "cpu", "processes"}
        with pytest.raises(LimitError):
            mechanism.plan("x", LIMITS)
