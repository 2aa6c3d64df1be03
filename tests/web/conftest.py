"""Fixtures of the web ring."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .fakes import PlayedHub


@pytest.fixture
async def hub() -> AsyncIterator[PlayedHub]:
    """A played Hub on a loopback port."""
    played = PlayedHub()
    await played.serve()
    yield played
    await played.close()
