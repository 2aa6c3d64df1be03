"""Encrypted authentication state; addresses of the hub and the proxy are no longer kept."""

import sqlalchemy as sa
from alembic import op

from jupyterhub.alembic.steps import add_columns, drop_columns, drop_tables, has_table, is_sqlite

revision = "3ec6993fe20c"
down_revision = "af4cbdb2d13c"


def upgrade():
    drop_tables("proxies", "hubs")
    if not is_sqlite():
        # SQLite cannot drop a column that a foreign key uses; what remains there is ignored.
        for key in sa.inspect(op.get_bind()).get_foreign_keys("users") if has_table("users") else ():
            if key["constrained_columns"] == ["_server_id"] and key["name"]:
                op.drop_constraint(key["name"], "users", type_="foreignkey")
        drop_columns("users", "auth_state", "_server_id")
    add_columns("users", sa.Column("encrypted_auth_state", sa.LargeBinary))


def downgrade():
    drop_columns("users", "encrypted_auth_state")
    add_columns("users", sa.Column("auth_state", sa.Text), sa.Column("_server_id", sa.Integer))
