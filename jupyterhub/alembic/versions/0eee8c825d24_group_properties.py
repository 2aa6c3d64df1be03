"""Properties of groups."""

import sqlalchemy as sa
from alembic import op

from jupyterhub.alembic.steps import add_columns, columns_of, drop_columns

revision = "0eee8c825d24"
down_revision = "651f5419b74d"


def upgrade():
    add_columns("groups", sa.Column("properties", sa.Text))
    if "properties" in columns_of("groups"):
        # The table's name is a word of MySQL's language, so it must be quoted.
        groups = sa.table("groups", sa.column("properties"))
        op.get_bind().execute(sa.update(groups).where(groups.c.properties.is_(None)).values(properties="{}"))


def downgrade():
    drop_columns("groups", "properties")
