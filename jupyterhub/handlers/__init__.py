"""The Hub's pages. `default_handlers` lists them with their addresses below the Hub's prefix, first match wins."""

from __future__ import annotations

from typing import Any

from . import base, login, metrics, pages
from .base import BaseHandler
from .login import LoginHandler, LogoutHandler

__all__ = ["BaseHandler", "LoginHandler", "LogoutHandler", "base", "default_handlers", "login", "metrics", "pages"]

default_handlers: list[Any] = []
for _module in (base, pages, metrics, login):
    default_handlers.extend(_module.default_handlers)
