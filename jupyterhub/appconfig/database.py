"""The database (config §7)."""

from typing import Any

from traitlets import Bool, Dict, Unicode, validate

from ..traitlets import TopicTraits


class DatabaseSettings(TopicTraits):
    """Where the Hub keeps what it knows."""

    db_url = Unicode(
        "sqlite:///jupyterhub.sqlite",
        help="""
        The URL of the database, as SQLAlchemy writes them: SQLite, PostgreSQL, MySQL or MariaDB.

        A value without '://' is the path of an SQLite file. One SQLite file serves one Hub and thousands of
        people; for several Hubs take PostgreSQL.
        """,
    ).tag(config=True)

    db_kwargs = Dict(
        help="Further arguments for SQLAlchemy's `create_engine`; they win over the Hub's own."
    ).tag(config=True)

    debug_db = Bool(False, help="Write every SQL statement to the log.").tag(config=True)

    reset_db = Bool(
        False, help="Delete everything the Hub has in its database when it starts. Nobody is asked again."
    ).tag(config=True)

    upgrade_db = Bool(
        False,
        help="""
        When the database is that of an older release, bring it up to date at start.

        An SQLite file is copied first; back up other databases yourself. Without this, an old database is
        refused, and `jupyterhub upgrade-db` does the same by hand.
        """,
    ).tag(config=True)

    @validate("db_url")
    def _check_db_url(self, proposal: Any) -> str:
        url = str(proposal.value)
        return url if "://" in url else f"sqlite:///{url}"
