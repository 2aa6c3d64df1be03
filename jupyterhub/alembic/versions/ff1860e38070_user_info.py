"""What the authenticator tells about a user."""

import sqlalchemy as sa

from jupyterhub.alembic.steps import add_columns, drop_columns

revision = "ff1860e38070"
down_revision = "afd65840b69e"


def upgrade():
    add_columns("users", sa.Column("user_info", sa.Text))


def downgrade():
    drop_columns("users", "user_info")
