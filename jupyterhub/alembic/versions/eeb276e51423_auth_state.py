"""Authentication state of users."""

import sqlalchemy as sa

from jupyterhub.alembic.steps import add_columns, drop_columns

revision = "eeb276e51423"
down_revision = "19c0846f6344"


def upgrade():
    add_columns("users", sa.Column("auth_state", sa.Text))


def downgrade():
    drop_columns("users", "auth_state")
