"""Routes: which target serves which address, and what has to change when reality differs from the wish.

A *spec* is ``/path/`` or, with host routing, ``host/path/``. The data plane imports this module, so it stays
small.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote, unquote

__all__ = ["Route", "RouteDifference", "RouteTable", "canonical_spec", "difference", "validate_spec"]

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Route:
    """A spec, the target it leads to (``proto://host:port``), and what the hub notes about it."""

    spec: str
    target: str
    data: Mapping[str, Any] = field(default_factory=dict)


def validate_spec(spec: str, *, host_routing: bool) -> str:
    """The spec with a trailing slash (services-and-proxy B1).

    Raises ValueError when the host part is missing under host routing, or present without it. ``/`` is always
    right.
    """
    if spec == "/":
        return spec
    if host_routing and spec.startswith("/"):
        raise ValueError(f"Route {spec!r} must begin with a host name, because subdomains are in use")
    if not host_routing and not spec.startswith("/"):
        raise ValueError(f"Route {spec!r} must begin with '/', because subdomains are not in use")
    return spec if spec.endswith("/") else spec + "/"


def canonical_spec(spec: str) -> str:
    """One spelling for specs that differ in percent-encoding only:

    decoded, then encoded keeping ``@ / ~``.
    """
    return quote(unquote(spec), safe="@/~")


@dataclass(frozen=True, slots=True)
class RouteDifference:
    """What to tell the proxy. `remove` holds specs as the proxy spells them."""

    add: tuple[Route, ...] = ()
    change: tuple[Route, ...] = ()
    remove: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.add or self.change or self.remove)


def difference(
    wanted: Iterable[Route],
    present: Iterable[Route] | Mapping[str, Route],
    held: Collection[str] = (),
) -> RouteDifference:
    """From the routes a proxy has to the routes it should have (services-and-proxy B2).

    `present` are the proxy's routes that belong to the hub; `held` are specs of servers in motion, whose
    routes are left as they are. A route changes when its target differs, or a piece of its data that both
    sides know.
    """
    untouched = {canonical_spec(spec) for spec in held}
    there: dict[str, Route] = {}
    for route in present.values() if isinstance(present, Mapping) else present:
        there[canonical_spec(route.spec)] = route
    add: list[Route] = []
    change: list[Route] = []
    keep: set[str] = set(untouched)
    for route in wanted:
        spec = canonical_spec(route.spec)
        keep.add(spec)
        if spec in untouched:
            continue
        found = there.get(spec)
        if found is None:
            add.append(route)
        elif _differs(route, found):
            change.append(route)
    remove = [route.spec for spec, route in there.items() if spec not in keep]
    return RouteDifference(tuple(add), tuple(change), tuple(remove))


def _differs(wanted: Route, found: Route) -> bool:
    if wanted.target.rstrip("/") != found.target.rstrip("/"):
        return True
    # Some proxies return less than they were given; adding again would not help, so only contradictions
    # count.
    return any(key in found.data and found.data[key] != value for key, value in wanted.data.items())


_EMPTY: Final = object()


class _Node(Generic[Value]):
    __slots__ = ("children", "spec", "value")

    def __init__(self) -> None:
        self.children: dict[str, _Node[Value]] = {}
        self.spec: str = ""
        self.value: Value | object = _EMPTY


class RouteTable(Generic[Value]):
    """Finds the value with the longest matching prefix, segment by segment (services-and-proxy D1).

    With `host_routing` the first segment of a spec is a host name, compared without regard to case; the spec
    ``/`` catches every host. Specs are given decoded, with or without their leading slash; paths are decoded
    here. A look-up costs one dictionary access per segment, however many routes there are.
    """

    def __init__(self, *, host_routing: bool = False) -> None:
        self.host_routing = host_routing
        self._root: _Node[Value] = _Node()
        self._count = 0

    def _segments(self, spec: str) -> list[str]:
        text = spec.strip("/")
        if not text:
            return []
        segments = text.split("/")
        if self.host_routing:
            segments[0] = segments[0].lower()
        return segments

    def add(self, spec: str, value: Value) -> None:
        """Put a value under a spec, in place of what was there."""
        node = self._root
        for segment in self._segments(spec):
            child = node.children.get(segment)
            if child is None:
                child = node.children[segment] = _Node()
            node = child
        if node.value is _EMPTY:
            self._count += 1
        node.spec = spec
        node.value = value

    def remove(self, spec: str) -> bool:
        """Take a spec out. False when it was not there, which is no error."""
        trail: list[tuple[_Node[Value], str]] = []
        node = self._root
        for segment in self._segments(spec):
            child = node.children.get(segment)
            if child is None:
                return False
            trail.append((node, segment))
            node = child
        if node.value is _EMPTY:
            return False
        node.value = _EMPTY
        node.spec = ""
        self._count -= 1
        # Branches that lead nowhere go too, or a table would grow with every server that ever ran.
        for parent, segment in reversed(trail):
            child = parent.children[segment]
            if child.children or child.value is not _EMPTY:
                break
            del parent.children[segment]
        return True

    def get(self, spec: str) -> Value | None:
        """The value of exactly this spec."""
        node: _Node[Value] | None = self._root
        for segment in self._segments(spec):
            node = node.children.get(segment) if node is not None else None
        return self._value(node) if node is not None else None

    def find(self, host: str, path: str) -> Value | None:
        """The value for a request: `host` as in the Host header, `path` still encoded, a query is ignored."""
        node = self._match(host, path)
        return node.value if node is not None else None  # type: ignore[return-value]

    def match(self, host: str, path: str) -> tuple[str, Value] | None:
        """Like `find`, with the spec that matched."""
        node = self._match(host, path)
        if node is None:
            return None
        value: Value = node.value  # type: ignore[assignment]
        return node.spec, value

    def _match(self, host: str, path: str) -> _Node[Value] | None:
        node = self._root
        best = node if node.value is not _EMPTY else None
        if self.host_routing:
            child = node.children.get(_host_name(host))
            if child is None:
                return best
            node = child
            if node.value is not _EMPTY:
                best = node
        if "?" in path:
            path = path.partition("?")[0]
        if "%" in path:
            path = unquote(path)
        for segment in path[1:].split("/"):
            child = node.children.get(segment)
            if child is None:
                break
            node = child
            if node.value is not _EMPTY:
                best = node
        return best

    @staticmethod
    def _value(node: _Node[Value]) -> Value | None:
        return None if node.value is _EMPTY else node.value  # type: ignore[return-value]

    def items(self) -> Iterator[tuple[str, Value]]:
        """Specs as they were added, with their values."""
        waiting = [self._root]
        while waiting:
            node = waiting.pop()
            if node.value is not _EMPTY:
                value: Value = node.value  # type: ignore[assignment]
                yield node.spec, value
            waiting.extend(node.children.values())

    def __iter__(self) -> Iterator[str]:
        return (spec for spec, _ in self.items())

    def __contains__(self, spec: object) -> bool:
        return isinstance(spec, str) and self.get(spec) is not None

    def __len__(self) -> int:
        return self._count


def _host_name(host: str) -> str:
    """The host without its port, in lower case. Colons inside brackets belong to an IPv6 address."""
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].lower()
