"""Scopes: what they are called, what they contain, and whether they cover something."""
