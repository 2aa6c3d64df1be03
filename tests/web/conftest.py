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
