"""Routes: finding them, and what has to change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub.core.routing import Route, RouteTable, canonical_spec, difference, validate_spec


def table(*specs: str, host_routing: bool = False) -> RouteTable[str]:
    found: RouteTable[str] = RouteTable(host_routing=host_routing)
    for spec in specs:
        found.add(spec, spec)
    return found


@pytest.mark.parametrize(
    ("path", "spec"),
    [
        ("/", "/"),
        ("/hub/login?next=/user/a/", "/"),
        ("/user/a", "/user/a/"),
        ("/user/a/", "/user/a/"),
        ("/user/a/x/y", "/user/a/"),
        ("/user/a/lab/tree", "/user/a/lab/"),
        ("/user/ab", "/"),
        ("/user", "/"),
        ("/user/a?x=/b", "/user/a/"),
        ("/user/b%20c/api", "/user/b c/"),
        ("/user/%61/x", "/user/a/"),
        ("/user/a%2Flab/x", "/user/a/lab/"),
        ("//user/a", "/"),
        ("", "/"),
        ("*", "/"),
    ],
)
def test_the_longest_prefix_by_segment_wins(path: str, spec: str) -> None:
    routes = table("/", "/user/a/", "/user/a/lab/", "/user/b c/")
    assert routes.find("any.host:8000", path) == spec
    assert routes.match("any.host", path) == (spec, spec)


def test_nothing_matches_without_a_root() -> None:
    routes = table("/user/a/")
    assert routes.find("h", "/user/b") is None
    assert routes.match("h", "/") is None


@pytest.mark.parametrize(
    ("host", "path", "spec"),
    [
        ("a.hub:8000", "/user/a/x", "a.hub/user/a/"),
        ("A.Hub", "/user/a/", "a.hub/user/a/"),
        ("a.hub", "/user/b/", "/"),
        ("other", "/user/a/", "/"),
        ("[::1]:80", "/x", "[::1]/x/"),
        ("", "/", "/"),
        ("services.hub", "/services/s/", "/services.hub/services/s/"),
    ],
)
def test_hosts_come_first_with_host_routing(host: str, path: str, spec: str) -> None:
    routes = table("/", "a.hub/user/a/", "[::1]/x/", "/services.hub/services/s/", host_routing=True)
    assert routes.find(host, path) == spec


def test_a_value_is_replaced_and_removed() -> None:
    routes = table("/", "/user/a/")
    routes.add("/user/a", "new")
    assert routes.find("", "/user/a/x") == "new"
    assert len(routes) == 2
    assert routes.remove("/user/a/")
    assert not routes.remove("/user/a/")
    assert not routes.remove("/user/")
    assert not routes.remove("/elsewhere/")
    assert routes.find("", "/user/a/x") == "/"
    assert sorted(routes) == ["/"]


def test_removed_routes_leave_no_branches_behind() -> None:
    routes = table("/")
    for number in range(100):
        routes.add(f"/user/u{number}/lab/", "x")
        routes.remove(f"/user/u{number}/lab/")
    assert not routes._root.children


def test_values_that_are_false_are_values() -> None:
    routes: RouteTable[int] = RouteTable()
    routes.add("/", 0)
    assert routes.find("", "/x") == 0
    assert "/" in routes
    assert "/x/" not in routes


segments = st.sampled_from(["a", "b", "user", "x y"])
specs = st.lists(segments, max_size=3).map(lambda parts: "/" + "".join(f"{part}/" for part in parts))


@given(st.lists(specs, max_size=8), st.lists(specs, max_size=4), st.lists(segments, max_size=5))
def test_the_table_agrees_with_looking_at_every_route(
    added: list[str], removed: list[str], path_segments: list[str]
) -> None:
    routes = table(*added)
    for spec in removed:
        routes.remove(spec)
    left = set(added) - set(removed)
    path = "/" + "/".join(path_segments)
    slow = max((spec for spec in left if (path + "/").startswith(spec)), key=len, default=None)
    assert routes.find("", path.replace(" ", "%20")) == slow
    assert dict(routes.items()) == {spec: spec for spec in left}
    assert len(routes) == len(left)


def test_ten_thousand_routes_are_as_quick_as_ten() -> None:
    """Look-ups visit one node per segment, whatever the number of routes."""
    routes = table("/", *(f"/user/u{number}/" for number in range(10000)))
    for number in range(0, 10000, 3):
        assert routes.find("h", f"/user/u{number}/api/contents/a/b/c?x=1") == f"/user/u{number}/"


@pytest.mark.parametrize(
    ("spec", "host_routing", "expected"),
    [("/", False, "/"), ("/", True, "/"), ("/x", False, "/x/"), ("h/x/", True, "h/x/"), ("h", True, "h/")],
)
def test_specs_get_a_slash(spec: str, host_routing: bool, expected: str) -> None:
    assert validate_spec(spec, host_routing=host_routing) == expected


@pytest.mark.parametrize(("spec", "host_routing"), [("x/", False), ("/x/", True)])
def test_specs_of_the_other_kind_are_refused(spec: str, host_routing: bool) -> None:
    with pytest.raises(ValueError, match="subdomains"):
        validate_spec(spec, host_routing=host_routing)


HUB = Route("/", "http://hub:8081", {"hub": True})
ADA = Route("/user/ada/", "http://10.0.0.1:80", {"user": "ada", "server_name": ""})


def test_no_difference_when_all_is_as_wanted() -> None:
    present = [Route("/", "http://hub:8081/", {"hub": True, "last_activity": "x"}), ADA]
    assert not difference([HUB, ADA], present)


def test_missing_changed_and_stale_routes() -> None:
    moved = Route(ADA.spec, "http://10.0.0.2:80", ADA.data)
    stale = Route("/user/gone/", "http://x:1", {"user": "gone"})
    found = difference([HUB, ADA], {"/user/ada/": moved, "/user/gone/": stale})
    assert found.add == (HUB,)
    assert found.change == (ADA,)
    assert found.remove == ("/user/gone/",)
    assert found


def test_servers_in_motion_are_left_alone() -> None:
    moving = [Route("/user/bob/", "http://x:1"), Route("/user/cy/", "http://x:2")]
    assert not difference([HUB, moving[0]], [HUB, moving[1]], held=["/user/bob/", "/user/cy/"])


def test_spelling_does_not_make_a_difference() -> None:
    """A proxy may list its routes decoded or encoded; neither is stale."""
    wanted = Route("/services/web svc/", "http://x:1", {"service": "web svc"})
    assert not difference([wanted], [Route("/services/web%20svc/", "http://x:1", {"service": "web svc"})])
    assert canonical_spec("/user/a@b ~/") == canonical_spec("/user/a%40b%20%7E/") == "/user/a@b%20~/"


def test_contradicting_data_changes_a_route_and_missing_data_does_not() -> None:
    assert difference([ADA], [Route(ADA.spec, ADA.target, {"user": "eve"})]).change == (ADA,)
    assert not difference([ADA], [Route(ADA.spec, ADA.target, {})])


@given(st.sets(specs), st.sets(specs), st.sets(specs))
def test_carrying_out_a_difference_leaves_none(wanted: set[str], present: set[str], held: set[str]) -> None:
    goal = [Route(spec, "http://new:1") for spec in wanted]
    proxy = {spec: Route(spec, "http://old:1") for spec in present}
    found = difference(goal, proxy, held)
    for route in (*found.add, *found.change):
        assert route.spec not in held
        proxy[route.spec] = route
    for spec in found.remove:
        assert spec not in held
        del proxy[spec]
    assert not difference(goal, proxy, held)
    assert set(proxy) - held == wanted - held
