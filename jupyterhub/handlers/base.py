"""BaseHandler, from which every page and API handler descends, and the handlers that only lead elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Mapping
from http.client import responses
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from jinja2 import Template, TemplateNotFound
from tornado import web

from .. import metrics
from .._version import INTERFACE_VERSION
from ..aio import maybe_future
from ..core.errors import HubError, NamedServersDisabled, ResourceHidden, TooManyNamedServers
from ..core.names import check_server_name
from ..core.scopes.algebra import Resource
from ..core.urls import url_path_join
from ..log import _scrub_uri
from ..web import cookies, errors, redirects
from ..web.request import HubRequestHandler, new_reference
from ..web.templates import PageVariables, has_overrides
from .statsd import NoStatsd

__all__ = [
    "AddSlashHandler",
    "BaseHandler",
    "CSPReportHandler",
    "PrefixRedirectHandler",
    "Template404",
    "UserRedirectHandler",
    "UserUrlHandler",
    "default_handlers",
]

#: Seconds a page waits for a start to fail fast before it sends the browser to the pending page (web §13.1).
FAST_FAILURE_SECONDS = 1.0
#: Bytes of a report about the content security policy that are logged.
LONGEST_REPORT = 4096


class BaseHandler(HubRequestHandler):
    """Log-in, redirects, pages and errors for every handler of the Hub.

    Handlers parse, call the runtime and answer; nothing here looks into the database or decides about servers.
    """

    #: For handlers of released plugins, which report to it.
    statsd = NoStatsd()

    # Users

    def find_user(self, name: str) -> Any:
        """Return the user wrapper of that name, or None. May block for a query; pages use `directory`."""
        return self.users.get(name)

    def user_from_username(self, username: str) -> Any:
        """Return the user wrapper of that name, made if there is none. Blocks; pages use `directory`."""
        return self.context.directory.find_or_create_at_once(username)

    def _user_from_orm(self, orm_user: Any) -> Any:
        self._used_plugin_session = True
        return self.users[orm_user]

    async def refresh_auth(self, user: Any, force: bool = False) -> Any:
        """Ask the authenticator whether the user's log-in still stands. Returns the user, or None if not."""
        return await self.context.logins.refresh(user, self, force=force)

    def get_accessible_services(self, user: Any) -> list[Any]:
        """Return the services that have a page, want to be listed, and are open to the caller."""
        held = self.held_scopes
        if user is None or held is None:
            return []
        return [
            service
            for service in self.services.values()
            if service.url
            and service.display
            and held.covers_resource("access:services", Resource(service=service.name))
        ]

    # Log-in

    def authenticate(self, data: Any) -> Awaitable[Any]:
        """Ask the authenticator who the data describes; None if nobody may log in with it."""
        return maybe_future(self.authenticator.get_authenticated_user(self, data))

    async def auth_to_user(self, authenticated: Mapping[str, Any], user: Any = None) -> Any:
        """Turn what the authenticator said into a user, made or brought up to date (plugins §4.3)."""
        return await self.context.logins.auth_to_user(dict(authenticated), user)

    async def login_user(self, data: Any = None) -> Any:
        """Log in with the data of a form, or whatever a custom handler passes. Returns the user or None."""
        user = await self.context.logins.log_in(self, data)
        if user is not None:
            self.set_login_cookie(user)
            await self._resolve_roles_and_scopes()
        return user

    def set_login_cookie(self, user: Any) -> None:
        """Log this browser in as `user`: session id, log-in cookie, and an XSRF token for the new state."""
        if not self.get_session_cookie():
            self.set_session_cookie()
        self.set_hub_cookie(user)
        self._jupyterhub_user = user
        self._renew_xsrf_cookie()

    def clear_login_cookie(self, name: str | None = None) -> None:
        """Log this browser out: forget its cookies, and end the tokens of its session in the background."""
        session, user = self.get_session_cookie(), getattr(self, "_jupyterhub_user", None)
        value = self.get_cookie(self._login_cookie)
        cookies.clear_all(self, self.context, self._login_cookie)
        self._jupyterhub_user = None
        if user is not None and not self._session_ended:
            self.context.background.start(self._end_session(user, session or "", value or ""), name="log out")

    _session_ended = False

    async def _end_session(self, user: Any, session: str, cookie_value: str) -> None:
        """End a log-in for good: this browser's cookie and the tokens issued to its session are dead afterwards."""
        if cookie_value:
            await self.context.logins.end_login(cookie_value)
        if session:
            await self.context.logins.log_out(user, session)

    # Where to go

    def _validate_next_url(self, next_url: str) -> str:
        site = redirects.site_of(self.request, public_url=self.public_url, subdomain_host=self.subdomain_host)
        safe = redirects.validate_next(next_url, site)
        if next_url.strip() and not safe:
            self.log.warning("Not following next=%.200r, which leads away from this hub", next_url)
        return safe

    def get_next_url(self, user: Any = None, default: Any = None) -> str:
        """Return where to go after this: the `next` argument if it is safe, else the default (web §6).

        The default is `default`, else the configured default URL, else the person's server or the way to start it, or
        the home page. Without a `next` the other arguments of the query go along.
        """
        url = self._validate_next_url(self.get_argument("next", default=""))
        if url:
            return redirects.location(url)
        url = default or ""
        if not url:
            configured = self.default_url
            url = (configured(self) if callable(configured) else configured) or ""
        if not url:
            if user is None:
                user = getattr(self, "_jupyterhub_user", None)
            if not self.context.redirect_to_server or user is None:
                url = self.hub_prefix + "home"
            elif self.context.servers.state_of(user, "").active:
                url = user.server_url("")
            else:
                url = self.hub_prefix + "spawn"
        return redirects.location(self.append_query_parameters(url, exclude=["next", "_xsrf"]))

    def append_query_parameters(self, url: str, exclude: Any = None) -> str:
        """Add the request's query arguments to a URL, except those named in `exclude`."""
        return redirects.append_query(url, self.request.query, exclude=exclude or ())

    def set_header(self, name: str, value: Any) -> None:
        """Set a header. An address to go to is made fit for one, from wherever it comes."""
        # Not in `redirect`, in whose place suites of plugins put one of their own.
        if name == "Location":
            value = redirects.location(value.decode("utf-8") if isinstance(value, bytes) else str(value))
        super().set_header(name, value)

    # Servers

    async def spawn_single_user(
        self,
        user: Any,
        server_name: str = "",
        display_name: str = "",
        options: dict[str, Any] | None = None,
    ) -> None:
        """Start a server and wait for it up to `slow_spawn_timeout` seconds; slower ones go on by themselves.

        Raises what refuses the start (ServerBusy, TooManyStarts, TooManyServers, …), or its failure.
        """
        start = await self.context.servers.start(
            user, server_name, display_name=display_name, options=options, handler=self, requested_by=self.caller
        )
        await start.wait(self.context.slow_spawn_timeout)

    async def stop_single_user(self, user: Any, server_name: str = "") -> Any:
        """Stop a server and wait up to `slow_stop_timeout` seconds. Returns the stop, which may still go on."""
        stop = await self.context.servers.stop(user, server_name, requested_by=self.caller, handler=self)
        await stop.wait(self.context.slow_stop_timeout)
        return stop

    async def user_stopped(self, user: Any, server_name: str = "") -> None:
        """Look whether a server still runs, and clean up after one that does not."""
        await self.context.servers.check(user, server_name)

    async def get_current_user_named_server_limit(self) -> int:
        """Return how many named servers the caller may have; 0 is no limit."""
        limit = self.named_server_limit_per_user
        if callable(limit):
            limit = await maybe_future(limit(self))
        return int(limit or 0)

    async def _check_named_server_request(self, user: Any, server_name: str) -> None:
        """Refuse a named server that may not be made or started (web §13.1 step 2)."""
        if not server_name:
            return
        if not self.allow_named_servers:
            raise NamedServersDisabled()
        records = await self.context.directory.server_records(user)
        if server_name in records:
            if self.settings.get("allow_existing_invalid_named_servers", "allow-start") != "allow-start":
                check_server_name(server_name)
            return
        limit = await self.get_current_user_named_server_limit()
        if limit > 0 and sum(1 for name in records if name) >= limit:
            raise TooManyNamedServers(user.name, limit)
        check_server_name(server_name)

    # Pages

    @property
    def template_namespace(self) -> dict[str, Any]:
        """Variables of every page (web §20)."""
        user = getattr(self, "_jupyterhub_user", None)
        variables = PageVariables(self.context.template_vars)
        namespace = {
            "base_url": self.hub_prefix,
            "prefix": self.base_url,
            "user": user,
            "viewer": user,
            "login_url": self.settings.get("login_url", ""),
            "login_service": self.authenticator.login_service,
            "logout_url": self.settings.get("logout_url", ""),
            "static_url": self.static_url,
            "version_hash": self.version_hash,
            "services": self.get_accessible_services(user),
            "parsed_scopes": self.parsed_scopes,
            "expanded_scopes": self.expanded_scopes,
            "xsrf": self.xsrf_token.decode("ascii"),
            "xsrf_token": self.xsrf_token,
            "options_form": self._may_ask_for_options,
            "load_bootstrap": self._has_overrides,
            **variables.resolve(user),
        }
        for name, problem in variables.problems:
            self.log.error("The template variable %r failed and is left out: %r", name, problem)
        return namespace

    @property
    def _has_overrides(self) -> bool:
        """Whether templates of a deployment may expect the libraries that those of JupyterHub 6 loaded."""
        own = os.path.join(os.path.dirname(self.settings["static_path"]), "templates")
        return has_overrides(self.settings["jinja2_env"], self.settings.get("template_path") or (), own)

    @property
    def _may_ask_for_options(self) -> bool:
        """Whether starting a server may show a form, as far as that is known without making a spawner."""
        cls, config = self.spawner_class, self.config or {}
        for name in ("options_form", "profiles"):
            default = getattr(cls, name, None)
            if getattr(default, "default_value", default) or any(
                name in (config.get(each.__name__) or {}) for each in cls.__mro__
            ):
                return True
        return False

    def get_template(self, name: str, sync: bool = False) -> Template:
        """Return a template by name. The synchronous ones are for errors, where nothing can be awaited."""
        environment = self.settings["jinja2_env_sync" if sync else "jinja2_env"]
        template: Template = environment.get_template(name)
        return template

    def render_template(self, name: str, sync: bool = False, **ns: Any) -> Any:
        """Return an awaitable page, or its text at once with `sync`. `ns` wins over the common variables."""
        namespace = {**self.template_namespace, **ns}
        template = self.get_template(name, sync)
        return template.render(**namespace) if sync else template.render_async(**namespace)

    @property
    def extra_error_html(self) -> str:
        """Trusted HTML for the foot of this handler's error pages."""
        return ""

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        """Log an error without a traceback if it is an answer rather than an accident."""
        answer = errors.answer_for(value)
        if isinstance(value, HubError) and answer.status < 500:
            self.log.warning("%s: %s", self._request_summary(), value)
        elif isinstance(value, web.HTTPError):
            super().log_exception(typ, value, tb)
        else:
            # Tornado would add the address as it came, with the code of a provider in it, say.
            self.log.error("Uncaught exception %s", self._request_summary(), exc_info=value)

    def _request_summary(self) -> str:
        """Return the request as log lines about errors name it: without the secrets in its address."""
        return f"{self.request.method} {_scrub_uri(self.request.uri or '')} ({self.request.remote_ip})"

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with an error page: `<status>.html` if there is one, else `error.html` (web §19)."""
        exc_info = kwargs.get("exc_info")
        error = exc_info[1] if exc_info else None
        answer = errors.answer_for(error, status_code)
        # A phrase is a header's content: what a plugin puts in must not be able to end the line.
        reason = re.sub(r"[\x00-\x1f\x7f]+", " ", str(kwargs.get("reason") or answer.reason))
        reason = reason.encode("latin-1", "replace").decode("latin-1")
        self.set_status(answer.status, reason)
        self.set_header("Content-Type", "text/html")
        for name, value in answer.headers.items():
            self.set_header(name, value)
        reference = new_reference() if answer.status >= 500 else ""
        if reference:
            self.log.error("Error %s shown to the visitor of %s", reference, self._request_summary())
        namespace = {
            "status_code": answer.status,
            "status_message": reason or responses.get(answer.status, ""),
            "message": answer.message,
            "message_html": answer.message_html,
            "extra_error_html": self.extra_error_html,
            "exception": error,
            "advice": answer.advice,
            "error_reference": reference,
            "retry_after": answer.headers.get("Retry-After", "") if self.request.method == "GET" else "",
        }
        self.finish(self._error_page(answer.status, namespace))

    def _error_page(self, status: int, namespace: dict[str, Any]) -> str:
        try:
            try:
                page = self.render_template(f"{status}.html", sync=True, **namespace)
            except TemplateNotFound:
                page = self.render_template("error.html", sync=True, **namespace)
            return str(page)
        except Exception:
            self.log.exception("The error page for %s could not be rendered; trying without the visitor", status)
        try:
            bare = {**namespace, "user": None, "services": [], "no_spawner_check": True}
            bare |= {"base_url": self.hub_prefix, "prefix": self.base_url, "static_url": self.static_url}
            return str(self.get_template("templates/error.html", sync=True).render(**bare))
        except Exception:
            self.log.exception("The bare error page for %s could not be rendered either", status)
            return f"<!doctype html><title>{status}</title><h1>{status}</h1>"


class Template404(BaseHandler):
    """Anything we do not know. A stranger is not asked to log in for that."""

    async def prepare(self) -> None:
        await super().prepare()
        raise web.HTTPError(404)


class PrefixRedirectHandler(BaseHandler):
    """Whatever the proxy sends us that is not below the Hub's prefix belongs below it (web §5.1)."""

    def get(self) -> None:
        uri = self.request.uri or "/"
        # The request line may hold a whole URL; only its path may lead anywhere.
        path = uri if uri.startswith("/") else urlsplit(uri)._replace(scheme="", netloc="").geturl() or "/"
        path = "/" + path.lstrip("/")
        if (path + "/").startswith(self.base_url):
            rest = path[len(self.base_url) :]
        else:
            rest = path[1:]
        self.redirect(self._hub_root + self.hub_prefix + rest, permanent=False)

    @property
    def _hub_root(self) -> str:
        """Scheme and host of the Hub where answers must name it; '' where a path is enough."""
        public = self.public_url
        if getattr(public, "netloc", ""):
            return f"{public.scheme}://{public.netloc}"
        return self.subdomain_host.rstrip("/") if self.subdomain_host else ""

    async def _not_here(self, *args: Any) -> None:
        """Answer a write to a stopped server as its programs expect: 424 JSON instead of a page (web §26, 15)."""
        if not re.match(r"/(?:user|services)/", self.request.path[len(self.base_url) - 1 :]):
            raise web.HTTPError(405)
        self.set_status(stopped_status(self))
        self.set_header("Content-Type", "application/json")
        message = f"Nothing runs at {self.request.path} any more; the server has to be started again."
        self.finish(json.dumps({"message": message}))

    post = put = patch = delete = _not_here

    def check_xsrf_cookie(self) -> None:
        """Nothing here changes anything, so there is nothing to protect."""


