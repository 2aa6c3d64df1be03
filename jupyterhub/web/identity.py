"""From a request to whoever makes it: token first, then the log-in cookie (rest-api §1.4, web §3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tornado.httputil import HTTPServerRequest

from ..core.activity import is_newer, latest
from ..core.clock import utcnow
from . import cookies

if TYPE_CHECKING:
    from ..runtime.access import Caller
    from ..runtime.context import HubContext

_AUTHORIZATION = re.compile(r"(?:token|bearer)\s+(\S+)\s*", re.IGNORECASE)
#: Longer texts cannot be tokens of ours and are not looked up.
LONGEST_TOKEN = 64


@dataclass(frozen=True)
class Identity:
    """Whoever makes a request.

    `entity` is what plugins see as `current_user`: a user wrapper, a service, or None for a stranger.
    """

    caller: Caller | None = None
    entity: Any = None
    by_token: bool = False
    cookie_value: str = ""


STRANGER = Identity()


def header_token(request: HTTPServerRequest) -> str | None:
    """Return the token of the `Authorization` header: the word token or bearer, then one word; else None."""
    match = _AUTHORIZATION.fullmatch(request.headers.get("Authorization", "").strip())
    return match[1] if match else None


async def by_token(context: HubContext, request: HTTPServerRequest) -> Identity | None:
    """Return who the `Authorization` header names, or None if it names nobody (the cookie is asked then)."""
    token = header_token(request)
    if token is None or len(token) > LONGEST_TOKEN:
        return None
    caller = await context.access.identify_token(token)
    if caller is None:
        return None
    entity = await _entity_of(context, caller)
    return None if entity is None else Identity(caller, entity, by_token=True)


async def by_cookie(handler: cookies.Browser, context: HubContext) -> Identity | None:
    """Return who the log-in cookie names. None without a cookie; the stranger for one that is no longer good."""
    name = cookies.login_cookie_name(context, context.hub.cookie_name)
    value, cookie_id = cookies.read_login(handler, context, name)
    if not value:
        return None
    if not cookie_id or await context.logins.login_ended(value):
        return STRANGER
    caller = await context.access.identify_login(cookie_id, cookies.session_id(handler))
    if caller is None:
        return STRANGER
    entity = await _entity_of(context, caller)
    return STRANGER if entity is None else Identity(caller, entity, cookie_value=value)


async def _entity_of(context: HubContext, caller: Caller) -> Any:
    if caller.kind == "service":
        return context.services.get(caller.name)
    return await context.directory.find(caller.name)


def note_activity(context: HubContext, identity: Identity) -> None:
    """Remember that the caller was here. A server's own token moves only itself (rest-api §1.4)."""
    caller = identity.caller
    if caller is None:
        return
    now = utcnow()
    token = caller.token
    if token is not None:
        context.activity.note_token(token.id, now)
        if caller.is_server:
            return
    if caller.kind == "user":
        record = getattr(identity.entity, "record", None)
        known = latest(context.activity.latest_of_user(caller.id), record.last_activity if record else None)
        # Once per resolution: what is read twice in a row should not differ by that (rest-api §1.4).
        if is_newer(now, known, context.activity_resolution):
            context.activity.note_user(caller.id, now)
