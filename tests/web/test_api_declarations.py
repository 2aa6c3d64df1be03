"""Every operation is declared, and nothing of ours is open without a declaration."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tornado import web

from jupyterhub.apihandlers import default_handlers
from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.apihandlers.declare import ENDPOINTS, operation, register, undeclared_methods
from jupyterhub.apihandlers.schemas import ServerBody, ServiceBody, UserBody, check_body
from jupyterhub.core.errors import InvalidRequest
from jupyterhub.core.scopes.catalogue import scope_definitions


def test_every_registered_handler_declares_what_it_answers() -> None:
    """All handlers in the Hub's own list have declarations for all their methods."""
    for path, handler, *_ in default_handlers:
        assert undeclared_methods(handler) == [], path
        assert any(endpoint.handler is handler and endpoint.path == path for endpoint in ENDPOINTS), path


def test_a_handler_with_an_open_method_cannot_be_registered() -> None:
    """Forgetting the declaration is an error at import, also in a base class."""

    class Forgetful(APIHandler):
        def get(self) -> None:
            self.finish()

    class Heir(Forgetful):
        @operation("Declared", who="anyone")
        def post(self) -> None:
            self.finish()

    class Empty(APIHandler):
        pass

    for handler in (Forgetful, Heir, Empty):
        with pytest.raises(TypeError, match=handler.__name__):
            register([(r"/api/x", handler)])


def test_a_declaration_says_to_whom_the_operation_is_open() -> None:
    """Neither scopes nor anybody else, or both, or an unknown scope: an error at import."""
    for arguments in ({}, {"scopes": ("read:users",), "who": "anyone"}, {"scopes": ("read:everything",)}):
        with pytest.raises(ValueError, match="operation 'X'"):
            operation("X", **arguments)  # type: ignore[arg-type]


def test_the_declared_scopes_exist_and_every_operation_has_a_summary_and_a_result() -> None:
    """What the description of the API will be made of is complete."""
    seen = set()
    for endpoint in ENDPOINTS:
        declared = endpoint.operation
        assert declared.summary, endpoint
        assert declared.responses or declared.errors, endpoint
        assert all(scope in scope_definitions for scope in declared.scopes), endpoint
        re.compile(endpoint.path)
        assert issubclass(endpoint.handler, web.RequestHandler)
        seen.add((endpoint.method, endpoint.path))
    assert len(seen) == len(ENDPOINTS), "an operation is registered twice"
    assert len(seen) >= 74


@pytest.mark.parametrize(
    ("shape", "body", "complaint"),
    [
        (UserBody, [], "an? .*object, not an array"),
        (UserBody, {"admin": 1}, "admin must be true or false"),
        (UserBody, {"nope": 1}, "nope"),
        (UserBody, {"groups": "g"}, "groups must be an array"),
        (ServerBody, {"display_name": None}, "display_name must be a text, not null"),
        (ServerBody, {"user_options": 1}, "an object or null"),
        (ServiceBody, {"info": []}, "info must be an object"),
    ],
)
def test_bodies_are_checked_against_their_shape(shape: Any, body: Any, complaint: str) -> None:
    """A wrong member is named, with what it has to be."""
    with pytest.raises(InvalidRequest, match=complaint):
        check_body(body, shape)


def test_a_body_of_the_right_shape_is_returned() -> None:
    """Optional members may be missing, null is accepted where it is declared."""
    assert check_body({"user_options": None}, ServerBody) == {"user_options": None}
    assert check_body({}, UserBody) == {}
