"""Rows to values and back. Every function is one transaction; nothing here waits (ARCHITECTURE §9)."""

# The tables come before anything else of SQLAlchemy: they say what is wrong where it is too old.
from .. import orm as orm
