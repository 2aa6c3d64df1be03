"""The pages people see: home, starting a server, tokens, and the errors the proxy shows."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from jinja2 import TemplateNotFound
from tornado import web

from .._version import __version__
from ..aio import maybe_future
from ..core.errors import (
    AuthenticationStale,
    HubError,
    InvalidRequest,
    ShareCodeNotFound,
    StartCancelled,
    StartFailed,
    UserNotFound,
)
from ..core.lifecycle import State
from ..core.names import check_display_name
from ..core.scopes.algebra import Resource
from ..core.scopes.catalogue import scope_definitions
from ..core.scopes.describe import describe_scopes
from ..core.slugs import is_valid_safe_slug
from ..core.urls import url_path_join
from ..store import shares as share_store
from ..web import authz, errors, redirects
from .base import FAST_FAILURE_SECONDS, BaseHandler
from .token_choices import lifetime_options, written_scopes
from .views import phases_for_page, split_tokens, view_server, view_servers

__all__ = [
    "AcceptShareHandler",
    "AdminHandler",
    "BaseHandler",
    "HealthCheckHandler",
    "HomeHandler",
    "ProxyErrorHandler",
    "RootHandler",
    "SpawnHandler",
    "SpawnPendingHandler",
    "TokenPageHandler",
    "default_handlers",
]

#: Seconds the home page waits for servers to be looked at; slower looks go on without it.
HOME_CHECK_SECONDS = 2.0


class RootHandler(BaseHandler):
    """`/hub/`: wherever a person most likely wants to be (web §5.2)."""

    async def get(self) -> None:
        configured = self.default_url
        url = configured(self) if callable(configured) else configured
        if url:
            self.redirect(url)
            return
        user = self.current_user
        if user is None:
            login = self.settings["login_url"]
            self.redirect(f"{login}{'&' if '?' in login else '?'}{urlencode({'next': self.request.uri})}")
            return
        self.redirect(self.get_next_url(user))


class HomeHandler(BaseHandler):
    """`/hub/home`: what runs, since when, and one clear thing to do with each server."""

    @web.authenticated
    async def get(self) -> None:
        user = self.current_user
        # Templates of deployments expect every user to have a default server, started or not.
        await user.ensure_server("")
        await self._look_at_servers(user)
        servers = await view_servers(self.context, user)
        default = servers[""]
        page = await self.render_template(
            "home.html",
            user=user,
            auth_state=await auth_state_of(self, user),
            url=default.url if default.active else default.spawn_url,
            allow_named_servers=self.allow_named_servers,
            named_server_limit_per_user=await self.get_current_user_named_server_limit(),
            url_path_join=url_path_join,
            default_server=default,
            spawners=[server for name, server in servers.items() if name],
            invalid_server_names=[name for name in servers if name and not is_valid_safe_slug(name)],
        )
        self.finish(page)

    async def _look_at_servers(self, user: Any) -> None:
        """Notice servers that died, without letting a slow answer hold up the page."""
        context = self.context
        looks = [
            context.background.start(self.user_stopped(user, name), name=f"look at {user.name}/{name}")
            for name in user.active_names()
            if context.servers.state_of(user, name).ready
        ]
        if looks:
            await asyncio.wait(looks, timeout=HOME_CHECK_SECONDS)


async def auth_state_of(handler: BaseHandler, user: Any) -> Any:
    """Return a user's authentication state for a template, or None where none is kept."""
    if not getattr(handler.authenticator, "enable_auth_state", False):
        return None
    return await user.get_auth_state()


class ServerPage(BaseHandler):
    """What the pages around starting a server share."""

    async def _target(self, user_name: str | None, server_name: str) -> Any:
        """Return whose server it is about, if the caller may start and stop it; the caller's own without a name.

        Raises ResourceHidden (404) for a server that is none of the caller's business, existing or not.
        """
        user = self.current_user
        name = user.name if user_name is None else user_name
        await authz.require(self, ["servers"], Resource(user=name, server=server_name))
        if name == user.name:
            return user
        found = await self.context.directory.find(name)
        if found is None:
            raise UserNotFound(name)
        return found

    def _get_pending_url(self, user: Any, server_name: str) -> str:
        parts = [user.escaped_name, quote(server_name)] if server_name else [user.escaped_name]
        url = url_path_join(self.hub_prefix, "spawn-pending", *parts)
        return self.append_query_parameters(url, exclude=["_xsrf", "display_name"])

    @property
    def extra_error_html(self) -> str:
        return f'<p><a class="btn btn-primary" href="{self.hub_prefix}home">Home</a></p>'


