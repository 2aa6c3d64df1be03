"""Servers and services refer to their OAuth client. Tokens of both kinds become one, and are made anew."""

import sqlalchemy as sa
from alembic import op

from jupyterhub.alembic.steps import columns_of, drop_columns, drop_tables, has_table, is_sqlite

revision = "833da8570507"
down_revision = "4dc2d5a8c53c"


def upgrade():
    for table in ("services", "spawners"):
        if not has_table(table) or "oauth_client_id" in columns_of(table):
            continue
        name = f"fk_{table}_oauth_client_id_oauth_clients"
        if is_sqlite():
            # The one moment at which SQLite takes a foreign key for an old table: with the column.
            op.execute(
                f"ALTER TABLE {table} ADD COLUMN oauth_client_id VARCHAR(255) "
                f"CONSTRAINT {name} REFERENCES oauth_clients (identifier) ON DELETE SET NULL"
            )
            continue
        op.add_column(table, sa.Column("oauth_client_id", sa.Unicode(255)))
        if has_table("oauth_clients"):
            op.create_foreign_key(
                name, table, "oauth_clients", ["oauth_client_id"], ["identifier"], ondelete="SET NULL"
            )
    # Tokens before 2.0 say neither their client nor what they may do. They are made again at the next start.
    drop_tables("api_tokens", "oauth_access_tokens")


def downgrade():
    for table in ("services", "spawners"):
        if not is_sqlite() and has_table(table):
            op.drop_constraint(f"fk_{table}_oauth_client_id_oauth_clients", table, type_="foreignkey")
        drop_columns(table, "oauth_client_id")
    drop_tables("api_tokens", "oauth_access_tokens")
