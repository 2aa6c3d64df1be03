"""What everything stands on: waiting, network, log lines, metrics, encryption, kinds of settings."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from traitlets import HasTraits, TraitError
from traitlets.config import LoggingConfigurable

from jupyterhub import aio, crypto, log, metrics, net
from jupyterhub.httpclient import JupyterHubHTTPClient
from jupyterhub.traitlets import ByteSpecification, Command, EntryPointType, URLPrefix

# -- waiting --


async def test_maybe_future_takes_whatever_plugins_return() -> None:
    async def coroutine() -> int:
        return 1

    future = asyncio.get_running_loop().create_future()
    future.set_result(2)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        results = [await aio.maybe_future(value) for value in (coroutine(), future, pool.submit(lambda: 3), 4)]
    assert results == [1, 2, 3, 4]


async def test_a_deadline_names_what_was_late_and_lets_other_errors_pass() -> None:
    with pytest.raises(TimeoutError, match="the wait did not finish"):
        await aio.deadline(asyncio.Event().wait(), 0.01, "the wait")

    async def fails() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await aio.deadline(fails(), 5, "the call")
    assert await aio.deadline(asyncio.sleep(0, "done"), None, "x") == "done"


async def test_backoff_returns_the_first_true_result_and_passes_keywords() -> None:
    answers = iter([None, 0, "yes"])

    async def ask(*, word: str) -> Any:
        assert word == "w"
        return next(answers)

    assert await aio.exponential_backoff(ask, "no", start_wait=0.001, max_wait=0.01, word="w") == "yes"
    with pytest.raises(TimeoutError, match="never"):
        await aio.exponential_backoff(lambda: False, "never", start_wait=0.001, timeout=0.01)


async def test_iterate_until_ends_with_the_deadline_or_the_generator() -> None:
    closed: list[bool] = []

    async def items(last: asyncio.Event | None) -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
            if last is not None:
                await last.wait()
        finally:
            closed.append(True)

    end = asyncio.get_running_loop().create_future()
    seen = []
    async for item in aio.iterate_until(end, items(asyncio.Event())):
        seen.append(item)
        if item == 2:
            end.set_result(None)
    assert (seen, closed) == ([1, 2], [True])
    forever = asyncio.get_running_loop().create_future()
    assert [item async for item in aio.iterate_until(forever, items(None))] == [1, 2]


async def test_background_tasks_have_an_owner_that_logs_and_ends_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = aio.BackgroundTasks(logging.getLogger("test.background"))
    ended = asyncio.Event()

    async def fails() -> None:
        raise RuntimeError("lost cause")

    async def goes_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    tasks.start(goes_on(), name="endless")
    failing = tasks.start(fails(), name="hopeless")
    await asyncio.wait([failing])
    assert tasks.names == ["endless"]
    assert "'hopeless' failed: lost cause" in caplog.text
    await tasks.close()
    assert ended.is_set()
    assert len(tasks) == 0
    with pytest.raises(RuntimeError, match="late"):
        tasks.start(goes_on(), name="late")


async def test_a_periodic_task_survives_its_failures() -> None:
    tasks = aio.BackgroundTasks(logging.getLogger("test.background"))
    calls: list[int] = []
    third = asyncio.Event()

    def function() -> None:
        calls.append(1)
        if len(calls) == 3:
            third.set()
        raise RuntimeError("again")

    tasks.repeat(function, every=0.001, name="stubborn")
    await asyncio.wait_for(third.wait(), 5)
    await tasks.close()


# -- network --


class Answering:
    """A server that gives the same answer to everybody; `requests` are what it was asked."""

    def __init__(self, answer: bytes) -> None:
        self.answer, self.requests = answer, list[bytes]()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.answer)
        await writer.drain()
        writer.close()


OK = b"HTTP/1.1 200 OK\r\nX-JupyterHub-Version: 7\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Any]]:
    servers = []

    async def one(answer: bytes, path: Path | None = None) -> tuple[Answering, int]:
        answering = Answering(answer)
        if path is not None:
            servers.append(await asyncio.start_unix_server(answering, path))
            return answering, 0
        server = await asyncio.start_server(answering, "127.0.0.1", 0)
        servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return answering, port

    yield one
    for server in servers:
        server.close()


async def test_waiting_for_a_web_server_gives_its_headers(serve: Any) -> None:
    answering, port = await serve(OK)
    answer = await net.wait_for_http_server(f"http://127.0.0.1:{port}/a?b=c")
    assert (answer.code, answer.headers["x-jupyterhub-version"]) == (200, "7")
    assert answering.requests[0].startswith(b"GET /a?b=c HTTP/1.1\r\n")


async def test_a_web_server_may_listen_on_a_unix_socket(serve: Any, tmp_path: Path) -> None:
    path = tmp_path / "Socket"
    await serve(OK, path)
    url = f"http+unix://{quote(str(path), safe='')}/x"
    assert (await net.wait_for_http_server(url)).code == 200
    client = JupyterHubHTTPClient()
    try:
        answer = await client.request("GET", url)
    finally:
        await client.close()
    assert (answer.status, answer.text) == (200, "hi")


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (b"HTTP/1.1 503 Busy\r\n\r\n", "503 Busy"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "does not speak HTTP"),
        (b"", "without an answer"),
    ],
)
async def test_who_does_not_answer_well_is_told_with_what_was_seen(serve: Any, answer: bytes, seen: str) -> None:
    _, port = await serve(answer)
    with pytest.raises(TimeoutError, match=seen):
        await net.wait_for_answer(f"http://127.0.0.1:{port}/", timeout=0.05)


async def test_a_server_that_ended_is_not_waited_for() -> None:
    with pytest.raises(net.ServerExited, match="exit status 3") as raised:
        await net.wait_for_answer("http://127.0.0.1:1/", timeout=30, gone=lambda: 3)
    assert raised.value.exit_status == 3


async def test_a_server_that_ends_while_somebody_else_holds_its_port_is_noticed_at_once() -> None:
    """Whoever has the port accepts connections and says nothing: the attempt itself would take 20 seconds."""
    looks = iter([None, None, 1])
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(net.ServerExited):
            await net.wait_for_answer(
                f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout=60, gone=lambda: next(looks)
            )
    assert next(looks, "all used") == "all used"


async def test_the_end_of_a_server_is_noticed_also_when_an_attempt_swallows_that_it_was_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As `wait_for` does before Python 3.12, when a result arrives at the same moment."""
    looks = iter([None, 1])
    cancelled = []

    async def fetch_head(*arguments: Any, **options: Any) -> Any:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            if len(cancelled) > 1:
                raise
            raise ConnectionRefusedError from None

    monkeypatch.setattr(net, "fetch_head", fetch_head)
    with pytest.raises(net.ServerExited):
        await asyncio.wait_for(net.wait_for_answer("http://x/", timeout=60, gone=lambda: next(looks)), 10)


