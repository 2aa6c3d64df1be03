"""What an OAuth client is, for people."""

import sqlalchemy as sa

from jupyterhub.alembic.steps import add_columns, drop_columns

revision = "d68c98b66cd4"
down_revision = "99a28a4418e1"


def upgrade():
    add_columns("oauth_clients", sa.Column("description", sa.Unicode(1023)))


def downgrade():
    drop_columns("oauth_clients", "description")
