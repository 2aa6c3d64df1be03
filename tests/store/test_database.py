"""`Database`: transactions on database threads, beside a session for plugins on the loop's thread."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import event, exc, select, text, update
from sqlalchemy.orm import Session

from jupyterhub import orm
from jupyterhub.core.errors import StoreUnavailable, UserExists
from jupyterhub.store import database as database_module
from jupyterhub.store import users, workers
from jupyterhub.store.database import Change, Database

Opener = Callable[..., Database]


def add_user(session: Session, name: str) -> int:
    row = orm.User(name=name)
    session.add(row)
    session.flush()
    return row.id


def names(session: Session) -> list[str]:
    return sorted(session.scalars(select(orm.User.name)))


def make_admin(session: Session, user_id: int) -> None:
    session.execute(update(orm.User).where(orm.User.id == user_id).values(admin=True))
    database_module.note_change(session, orm.User, user_id)


class Refused(Exception):
    """What a function of a test raises."""


# -- transactions --------------------------------------------------------------------------------------------


async def test_a_function_runs_in_one_transaction_and_returns_its_value(database: Database) -> None:
    user_id = await database.run(add_user, "ada")
    assert isinstance(user_id, int)
    assert await database.read(names) == ["ada"]


async def test_a_function_that_raises_leaves_nothing_behind(database: Database) -> None:
    def half_done(session: Session) -> None:
        add_user(session, "ada")
        raise Refused

    with pytest.raises(Refused):
        await database.run(half_done)
    assert await database.read(names) == []


async def test_no_statement_of_ours_runs_on_the_loop_thread(served: Database) -> None:
    with served.record_threads() as recorder:
        user_id = await served.run(add_user, "ada")
        await served.read(names)
        await served.load_for_plugin(orm.User, user_id)
        served.run_sync(names)
    assert len(recorder.seen) >= 4
    assert recorder.on_thread(threading.get_ident()) == []


async def test_many_writers_and_readers_at_once_all_succeed(served: Database) -> None:
    await asyncio.gather(
        *(served.run(add_user, f"user{number}") for number in range(40)), *(served.read(names) for _ in range(40))
    )
    assert len(await served.read(names)) == 40


@contextlib.asynccontextmanager
async def every_writer_busy(database: Database) -> AsyncIterator[None]:
    """What is asked for inside waits until the end of this block, and is then found waiting together."""
    go_on = threading.Event()
    begun = [threading.Event() for _ in range(1 if database.is_sqlite else database_module.THREADS)]

    def hold(session: Session, mark: threading.Event) -> None:
        mark.set()
        assert go_on.wait(10)

    holders = []
    for mark in begun:
        holders.append(asyncio.ensure_future(database.run(hold, mark)))
        await asyncio.to_thread(mark.wait, 10)
    try:
        yield
        await asyncio.sleep(0)
    finally:
        go_on.set()
        await asyncio.gather(*holders)


async def test_what_waits_together_is_one_transaction(served: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "GROUP_SECONDS", 60.0)
    sessions: list[Session] = []

    def add(session: Session, name: str) -> int:
        sessions.append(session)
        return add_user(session, name)

    async with every_writer_busy(served):
        jobs = [asyncio.ensure_future(served.run(add, f"user{number}")) for number in range(24)]
        await asyncio.sleep(0)
    ids = await asyncio.gather(*jobs)
    assert len(set(ids)) == 24 and len(await served.read(names)) == 24
    assert len(sessions) == 24 and len({id(session) for session in sessions}) <= 12


async def test_one_that_fails_is_nobody_elses_trouble(served: Database) -> None:
    """Those beside it are done, and done once."""

    def half_done(session: Session) -> None:
        add_user(session, "nobody")
        raise Refused

    def count_up(session: Session) -> int:
        row = session.scalars(select(orm.User).where(orm.User.name == "ada")).one()
        row.user_info = {"count": row.user_info.get("count", 0) + 1 if row.user_info else 1}
        return int(row.user_info["count"])

    await served.run(add_user, "ada")
    async with every_writer_busy(served):
        # Both kinds of failure: our own, and one that leaves the session unusable.
        jobs = [
            asyncio.ensure_future(served.run(call))
            for call in (count_up, half_done, count_up, lambda session: add_user(session, "ada"), count_up)
        ]
        await asyncio.sleep(0)
    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert isinstance(results[1], Refused) and isinstance(results[3], exc.IntegrityError)
    assert await served.read(names) == ["ada"]
    if served.is_sqlite:
        assert [results[0], results[2], results[4]] == [1, 2, 3]


async def test_rows_of_one_job_do_not_mislead_the_next(served: Database) -> None:
    user_id = await served.run(add_user, "ada")

    def is_admin(session: Session) -> bool:
        row = session.get(orm.User, user_id)
        assert row is not None
        return bool(row.admin)

    if served.is_sqlite:
        async with every_writer_busy(served):
            jobs = [
                asyncio.ensure_future(served.run(call))
                for call in (is_admin, lambda s: make_admin(s, user_id), is_admin)
            ]
            await asyncio.sleep(0)
        assert await asyncio.gather(*jobs) == [False, None, True]


async def test_a_caller_that_is_cancelled_while_it_waits_is_not_served(served: Database) -> None:
    async with every_writer_busy(served):
        job = asyncio.ensure_future(served.run(add_user, "ada"))
        await asyncio.sleep(0)
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
    assert await served.read(names) == []


async def test_a_reader_does_not_wait_for_the_writer(tmp_path: Any, opened: Opener) -> None:
    """While a transaction is open on the one writer thread, a read answers, with what was there before."""
    database = opened(f"sqlite:///{tmp_path}/hub.sqlite")
    written, go_on = threading.Event(), threading.Event()

    def slow(session: Session) -> None:
        add_user(session, "ada")
        written.set()
        assert go_on.wait(10)

    writing = asyncio.ensure_future(database.run(slow))
    await asyncio.to_thread(written.wait, 10)
    assert await database.read(names) == []
    go_on.set()
    await writing
    assert await database.read(names) == ["ada"]


async def test_a_function_that_should_only_read_cannot_write(tmp_path: Any, opened: Opener) -> None:
    database = opened(f"sqlite:///{tmp_path}/hub.sqlite")
    with pytest.raises(StoreUnavailable, match="readonly"):
        await database.read(add_user, "ada")


async def test_a_transaction_that_has_begun_is_finished_although_the_caller_is_cancelled(served: Database) -> None:
    """And whoever listens hears of it."""
    begun, go_on = threading.Event(), threading.Event()
    heard = asyncio.Event()
    served.subscribe(lambda changes: heard.set())

    def slow(session: Session) -> None:
        begun.set()
        assert go_on.wait(10)
        add_user(session, "ada")

    caller = asyncio.ensure_future(served.run(slow))
    await asyncio.to_thread(begun.wait, 10)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go_on.set()
    await asyncio.wait_for(heard.wait(), 10)
    assert await served.read(names) == ["ada"]


async def test_a_database_that_does_not_answer_is_said_so_in_time(tmp_path: Any, opened: Opener) -> None:
    database = opened(f"sqlite:///{tmp_path}/hub.sqlite", deadline=0.2)
    stranger = sqlite3.connect(tmp_path / "hub.sqlite", isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(StoreUnavailable, match=r"0\.2 seconds \(add_user\)"):
            await database.run(add_user, "ada")
        with pytest.raises(StoreUnavailable):
            database.run_sync(add_user, "ada")
    finally:
        stranger.execute("ROLLBACK")
        stranger.close()


async def test_two_that_make_the_same_user_do_not_both_succeed(served: Database) -> None:
    results = await asyncio.gather(*(served.run(users.create, "ada") for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(result, UserExists) for result in results) == 3
    assert await served.read(names) == ["ada"]


# -- PostgreSQL: losing the connection, losing a race ---------------------------------------------------------


@pytest.mark.engine
async def test_a_lost_connection_is_tried_once_more(postgres: Any, opened: Opener) -> None:
    database = opened(postgres.create_database())
    await database.run(add_user, "ada")
    postgres.restart()
    assert await database.read(names) == ["ada"]
    await database.run(add_user, "bob")
    assert database.plugin_session.query(orm.User).count() == 2


@pytest.mark.engine
async def test_a_lost_race_is_run_once_more_and_not_for_ever(postgres: Any, opened: Opener) -> None:
    database = opened(postgres.create_database())
    attempts = []

    def lose(session: Session, times: int) -> str:
        attempts.append(times)
        if len(attempts) <= times:
            session.execute(text("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"))
        return "done"

    assert await database.run(lose, 1) == "done"
    assert len(attempts) == 2
    attempts.clear()
    with pytest.raises(StoreUnavailable):
        await database.run(lose, 5)
    assert len(attempts) == 2


@pytest.mark.engine
async def test_a_database_that_is_gone_is_said_so(postgres: Any, opened: Opener) -> None:
    url = postgres.create_database()
    database = opened(url)
    name = url.rpartition("/")[2]
    postgres.execute(f"DROP DATABASE {name} WITH (FORCE)", database="postgres")
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await database.run(add_user, "ada")


# -- telling of changes ---------------------------------------------------------------------------------------


async def test_listeners_hear_of_committed_changes_before_run_returns(database: Database) -> None:
    heard: list[Change] = []
    stop = database.subscribe(heard.extend)
    user_id = await database.run(add_user, "ada")
    assert [(change.table, change.id, change.by_plugin) for change in heard] == [("users", user_id, False)]
    heard.clear()
    await database.run(make_admin, user_id)
    assert {(change.table, change.id) for change in heard} == {("users", user_id)}
    heard.clear()
    await database.run(users.delete, user_id)
    assert ("users", user_id, True) in {(change.table, change.id, change.deleted) for change in heard}
    stop()
    heard.clear()
    await database.run(add_user, "bob")
    assert heard == []


async def test_nobody_hears_of_what_was_rolled_back(database: Database) -> None:
    heard: list[Change] = []
    database.subscribe(heard.extend)

    def half_done(session: Session) -> None:
        add_user(session, "ada")
        raise Refused

    with pytest.raises(Refused):
        await database.run(half_done)
    db = database.plugin_session
    db.add(orm.User(name="bob"))
    db.flush()
    db.rollback()
    assert heard == []


async def test_a_listener_that_fails_does_not_stop_the_others(database: Database) -> None:
    heard: list[Change] = []

    def fail(changes: frozenset[Change]) -> None:
        raise Refused

    database.subscribe(fail)
    database.subscribe(heard.extend)
    await database.run(add_user, "ada")
    assert len(heard) == 1


async def test_listeners_hear_of_a_plugins_changes_once_they_are_committed(database: Database) -> None:
    user_id = await database.run(add_user, "ada")
    heard: list[Change] = []
    database.subscribe(heard.extend)
    db = database.plugin_session
    row = db.get(orm.User, user_id)
    assert row is not None
    row.admin = True
    db.flush()
    assert heard == []
    db.commit()
    assert [(change.table, change.id, change.by_plugin) for change in heard] == [("users", user_id, True)]


async def test_a_bulk_statement_of_a_plugin_stands_for_any_row(database: Database) -> None:
    heard: list[Change] = []
    database.subscribe(heard.extend)
    db = database.plugin_session
    db.query(orm.User).filter(orm.User.name == "ada").update({"admin": True})
    db.execute(text("UPDATE users SET admin = :no"), {"no": False})
    db.commit()
    assert {(change.table, change.id) for change in heard} == {("users", None), ("*", None)}


# -- the plugins' session -------------------------------------------------------------------------------------


async def test_nobody_has_a_plugin_session_until_somebody_asks(database: Database) -> None:
    await database.run(add_user, "ada")
    assert not database.has_plugin_session
    database.settle_plugin_session("nobody")
    assert not database.has_plugin_session
    assert database.plugin_session is database.plugin_session
    assert database.has_plugin_session
    assert database.plugin_session.bind is database.plugin_engine


async def test_what_a_plugin_leaves_is_committed_when_it_returns(database: Database) -> None:
    """`user.admin = True` without a commit, as plugins write it."""
    user_id = await database.run(add_user, "ada")
    row = database.plugin_session.get(orm.User, user_id)
    assert row is not None
    row.admin = True
    database.settle_plugin_session("SomeAuthenticator.add_user")
    found = await database.read(users.find, "ada")
    assert found is not None and found.admin


async def test_what_a_plugin_leaves_is_rolled_back_when_it_failed(database: Database) -> None:
    db = database.plugin_session
    db.add(orm.User(name="ada"))
    db.flush()
    database.settle_plugin_session("SomeAuthenticator.add_user", failed=True)
    assert await database.read(names) == []


async def test_what_cannot_be_stored_is_dropped_and_the_plugin_named(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await database.run(add_user, "ada")
    db = database.plugin_session
    db.add(orm.User(name="ada"))
    database.settle_plugin_session("SomeSpawner.start")
    assert "SomeSpawner.start" in caplog.text
    db.add(orm.User(name="bob"))
    db.commit()
    assert await database.read(names) == ["ada", "bob"]


async def test_a_dirty_session_across_an_await_holds_nobody_up(database: Database) -> None:
    """A plugin writes, and awaits before it commits. Others write meanwhile; the plugin's write goes along."""
    user_id = await database.run(add_user, "ada")
    gate = asyncio.Event()

    async def careless_plugin() -> None:
        db = database.plugin_session
        row = db.get(orm.User, user_id)
        assert row is not None
        row.admin = True
        db.add(orm.Group(name="class"))
        db.flush()
        await gate.wait()
        row.state = {"more": 1}
        database.settle_plugin_session("CarelessSpawner.start")

    plugin = asyncio.ensure_future(careless_plugin())
    # The same row as well: on PostgreSQL only that would be locked.
    await asyncio.wait_for(database.run(make_admin, user_id), 5)
    await asyncio.wait_for(database.run(add_user, "bob"), 5)
    await asyncio.wait_for(asyncio.gather(*(database.run(add_user, f"user{n}") for n in range(5))), 5)
    gate.set()
    await plugin

    def seen(session: Session) -> tuple[Any, ...]:
        row = session.get(orm.User, user_id)
        assert row is not None
        return row.admin, row.state, len(session.scalars(select(orm.Group)).all())

    assert await database.read(seen) == (True, {"more": 1}, 1)


