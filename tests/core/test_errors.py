"""Errors are named by cause and written for the person who reads them."""

from __future__ import annotations

import inspect
from collections import Counter

import pytest

from jupyterhub.core import errors
from jupyterhub.core.lifecycle import Failure

CLASSES = [
    each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.HubError)
]


def test_every_error_has_a_slug_of_its_own() -> None:
    assert [slug for slug, count in Counter(each.reason for each in CLASSES).items() if count > 1] == []


@pytest.mark.parametrize("error", CLASSES, ids=lambda each: each.__name__)
def test_the_docstring_is_the_default_message(error: type[errors.HubError]) -> None:
    required = {
        name: {"pending": "spawn", "retry_after": 30}.get(name, "x")
        for name, parameter in inspect.signature(error).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is parameter.KEYWORD_ONLY
    }
    made = error(**required)
    assert made.message
    assert str(made) == made.message
    assert error.default_message().endswith(".")


def test_all_errors_are_exported() -> None:
    assert {each.__name__ for each in CLASSES} <= set(errors.__all__)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.UserNotFound("ada"), "'ada'"),
        (errors.ServerNotFound("ada", "lab"), "'lab'"),
        (errors.ServerBusy("ada", "lab", pending="spawn"), "ada's server 'lab' is pending spawn"),
        (errors.ServerBusy(pending="stop"), "pending stop"),
        (errors.ServerNotRunning("ada"), "ada's server is not running"),
        (errors.PermissionMissing("a", "b"), "[a, b]"),
        (errors.InvalidName("a/b", "it contains '/'"), "'a/b'"),
        (errors.TooManyNamedServers("ada", 3), "3 named servers"),
        (errors.StartFailed(Failure("exited", "It ended")), "It ended"),
        (errors.ScopesNotHeld(["b", "a"], "User 'ada'"), "User 'ada' does not have: a, b"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else "",
)
def test_messages_name_the_thing(error: errors.HubError, words: str) -> None:
    assert words in error.message


def test_plugins_may_catch_a_missing_server_as_a_value_error() -> None:
    with pytest.raises(ValueError, match="'lab'"):
        raise errors.ServerNotFound("ada", "lab")
