"""Databases for the tests of the store: an SQLite file, SQLite in memory, and a real PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from jupyterhub import orm
from jupyterhub.core.roles import default_roles
from jupyterhub.store.database import Database

from .postgres import PACKAGE, Cluster, find_programs


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    programs = find_programs()
    if programs is None:
        pytest.skip(f"not run: needs PostgreSQL; install the package {PACKAGE}")
    cluster = Cluster(programs)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.engine)


@pytest.fixture
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Make empty databases of a kind; those of PostgreSQL are dropped after the test."""
    made: list[str] = []

    def make(kind: str, template: str = "template1") -> str:
        if kind == "memory":
            return "sqlite:///:memory:"
        if kind == "sqlite":
            return f"sqlite:///{tmp_path}/hub.sqlite"
        made.append(request.getfixturevalue("postgres").create_database(template=template))
        return made[-1]

    yield make
    for url in made:
        request.getfixturevalue("postgres").drop_database(url)


@pytest.fixture(params=["sqlite", "memory", POSTGRESQL])
def url(request: pytest.FixtureRequest, new_url: Callable[[str], str]) -> str:
    """The URL of an empty database, one test per kind."""
    return new_url(request.param)


@pytest.fixture(params=["sqlite", POSTGRESQL])
def served_url(request: pytest.FixtureRequest, new_url: Callable[[str], str]) -> str:
    """The URL of an empty database that several connections can share."""
    return new_url(request.param)


@pytest.fixture
def opened() -> Iterator[Callable[..., Database]]:
    """Open databases that are closed after the test."""
    databases = []

    def open_database(url: str, **options: object) -> Database:
        database = Database.open(url, **options)  # type: ignore[arg-type]
        databases.append(database)
        return database

    yield open_database
    for database in reversed(databases):
        database.close()


@pytest.fixture(scope="session")
def furnished_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the default roles and the hub's own client, as after a first start. Copied for each test."""
    path = tmp_path_factory.mktemp("template") / "hub.sqlite"
    database = Database.open(f"sqlite:///{path}")
    database.run_sync(furnish)
    database.close()
    return path


@pytest.fixture(scope="session")
def furnished_template(postgres: Cluster) -> str:
    """The name of a database like `furnished_file`, copied for each test."""
    url = postgres.create_database()
    database = Database.open(url)
    database.run_sync(furnish)
    database.close()
    return url.rpartition("/")[2]


@pytest.fixture
def furnished_url(request: pytest.FixtureRequest, tmp_path: Path, new_url: Callable[..., str]) -> Callable[[str], str]:
    """Make databases of a kind like `furnished_file`; in memory there is nothing to copy."""

    def make(kind: str) -> str:
        if kind == "sqlite":
            shutil.copy(request.getfixturevalue("furnished_file"), tmp_path / "hub.sqlite")
        if kind == "postgresql":
            return new_url(kind, request.getfixturevalue("furnished_template"))
        return new_url(kind)

    return make


@pytest.fixture(params=["sqlite", "memory", POSTGRESQL])
def database(
    request: pytest.FixtureRequest, furnished_url: Callable[[str], str], opened: Callable[..., Database]
) -> Database:
    """A database with the default roles and the hub's own client, as after a first start; one test per kind."""
    database = opened(furnished_url(request.param))
    if request.param == "memory":
        database.run_sync(furnish)
    return database


@pytest.fixture(params=["sqlite", POSTGRESQL])
def served(
    request: pytest.FixtureRequest, furnished_url: Callable[[str], str], opened: Callable[..., Database]
) -> Database:
    """Like `database`, but never in memory."""
    return opened(furnished_url(request.param))


def furnish(session: Session) -> None:
    """What every start of a hub makes sure of."""
    session.add(orm.OAuthClient(identifier="jupyterhub", description="", secret="", redirect_uri=""))
    for role in default_roles():
        session.add(orm.Role(name=role["name"], description=role["description"], scopes=role["scopes"]))
