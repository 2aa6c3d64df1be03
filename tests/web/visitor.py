"""A browser for tests: it keeps cookies by path, and does not follow redirects by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse


@dataclass
class Visitor:
    """Somebody's browser. `cookies` is (name, path) → value."""

    base: str
    headers: dict[str, str] = field(default_factory=lambda: {"User-Agent": "visitor"})
    cookies: dict[tuple[str, str], str] = field(default_factory=dict)

    def cookie(self, name: str) -> str | None:
        """The value of a cookie, whatever its path."""
        return next((value for (known, _), value in self.cookies.items() if known == name), None)

    def header_for(self, path: str) -> str:
        """The Cookie header for a path."""
        fitting = [
            f"{name}={value}" for (name, where), value in self.cookies.items() if path.startswith(where)
        ]
        return "; ".join(fitting)

    async def fetch(self, path: str, method: str = "GET", **options: Any) -> HTTPResponse:
        """Send a request with the cookies for its path and keep those of the answer."""
        headers = {**self.headers, **options.pop("headers", {})}
        cookies = self.header_for(path.partition("?")[0])
        if cookies:
            headers.setdefault("Cookie", cookies)
        request = HTTPRequest(
            self.base + path,
            method=method,
            headers=headers,
            follow_redirects=False,
            allow_nonstandard_methods=True,
            **options,
        )
        response = await AsyncHTTPClient().fetch(request, raise_error=False)
        for line in response.headers.get_list("Set-Cookie"):
            self.keep(line)
        return response

    def keep(self, line: str) -> None:
        """Take note of a Set-Cookie header."""
        for name, morsel in SimpleCookie(line).items():
            where = (name, morsel["path"] or "/")
            if morsel.value:
                self.cookies[where] = morsel.value
            else:
                self.cookies.pop(where, None)
