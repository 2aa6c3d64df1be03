"""Names of servers for people. The head of release 6, and ours."""

import sqlalchemy as sa

from jupyterhub.alembic.steps import add_columns, drop_columns

revision = "f460b0348206"
down_revision = "ff1860e38070"


def upgrade():
    add_columns("spawners", sa.Column("display_name", sa.Unicode(255)))


def downgrade():
    drop_columns("spawners", "display_name")
