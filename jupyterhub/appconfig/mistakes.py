"""Mistakes in a configuration: names that nothing knows, each with its line and the nearest name that exists.

traitlets says neither where a setting stands nor anything about sections, and ignores a misspelt section
silently.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from traitlets import TraitError
from traitlets.config import Configurable
from traitlets.config.loader import DeferredConfig, LazyConfigValue

__all__ = ["Mistake", "Place", "check_values", "explain_wrong_value", "find_mistakes", "find_places"]

#: How alike two names have to be before one is offered for the other, from 0 to 1.
LIKENESS = 0.7
#: A section that nothing knows may belong to a plugin that is not in use; only near misses are worth a word.
SECTION_LIKENESS = 0.8


@dataclass(frozen=True)
class Place:
    """Where a setting is given: a file and a line, counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


@dataclass(frozen=True)
class Mistake:
    """A setting that has no effect, as it was written, and what may have been meant."""

    section: str
    name: str
    suggestion: str = ""
    place: Place | None = None

    def __str__(self) -> str:
        written = f"{self.section}.{self.name}" if self.name else self.section
        where = f" ({self.place})" if self.place else ""
        hint = f"; did you mean {self.suggestion}?" if self.suggestion else ""
        kind = "setting" if self.name else "section"
        return f"Config option `{written}` not recognized{where}: there is no such {kind}, so it has no effect{hint}"


def find_places(files: Iterable[str]) -> dict[tuple[str, str], Place]:
    """Return where each ``c.Section.name`` is last assigned in configuration files in Python.

    Files that cannot be read or parsed are left out: loading them has said what is wrong with them.
    """
    places: dict[tuple[str, str], Place] = {}
    for file in files:
        if not file.endswith(".py"):
            continue
        try:
            with open(file, encoding="utf-8") as opened:
                tree = ast.parse(opened.read())
        except (OSError, SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
                if isinstance(node.value.value, ast.Name):
                    key = (node.value.attr, node.attr)
                    if key not in places or places[key].line < node.lineno:
                        places[key] = Place(file, node.lineno)
    return places


def find_mistakes(
    config: Mapping[str, Any],
    classes: Sequence[type[Any]],
    places: Mapping[tuple[str, str], Place] | None = None,
    known_sections: Iterable[str] = (),
) -> list[Mistake]:
    """Return the settings in `config` that no class in use has.

    `classes` are the concrete classes that will be made; a section named after one of their base classes may
    set whatever any of them has. `known_sections` are names that exist but are not judged, such as those of
    installed plugins.
    """
    traits: dict[str, set[str]] = {}
    for cls in classes:
        names = set(cls.class_trait_names(config=True))
        for base in cls.__mro__:
            if hasattr(base, "class_trait_names"):
                traits.setdefault(base.__name__, set()).update(names)
    sections = {*traits, *known_sections}
    found = []
    for section, settings in config.items():
        if not section[:1].isupper():
            continue
        if section not in traits:
            if section not in sections and (near := _nearest(section, sections, SECTION_LIKENESS)):
                place = next(
                    (each for (name, _), each in (places or {}).items() if name == section), None
                )
                found.append(Mistake(section, "", near, place))
            continue
        for name in settings:
            if name in traits[section] or name[:1].isupper():
                continue
            near = _nearest(name, traits[section], LIKENESS)
            found.append(
                Mistake(section, name, f"{section}.{near}" if near else "", (places or {}).get((section, name)))
            )
    return found


def check_values(config: Mapping[str, Any], cls: type[Configurable]) -> None:
    """Check the values that objects of a class would get from `config`, without making one.

    Of a setting given in several sections only the one that counts is checked.

    Raises TraitError for the first value that the setting does not take.
    """
    settings: dict[str, Any] = {}
    for section in cls.section_names():
        settings.update(config.get(section, {}))
    traits = cls.class_traits(config=True)
    # Traits ask for an object, to name its class. This one is not initialised: making a spawner is for its plugin.
    nobody = cls.__new__(cls)
    nobody._cross_validation_lock = True  # type: ignore[attr-defined]
    for name, value in settings.items():
        trait = traits.get(name)
        # What extends a default needs the object.
        if trait is None or isinstance(value, LazyConfigValue):
            continue
        try:
            trait._validate(nobody, value.get_value(trait) if isinstance(value, DeferredConfig) else value)
        except TraitError as error:
            if f"'{name}'" in str(error):
                raise
            raise TraitError(f"{cls.__name__}.{name}: {error}") from error
        except Exception:
            # A plugin's own check that needs more than a class will say so when a server starts.
            continue


def _nearest(name: str, names: Iterable[str], likeness: float) -> str:
    matches = get_close_matches(name, sorted(names), n=1, cutoff=likeness)
    return matches[0] if matches else ""


def explain_wrong_value(error: Exception, places: Mapping[tuple[str, str], Place]) -> str:
    """Return an error about a setting's value, with the place where it was given if that can be told."""
    text = str(error)
    match = re.search(r"The '(\w+)' trait of ", text)
    if match is None:
        match = re.search(r"\b([A-Z]\w*)\.(\w+)\b", text)
        wanted = {match[2]} if match else set()
    else:
        wanted = {match[1]}
    here = [str(place) for (_, name), place in places.items() if name in wanted]
    return f"{text} ({'; '.join(here)})" if here else text