class SpawnHandler(ServerPage):
    """`/hub/spawn…`: start a server, or ask with which options first (web §13.1, §13.2)."""

    # A GET starts a server, so an address in a picture of another site must do nothing; a link may (CVE-2026-40864).
    _xsrf_safe_methods = frozenset({"HEAD", "OPTIONS"})

    @web.authenticated
    async def get(self, user_name: str | None = None, server_name: str = "") -> None:
        await self._get(user_name, server_name, self.get_query_argument("display_name", ""))

    @web.authenticated
    async def post(self, user_name: str | None = None, server_name: str = "", display_name: str = "") -> None:
        await self._post(user_name, server_name, display_name or self.get_query_argument("display_name", ""))

    async def _prepare_server(self, user_name: str | None, server_name: str, display_name: str) -> Any:
        user = await self._target(user_name, server_name)
        if display_name:
            check_display_name(display_name)
        await self._check_named_server_request(user, server_name)
        return user

    async def _get(self, user_name: str | None, server_name: str, display_name: str) -> None:
        user = await self._prepare_server(user_name, server_name, display_name)
        status = self.context.servers.state_of(user, server_name)
        if status.ready:
            self.redirect(self.get_next_url(user, default=user.server_url(server_name)))
            return
        pending_url = self._get_pending_url(user, server_name)
        if status.active:
            self.redirect(pending_url)
            return
        query = self._query_options()
        spawner = await self._spawner(user, server_name, display_name)
        form = await self._options_form(user, spawner)
        if query is None:
            if form:
                self.finish(await self._shown(self._render_form(user, form)))
                return
            try:
                await self._wrap_spawn_single_user(user, server_name, display_name, spawner, pending_url)
            except StartFailed:
                # There is no form to choose anew in; where the start is followed, its failure is explained.
                self.redirect(pending_url)
            return
        try:
            options = await maybe_future(spawner.options_from_query(query))
            await self._wrap_spawn_single_user(user, server_name, display_name, spawner, pending_url, options=options)
        except Exception as error:
            if not form or isinstance(error, AuthenticationStale):
                raise
            await self._form_with_error(user, form, error)

    async def _post(self, user_name: str | None, server_name: str, display_name: str) -> None:
        user = await self._prepare_server(user_name, server_name, display_name)
        status = self.context.servers.state_of(user, server_name)
        if status.active:
            raise web.HTTPError(400, f"{user.name}'s server is {'running' if status.ready else 'busy'} already")
        spawner = await self._spawner(user, server_name, display_name)
        pending_url = self._get_pending_url(user, server_name)
        fields: dict[str, Any] = {
            name: [value.decode("utf-8", "replace") for value in values]
            for name, values in self.request.body_arguments.items()
            if name != "_xsrf"
        }
        for name, files in self.request.files.items():
            fields[f"{name}_file"] = files
        try:
            options = await maybe_future(spawner.run_options_from_form(fields))
            await self._wrap_spawn_single_user(user, server_name, display_name, spawner, pending_url, options=options)
        except Exception as error:
            if isinstance(error, AuthenticationStale):
                raise
            await self._form_with_error(user, await self._options_form(user, spawner), error)

    def _query_options(self) -> dict[str, list[str]] | None:
        """Return the options in the address, or None if it has none (config §9.5)."""
        reserved = {"next", "display_name", "_xsrf"}
        given = {name: self.get_query_arguments(name) for name in self.request.query_arguments if name not in reserved}
        marked = {name[4:]: values for name, values in given.items() if name.startswith("opt-")}
        if "" in marked:
            raise web.HTTPError(422, "The option 'opt-' in this address has no name")
        if not marked:
            # `?profile=…` is how links to a profile are written.
            if given and "profile" not in given:
                self.log.warning(
                    "Options without the prefix 'opt-' in an address are old style: %.200s", ", ".join(given)
                )
            return given or None
        if len(marked) < len(given):
            ignored = [name for name in given if not name.startswith("opt-")]
            self.log.warning("Ignoring what has no prefix 'opt-' in an address: %.200s", ", ".join(ignored))
        return marked

    async def _spawner(self, user: Any, server_name: str, display_name: str) -> Any:
        await user.ensure_server(server_name, display_name)
        return user.spawners[server_name]

    async def _options_form(self, user: Any, spawner: Any) -> str:
        """Return the HTML that asks for options, '' if the spawner asks for none."""
        if not spawner.options_form and not _redefines(spawner, "get_options_form"):
            return ""
        spawner.handler = self
        await spawner.run_auth_state_hook(await auth_state_of(self, user))
        return str(await spawner.get_options_form() or "")

    def _render_form(self, for_user: Any, spawner_options_form: str, message: str = "", html_message: str = "") -> Any:
        """Return the page that asks for options, awaitable."""
        url = self._form_url()
        token = self.xsrf_token.decode("ascii")
        with_token = f"{url}{'&' if '?' in url else '?'}{urlencode({'_xsrf': token})}"
        return self.render_template(
            "spawn.html",
            for_user=for_user,
            spawner_options_form=spawner_options_form,
            error_message=message,
            html_error_message=html_message,
            error_html_message=html_message,
            # Old overrides of the page rely on the token in the address; ours keeps it in the form.
            url=with_token,
            form_url=url,
            is_own=for_user.name == self.current_user.name,
            spawner=for_user.spawner,
            auth_state=self._form_auth_state,
        )

    _form_auth_state: Any = None

    def _form_url(self) -> str:
        parts = urlsplit(self.request.uri or "")
        if not self._query_failed:
            return self.append_query_parameters(parts.path, exclude=["_xsrf"])
        # What the address asked for did not work; the form replaces it.
        kept: dict[str, str] = {
            name: self.get_query_argument(name) for name in ("next", "display_name") if name in self._query
        }
        return f"{parts.path}?{urlencode(kept)}" if kept else parts.path

    _query_failed = False

    @property
    def _query(self) -> dict[str, list[bytes]]:
        return self.request.query_arguments

    async def _shown(self, page: Any) -> str:
        return str(await page) if inspect.isawaitable(page) else str(page)

    async def _form_with_error(self, user: Any, form: str, error: Exception) -> None:
        """Show the form again with what went wrong, and the status and headers that the error asks for."""
        answer = errors.answer_for(error)
        if answer.status >= 500 and not isinstance(error, (HubError, web.HTTPError)):
            self.log.error("Options of %s could not be used", user.name, exc_info=error)
        self.set_status(answer.status)
        for name, value in answer.headers.items():
            self.set_header(name, value)
        self._query_failed = True
        message = answer.message or "The server could not be started with these options."
        self.finish(await self._shown(self._render_form(user, form, message, answer.message_html)))

    async def _wrap_spawn_single_user(
        self,
        user: Any,
        server_name: str,
        display_name: str,
        spawner: Any,
        pending_url: str,
        options: dict[str, Any] | None = None,
    ) -> None:
        """Begin a start and send the browser to the page that follows it.

        What fails at once is raised instead, so that it is answered where the person is. Waiting ends as soon as the
        spawner's own part is done: what can still go wrong then takes longer than anybody should look at nothing.
        """
        servers = self.context.servers
        start = await servers.start(
            user,
            server_name,
            display_name=display_name,
            options=options,
            handler=self,
            requested_by=self.caller,
        )
        loop = asyncio.get_running_loop()
        deadline = loop.time() + FAST_FAILURE_SECONDS
        while loop.time() < deadline:
            try:
                if await start.wait(0.02):
                    break
            except StartCancelled:
                break
            if servers.state_of(user, server_name).state is not State.STARTING:
                break
        self.redirect(pending_url)


