"""The database (config §7)."""

from typing import Any

from traitlets import Bool, Dict, HasTraits, Unicode, validate


class DatabaseSettings(HasTraits):
    """Where the Hub keeps what it knows."""

    db_url = Unicode(
        "sqlite:///jupyterhub.sqlite",
        help="""
        URL of the database: SQLite, PostgreSQL, MySQL or MariaDB. A plain path is an SQLite file.

        PostgreSQL is for several Hubs and for many people; SQLite is fine for everything else.
        """,
    ).tag(config=True)
    db_kwargs = Dict(help="Further arguments for SQLAlchemy's create_engine.").tag(config=True)
    debug_db = Bool(False, help="Log every SQL statement.").tag(config=True)
    reset_db = Bool(False, help="Delete all data of the Hub at start. Nothing is asked.").tag(config=True)
    upgrade_db = Bool(
        False, help="Bring an older database to the present schema at start. An SQLite file is backed up first."
    ).tag(config=True)

    @validate("db_url")
    def _check_db_url(self, proposal: Any) -> str:
        url = str(proposal.value)
        return url if "://" in url else f"sqlite:///{url}"
