"""Coming and going: the log-in form, and a log-out that really ends the session (web §7, §10)."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import Any

from tornado import web
from tornado.escape import url_escape
from tornado.httputil import url_concat

from .. import metrics
from ..web import xsrf
from .base import BaseHandler

__all__ = ["LoginHandler", "LogoutHandler", "default_handlers"]

#: Longest name that is shown again in the form, and that is logged as it is.
LONGEST_SHOWN_NAME = 255
LONGEST_LOGGED_NAME = 32


def abbreviate(name: str) -> str:
    """Return a name short enough for a log line, whatever was typed (metrics §3)."""
    if len(name) <= LONGEST_LOGGED_NAME:
        return name
    return f"{name[:16]}... ({len(name)} characters)"


class LogoutHandler(BaseHandler):
    """`/hub/logout`. A log-in handler of somebody else may redefine each of the three steps of `get`."""

    # An address in a picture of another site must not log anybody out; a link may.
    _xsrf_safe_methods = frozenset({"HEAD", "OPTIONS"})

    @property
    def shutdown_on_logout(self) -> bool:
        return self.context.shutdown_on_logout

    async def _shutdown_servers(self, user: Any) -> None:
        """Stop the user's servers that are ready, waiting up to `slow_stop_timeout` seconds for all of them."""
        servers = self.context.servers
        stops = []
        for name in user.active_names():
            if servers.state_of(user, name).pending:
                continue
            stop = await servers.stop(user, name, requested_by=self.caller, why="its owner logged out")
            stops.append(asyncio.ensure_future(stop.wait(self.context.slow_stop_timeout)))
        for problem in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(problem, Exception):
                self.log.error("A server of %s did not stop at log-out: %s", user.name, problem)

    def _backend_logout_cleanup(self, name: str) -> None:
        """Forget the browser's cookies. For handlers that end a session by other means than `default_handle_logout`."""
        self.log.info("%s logged out", name)
        self.clear_login_cookie()

    async def default_handle_logout(self) -> None:
        """End the session: servers if so configured, tokens of this browser, and the log-in cookie for good."""
        user = self.current_user
        if user is None:
            return
        if self.shutdown_on_logout:
            await self._shutdown_servers(user)
        await self._end_session(user, self.get_session_cookie() or "", self._identity.cookie_value)
        self._session_ended = True
        self._backend_logout_cleanup(user.name)

    async def handle_logout(self) -> None:
        """Do nothing. For authenticators whose service has a session of its own to end."""

    async def render_logout_page(self) -> None:
        """Show where to go from here: a page if visiting the log-in page would log in at once, else that page."""
        if self.authenticator.auto_login:
            self.finish(await self.render_template("logout.html"))
        else:
            self.redirect(self.settings["login_url"], permanent=False)

    async def get(self) -> None:
        began = time.monotonic()
        await self.default_handle_logout()
        await self.handle_logout()
        await self.render_logout_page()
        metrics.LOGOUT_DURATION_SECONDS.observe(time.monotonic() - began)


