"""Tokens may belong to services."""

import sqlalchemy as sa

from jupyterhub.alembic.steps import add_columns, drop_columns

revision = "af4cbdb2d13c"
down_revision = "eeb276e51423"


def upgrade():
    add_columns("api_tokens", sa.Column("service_id", sa.Integer))


def downgrade():
    drop_columns("api_tokens", "service_id")
