"""Opening a database: what is refused is refused untouched, what is missing is made, and one hub has one file."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import inspect, select, text

from jupyterhub import dbutil, orm
from jupyterhub.core.errors import StoreUnavailable
from jupyterhub.orm import engine as engines
from jupyterhub.orm.engine import DatabaseDriverMissing, DatabaseRevisionError, DatabaseSchemaError
from jupyterhub.store.database import Database, HubAlreadyRunning
from jupyterhub.store.sqlite import file_system_of

DATA = Path(__file__).parent / "data"
Opener = Callable[..., Database]


def make_file(path: Path, *statements: str, release: str = "6") -> str:
    connection = sqlite3.connect(path)
    connection.executescript((DATA / f"release_{release}.sql").read_text())
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return f"sqlite:///{path}"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "driver", "path"),
    [
        ("foo.sqlite", "sqlite", "foo.sqlite"),
        ("/abs/foo.db", "sqlite", "/abs/foo.db"),
        (":memory:", "sqlite", ":memory:"),
        ("sqlite:///x.sqlite", "sqlite", "x.sqlite"),
        ("mysql+pymysql://hub@127.0.0.1/hub", "mysql+pymysql", "hub"),
    ],
)
def test_a_url_without_a_scheme_is_an_sqlite_file(name: str, driver: str, path: str) -> None:
    url = engines.normalise_url(name)
    assert (url.drivername, url.database) == (driver, path)


@pytest.mark.parametrize(
    ("installed", "driver"),
    [(("psycopg2", "psycopg"), "postgresql+psycopg2"), (("psycopg",), "postgresql+psycopg")],
)
def test_a_bare_postgresql_url_finds_the_driver_that_is_there(
    installed: tuple[str, ...], driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: object() if name in installed else None)
    assert engines.normalise_url("postgresql://hub@db/hub").drivername == driver


def test_without_a_driver_both_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DatabaseDriverMissing, match=r"psycopg\[binary\].*psycopg2-binary"):
        engines.normalise_url("postgresql://hub@db/hub")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgress://hub@db/hub", "JupyterHub.db_url begins with postgress://"),
        ("postgresql+pg8000://hub@db/hub", "postgresql.pg8000:// is not installed: No module named 'pg8000'"),
    ],
)
def test_a_database_or_driver_that_is_not_known_is_named(url: str, said: str) -> None:
    with pytest.raises(DatabaseDriverMissing, match=said):
        Database.open(url)


def test_passwords_are_not_shown() -> None:
    assert "secret" not in engines.masked("postgresql://hub:secret@db/hub")


def test_a_database_of_jupyterhub_6_opens(tmp_path: Path, opened: Opener) -> None:
    database = opened(make_file(tmp_path / "hub.sqlite"))
    identifiers = database.run_sync(lambda session: session.scalars(select(orm.OAuthClient.identifier)).all())
    assert identifiers == ["jupyterhub"]


@pytest.mark.parametrize(
    ("revision", "says"), [("4621fec11365", "upgrade-db"), ("0123456789ab", "the release that wrote it")]
)
def test_another_revision_is_refused_untouched(tmp_path: Path, opened: Opener, revision: str, says: str) -> None:
    """Both revisions are named, and the way out fits."""
    path = tmp_path / "hub.sqlite"
    url = make_file(path, f"UPDATE alembic_version SET version_num = '{revision}'")
    before = digest(path)
    with pytest.raises(DatabaseRevisionError, match=f"(?s){revision}.*{engines.HEAD_REVISION}.*{says}"):
        opened(url)
    assert digest(path) == before


def test_an_unknown_revision_is_not_upgraded_either(tmp_path: Path, opened: Opener) -> None:
    path = tmp_path / "hub.sqlite"
    url = make_file(path, "UPDATE alembic_version SET version_num = '0123456789ab'")
    before = digest(path)
    with pytest.raises(DatabaseRevisionError):
        opened(url, upgrade=True)
    assert digest(path) == before
    assert [each.name for each in tmp_path.glob("hub.sqlite*")] in (["hub.sqlite"], ["hub.sqlite", "hub.sqlite.lock"])


def test_a_table_of_ours_with_a_foreign_column_is_refused_untouched(tmp_path: Path, opened: Opener) -> None:
    path = tmp_path / "hub.sqlite"
    url = make_file(path, "ALTER TABLE users ADD COLUMN shoe_size INTEGER")
    before = digest(path)
    with pytest.raises(DatabaseSchemaError, match=r"'users'.*shoe_size"):
        opened(url)
    assert digest(path) == before


def test_a_table_of_ours_without_one_of_its_columns_is_refused(tmp_path: Path, opened: Opener) -> None:
    url = make_file(tmp_path / "hub.sqlite", "ALTER TABLE groups DROP COLUMN properties")
    with pytest.raises(DatabaseSchemaError, match=r"'groups'.*missing: properties"):
        opened(url)


def test_columns_that_old_migrations_left_behind_are_no_reason(tmp_path: Path, opened: Opener) -> None:
    opened(make_file(tmp_path / "hub.sqlite", "ALTER TABLE users ADD COLUMN auth_state TEXT"))


def test_tables_of_others_are_no_reason_and_stay(served_url: str, opened: Opener) -> None:
    """A plugin's table with a foreign key to ours survives a reset with its rows' other columns (config §7)."""
    database = opened(served_url)
    with database.plugin_engine.begin() as connection:
        connection.execute(
            text("CREATE TABLE shoes (id INTEGER PRIMARY KEY, size INTEGER, user_id INTEGER REFERENCES users (id))")
        )
        connection.execute(text("INSERT INTO shoes (id, size) VALUES (1, 43)"))
    database.run_sync(lambda session: session.add(orm.User(name="ada")))
    database.close()
    again = opened(served_url, reset=True)
    with again.plugin_engine.connect() as connection:
        assert connection.execute(text("SELECT size FROM shoes")).scalars().all() == [43]
        assert len(inspect(connection).get_foreign_keys("shoes")) == 1
    assert again.run_sync(lambda session: session.scalars(select(orm.User.name)).all()) == []


def test_reset_empties_the_tables_and_keeps_the_revision(url: str, opened: Opener) -> None:
    if ":memory:" in url:
        return
    database = opened(url)
    database.run_sync(lambda session: session.add(orm.User(name="ada")))
    database.close()
    again = opened(url, reset=True)
    assert again.run_sync(lambda session: session.scalars(select(orm.User.name)).all()) == []
    assert engines.read_revision(again.plugin_engine)[0] == engines.HEAD_REVISION


def test_tables_that_plugins_hang_on_the_base_are_made_too(tmp_path: Path) -> None:
    """In a process of its own: the base would keep the table for every later test."""
    script = (
        "from jupyterhub import orm\n"
        "from jupyterhub.store.database import Database\n"
        "from sqlalchemy import inspect\n"
        "class Shoe(orm.Base):\n"
        "    __tablename__ = 'shoes'\n"
        "    id = orm.Column(orm.Integer, primary_key=True)\n"
        "    user_id = orm.Column(orm.Integer, orm.ForeignKey('users.id', ondelete='CASCADE'))\n"
        "    user = orm.relationship('User')\n"
        f"database = Database.open('sqlite:///{tmp_path}/hub.sqlite')\n"
        "db = database.plugin_session\n"
        "db.add(Shoe(user=orm.User(name='ada'))); db.commit()\n"
        "found = db.query(Shoe).join(orm.User).filter(orm.User.name == 'ada')\n"
        "print(inspect(db.bind).has_table('shoes'), found.count())\n"
        "database.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout == "True 1\n", done.stderr


def test_a_new_file_is_for_its_owner_alone_and_one_that_is_there_stays_as_it_is(tmp_path: Path, opened: Opener) -> None:
    before = os.umask(0o022)
    try:
        opened(f"sqlite:///{tmp_path}/new.sqlite")
        there = tmp_path / "there.sqlite"
        there.touch(0o640)
        opened(f"sqlite:///{there}")
    finally:
        os.umask(before)
    made = {path.name.removeprefix("new.sqlite"): path.stat().st_mode & 0o777 for path in tmp_path.glob("new.sqlite*")}
    assert made == dict.fromkeys(("", ".lock", "-wal", "-shm"), 0o600)
    assert there.stat().st_mode & 0o777 == 0o640


def test_a_file_belongs_to_one_hub_and_the_other_is_told_the_pid(tmp_path: Path, opened: Opener) -> None:
    url = f"sqlite:///{tmp_path}/hub.sqlite"
    first = opened(url)
    with pytest.raises(HubAlreadyRunning, match=rf"process {os.getpid()} is a hub.*hub\.sqlite") as refused:
        opened(url)
    assert refused.value.pid == os.getpid()
    assert first.exclusive
    first.close()
    opened(url)


def test_a_command_can_work_beside_a_hub(tmp_path: Path, opened: Opener) -> None:
    url = f"sqlite:///{tmp_path}/hub.sqlite"
    hub, command = opened(url), opened(url, exclusive=False)
    command.run_sync(lambda session: session.add(orm.User(name="ada")))
    assert hub.run_sync(lambda session: session.scalars(select(orm.User.name)).all()) == ["ada"]
    assert not command.exclusive


def test_the_lock_ends_with_the_process_however_it_ends(tmp_path: Path, opened: Opener) -> None:
    url = f"sqlite:///{tmp_path}/hub.sqlite"
    script = (
        "import os, signal\nfrom jupyterhub.store.database import Database\n"
        f"Database.open('{url}')\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script], timeout=50, check=False)
    assert killed.returncode == -9
    opened(url)


def test_a_file_gets_write_ahead_logging_and_foreign_keys(tmp_path: Path, opened: Opener) -> None:
    database = opened(f"sqlite:///{tmp_path}/hub.sqlite")

    def pragmas(session: object) -> tuple[object, object]:
        ask = lambda name: session.execute(text(f"PRAGMA {name}")).scalar()  # type: ignore[attr-defined]
        return ask("journal_mode"), ask("foreign_keys")

    assert database.run_sync(pragmas) == ("wal", 1)
    assert pragmas(database.plugin_session) == ("wal", 1)


def test_a_network_file_system_goes_without_and_the_log_says_so(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("jupyterhub.store.sqlite.file_system_of", lambda path: "nfs4")
    database = opened(f"sqlite:///{tmp_path}/hub.sqlite")
    assert database.run_sync(lambda session: session.execute(text("PRAGMA journal_mode")).scalar()) == "delete"
    assert "nfs4" in caplog.text and "local disk" in caplog.text


def test_the_kind_of_file_system_is_found() -> None:
    assert file_system_of("/proc/self/status") == "proc"


def test_an_unreachable_server_is_said_so_without_the_password(opened: Opener) -> None:
    with pytest.raises(StoreUnavailable) as refused:
        opened("postgresql://hub:secret@127.0.0.1:1/hub")
    assert "cannot be opened" in str(refused.value) and "secret" not in str(refused.value)


def test_upgrade_db_on_a_missing_file_only_writes_the_revision(tmp_path: Path, opened: Opener) -> None:
    """The tables come at the next start (database, corner case 1)."""
    url = f"sqlite:///{tmp_path}/hub.sqlite"
    dbutil.upgrade_if_needed(url)
    connection = sqlite3.connect(tmp_path / "hub.sqlite")
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    assert tables == [("alembic_version",)]
    assert connection.execute("SELECT * FROM alembic_version").fetchall() == [(engines.HEAD_REVISION,)]
    connection.close()
    assert set(engines.KNOWN_TABLES) <= set(engines.read_revision(opened(url).plugin_engine)[1])


def test_new_session_factory_is_what_plugins_expect() -> None:
    factory = orm.new_session_factory("sqlite:///:memory:")
    db = factory()
    db.add(orm.User(name="ada"))
    db.commit()
    assert orm.User.find(db, "ada").name == "ada"  # type: ignore[union-attr]
    db.close()
    factory.remove()
    db.bind.dispose()  # type: ignore[union-attr]