def _redefines(spawner: Any, name: str) -> bool:
    """Return whether a spawner's class has its own version of a method of ours."""
    return not getattr(type(spawner), name).__module__.startswith("jupyterhub.")


class SpawnPendingHandler(ServerPage):
    """`/hub/spawn-pending/…`: follow a start or a stop; never begins one (web §13.3)."""

    @web.authenticated
    async def get(self, user_name: str, server_name: str = "") -> None:
        user = await self._target(user_name, server_name)
        if server_name and server_name not in await self.context.directory.server_records(user):
            raise web.HTTPError(404, f"{user.name} has no server named {server_name!r}")
        status = self.context.servers.state_of(user, server_name)
        if status.ready:
            self.redirect(self._ready_url(user, server_name))
            return
        common = {
            "user": user,
            "viewer": self.current_user,
            "is_own": user.name == self.current_user.name,
            "server_name": server_name,
            "auth_state": await auth_state_of(self, user),
        }
        failed = status.failure is not None and status.failure.cause != "cancelled"
        # A start that failed is explained at once, however long it takes to clear away what it had begun.
        if status.pending and not (failed and status.state is State.UNDOING):
            records = await self.context.directory.server_records(user)
            server = view_server(self.context, user, server_name, records.get(server_name))
            name = "stop_pending.html" if status.pending == "stop" else "spawn_pending.html"
            page = await self.render_template(
                name,
                spawner=server,
                progress_url=self._progress_url(user, server_name),
                phases=phases_for_page(status.phases),
                ready_url=self._ready_url(user, server_name),
                **common,
            )
        else:
            page = await self._not_running(user, server_name, status, common)
        self.finish(page)

    def _progress_url(self, user: Any, server_name: str) -> str:
        return f"{user.progress_url(server_name)}?{urlencode({'_xsrf': self.xsrf_token.decode('ascii')})}"

    def _ready_url(self, user: Any, server_name: str) -> str:
        """Return where to go when the server is ready.

        An address of the Hub that stands for the server's own is taken for that, since going through it would leave
        a counter of redirects in the address bar (web §26, 3).
        """
        url = self.get_next_url(user, default=user.server_url(server_name))
        waiting = url_path_join(self.hub_prefix, "user", user.escaped_name) + "/"
        if url.startswith(waiting):
            url = user.url + url[len(waiting) :]
        return url

    async def _not_running(self, user: Any, server_name: str, status: Any, common: dict[str, Any]) -> str:
        parts = [user.escaped_name, quote(server_name)] if server_name else [user.escaped_name]
        spawn_url = url_path_join(self.hub_prefix, "spawn", *parts)
        next_url = self.get_argument("next", default="")
        if next_url:
            spawn_url = f"{spawn_url}?{urlencode({'next': next_url})}"
        failure = status.failure
        failed: dict[str, Any] = {"failed": False}
        if failure is not None and failure.cause != "cancelled":
            self.set_status(failure.status or 500)
            failed = {
                "failed": True,
                "failed_message": failure.message,
                "failed_html_message": failure.html_message,
                "failure": failure,
                "failure_title": failure.title,
                "phases": phases_for_page(status.phases),
                "output": await self.context.servers.output_tail(user, server_name),
                "exception": None,
            }
        page = await self.render_template(
            "not_running.html",
            spawn_url=spawn_url,
            may_start=status.stopped,
            clearing_away=not status.stopped,
            cancelled=failure is not None and failure.cause == "cancelled",
            implicit_spawn_seconds=0,
            **common,
            **failed,
        )
        return str(page)


