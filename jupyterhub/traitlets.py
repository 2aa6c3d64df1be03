"""Trait types for settings of the Hub; traitlets' own types may be imported from here too (plugins §11)."""

from __future__ import annotations

import functools
import importlib.util
import sys
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from inspect import cleandoc
from typing import Any, ClassVar

import traitlets as _traitlets
from traitlets import HasTraits, Integer, List, TraitError, TraitType, Type, Undefined, Unicode
from traitlets import Union as _Union
from traitlets.config import Configurable
from traitlets.utils.importstring import import_item

from .core.known_plugins import find_by_module, find_by_name, names_in
from .core.urls import normalise_base_url

__all__ = [
    "ByteSpecification",
    "Callable",
    "Command",
    "EntryPointType",
    "HasTraits",
    "Integer",
    "List",
    "TopicTraits",
    "TraitError",
    "TraitType",
    "Type",
    "URLPrefix",
    "Undefined",
    "Unicode",
    "Union",
]

Union = _Union


def __getattr__(name: str) -> Any:
    # Old plugins import traitlets' own names from here.
    return getattr(_traitlets, name)


class TopicTraits(HasTraits):
    """Base of a class that holds the settings of one topic, to be mixed into a configurable class.

    Not configurable itself, so that it is no section of configuration files: its settings are the class's own, in the
    help and in generated files too.
    """

    @classmethod
    def class_own_traits(cls, **metadata: Any) -> dict[str, Any]:
        """Return the traits that no configurable base class has."""
        above = [base for base in cls.__mro__[1:] if issubclass(base, Configurable)]
        return {
            name: trait
            for name, trait in cls.class_traits(**metadata).items()
            if all(getattr(base, name, None) is not trait for base in above)
        }


class URLPrefix(Unicode):  # type: ignore[type-arg]
    """A path with a slash at both ends; missing slashes are added."""

    def validate(self, obj: Any, value: Any) -> str:
        text = super().validate(obj, value)
        return normalise_base_url(text)


class Command(List):  # type: ignore[type-arg]
    """A command as a list of words; a single string is a list of one (it is not split)."""

    def __init__(self, default_value: Any = Undefined, **kwargs: Any) -> None:
        kwargs.setdefault("minlen", 1)
        if isinstance(default_value, str):
            default_value = [default_value]
        if default_value is None:
            kwargs.setdefault("allow_none", True)
        super().__init__(Unicode(), default_value, **kwargs)

    def validate(self, obj: Any, value: Any) -> Any:
        if isinstance(value, str):
            value = [value]
        return super().validate(obj, value)


class ByteSpecification(Integer):  # type: ignore[type-arg]
    """An amount of bytes: a number, or a number with K, M, G or T (powers of 1024); None for no limit."""

    UNIT_SUFFIXES: ClassVar[dict[str, int]] = {"K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}

    # None means "no limit" wherever amounts are configured.
    allow_none = True

    def validate(self, obj: Any, value: Any) -> Any:
        if isinstance(value, bool):
            self.error(obj, value)
        if isinstance(value, (int, float)):
            return int(value)
        text = str(value)
        try:
            return int(float(text[:-1]) * self.UNIT_SUFFIXES[text[-1:]])
        except (KeyError, ValueError, OverflowError):
            raise TraitError(
                f"{value!r} is not an amount of bytes. Write a number, or a number with one of the suffixes "
                "K, M, G, T, for example '512M'"
            ) from None

    def from_string(self, s: str) -> Any:
        """Read a command-line value: here a bare number may be text."""
        if self.allow_none and s == "None":
            return None
        try:
            return int(s)
        except ValueError:
            return s


class Callable(TraitType):  # type: ignore[type-arg]
    """Something that can be called."""

    info_text = "a callable"

    def validate(self, obj: Any, value: Any) -> Any:
        if callable(value):
            return value
        return self.error(obj, value)


@functools.lru_cache(maxsize=4)
def _entry_points(path: tuple[str, ...]) -> Any:
    """Return what the packages on `path`, which is `sys.path`, have registered. Reading it takes milliseconds."""
    return entry_points()


class EntryPointType(Type):  # type: ignore[type-arg]
    """A class, its import path, or a name for it: one that a package registers, or one of `core.known_plugins`.

    Upper and lower case of names are alike.
    """

    _original_help = ""
    _made = False

    def __init__(self, *args: Any, entry_point_group: str, **kwargs: Any) -> None:
        self.entry_point_group = entry_point_group
        super().__init__(*args, **kwargs)
        self._made = True

    @property
    def help(self) -> str:
        """The help text with the registered names of this installation."""
        chunks = [self._original_help]
        # traitlets reads the text while the trait is made; looking through all packages then would slow every import.
        registered = self.load_entry_points() if self._made else {}
        if registered:
            chunks += ["", "Registered here:"]
            chunks += [f"  - {name}: {point.value}" for name, point in sorted(registered.items())]
        return "\n".join(chunks)

    @help.setter
    def help(self, value: str) -> None:
        self._original_help = cleandoc(value)

    def load_entry_points(self) -> dict[str, EntryPoint]:
        """The registered classes by name, in lower case; nothing is imported."""
        registered = _entry_points(tuple(sys.path)).select(group=self.entry_point_group)
        return {point.name.lower(): point for point in registered}

    def validate(self, obj: Any, value: Any) -> Any:
        if isinstance(value, str):
            value = self._resolve_name(obj, value)
        try:
            return super().validate(obj, value)
        except TraitError as error:
            registered = sorted(self.load_entry_points())
            near = get_close_matches(str(value).lower(), {*registered, *names_in(self.entry_point_group)}, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TraitError(
                f"The {self.name!r} trait of {type(obj).__name__} must be a class derived from {self._base_name()}, "
                f"its import path, or a registered name ({', '.join(registered) or 'none'}), not {value!r}{hint}"
            ) from error

    def _resolve_name(self, obj: Any, name: str) -> Any:
        """Return the class that a name stands for; what is no name is given back, to be taken as an import path."""
        cannot = f"The {self.name!r} trait of {type(obj).__name__} cannot be {name!r}"
        point = self.load_entry_points().get(name.lower())
        if point is not None:
            try:
                return point.load()
            except Exception as error:
                raise TraitError(
                    f"{cannot}: it is registered as {point.value}, which cannot be imported: {error}"
                ) from error
        package = find_by_name(self.entry_point_group, name)
        if package is None:
            package, path = find_by_module(self.entry_point_group, name), name
        else:
            path = package.classes[name.lower()]
        if package is None:
            if "." not in name:
                return name
            try:
                return import_item(name)
            except Exception as error:
                hint = ""
                if isinstance(error, ModuleNotFoundError):
                    hint = ". A module of your own has to be installed where the Hub runs, or in a directory of PYTHONPATH"
                raise TraitError(f"{cannot}: it cannot be imported: {error}{hint}") from error
        if importlib.util.find_spec(path.partition(".")[0]) is None:
            raise TraitError(f"{cannot}: {package.advice}")
        try:
            return import_item(path)
        except Exception as error:
            raise TraitError(f"{cannot}: {path} cannot be imported: {error}") from error

    def _base_name(self) -> str:
        klass = self.klass
        return klass if isinstance(klass, str) else f"{klass.__module__}.{klass.__qualname__}"
