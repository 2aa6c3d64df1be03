"""Objects with many traits, of which thousands live for weeks: what is as in the class is kept there only."""

from __future__ import annotations

from typing import Any

from traitlets import All, HasTraits

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
    """Can give up the copies of its class's defaults that traitlets makes for each object."""

    def _keep_less(self) -> None:
        """From now on keep only values that differ from those of the class; reading the others takes a little longer."""
        shared = type(self)._static_immutable_initial_values
        values = _Values(shared)
        values.update({name: value for name, value in self._trait_values.items() if shared.get(name, All) is not value})
        self._trait_values = values
        # Left over from loading the configuration.
        if not self._trait_notifiers.get(All, {}).get("change"):
            self._trait_notifiers.pop(All, None)
