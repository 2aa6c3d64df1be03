"""Tokens may expire."""

import sqlalchemy as sa

from jupyterhub.alembic.steps import add_columns, drop_columns

revision = "896818069c98"
down_revision = "d68c98b66cd4"


def upgrade():
    add_columns("api_tokens", sa.Column("expires_at", sa.DateTime))


def downgrade():
    drop_columns("api_tokens", "expires_at")
