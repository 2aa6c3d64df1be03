"""The options a server was last started with."""

import sqlalchemy as sa

from jupyterhub.alembic.steps import add_columns, drop_columns

revision = "4dc2d5a8c53c"
down_revision = "896818069c98"


def upgrade():
    add_columns("spawners", sa.Column("user_options", sa.Text))


def downgrade():
    drop_columns("spawners", "user_options")
