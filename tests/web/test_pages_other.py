"""Tokens, errors, headers, XSRF, and templates of deployments (web §2, §8, §15, §19, §20)."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from jinja2 import Environment, FileSystemLoader
from tornado import web

from jupyterhub._data import DATA_FILES_PATH
from jupyterhub.core import errors
from jupyterhub.core.lifecycle import Failure
from jupyterhub.handlers import BaseHandler, default_handlers
from jupyterhub.web.authz import admin_only, needs_scope
from jupyterhub.web.errors import STATUS_OF, answer_for

from .fakes import NOW, MemoryCaller, PlayedHub, text_of, token_record

# Tokens


async def test_the_token_page_tells_tokens_from_applications(hub: PlayedHub) -> None:
    hub.token_records = [
        token_record(1, "old one"),
        token_record(2, "<used>", last_activity=NOW),
        token_record(3, "x", "service-x", client_description="Grader"),
        token_record(4, "y", "service-x", last_activity=NOW),
    ]
    browser = await hub.logged_in("ada")
    page = text_of(await browser.get("/hub/token"))
    assert page.index("&lt;used&gt;") < page.index("old one"), "last used first"
    assert page.count('class="token-row"') == 3 and "Grader" in page
    assert '<option value="">Never</option>' in page


async def test_lifetimes_end_where_the_hub_says(hub: PlayedHub) -> None:
    hub.settings["token_expires_in_max_seconds"] = 2 * 86400
    browser = await hub.logged_in("ada")
    page = text_of(await browser.get("/hub/token"))
    assert "Never" not in page and "1 week" not in page
    assert '<option value="172800" selected>As long as allowed (2 days)</option>' in page


async def test_permissions_are_offered_as_they_have_to_be_written(hub: PlayedHub) -> None:
    """A person who may read only their own account is not offered a scope that would be refused."""
    browser = await hub.logged_in("ada", "read:metrics", "read:groups!group=lab")
    page = text_of(await browser.get("/hub/token"))
    for scope in ("servers!user", "read:metrics", "read:groups!group=lab"):
        assert f'class="scope-choice" value="{scope}"' in page
    assert 'value="servers"' not in page


# Headers and errors


async def test_every_page_has_the_hubs_headers(hub: PlayedHub) -> None:
    for path in ("/hub/login", "/hub/home", "/hub/nope", "/"):
        headers = (await hub.browser().get(path)).headers
        assert headers["X-JupyterHub-Version"] == "6.1.1", "the interface we implement"
        assert headers["Content-Security-Policy"] == "frame-ancestors 'none'; report-uri /hub/security/csp-report"
        assert headers["Access-Control-Allow-Headers"] == "accept, content-type, authorization"
        assert headers["Content-Type"] == "text/html"
        assert headers["X-Content-Type-Options"] == "nosniff"


async def test_configured_headers_win(hub: PlayedHub) -> None:
    hub.settings["headers"] = {"Content-Security-Policy": "frame-ancestors 'self'", "X-Extra": "1"}
    headers = (await hub.browser().get("/hub/login")).headers
    assert headers["Content-Security-Policy"] == "frame-ancestors 'self'" and headers["X-Extra"] == "1"


async def test_unknown_addresses_are_not_found_and_methods_not_allowed(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    answer = await browser.get("/hub/nope")
    assert answer.code == 404 and "Not Found" in text_of(answer) and "None" not in text_of(answer)
    for path in ("/hub/home/", "/hub/login/", "/hub/oauth_confirm"):
        assert (await browser.get(path)).code == 404
    assert (await browser.fetch("/hub/login", "HEAD")).code == 405
    assert (await browser.post("/hub/home")).code == 403
    assert (await browser.post("/hub/home", {"_xsrf": browser.cookie("_xsrf")})).code == 405


async def test_the_proxys_error_pages_answer_200(hub: PlayedHub) -> None:
    answer = await hub.browser().get("/hub/error/503?url=/user/x/")
    assert answer.code == 200 and "Service Unavailable" in text_of(answer)
    assert (await hub.browser().get("/hub/error/599")).code == 200
    assert (await hub.browser().get("/hub/error/x")).code == 404


async def test_health_asks_for_nothing(hub: PlayedHub) -> None:
    for path in ("/hub/health", "/hub/api/health"):
        for method in ("GET", "HEAD"):
            answer = await hub.browser().fetch(path, method)
            assert (answer.code, answer.body) == (200, b"")


async def test_metrics_need_a_permission_unless_open(hub: PlayedHub) -> None:
    ada = hub.person("ada", "read:metrics")
    hub.access.tokens["t" * 32] = MemoryCaller("user", "ada", ada.id, ada.scopes)
    browser = hub.browser()
    assert (await browser.get("/hub/metrics")).code == 403
    answer = await browser.get("/hub/metrics", headers={"Authorization": f"Bearer {'t' * 32}"})
    assert answer.code == 200 and answer.headers["Content-Type"].startswith("text/plain; version=")
    hub.settings["authenticate_prometheus"] = False
    assert (await browser.get("/hub/api/metrics")).code == 200


async def test_browsers_can_report_violations_of_the_policy(hub: PlayedHub) -> None:
    """Web §26, 38: a browser cannot add the token, but it is logged in."""
    browser = await hub.logged_in("ada")
    body = json.dumps({"csp-report": {"blocked-uri": "x" * 100_000}})
    headers = {"Content-Type": "application/csp-report"}
    answer = await browser.fetch("/hub/security/csp-report", "POST", body=body, headers=headers)
    assert answer.code == 200
    assert (await browser.post("/hub/security/csp-report")).code == 403
    assert (await hub.browser().fetch("/hub/security/csp-report", "POST", body=body, headers=headers)).code == 403


async def test_the_admin_page_is_for_holders_of_its_scope(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    assert (await browser.get("/hub/admin")).code == 403
    browser = await hub.logged_in("root", "admin-ui")
    answer = await browser.get("/hub/admin")
    assert answer.code == 200 and 'id="react-admin-hook"' in text_of(answer)
    assert 'href="/hub/admin"' in text_of(await browser.get("/hub/home"))


UPSTREAMS_ADDRESSES = [
    "css/style.min.css",
    "css/style.css",
    "js/jhapi.js",
    "js/utils.js",
    "favicon.ico",
    "images/jupyter.png",
    "components/jquery/dist/jquery.min.js",
    "components/bootstrap/dist/js/bootstrap.bundle.min.js",
    "components/bootstrap/dist/css/bootstrap.min.css",
    "components/moment/moment.js",
    "components/requirejs/require.js",
]


async def test_static_files_are_kept_only_under_a_versioned_address(hub: PlayedHub) -> None:
    browser = hub.browser()
    for path in UPSTREAMS_ADDRESSES:
        answer = await browser.get(f"/hub/static/{path}")
        assert answer.code == 200 and answer.headers["Cache-Control"] == "no-cache" and "Etag" not in answer.headers
        assert (await browser.get(f"/hub/static/{path}?v=1")).headers["Cache-Control"] == "max-age=315360000"
    modified = answer.headers["Last-Modified"]
    answer = await browser.get("/hub/static/css/style.css", headers={"If-Modified-Since": modified})
    assert answer.code in {200, 304}
    assert (await browser.get("/hub/static/../templates/page.html")).code in {403, 404}
    assert (await browser.get("/hub/logo")).headers["Content-Type"] == "image/png"


async def test_pages_ask_nothing_of_other_hosts(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    for path in ("/hub/home", "/hub/token", "/hub/spawn-pending/ada", "/hub/nope"):
        page = text_of(await browser.get(path))
        assert "http://" not in page.replace("http://www.w3.org", "").replace(hub.url, "")
        assert "https://" not in page


# Callers


@pytest.mark.parametrize("mode", [None, "navigate", "cors", "no-cors"])
@pytest.mark.parametrize("site", [None, "same-origin", "cross-site"])
async def test_a_cookie_without_a_token_never_changes_anything(
    hub: PlayedHub, mode: str | None, site: str | None
) -> None:
    """CVE-2020-36191, CVE-2026-40864: whatever the browser says about the request."""
    from .fakes import AskingSpawner

    hub.settings["spawner_class"] = AskingSpawner
    browser = await hub.logged_in("ada")
    headers = {"Sec-Fetch-Mode": mode, "Sec-Fetch-Site": site}
    answer = await browser.post("/hub/spawn", headers={k: v for k, v in headers.items() if v})
    assert answer.code == 403 and not hub.servers.started


@pytest.mark.parametrize(
    ("mode", "site", "allowed"),
    [
        (None, None, True),
        ("navigate", "cross-site", True),
        ("websocket", "same-origin", True),
        ("no-cors", "same-origin", True),
        ("no-cors", "same-site", False),
        ("no-cors", "cross-site", False),
        ("cors", "same-origin", False),
        ("cors", "cross-site", False),
    ],
)
async def test_pages_that_act_on_get_are_not_opened_by_pictures(
    hub: PlayedHub, mode: str | None, site: str | None, allowed: bool
) -> None:
    """CVE-2026-40864: the matrix of the API holds for starting a server and for logging out; pages to read are open."""
    headers = {"Sec-Fetch-Mode": mode, "Sec-Fetch-Site": site}
    given = {name: value for name, value in headers.items() if value}
    browser = await hub.logged_in("ada")
    assert (await browser.get("/hub/home", headers=given)).code == 200
    assert (await browser.get("/hub/spawn", headers=given)).code == (302 if allowed else 403)
    assert bool(hub.servers.started) is allowed
    assert (await browser.get("/hub/logout", headers=given)).code == (302 if allowed else 403)
    assert bool(hub.logins.ended) is allowed


async def test_current_user_is_not_known_before_prepare(hub: PlayedHub) -> None:
    class Early(BaseHandler):
        async def prepare(self) -> None:
            with pytest.raises(RuntimeError):
                _ = self.current_user
            await super().prepare()

        def get(self) -> None:
            self.finish(self.current_user.name if self.current_user else "nobody")

    other = PlayedHub()
    rules = other.rules()
    other.rules = lambda: [("/hub/early", Early), *rules]  # type: ignore[method-assign]
    await other.serve()
    try:
        assert text_of(await (await other.logged_in("ada")).get("/hub/early")) == "ada"
        assert text_of(await other.browser().get("/hub/early")) == "nobody"
    finally:
        await other.close()


class Guarded(BaseHandler):
    _accept_token_auth = True

    @needs_scope("read:users")
    def get(self, user_name: str) -> None:
        self.finish(user_name)

    @needs_scope("read:users", "admin:users", post_filter=True)
    async def options(self, anything: str = "") -> None:
        self.finish(str(self.get_scope_filter("read:users")("ada")))

    def post(self, user_name: str) -> None:
        with pytest.warns(DeprecationWarning):
            decorated = admin_only(lambda handler: handler.finish("admin"))
        decorated(self)

    def check_xsrf_cookie(self) -> None:
        """Open to forms of other sites, as plugins may decide."""


async def test_needs_scope_tells_no_permission_from_no_business(hub: PlayedHub) -> None:
    other = PlayedHub()
    rules = other.rules()
    other.rules = lambda: [("/hub/guarded/(?P<user_name>.*)", Guarded), *rules]  # type: ignore[method-assign]
    await other.serve()
    try:
        stranger, browser = other.browser(), await other.logged_in("ada")
        assert (await stranger.get("/hub/guarded/ada")).code == 403
        assert text_of(await browser.get("/hub/guarded/ada")) == "ada"
        assert (await browser.get("/hub/guarded/bob")).code == 404
        other.people["ada"].scopes = type(other.people["ada"].scopes).parse(["servers"])
        answer = await browser.get("/hub/guarded/ada")
        assert answer.code == 403 and "read:users" in text_of(answer)
        assert (await browser.post("/hub/guarded/x")).code == 403
        other.people["ada"].admin = True
        assert text_of(await browser.post("/hub/guarded/x")) == "admin"
    finally:
        await other.close()


def test_an_unknown_scope_is_a_mistake_where_it_is_written() -> None:
    with pytest.raises(ValueError, match="no-such-scope"):
        needs_scope("no-such-scope")


async def test_a_service_is_seen_as_itself(hub: PlayedHub) -> None:
    service = SimpleNamespace(name="grader", url="/", href="/services/grader/", display=True)
    hub.settings["services"] = {"grader": service}
    scopes = type(hub.person("ada").scopes).parse(["read:metrics"])
    hub.access.tokens["s" * 32] = MemoryCaller("service", "grader", 1, scopes)
    headers = {"Authorization": f"token {'s' * 32}"}
    assert (await hub.browser().get("/hub/metrics", headers=headers)).code == 200
    browser = await hub.logged_in("eve", "access:services!service=grader")
    assert 'href="/services/grader/"' in text_of(await browser.get("/hub/home"))
    browser = await hub.logged_in("ada")
    assert "/services/grader/" not in text_of(await browser.get("/hub/home"))


# The table of errors


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidName("x", "it is bad"), 400),
        (errors.UserNotFound("x"), 404),
        (errors.ResourceHidden(), 404),
        (errors.UserExists("x"), 409),
        (errors.PermissionMissing("servers"), 403),
        (errors.NotIdentified(), 403),
        (errors.ServerBusy("a", "b", pending="spawn"), 400),
        (errors.TooManyStarts("later", retry_after=9), 429),
        (errors.TooManyServers("full"), 429),
        (errors.StoreUnavailable("postgresql://secret does not answer"), 503),
        (errors.StartFailed(Failure(cause="x", message="no", status=507)), 507),
        (web.HTTPError(418, "a %s", "teapot"), 418),
        (ValueError("secret"), 500),
    ],
)
def test_every_cause_has_a_status_and_a_message(error: Exception, status: int) -> None:
    answer = answer_for(error)
    assert answer.status == status and answer.reason
    assert answer.message == ("" if isinstance(error, ValueError) and status == 500 else answer.message)
    assert "secret" not in answer.message
    if isinstance(error, errors.TooManyStarts):
        assert answer.headers == {"Retry-After": "9"}
    if status == 418:
        assert answer.message == "a teapot"


def test_every_family_of_errors_is_in_the_table() -> None:
    """A new kind of error has to be given a status; falling through to 500 is not a decision."""
    families = {cls for cls in errors.HubError.__subclasses__() if cls.__module__ == errors.__name__}
    assert families <= set(STATUS_OF)


async def test_what_a_plugin_says_cannot_end_a_header(hub: PlayedHub) -> None:
    browser = await hub.logged_in("ada")
    hub.servers.fail_with = web.HTTPError(409, reason="bad\r\nX-Evil: 1")
    answer = await browser.get("/hub/spawn")
    assert answer.code == 409 and "X-Evil" not in answer.headers


async def test_a_page_that_breaks_is_an_error_page_with_a_reference(
    hub: PlayedHub, caplog: pytest.LogCaptureFixture
) -> None:
    browser = await hub.logged_in("ada")
    hub.servers.fail_with = RuntimeError("the password is hunter2")
    answer = await browser.get("/hub/spawn")
    page = text_of(answer)
    assert answer.code == 500 and "hunter2" not in page
    reference = page.split("<code>")[1].split("</code>")[0]
    assert any(reference in record.getMessage() for record in caplog.records)


# Templates of deployments


def write(folder: Path, **templates: str) -> list[str]:
    for name, text in templates.items():
        (folder / f"{name.replace('__', '-')}.html").write_text(text)
    return [str(folder)]


async def test_an_override_extends_what_it_overrides(tmp_path: Path, hub: PlayedHub) -> None:
    usual = hub
    paths = write(
        tmp_path,
        page='{% extends "templates/page.html" %}{% block footer %}<footer>OURS {{ extra }}</footer>{% endblock %}'
        '{% block script %}{{ super() }}<script>require(["jquery"], function ($) {});</script>{% endblock %}',
        **{"429": '{% extends "error.html" %}{% block h1_error %}<h1>Busy!</h1>{% endblock %}'},
    )
    hub = PlayedHub(template_paths=paths, template_vars={"extra": lambda user: user.name if user else "nobody"})
    await hub.serve()
    try:
        browser = await hub.logged_in("ada")
        page = text_of(await browser.get("/hub/home"))
        assert "<footer>OURS ada</footer>" in page and 'require(["jquery"]' in page
        assert "bootstrap.min.css" in page and page.index("js/amd.js") < page.index('require(["jquery"]')
        assert "bootstrap" not in text_of(await (await usual.logged_in("ada")).get("/hub/home"))
        assert "OURS nobody" in text_of(await hub.browser().get("/hub/login"))
        hub.servers.refuse_with = errors.TooManyServers("full")
        assert "Busy!" in text_of(await browser.get("/hub/spawn"))
    finally:
        await hub.close()


async def test_a_variable_that_raises_costs_itself_only(hub: PlayedHub) -> None:
    """Web §26, 21."""
    hub.settings["template_vars"] = {"announcement": lambda user: user.name}
    answer = await hub.browser().get("/hub/login")
    assert answer.code == 200 and 'id="password_input"' in text_of(answer)


async def test_announcements_are_per_page(hub: PlayedHub) -> None:
    hub.settings["template_vars"] = {
        "announcement": "<b>all</b>",
        "announcement_home": "",
        "announcement_login": "form",
    }
    browser = await hub.logged_in("ada")
    assert "<b>all</b>" in text_of(await browser.get("/hub/token"))
    assert "<b>all</b>" not in text_of(await browser.get("/hub/home"))
    page = text_of(await hub.browser().get("/hub/login"))
    assert "form</div>" in page and "<b>all</b>" not in page


BLOCKS = {
    "page": "title stylesheet favicon scripts meta nav_bar logo nav_bar_left_items service nav_bar_right_items "
    "theme_toggle login_widget header announcement main footer script",
    "login": "login login_container username_input username_input_attrs password_input password_input_attrs otp_input "
    "otp_input_attrs login_terms login_terms_text login_widget main script",
    "logout": "main",
    "home": "main script",
    "spawn": "main heading script",
    "spawn_pending": "main message script",
    "stop_pending": "main message script",
    "not_running": "main heading message start_button script",
    "token": "main expiration_options token_row client_row script",
    "admin": "main footer",
    "oauth": "main login_widget",
    "accept-share": "main login_widget",
    "error": "h1_error error_detail main login_widget script",
    "404": "error_detail",
}


@pytest.mark.parametrize("name", BLOCKS)
def test_templates_have_the_blocks_that_deployments_override(name: str) -> None:
    environment = Environment(loader=FileSystemLoader(f"{DATA_FILES_PATH}/templates"))
    environment.filters.update(isoformat=str, utc=str)
    source = (Path(DATA_FILES_PATH) / "templates" / f"{name}.html").read_text()
    from jinja2 import nodes

    found = {block.name for block in environment.parse(source).find_all(nodes.Block)}
    assert set(BLOCKS[name].split()) <= found


def test_the_frame_renders_for_services_that_know_little() -> None:
    """They load it into an environment of their own, with few variables (plugins §15.1)."""
    environment = Environment(loader=FileSystemLoader([f"{DATA_FILES_PATH}/templates"]), autoescape=True)
    page = environment.get_template("page.html").render(
        static_url=lambda path, **kwargs: f"/hub/static/{path}",
        base_url="/hub/",
        prefix="/",
        login_url="/hub/login",
        logout_url="/hub/logout",
        xsrf_token=b"token",
    )
    assert 'id="login"' in page and "/hub/static/css/style.css" in page


def test_the_lists_of_handlers_are_what_others_change() -> None:
    from jupyterhub.handlers import base, login, metrics, pages

    assert isinstance(default_handlers, list)
    for module in (base, login, metrics, pages):
        assert all(entry in default_handlers for entry in module.default_handlers)
    assert pages.BaseHandler is BaseHandler
