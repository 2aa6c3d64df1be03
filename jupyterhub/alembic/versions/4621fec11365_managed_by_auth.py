"""Which roles, and which memberships, the authenticator made. The head of release 5."""

import sqlalchemy as sa

from jupyterhub.alembic.steps import add_columns, drop_columns

revision = "4621fec11365"
down_revision = "3c2384c5aae1"

TABLES = ("roles", "user_role_map", "service_role_map", "group_role_map")


def upgrade():
    for table in TABLES:
        add_columns(table, sa.Column("managed_by_auth", sa.Boolean, nullable=False, server_default=sa.sql.false()))


def downgrade():
    for table in TABLES:
        drop_columns(table, "managed_by_auth")
