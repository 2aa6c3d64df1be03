"""What all API handlers share: identity by token or cookie, JSON in and out, errors as JSON (rest-api §1)."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from urllib.parse import urlencode, urlparse, urlunparse

from tornado import web

from ..core.clock import isoformat
from ..core.scopes.algebra import Resource
from ..handlers.base import BaseHandler
from ..web import errors
from . import models

PAGINATION_MEDIA_TYPE = "application/jupyterhub-pagination+json"


class APIHandler(BaseHandler):
    """Base of API handlers, also of those that plugins bring (plugins §7)."""

    _accept_token_auth = True
    # Answers hold what only the person may read, so reading is checked as well (rest-api §1.6).
    _xsrf_safe_methods = frozenset({"HEAD", "OPTIONS"})

    @property
    def content_security_policy(self) -> str:
        return f"{super().content_security_policy}; default-src 'none'"

    def get_content_type(self) -> str:
        return "application/json"

    async def prepare(self) -> None:
        await super().prepare()

    def check_xsrf_cookie(self) -> None:
        """Leave out strangers, who are refused for having no credentials, unless a page of some origin asks."""
        if getattr(self, "_jupyterhub_user", None) is None and "Origin" not in self.request.headers:
            return
        super().check_xsrf_cookie()

    def _identify_allowed_by_cookie(self) -> bool:
        """A form of another site can post with the browser's cookies; it cannot post JSON (rest-api §1.4)."""
        if self.request.method != "POST" or "Content-Type" not in self.request.headers:
            return True
        return any(
            part.strip().startswith("application/json") for part in self.request.headers["Content-Type"].split(";")
        )

    async def _identify_by_cookie(self) -> Any:
        if not self._identify_allowed_by_cookie():
            return None
        return await super()._identify_by_cookie()

    def refuse_stranger(self) -> None:
        """Raise 403 for a caller nobody knows."""
        raise web.HTTPError(403, "Missing or invalid credentials.")

    def check_referer(self) -> bool:
        """Kept for old plugins: the referer has not been looked at for years."""
        return True

    def check_post_content_type(self) -> bool:
        """Whether a POST is JSON, or says nothing about its type."""
        return self._identify_allowed_by_cookie()

    def options(self, *args: Any, **kwargs: Any) -> None:
        """Answer a browser's question about what it may send; anybody may ask."""
        self.finish()

    # JSON

    def get_json_body(self) -> Any:
        """Return the parsed body, None for an empty one. Raises 400 for what is not JSON."""
        if not self.request.body:
            return None
        try:
            return json.loads(self.request.body.strip().decode("utf-8"))
        except ValueError:
            self.log.debug("Bad JSON: %.200r", self.request.body)
            raise web.HTTPError(400, "Invalid JSON in body of request") from None

    def get_json_object(self, *, required: bool = False) -> dict[str, Any]:
        """Return the body as an object, {} for none. Raises 400 for anything else."""
        body = self.get_json_body()
        if not body and not required:
            return {}
        if not isinstance(body, dict):
            raise web.HTTPError(400, f"The body must be a JSON object, not {type(body).__name__}")
        return body

    def write_json(self, value: Any, status: int = 200) -> None:
        """Send a value as JSON."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(value, default=_encode))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer an error as {"status", "message"} (rest-api §1.3)."""
        exc_info = kwargs.get("exc_info")
        error = exc_info[1] if exc_info else None
        answer = errors.answer_for(error, status_code)
        message: str | None = answer.message or None
        if answer.status == 500 and message is None:
            message = "Internal Server Error"
        self.clear()
        self.set_status(answer.status, answer.reason or None)
        self.set_header("Content-Type", "application/json")
        for name, value in answer.headers.items():
            self.set_header(name, value)
        self.finish(json.dumps({"status": answer.status, "message": message}))

    # Models for handlers of plugins; our own use the functions of `models`

    def server_model(self, spawner: Any, *, user: Any = None) -> dict[str, Any]:
        """Return the model of a spawner's server, as far as the caller may see it."""
        return models.server_of_record(self, spawner._record, user or spawner.user)

    def user_model(self, user: Any) -> dict[str, Any]:
        """Return the model of a user wrapper, as far as the caller may see it."""
        return models.user_model(self, user.record, list(user.records.values()))

    def group_model(self, group: Any) -> dict[str, Any]:
        """Return the model of a group's row."""
        model = {
            "kind": "group", "name": group.name, "roles": [role.name for role in group.roles],
            "users": [user.name for user in group.users], "properties": group.properties or {},
        }
        return models.filter_group(self, model)

    def service_model(self, service: Any) -> dict[str, Any]:
        """Return the model of a service."""
        return models.service_model(self, service)

    async def may(self, scope: str, **resource: str) -> bool:
        """Whether the caller holds a scope for a resource."""
        return bool(await self.context.access.covers(self.caller, scope, **resource))

    async def user_or_404(self, name: str) -> Any:
        """Return the user of this name, with groups known for scope checks. Raises 404."""
        user = await self.context.directory.find(name)
        if user is None:
            raise web.HTTPError(404)
        return user

    # Pages of lists

    @property
    def accepts_pagination(self) -> bool:
        return PAGINATION_MEDIA_TYPE in self.request.headers.get("Accept", "")

    def get_api_pagination(self) -> tuple[int, int]:
        """Return (offset, limit) of the request. Raises 400 for what is not a number in range."""
        default = int(self.settings.get("api_page_default_limit", 50))
        highest = int(self.settings.get("api_page_max_limit", 200))
        offset = self._number("offset", 0)
        # Who does not know about pages gets as much as there may be on one.
        limit = self._number("limit", default if self.accepts_pagination else highest)
        if offset < 0 or limit < 1:
            raise web.HTTPError(400, "offset must be 0 or more, limit 1 or more")
        return offset, min(limit, highest)

    def _number(self, name: str, fallback: int) -> int:
        text = self.get_argument(name, None)
        if text is None:
            return fallback
        try:
            return int(text)
        except ValueError:
            raise web.HTTPError(400, f"{name} must be a whole number, not {text!r}") from None

    def paginated_model(self, items: list[Any], offset: int, limit: int, total: int) -> dict[str, Any]:
        """Return a page with where it is and where the next one is (rest-api §1.7)."""
        following = None
        if offset + limit < total:
            parts = urlparse(self.request.full_url())
            query = {name: values[-1].decode("utf-8", "replace") for name, values in self.request.query_arguments.items()}
            query.update(offset=str(offset + limit), limit=str(limit))
            following = {
                "offset": offset + limit, "limit": limit, "url": urlunparse(parts._replace(query=urlencode(query))),
            }
        return {
            "items": items, "_pagination": {"offset": offset, "limit": limit, "total": total, "next": following},
        }

    def write_list(self, items: list[Any], offset: int, limit: int, total: int) -> None:
        """Send a list the way the client asked for it."""
        if self.accepts_pagination:
            self.write_json(self.paginated_model(items, offset, limit, total))
        else:
            self.write_json(items)

    def covers_resource(self, scope: str, **resource: Any) -> bool:
        """Whether the caller's scope reaches a resource whose groups are known already."""
        held = self.held_scopes
        if held is None:
            return False
        groups = resource.pop("groups", ())
        return held.covers_resource(
            scope, Resource(**resource), groups_of=lambda name: groups, bare_server_names=True
        )


class API404(APIHandler):
    """Any other path below the API: 404, whoever asks."""

    async def prepare(self) -> None:
        raise web.HTTPError(404)


def _encode(value: Any) -> Any:
    if isinstance(value, datetime):
        return isoformat(value)
    if isinstance(value, (set, frozenset, tuple)):
        return sorted(value)
    return str(value)
