"""Making, hashing and comparing tokens and codes (database §4)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
from typing import Final

from .errors import InvalidRequest

__all__ = [
    "GENERATED_ROUNDS",
    "PREFIX_LENGTH",
    "TOKEN_LENGTHS",
    "USER_PROVIDED_ROUNDS",
    "check_token_text",
    "compare_token",
    "constant_time_equal",
    "fingerprint",
    "hash_token",
    "new_code",
    "new_share_code",
    "new_token",
    "token_prefix",
]

GENERATED_ROUNDS: Final = 1
"""For secrets made here: they are long and random, so guessing from the hash is hopeless already."""

USER_PROVIDED_ROUNDS: Final = 16384
"""For secrets that people chose, tokens a spawner brings, and secrets of OAuth clients."""

PREFIX_LENGTH: Final = 4
TOKEN_LENGTHS: Final = (8, 64)
"""Shortest and longest token that can be stored."""

_ALPHANUMERIC: Final = string.ascii_letters + string.digits
_CHUNK: Final = 1024


def new_token() -> str:
    """32 random hex digits."""
    return secrets.token_hex(16)


def new_code(length: int = 30) -> str:
    """Random letters and digits: OAuth codes and access tokens."""
    return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(length))


def new_share_code() -> str:
    """43 random characters that need no escaping in a URL."""
    return secrets.token_urlsafe(32)


def token_prefix(token: str) -> str:
    """What is stored in the clear to find the row again."""
    return token[:PREFIX_LENGTH]


def check_token_text(token: str) -> None:
    """Raise InvalidRequest when a token given from outside is too short or too long to be stored."""
    shortest, longest = TOKEN_LENGTHS
    if not shortest <= len(token) <= longest:
        raise InvalidRequest(f"A token has {shortest} to {longest} characters; this one has {len(token)}")


def hash_token(token: str, *, rounds: int = GENERATED_ROUNDS, salt: str | None = None) -> str:
    """``sha512:rounds:salt:digest`` for a token; the salt is 16 random hex digits unless given."""
    salt = salt if salt is not None else secrets.token_hex(8)
    return f"sha512:{rounds}:{salt}:{_digest('sha512', rounds, salt, token)}"


def _digest(algorithm: str, rounds: int, salt: str, token: str) -> str:
    digest = hashlib.new(algorithm, salt.encode("ascii"))
    text = token.encode("utf-8", "surrogatepass")
    # The token is fed many times over; in blocks, so that one call per round does not dominate.
    blocks, rest = divmod(rounds, _CHUNK)
    if blocks:
        block = text * _CHUNK
        for _ in range(blocks):
            digest.update(block)
    digest.update(text * rest)
    return digest.hexdigest()


def compare_token(hashed: str, token: str) -> bool:
    """Whether `token` is the one behind `hashed`, honouring the algorithm and rounds written there.

    Takes the same time for right and wrong tokens. A hash that cannot be read matches nothing.
    """
    if len(token) > TOKEN_LENGTHS[1]:
        return False
    try:
        algorithm, rounds, salt, expected = hashed.split(":")
        found = _digest(algorithm, int(rounds), salt, token)
    except (ValueError, TypeError):
        return False
    return constant_time_equal(found, expected)


def constant_time_equal(left: str | bytes, right: str | bytes) -> bool:
    """Equality that does not tell by its duration where the two differ. Any text is allowed."""
    return hmac.compare_digest(_bytes(left), _bytes(right))


def _bytes(value: str | bytes) -> bytes:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value


def fingerprint(token: str) -> str:
    """A key for caches, so that they need not keep tokens in memory."""
    return hashlib.sha256(_bytes(token)).hexdigest()
