"""How long to wait for a service."""

import sqlalchemy as sa

from jupyterhub.alembic.steps import add_columns, drop_columns

revision = "be8ecf03ddac"
down_revision = "4621fec11365"


def upgrade():
    add_columns("services", sa.Column("timeout", sa.Integer, nullable=False, server_default="30"))


def downgrade():
    drop_columns("services", "timeout")