async def test_an_answer_of_somebody_else_does_not_count_for_a_server_that_has_ended(serve: Any) -> None:
    _, port = await serve(OK)
    with pytest.raises(net.ServerExited):
        await net.wait_for_answer(f"http://127.0.0.1:{port}/", timeout=60, gone=lambda: 1)


async def test_a_free_port_is_free() -> None:
    port = net.random_port()
    assert not net.can_connect("127.0.0.1", port)
    with socket.create_server(("127.0.0.1", port)):
        assert net.can_connect("", port)
        await net.wait_for_server("127.0.0.1", port, timeout=5)


def test_without_key_or_certificate_there_is_no_tls_context() -> None:
    assert net.make_ssl_context("", "") is None
    assert net.make_ssl_context(None, "cert") is None


# -- log lines (metrics §3) --


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("/x?token=1&mykey=2&a=3", "/x?token=[secret]&mykey=[secret]&a=3"),
        ("/x?_xsrf=1&CODE=2&state", "/x?_xsrf=[secret]&CODE=[secret]&state=[secret]"),
        ("/hub/api/authorizations/token/abc", "/hub/api/authorizations/token/[secret]"),
        ("/hub/api/authorizations/cookie/name/abc", "/hub/api/authorizations/cookie/name/[secret]"),
        ("/plain/path", "/plain/path"),
        ("https://h/x?a=1", "https://h/x?a=1"),
    ],
)
def test_secrets_in_addresses_are_not_logged(uri: str, shown: str) -> None:
    assert log._scrub_uri(uri) == shown


