"""Write the generated pages of the documentation: life cycle, settings, scopes. `--check` fails when one is stale."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def lifecycle_page() -> str:
    from jupyterhub.core.lifecycle import diagram

    return f"```mermaid\n{diagram()}```\n"


def scopes_page() -> str:
    from jupyterhub.core.scopes.catalogue import scope_definitions

    lines = ["# Scopes", "", "| scope | what it allows | contains |", "|---|---|---|"]
    for name, definition in sorted(scope_definitions.items()):
        contains = ", ".join(f"`{each}`" for each in definition.get("subscopes") or ())
        lines.append(f"| `{name}` | {definition['description']} | {contains} |")
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    from jupyterhub.app import JupyterHub
    from jupyterhub.auth import Authenticator, DummyAuthenticator, LocalAuthenticator, PAMAuthenticator
    from jupyterhub.authenticators.shared import SharedPasswordAuthenticator
    from jupyterhub.proxy import ConfigurableHTTPProxy, Proxy
    from jupyterhub.spawner import LocalProcessSpawner, SimpleLocalProcessSpawner, Spawner

    lines = ["# Settings", "", "Each is written as `c.Class.name = value` in the configuration file.", ""]
    classes: list[Any] = [
        JupyterHub, Spawner, LocalProcessSpawner, SimpleLocalProcessSpawner, Authenticator, LocalAuthenticator,
        PAMAuthenticator, DummyAuthenticator, SharedPasswordAuthenticator, Proxy, ConfigurableHTTPProxy,
    ]
    for cls in classes:
        parents = {name for base in cls.__mro__[1:] if base in classes for name in base.class_traits(config=True)}
        own = {name: trait for name, trait in cls.class_traits(config=True).items() if name not in parents}
        if not own:
            continue
        lines += [f"## {cls.__name__}", ""]
        for name, trait in sorted(own.items()):
            text = " ".join(str(trait.help or "").split()).replace("|", "\\|").replace("{", "&#123;")
            kind = type(trait).__name__
            lines += [f"### `c.{cls.__name__}.{name}`", "", f"*{kind}.* {text}", ""]
    return "\n".join(lines) + "\n"


PAGES = {
    "docs/explanation/lifecycle.md": lifecycle_page,
    "docs/reference/scopes.md": scopes_page,
    "docs/reference/settings.md": settings_page,
}


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = []
    for path, write in PAGES.items():
        text, file = write(), ROOT / path
        if file.exists() and file.read_text(encoding="utf-8") == text:
            continue
        stale.append(path)
        if not check:
            file.write_text(text, encoding="utf-8")
    if check and stale:
        print("Stale, run scripts/reference.py:", *stale, sep="\n  ", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
