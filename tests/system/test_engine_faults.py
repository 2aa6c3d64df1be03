"""Faults of Docker and Slurm explain themselves through the released spawners, whose errors are their own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .engine_faults import SCHEDULER, WITH_ENGINE, WITHOUT_ENGINE, produce_engine_faults
from .fault_checks import CHECKS
from .fault_report import Reading
from .packages_environment import packages_environment
from .upstream import NotAvailable

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reading]:
    try:
        commands = packages_environment()
    except NotAvailable as reason:
        pytest.skip(f"NOT RUN, as the packages could not be had: {reason}")
    return produce_engine_faults(tmp_path_factory.mktemp("engines"), commands)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", [*WITHOUT_ENGINE, *WITH_ENGINE, *SCHEDULER])
def test_every_fault_explains_itself(
    readings: dict[str, Reading], name: str, check: Callable[[Reading], None]
) -> None:
    check(readings[name])


def test_what_could_not_be_cleared_away_is_told_beside_the_cause(readings: dict[str, Reading]) -> None:
    down = readings["engine-down"]
    assert "may still be running" in down.failure["left_behind"]
