"""What may be shared, with whom, until when."""

from __future__ import annotations

from typing import Any

import pytest

from jupyterhub.core.errors import InvalidRequest, ScopeNotFound
from jupyterhub.core.scopes.algebra import ScopeSet
from jupyterhub.core.scopes.expand import OwnerRef, expand_scopes
from jupyterhub.core.shares import (
    ShareRequest,
    check_code_request,
    check_share_request,
    decide_grant,
    merged_scopes,
    remaining_scopes,
    renamed_scopes,
    scopes_on_server,
)

ACCESS = "access:servers!server=ada/lab"


@pytest.mark.parametrize(
    ("body", "request_"),
    [
        ({"user": "bob"}, ShareRequest((ACCESS,), user="bob")),
        ({"group": "g", "scopes": []}, ShareRequest((ACCESS,), group="g")),
        ({"user": "bob", "group": None, "scopes": None}, ShareRequest((ACCESS,), user="bob")),
        (
            {"user": "bob", "scopes": ["read:servers", "access:servers!server=ada/lab"]},
            ShareRequest((ACCESS, "read:servers!server=ada/lab"), user="bob"),
        ),
    ],
)
def test_grants_are_limited_to_the_server(body: dict[str, Any], request_: ShareRequest) -> None:
    assert check_share_request(body, "ada", "lab") == request_


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "exactly one"),
        ({"user": "b", "group": "g"}, "exactly one"),
        ({"user": 3}, "'user' must be a text"),
        ({"user": "b", "colour": 1}, "colour"),
        ({"user": "b", "scopes": "x"}, "list of texts"),
        ([], "JSON object"),
        ({"user": "b", "scopes": ["servers!server=ada/"]}, "ada/lab"),
        ({"user": "b", "scopes": ["servers!user"]}, "ada/lab"),
        ({"user": "b", "scopes": ["nope"]}, "nope"),
    ],
)
def test_bad_grants_are_refused(body: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        check_share_request(body, "ada", "lab")


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_share_request({"scopes": 3, "colour": 1}, "ada", "lab")
    assert len(caught.value.message.splitlines()) == 4


def test_a_revocation_takes_scopes_literally() -> None:
    request = check_share_request(
        {"user": "bob", "scopes": ["read:servers"]}, "ada", "lab", needs_scopes=False
    )
    assert request.scopes == ("read:servers",)
    assert check_share_request({"user": "bob"}, "ada", "lab", needs_scopes=False).scopes == ()


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (None, 86400),
        ({}, 86400),
        ({"expires_in": 60}, 60),
        ({"expires_in": "3600"}, 3600),
        ({"expires_in": 31536000}, 31536000),
    ],
)
def test_lives_of_share_codes(body: Any, seconds: int) -> None:
    request = check_code_request(body, "ada", "lab")
    assert request.expires_in == seconds
    assert request.scopes == (ACCESS,)


@pytest.mark.parametrize("value", [None, 59, 31536001, "soon", 1.5, True, [60]])
def test_lives_that_are_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="60 to 31536000"):
        check_code_request({"expires_in": value}, "ada", "lab")


def test_unknown_members_of_a_code_request_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="user"):
        check_code_request({"user": "bob"}, "ada", "lab")
    with pytest.raises(InvalidRequest, match="JSON object"):
        check_code_request([1], "ada", "lab")


def test_unknown_scopes_are_refused() -> None:
    with pytest.raises(ScopeNotFound):
        scopes_on_server(["nope"], "ada", "lab")


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        ([ACCESS], True),
        (["servers!server=ada/lab"], True),
        (["shares!server=ada/lab"], False),
        (["access:servers!server=bob/"], False),
    ],
)
def test_only_what_one_has_can_be_shared(scopes: list[str], allowed: bool) -> None:
    held = expand_scopes(["self"], OwnerRef.user("ada"))
    decision = decide_grant(scopes, held)
    assert bool(decision) is allowed
    assert allowed or scopes[0] in decision.reason


def test_having_a_part_is_not_having_the_whole() -> None:
    assert not decide_grant(["servers!server=ada/lab"], ScopeSet.parse("servers"))


def test_granting_again_only_adds() -> None:
    assert merged_scopes(["b", "a"], ["c", "a"]) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("revoked", "left"), [([], ()), ([ACCESS], ("other",)), (["access:servers"], (ACCESS, "other"))]
)
def test_revoking_takes_exact_texts_or_everything(revoked: list[str], left: tuple[str, ...]) -> None:
    assert remaining_scopes([ACCESS, "other"], revoked) == left


def test_scopes_follow_a_renamed_server() -> None:
    stored = [ACCESS, "servers!server=ada/other", "read:hub"]
    assert renamed_scopes(stored, "ada/lab", "ada/desk") == (
        "access:servers!server=ada/desk",
        "read:hub",
        "servers!server=ada/other",
    )
