"""Opening a database: engine options, the revision check, and creating what is missing (database §1)."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import (
    Column,
    Engine,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    create_engine,
    event,
    exc,
    func,
    insert,
    inspect,
    make_url,
    select,
)
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import StaticPool

from ..core.errors import HubError
from .base import Base
from .own import OWN_VERSION, OwnBase, OwnVersion

__all__ = [
    "HEAD_REVISION",
    "KNOWN_TABLES",
    "DatabaseDriverMissing",
    "DatabaseRevisionError",
    "DatabaseSchemaError",
    "check_db_revision",
    "create_tables",
    "drop_tables",
    "engine_options",
    "is_memory",
    "make_engine",
    "masked",
    "new_session_factory",
    "normalise_url",
    "read_revision",
]

log = logging.getLogger("jupyterhub")

#: The revision of JupyterHub 6, which we keep (ARCHITECTURE §6).
HEAD_REVISION = "f460b0348206"
#: The chain of migrations that ends there, oldest first (database §8).
REVISIONS = (
    "19c0846f6344",
    "eeb276e51423",
    "af4cbdb2d13c",
    "3ec6993fe20c",
    "1cebaf56856c",
    "56cc5a70207e",
    "99a28a4418e1",
    "d68c98b66cd4",
    "896818069c98",
    "4dc2d5a8c53c",
    "833da8570507",
    "651f5419b74d",
    "0eee8c825d24",
    "3c2384c5aae1",
    "4621fec11365",
    "be8ecf03ddac",
    "afd65840b69e",
    "ff1860e38070",
    HEAD_REVISION,
)
BASE_REVISION = REVISIONS[0]
#: The revision whose schema had services, but no spawners yet.
SERVICES_REVISION = "af4cbdb2d13c"

#: The tables of JupyterHub 6. Fixed here, because plugins hang their own on the same base.
KNOWN_TABLES = tuple(sorted(Base.metadata.tables))

#: Columns that old migrations could not drop on SQLite, and that nobody reads (database §8, no. 4).
_LEFT_OVER = {"users": {"auth_state", "_server_id"}}

alembic_version = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


class DatabaseRevisionError(HubError):
    """The database has another schema revision than this release.

    `can_upgrade` says whether there are migrations from there; `guessed` that the revision is not written
    down but follows from the tables.
    """

    reason = "database-revision"

    def __init__(
        self, found: str | None, url: str = "", wanted: str = HEAD_REVISION, *, guessed: bool = False
    ) -> None:
        self.found = found
        self.wanted = wanted
        self.guessed = guessed
        self.can_upgrade = found in REVISIONS
        if self.can_upgrade:
            way_out = "Back it up, then run `jupyterhub upgrade-db` or start once with --upgrade-db."
        else:
            way_out = "This release does not know that revision: start the release that wrote it."
        super().__init__(
            f"The database {url or 'of the hub'} has the schema revision {found}"
            f"{' (by its tables)' if guessed else ''}, and this release needs {wanted}. Nothing has been changed. "
            f"{way_out}"
        )


class DatabaseSchemaError(HubError):
    """A table of the hub does not have the columns it should have."""

    reason = "database-schema"


class DatabaseDriverMissing(HubError):
    """No driver for this kind of database is installed."""

    reason = "database-driver"


# -- URLs and engines ----------------------------------------------------------------------------------------


def normalise_url(url: str) -> URL:
    """A database URL as it will be opened: a bare path means SQLite, and `postgresql://` finds its driver.

    Raises DatabaseDriverMissing, naming both packages, when no driver for PostgreSQL can be imported.
    """
    if "://" not in url:
        url = f"sqlite:///{url}"
    parsed = make_url(url)
    if parsed.drivername in ("postgresql", "postgres"):
        # SQLAlchemy takes the bare name for psycopg2, so that driver comes first.
        for module, driver in (("psycopg2", "postgresql+psycopg2"), ("psycopg", "postgresql+psycopg")):
            if importlib.util.find_spec(module) is not None:
                return parsed.set(drivername=driver)
        raise DatabaseDriverMissing(
            "A PostgreSQL database needs a driver: install psycopg (`pip install 'psycopg[binary]'`) or psycopg2 "
            "(`pip install psycopg2-binary`)"
        )
    return parsed


def masked(url: URL | str) -> str:
    """A URL for logs and messages, without its password."""
    return make_url(url).render_as_string(hide_password=True)


def is_memory(url: URL) -> bool:
    """Whether this is an SQLite database that lives in memory only."""
    if url.get_backend_name() != "sqlite":
        return False
    name = url.database or ""
    return name in ("", ":memory:") or "mode=memory" in name or url.query.get("mode") == "memory"


def engine_options(url: URL) -> dict[str, Any]:
    """Keyword arguments for `create_engine` that this kind of database needs."""
    backend = url.get_backend_name()
    if is_memory(url):
        return {"connect_args": {"check_same_thread": False}, "poolclass": StaticPool}
    if backend == "sqlite":
        return {"connect_args": {"check_same_thread": False}}
    if backend in ("mysql", "mariadb"):
        return {"pool_recycle": 60}
    if backend == "postgresql" and url.get_driver_name() in ("psycopg", "psycopg2"):
        # A host that vanishes must be noticed, not waited for.
        return {
            "connect_args": {
                "connect_timeout": 10,
                "keepalives_idle": 30,
                "keepalives_interval": 10,
                "keepalives_count": 3,
                "application_name": "jupyterhub",
            }
        }
    return {}


def make_engine(
    url: str | URL,
    *,
    begin: str | None = None,
    on_connect: Callable[[Any], None] | None = None,
    ping: bool = False,
    foreign_keys: bool = True,
    **options: Any,
) -> Engine:
    """An engine with what the kind of database needs; `options` win over that.

    `begin` is an SQLite statement that opens every transaction (by default the driver decides); `on_connect`
    gets each new driver connection; `ping` tests a connection before it is used; without `foreign_keys` SQLite
    does not enforce them, which migrations need in order to rebuild tables. Raises DatabaseDriverMissing.
    """
    parsed = normalise_url(url) if isinstance(url, str) else url
    arguments = engine_options(parsed)
    if "connect_args" in options:
        arguments["connect_args"] = {**arguments.get("connect_args", {}), **options.pop("connect_args")}
    arguments.update(options)
    if ping and not is_memory(parsed):
        arguments.setdefault("pool_pre_ping", True)
    try:
        engine = create_engine(parsed, **arguments)
    except exc.NoSuchModuleError:
        raise DatabaseDriverMissing(
            f"JupyterHub.db_url begins with {parsed.drivername}://, which is no kind of database that is known here"
        ) from None
    except ModuleNotFoundError as error:
        raise DatabaseDriverMissing(
            f"The driver for {parsed.drivername}:// is not installed: {error}. Install it, or name another in JupyterHub.db_url"
        ) from error
    if parsed.get_backend_name() == "sqlite":

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, record: Any) -> None:
            if begin is not None:
                # Without this the driver opens transactions by itself, before the first write only.
                connection.isolation_level = None
            connection.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")

        if begin is not None:

            @event.listens_for(engine, "begin")
            def open_transaction(connection: Any) -> None:
                connection.exec_driver_sql(begin)

    if on_connect is not None:
        told = on_connect

        @event.listens_for(engine, "connect")
        def tell(connection: Any, record: Any) -> None:
            told(connection)

    return engine


# -- revision ------------------------------------------------------------------------------------------------


def read_revision(engine: Engine) -> tuple[str | None, list[str]]:
    """The stored schema revision (None when there is none) and the names of all tables. Changes nothing."""
    with engine.connect() as connection:
        tables = inspect(connection).get_table_names()
        if alembic_version.name not in tables:
            return None, tables
        return connection.scalar(select(alembic_version.c.version_num)), tables


def guess_revision(tables: list[str]) -> str:
    """The revision of a database that does not say one (database §1)."""
    if not set(tables) & set(KNOWN_TABLES) or "spawners" in tables:
        return HEAD_REVISION
    return SERVICES_REVISION if "services" in tables else BASE_REVISION


def stamp(engine: Engine, revision: str) -> None:
    """Write the revision into a database that has none."""
    with engine.begin() as connection:
        alembic_version.create(connection, checkfirst=True)
        connection.execute(insert(alembic_version).values(version_num=revision))


def check_db_revision(engine: Engine) -> None:
    """Refuse a database of another revision, untouched; give an empty one its revision.

    Raises DatabaseRevisionError, or DatabaseSchemaError when one of our tables has other columns than it
    should. Tables of others are no reason for either.
    """
    found, tables = read_revision(engine)
    shown = masked(engine.url)
    if found is not None and found != HEAD_REVISION:
        raise DatabaseRevisionError(found, shown)
    if found is None and guess_revision(tables) != HEAD_REVISION:
        raise DatabaseRevisionError(guess_revision(tables), shown, guessed=True)
    _check_columns(engine, tables, Base.metadata, KNOWN_TABLES)
    _check_columns(engine, tables, OwnBase.metadata, tuple(OwnBase.metadata.tables))
    _check_own_version(engine, tables)
    if found is None:
        stamp(engine, HEAD_REVISION)


def _check_columns(engine: Engine, tables: list[str], metadata: MetaData, ours: tuple[str, ...]) -> None:
    present = [name for name in ours if name in tables]
    if not present:
        return
    reflected = inspect(engine).get_multi_columns(filter_names=present)
    for (_, table), columns in reflected.items():
        found = {column["name"] for column in columns}
        wanted = set(metadata.tables[table].columns.keys())
        foreign = found - wanted - _LEFT_OVER.get(table, set())
        if foreign or wanted - found:
            what = [f"unknown: {', '.join(sorted(foreign))}"] if foreign else []
            what += [f"missing: {', '.join(sorted(wanted - found))}"] if wanted - found else []
            raise DatabaseSchemaError(
                f"The table {table!r} of {masked(engine.url)} is not the hub's own ({'; '.join(what)}). Nothing "
                "has been changed. Point JupyterHub.db_url to a database of its own, or remove what was added."
            )


def _check_own_version(engine: Engine, tables: list[str]) -> None:
    if OwnVersion.__tablename__ not in tables:
        return
    with engine.connect() as connection:
        found = connection.scalar(select(func.max(OwnVersion.version)))
    if found is not None and found > OWN_VERSION:
        raise DatabaseRevisionError(
            f"{OwnVersion.__tablename__} {found}", masked(engine.url), str(OWN_VERSION)
        )


# -- tables --------------------------------------------------------------------------------------------------


def create_tables(engine: Engine) -> None:
    """Create what is missing: the public tables, those that plugins have hung on the base, and our own."""
    present = set(inspect(engine).get_table_names())
    for metadata in (Base.metadata, OwnBase.metadata):
        missing = [table for table in metadata.sorted_tables if table.name not in present]
        if missing:
            metadata.create_all(engine, tables=missing)
    with engine.begin() as connection:
        if connection.scalar(select(func.count()).select_from(OwnVersion)) == 0:
            connection.execute(insert(OwnVersion).values(version=OWN_VERSION))


def drop_tables(engine: Engine) -> None:
    """Drop the hub's tables and ours, but not the revision, and nothing of anybody else's (database §1).

    When somebody else's table refers to one of ours, ours are emptied instead, so that theirs stays whole.
    """
    ours = [*OwnBase.metadata.sorted_tables, *(Base.metadata.tables[name] for name in KNOWN_TABLES)]
    names = {table.name for table in ours}
    order = [
        *reversed(OwnBase.metadata.sorted_tables),
        *(table for table in reversed(Base.metadata.sorted_tables) if table.name in names),
    ]
    keys = inspect(engine).get_multi_foreign_keys()
    referred = any(
        table not in names and key["referred_table"] in names
        for (_, table), found in keys.items()
        for key in found
    )
    present = set(inspect(engine).get_table_names())
    with engine.begin() as connection:
        for table in order:
            if table.name not in present:
                continue
            if referred:
                connection.execute(table.delete())
            else:
                table.drop(connection)


def new_session_factory(
    url: str = "sqlite:///:memory:",
    reset: bool = False,
    expire_on_commit: bool = False,
    **kwargs: Any,
) -> scoped_session[Session]:
    """A factory of sessions on a database whose tables exist afterwards; `kwargs` go to `create_engine`.

    For scripts and tests of plugins (plugins §8.2): the hub itself opens `store.database.Database`. Raises
    DatabaseRevisionError or DatabaseSchemaError.
    """
    engine = make_engine(url, ping=True, **kwargs)
    check_db_revision(engine)
    if reset:
        drop_tables(engine)
    create_tables(engine)
    return scoped_session(sessionmaker(bind=engine, expire_on_commit=expire_on_commit))


def known_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of `db_kwargs`, without the keywords that only SQLAlchemy 1.4 had a choice for."""
    return {name: value for name, value in (options or {}).items() if name != "future"}