async def test_a_plugin_that_read_before_somebody_elses_commit_can_still_write(database: Database) -> None:
    user_id = await database.run(add_user, "ada")
    db = database.plugin_session
    row = db.get(orm.User, user_id)
    assert row is not None and row.name == "ada"
    await database.run(add_user, "bob")
    row.admin = True
    db.commit()


async def test_a_plugin_may_block_on_the_store_with_a_dirty_session(database: Database) -> None:
    """Synchronous calls of the user wrapper, on the loop's thread, in the middle of a plugin's own write."""
    await database.run(add_user, "ada")
    db = database.plugin_session
    db.add(orm.User(name="bob"))
    db.flush()
    database.run_sync(add_user, "eve")
    assert await database.read(names) == ["ada", "bob", "eve"]


async def test_a_plugin_that_holds_a_write_long_is_named(
    database: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.run(add_user, "ada")
    monkeypatch.setattr(database_module, "LONG_WRITE_SECONDS", 0.0)
    db = database.plugin_session
    db.add(orm.User(name="bob"))
    db.flush()
    database.settle_plugin_session("SlowSpawner.start")
    assert "SlowSpawner.start kept a write" in caplog.text
    caplog.clear()
    assert db.query(orm.User).count() == 2
    database.settle_plugin_session("ReadingSpawner.poll")
    assert caplog.text == ""


async def test_our_failure_does_not_take_a_plugins_work_back(database: Database) -> None:
    """In memory both share one connection, so this is not a matter of course."""
    db = database.plugin_session
    db.add(orm.User(name="ada"))
    db.flush()

    def fail(session: Session) -> None:
        add_user(session, "bob")
        raise Refused

    with pytest.raises(Refused):
        await database.run(fail)
    db.rollback()
    assert await database.read(names) == ["ada"]


# -- rows that plugins hold for days --------------------------------------------------------------------------


async def test_a_row_that_a_plugin_holds_is_fresh_after_our_change(database: Database) -> None:
    user_id = await database.run(add_user, "ada")
    row = database.plugin_session.get(orm.User, user_id)
    assert row is not None and not row.admin
    database.settle_plugin_session("test")
    await database.run(make_admin, user_id)
    assert row.admin is True


async def test_what_a_plugin_has_assigned_and_not_stored_survives_our_change(database: Database) -> None:
    user_id = await database.run(add_user, "ada")
    row = database.plugin_session.get(orm.User, user_id)
    assert row is not None
    database.settle_plugin_session("test")
    row.state = {"mine": 1}
    await database.run(make_admin, user_id)
    assert row.state == {"mine": 1}
    assert row.admin is True
    database.settle_plugin_session("test")

    def state(session: Session) -> Any:
        return session.scalar(select(orm.User.state).where(orm.User.id == user_id))

    assert await database.read(state) == {"mine": 1}


async def test_a_deleted_row_stays_readable_for_whoever_holds_it(database: Database) -> None:
    user_id = await database.run(add_user, "ada")
    await database.run(lambda session: session.add(orm.Spawner(user_id=user_id, name="lab", state={"pid": 1})))
    db = database.plugin_session
    user = db.get(orm.User, user_id)
    assert user is not None
    spawner = user.orm_spawners["lab"]
    database.settle_plugin_session("test")

    def drop(session: Session) -> None:
        session.delete(session.scalars(select(orm.Spawner)).one())

    await database.run(drop)
    assert spawner.state == {"pid": 1}
    assert user.orm_spawners == {}
    database.settle_plugin_session("test")


async def test_rows_are_loaded_for_plugins_without_sql_on_the_loop_thread(served: Database) -> None:
    """Attributes and relationships included."""
    user_id = await served.run(add_user, "ada")

    def furnish(session: Session) -> None:
        row = session.get(orm.User, user_id)
        assert row is not None
        row.groups.append(orm.Group(name="class"))
        row._orm_spawners.append(orm.Spawner(name="", server=orm.Server(port=1234)))

    await served.run(furnish)
    on_loop: list[str] = []
    event.listen(
        served.plugin_engine, "before_cursor_execute", lambda c, cursor, statement, *rest: on_loop.append(statement)
    )
    row = await served.load_for_plugin(orm.User, user_id)
    assert row is not None
    assert (row.name, row.groups[0].name, row.orm_spawners[""].server.port) == ("ada", "class", 1234)
    assert row in served.plugin_session
    assert await served.load_for_plugin(orm.User, user_id) is row
    await served.run(make_admin, user_id)
    assert await served.load_for_plugin(orm.User, user_id) is row
    assert row.admin is True
    assert on_loop == []
    row.admin = False
    served.settle_plugin_session("test")
    found = await served.read(users.find, "ada")
    assert found is not None and not found.admin


async def test_there_is_nothing_to_load_for_an_unknown_id(database: Database) -> None:
    assert await database.load_for_plugin(orm.User, 4711) is None


async def test_queries_of_plugins_work_as_they_write_them(database: Database) -> None:
    await database.run(add_user, "ada")
    db = database.plugin_session
    assert db.query(orm.User).filter(orm.User.name.in_(["ada", "bob"])).one().name == "ada"
    assert orm.User.find(db, "ada") is db.query(orm.User).first()
    own = database.session_factory()
    assert own.query(orm.User).count() == 1
    own.close()


async def test_closing_twice_is_no_mistake_and_nothing_works_after_it(database: Database) -> None:
    database.close()
    database.close()
    with pytest.raises(StoreUnavailable):
        await database.run(names)
    with pytest.raises(StoreUnavailable):
        database.run_sync(names)
    with pytest.raises(StoreUnavailable, match="closed"):
        _ = database.plugin_session
