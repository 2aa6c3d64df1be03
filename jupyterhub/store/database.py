"""One narrow port to the database: `Database.run(function, …)` is a transaction on a database thread.

Two engines look at the same URL (ARCHITECTURE §9). Ours opens short transactions (`BEGIN IMMEDIATE` on
SQLite, from one writer thread, beside a few readers; a pool of threads elsewhere), does those that wait together in
one (`workers`), and never works on the event loop's thread. The plugins' engine has the driver's own transactions, and one session that lives on the loop's
thread, made when somebody first asks for it. What a plugin has left uncommitted is committed when the plugin
returns, or earlier, when one of our transactions needs the database: one that waited for a plugin to finish
would wait for minutes. In-memory databases have one connection and no threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Engine, event, exc, func, inspect, select, text
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session, joinedload, selectinload, sessionmaker
from sqlalchemy.orm.interfaces import ORMOption

from .. import dbutil, orm
from ..core.errors import StoreUnavailable
from ..orm import engine as engines
from .changes import Change, note_change, take_changes, watch
from .leases import ADVISORY_CLASS
from .sqlite import FileLock, HubAlreadyRunning, create_private, only_read, write_ahead
from .statements import StoreSession
from .workers import Job, Workers, run_until_late

__all__ = ["Change", "Database", "HubAlreadyRunning", "StatementRecorder", "note_change"]

P = ParamSpec("P")
T = TypeVar("T")
Listener = Callable[[frozenset[Change]], None]

log = logging.getLogger("jupyterhub")

#: Seconds one transaction may take, from the request to its end, before whoever waits is told that the database
#: does not answer.
DEADLINE = 60.0
#: Seconds SQLite waits for a lock that somebody else holds, a command beside the hub for instance.
BUSY_SECONDS = 20.0
#: Seconds a plugin may hold an uncommitted write before it is named in the log.
LONG_WRITE_SECONDS = 1.0
READERS = 2
THREADS = 6

#: What is loaded along with a row that a plugin is given, so that it need not ask on the event loop.
_WITH_ROW: Mapping[type[Any], tuple[ORMOption, ...]] = {
    orm.User: (
        selectinload(orm.User._orm_spawners).joinedload(orm.Spawner.server),
        selectinload(orm.User.groups),
        selectinload(orm.User.roles),
    ),
    orm.Spawner: (
        joinedload(orm.Spawner.server),
        joinedload(orm.Spawner.user).selectinload(orm.User._orm_spawners),
    ),
}


watch(StoreSession)


class StatementRecorder:
    """The statements that our engines execute, each with the thread it ran on. For tests and for diagnosis."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, str]] = []

    def on_thread(self, thread_id: int) -> list[str]:
        """The statements that ran on one thread."""
        return [statement for seen, statement in self.seen if seen == thread_id]


