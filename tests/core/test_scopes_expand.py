"""From raw scopes to what a token may do."""

from __future__ import annotations

import pytest

from jupyterhub.core.errors import InvalidScope, ScopeNotFound, ScopesNotHeld
from jupyterhub.core.scopes.algebra import ScopeSet, membership
from jupyterhub.core.scopes.expand import (
    ClientRef,
    OwnerRef,
    access_scopes,
    check_requestable,
    complete_server_token_scopes,
    expand,
    expand_scope,
    expand_scopes,
    identify_scopes,
    resolve_requested,
    server_token_scopes,
    token_scopes,
)

ALICE = OwnerRef.user("alice")
SERVICE = OwnerRef.service("svc")
SERVER_CLIENT = ClientRef("jupyterhub-user-alice", user="alice", server="")
SERVICE_CLIENT = ClientRef("service-dash", service="dash")
GROUPS_OF = membership({"alice": ["g1"], "dave": ["g1"]})
ROLE_USER = expand_scopes(["self"], ALICE)


@pytest.mark.parametrize(
    ("raw", "owner", "client", "dropped"),
    [
        (["self"], SERVICE, None, ("self",)),
        (["self"], None, None, ("self",)),
        (["access:servers!server"], ALICE, None, ("access:servers!server",)),
        (["read:users!user"], SERVICE, None, ("read:users!user",)),
        (["access:services!service"], ALICE, None, ("access:services!service",)),
    ],
)
def test_filters_that_point_nowhere_are_dropped_and_reported(
    raw: list[str], owner: OwnerRef | None, client: ClientRef | None, dropped: tuple[str, ...]
) -> None:
    found = expand(raw, owner, client)
    assert not found.scopes
    assert found.dropped == dropped


@pytest.mark.parametrize(
    ("raw", "owner", "client", "expected"),
    [
        ("access:servers!server", ALICE, SERVER_CLIENT, {"access:servers!server=alice/"}),
        (
            "access:servers!server",
            ALICE,
            ClientRef("x", user="bob", server="lab"),
            {"access:servers!server=bob/lab"},
        ),
        ("access:services!service", ALICE, SERVICE_CLIENT, {"access:services!service=dash"}),
        ("access:services!service", SERVICE, SERVICE_CLIENT, {"access:services!service=dash"}),
        ("access:services!service", SERVICE, None, {"access:services!service=svc"}),
    ],
)
def test_self_resolving_filters_follow_the_client_first(
    raw: str, owner: OwnerRef, client: ClientRef | None, expected: set[str]
) -> None:
    assert expand_scopes([raw], owner, client).expanded == expected


def test_unknown_scopes_are_errors_unless_stored_ones_are_read() -> None:
    with pytest.raises(ScopeNotFound, match="nope"):
        expand_scope("nope!user=ada")
    found = expand(["nope", "read:hub"], drop_unknown=True)
    assert found.unknown == ("nope",)
    assert found.scopes.expanded == {"read:hub"}


def test_an_empty_filter_has_an_error_of_its_own() -> None:
    with pytest.raises(InvalidScope, match="empty"):
        expand_scopes(["read:users!user="])


def test_who_one_is() -> None:
    assert identify_scopes(ALICE) == {"read:users:name!user=alice", "read:users:groups!user=alice"}
    assert identify_scopes(SERVICE) == {"read:services:name!service=svc"}
    assert identify_scopes() == {"read:users:name!user", "read:users:groups!user"}


def test_what_opens_a_client() -> None:
    assert access_scopes(SERVER_CLIENT) == {"access:servers!server=alice/"}
    assert access_scopes(SERVICE_CLIENT) == {"access:services!service=dash"}
    assert access_scopes(ClientRef("jupyterhub")) == access_scopes(None) == frozenset()


IDENTIFY = {"read:users:name!user=alice", "read:users:groups!user=alice"}


@pytest.mark.parametrize(
    ("raw", "held", "client", "expected"),
    [
        ([], ["self"], None, IDENTIFY),
        ([], ["read:users:name!user"], None, {"read:users:name!user=alice"}),
        ([], [], None, set()),
        (
            ["admin:users"],
            ["self"],
            None,
            expand_scopes(["read:users!user", "users:activity!user"], ALICE).expanded,
        ),
        (["read:users:groups!group=g1"], ["self"], None, IDENTIFY),
        (["read:users!server=alice/n1"], ["self"], None, IDENTIFY),
        (["access:servers!server"], ["self"], None, IDENTIFY),
        ([], ["self"], SERVER_CLIENT, IDENTIFY | {"access:servers!server=alice/"}),
        ([], ["self"], SERVICE_CLIENT, IDENTIFY),
        ([], ["self", "access:services"], SERVICE_CLIENT, IDENTIFY | {"access:services!service=dash"}),
        (["no-longer-there"], ["self"], None, IDENTIFY),
    ],
)
def test_a_token_never_exceeds_its_owner(
    raw: list[str], held: list[str], client: ClientRef | None, expected: set[str]
) -> None:
    owner_scopes = expand_scopes(held, ALICE)
    assert token_scopes(raw, owner_scopes, ALICE, client, GROUPS_OF).expanded == expected


