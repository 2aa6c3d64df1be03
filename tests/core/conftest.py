"""Settings for the property tests of the core."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A busy machine is no reason to fail: what counts here are answers, not times.
settings.register_profile("core", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("core")
