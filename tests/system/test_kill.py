"""The Hub can be killed at any instant and nothing is lost (25 kills and more here; `make kill-test` does 100)."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import kill_harness


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("spawner", "kills"), [("local", 13), ("found-by-name", 13)])
def test_nothing_is_lost_when_the_hub_is_killed_again_and_again(tmp_path: Path, spawner: str, kills: int) -> None:
    report = kill_harness.run(tmp_path / "hub", spawner, kills=kills, people=3, seed=7)
    assert report.kills >= kills
    assert not report.problems, report.problems