def test_a_secret_inside_the_next_address_is_not_logged() -> None:
    assert "s3cret" not in log._scrub_uri(f"/hub/login?next={quote('/user/a/?token=s3cret', safe='')}")


def test_secrets_in_headers_are_not_logged() -> None:
    shown = log._scrub_headers(
        {
            "Authorization": "token s3cret",
            "Cookie": "a=s3cret; b=s3cret",
            "X-XSRFToken": "s3cret",
            "Accept": "*/*",
        }
    )
    assert shown == {
        "Authorization": "token [secret]", "Cookie": "a=[secret]; b=[secret]", "X-XSRFToken": "[secret]",
        "Accept": "*/*",
    }  # fmt: skip
    assert log._scrub_headers({"Authorization": "abc"}) == {"Authorization": " [secret]"}


def finished(status: int, *, took: float = 0.0123, path: str = "/hub/home", **more: Any) -> Any:
    request = SimpleNamespace(
        method="GET", uri=f"{path}?token=x", path=path, remote_ip="10.0.0.1", headers={"Authorization": "token s3cret"},
        request_time=lambda: took,
    )  # fmt: skip
    logger = logging.getLogger("test.requests")
    logger.setLevel(logging.DEBUG)
    return SimpleNamespace(get_status=lambda: status, request=request, _headers={}, log=logger, **more)


