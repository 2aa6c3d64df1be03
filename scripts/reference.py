"""Write the generated pages of the documentation: life cycle, causes of failures, settings, scopes, metrics, the proxy.

`--check` writes nothing and fails when a page is stale. The pages are the same on every machine: they depend on
neither the environment nor what else is installed.
"""

from __future__ import annotations

import enum
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

#: Where these lead, the documentation does not follow: what is here or there depends on the machine.
ELSEWHERE = re.compile(r"^(JUPYTERHUB_|JPY_|CONFIGPROXY_)")
#: Longer defaults are told by their length.
LONGEST_DEFAULT = 200
KINDS = {
    "Any": "anything",
    "Bool": "True or False",
    "ByteSpecification": "number of bytes, such as 512M",
    "Callable": "function",
    "Command": "command, as a list of words",
    "Dict": "dictionary",
    "EntryPointType": "class, or a name under which one is registered",
    "Float": "number",
    "Int": "integer",
    "URLPrefix": "path",
    "Unicode": "text",
}


def lifecycle_page() -> str:
    from jupyterhub.core.lifecycle import diagram

    return f"```mermaid\n{diagram()}```\n"


def causes_page() -> str:
    from jupyterhub.core.classify import CAUSES

    rows = ((f"`{name}`", cause.title, cause.meaning) for name, cause in CAUSES.items())
    return "\n".join(table(("cause", "what it is called", "what it means"), rows)) + "\n"


