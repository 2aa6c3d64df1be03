"""Laws of scope sets, and the rule of endpoints."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub.core.errors import InvalidScope
from jupyterhub.core.scopes.algebra import ALL, Resource, ScopeSet, decide_access, membership

USERS = ["ada", "bob", "cy"]
GROUPS = ["g1", "g2"]
GROUPS_OF = membership({"ada": ["g1"], "bob": ["g1", "g2"]})

filters = st.one_of(
    st.just(""),
    st.sampled_from([f"!user={name}" for name in USERS]),
    st.sampled_from([f"!group={name}" for name in GROUPS]),
    st.sampled_from([f"!server={name}/{server}" for name in USERS for server in ("", "lab")]),
    st.just("!service=s"),
)
scopes = st.builds(str.__add__, st.sampled_from(["read:users", "read:servers", "servers"]), filters)
scope_sets = st.builds(ScopeSet.parse, st.lists(scopes, max_size=6))
memberships = st.sampled_from([None, GROUPS_OF])


@given(scope_sets, scope_sets, memberships)
def test_order_of_an_intersection_does_not_matter(a: ScopeSet, b: ScopeSet, known: object) -> None:
    assert a.intersect(b, known) == b.intersect(a, known)  # type: ignore[arg-type]


@given(scope_sets, memberships)
def test_a_set_intersected_with_itself_is_itself(a: ScopeSet, known: object) -> None:
    """Also when a wider filter of the same set reaches what a narrower one names."""
    assert a.intersect(a, known) == a  # type: ignore[arg-type]


@given(scope_sets, scope_sets, memberships)
def test_an_intersection_gives_nobody_more_than_they_had(a: ScopeSet, b: ScopeSet, known: object) -> None:
    for scope in a.intersect(b, known):  # type: ignore[arg-type]
        assert a.covers(scope, groups_of=GROUPS_OF) or scope in a
        assert b.covers(scope, groups_of=GROUPS_OF) or scope in b


@given(scope_sets, scope_sets, scopes)
def test_what_both_cover_one_by_one_the_intersection_covers(a: ScopeSet, b: ScopeSet, scope: str) -> None:
    """Holds for single users and servers, unless the two reach them through different groups only."""
    if "!user=" not in scope and "!server=" not in scope:
        return
    by_group = "!group" in "".join(a) and "!group" in "".join(b)
    if not by_group and a.covers(scope, groups_of=GROUPS_OF) and b.covers(scope, groups_of=GROUPS_OF):
        assert a.intersect(b, GROUPS_OF).covers(scope, groups_of=GROUPS_OF)


@given(scope_sets, scope_sets)
def test_a_union_covers_what_each_covers(a: ScopeSet, b: ScopeSet) -> None:
    both = a.union(b)
    assert all(both.covers(scope, groups_of=GROUPS_OF, post_filter=True) for scope in [*a, *b])
    assert both == b | a


@given(scope_sets, scope_sets)
def test_minus_leaves_what_is_not_allowed(a: ScopeSet, b: ScopeSet) -> None:
    assert a.minus(b).expanded | a.intersect(b).expanded >= a.expanded
    assert not a.minus(a)
    assert a.minus(ScopeSet()) == a


@given(scope_sets, scope_sets)
def test_membership_only_adds_and_only_when_announced(a: ScopeSet, b: ScopeSet) -> None:
    without, with_groups = a.intersect(b), a.intersect(b, GROUPS_OF)
    assert without.expanded <= with_groups.expanded
    if not a.needs_membership(b):
        assert without == with_groups


@given(st.lists(scopes, max_size=8))
def test_reading_what_was_written_gives_the_same_set(texts: list[str]) -> None:
    parsed = ScopeSet.parse(texts)
    assert ScopeSet.parse(parsed) == parsed
    assert hash(ScopeSet.parse(parsed)) == hash(parsed)
    assert parsed.expanded <= set(texts)


@given(scope_sets, scopes)
def test_list_filters_agree_with_coverage(held: ScopeSet, scope: str) -> None:
    name, _, filter_text = scope.partition("!")
    allowed = held.filter_for(name)
    if allowed is ALL:
        assert held.covers(scope)
    elif filter_text:
        kind, _, value = filter_text.partition("=")
        if value in allowed.get(kind, ()):  # type: ignore[union-attr]
            assert held.covers(scope)


def test_an_unfiltered_scope_swallows_filtered_ones() -> None:
    assert list(ScopeSet.parse(["users!user=ada", "users", "users!group=g"])) == ["users"]


def test_a_server_is_inside_its_user() -> None:
    assert ScopeSet.parse("servers!user=ada").covers("servers!server=ada/lab")
    assert not ScopeSet.parse("servers!server=ada/lab").covers("servers!user=ada")


@pytest.mark.parametrize("scope", ["read:users!user", "read:users!user="])
def test_a_filter_without_value_is_an_error(scope: str) -> None:
    with pytest.raises(InvalidScope):
        ScopeSet.parse([scope])


@pytest.mark.parametrize(
    ("held", "required", "cause"),
    [
        ([], "users", "scope-missing"),
        (["users!user=ada"], "users", "scope-filtered"),
        (["users!user=ada"], "users!user=bob", "scope-elsewhere"),
        (["users!user=ada"], "users!group=g1", "scope-elsewhere"),
    ],
)
def test_a_refusal_names_its_cause(held: list[str], required: str, cause: str) -> None:
    decision = ScopeSet.parse(held).covers(required, groups_of=GROUPS_OF)
    assert not decision
    assert decision.cause == cause
    assert decision.reason


ADA = Resource(user="ada")
LAB = Resource(user="ada", server="lab")


@pytest.mark.parametrize(
    ("held", "resource", "post_filter", "outcome"),
    [
        (None, ADA, False, "not-identified"),
        ([], ADA, False, "scope-missing"),
        (["users"], ADA, False, "scope-missing"),
        (["read:servers!user=bob"], LAB, False, "resource-hidden"),
        (["read:servers!user=ada"], LAB, False, ""),
        (["read:servers!server=ada/lab"], LAB, False, ""),
        (["read:servers!server=lab"], LAB, False, "resource-hidden"),
        (["read:servers!group=g1"], LAB, False, ""),
        (["read:servers!group=g2"], LAB, False, "resource-hidden"),
        (["read:servers!server=ada/lab"], ADA, False, "resource-hidden"),
        (["read:servers!user=ada"], None, False, "scope-filtered"),
        (["read:servers!user=ada"], None, True, ""),
        (["servers:other", "read:servers"], None, False, ""),
        (["read:servers!server=ada/"], Resource.every_server_of("ada"), False, "resource-hidden"),
        (["read:servers!user=ada"], Resource.every_server_of("ada"), False, ""),
        (["read:servers!service=s"], Resource(service="s"), False, ""),
        (["read:servers!group=g1"], Resource(group="g1"), False, ""),
        (["read:servers!group=g1"], Resource(group="g2"), False, "resource-hidden"),
    ],
)
def test_endpoints_refuse_for_the_right_cause(
    held: list[str] | None, resource: Resource | None, post_filter: bool, outcome: str
) -> None:
    decision = decide_access(
        None if held is None else ScopeSet.parse(held),
        ["read:servers", "access:servers"],
        resource,
        groups_of=GROUPS_OF,
        post_filter=post_filter,
    )
    assert decision.cause == outcome
    assert bool(decision) is not bool(outcome)
    if outcome in ("scope-missing", "scope-filtered"):
        assert "[read:servers, access:servers]" in decision.reason


def test_models_also_accept_a_bare_server_name() -> None:
    held = ScopeSet.parse("read:servers!server=lab")
    assert held.covers_resource("read:servers", LAB, bare_server_names=True)
    assert not held.covers_resource("read:servers", LAB)
    assert not held.covers_resource("read:users", LAB)
    assert ScopeSet.parse("read:servers").covers_resource("read:servers", LAB)


def test_questions_on_the_hot_path_do_not_touch_the_text_again() -> None:
    """A set with very many entries answers without building its list of texts."""
    many = ScopeSet.parse([f"read:users!user=u{number}" for number in range(20000)])
    fresh = ScopeSet({name: many.filter_for(name) for name in many.names})
    for number in range(0, 20000, 7):
        assert fresh.covers(f"read:users!user=u{number}")
    assert fresh._expanded is None


def test_a_set_is_shown_readably() -> None:
    assert repr(ScopeSet.parse(["b!user=x", "a"])) == "ScopeSet(a, b!user=x)"
    assert len(ScopeSet.parse(["b!user=x", "a"])) == 2
    assert ScopeSet.parse("a") != "a"
