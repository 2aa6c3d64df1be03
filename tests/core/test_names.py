"""Which names are allowed."""

from __future__ import annotations

import pytest

from jupyterhub.core.errors import InvalidName
from jupyterhub.core.names import (
    check_display_name,
    check_server_name,
    check_service_name,
    check_user_name,
    is_valid_user_name,
    normalise_user_name,
    server_client_id,
    service_client_id,
)


@pytest.mark.parametrize(
    "name", ["%2F", ".a", "ünïcode", "a b", "x" * 300, "a%", "😀", "user@example.com", "A"]
)
def test_user_names_that_are_allowed(name: str) -> None:
    assert check_user_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "%2e", "%2E.", "a/b", " a", "a ", "a\n", "\ta", "..."])
def test_user_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidName) as caught:
        check_user_name(name)
    assert caught.value.name == name


def test_the_pattern_is_anchored_at_the_beginning_only() -> None:
    assert is_valid_user_name("abc1", "[a-z]+")
    assert not is_valid_user_name("1abc", "[a-z]+")


@pytest.mark.parametrize(("given", "expected"), [("ALICE", "Bob"), ("Carl", "carl"), ("bob", "bob")])
def test_names_are_lowered_then_mapped_and_not_lowered_again(given: str, expected: str) -> None:
    assert normalise_user_name(given, {"alice": "Bob"}) == expected
    assert normalise_user_name("ADA") == "ada"


@pytest.mark.parametrize("name", ["a b", "ünï", "100%", "web svc", "a.b"])
def test_service_names_that_are_allowed(name: str) -> None:
    assert check_service_name(name) == name


@pytest.mark.parametrize("name", ["", "a/b", "a%20b", "..", " a", "a\n"])
def test_service_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidName, match="service"):
        check_service_name(name)


def test_server_and_display_names_say_what_is_allowed() -> None:
    assert check_server_name("lab-1") == "lab-1"
    assert check_display_name("My lab ½") == "My lab ½"
    with pytest.raises(InvalidName, match="hyphens"):
        check_server_name("Lab")
    with pytest.raises(InvalidName, match="printable"):
        check_display_name(" lab")


@pytest.mark.parametrize(
    ("user", "server", "expected"),
    [
        ("o'br@x y", "", "jupyterhub-user-o%27br%40x%20y"),
        ("alice", "gpu", "jupyterhub-user-alice-gpu"),
        ("a~b_c.d", "", "jupyterhub-user-a~b_c.d"),
        ("alice", "é", "jupyterhub-user-alice-%C3%A9"),
    ],
)
def test_client_ids(user: str, server: str, expected: str) -> None:
    assert server_client_id(user, server) == expected


def test_service_client_ids_are_not_encoded() -> None:
    assert service_client_id("web svc") == "service-web svc"
