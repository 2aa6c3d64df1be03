"""Schema upgrades and backups (database §1, §8). Alembic is imported only when there is something to do."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy.engine import make_url

log = logging.getLogger("jupyterhub")

ALEMBIC_DIR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "alembic")


def write_alembic_ini(alembic_ini: str, db_url: str = "sqlite:///jupyterhub.sqlite") -> None:
    """Write a configuration file for the migration tool."""
    with open(alembic_ini, "w", encoding="utf-8") as file:
        file.write(
            f"[alembic]\nscript_location = {ALEMBIC_DIR.replace('%', '%%')}\n"
            f"sqlalchemy.url = {db_url.replace('%', '%%')}\n"
        )


@contextmanager
def _temp_alembic_ini(db_url: str) -> Iterator[str]:
    """Give the path of a configuration file that lives as long as the context."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "alembic.ini")
        write_alembic_ini(path, db_url)
        yield path


def upgrade(db_url: str, revision: str = "head") -> None:
    """Run the migrations up to a revision."""
    from alembic import command
    from alembic.config import Config

    with _temp_alembic_ini(db_url) as path:
        command.upgrade(Config(path), revision)


def backup_db_file(db_file: str, log: Any = log) -> str:
    """Copy an SQLite database with its own backup call, which also sees what the log still holds.

    Returns the path of the copy. Raises OSError when there are ten copies of this second already.
    """
    stamp = datetime.now().strftime("%Y-%m-%d-%H%M%S")
    candidates = [f"{db_file}.{stamp}", *(f"{db_file}..{stamp}.{number}" for number in range(1, 10))]
    target = next((path for path in candidates if not os.path.exists(path)), None)
    if target is None:
        raise OSError(f"There is no free name for a backup of {db_file}")
    source, copy = sqlite3.connect(db_file), sqlite3.connect(target)
    try:
        source.backup(copy)
    finally:
        source.close()
        copy.close()
    log.info("Backed up %s to %s", db_file, target)
    return target


def upgrade_if_needed(
    db_url: str, backup: bool = True, log: Any = log, *, engine_kwargs: Mapping[str, Any] | None = None
) -> None:
    """Bring a database to the present schema, after a backup of an SQLite file. Does nothing where nothing is to do."""
    from .orm import engine as engines

    url = engines.normalise_url(db_url)
    probe = engines.make_engine(url, **dict(engine_kwargs or {}))
    try:
        engines.check_db_revision(probe)
        return
    except engines.NotStamped:
        engines.stamp(probe, engines.HEAD_REVISION)
        return
    except engines.DatabaseRevisionError as error:
        log.info("Upgrading the database: %s", error)
    finally:
        probe.dispose()
    if backup and make_url(db_url).get_backend_name() == "sqlite" and url.database:
        backup_db_file(url.database, log)
    upgrade(db_url)


def shell(args: Any = None) -> None:
    """Open an interactive shell with `db`, `db_url` and `orm`."""
    import code

    from . import orm
    from .app import JupyterHub

    hub = JupyterHub()
    hub.load_configuration()
    factory = orm.new_session_factory(hub.db_url, **dict(hub.db_kwargs))
    code.interact(local={"db": factory(), "db_url": hub.db_url, "orm": orm})


def _alembic(args: list[str]) -> None:
    from alembic.config import main as alembic_main

    from .app import JupyterHub

    hub = JupyterHub()
    hub.load_configuration()
    with _temp_alembic_ini(hub.db_url) as path:
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
