"""Accepting a share: what the link shows, what it gives, and to whom it does nothing (web §18, web-flows §20)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape
from urllib.parse import quote, urlencode

import pytest
from sqlalchemy import update

from jupyterhub import orm

from .fakes import Browser, text_of
from .live_hub import LiveHub

SERVER = "/user/alice/"


@pytest.fixture
async def sharing(small: LiveHub) -> AsyncIterator[LiveHub]:
    """The small Hub, where alice may share her servers."""
    await small.grant("alice", "shares!user", "read:users:name")
    await (await small.user("alice")).ensure_server("lab")
    yield small


async def link(hub: LiveHub, server: str = "", **body: object) -> str:
    """Return the link that alice sends to others."""
    answer = await hub.as_("alice", "POST", f"/share-codes/alice/{server}", dict(body))
    assert answer.status == 200, answer
    return str(answer.json["accept_url"])


def form_of(page: str) -> dict[str, str]:
    """Return the fields that the page's form sends along."""
    return {
        name: unescape(value)
        for name, value in re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page)
    }


async def test_the_link_says_what_it_gives_and_the_button_gives_it(sharing: LiveHub) -> None:
    accept = await link(sharing)
    guest = await sharing.browser("bob")
    assert (await sharing.as_("bob", "GET", "/users/bob/shared")).json["items"] == []
    answer = await guest.get(accept)
    page = text_of(answer)
    assert answer.code == 200
    assert "alice" in page and "bob" in page and f"<code>{SERVER}</code>" in page
    assert "not running" in page, "whoever is sent on has to know that nothing answers there"
    assert (await sharing.as_("bob", "GET", "/users/bob/shared")).json["items"] == [], "looking gives nothing"
    for _ in range(2):
        taken = await guest.fetch(accept, "POST", body=urlencode(form_of(page)))
        assert (taken.code, taken.headers["Location"]) == (302, SERVER)
    (share,) = (await sharing.as_("bob", "GET", "/users/bob/shared")).json["items"]
    assert share["scopes"] == ["access:servers!server=alice/"] and share["user"] == {"name": "bob"}


async def test_a_named_server_has_its_name_on_the_page(sharing: LiveHub) -> None:
    guest = await sharing.browser("bob")
    page = text_of(await guest.get(await link(sharing, "lab", scopes=["access:servers", "read:servers"])))
    assert "<strong>lab</strong>" in page and "<code>/user/alice/lab/</code>" in page
    assert page.count("<li>") >= 2, "one line per permission"


async def test_the_running_server_is_no_reason_for_a_warning(sharing: LiveHub) -> None:
    await sharing.run_server("alice")
    page = text_of(await (await sharing.browser("bob")).get(await link(sharing)))
    assert "not running" not in page


async def test_where_to_go_afterwards(sharing: LiveHub) -> None:
    """`next` goes through the form; another site is ignored."""
    accept = await link(sharing)
    guest = await sharing.browser("bob")
    for wanted, destination in (("/user/alice/lab/tree/x.ipynb", "/user/alice/lab/tree/x.ipynb"), ("//evil.com/", SERVER)):
        address = f"{accept}&next={quote(wanted, safe='')}"
        page = text_of(await guest.get(address))
        assert f"You will go to <code>{destination}</code>" in page
        taken = await guest.fetch(address, "POST", body=urlencode(form_of(page)))
        assert (taken.code, taken.headers["Location"]) == (302, destination)


async def test_to_whom_the_link_does_nothing(sharing: LiveHub) -> None:
    accept = await link(sharing)
    stranger = Browser(sharing.url)
    answer = await stranger.get(accept)
    assert (answer.code, answer.headers["Location"]) == (302, f"/hub/login?next={quote(accept, safe='')}")
    guest, owner = await sharing.browser("bob"), await sharing.browser("alice")
    assert (await guest.get("/hub/accept-share")).code == 400
    assert (await guest.get("/hub/accept-share?code=" + "x" * 24)).code == 404
    assert (await owner.get(accept)).code == 403
    fields = form_of(text_of(await guest.get(accept)))
    assert (await guest.fetch(accept, "POST", body=urlencode({"code": fields["code"]}))).code == 403, "no _xsrf"
    for wrong in ("", "nonsense"):
        refused = await guest.fetch(accept, "POST", body=urlencode({**fields, "code": wrong}))
        assert refused.code == 400
    own = await owner.fetch(
        accept, "POST", body=urlencode({"code": fields["code"], "_xsrf": owner.cookie("_xsrf") or ""})
    )
    assert own.code == 400
    assert (await sharing.as_("bob", "GET", "/users/bob/shared")).json["items"] == []


async def test_a_code_that_ran_out_is_unknown(sharing: LiveHub) -> None:
    accept = await link(sharing)
    guest = await sharing.browser("bob")
    fields = form_of(text_of(await guest.get(accept)))
    await sharing.app.context.database.run(
        lambda session: session.execute(update(orm.ShareCode).values(expires_at=orm.ShareCode.created_at))
    )
    assert (await guest.get(accept)).code == 404
    assert (await guest.fetch(accept, "POST", body=urlencode(fields))).code == 400


@pytest.mark.parametrize(
    ("mode", "site", "status"),
    [
        ("navigate", "cross-site", 200),
        ("no-cors", "same-origin", 200),
        ("no-cors", "same-site", 403),
        ("no-cors", "cross-site", 403),
        ("cors", "same-origin", 403),
    ],
)
async def test_a_picture_of_another_site_sees_nothing(sharing: LiveHub, mode: str, site: str, status: int) -> None:
    """CVE-2026-40864."""
    guest = await sharing.browser("bob")
    headers = {"Sec-Fetch-Mode": mode, "Sec-Fetch-Site": site}
    assert (await guest.get(await link(sharing), headers=headers)).code == status
