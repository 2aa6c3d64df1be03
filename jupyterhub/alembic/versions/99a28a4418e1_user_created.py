"""When users were made and servers were started."""

import sqlalchemy as sa
from alembic import op

from jupyterhub.alembic.steps import add_columns, columns_of, drop_columns

revision = "99a28a4418e1"
down_revision = "56cc5a70207e"


def upgrade():
    add_columns("users", sa.Column("created", sa.DateTime))
    add_columns("spawners", sa.Column("started", sa.DateTime))
    if {"last_activity", "created"} <= columns_of("users"):
        op.execute("UPDATE users SET created = last_activity WHERE created IS NULL")
    if {"last_activity", "server_id"} <= columns_of("spawners"):
        op.execute("UPDATE spawners SET started = last_activity WHERE server_id IS NOT NULL AND started IS NULL")


def downgrade():
    drop_columns("users", "created")
    drop_columns("spawners", "started")
