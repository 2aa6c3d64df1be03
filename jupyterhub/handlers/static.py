"""Files that are served as they are: scripts, styles, images, the logo."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Awaitable
from typing import Any

from tornado.web import StaticFileHandler

__all__ = ["CacheControlStaticFilesHandler", "LogoHandler"]

# Not every system's table of media types knows these, and browsers refuse a module of another type.
mimetypes.add_type("text/javascript", ".js")
mimetypes.add_type("text/css", ".css")
mimetypes.add_type("image/svg+xml", ".svg")


class CacheControlStaticFilesHandler(StaticFileHandler):
    """Static files: kept for ten years under an address with a version, asked for again without one (web §2)."""

    def compute_etag(self) -> str | None:
        """Return nothing: the time of last modification is what conditional requests go by."""
        return None

    def set_extra_headers(self, path: str) -> None:
        if "v" not in self.request.arguments:
            self.add_header("Cache-Control", "no-cache")
        self.set_header("X-Content-Type-Options", "nosniff")


class LogoHandler(StaticFileHandler):
    """One file, whatever the address says. Registered with `{"path": file}`."""

    def initialize(self, path: str, *arguments: Any, **options: Any) -> None:
        self._file = os.path.abspath(path)
        super().initialize(os.path.dirname(self._file), *arguments, **options)

    def get(self, path: str | None = None, include_body: bool = True) -> Awaitable[None]:  # type: ignore[override]
        return super().get(os.path.basename(self._file), include_body)

    def head(self, path: str | None = None) -> Awaitable[None]:
        return self.get(path, include_body=False)


default_handlers: list[Any] = []
