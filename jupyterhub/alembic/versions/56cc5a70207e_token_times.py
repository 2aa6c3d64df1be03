"""When a token was made and used, and what for; tokens and codes refer to their client."""

import sqlalchemy as sa
from alembic import op

from jupyterhub.alembic.steps import add_columns, columns_of, drop_columns, has_table, is_sqlite

revision = "56cc5a70207e"
down_revision = "1cebaf56856c"


def upgrade():
    add_columns(
        "api_tokens",
        sa.Column("created", sa.DateTime),
        sa.Column("last_activity", sa.DateTime),
        sa.Column("note", sa.Unicode(1023)),
    )
    add_columns("oauth_access_tokens", sa.Column("created", sa.DateTime), sa.Column("last_activity", sa.DateTime))
    if is_sqlite():
        # A foreign key cannot be added to a table of SQLite.
        return
    for table in ("oauth_access_tokens", "oauth_codes"):
        if "client_id" in columns_of(table) and has_table("oauth_clients"):
            op.create_foreign_key(
                f"fk_{table}_client_id_oauth_clients",
                table,
                "oauth_clients",
                ["client_id"],
                ["identifier"],
                ondelete="CASCADE",
            )


def downgrade():
    if not is_sqlite():
        for table in ("oauth_access_tokens", "oauth_codes"):
            if has_table(table):
                op.drop_constraint(f"fk_{table}_client_id_oauth_clients", table, type_="foreignkey")
    drop_columns("oauth_access_tokens", "created", "last_activity")
    drop_columns("api_tokens", "created", "last_activity", "note")
