"""What Prometheus reads (metrics §1)."""

from __future__ import annotations

from typing import Any

from ..web.authz import auth_decorator, metrics_authentication
from .base import BaseHandler

__all__ = ["MetricsHandler", "default_handlers"]


class MetricsHandler(BaseHandler):
    """All metrics as text. Open to holders of read:metrics, or to anybody if so configured."""

    _accept_token_auth = True
    _counts_as_activity = False

    @auth_decorator(metrics_authentication)
    def get(self) -> None:
        from prometheus_client import REGISTRY
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(REGISTRY))


default_handlers: list[Any] = [
    (r"/metrics", MetricsHandler),
    (r"/api/metrics", MetricsHandler),
]
