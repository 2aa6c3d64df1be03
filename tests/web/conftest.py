"""Fixtures of the web ring."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .fakes import PlayedHub
from .live_hub import LiveHub


@pytest.fixture
async def hub() -> AsyncIterator[PlayedHub]:
    """A played Hub on a loopback port."""
    played = PlayedHub()
    await played.serve()
    yield played
    await played.close()


@pytest.fixture
async def live(request: pytest.FixtureRequest) -> AsyncIterator[LiveHub]:
    """A whole Hub in this process; `@pytest.mark.parametrize("live", [{…settings}], indirect=True)` configures it."""
    hub = LiveHub(**getattr(request, "param", {}))
    await hub.start()
    yield hub
    await hub.close()


#: The Hub of the corner cases in the API's reference: named servers, small pages, short waits.
SMALL = {
    "allow_named_servers": True,
    "named_server_limit_per_user": 6,
    "api_page_default_limit": 3,
    "api_page_max_limit": 5,
}


@pytest.fixture
async def small() -> AsyncIterator[LiveHub]:
    """A Hub with admin, alice and bob in g1, carol in g2, and pages of 3 to 5 entries."""
    hub = LiveHub(**SMALL)
    await hub.start()
    for name, group in (("alice", "g1"), ("bob", "g1"), ("carol", "g2")):
        await hub.user(name, groups=(group,))
    yield hub
    await hub.close()
