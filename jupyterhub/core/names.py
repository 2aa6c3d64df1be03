"""Names of users, servers, groups and services:

which are allowed, and their normal form (config §8.2, §11).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, unquote

from .errors import InvalidName
from .slugs import MAX_DISPLAY_NAME, MAX_SLUG, is_valid_display_name, is_valid_safe_slug

__all__ = [
    "check_display_name",
    "check_server_name",
    "check_service_name",
    "check_user_name",
    "is_valid_user_name",
    "normalise_user_name",
    "server_client_id",
    "service_client_id",
    "user_name_problem",
]


def normalise_user_name(name: str, username_map: Mapping[str, str] | None = None) -> str:
    """Lower case, then looked up in the map; what the map says is final (config §8.1)."""
    name = name.lower()
    return (username_map or {}).get(name, name)


def user_name_problem(name: str, pattern: str | re.Pattern[str] | None = None) -> str | None:
    """What is wrong with a user name, as the end of a sentence, or None (config §8.2).

    `pattern` must match at the beginning of the name, as `Authenticator.username_pattern` does.
    """
    if not name:
        return "it is empty"
    if "/" in name:
        return "it contains '/'"
    if _only_dots(name) or _only_dots(unquote(name)):
        # Browsers and proxies resolve such segments, encoded or not, so the address would be somebody else's.
        return "it consists of dots only"
    if name != name.strip():
        return "it begins or ends with a space"
    if pattern and not re.match(pattern, name):
        return "it does not fit the pattern this hub is configured with"
    return None


def _only_dots(name: str) -> bool:
    return not name.strip(".")


def is_valid_user_name(name: str, pattern: str | re.Pattern[str] | None = None) -> bool:
    """Whether a user may have this name."""
    return user_name_problem(name, pattern) is None


def check_user_name(name: str, pattern: str | re.Pattern[str] | None = None) -> str:
    """The name, or InvalidName with the reason."""
    if why := user_name_problem(name, pattern):
        raise InvalidName(name, why)
    return name


def check_server_name(name: str) -> str:
    """The name of a new named server, or InvalidName (config §11)."""
    if not is_valid_safe_slug(name):
        raise InvalidName(
            name,
            f"use 1 to {MAX_SLUG} lower-case letters, digits and single hyphens; "
            "begin with a letter, end with a letter or digit",
            kind="server",
        )
    return name


def check_display_name(name: str) -> str:
    """A display name, or InvalidName (config §11)."""
    if not is_valid_display_name(name):
        raise InvalidName(
            name,
            f"use 1 to {MAX_DISPLAY_NAME} printable characters, with single spaces inside",
            kind="display",
        )
    return name


_PERCENT_ESCAPE: Final = re.compile(r"%[0-9a-fA-F]{2}")


def check_service_name(name: str) -> str:
    """The name of a service, or InvalidName (services-and-proxy A1)."""
    why = None
    if not name:
        why = "it is empty"
    elif "/" in name:
        why = "it contains '/'"
    elif _PERCENT_ESCAPE.search(name):
        why = "it contains a percent-escape"
    elif _only_dots(name):
        why = "it consists of dots only"
    elif name != name.strip():
        why = "it begins or ends with a space"
    if why:
        raise InvalidName(name, why, kind="service")
    return name


def server_client_id(user: str, server: str = "") -> str:
    """The OAuth client id of a server (oauth §2)."""
    identifier = f"jupyterhub-user-{quote(user)}"
    return f"{identifier}-{quote(server)}" if server else identifier


def service_client_id(name: str) -> str:
    """The default OAuth client id of a service; the name is not encoded (services-and-proxy A1)."""
    return f"service-{name}"
