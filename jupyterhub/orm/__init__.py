"""The tables of the hub, by the names that plugins know (plugins §8.2).

`from jupyterhub import orm` gives every model, and the few names of SQLAlchemy that are reached through here.
Rows are rows: what the hub itself does with them is in `jupyterhub.store`.
"""

import sqlalchemy

# Packages that need an older one (services, for the most part) can be installed beside this one: only the Hub uses it.
if sqlalchemy.__version__.startswith(("0.", "1.")):
    raise ImportError(
        f"The Hub needs SQLAlchemy 2.0 or newer, and {sqlalchemy.__version__} is installed. "
        "Upgrade it with: pip install 'SQLAlchemy>=2'. If another package forbids that, "
        "give the Hub an environment of its own."
    )

from sqlalchemy import Boolean, Column, DateTime, ForeignKey, Integer, Unicode
from sqlalchemy.orm import relationship

from .base import Base, Expiring, Hashed, JSONDict, JSONList
from .grants import Role, group_role_map, service_role_map, user_role_map
from .oauth import OAuthClient, OAuthCode
from .servers import Server, Spawner
from .services import Service
from .shares import Share, ShareCode
from .tokens import APIToken
from .users import Group, User, user_group_map

# After the models: it takes the list of known tables from the metadata.
from .engine import (  # isort: skip
    DatabaseDriverMissing,
    DatabaseRevisionError,
    DatabaseSchemaError,
    check_db_revision,
    new_session_factory,
)

#: The name by which older code catches it.
DatabaseSchemaMismatch = DatabaseRevisionError

__all__ = [
    "APIToken",
    "Base",
    "Boolean",
    "Column",
    "DatabaseDriverMissing",
    "DatabaseRevisionError",
    "DatabaseSchemaError",
    "DatabaseSchemaMismatch",
    "DateTime",
    "Expiring",
    "ForeignKey",
    "Group",
    "Hashed",
    "Integer",
    "JSONDict",
    "JSONList",
    "OAuthClient",
    "OAuthCode",
    "Role",
    "Server",
    "Service",
    "Share",
    "ShareCode",
    "Spawner",
    "Unicode",
    "User",
    "check_db_revision",
    "group_role_map",
    "new_session_factory",
    "relationship",
    "service_role_map",
    "user_group_map",
    "user_role_map",
]
