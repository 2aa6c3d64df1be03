"""Schema upgrades and backups (database §1, §8). Alembic is imported only when there is something to do."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

__all__ = ["ALEMBIC_DIR", "backup_db_file", "main", "shell", "upgrade", "upgrade_if_needed", "write_alembic_ini"]

log = logging.getLogger("jupyterhub")

ALEMBIC_DIR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "alembic")


def write_alembic_ini(alembic_ini: str = "alembic.ini", db_url: str = "sqlite:///jupyterhub.sqlite") -> None:
    """Write a configuration file for the migration tool, readable for nobody else: the URL may hold a password."""
    descriptor = os.open(alembic_ini, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        # A percent sign would begin an interpolation.
        file.write(
            f"[alembic]\nscript_location = {ALEMBIC_DIR.replace('%', '%%')}\n"
            f"sqlalchemy.url = {db_url.replace('%', '%%')}\n"
        )


@contextmanager
def _configuration_file(db_url: str) -> Iterator[str]:
    """The path of a configuration file that lives as long as the context."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "alembic.ini")
        write_alembic_ini(path, db_url)
        yield path


#: The name under which plugins with migrations of their own know it (plugins §11).
_temp_alembic_ini = _configuration_file


def _migrate(db_url: str, revision: str, engine_kwargs: Mapping[str, Any] | None, *, down: bool) -> None:
    from alembic import command
    from alembic.config import Config

    from .orm import engine as engines

    url = engines.normalise_url(db_url)
    options = engines.known_options(engine_kwargs)
    engine = engines.make_engine(url, begin="BEGIN IMMEDIATE", foreign_keys=False, **options)
    config = Config()
    config.set_main_option("script_location", ALEMBIC_DIR.replace("%", "%%"))
    try:
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            (command.downgrade if down else command.upgrade)(config, revision)
    finally:
        engine.dispose()


def upgrade(db_url: str, revision: str = "head", *, engine_kwargs: Mapping[str, Any] | None = None) -> None:
    """Run the migrations up to a revision, each in a transaction of its own. Nothing is backed up."""
    _migrate(db_url, revision, engine_kwargs, down=False)


def downgrade(db_url: str, revision: str, *, engine_kwargs: Mapping[str, Any] | None = None) -> None:
    """Take migrations back down to a revision, in order to hand the database to an older release."""
    _migrate(db_url, revision, engine_kwargs, down=True)


def backup_db_file(db_file: str, log: Any = log) -> str:
    """Copy an SQLite database with its own backup call, which also sees what a write-ahead log still holds.

    Returns the path of the copy, ``<file>.YYYY-MM-DD-HHMMSS`` in local time. Raises OSError when ten copies of
    this second are there already.
    """
    stamp = datetime.now().strftime("%Y-%m-%d-%H%M%S")
    candidates = [f"{db_file}.{stamp}", *(f"{db_file}..{stamp}.{number}" for number in range(1, 10))]
    target = next((path for path in candidates if not os.path.exists(path)), None)
    if target is None:
        raise OSError(f"There is no free name for a backup of {db_file}: the last one tried is {candidates[-1]}")
    # Nobody may read more in the copy than in the original.
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, Path(db_file).stat().st_mode & 0o777))
    with closing(sqlite3.connect(db_file)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
    log.info("The database %s is backed up to %s", db_file, target)
    return target


def upgrade_if_needed(
    db_url: str, backup: bool = True, log: Any = log, *, engine_kwargs: Mapping[str, Any] | None = None
) -> None:
    """Bring a database to the present schema, after a backup of an SQLite file (not of others).

    Does nothing where the schema is current; an empty database only gets its revision. Raises
    DatabaseRevisionError, with nothing changed, when there is no migration from its revision.
    """
    from .orm import engine as engines

    url = engines.normalise_url(db_url)
    engine = engines.make_engine(url, **engines.known_options(engine_kwargs))
    try:
        engines.check_db_revision(engine)
        return
    except engines.DatabaseRevisionError as error:
        if not error.can_upgrade or error.found is None:
            raise
        log.info("The database is upgraded from the schema revision %s to %s", error.found, error.wanted)
        if backup and url.get_backend_name() == "sqlite" and url.database and not engines.is_memory(url):
            backup_db_file(url.database, log)
        if error.guessed:
            engines.stamp(engine, error.found)
    finally:
        engine.dispose()
    upgrade(db_url, engine_kwargs=engine_kwargs)


def _configured_url() -> tuple[str, dict[str, Any]]:
    """The URL and the engine options of the configuration in the current directory.

    The one look upwards of this layer: run as a program, this module is above everything.
    """
    from .app import JupyterHub

    hub = JupyterHub()
    hub.load_configuration()
    return hub.db_url, dict(hub.db_kwargs)


def shell(args: Any = None) -> None:
    """Open an interactive shell with `db`, `db_url` and `orm`."""
    import code

    from . import orm

    db_url, options = _configured_url()
    factory = orm.new_session_factory(db_url, **options)
    code.interact(local={"db": factory(), "db_url": db_url, "orm": orm})


def _alembic(args: list[str]) -> None:
    from alembic.config import main as alembic_main

    db_url, _ = _configured_url()
    with _configuration_file(db_url) as path:
        alembic_main(argv=["-c", path, *args])


def main(args: list[str] | None = None) -> None:
    """`python -m jupyterhub.dbutil shell|alembic ARGS`."""
    args = sys.argv[1:] if args is None else args
    if args and args[0] == "shell":
        shell(args[1:])
    elif args and args[0] == "alembic":
        _alembic(args[1:])
    else:
        print("Choose: shell, or alembic ARGS", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
