"""What the migrations have in common: steps that do nothing where there is nothing to do.

Tables that a release added are made at the next start, not by its migration, so a migration may meet a database
without them; and a migration that was interrupted on MySQL, which cannot take one back, is simply run again.
"""

from alembic import op
from sqlalchemy import inspect


def has_table(table):
    return table in inspect(op.get_bind()).get_table_names()


def columns_of(table):
    return {column["name"] for column in inspect(op.get_bind()).get_columns(table)} if has_table(table) else set()


def add_columns(table, *columns):
    """Add those columns of a table that are not there; a table that is missing will be made whole later."""
    present = columns_of(table)
    if not present:
        return
    for column in columns:
        if column.name not in present:
            op.add_column(table, column)


def drop_columns(table, *names):
    """Drop those columns of a table that are there."""
    present = columns_of(table)
    for name in names:
        if name in present:
            op.drop_column(table, name)


def drop_tables(*names):
    for name in names:
        if has_table(name):
            op.drop_table(name)


def is_sqlite():
    return op.get_bind().dialect.name == "sqlite"
