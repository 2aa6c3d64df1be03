"""Codes may be bound to whoever asked for them (PKCE)."""

import sqlalchemy as sa

from jupyterhub.alembic.steps import add_columns, drop_columns

revision = "afd65840b69e"
down_revision = "be8ecf03ddac"


def upgrade():
    add_columns(
        "oauth_codes",
        sa.Column("code_challenge", sa.Unicode(255)),
        sa.Column("code_challenge_method", sa.Unicode(64)),
    )


def downgrade():
    drop_columns("oauth_codes", "code_challenge", "code_challenge_method")