def cell(text: str) -> str:
    """Return text as a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    heads = list(heads)
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return [*lines, *(f"| {' | '.join(cell(text) for text in row)} |" for row in rows)]


# Scopes


def scopes_page() -> str:
    from jupyterhub.core.scopes.catalogue import scope_definitions

    lines = [
        "# Scopes",
        "",
        "What roles and tokens are made of. A scope may be narrowed by a filter, as in `read:users!user=ada`; whoever",
        "holds a scope holds what it contains, with the same filter.",
        "",
    ]
    rows = (
        (
            f"`{name}`",
            str(definition["description"]),
            ", ".join(f"`{each}`" for each in definition.get("subscopes") or ()),
        )
        for name, definition in sorted(scope_definitions.items())
    )
    return "\n".join([*lines, *table(("scope", "what it allows", "contains"), rows)]) + "\n"


# Settings


def setting_classes() -> list[tuple[str, list[Any]]]:
    """Return the classes with settings, in the order and under the headings of the page."""
    from jupyterhub.app import JupyterHub
    from jupyterhub.auth import (
        Authenticator,
        DummyAuthenticator,
        LocalAuthenticator,
        NullAuthenticator,
        PAMAuthenticator,
    )
    from jupyterhub.authenticators.shared import SharedPasswordAuthenticator
    from jupyterhub.crypto import CryptKeeper
    from jupyterhub.httpclient import JupyterHubHTTPClient
    from jupyterhub.metrics import PeriodicMetricsCollector
    from jupyterhub.proxy import ConfigurableHTTPProxy, Proxy
    from jupyterhub.proxy.builtin import BuiltinProxy
    from jupyterhub.services.auth import HubAuth, HubOAuth
    from jupyterhub.singleuser.extension import JupyterHubSingleUser
    from jupyterhub.spawner import LocalProcessSpawner, SimpleLocalProcessSpawner, Spawner

    return [
        ("The Hub", [JupyterHub]),
        ("Spawners", [Spawner, LocalProcessSpawner, SimpleLocalProcessSpawner]),
        (
            "Authenticators",
            [
                Authenticator, LocalAuthenticator, PAMAuthenticator, DummyAuthenticator, SharedPasswordAuthenticator,
                NullAuthenticator,
            ],
        ),
        ("Proxies", [Proxy, ConfigurableHTTPProxy, BuiltinProxy]),
        ("Beside the Hub", [CryptKeeper, JupyterHubHTTPClient, PeriodicMetricsCollector]),
        ("In services and users' servers", [HubAuth, HubOAuth, JupyterHubSingleUser]),
    ]


def own_settings(cls: Any, documented: list[Any]) -> dict[str, Any]:
    """Return the settings of a class that no documented class above it has, or that it gives another default."""
    above = [base for base in cls.__mro__[1:] if base in documented]
    if above and above[0].__name__ == "HubAuth":
        above = above[:1]
    inherited = {name for base in above for name in base.class_traits(config=True)}
    return {
        name: trait
        for name, trait in sorted(cls.class_traits(config=True).items())
        # What every application of traitlets has is explained there.
        if not trait.this_class.__module__.startswith("traitlets.") and (name not in inherited or name in cls.__dict__)
    }


def kind_of(trait: Any) -> str:
    """Return the type of a setting in words, with the allowed values of an enumeration."""
    from traitlets import Enum, Union

    if isinstance(trait, Union):
        return " or ".join(kind_of(each) for each in trait.trait_types)
    if isinstance(trait, Enum) and trait.values:
        return "one of " + ", ".join(f"`{value!r}`" for value in trait.values)
    word = type(trait).__name__
    return KINDS.get(word, word.lower())


def default_of(cls: Any, name: str, trait: Any) -> str:
    """Return the default as it would be written, or a word about one that is worked out."""
    if name in cls._all_trait_default_generators and not _is_static(cls, name, trait):
        return "worked out at start"
    value = trait.default()
    if isinstance(value, enum.Enum):
        value = value.value
    if inspect.isclass(value) or inspect.isfunction(value):
        return f"`{value.__module__}.{value.__qualname__}`"
    text = repr(sorted(value)) if isinstance(value, (set, frozenset)) and value else repr(value)
    if str(ROOT) in text or sys.prefix in text:
        return "worked out at start"
    text = text.replace("`", "'")
    return f"`{text}`" if len(text) <= LONGEST_DEFAULT else f"{len(value)} entries"


def _is_static(cls: Any, name: str, trait: Any) -> bool:
    generator = cls._all_trait_default_generators[name]
    return getattr(generator, "__self__", None) is trait


def paragraphs(help_text: str) -> str:
    """Return a help text as Markdown: its paragraphs and examples stay, signs of HTML and of links are made harmless."""
    text = inspect.cleandoc(help_text)
    # What is registered follows; here and there that is something else.
    text = text.split("\n\nCurrently installed:")[0].split("\n\nRegistered here:")[0]
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(
        piece if piece.startswith("`") else piece.replace("<", "&lt;").replace("[", "\\[").replace("*", "\\*")
        for piece in pieces
    ).strip()


def settings_page() -> str:
    lines = [
        "# Settings",
        "",
        "Each is written as `c.Class.name = value` in the configuration file, or as `--Class.name=value` on the command",
        "line. A class has the settings of the classes that it is made from, too. Those of the log, which all programs",
        "made with traitlets share, are explained by `jupyterhub --help-all`.",
        "",
    ]
    documented = [cls for _, classes in setting_classes() for cls in classes]
    for heading, classes in setting_classes():
        lines += [f"## {heading}", ""]
        for cls in classes:
            lines += [f"### {cls.__name__}", ""]
            above = [base.__name__ for base in cls.__mro__[1:] if base in documented]
            lines += [first_sentence(cls), ""]
            if above:
                lines += [f"Made from {', '.join(f'`{name}`' for name in above)}.", ""]
            for name, trait in own_settings(cls, documented).items():
                lines += [f"#### `c.{cls.__name__}.{name}`", ""]
                lines += [f"*{kind_of(trait)}; default: {default_of(cls, name, trait)}*", ""]
                lines += [paragraphs(trait.help), ""] if trait.help else []
    return "\n".join(lines).rstrip() + "\n"


def first_sentence(cls: Any) -> str:
    return paragraphs((cls.__doc__ or "").split("\n\n")[0])


# Metrics


def metrics_page() -> str:
    from prometheus_client.metrics import MetricWrapperBase

    from jupyterhub import metrics
    from jupyterhub.dataplane.metrics import Metrics

    hub = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    rows = []
    for metric in sorted(hub, key=lambda metric: metric._name):
        name = metric._name + ("_total" if metric._type == "counter" and not metric._name.endswith("_total") else "")
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        rows.append((f"`{name}`", metric._type, labels, metric._documentation))
    lines = [
        "# Metrics",
        "",
        "The Hub answers with its metrics at `/hub/metrics`, in the text form of Prometheus, to whoever holds the scope",
        "`read:metrics` (see `c.JupyterHub.authenticate_prometheus`).",
        "",
        *table(("metric", "type", "labels", "what it says"), rows),
        "",
        "The environment variable `JUPYTERHUB_METRICS_PREFIX` replaces the first word of the names.",
        "",
        "## The proxy",
        "",
        "`jupyterhub-proxy` answers with its own at the port given by `--metrics-port`.",
        "",
    ]
    rendered = Metrics().render().splitlines()
    texts = dict(line.split(" ", 3)[2:] for line in rendered if line.startswith("# HELP "))
    kinds = dict(line.split(" ", 3)[2:] for line in rendered if line.startswith("# TYPE "))
    # Whether a system tells about processes depends on the system.
    own = [name for name in texts if not name.startswith("process_")]
    lines += table(("metric", "type", "what it says"), ((f"`{name}`", kinds[name], texts[name]) for name in own))
    lines += ["", "Beside them stand the usual `process_…` metrics, where the operating system tells them."]
    return "\n".join(lines) + "\n"


# The proxy's command line


def proxy_page() -> str:
    import argparse

    from jupyterhub.dataplane.options import build_parser

    rows = []
    refused = []
    for action in build_parser()._actions:
        names = ", ".join(f"`{name}`" for name in action.option_strings)
        if action.help is argparse.SUPPRESS:
            refused.append(names)
        else:
            shown = f" `{action.metavar}`" if action.metavar else ""
            rows.append((names + shown, paragraphs(action.help or "")))
    lines = [
        "# jupyterhub-proxy",
        "",
        "The proxy's program. The Hub starts it with the options that follow from the Hub's settings; others are added to",
        "its command:",
        "",
        "```python",
        'c.ConfigurableHTTPProxy.command = ["jupyterhub-proxy", "--workers", "2"]',
        "```",
        "",
        "The options are those of configurable-http-proxy 5 and a few more. `MS` are milliseconds.",
        "",
        *table(("option", "what it does"), rows),
        "",
        f"{' and '.join(refused)} are understood and refused with a sentence that says why.",
        "",
        "| environment variable | what it is |",
        "|---|---|",
        "| `CONFIGPROXY_AUTH_TOKEN` | the token that requests to the REST API must bring; without it the API is open |",
        "| `CONFIGPROXY_SSL_KEY_PASSPHRASE` | the passphrase of `--ssl-key` |",
        "| `CONFIGPROXY_API_SSL_KEY_PASSPHRASE` | the passphrase of `--api-ssl-key` |",
        "",
        "| signal | what it does |",
        "|---|---|",
        "| `SIGTERM`, `SIGINT` | takes nobody new, lets requests finish for `--drain-timeout`, ends with status 2 |",
        "| a second one | does not wait for them |",
        "| `SIGHUP` | reads the certificates again; no open connection notices |",
        "",
        "How it works, and what it refuses: [The data plane](../explanation/data-plane.md).",
    ]
    return "\n".join(lines) + "\n"


PAGES = {
    "docs/explanation/causes.md": causes_page,
    "docs/explanation/lifecycle.md": lifecycle_page,
    "docs/reference/metrics.md": metrics_page,
    "docs/reference/proxy.md": proxy_page,
    "docs/reference/scopes.md": scopes_page,
    "docs/reference/settings.md": settings_page,
}


def in_a_clean_environment() -> int | None:
    """Run again without the variables that change defaults; returns the status of that run, or None in it."""
    kept = {name: value for name, value in os.environ.items() if not ELSEWHERE.match(name)}
    if kept == dict(os.environ):
        return None
    return subprocess.run([sys.executable, *sys.argv], env=kept, check=False).returncode


def main() -> int:
    status = in_a_clean_environment()
    if status is not None:
        return status
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
