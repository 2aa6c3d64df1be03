"""Objects with many traits, of which hundreds are made in a second and thousands live for weeks.

What nobody watches is assigned without telling anybody, and what is as in the class may be kept there only.
"""

from __future__ import annotations

from typing import Any

from traitlets import All, HasTraits, ObserveHandler
from traitlets.config import LoggingConfigurable
from traitlets.traitlets import ValidateHandler

__all__ = ["LeanTraits"]


class _Values(dict[str, Any]):
    """The values of one object; those that it does not have are those of its class."""

    __slots__ = ("_shared",)

    def __init__(self, shared: dict[str, Any]) -> None:
        super().__init__()
        self._shared = shared

    def __missing__(self, name: str) -> Any:
        return self._shared[name]

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self._shared

    def copy(self) -> dict[str, Any]:
        """Return all of them."""
        return {**self._shared, **self}


class LeanTraits(HasTraits):
    """Takes its first values at less cost, and can give up copies of its class's defaults."""

    #: Of exactly this class: traits that can be assigned at the beginning without telling anybody.
    _unwatched: frozenset[str] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        unwatched: frozenset[str] | None = vars(type(self)).get("_unwatched")
        if unwatched is None:
            unwatched = type(self)._unwatched = _find_unwatched(type(self))
        for name in unwatched & kwargs.keys():
            self._trait_values[name] = self._traits[name]._validate(self, kwargs.pop(name))
        super().__init__(*args, **kwargs)

    def _keep_less(self) -> None:
        """From now on keep only values that differ from those of the class; reading the others takes a little longer."""
        shared = type(self)._static_immutable_initial_values
        values = _Values(shared)
        values.update({name: value for name, value in self._trait_values.items() if shared.get(name, All) is not value})
        self._trait_values = values
        # Left over from loading the configuration.
        if not self._trait_notifiers.get(All, {}).get("change"):
            self._trait_notifiers.pop(All, None)


def _find_unwatched(cls: type[HasTraits]) -> frozenset[str]:
    """Return the traits that no observer or validator of the class asks for, and that configuration cannot set.

    Configuration gives way to what an object is made with, which traitlets can only see to by itself.
    """
    watched: set[Any] = set()
    for each in cls.__mro__:
        for member in vars(each).values():
            if isinstance(member, ObserveHandler | ValidateHandler):
                watched.update(member.trait_names)
    if All in watched:
        return frozenset()
    return frozenset(
        name
        for name, trait in cls._traits.items()
        if name not in watched
        and name not in LoggingConfigurable._traits
        and not trait.metadata.get("config")
        and not trait.read_only
        and not any(hasattr(cls, f"_{name}_{old_way}") for old_way in ("changed", "validate"))
    )