class AddSlashHandler(BaseHandler):
    """`/user/name` and `/services/name` without the slash at the end."""

    def get(self, *args: str) -> None:
        parts = urlsplit("/" + (self.request.uri or "").lstrip("/"))
        self.redirect(parts._replace(path=parts.path + "/").geturl(), permanent=True)


def stopped_status(handler: BaseHandler) -> int:
    """Return the status that says "this server is not running": 424, or 503 where old clients need that."""
    return 503 if handler.settings.get("use_legacy_stopped_server_status_code") else 424


class UserUrlHandler(BaseHandler):
    """`/hub/user/…`: somebody wants a server that the proxy does not reach (web §5.4)."""

    _accept_token_auth = True
    _counts_as_activity = False

    async def _json_stopped(self, user_name: str, user_path: str | None) -> None:
        """Answer a program: what is stopped, and where it can be started."""
        server_name = await self._server_in_path(user_name, user_path) if self.caller is not None else ""
        self.set_status(stopped_status(self))
        self.set_header("Content-Type", "application/json")
        start = url_path_join(self._absolute_hub, "spawn", quote(user_name, safe="@~"), server_name)
        message = f"Nothing runs at {self.request.path} any more. Start the server again at {start}"
        self.finish(json.dumps({"message": message}))

    @property
    def _absolute_hub(self) -> str:
        public = self.public_url
        if getattr(public, "netloc", ""):
            return f"{public.scheme}://{public.netloc}{self.hub_prefix}"
        return f"{self.get_browser_protocol()}://{self.request.host}{self.hub_prefix}"

    async def _server_in_path(self, user_name: str, user_path: str | None) -> str:
        """Return the named server a path is about, or '' for the default one."""
        if not self.allow_named_servers or not user_path:
            return ""
        first = user_path.strip("/").partition("/")[0]
        if not first:
            return ""
        user = await self.context.directory.find(user_name)
        if user is None:
            return ""
        return first if first in await self.context.directory.server_records(user) else ""

    async def post(self, user_name: str, user_path: str | None = None) -> None:
        await self._json_stopped(user_name, user_path)

    patch = delete = post

    @web.authenticated
    async def get(self, user_name: str, user_path: str | None = None) -> None:
        first = (user_path or "").strip("/").partition("/")[0]
        for server in {"", first}:
            if await self.decide(["access:servers"], Resource(user=user_name, server=server)):
                break
        else:
            raise ResourceHidden()
        user = await self.context.directory.find(user_name)
        if user is None:
            raise ResourceHidden()
        server_name = await self._server_in_path(user_name, user_path)
        status = self.context.servers.state_of(user, server_name)
        if status.ready:
            await self._redirect_to_user_server(user, user.spawners[server_name])
            return
        if self._wants_json(user_path):
            await self._json_stopped(user_name, user_path)
            return
        server_path = url_path_join(self.hub_prefix, "spawn-pending", user.escaped_name, quote(server_name))
        if status.pending or status.failure:
            self.redirect(f"{server_path}?{urlencode({'next': self.request.uri})}", status=303)
            return
        spawn_url = url_path_join(self.hub_prefix, "spawn", user.escaped_name, quote(server_name))
        self.set_status(stopped_status(self))
        page = await self.render_template(
            "not_running.html",
            user=user,
            viewer=self.current_user,
            is_own=self.current_user is not None and user.name == self.current_user.name,
            may_start=bool(await self.decide(["servers"], Resource(user=user.name, server=server_name))),
            server_name=server_name,
            spawn_url=f"{spawn_url}?{urlencode({'next': self.request.uri})}",
            auth_state=await user.get_auth_state(),
            implicit_spawn_seconds=self.context.implicit_spawn_seconds,
        )
        self.finish(page)

    def _wants_json(self, user_path: str | None) -> bool:
        if "api" in (user_path or "").split("/"):
            return True
        return _prefers_json(self.request.headers.get("Accept", ""))

    async def _redirect_to_user_server(self, user: Any, spawner: Any) -> None:
        """Send the browser on to a server that runs, counting how often that did not help (web §5.4 step 5)."""
        given = self.get_argument("redirects", "")
        try:
            redirected = max(0, int(given)) if given else 0
        except ValueError:
            self.log.warning("Not a number of redirects: %.40r", given)
            redirected, given = 0, ""
        limit = int(self.settings.get("user_redirect_limit", 4))
        version = getattr(spawner, "_jupyterhub_version", None)
        if version and version.partition(".")[0] not in {INTERFACE_VERSION.partition(".")[0], "7"}:
            limit //= 2
        if redirected >= limit:
            raise web.HTTPError(
                500,
                f"The browser was sent back and forth {redirected} times: the proxy does not send {self.request.path} "
                "to the server, although it runs.",
            )
        if redirected:
            await asyncio.sleep(min(2**redirected, 10))
        prefix = url_path_join(self.hub_prefix, "user/")
        uri = self.request.uri or ""
        target = user.url if not uri.startswith(prefix) else self._user_root(user) + uri[len(prefix) :]
        parts = urlsplit(target)
        if given:
            query = re.sub(r"(^|&)redirects=[^&]*", rf"\g<1>redirects={redirected + 1}", parts.query)
        else:
            query = f"{parts.query}&redirects=1" if parts.query else "redirects=1"
        self.redirect(parts._replace(query=query).geturl())

    def _user_root(self, user: Any) -> str:
        host = user.host if self.subdomain_host else ""
        return f"{host}{url_path_join(self.base_url, 'user/')}"


