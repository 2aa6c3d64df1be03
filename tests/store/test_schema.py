"""The schema is that of JupyterHub 6, to the letter, with our tables beside it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from jupyterhub.orm.engine import HEAD_REVISION, KNOWN_TABLES, normalise_url
from jupyterhub.orm.own import OwnBase
from jupyterhub.store.database import Database

DATA = Path(__file__).parent / "data"
OWN = frozenset(OwnBase.metadata.tables)


def definitions(connection: sqlite3.Connection) -> dict[str, str]:
    """Name → defining statement of every public table and index, white space evened out."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {name: re.sub(r"\s+", " ", sql) for name, sql in rows if "hub7_" not in name}


def test_sqlite_tables_are_defined_exactly_as_by_jupyterhub_6(tmp_path: Path, opened: Callable[..., Database]) -> None:
    theirs = sqlite3.connect(":memory:")
    theirs.executescript((DATA / "release_6.sql").read_text())
    opened(f"sqlite:///{tmp_path}/hub.sqlite").close()
    ours = sqlite3.connect(tmp_path / "hub.sqlite")
    assert definitions(ours) == definitions(theirs)
    assert ours.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD_REVISION,)]
    theirs.close()
    ours.close()


@pytest.mark.engine
def test_postgresql_columns_are_those_of_jupyterhub_6(postgres: object, opened: Callable[..., Database]) -> None:
    """As `\\d` shows them in a database that JupyterHub 6.1 has made."""
    url = postgres.create_database()  # type: ignore[attr-defined]
    opened(url)
    found = describe_postgresql(url)
    expected = (DATA / "release_6_postgresql.txt").read_text().splitlines()
    assert found == expected


def describe_postgresql(url: str) -> list[str]:
    """Columns, constraints and indexes of the public tables, one a line."""
    engine = create_engine(normalise_url(url))
    lines = []
    with engine.connect() as connection:
        for row in connection.execute(
            text(
                "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_default "
                "FROM information_schema.columns WHERE table_schema = 'public' ORDER BY table_name, ordinal_position"
            )
        ):
            lines.append("column " + " ".join(str(part) for part in row))
        for row in connection.execute(
            text(
                "SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint "
                "WHERE connamespace = 'public'::regnamespace AND contype <> 'n' ORDER BY 1::text, 2"
            )
        ):
            lines.append("constraint " + " ".join(str(part) for part in row))
        for row in connection.execute(
            text("SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname")
        ):
            lines.append("index " + " ".join(str(part) for part in row))
    engine.dispose()
    return [line for line in lines if "hub7_" not in line]


def test_no_column_has_a_default_in_the_database(url: str, opened: Callable[..., Database]) -> None:
    database = opened(url)
    inspector = inspect(database.plugin_engine)
    for table in KNOWN_TABLES:
        for column in inspector.get_columns(table):
            default = column["default"]
            assert default is None or (column["name"] == "id" and "nextval" in default), (table, column)


def test_every_foreign_key_of_our_tables_gives_way() -> None:
    """Whatever another program deletes, our rows must not stand in its way."""
    for table in OwnBase.metadata.tables.values():
        assert table.name.startswith("hub7_")
        for key in table.foreign_keys:
            assert key.ondelete in ("CASCADE", "SET NULL"), key


def test_dropping_our_tables_leaves_a_database_that_opens_again(url: str, opened: Callable[..., Database]) -> None:
    if ":memory:" in url:
        return
    database = opened(url)
    with database.plugin_engine.begin() as connection:
        for table in reversed(OwnBase.metadata.sorted_tables):
            connection.execute(text(f"DROP TABLE {table.name}"))
    database.close()
    again = opened(url)
    assert set(inspect(again.plugin_engine).get_table_names()) >= OWN