@pytest.mark.parametrize(
    ("handler", "level"),
    [
        (finished(200), logging.INFO),
        (finished(304), logging.DEBUG),
        (finished(200, path="/hub/health"), logging.DEBUG),
        (finished(200, path="/hub/health", took=1.5), logging.INFO),
        (finished(404), logging.WARNING),
        (finished(500), logging.ERROR),
    ],
)
def test_the_level_of_a_request_line(handler: Any, level: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    log.log_request(handler)
    assert caplog.records[-1].levelno == level


def test_a_request_line_says_who_what_and_how_long(caplog: pytest.LogCaptureFixture) -> None:
    handler = finished(302, _jupyterhub_user=SimpleNamespace(name="ada"))
    handler._headers["Location"] = "/hub/home?code=x"
    caplog.set_level(logging.DEBUG)
    log.log_request(handler)
    assert caplog.messages == ["302 GET /hub/home?token=[secret] -> /hub/home?code=[secret] (ada@10.0.0.1) 12.30ms"]


def test_an_error_is_logged_with_scrubbed_headers_first(caplog: pytest.LogCaptureFixture) -> None:
    log.log_request(finished(500))
    assert '"Authorization": "token [secret]"' in caplog.messages[0]
    assert caplog.messages[1].startswith("500 GET")
    caplog.clear()
    log.log_request(finished(503))
    assert len(caplog.messages) == 1


async def test_tracebacks_leave_out_the_plumbing_of_coroutines() -> None:
    async def fails() -> None:
        raise RuntimeError("here")

    try:
        await asyncio.wait_for(fails(), 5)
    except RuntimeError:
        text = log.CoroutineLogFormatter(color=False).formatException(sys.exc_info())
    assert "in fails" in text
    assert f"asyncio{os.sep}tasks.py" not in text


# -- metrics --


def exposed(environment: dict[str, str]) -> str:
    """The exposition of a fresh interpreter with these variables."""
    code = "import jupyterhub.metrics, prometheus_client; print(prometheus_client.generate_latest().decode())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_names_prefix_and_buckets_follow_the_environment() -> None:
    text = exposed({"JUPYTERHUB_METRICS_PREFIX": "jh", "JUPYTERHUB_SERVER_SPAWN_DURATION_SECONDS_BUCKETS": "1,2, 5"})
    assert "jh_total_users 0.0" in text
    assert 'jh_server_spawn_duration_seconds_bucket{le="5.0",reason="throttled",status="failure"} 0.0' in text
    assert 'le="600.0"' not in text
    assert "process_open_fds" in text
    assert "login_duration_seconds_count" not in text


def test_labels_are_those_that_dashboards_know() -> None:
    assert str(metrics.LoginStatus.success) == "LoginStatus.success"
    assert str(metrics.ServerPollStatus.from_status(None)) == "ServerPollStatus.running"
    assert str(metrics.ServerPollStatus.from_status(0)) == "ServerPollStatus.stopped"
    assert str(metrics.ServerSpawnStatus.success) == "success"
    assert str(metrics.ServerSpawnFailureReason.too_many_users) == "too-many-users"


async def test_the_collector_counts_active_users_with_the_function_it_is_given() -> None:
    async def count(period: Any) -> int:
        return int(period.days)

    collector = metrics.PeriodicMetricsCollector(count_active_users=count)
    await collector.update_active_users()
    value = metrics.ACTIVE_USERS.labels(period="30d")._value.get()
    assert value == 30


# -- encryption (config §8.5) --


VECTOR = b"gAAAAABlU_EAAAECAwQFBgcICQoLDA0OD1_WIWnb6ofeYlrDlz5c5uxVjMXPt15I5lWQOBLwZpKEhQ3NSMx-8uTd8J7oZREngA=="


@pytest.mark.parametrize("key", ["ab" * 32, b"\xab" * 32, "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=", b"ab" * 32])
async def test_what_jupyterhub_6_encrypted_can_be_read(key: Any) -> None:
    keeper = crypto.CryptKeeper(keys=[key])
    assert await keeper.decrypt(VECTOR) == {"a": 1}


async def test_the_first_key_encrypts_and_every_key_decrypts() -> None:
    old, new = "11" * 32, "22" * 32
    encrypted = await crypto.CryptKeeper(keys=[old]).encrypt({"b": 2})
    both = crypto.CryptKeeper(keys=[new, old])
    assert await both.decrypt(encrypted) == {"b": 2}
    with pytest.raises(crypto.InvalidToken):
        await crypto.CryptKeeper(keys=[old]).decrypt(await both.encrypt({"b": 2}))


def test_keys_come_from_the_environment_and_bad_ones_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_CRYPT_KEY", f"{'ab' * 32};;{'cd' * 32}")
    assert crypto.CryptKeeper().keys == [b"\xab" * 32, b"\xcd" * 32]
    with pytest.raises((TraitError, ValueError)) as raised:
        crypto.CryptKeeper(keys=["hunter2"])
    assert "hunter2" not in str(raised.value)


def test_without_keys_the_message_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUPYTERHUB_CRYPT_KEY", raising=False)
    with pytest.raises(crypto.NoEncryptionKeys, match="JUPYTERHUB_CRYPT_KEY"):
        crypto.CryptKeeper().check_available()


# -- kinds of settings --


class Settings(HasTraits):
    command = Command("one two")
    maybe = Command(None, allow_none=True)
    prefix = URLPrefix("/")
    amount = ByteSpecification(None)


def test_kinds_of_settings() -> None:
    settings = Settings(command="a b", prefix="x/y")
    assert (settings.command, settings.prefix, settings.maybe) == (["a b"], "/x/y/", None)
    with pytest.raises(TraitError):
        settings.command = []
    assert ByteSpecification.UNIT_SUFFIXES["G"] == 1024**3
    assert settings.amount is None


def test_a_registered_name_stands_for_its_class_in_any_case() -> None:
    from jupyterhub.spawner import SimpleLocalProcessSpawner, Spawner

    class Chooser(LoggingConfigurable):
        spawner = EntryPointType(klass=Spawner, entry_point_group="jupyterhub.spawners").tag(config=True)

    assert Chooser(spawner="SIMPLE").spawner is SimpleLocalProcessSpawner
    assert Chooser(spawner="jupyterhub.spawner.SimpleLocalProcessSpawner").spawner is SimpleLocalProcessSpawner
    with pytest.raises(TraitError):
        _ = Chooser(spawner=HasTraits).spawner
    assert "simple" in Chooser.class_traits()["spawner"].help
