"""Properties of groups."""

import sqlalchemy as sa
from alembic import op

from jupyterhub.alembic.steps import add_columns, columns_of, drop_columns

revision = "0eee8c825d24"
down_revision = "651f5419b74d"


def upgrade():
    add_columns("groups", sa.Column("properties", sa.Text))
    if "properties" in columns_of("groups"):
        op.execute("UPDATE groups SET properties = '{}' WHERE properties IS NULL")


def downgrade():
    drop_columns("groups", "properties")
