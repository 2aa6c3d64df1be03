"""The two template environments and what belongs to every page (web §20, plugins §15.1)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from jinja2 import ChainableUndefined, ChoiceLoader, Environment, FileSystemLoader, PrefixLoader

#: Prefix under which our own templates are found even if a deployment has one of the same name.
OWN_PREFIX = "templates"


def build_environments(
    template_paths: Sequence[str], own_path: str, options: Mapping[str, Any] | None = None
) -> tuple[Environment, Environment]:
    """Return (asynchronous, synchronous) environments over the same loader.

    `template_paths` are searched in order, then `own_path`; `templates/<name>` always means the file in `own_path`.
    `options` are `JupyterHub.jinja_environment_options`. Pages are rendered by the first; the second is for errors,
    which have to be rendered where nothing can be awaited.
    """
    paths = [*template_paths]
    if own_path not in paths:
        paths.append(own_path)
    loader = ChoiceLoader(
        [
            PrefixLoader({OWN_PREFIX: FileSystemLoader([own_path])}, "/"),
            FileSystemLoader(paths),
        ]
    )
    settings: dict[str, Any] = {"autoescape": True, "undefined": ChainableUndefined, **(options or {})}
    settings.setdefault("loader", loader)
    return _environment(settings, asynchronous=True), _environment(settings, asynchronous=False)


def _environment(settings: Mapping[str, Any], *, asynchronous: bool) -> Environment:
    environment = Environment(**{**settings, "enable_async": asynchronous})
    environment.extend(own_loader=environment.loader)
    environment.filters.setdefault("isoformat", isoformat)
    environment.filters.setdefault("utc", utc_text)
    return environment


def has_overrides(environment: Environment, template_paths: Sequence[str], own_path: str) -> bool:
    """Return whether a template may come from a deployment: from a folder of its own, or a loader of a plugin."""
    if environment.loader is not getattr(environment, "own_loader", None):
        return True
    return any(os.path.abspath(path) != os.path.abspath(own_path) for path in template_paths)


def isoformat(value: Any) -> str:
    """Return a time as ISO 8601 in UTC with a Z, a naive one taken for UTC; '' for none."""
    if not isinstance(value, datetime):
        return str(value) if value else ""
    aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
    return aware.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def utc_text(value: Any) -> str:
    """Return a time as people read it while no script has made it relative, e.g. "2026-01-31 12:00 UTC"."""
    if not isinstance(value, datetime):
        return str(value) if value else ""
    aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
    return aware.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


class PageVariables:
    """`JupyterHub.template_vars`, each given in turn: values as they are, callables called with the viewer.

    A callable that raises costs its own variable, not the page (web §26, 21); the error is kept for the log.
    """

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self._variables = variables
        self.problems: list[tuple[str, Exception]] = []

    def resolve(self, viewer: Any) -> dict[str, Any]:
        """Return name → value for one viewer (None for a stranger)."""
        resolved: dict[str, Any] = {}
        for name, value in self._variables.items():
            if not callable(value):
                resolved[name] = value
                continue
            try:
                resolved[name] = value(viewer)
            except Exception as error:
                self.problems.append((name, error))
        return resolved
