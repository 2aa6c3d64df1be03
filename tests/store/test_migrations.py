"""Databases of older releases come along with all their rows, and can be handed back."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect, select, text

from jupyterhub import dbutil, orm
from jupyterhub.orm.engine import HEAD_REVISION, KNOWN_TABLES, REVISIONS, DatabaseRevisionError, normalise_url
from jupyterhub.store.database import Database

DATA = Path(__file__).parent / "data"
RELEASE_5 = "4621fec11365"
Opener = Callable[..., Database]


@pytest.fixture(params=["1", "2", "5"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file as release 1.5, 2.3 or 5.3 made it: three users, a group, an administrating service."""
    return make_old(tmp_path, request.param)


def make_old(directory: Path, release: str) -> Path:
    path = directory / "hub.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript((DATA / f"release_{release}.sql").read_text())
    connection.close()
    return path


def rows_of(path: Path) -> dict[str, list[dict[str, Any]]]:
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {table: [dict(row) for row in connection.execute(f'SELECT * FROM "{table}"')] for table in tables}
    connection.close()
    return found


def test_a_plain_start_refuses_an_older_schema_untouched(old: Path, opened: Opener) -> None:
    before = hashlib.sha256(old.read_bytes()).hexdigest()
    with pytest.raises(DatabaseRevisionError, match="upgrade-db"):
        opened(f"sqlite:///{old}")
    assert hashlib.sha256(old.read_bytes()).hexdigest() == before


def test_an_upgrade_keeps_every_row_and_makes_a_backup(old: Path, opened: Opener) -> None:
    before = rows_of(old)
    database = opened(f"sqlite:///{old}", upgrade=True)
    assert len(list(old.parent.glob("hub.sqlite.????-??-??-??????"))) == 1
    after = rows_of(old)
    assert after["alembic_version"] == [{"version_num": HEAD_REVISION}]
    for table in ("users", "groups", "user_group_map", "roles", "user_role_map", "services", "oauth_clients"):
        for row, kept in zip(before.get(table, []), after[table], strict=False):
            # A NULL may have become the value that an insert would give.
            assert {key: value for key, value in row.items() if value is not None}.items() <= kept.items()
        assert len(before.get(table, after[table])) == len(after[table])
    names = database.run_sync(lambda session: sorted(session.scalars(select(orm.User.name))))
    assert names == ["ada", "bob", "root1"]
    assert database.run_sync(lambda session: [role.name for role in session.scalars(select(orm.Role))]) is not None


def test_the_backup_is_the_database_as_it_was(old: Path) -> None:
    before = rows_of(old)
    dbutil.upgrade_if_needed(f"sqlite:///{old}")
    (backup,) = old.parent.glob("hub.sqlite.????-??-??-??????")
    assert rows_of(backup) == before


def test_a_backup_holds_what_is_only_in_the_write_ahead_log(tmp_path: Path) -> None:
    path = tmp_path / "hub.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (x)")
    connection.execute("INSERT INTO t VALUES (42)")
    connection.commit()
    copy = dbutil.backup_db_file(str(path))
    connection.close()
    assert rows_of(Path(copy)) == {"t": [{"x": 42}]}


def test_backups_of_the_same_second_have_different_names(tmp_path: Path) -> None:
    path = tmp_path / "hub.sqlite"
    sqlite3.connect(path).close()
    copies = {dbutil.backup_db_file(str(path)) for _ in range(5)}
    assert len(copies) == 5


def test_tokens_of_release_2_get_the_scopes_of_their_roles(tmp_path: Path) -> None:
    """Their table stays, and the map from tokens to roles goes (database §8, no. 12)."""
    path = make_old(tmp_path, "2")
    dbutil.upgrade(f"sqlite:///{path}")
    found = rows_of(path)
    assert [row["scopes"] for row in found["api_tokens"]] == ['["inherit"]']
    assert "api_token_role_map" not in found


def test_added_columns_come_last_with_their_defaults(tmp_path: Path) -> None:
    """As in every migrated database (database §2, corner case 4)."""
    path = make_old(tmp_path, "5")
    dbutil.upgrade(f"sqlite:///{path}")
    connection = sqlite3.connect(path)
    columns = {
        table: connection.execute(f"SELECT name, type, dflt_value FROM pragma_table_info('{table}')").fetchall()
        for table in ("services", "spawners", "users", "oauth_codes")
    }
    connection.close()
    assert columns["services"][-1] == ("timeout", "INTEGER", "'30'")
    assert columns["spawners"][-1] == ("display_name", "VARCHAR(255)", None)
    assert columns["users"][-1][:2] == ("user_info", "TEXT")
    assert [name for name, *_ in columns["oauth_codes"][-2:]] == ["code_challenge", "code_challenge_method"]


def test_down_to_release_5_and_up_again_loses_only_what_5_does_not_know(tmp_path: Path, opened: Opener) -> None:
    """Also with our tables still there (database, corner case 3)."""
    path = make_old(tmp_path, "5")
    url = f"sqlite:///{path}"
    before = rows_of(path)
    database = opened(url, upgrade=True)
    database.run_sync(lambda session: session.add(orm.Spawner(user_id=1, name="lab", display_name="My Lab")))
    database.close()
    dbutil.downgrade(url, RELEASE_5)
    down = rows_of(path)
    assert down["users"] == before["users"] and down["services"] == before["services"]
    assert down["alembic_version"] == [{"version_num": RELEASE_5}]
    dbutil.upgrade(url)
    again = opened(url)
    (row,) = again.run_sync(
        lambda session: [tuple(row) for row in session.execute(select(orm.Spawner.name, orm.Spawner.display_name))]
    )
    assert row == ("lab", None)


