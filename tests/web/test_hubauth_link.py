"""What a user's server tells its Hub: version at the start, activity later (cli §2.5, §2.9)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from jupyterhub.services.auth import HubAuth
from jupyterhub.singleuser.hublink import HubLink, HubNotFound

from .fake_hub import FakeHub, running_hub

LOG = logging.getLogger("test-link")
MOMENT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


class Pauses:
    """Waits for nothing and remembers for how long it would have been."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    async with running_hub() as fake:
        yield fake


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def link(hub: FakeHub, pauses: Pauses) -> HubLink:
    auth = HubAuth(api_url=hub.api_url, api_token=hub.client_secret)
    return HubLink(
        auth,
        LOG,
        server_name="gpu",
        activity_url=hub.api_url + "/users/ada/activity",
        last_activity=lambda: MOMENT,
        sleep=pauses,
    )


@pytest.mark.parametrize(
    ("version", "warns"),
    [("6.1.1", False), ("6.0.0", False), ("7.0.0", False), ("5.4.0", True), (None, True)],
)
async def test_only_another_major_version_is_warned_of(
    hub: FakeHub, link: HubLink, caplog: pytest.LogCaptureFixture, version: str | None, warns: bool
) -> None:
    hub.version = version
    caplog.set_level(logging.WARNING)
    assert await link.check_version() == version
    assert bool(caplog.records) is warns


async def test_the_version_is_asked_without_the_token(hub: FakeHub, link: HubLink) -> None:
    await link.check_version()
    assert hub.client_secret not in hub.requests[0].headers.get("Authorization", "")


async def test_a_missing_hub_is_tried_five_times(hub: FakeHub, link: HubLink, pauses: Pauses) -> None:
    hub.failures[""] = [503] * 5
    with pytest.raises(HubNotFound, match=hub.api_url):
        await link.check_version()
    assert pauses.seconds == [2, 4, 8, 16, 16]
    hub.failures[""] = [503]
    assert await link.check_version() == "6.1.1"


async def test_a_report_names_server_and_time(hub: FakeHub, link: HubLink) -> None:
    assert await link.report()
    body = json.loads(hub.seen("/users/ada/activity")[0].body)
    text = "2030-01-02T03:04:05Z"
    assert body == {"servers": {"gpu": {"last_activity": text}}, "last_activity": text}


async def test_the_same_time_is_sent_again_but_never_an_older_one(hub: FakeHub, link: HubLink) -> None:
    assert await link.report()
    assert await link.report()
    link.last_activity = lambda: MOMENT - timedelta(seconds=1)
    assert not await link.report()
    link.last_activity = lambda: None
    assert not await link.report()
    assert len(hub.seen("/users/ada/activity")) == 2


async def test_a_failed_report_is_repeated_for_a_minute(hub: FakeHub, link: HubLink, pauses: Pauses) -> None:
    hub.failures["/users/ada/activity"] = [502, 503]
    assert await link.report()
    assert pauses.seconds == [1, 2]
    pauses.seconds.clear()
    hub.failures["/users/ada/activity"] = [503] * 100
    assert not await link.report()
    assert max(pauses.seconds) == 15
    assert 45 <= sum(pauses.seconds) <= 60


async def test_a_refused_report_is_not_repeated(hub: FakeHub, link: HubLink, pauses: Pauses) -> None:
    hub.failures["/users/ada/activity"] = [403]
    assert not await link.report()
    assert pauses.seconds == []


async def test_reports_go_on_after_a_mistake_until_they_are_stopped(
    hub: FakeHub, link: HubLink, pauses: Pauses
) -> None:
    moments: list[Any] = [MOMENT, "not a time", MOMENT]
    done = asyncio.Event()

    def last_activity() -> Any:
        if not moments:
            done.set()
            return None
        return moments.pop(0)

    link.last_activity = last_activity
    link.start()
    await asyncio.wait_for(done.wait(), 10)
    await link.stop()
    assert len(hub.seen("/users/ada/activity")) == 2
    assert all(270 <= seconds <= 330 for seconds in pauses.seconds)


@pytest.mark.parametrize("change", [{"activity_url": ""}, {"interval": 0}])
async def test_reports_can_be_switched_off(hub: FakeHub, link: HubLink, change: dict[str, Any]) -> None:
    for name, value in change.items():
        setattr(link, name, value)
    link.start()
    await link.stop()
    assert hub.requests == []
