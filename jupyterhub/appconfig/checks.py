"""Mistakes in configuration files, told so that they can be found: unknown sections and keys, with the line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def known_sections(classes: Iterable[type[Any]]) -> dict[str, set[str]]:
    """Return section name → setting names, for the given classes and all their configurable parents."""
    sections: dict[str, set[str]] = {}
    for cls in classes:
        for parent in cls.mro():
            if hasattr(parent, "class_traits"):
                own = {name for name, trait in cls.class_traits(config=True).items()}
                sections.setdefault(parent.__name__, set()).update(own)
    return sections


def find_line(text: str, section: str, key: str) -> int | None:
    """Return the number of the line that mentions `section.key`, counted from 1, or None."""
    pattern = re.compile(rf"\b{re.escape(section)}\.{re.escape(key)}\b" if key else rf"\b{re.escape(section)}\b")
    for number, line in enumerate(text.splitlines(), 1):
        if pattern.search(line.partition("#")[0]):
            return number
    return None


def describe_unknown_keys(config: Any, classes: Iterable[type[Any]], config_file: str = "") -> list[str]:
    """Return a sentence for each key of `config` that no known class has, with the nearest right one and the line.

    Sections that belong to none of the classes are left alone: they may be for a plugin that is not loaded. Only one
    that looks like a misspelt section of ours is mentioned.
    """
    sections = known_sections(classes)
    text = ""
    if config_file and Path(config_file).is_file():
        text = Path(config_file).read_text(encoding="utf-8", errors="replace")
    found = []
    for section, values in config.items():
        if section not in sections:
            near = difflib.get_close_matches(section, sections, n=1, cutoff=0.85)
            if near:
                found.append(_sentence(section, "", near, text, config_file))
            continue
        for key in values:
            if key in sections[section]:
                continue
            near = difflib.get_close_matches(key, sections[section], n=1, cutoff=0.6)
            found.append(_sentence(section, key, near, text, config_file))
    return found


def _sentence(section: str, key: str, near: list[str], text: str, config_file: str) -> str:
    line = find_line(text, section, key)
    where = f" ({config_file}, line {line})" if line else ""
    what = f"{section}.{key}" if key else f"The section {section}"
    hint = f"; did you mean {section + '.' if key else ''}{near[0]}?" if near else ""
    return f"{what} is not a setting{where}{hint}"
