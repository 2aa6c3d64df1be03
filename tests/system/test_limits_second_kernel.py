"""Limits by cgroup version 2, which this machine may not have: the same contract tests in a second kernel."""

from __future__ import annotations

import pytest

from . import second_kernel

pytestmark = [pytest.mark.engine, pytest.mark.timeout(150)]


@pytest.mark.skipif(bool(second_kernel.missing()), reason=second_kernel.missing())
def test_cgroup_version_2_is_held_to_the_contract() -> None:
    result = second_kernel.run(second_kernel.contract_command("cgroup2"))
    assert result.status == 0, result.output or result.console[-3000:]
    assert " passed" in result.output and "skipped" not in result.output
