"""OAuth tokens and codes know the browser session they were made in."""

import sqlalchemy as sa

from jupyterhub.alembic.steps import add_columns, drop_columns

revision = "1cebaf56856c"
down_revision = "3ec6993fe20c"

TABLES = ("oauth_access_tokens", "oauth_codes")


def upgrade():
    for table in TABLES:
        add_columns(table, sa.Column("session_id", sa.Unicode(255)))


def downgrade():
    for table in TABLES:
        drop_columns(table, "session_id")
