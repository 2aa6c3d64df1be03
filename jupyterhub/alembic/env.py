"""Runs the migrations: each in its own transaction, on the connection that `dbutil` passes or on the configured URL."""

from alembic import context
from sqlalchemy import pool

from jupyterhub.orm import Base
from jupyterhub.orm.engine import make_engine

config = context.config


def run(connection=None, url=None):
    context.configure(
        connection=connection,
        url=url,
        target_metadata=Base.metadata,
        transaction_per_migration=True,
        # Our connections open transactions themselves, so that SQLite takes back a migration that fails half-way.
        transactional_ddl=True,
        literal_binds=connection is None,
    )
    with context.begin_transaction():
        context.run_migrations()


def main():
    if context.is_offline_mode():
        run(url=config.get_main_option("sqlalchemy.url"))
        return
    passed = config.attributes.get("connection")
    if passed is not None:
        run(connection=passed)
        return
    engine = make_engine(
        config.get_main_option("sqlalchemy.url"), begin="BEGIN IMMEDIATE", poolclass=pool.NullPool, foreign_keys=False
    )
    with engine.connect() as connection:
        run(connection=connection)


main()