@pytest.mark.engine
def test_the_way_down_and_up_works_on_postgresql(postgres: Any, opened: Opener) -> None:
    url = postgres.create_database()
    database = opened(url)
    database.run_sync(lambda session: session.add(orm.User(name="ada", user_info={"mail": "ada@example.org"})))
    database.close()
    dbutil.downgrade(url, RELEASE_5)
    with pytest.raises(DatabaseRevisionError):
        opened(url)
    again = opened(url, upgrade=True)
    (row,) = again.run_sync(
        lambda session: [tuple(row) for row in session.execute(select(orm.User.name, orm.User.user_info))]
    )
    assert row == ("ada", None)


@pytest.mark.engine
def test_the_whole_chain_runs_on_postgresql(postgres: Any, opened: Opener) -> None:
    """From tables as old as 1.5 to columns of today."""
    url = postgres.create_database()
    engine = create_engine(normalise_url(url))
    with engine.begin() as connection:
        for statement in OLD_POSTGRESQL:
            connection.execute(text(statement))
    dbutil.upgrade_if_needed(url)
    opened(url)
    for table in KNOWN_TABLES:
        found = {column["name"] for column in inspect(engine).get_columns(table)}
        assert found == set(orm.Base.metadata.tables[table].columns.keys()), table
    engine.dispose()


OLD_POSTGRESQL = (
    "CREATE TABLE servers (id SERIAL PRIMARY KEY, proto VARCHAR(15), ip VARCHAR(255), port INTEGER, "
    "base_url VARCHAR(255), cookie_name VARCHAR(255))",
    "CREATE TABLE groups (id SERIAL PRIMARY KEY, name VARCHAR(255) UNIQUE)",
    "CREATE TABLE users (id SERIAL PRIMARY KEY, name VARCHAR(255) UNIQUE, admin BOOLEAN, last_activity TIMESTAMP, "
    "cookie_id VARCHAR(255) UNIQUE NOT NULL, state TEXT, auth_state TEXT, "
    "_server_id INTEGER CONSTRAINT fk_users_server REFERENCES servers (id))",
    "CREATE TABLE user_group_map (user_id INTEGER REFERENCES users (id) ON DELETE CASCADE, "
    "group_id INTEGER REFERENCES groups (id) ON DELETE CASCADE, PRIMARY KEY (user_id, group_id))",
    "CREATE TABLE services (id SERIAL PRIMARY KEY, name VARCHAR(255) UNIQUE, admin BOOLEAN, "
    "_server_id INTEGER REFERENCES servers (id), pid INTEGER)",
    "CREATE TABLE api_tokens (id SERIAL PRIMARY KEY, user_id INTEGER REFERENCES users (id), hashed VARCHAR(255), "
    "prefix VARCHAR(16), service_id INTEGER REFERENCES services (id))",
    "CREATE TABLE oauth_clients (id SERIAL PRIMARY KEY, identifier VARCHAR(255) UNIQUE, secret VARCHAR(255), "
    "redirect_uri VARCHAR(1023))",
    "CREATE TABLE oauth_codes (id SERIAL PRIMARY KEY, client_id VARCHAR(255), code VARCHAR(36), expires_at INTEGER, "
    "redirect_uri VARCHAR(1023), user_id INTEGER REFERENCES users (id))",
    "CREATE TABLE spawners (id SERIAL PRIMARY KEY, user_id INTEGER REFERENCES users (id), "
    "server_id INTEGER REFERENCES servers (id), state TEXT, name VARCHAR(255), last_activity TIMESTAMP)",
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)",
    "INSERT INTO alembic_version VALUES ('af4cbdb2d13c')",
    "INSERT INTO users (name, admin, cookie_id) VALUES ('ada', true, 'c0ffee')",
)


def test_a_database_without_a_revision_is_judged_by_its_tables(tmp_path: Path, opened: Opener) -> None:
    """With spawners it counts as current, without as one of the oldest, which can be upgraded (database §1)."""
    current = make_old(tmp_path, "6")
    connection = sqlite3.connect(current)
    connection.execute("DROP TABLE alembic_version")
    connection.close()
    opened(f"sqlite:///{current}")
    assert rows_of(current)["alembic_version"] == [{"version_num": HEAD_REVISION}]

    ancient = tmp_path / "ancient.sqlite"
    connection = sqlite3.connect(ancient)
    connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name VARCHAR(255), cookie_id VARCHAR(255))")
    connection.close()
    with pytest.raises(DatabaseRevisionError, match=REVISIONS[0]):
        opened(f"sqlite:///{ancient}")
    assert "alembic_version" not in rows_of(ancient)


def test_the_chain_is_the_one_that_is_written_down() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", dbutil.ALEMBIC_DIR)
    chain = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(chain)) == REVISIONS
