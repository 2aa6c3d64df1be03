"""Services hold their definition, so that they can be made through the API."""

import sqlalchemy as sa
from alembic import op

from jupyterhub.alembic.steps import add_columns, columns_of, drop_columns

revision = "3c2384c5aae1"
down_revision = "0eee8c825d24"

COLUMNS = {
    "from_config": sa.Boolean,
    "url": sa.Unicode(2047),
    "oauth_client_allowed_scopes": sa.Text,
    "info": sa.Text,
    "display": sa.Boolean,
    "oauth_no_confirm": sa.Boolean,
    "command": sa.Text,
    "cwd": sa.Unicode(2047),
    "environment": sa.Text,
    "user": sa.Unicode(255),
}


def upgrade():
    add_columns("services", *(sa.Column(name, kind) for name, kind in COLUMNS.items()))
    if columns_of("services"):
        services = sa.table("services", sa.column("from_config", sa.Boolean))
        op.get_bind().execute(sa.update(services).where(services.c.from_config.is_(None)).values(from_config=True))


def downgrade():
    drop_columns("services", *COLUMNS)