class TokenPageHandler(BaseHandler):
    """`/hub/token`: ask for a token, see and revoke what there is (web §15)."""

    @web.authenticated
    async def get(self) -> None:
        user = self.current_user
        api_tokens, oauth_clients = split_tokens(await self.context.tokens.list_for(user))
        longest = int(self.settings.get("token_expires_in_max_seconds") or 0)
        page = await self.render_template(
            "token.html",
            api_tokens=api_tokens,
            oauth_clients=oauth_clients,
            auth_state=await auth_state_of(self, user),
            token_expires_in_options_html=lifetime_options(longest),
            token_expires_in_max_seconds=longest,
            scope_choices=self._scope_choices(),
        )
        self.finish(page)

    def _scope_choices(self) -> list[dict[str, str]]:
        """Return what the person may put into a token, as it has to be written, with a sentence about each."""
        choices = []
        for name, filters in sorted(self.parsed_scopes.items()):
            description = str(scope_definitions.get(name, {}).get("description", ""))
            choices += [
                {"scope": scope, "description": description}
                for scope in written_scopes(name, filters, self.current_user.name)
            ]
        return choices


class AcceptShareHandler(BaseHandler):
    """`/hub/accept-share?code=…`: what a code gives, and taking it."""

    # People follow the link from anywhere; a page of another site must not load it behind their back (CVE-2026-40864).
    _xsrf_safe_methods = frozenset({"HEAD", "OPTIONS"})

    @web.authenticated
    async def get(self) -> None:
        text = self.get_query_argument("code", "")
        if not text:
            raise web.HTTPError(400, "This address has no code. Ask for the whole link again")
        code = await self.context.database.read(share_store.find_code, text)
        user = self.current_user
        if code.owner == user.name:
            raise web.HTTPError(403, "This link is for others: the server is your own")
        owner = await self._owner(code.owner)
        records = await self.context.directory.server_records(owner)
        server = view_server(self.context, owner, code.server, records.get(code.server))
        page = await self.render_template(
            "accept-share.html",
            code=text,
            owner=owner,
            spawner=server,
            spawner_ready=server.ready,
            spawner_url=owner.server_url(code.server),
            scope_descriptions=[line.to_dict() for line in describe_scopes(code.scopes, user.name)],
            next_url=self._next_url(owner, code.server),
        )
        self.finish(page)

    @web.authenticated
    async def post(self) -> None:
        text = self.get_body_argument("code", "")
        user = self.current_user
        try:
            share = await self.context.database.run(share_store.exchange_code, text, user.id)
        except ShareCodeNotFound as error:
            # The page with the code was shown already: what is wrong is the form that was sent.
            raise InvalidRequest("This code is not valid, or no longer. Ask for a new link") from error
        self.context.access.forget_all()
        self.log.info("%s accepted the use of %s/%s", user.name, share.owner, share.server)
        self.redirect(self._next_url(await self._owner(share.owner), share.server))

    async def _owner(self, name: str) -> Any:
        owner = await self.context.directory.find(name)
        if owner is None:
            raise UserNotFound(name)
        return owner

    def _next_url(self, owner: Any, server_name: str) -> str:
        """Return where to go with the share: where the link points, else to the server."""
        wanted = self._validate_next_url(self.get_argument("next", default=""))
        return redirects.location(wanted or owner.server_url(server_name))


