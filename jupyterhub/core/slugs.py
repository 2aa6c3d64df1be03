"""Names that are safe in URLs, DNS labels and file names, and still readable (config §11)."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Final

__all__ = [
    "MAX_DISPLAY_NAME",
    "MAX_SLUG",
    "is_valid_display_name",
    "is_valid_safe_slug",
    "is_valid_simple_name",
    "normalise_unicode",
    "safe_slug",
]

MAX_SLUG: Final = 30
MAX_DISPLAY_NAME: Final = 255
_HASH_DIGITS: Final = 8

_SIMPLE_NAME: Final = re.compile(r"[a-z][a-z0-9]*")
_SAFE_SLUG: Final = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_UNSAFE_RUN: Final = re.compile(r"[^a-z0-9]+")


def is_valid_safe_slug(name: str, max_length: int = MAX_SLUG) -> bool:
    """Lower-case ASCII letters, digits and single hyphens;

    first a letter, last no hyphen. Names of servers.
    """
    return len(name) <= max_length and _SAFE_SLUG.fullmatch(name) is not None


def is_valid_simple_name(name: str, max_length: int = MAX_SLUG) -> bool:
    """A safe slug without hyphens."""
    return len(name) <= max_length and _SIMPLE_NAME.fullmatch(name) is not None


def normalise_unicode(text: str) -> str:
    """The composed form (NFC), so that what looks the same compares the same."""
    return unicodedata.normalize("NFC", text)


def is_valid_display_name(name: str) -> bool:
    """1 to 255 printable characters after normalisation, with single spaces inside only."""
    text = normalise_unicode(name)
    if not 1 <= len(text) <= MAX_DISPLAY_NAME or text != text.strip(" ") or "  " in text:
        return False
    return all(character == " " or unicodedata.category(character)[0] in "LMNPS" for character in text)


def safe_slug(name: str, avoid_collisions: bool = True, max_length: int = MAX_SLUG) -> str:
    """A slug for any name; the same name always gives the same slug.

    With `avoid_collisions`, a name that is not a simple one gets eight digits of its hash, so that two names
    do not share a slug. Raises ValueError for an empty name, or when `max_length` leaves no room for the
    hash.
    """
    if not name:
        raise ValueError("An empty name has no slug")
    if is_valid_simple_name(name, max_length):
        return name
    if not avoid_collisions:
        return _readable_part(name, max_length)
    room = max_length - _HASH_DIGITS - 1
    if room < 1:
        raise ValueError(f"A slug with a hash needs at least {_HASH_DIGITS + 2} characters, not {max_length}")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{_readable_part(name, room)}-{digest[:_HASH_DIGITS]}"


def _readable_part(name: str, length: int) -> str:
    decomposed = unicodedata.normalize("NFKD", name)
    base = "".join(character for character in decomposed if unicodedata.category(character) != "Mn")
    text = _UNSAFE_RUN.sub("-", base.lower()).lstrip("-")[:length]
    if text and not text[0].isalpha():
        text = "x-" + text[: max(length - 2, 0)]
    return text.rstrip("-") or "x"
