"""What all API handlers share: identity by token or cookie, JSON in and out, errors as JSON (rest-api §1)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from tornado import web

from ..core.clock import isoformat
from ..core.lifecycle import Failure
from ..core.scopes.algebra import Resource, ScopeSet
from ..handlers.base import BaseHandler
from ..store.values import GroupRecord
from ..web import errors
from . import models
from .schemas import UserBody, check_body

__all__ = ["PAGINATION_MEDIA_TYPE", "API404", "APIHandler"]

PAGINATION_MEDIA_TYPE = "application/jupyterhub-pagination+json"


class APIHandler(BaseHandler):
    """Base of API handlers, also of those that plugins bring (plugins §7)."""

    _accept_token_auth = True
    # Answers hold what only the person may read, so reading is checked as well (rest-api §1.6).
    _xsrf_safe_methods = frozenset({"HEAD", "OPTIONS"})

    # Headers

    @property
    def content_security_policy(self) -> str:
        return f"{super().content_security_policy}; default-src 'none'"

    def get_content_type(self) -> str:
        return "application/json"

    def options(self, *args: Any, **kwargs: Any) -> None:
        """Answer a browser's question about what it may send; anybody may ask."""
        self.finish()

    # Who asks

    async def _identify_by_cookie(self) -> Any:
        if not self.check_post_content_type():
            return None
        return await super()._identify_by_cookie()

    def check_post_content_type(self) -> bool:
        """Whether a POST is JSON or says nothing about its type.

        A form of another site can post with the browser's cookies, but not as JSON; so such cookies do not count
        (rest-api §1.4).
        """
        content_type = self.request.headers.get("Content-Type")
        if self.request.method != "POST" or content_type is None:
            return True
        return any(part.strip().startswith("application/json") for part in content_type.split(";"))

    def check_xsrf_cookie(self) -> None:
        """Check whoever a cookie identifies, and strangers that a page of another site sends (rest-api §1.6)."""
        if getattr(self, "_jupyterhub_user", None) is None and "Origin" not in self.request.headers:
            return
        super().check_xsrf_cookie()

    def check_referer(self) -> bool:
        """Return True: the referer is not looked at. Kept for plugins that ask."""
        return True

    async def may(self, scope: str, **resource: str) -> bool:
        """Return whether the caller holds a scope for a resource (user, server, group, service)."""
        return bool(await self.context.access.covers(self.caller, scope, **resource))

    @property
    def viewer(self) -> models.Viewer:
        """The caller as somebody to whom models are shown."""
        return models.Viewer(self.context, self.held_scopes or ScopeSet())

    # JSON

    def get_json_body(self) -> Any:
        """Return the parsed body, None for an empty one. Raises 400 for what is not JSON."""
        if not self.request.body:
            return None
        try:
            return json.loads(self.request.body.decode("utf-8").strip())
        except ValueError:
            self.log.debug("Not JSON: %.200r", self.request.body)
            raise web.HTTPError(400, "The body is not valid JSON") from None

    def read_body(self, shape: Any, *, required: bool = False) -> dict[str, Any]:
        """Return the body as an object of a declared shape, {} for none. Raises 400 for anything else."""
        body = self.get_json_body()
        if body is None and not required:
            return {}
        return check_body(body, shape)

    def write_json(self, value: Any, status: int = 200) -> None:
        """Send a value as JSON."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(value, default=_encode))

    def write_nothing(self, status: int = 204) -> None:
        """Send an answer without a body."""
        self.set_status(status)
        if status == 204:
            self.clear_header("Content-Type")
        self.finish()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer an error as {"status", "message"} (rest-api §1.3), and a failed start with its `failure` (ours)."""
        exc_info = kwargs.get("exc_info")
        error = exc_info[1] if exc_info else None
        answer = errors.answer_for(error, status_code)
        message: str | None = answer.message or None
        if answer.status == 500 and message is None:
            message = "Internal Server Error"
        # Only what belongs to the error: a plugin may have set a cookie or a type before it failed.
        self.clear()
        # A reason phrase is a header's content: what a plugin puts in must not be able to end the line.
        reason = re.sub(r"[\x00-\x1f\x7f]+", " ", str(kwargs.get("reason") or answer.reason or ""))
        self.set_status(answer.status, reason.encode("latin-1", "replace").decode("latin-1") or None)
        self.set_header("Content-Type", "application/json")
        for name, value in answer.headers.items():
            self.set_header(name, value)
        body: dict[str, Any] = {"status": answer.status, "message": message}
        failure = getattr(error, "failure", None)
        if isinstance(failure, Failure):
            body["failure"] = failure.to_dict()
        self.finish(json.dumps(body))

    # Models, for handlers of plugins; ours use the functions of `models`

    def user_model(self, user: Any) -> dict[str, Any]:
        """Return the model of a user wrapper, as far as the caller may see it."""
        return models.user_model(self.viewer, user)

    def server_model(self, spawner: Any, *, user: Any = None) -> dict[str, Any]:
        """Return the model of a spawner's server, as far as the caller may see it."""
        return models.server_model(self.viewer, spawner._record, user or spawner.user)

    def group_model(self, group: Any) -> dict[str, Any]:
        """Return the model of a group's row, as far as the caller may see it."""
        record = GroupRecord(
            id=group.id,
            name=group.name,
            properties=group.properties or {},
            users=tuple(user.name for user in group.users),
            roles=tuple(role.name for role in group.roles),
        )
        return models.group_model(self.viewer, record)

    def service_model(self, service: Any) -> dict[str, Any]:
        """Return the model of a service, or of its row, as far as the caller may see it."""
        known = self.services.get(service.name)
        return models.service_model(self.viewer, known) if known is not None else {}

    def token_model(self, token: Any) -> dict[str, Any]:
        """Return the model of a token's row with its scopes as they are stored."""
        from ..store.tokens import record_of

        return models.token_model(record_of(token), token.scopes or ())

    def _filter_model(
        self, model: dict[str, Any], access_map: Mapping[str, Any], entity: Any, kind: str, keys: Any = None
    ) -> dict[str, Any]:
        """Return the members of a model that a map from scope to members opens for an entity of a kind."""
        resource = Resource(**{kind: getattr(entity, "name", entity)})
        groups = getattr(entity, "group_names", ())
        allowed = set(keys or ())
        for scope in self.viewer.scopes_on(access_map, resource, groups):
            allowed.update(access_map[scope])
        return {name: value for name, value in model.items() if name in allowed}

    def _check_user_model(self, model: Any) -> None:
        """Raise 400 for a member that a user does not have, or of another type."""
        check_body(model, UserBody)

    async def user_or_404(self, name: str) -> Any:
        """Return the user of this name. Raises 404 without a text."""
        user = await self.context.directory.find(name)
        if user is None:
            raise web.HTTPError(404)
        return user

    # Pages of lists

    @property
    def accepts_pagination(self) -> bool:
        """Whether the client said that it understands pages; a quality beside the type makes it another type."""
        accepted = self.request.headers.get("Accept", "").split(",")
        return any(part.strip().lower() == PAGINATION_MEDIA_TYPE for part in accepted)

    def get_api_pagination(self) -> tuple[int, int]:
        """Return (offset, limit) of the request, in range (rest-api §1.7). Raises 400 for what is not a number."""
        default = int(self.settings.get("api_page_default_limit", 50))
        highest = int(self.settings.get("api_page_max_limit", 200))
        # Who does not know about pages gets as much as there may be on one.
        limit = abs(self._number("limit", default if self.accepts_pagination else highest))
        return abs(self._number("offset", 0)), min(limit or 1, highest)

    def _number(self, name: str, fallback: int) -> int:
        text = self.get_argument(name, None)
        if text is None:
            return fallback
        try:
            number = int(text)
        except ValueError:
            raise web.HTTPError(400, f"{name} must be a whole number, not {text!r}") from None
        # Beyond this no database can count.
        return max(-(2**63) + 1, min(number, 2**63 - 1))

    def paginated_model(self, items: Any, offset: int, limit: int, total: int) -> dict[str, Any]:
        """Return a page with where it is and where the next one begins (rest-api §1.7)."""
        following = None
        if offset + limit < total:
            query: list[tuple[str, Any]] = [("offset", offset + limit), ("limit", limit)]
            for name, values in self.request.query_arguments.items():
                if name not in ("offset", "limit"):
                    query += [(name, value) for value in values]
            address = urlsplit(self.request.full_url())._replace(query=urlencode(query)).geturl()
            following = {"offset": offset + limit, "limit": limit, "url": address}
        return {
            "items": items,
            "_pagination": {"offset": offset, "limit": limit, "total": total, "next": following},
        }

    def write_list(self, items: Any, offset: int, limit: int, total: int, *, always: bool = False) -> None:
        """Send a part of a list, as a page if the client asked for pages, or `always`."""
        if always or self.accepts_pagination:
            self.write_json(self.paginated_model(items, offset, limit, total))
        else:
            self.write_json(items)


class API404(APIHandler):
    """Any other path below the API: 404, whoever asks."""

    async def prepare(self) -> None:
        raise web.HTTPError(404)


def _encode(value: Any) -> Any:
    if isinstance(value, datetime):
        return isoformat(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
