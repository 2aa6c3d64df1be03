"""Rows to values and back. Every function is one transaction; nothing here waits (ARCHITECTURE §9)."""