def test_inherit_means_whatever_the_owner_holds_now() -> None:
    owner_scopes = ScopeSet.parse(["read:hub"])
    assert token_scopes(["inherit", "users"], owner_scopes, ALICE) is owner_scopes


def test_a_group_scope_carries_a_token_while_membership_lasts() -> None:
    dave = OwnerRef.user("dave")
    held = expand_scopes(["read:users!group=g1"])
    assert "read:users!user=alice" in token_scopes(["read:users!user=alice"], held, dave, None, GROUPS_OF)
    nobody = membership({})
    assert "read:users!user=alice" not in token_scopes(["read:users!user=alice"], held, dave, None, nobody)


@pytest.mark.parametrize(
    "raw",
    [[], ["inherit"], ["self"], ["read:users!user=alice"], ["read:users!server=alice/n1"], ["servers!user"]],
)
def test_tokens_that_may_be_asked_for(raw: list[str]) -> None:
    check_requestable(raw, ROLE_USER, ALICE, None, GROUPS_OF)


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (["inherit", "admin:users"], ScopesNotHeld),
        (["inherit", "nope"], ScopeNotFound),
        (["read:users:name!group=g1"], ScopesNotHeld),
        (["(no_scope)"], ScopesNotHeld),
        (["all"], ScopeNotFound),
        (["read:users!user="], InvalidScope),
    ],
)
def test_tokens_that_go_too_far(raw: list[str], error: type[Exception]) -> None:
    with pytest.raises(error):
        check_requestable(raw, ROLE_USER, ALICE, None, GROUPS_OF)


def test_what_goes_too_far_is_named() -> None:
    with pytest.raises(ScopesNotHeld) as caught:
        check_requestable(["read:hub", "self"], ROLE_USER, ALICE)
    assert caught.value.scopes == ("read:hub",)
    assert "alice" in caught.value.message


ACCESS = "access:services!service=dash"


@pytest.mark.parametrize(
    ("requested", "held", "granted", "refused"),
    [
        (["read:users!user"], ["read:users!user"], ["read:users!user"], []),
        (["read:servers!user"], ["servers!user"], ["read:servers!user"], []),
        (["self"], ["read:users!user", "servers!user"], None, ["self"]),
        (["read:users!user"], ["inherit"], [], ["read:users!user"]),
        (["read:users!user"], ["self"], ["read:users!user"], []),
        (["list:users"], ["self"], ["read:users:name!user=alice"], ["list:users"]),
        (["self", "read:users!user"], ["self"], ["self", "read:users!user"], []),
        (["read:users!service"], ["self"], ["read:users!service"], []),
        (["self", "read:users:name!user"], ["self"], ["self", "read:users:name!user"], []),
        (["inherit"], ["self", "inherit"], ["inherit"], []),
        (["shutdown"], ["self"], [], ["shutdown"]),
    ],
)
def test_requests_are_resolved_against_what_is_held(
    requested: list[str], held: list[str], granted: list[str] | None, refused: list[str]
) -> None:
    found = resolve_requested(requested, held, ALICE, ClientRef("hub"))
    assert found.refused == set(refused)
    if granted is not None:
        assert found.granted == set(granted)


def test_the_consent_example() -> None:
    """What the client may ask for and the user holds; the rest of list:users shrinks to the own name."""
    asked = [*identify_scopes(), ACCESS, "read:users!user", "list:users", "servers!user"]
    held = ["self", "inherit", ACCESS, *identify_scopes()]
    found = resolve_requested(asked, held, ALICE, SERVICE_CLIENT)
    assert found.granted >= {"read:users!user", "servers!user", ACCESS, *identify_scopes()}
    assert found.refused == {"list:users"}
    rest = found.granted - set(asked)
    assert rest <= {"read:users:name!user=alice"}


def test_an_administrators_scopes_shrink_to_the_users_own_share() -> None:
    found = resolve_requested(["admin:users", "list:users"], ["self"], ALICE)
    assert found.granted == {
        "read:users!user=alice",
        "read:users:name!user=alice",
        "read:users:groups!user=alice",
        "read:users:activity!user=alice",
        "users:activity!user=alice",
    }


DEFAULT_SERVER_ROLE = ["users:activity!user", "access:servers!server"]


def test_a_servers_own_token_by_default() -> None:
    found = server_token_scopes(DEFAULT_SERVER_ROLE, ["self"], "alice", "")
    assert found.granted == {"users:activity!user", "access:servers!server=alice/"}
    assert not found.refused


def test_a_servers_token_has_only_what_the_user_has() -> None:
    assert server_token_scopes(DEFAULT_SERVER_ROLE, [], "alice", "").granted == set()


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([], ["users:activity!user"]),
        (["inherit"], ["inherit"]),
        (["users:activity"], ["users:activity"]),
        (["servers!server"], ["servers!server=alice/lab", "users:activity!user"]),
    ],
)
def test_activity_can_always_be_reported(wanted: list[str], expected: list[str]) -> None:
    assert complete_server_token_scopes(wanted, "alice", "lab") == expected
