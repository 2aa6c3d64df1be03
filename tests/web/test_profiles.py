"""Profiles from a plain list: form, links to a profile, the same by API, the last choice (spawner-system S7)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest

from jupyterhub.core.lifecycle import State

from .fakes import Browser, text_of
from .live_hub import LiveHub

PROFILES: list[dict[str, Any]] = [
    {"display_name": "Small", "default": True, "overrides": {"mem_limit": "1G"}},
    {
        "display_name": "Data science",
        "overrides": {"mem_limit": "4G"},
        "profile_options": {
            "cores": {
                "display_name": "Cores",
                "choices": {
                    "two": {"display_name": "2", "default": True, "overrides": {"cpu_limit": 2}},
                    "four": {"display_name": "4", "overrides": {"cpu_limit": 4}},
                },
            }
        },
    },
    {"display_name": "GPU", "groups": ["g2"], "overrides": {"mem_limit": "8G"}},
]


@pytest.fixture
async def hub() -> AsyncIterator[LiveHub]:
    live = LiveHub(Spawner__profiles=PROFILES)
    await live.start()
    await live.user("ada", groups=("g1",))
    await live.user("carol", groups=("g2",))
    yield live
    await live.close()


async def limits(hub: LiveHub, name: str) -> tuple[Any, Any]:
    """Wait for a running server and return its limits for memory and processors."""
    await hub.settle(name, "", State.READY)
    spawner = (await hub.user(name)).spawners[""]
    return spawner.mem_limit, spawner.cpu_limit


def offered(page: str) -> list[str]:
    return [unescape(value) for value in re.findall(r'name="profile"[^>]*value="([^"]*)"', page)]


async def choose(browser: Browser, page: str, **fields: str) -> int:
    token = re.search(r'name="_xsrf" value="([^"]*)"', page)
    assert token is not None
    answer = await browser.fetch("/hub/spawn", "POST", body=urlencode({"_xsrf": token[1], **fields}))
    return int(answer.code)


async def test_the_form_applies_what_was_chosen_and_offers_it_again(hub: LiveHub) -> None:
    browser = await hub.browser("ada")
    page = text_of(await browser.get("/hub/spawn"))
    assert offered(page) == ["Small", "Data science"], "not what is for another group"
    fields = {"profile": "Data science", "profile-option-data-science--cores": "four"}
    names = re.findall(r'name="(profile-option-[^"]*)"', page)
    assert len(names) == 1
    assert await choose(browser, page, profile="Data science", **{names[0]: "four"}) == 302, fields
    assert await limits(hub, "ada") == (4 * 2**30, 4)
    await (await hub.context.servers.stop(await hub.user("ada"), "")).done
    again = text_of(await browser.get("/hub/spawn"))
    assert re.search(r'value="Data science" required checked', again)
    assert re.search(r'<option value="four" selected', again)


async def test_a_link_to_a_profile_starts_it(hub: LiveHub) -> None:
    browser = await hub.browser("ada")
    for link in ("/hub/spawn?profile=data-science&cores=four", "/hub/spawn?opt-profile=data-science&opt-cores=four"):
        assert (await browser.get(link)).code == 302
        assert await limits(hub, "ada") == (4 * 2**30, 4)
        await (await hub.context.servers.stop(await hub.user("ada"), "")).done


async def test_a_link_to_what_is_not_offered_shows_the_form_and_says_so(hub: LiveHub) -> None:
    """A profile for others does not exist for somebody who may not have it."""
    browser = await hub.browser("ada")
    answer = await browser.get("/hub/spawn?profile=gpu")
    page = text_of(answer)
    assert answer.code == 400
    assert "profile: " in page and "is not offered" in page and offered(page) == ["Small", "Data science"]
    assert await hub.state("ada") is State.STOPPED
    assert (await (await hub.browser("carol")).get("/hub/spawn?profile=gpu")).code == 302
    assert (await limits(hub, "carol"))[0] == 8 * 2**30


async def test_the_same_by_api(hub: LiveHub) -> None:
    answer = await hub.as_("admin", "POST", "/users/ada/server", {"profile": "data-science", "cores": "four"})
    assert answer.status in (201, 202), answer
    assert await limits(hub, "ada") == (4 * 2**30, 4)
    refused = await hub.as_("admin", "POST", "/users/carol/server", {"profile": "data-science", "cores": "nine"})
    assert refused.status == 400 and "cores" in refused.message
