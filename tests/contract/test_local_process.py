"""Servers as processes of this machine: who they run as, how they are found again, what they write (config §9.9)."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from jupyterhub.aio import exponential_backoff
from jupyterhub.net import wait_for_server
from jupyterhub.spawner import LocalProcessSpawner
from jupyterhub.spawning import localprocess

from ..dispositions import inherited, signals_of
from .spawner_world import LocalForTests, make_record, make_spawner, make_user

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may switch to another user")


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Any]:
    made: list[Any] = []

    def one(cls: Any = LocalForTests, **more: Any) -> Any:
        spawner = make_spawner(cls, tmp_path, **more)
        made.append(spawner)
        return spawner

    yield one
    for spawner in made:
        if spawner.pid and await LocalProcessSpawner.poll(spawner) is None:
            await spawner.stop(now=True)


async def wait_until(condition: Any, what: str) -> None:
    await exponential_backoff(condition, what, start_wait=0.01, max_wait=0.1, timeout=10)


def script(text: str) -> list[str]:
    return [sys.executable, "-c", text]


async def test_the_process_leads_its_own_session_and_finds_its_settings(make: Any) -> None:
    spawner = make(args=["--one"])
    ip, port = await spawner.start()
    await wait_for_server(ip, port)
    process = psutil.Process(spawner.pid)
    assert os.getsid(spawner.pid) == spawner.pid
    assert process.cmdline()[-1] == "--one"
    environment = process.environ()
    assert (environment["JUPYTERHUB_SERVER_ROW"], environment["JUPYTERHUB_SERVER_FENCE"]) == ("7", "1")
    assert environment["HOME"] == process.cwd() == spawner.home_dir


async def test_what_only_other_spawners_know_in_the_environment_is_a_text_to_a_process(make: Any) -> None:
    spawner = make(environment={"FIELD": {"a": 1}, "NUMBER": 5})
    await spawner.start()
    await wait_for_server(spawner.ip, spawner.port)
    environment = psutil.Process(spawner.pid).environ()
    assert (environment["FIELD"], environment["NUMBER"]) == ("{'a': 1}", "5")


async def test_no_secret_is_on_the_command_line(make: Any) -> None:
    spawner = make(api_token="very-secret")
    await spawner.start()
    process = psutil.Process(spawner.pid)
    assert "very-secret" not in " ".join(process.cmdline())


async def test_a_shell_gets_the_whole_command_as_one_quoted_argument(make: Any) -> None:
    spawner = make(shell_cmd=["bash", "-c"], cmd=["echo"], args=["two words", "$HOME"])
    await spawner.start()
    await wait_until(lambda: spawner.logs(), "output of the shell")
    assert spawner.logs() == ["two words $HOME"]


async def test_popen_arguments_of_the_administrator_count_but_not_for_the_environment(
    make: Any, tmp_path: Path
) -> None:
    spawner = make(popen_kwargs={"preexec_fn": None, "cwd": str(tmp_path), "env": {"EVIL": "1"}})
    await spawner.start()
    process = psutil.Process(spawner.pid)
    assert process.cwd() == str(tmp_path)
    assert "EVIL" not in process.environ()


async def test_a_missing_command_is_an_error_that_names_it(make: Any) -> None:
    spawner = make(cmd=["no-such-command-anywhere"])
    with pytest.raises(FileNotFoundError, match="no-such-command-anywhere"):
        await spawner.start()
    assert await spawner.poll() == 0
    assert list((spawner._runtime_directory()).glob("*.json")) == []


async def test_the_exit_status_is_told(make: Any) -> None:
    spawner = make(cmd=script("raise SystemExit(5)"))
    await spawner.start()
    await wait_until(lambda: spawner.proc.poll() is not None, "the end")
    assert await spawner.poll() == 5
    assert spawner.pid == 0


# -- stopping --


@pytest.mark.parametrize("mine", [{}, {"popen_kwargs": {"preexec_fn": None}}], ids=["prepared", "plain"])
async def test_what_the_hub_ignores_or_blocks_its_servers_hear(make: Any, mine: dict[str, Any]) -> None:
    spawner = make(cmd=["sleep", "1000"], **mine)
    heard = {signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR2}
    with inherited(ignored=heard, blocked={signal.SIGINT, signal.SIGUSR1}):
        await spawner.start()
    assert not signals_of(spawner.pid, "SigIgn") & heard
    assert not signals_of(spawner.pid, "SigBlk")
    process = spawner.proc
    await spawner.stop()
    assert process.returncode == -signal.SIGINT


async def test_an_administrator_may_leave_signals_as_they_are(make: Any) -> None:
    spawner = make(cmd=["sleep", "1000"], popen_kwargs={"restore_signals": False})
    with inherited(ignored={signal.SIGINT}):
        await spawner.start()
    assert signal.SIGINT in signals_of(spawner.pid, "SigIgn")


async def test_a_server_that_ignores_polite_signals_is_killed_with_all_it_started(make: Any) -> None:
    child = "import time; time.sleep(1000)"
    spawner = make(
        interrupt_timeout=0, term_timeout=0,
        cmd=script(
            "import signal, subprocess, sys, time;"
            "[signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)];"
            f"p = subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True);"
            "print(p.pid, flush=True); time.sleep(1000)"
        ),
    )  # fmt: skip
    await spawner.start()
    await wait_until(lambda: spawner.logs(), "the child")
    child_pid = int(spawner.logs()[0])
    await spawner.stop()
    assert await spawner.poll() is not None
    await wait_until(lambda: not localprocess.is_running(child_pid), "the end of the child")


async def test_signals_come_in_order_and_now_means_the_last(make: Any) -> None:
    class Notes(LocalForTests):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.sent: list[int] = []
            super().__init__(*args, **kwargs)

        async def _signal(self, sig: int) -> bool:
            self.sent.append(sig)
            return await super()._signal(sig)

    deaf = script(
        "import signal, time; signal.signal(2, signal.SIG_IGN); signal.signal(15, signal.SIG_IGN);"
        "print('deaf', flush=True); time.sleep(1000)"
    )
    spawner = make(Notes, cmd=deaf, interrupt_timeout=0, term_timeout=0)
    await spawner.start()
    await wait_until(lambda: spawner.logs(), "being deaf")
    await spawner.stop()
    assert spawner.sent == [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
    spawner.sent.clear()
    await spawner.start()
    await spawner.stop(now=True)
    assert spawner.sent == [signal.SIGKILL]


# -- finding it again --


async def test_a_process_that_got_the_same_id_later_is_neither_adopted_nor_killed(make: Any) -> None:
    stranger = make(_record=make_record(row=8))
    await stranger.start()
    state = {"pid": stranger.pid, "process": "another-time"}
    spawner = make(_record=make_record(state=state))
    assert await spawner.poll() == 0
    spawner.load_state(state)
    assert await spawner._signal(signal.SIGKILL) is False
    assert await stranger.poll() is None


async def test_a_state_with_the_id_alone_still_finds_the_server(make: Any) -> None:
    first = make()
    await first.start()
    second = make(_record=make_record(state={"pid": first.pid}))
    assert await second.poll() is None
    assert second.get_state()["process"] == first.get_state()["process"]


async def test_a_child_nobody_wrote_down_is_found_by_the_file_it_left(make: Any) -> None:
    killed = make()
    await killed.start()
    heir = make(_record=make_record(fence=900))
    assert await heir.poll() == 0
    assert heir.find_orphan() is True
    assert (heir.pid, await heir.poll()) == (killed.pid, None)
    await heir.stop()
    assert await killed.poll() is not None
    assert make().find_orphan() is False


async def test_a_stale_file_finds_nothing_and_goes_away(make: Any) -> None:
    spawner = make()
    directory = spawner._runtime_directory()
    (directory / "7-1.json").write_text(json.dumps({"pid": os.getpid(), "process": "long-ago"}))
    (directory / "7-2.json").write_text("half a fi")
    assert spawner.find_orphan() is False
    assert list(directory.glob("7-*.json")) == []


async def test_a_cancelled_start_leaves_no_process_that_is_not_known(make: Any) -> None:
    spawner = make()
    starting = asyncio.ensure_future(spawner.start())
    await asyncio.sleep(0)
    assert spawner._launching
    starting.cancel()
    await asyncio.wait([starting])
    assert starting.cancelled()
    assert spawner.pid
    await spawner.stop()
    assert spawner.find_orphan() is False


# -- output --


async def test_output_is_kept_for_the_hub_alone_and_can_be_read_after_the_end(make: Any) -> None:
    spawner = make(cmd=script("import sys; print('out', flush=True); print('err', file=sys.stderr)"))
    await spawner.start()
    await wait_until(lambda: spawner.proc.poll() is not None, "the end")
    await spawner.poll()
    assert spawner.logs() == ["out", "err"]
    assert spawner.logs(1) == ["err"]
    path = Path(spawner._output_path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    await spawner.delete_forever()
    assert not path.exists()


def test_output_stays_bounded_while_the_server_goes_on_writing(tmp_path: Path) -> None:
    output = localprocess.OutputFile(tmp_path / "output.log")
    descriptor = output.open()
    for number in range(1000):
        os.write(descriptor, f"line {number}\n".encode())
    output.bound(limit=1000, kept=100)
    os.write(descriptor, b"and on\n")
    os.close(descriptor)
    assert output.path.stat().st_size < 200
    assert output.tail(2) == ["line 999", "and on"]


def test_the_runtime_directory_is_ours_alone_or_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(localprocess.tempfile, "tempdir", str(tmp_path / "temporary"))
    wanted = tmp_path / "run"
    wanted.mkdir(mode=0o777)
    assert localprocess.private_directory(str(wanted)) == wanted
    assert wanted.stat().st_mode & 0o777 == 0o700
    blocked = tmp_path / "file"
    blocked.write_text("")
    elsewhere = localprocess.private_directory(str(blocked / "run"))
    assert elsewhere.parent == tmp_path / "temporary"
    assert elsewhere != localprocess.private_directory(str(blocked / "run2"))


# -- another user --


@as_root
async def test_the_process_has_the_users_rights_and_no_others(make: Any, tmp_path: Path) -> None:
    account = pwd.getpwnam("nobody")
    spawner = make(
        LocalProcessSpawner, user=make_user("nobody"),
        cmd=["sleep", "1000"], runtime_dir=str(tmp_path / "run"),
    )  # fmt: skip
    await spawner.start()
    process = psutil.Process(spawner.pid)
    assert set(process.uids()) == {account.pw_uid}
    assert set(process.gids()) == {account.pw_gid}
    status = Path(f"/proc/{spawner.pid}/status").read_text()
    groups = {int(word) for line in status.splitlines() if line.startswith("Groups:") for word in line.split()[1:]}
    assert groups <= set(os.getgrouplist("nobody", account.pw_gid))
    assert process.environ()["USER"] == "nobody"
    assert await spawner.poll() is None


@as_root
async def test_a_failure_while_switching_says_what_failed(make: Any, tmp_path: Path) -> None:
    class CannotSwitch(LocalForTests):
        def make_preexec_fn(self, name: str) -> Any:
            def preexec() -> None:
                raise PermissionError("the home is locked")

            return preexec

    with pytest.raises(RuntimeError, match="PermissionError: the home is locked"):
        await make(CannotSwitch).start()


async def test_a_user_without_account_is_an_error_that_says_what_to_do(make: Any) -> None:
    spawner = make(LocalProcessSpawner)
    with pytest.raises(KeyError):
        await spawner.start()
    with pytest.raises(KeyError, match="create_system_users"):
        spawner.make_preexec_fn("no-such-user-here")


async def test_a_missing_account_is_created_when_that_is_wanted(make: Any, tmp_path: Path) -> None:
    made = tmp_path / "made"
    spawner = make(
        LocalProcessSpawner, create_system_users=True,
        add_user_cmd=[*script("import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"), str(made)],
        runtime_dir=str(tmp_path / "run"),
    )  # fmt: skip
    with pytest.raises(KeyError):
        # The command of this test makes a file and no account.
        await spawner.start()
    assert made.read_text() == "ada"


@pytest.mark.parametrize("name", ["-r", "", "a b", "x;y"])
def test_a_name_that_could_be_an_option_is_never_given_to_a_command(name: str) -> None:
    with pytest.raises(ValueError, match="system user"):
        localprocess.add_system_user(name, ["true"])


@pytest.mark.parametrize("text", ["1", "'quoted'", "True", "[1]"])
def test_texts_that_read_as_python_are_quoted(text: str) -> None:
    from jupyterhub.spawner import _quote_safe

    assert _quote_safe(text) == repr(text)
    assert _quote_safe("plain-text") == "plain-text"


def test_a_program_that_is_not_on_the_path_is_looked_for_beside_the_hubs_python(tmp_path: Path) -> None:
    """What the PATH has goes first, and paths are left alone."""
    beside = str(Path(sys.executable).with_name("jupyterhub-singleuser"))
    nowhere = {"PATH": str(tmp_path)}
    assert localprocess.with_known_program(["jupyterhub-singleuser", "-x"], nowhere) == [beside, "-x"]
    own = tmp_path / "jupyterhub-singleuser"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    for command in (["jupyterhub-singleuser"], ["./jupyterhub-singleuser"], ["no-such-program"], []):
        assert localprocess.with_known_program(command, nowhere) == command