class AdminHandler(BaseHandler):
    """`/hub/admin`: everybody and their servers, a page at a time."""

    @web.authenticated
    @authz.needs_scope("admin-ui")
    async def get(self) -> None:
        page = await self.render_template(
            "admin.html",
            current_user=self.current_user,
            auth_state=await auth_state_of(self, self.current_user),
            admin_access=True,
            allow_named_servers=self.allow_named_servers,
            named_server_limit_per_user=await self.get_current_user_named_server_limit(),
            server_version=f"{__version__} {self.version_hash}".strip(),
            api_page_limit=self.settings.get("api_page_default_limit", 50),
        )
        self.finish(page)


class ProxyErrorHandler(BaseHandler):
    """`/hub/error/<code>`: the page that the proxy shows when it gets no answer (web §5.6)."""

    async def get(self, status_code_s: str) -> None:
        status = int(status_code_s)
        namespace: dict[str, Any] = {
            "status_code": status,
            "status_message": errors.phrase_of(status),
            "message": "",
            "message_html": "",
            "extra_error_html": "",
            "exception": None,
            "logo_url": self.hub_prefix + "home",
            "advice": errors.answer_for(None, status).advice,
        }
        if status == 503:
            namespace["message"] = "The server does not answer. It may have been stopped."
            home = f'<a class="btn btn-primary" href="{self.hub_prefix}home">Go to your home page</a>'
            namespace["extra_error_html"] = f"<p>{home}</p>"
        try:
            page = await self.render_template(f"{status}.html", **namespace)
        except TemplateNotFound:
            page = await self.render_template("error.html", **namespace)
        self.finish(page)


class HealthCheckHandler(BaseHandler):
    """`/hub/health`: the Hub answers. Asks nothing of anything else, and nobody for credentials."""

    _counts_as_activity = False

    async def prepare(self) -> None:
        """Identify nobody: a probe has no credentials and must not depend on the database."""
        self._jupyterhub_user = None

    def get(self, *args: str) -> None:
        self.finish()

    head = get


default_handlers: list[Any] = [
    (r"/", RootHandler),
    (r"/home", HomeHandler),
    (r"/admin", AdminHandler),
    (r"/spawn-pending/([^/]+)", SpawnPendingHandler),
    (r"/spawn-pending/([^/]+)/([^/]+)", SpawnPendingHandler),
    (r"/spawn", SpawnHandler),
    (r"/spawn/([^/]+)", SpawnHandler),
    (r"/spawn/([^/]+)/([^/]+)", SpawnHandler),
    (r"/token", TokenPageHandler),
    (r"/accept-share", AcceptShareHandler),
    (r"/error/(\d+)", ProxyErrorHandler),
    (r"/health", HealthCheckHandler),
    (r"/api/health", HealthCheckHandler),
]
