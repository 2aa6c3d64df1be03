"""The REST API. `default_handlers` lists the handlers below the Hub's prefix; plugins append theirs at import time."""

from __future__ import annotations

from typing import Any

from . import auth, base, groups, hub, proxy, services, shares, users
from .base import APIHandler

__all__ = ["APIHandler", "auth", "base", "default_handlers", "groups", "hub", "proxy", "services", "shares", "users"]

default_handlers: list[Any] = []
for _module in (auth, hub, proxy, users, groups, services, shares):
    default_handlers.extend(_module.default_handlers)
