"""The form of profiles and the page of a share in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest

from jupyterhub.core.lifecycle import State

from .live_hub import LiveHub

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(180),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian's package is called chromium)"),
]

PROFILES = [
    {"display_name": "Small", "description": "For a lecture", "default": True, "overrides": {"mem_limit": "1G"}},
    {
        "display_name": "Data science",
        "profile_options": {
            "cores": {
                "display_name": "Cores",
                "choices": {"two": {"display_name": "2", "default": True, "overrides": {"cpu_limit": 2}}},
                "unlisted_choice": {
                    "enabled": True, "display_name": "Another number", "validation_regex": "^[1-8]$",
                    "overrides": {"environment": {"CORES": "{value}"}},
                },
            }
        },
    },
]


@pytest.fixture
async def hub() -> AsyncIterator[LiveHub]:
    live = LiveHub(Spawner__profiles=PROFILES)
    await live.start()
    yield live
    await live.close()


@pytest.fixture
async def chromium() -> AsyncIterator[Any]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


async def open_as(hub: LiveHub, chromium: Any, name: str, path: str, scheme: str = "light") -> Any:
    """Log in and open a page, with which nothing may be wrong for axe."""
    from axe_playwright_python.async_playwright import Axe

    context = await chromium.new_context(color_scheme=scheme, viewport={"width": 390, "height": 844})
    page = await context.new_page()
    await page.goto(f"{hub.url}/hub/login?next=%2Fhub%2Ftoken")
    await page.fill("input[name=username]", name)
    await page.fill("input[name=password]", "x")
    await page.press("input[name=password]", "Enter")
    await page.wait_for_url("**/hub/token")
    await page.goto(hub.url + path)
    results = await Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_only_the_choices_of_the_chosen_profile_are_asked_for(hub: LiveHub, chromium: Any, scheme: str) -> None:
    page = await open_as(hub, chromium, "ada", "/hub/spawn", scheme)
    cores, other = page.get_by_label("Cores"), page.locator("input.form-control")
    # Where it leads is nobody there to answer: the test has no proxy.
    start = page.get_by_role("button", name="Start")
    assert not await cores.is_visible() and not await other.is_visible()
    await page.get_by_text("Data science").click()
    assert await cores.is_visible() and not await other.is_visible()
    await cores.select_option(label="Another number")
    await other.fill("99")
    await start.click(no_wait_after=True)
    assert await other.evaluate("field => field.validity.patternMismatch"), "the browser says what is wrong"
    assert await hub.state("ada") is State.STOPPED
    # What is no longer asked for does not keep the form from being sent.
    await page.get_by_text("Small").click()
    await start.click(no_wait_after=True)
    await hub.settle("ada", "", State.READY)
    assert (await hub.user("ada")).spawners[""].mem_limit == 2**30
    await (await hub.context.servers.stop(await hub.user("ada"), "")).done
    # Another tab: the first still follows its server.
    page = await page.context.new_page()
    await page.goto(f"{hub.url}/hub/spawn")
    cores, other = page.get_by_label("Cores"), page.locator("input.form-control")
    await page.get_by_text("Data science").click()
    await cores.select_option(label="Another number")
    await other.fill("7")
    await page.get_by_role("button", name="Start").click(no_wait_after=True)
    await hub.settle("ada", "", State.READY)
    assert (await hub.user("ada")).spawners[""].environment["CORES"] == "7"


async def test_a_share_is_accepted_with_one_press(hub: LiveHub, chromium: Any) -> None:
    await hub.grant("ada", "shares!user", "read:users:name")
    await (await hub.user("ada")).ensure_server("")
    link = (await hub.as_("ada", "POST", "/share-codes/ada/", {})).json["accept_url"]
    page = await open_as(hub, chromium, "bob", link)
    await page.get_by_role("button", name="Accept").click()
    await page.wait_for_url("**/user/ada/**")
    shared = await hub.as_("bob", "GET", "/users/bob/shared")
    assert [share["server"]["user"]["name"] for share in shared.json["items"]] == ["ada"]
