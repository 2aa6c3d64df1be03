"""XSRF tokens under the names that other projects import (plugins §11); see `jupyterhub.web.xsrf`."""

from __future__ import annotations

from .web.xsrf import anonymous_id as _anonymous_xsrf_id
from .web.xsrf import check_xsrf_cookie, get_xsrf_token
from .web.xsrf import needs_check as _needs_check_xsrf
from .web.xsrf import read_token_cookie as _get_xsrf_token_cookie
from .web.xsrf import set_xsrf_cookie as _set_xsrf_cookie

__all__ = [
    "_anonymous_xsrf_id",
    "_get_xsrf_token_cookie",
    "_needs_check_xsrf",
    "_set_xsrf_cookie",
    "check_xsrf_cookie",
    "get_xsrf_token",
]
