"""Tokens, codes and OAuth clients hold scopes of their own, taken from the roles they had."""

import json

import sqlalchemy as sa
from alembic import op

from jupyterhub.alembic.steps import add_columns, columns_of, drop_columns, drop_tables, has_table

revision = "651f5419b74d"
down_revision = "833da8570507"

#: table → (its column of scopes, its map to roles, the map's column)
SCOPED = {
    "api_tokens": ("scopes", "api_token_role_map", "api_token_id"),
    "oauth_codes": ("scopes", "oauth_code_role_map", "oauth_code_id"),
    "oauth_clients": ("allowed_scopes", "oauth_client_role_map", "oauth_client_id"),
}


def upgrade():
    for table, (column, role_map, owner) in SCOPED.items():
        add_columns(table, sa.Column(column, sa.Text))
        if not columns_of(table):
            continue
        rows = sa.table(table, sa.column("id"), sa.column(column))
        connection = op.get_bind()
        connection.execute(sa.update(rows).where(rows.c[column].is_(None)).values({column: "[]"}))
        if not columns_of(role_map) or not has_table("roles"):
            continue
        granted = {}
        for row_id, scopes in connection.execute(
            sa.text(f"SELECT m.{owner}, r.scopes FROM {role_map} m JOIN roles r ON r.id = m.role_id")
        ):
            granted.setdefault(row_id, set()).update(json.loads(scopes or "[]"))
        for row_id, scopes in granted.items():
            connection.execute(sa.update(rows).where(rows.c.id == row_id).values({column: json.dumps(sorted(scopes))}))
    drop_tables(*(role_map for _, role_map, _ in SCOPED.values()))


def downgrade():
    for table, (column, _, _) in SCOPED.items():
        drop_columns(table, column)