class Database:
    """The hub's database. Made by `open`; everything but `run_sync` belongs to the event loop's thread."""

    def __init__(
        self,
        url: URL,
        *,
        writer: Engine,
        reader: Engine,
        options: Mapping[str, Any],
        lock: FileLock | None = None,
        deadline: float = DEADLINE,
    ) -> None:
        self.url = url
        self.deadline = deadline
        self.in_memory = engines.is_memory(url)
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self.is_postgresql = url.get_backend_name() == "postgresql"
        self.exclusive = lock is not None or self.in_memory
        """Whether no other hub process can have this database open."""
        self._writer = writer
        self._reader = reader
        self._options = dict(options)
        self._lock = lock
        self._sessions = sessionmaker(bind=writer, class_=StoreSession, expire_on_commit=False)
        self._read_sessions = sessionmaker(bind=reader, class_=StoreSession, expire_on_commit=False, autoflush=False)
        self._writers = Workers(1 if self.is_sqlite else THREADS, "database", self._do_writes)
        self._readers = Workers(READERS, "database-read", self._do_reads) if self.is_sqlite else self._writers
        self._listeners: list[Listener] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread: int | None = None
        self._plugin_engine: Engine | None = None
        self._plugin_session: Session | None = None
        # Read by database threads, written on the loop's thread: when the plugins' session began to hold a write.
        self._held_since: float | None = None
        self._longest_hold = 0.0
        self._advisory: Any = None
        self._closed = False

    # -- opening and closing ---------------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        url: str,
        *,
        engine_kwargs: Mapping[str, Any] | None = None,
        upgrade: bool = False,
        reset: bool = False,
        exclusive: bool = True,
        deadline: float = DEADLINE,
    ) -> Database:
        """Open a database: check its revision before anything else, then create the tables that are missing.

        `upgrade` migrates an older schema first, after a backup of an SQLite file; `reset` empties the hub's
        tables. With `exclusive` an SQLite file is locked for the hub alone; commands that run beside a hub do
        without. Blocks. Raises DatabaseRevisionError, DatabaseSchemaError, DatabaseDriverMissing,
        HubAlreadyRunning, or StoreUnavailable when it cannot be reached.
        """
        parsed = engines.normalise_url(url)
        options = engines.known_options(engine_kwargs)
        lock = None
        if exclusive and parsed.get_backend_name() == "sqlite" and not engines.is_memory(parsed):
            lock = FileLock.beside(parsed.database or "")
        try:
            if upgrade:
                dbutil.upgrade_if_needed(url, engine_kwargs=options)
            return cls._open(parsed, options, lock, reset, deadline)
        except BaseException as error:
            if lock is not None:
                lock.release()
            if isinstance(error, exc.OperationalError | exc.InterfaceError):
                raise StoreUnavailable(
                    f"The database {engines.masked(parsed)} cannot be opened: {_first_line(error)}"
                ) from error
            raise

    @classmethod
    def _open(cls, url: URL, options: dict[str, Any], lock: FileLock | None, reset: bool, deadline: float) -> Database:
        if url.get_backend_name() != "sqlite":
            settings = {"pool_size": THREADS, "max_overflow": 2, "pool_timeout": 30, **options}
            writer = reader = engines.make_engine(url, **settings)
        elif engines.is_memory(url):
            writer = reader = engines.make_engine(url, **options)
        else:
            create_private(url.database or "")
            connect = {"timeout": BUSY_SECONDS, **options.get("connect_args", {})}
            settings = {**options, "connect_args": connect}
            writer = engines.make_engine(url, begin="BEGIN IMMEDIATE", **settings)
            reader = engines.make_engine(url, begin="BEGIN", on_connect=only_read, **settings)
        try:
            engines.check_db_revision(writer)
            if reader is not writer:
                write_ahead(writer)
            if reset:
                engines.drop_tables(writer)
            engines.create_tables(writer)
        except BaseException:
            writer.dispose()
            reader.dispose()
            raise
        return cls(url, writer=writer, reader=reader, options=options, lock=lock, deadline=deadline)

    def close(self) -> None:
        """Commit nothing, let running transactions end, close every connection and give up the lock."""
        if self._closed:
            return
        self._closed = True
        if self._plugin_session is not None:
            self._plugin_session.close()
            self._plugin_session = None
        self._writers.close()
        self._readers.close()
        self.release_advisory_lock()
        for engine in (self._plugin_engine, self._reader, self._writer):
            if engine is not None:
                engine.dispose()
        if self._lock is not None:
            self._lock.release()

    # -- transactions ----------------------------------------------------------------------------------------

    async def run(self, function: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function(session, …)` in one transaction on a database thread and return its value.

        Committed when the function returns, rolled back when it raises; it never commits itself, because others may
        share its transaction, and it may be called a second time, when nothing came of the first. The value must not
        contain rows. A transaction that had begun is finished also when the caller is cancelled. Raises what the
        function raises, or StoreUnavailable.
        """
        if self.in_memory:
            return self._run_in_place(self._sessions, function, args, kwargs)
        return await self._wait_for(self._writers, lambda session: function(session, *args, **kwargs), function)

    async def read(self, function: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like `run`, for functions that only read; on SQLite they do not wait for the writer."""
        if self.in_memory:
            return self._run_in_place(self._read_sessions, function, args, kwargs)
        return await self._wait_for(self._readers, lambda session: function(session, *args, **kwargs), function)

    def run_sync(self, function: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like `run`, but blocks: for start-up, for commands, and for plugins that cannot await."""
        if self.in_memory:
            return self._run_in_place(self._sessions, function, args, kwargs)
        if threading.get_ident() == self._loop_thread:
            # The writer would ask this thread to commit, and this thread is about to wait for the writer.
            self._commit_for_others()
        future: Future[T] = Future()
        job = self._submit(self._writers, lambda session: function(session, *args, **kwargs), future)
        try:
            return future.result(self.deadline)
        except FutureTimeout:
            self._writers.forget(job)
            raise self._silent(function) from None

    def _submit(self, workers: Workers, work: Callable[..., T], future: asyncio.Future[T] | Future[T]) -> Job:
        job = Job(work, future)
        if self._closed or not workers.submit(job):
            raise StoreUnavailable("The database is closed")
        return job

    async def _wait_for(self, workers: Workers, work: Callable[..., T], function: Callable[..., Any]) -> T:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._loop_thread = loop, threading.get_ident()
        future: asyncio.Future[T] = loop.create_future()
        job = self._submit(workers, work, future)

        def give_up() -> None:
            workers.forget(job)
            if not future.done():
                future.set_exception(self._silent(function))

        alarm = loop.call_later(self.deadline, give_up)
        try:
            return await future
        except asyncio.CancelledError:
            workers.forget(job)
            raise
        finally:
            alarm.cancel()

    def _silent(self, function: Callable[..., Any]) -> StoreUnavailable:
        return StoreUnavailable(
            f"The database {engines.masked(self.url)} did not answer within {self.deadline:g} seconds "
            f"({getattr(function, '__name__', function)})"
        )

    # -- on a database thread --------------------------------------------------------------------------------

    def _do_writes(self, jobs: Sequence[Job]) -> int:
        return self._do(self._sessions, jobs)

    def _do_reads(self, jobs: Sequence[Job]) -> int:
        return self._do(self._read_sessions, jobs)

    def _do(self, sessions: sessionmaker[StoreSession], jobs: Sequence[Job]) -> int:
        """The first of these jobs in one transaction; when that fails, all of them, each in its own."""
        if len(jobs) > 1:
            done = self._do_together(sessions, jobs)
            if done:
                return done
        for job in jobs:
            changes: frozenset[Change] = frozenset()
            try:
                job.value, changes = self._transact(sessions, job.work)
            except BaseException as error:
                job.error = error
            self._deliver([job], changes)
        return len(jobs)

    def _do_together(self, sessions: sessionmaker[StoreSession], jobs: Sequence[Job]) -> int:
        """Returns 0 when nothing came of it and nothing was changed."""
        if sessions is self._sessions:
            self._ask_plugins_to_commit()
        changes: frozenset[Change] = frozenset()
        try:
            done, changes = self._attempt(sessions, partial(run_until_late, jobs))
        except exc.SQLAlchemyError as error:
            if not getattr(error, "commit_failed", False):
                return 0
            for job in jobs:
                job.error = self._translated(error)
            done = len(jobs)
        except BaseException:
            return 0
        self._deliver(jobs[:done], changes)
        return done

    def _deliver(self, jobs: Sequence[Job], changes: frozenset[Change]) -> None:
        """Tell of changes and then of results, with one wake-up of the loop's thread."""
        waiting = [job for job in jobs if isinstance(job.future, asyncio.Future)]
        loop = self._loop
        if changes and (loop is None or loop.is_closed()):
            # Start-up and commands: nothing else runs, and nobody holds rows across this call.
            self._announce(changes)
        elif loop is not None and (changes or waiting):
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._finish, waiting, changes)
        for job in jobs:
            if isinstance(job.future, Future):
                job.settle()

    def _finish(self, jobs: Sequence[Job], changes: frozenset[Change]) -> None:
        if changes:
            self._announce(changes)
        for job in jobs:
            job.settle()

    def _transact(self, sessions: sessionmaker[StoreSession], work: Callable[..., T]) -> tuple[T, frozenset[Change]]:
        """One transaction, once more on a fresh connection when the first was lost."""
        for last in (False, True):
            if sessions is self._sessions:
                self._ask_plugins_to_commit()
            try:
                return self._attempt(sessions, work)
            except exc.SQLAlchemyError as error:
                if not last and _worth_another_try(error):
                    log.warning("The database connection failed, trying once more: %s", _first_line(error))
                    continue
                raise self._translated(error) from error
        raise AssertionError("unreachable")

    @staticmethod
    def _attempt(sessions: sessionmaker[StoreSession], work: Callable[..., T]) -> tuple[T, frozenset[Change]]:
        with sessions() as session:
            value = work(session)
            session.flush()
            changes = take_changes(session)
            try:
                session.commit()
            except exc.DBAPIError as error:
                # Nobody knows whether it was committed. Doing it twice would be worse than saying so.
                error.commit_failed = True  # type: ignore[attr-defined]
                raise
        return value, changes

    def _translated(self, error: exc.SQLAlchemyError) -> Exception:
        unreachable = isinstance(error, exc.OperationalError | exc.InterfaceError | exc.TimeoutError)
        if unreachable or getattr(error, "connection_invalidated", False):
            return StoreUnavailable(f"The database {engines.masked(self.url)} does not answer: {_first_line(error)}")
        return error

    def _run_in_place(
        self,
        sessions: sessionmaker[StoreSession],
        function: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> T:
        if self._closed:
            raise StoreUnavailable("The database is closed")
        # One connection for all: our commit would commit a plugin's half-done work unseen, our rollback undo it.
        self._commit_for_others()
        try:
            value, changes = self._attempt(sessions, lambda session: function(session, *args, **kwargs))
        except exc.SQLAlchemyError as error:
            raise self._translated(error) from error
        if changes:
            self._announce(changes)
        return value

    # -- telling of changes ----------------------------------------------------------------------------------

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(changes)` on the loop's thread after every commit, of ours and of plugins.

        Returns a function that ends it. For transactions of ours it is called before `run` returns.
        """
        self._listeners.append(listener)

        def unsubscribe() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return unsubscribe

    def _announce(self, changes: frozenset[Change]) -> None:
        if self._plugin_session is not None:
            self._expire_plugin_rows(self._plugin_session, changes)
        for listener in list(self._listeners):
            try:
                listener(changes)
            except Exception:
                log.exception("A listener for database changes failed")

    @staticmethod
    def _expire_plugin_rows(session: Session, changes: frozenset[Change]) -> None:
        for change in changes:
            if change.by_plugin:
                continue
            for row in _held_rows(session, change):
                if not change.deleted:
                    _expire(session, row)
                elif row not in session.deleted:
                    # The values stay readable for whoever holds the row; it is nobody's to change any more.
                    session.expunge(row)
                    for other in list(session.identity_map.values()):
                        _expire(session, other, related_to=change.model)

    # -- the plugins' session --------------------------------------------------------------------------------

    @property
    def plugin_engine(self) -> Engine:
        """The plugins' engine: the driver's own transactions, connections tested before use."""
        if self._plugin_engine is None:
            self._plugin_engine = (
                self._writer if self.in_memory else engines.make_engine(self.url, ping=True, **self._options)
            )
        return self._plugin_engine

    @property
    def plugin_session(self) -> Session:
        """The session that plugins know as `db`. Belongs to the loop's thread; made on first use."""
        if self._plugin_session is None:
            if self._closed:
                raise StoreUnavailable("The database is closed")
            session = Session(bind=self.plugin_engine, expire_on_commit=False)
            watch(session, statements=True)
            event.listen(session, "after_flush", self._plugin_wrote)
            event.listen(session, "do_orm_execute", self._plugin_executed)
            event.listen(session, "after_commit", self._plugin_committed)
            event.listen(session, "after_rollback", self._plugin_rolled_back)
            self._plugin_session = session
            self._loop_thread = self._loop_thread or threading.get_ident()
        return self._plugin_session

    @property
    def has_plugin_session(self) -> bool:
        """Whether anybody has asked for the plugins' session yet."""
        return self._plugin_session is not None

    def _plugin_wrote(self, session: Session, context: Any) -> None:
        if self._held_since is None:
            self._held_since = time.monotonic()

    def _plugin_executed(self, state: Any) -> None:
        if not state.is_select:
            self._plugin_wrote(state.session, None)

    def _plugin_committed(self, session: Session) -> None:
        # Also called for savepoints, whose end frees nothing.
        if session.in_nested_transaction():
            return
        self._let_go()
        changes = take_changes(session, by_plugin=True)
        if changes:
            self._announce(changes)

    def _plugin_rolled_back(self, session: Session) -> None:
        if not session.in_nested_transaction():
            self._let_go()
            take_changes(session)

    def _let_go(self) -> None:
        if self._held_since is not None:
            self._longest_hold = max(self._longest_hold, time.monotonic() - self._held_since)
            self._held_since = None

    def settle_plugin_session(self, who: str, failed: bool = False) -> None:
        """Commit what a plugin has left in its session, or roll it back if the plugin `failed`.

        To be called after every call into a plugin; `who` names it in the log. A commit that fails is rolled
        back and logged. Never raises: the plugin's own result matters more.
        """
        session = self._plugin_session
        if session is None:
            return
        try:
            if session.in_transaction() or session.new or session.dirty or session.deleted:
                if failed:
                    session.rollback()
                else:
                    session.commit()
        except exc.SQLAlchemyError as error:
            log.error("%s left something in the database session that cannot be stored: %s", who, error)
            session.rollback()
        held, self._longest_hold = self._longest_hold, 0.0
        if held > LONG_WRITE_SECONDS:
            log.warning(
                "%s kept a write to the database open for %.1f seconds. Others had to wait: commit before "
                "awaiting anything.",
                who,
                held,
            )

    def _ask_plugins_to_commit(self) -> None:
        """On a database thread: have the loop's thread commit what a plugin holds, and wait until it has."""
        loop = self._loop
        if self._held_since is None or loop is None or loop.is_closed():
            return
        if threading.get_ident() == self._loop_thread:
            return
        done = threading.Event()

        def commit() -> None:
            try:
                self._commit_for_others()
            finally:
                done.set()

        try:
            loop.call_soon_threadsafe(commit)
        except RuntimeError:
            return
        # A loop that is stuck inside a plugin cannot answer; then the database's own time limit decides.
        done.wait(LONG_WRITE_SECONDS)

    def _commit_for_others(self) -> None:
        """Commit what a plugin has flushed so far: our next write takes it along, as any commit does in JupyterHub 6."""
        session = self._plugin_session
        if session is None:
            return
        if not (session.in_transaction() if self.in_memory else self._held_since is not None):
            return
        if session.in_nested_transaction():
            return
        try:
            session.commit()
        except exc.SQLAlchemyError as error:
            log.error("A plugin's change to the database cannot be stored and is dropped: %s", error)
            session.rollback()

    async def load_for_plugin(self, model: type[T], row_id: int) -> T | None:
        """Load a row on a database thread and put it into the plugins' session, with what hangs on it.

        Returns None when there is no such row. No SQL runs on the loop's thread.
        """
        session = self.plugin_session
        present = session.identity_map.get(session.identity_key(model, row_id))
        if present is not None and not inspect(present).expired_attributes:
            found: T = present
            return found
        row = await self.read(_load_detached, model, row_id)
        if row is None:
            return None
        if present is not None and session.is_modified(present):
            # A plugin is in the middle of changing it; what it sees must not change under its hands.
            return session.get(model, row_id)
        merged: T = session.merge(row, load=False)
        return merged

    def session_factory(self) -> Session:
        """A new session on the plugins' engine, for whoever wants one of their own."""
        return Session(bind=self.plugin_engine, expire_on_commit=False)

    # -- knowing that another process is alive ---------------------------------------------------------------

    async def hold_process_lock(self, key: int) -> bool:
        """`hold_advisory_lock`, on a database thread."""
        if not self.is_postgresql:
            return False
        return await self._wait_for(
            self._writers, lambda session: self.hold_advisory_lock(key), self.hold_advisory_lock
        )

    def hold_advisory_lock(self, key: int) -> bool:
        """On PostgreSQL: hold a lock for as long as this process lives, so that others know its end at once.

        Blocks. Returns whether it is held; elsewhere always False. Called again, it makes sure that the
        connection is still there, and takes the lock anew if it is not.
        """
        if not self.is_postgresql:
            return False
        try:
            if self._advisory is not None:
                self._advisory.execute(text("SELECT 1"))
                return True
        except exc.SQLAlchemyError:
            self.release_advisory_lock()
        try:
            connection = self._writer.connect().execution_options(isolation_level="AUTOCOMMIT")
            held = connection.scalar(select(func.pg_try_advisory_lock(ADVISORY_CLASS, key)))
        except exc.SQLAlchemyError as error:
            raise self._translated(error) from error
        if not held:
            connection.close()
            return False
        # Out of the pool: a connection handed to somebody else would take the lock along.
        connection.detach()
        self._advisory = connection
        return True

    def release_advisory_lock(self) -> None:
        """Give up the lock by closing its connection."""
        connection, self._advisory = self._advisory, None
        if connection is not None:
            with contextlib.suppress(exc.SQLAlchemyError):
                connection.close()

    # -- for tests and diagnosis -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def record_threads(self) -> Iterator[StatementRecorder]:
        """Record every statement of ours with its thread, to show that none runs on the event loop's."""
        recorder = StatementRecorder()

        def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
            recorder.seen.append((threading.get_ident(), statement))

        watched = {id(engine): engine for engine in (self._writer, self._reader)}.values()
        for engine in watched:
            event.listen(engine, "before_cursor_execute", note)
        try:
            yield recorder
        finally:
            for engine in watched:
                event.remove(engine, "before_cursor_execute", note)


def _expire(session: Session, row: Any, *, related_to: type[Any] | None = None) -> None:
    """Have attributes read again when next asked for, except those somebody has assigned and not stored yet."""
    state = inspect(row)
    attributes = state.mapper.attrs
    if related_to is None:
        keys = [attribute.key for attribute in attributes]
    else:
        keys = [each.key for each in state.mapper.relationships if each.mapper.class_ is related_to]
    if keys := [key for key in keys if key not in state.committed_state]:
        session.expire(row, keys)


def _held_rows(session: Session, change: Change) -> list[Any]:
    if change.id is None:
        return [row for row in session.identity_map.values() if isinstance(row, change.model)]
    row = session.identity_map.get(session.identity_key(change.model, change.id))
    return [] if row is None else [row]


def _load_detached(session: Session, model: type[Any], row_id: int) -> Any:
    row = session.get(model, row_id, options=_WITH_ROW.get(model, ()))
    session.expunge_all()
    return row


def _worth_another_try(error: exc.SQLAlchemyError) -> bool:
    """Whether the transaction can be done again: it certainly did not happen, and the next may fare better."""
    if not isinstance(error, exc.DBAPIError):
        return False
    # PostgreSQL: serialization failure, deadlock. MySQL: deadlock.
    code = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    if code in ("40001", "40P01"):
        return True
    arguments = getattr(error.orig, "args", ())
    if arguments and arguments[0] == 1213:
        return True
    return bool(error.connection_invalidated) and not getattr(error, "commit_failed", False)


def _first_line(error: BaseException) -> str:
    text_of = str(getattr(error, "orig", None) or error).strip()
    return text_of.partition("\n")[0]
