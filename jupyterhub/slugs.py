"""Readable, safe names. Kept here for code that imports jupyterhub.slugs."""

from __future__ import annotations

from .core.slugs import (
    is_valid_display_name,
    is_valid_safe_slug,
    is_valid_simple_name,
    normalise_unicode,
    safe_slug,
)

__all__ = [
    "is_valid_display_name",
    "is_valid_safe_slug",
    "is_valid_simple_name",
    "normalise_unicode",
    "safe_slug",
]
