"""Somebody with a browser but without JavaScript: cookies, forms, redirects. For tests that need no real browser."""

from __future__ import annotations

import re
from typing import Any

import requests

from .hub_process import HubProcess


class Person:
    """One browser session. Methods raise AssertionError when the Hub does not do what a person would expect."""

    def __init__(self, hub: HubProcess, name: str) -> None:
        self.hub, self.name = hub, name
        self.session = requests.Session()

    def get(self, path: str, **kwargs: Any) -> requests.Response:
        kwargs.setdefault("timeout", 60)
        return self.session.get(path if path.startswith("http") else self.hub.url + path, **kwargs)

    def post(self, path: str, **kwargs: Any) -> requests.Response:
        kwargs.setdefault("timeout", 60)
        return self.session.post(path if path.startswith("http") else self.hub.url + path, **kwargs)

    def xsrf(self) -> str:
        """Return the XSRF token that the Hub's pages give to this browser."""
        page = self.get("/hub/home", headers={"Sec-Fetch-Mode": "navigate"})
        found = re.search(r'name="_xsrf"\s+value="([^"]+)"', page.text) or re.search(
            r'xsrf_token"?\s*[:=]\s*"([^"]+)"', page.text
        )
        if found:
            return found[1]
        return next(cookie.value or "" for cookie in self.session.cookies if cookie.name == "_xsrf")

    def log_in(self, password: str) -> requests.Response:
        """Fill in the log-in form and follow where it leads."""
        page = self.get("/hub/login?next=%2Fhub%2Fhome")
        assert page.status_code == 200, page.text[:500]
        found = re.search(r'name="_xsrf"\s+value="([^"]*)"', page.text)
        assert found, "the log-in form has no _xsrf field"
        return self.post(
            "/hub/login?next=%2Fhub%2Fhome",
            data={"username": self.name, "password": password, "_xsrf": found[1]},
            headers={"Sec-Fetch-Mode": "navigate", "Origin": self.hub.url},
        )

    def is_logged_in(self) -> bool:
        return self.get("/hub/home", allow_redirects=False).status_code == 200
