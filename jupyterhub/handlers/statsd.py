"""What is left of a client for statsd: handlers of released authenticators still report to `self.statsd`.

Nothing is sent anywhere; the Hub's metrics are Prometheus's.
"""

from __future__ import annotations

from typing import Any

__all__ = ["NoStatsd", "NoTimer"]


class NoTimer:
    """A timer that measures nothing; also a context manager, as the real one is."""

    def start(self) -> NoTimer:
        """Begin."""
        return self

    def stop(self, send: bool = True) -> NoTimer:
        """End."""
        return self

    def send(self) -> None:
        """Report."""

    def __enter__(self) -> NoTimer:
        return self

    def __exit__(self, *error: object) -> None:
        """End."""


class NoStatsd:
    """Takes every report and forgets it."""

    def timer(self, stat: str, rate: float = 1) -> NoTimer:
        """Return a timer."""
        return NoTimer()

    def _forget(self, stat: str, *value: Any, **details: Any) -> None:
        """Forget a number."""

    incr = decr = gauge = set = timing = _forget
