"""Helpers under the name by which older suites import them; there is no test in here."""

from .utils import add_user, api_request, async_requests, auth_header, find_user, public_host, public_url

__all__ = ["add_user", "api_request", "async_requests", "auth_header", "find_user", "public_host", "public_url"]