class LoginHandler(BaseHandler):
    """`/hub/login`: the form, or straight on for somebody who is known."""

    async def get(self) -> None:
        if self.current_user is not None:
            if not self.get_session_cookie():
                self.set_session_cookie()
            self._renew_xsrf_cookie()
            self.redirect(self.get_next_url(self.current_user), permanent=False)
            return
        if self.authenticator.auto_login:
            await self._log_in_elsewhere()
            return
        if xsrf.is_top_level_load(self.request):
            # The form is good for an hour from now, not from the first visit on.
            self._renew_xsrf_cookie(prolong=True)
        self.finish(await self._page(username=self.get_argument("username", default="")))

    async def _log_in_elsewhere(self) -> None:
        """Send the visitor to the authenticator's own page, or log in by what the request itself says."""
        url = self.authenticator.login_url(self.hub_prefix)
        if url != self.settings.get("login_url"):
            if self.get_argument("next", default=""):
                url = url_concat(url, {"next": self.get_next_url()})
            self.redirect(url)
            return
        user = await self.login_user()
        if user is None:
            raise web.HTTPError(403)
        self.redirect(self.get_next_url(user))

    async def post(self) -> None:
        data = {
            name: self.get_body_argument(name, strip=name == "username")
            for name in self.request.body_arguments
            if name != "_xsrf"
        }
        began = time.monotonic()
        user = await self.login_user(data)
        if user is not None:
            self.redirect(self.get_next_url(user))
            self.log.info("%s logged in, in %.3f s", user.name, time.monotonic() - began)
            return
        name = data.get("username", "")
        self.log.warning(
            "Failed login for %r from %s", abbreviate(name), self.request.remote_ip or "an unknown address"
        )
        self.set_status(403)
        self.finish(await self._page(login_error="Wrong user name or password.", username=name))

    async def _page(self, **kwargs: Any) -> str:
        # What third parties make of `_render` is a plain function or a coroutine.
        page = self._render(**kwargs)
        return str(await page) if inspect.isawaitable(page) else str(page)

    def _render(self, login_error: str | None = None, username: str | None = None, **kwargs: Any) -> Any:
        """Return the page with the form, awaitable unless `sync` is among the keywords."""
        next_url = self.get_argument("next", default="")
        name = username or ""
        context = {
            **kwargs,
            "next": url_escape(next_url),
            "username": name if len(name) <= LONGEST_SHOWN_NAME else "",
            "login_error": login_error,
            "xsrf": self.xsrf_token.decode("ascii"),
            "authenticator": self.authenticator,
            "login_url": self.settings.get("login_url", ""),
            "authenticator_login_url": url_concat(self.authenticator.login_url(self.hub_prefix), {"next": next_url}),
        }
        custom = self.authenticator.get_custom_html(self.hub_prefix)
        if custom:
            template = self.settings["jinja2_env_sync"].from_string(custom)
            context["custom_html"] = template.render(**{**self.template_namespace, **context})
        return BaseHandler.render_template(self, "login.html", **context)

    def render_template(self, name: str, sync: bool = False, **ns: Any) -> Any:
        """Show the form again where a posted one ended in an error, so that nobody is thrown off the page."""
        if sync and "status_code" in ns and self.request.method == "POST" and not self._plain_error:
            ns.pop("username", None)
            message = ns.get("message") or "Something went wrong inside the hub. Please try again."
            shown = {"login_error": message, "username": self.get_body_argument("username", "")}
            try:
                inspect.signature(self._render).bind(**shown, sync=True, **ns)
            except TypeError:
                # Made by others, to the shape it had before errors were shown in the form.
                page = self._render(**shown)
            else:
                page = self._render(**shown, sync=True, **ns)
            if isinstance(page, str):
                return page
            # A coroutine cannot be awaited where errors are written.
            if inspect.iscoroutine(page):
                page.close()
        return super().render_template(name, sync, **ns)

    _plain_error = False

    def check_xsrf_cookie(self) -> None:
        """Refuse a form from elsewhere, kindly: an old tab is the likeliest reason.

        Whoever is logged in by now has no use for the form and goes on to where it would have led (web §26, 29).
        """
        try:
            super().check_xsrf_cookie()
        except web.HTTPError as error:
            if not xsrf.is_top_level_load(self.request):
                self._plain_error = True
                raise
            if getattr(self, "_jupyterhub_user", None) is not None:
                self.redirect(self.get_next_url(self.current_user), status=303)
                raise web.Finish() from error
            self.log.warning("The log-in form was too old or came from elsewhere: %s", error)
            raise web.HTTPError(403, "This form had expired. Please try again.") from error


default_handlers: list[Any] = [
    (r"/login", LoginHandler),
    (r"/logout", LogoutHandler),
]