def _prefers_json(accept: str) -> bool:
    """Return whether an `Accept` header likes JSON better than HTML. Naming neither is no preference for JSON."""
    quality = {"application/json": 0.0, "text/html": 0.0}
    for item in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in item.split(";"))
        if media_type in quality:
            weight = next((each[2:] for each in parameters if each.startswith("q=")), "1")
            try:
                quality[media_type] = float(weight)
            except ValueError:
                continue
    return quality["application/json"] > quality["text/html"]


class UserRedirectHandler(BaseHandler):
    """`/hub/user-redirect/…`: a link for everybody, since it leads to the visitor's own server (web §5.5)."""

    @web.authenticated
    async def get(self, path: str = "") -> None:
        user = self.current_user
        hook = self.context.user_redirect_hook
        if hook is not None:
            url = await maybe_future(hook(path, self.request, user, self.base_url))
            if url:
                self.redirect(url)
                return
        server_name = self.default_server_name if self.allow_named_servers else ""
        target = url_path_join(user.server_url(server_name), path) if path.strip("/") else user.server_url(server_name)
        if self.request.query:
            target = f"{target}?{self.request.query}"
        if server_name:
            spawn = url_path_join(self.hub_prefix, "spawn", user.escaped_name, quote(server_name))
        else:
            spawn = url_path_join(self.hub_prefix, "spawn", user.escaped_name)
        self.redirect(f"{spawn}?{urlencode({'next': target})}")


class CSPReportHandler(BaseHandler):
    """Where browsers report what a page tried to load against the policy.

    A browser sends the report by itself and cannot add the XSRF token; being logged in is enough (web §26, 38).
    """

    def check_xsrf_cookie(self) -> None:
        if self.request.headers.get("Content-Type", "").partition(";")[0].strip() not in {
            "application/csp-report",
            "application/reports+json",
        }:
            super().check_xsrf_cookie()

    @web.authenticated
    def post(self) -> None:
        text = self.request.body[:LONGEST_REPORT].decode("utf-8", "replace")
        self.log.warning("Content security report: %s", "".join(c if c.isprintable() else " " for c in text))
        metrics.CSP_REPORTS_TOTAL.inc()


default_handlers: list[Any] = [
    (r"/user-redirect/(.*)?", UserRedirectHandler),
    (r"/user/(?P<user_name>[^/]+)(?P<user_path>/.*)?", UserUrlHandler),
    (r"/security/csp-report", CSPReportHandler),
]
