"""What the page for tokens offers: how long one may live, and what it may do."""

from __future__ import annotations

from typing import Any

from ..core.scopes.algebra import AllType

#: Lifetimes offered for a token: seconds and what it is called. None is for ever.
TOKEN_LIFETIMES: tuple[tuple[int, str], ...] = (
    (3600, "1 hour"),
    (86400, "1 day"),
    (7 * 86400, "1 week"),
    (30 * 86400, "1 month"),
    (365 * 86400, "1 year"),
)


def written_scopes(name: str, filters: Any, user_name: str) -> list[str]:
    """Return the raw scopes that stand for a held one; what is the person's own is written `name!user`."""
    if isinstance(filters, AllType):
        return [name]
    own = [f"{name}!user"] if user_name in filters.get("user", ()) else []
    others = [
        f"{name}!{kind}={value}"
        for kind in sorted(filters)
        for value in sorted(filters[kind])
        if not (kind == "user" and value == user_name)
    ]
    return own + others


def lifetime_options(longest: int) -> str:
    """Return the `<option>`s of the lifetimes a token may have; `longest` in seconds, 0 for no limit.

    Without a limit a token that never expires is possible, but a month is what is offered.
    """
    options = []
    for seconds, name in TOKEN_LIFETIMES:
        if longest and seconds > longest:
            continue
        chosen = " selected" if not longest and seconds == 30 * 86400 else ""
        options.append(f'<option value="{seconds}"{chosen}>{name}</option>')
    if longest:
        options.append(f'<option value="{longest}" selected>As long as allowed ({duration(longest)})</option>')
    else:
        options.append('<option value="">Never</option>')
    return "\n".join(options)


def duration(seconds: int) -> str:
    """Return a time span in the largest unit that fits, e.g. "90 minutes" or "2 days"."""
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            number = seconds // size
            return f"{number} {name}{'s' if number != 1 else ''}"
    return f"{seconds} seconds"
