"""Every setting of JupyterHub 6 exists here, under its section, with its default and its kind.

`data/settings.json` lists them: type, default, whether a configuration file may set it. Where ours differs on purpose
it is in `DIFFERENT`, with the reason.
"""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

SETTINGS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "settings.json").read_text())

HOMES = {
    "Authenticator": "jupyterhub.auth",
    "ConfigurableHTTPProxy": "jupyterhub.proxy",
    "CryptKeeper": "jupyterhub.crypto",
    "DummyAuthenticator": "jupyterhub.auth",
    "EventLogger": "jupyter_events",
    "HubAuth": "jupyterhub.services.auth",
    "HubOAuth": "jupyterhub.services.auth",
    "JupyterHub": "jupyterhub.app",
    "JupyterHubHTTPClient": "jupyterhub.httpclient",
    "JupyterHubSingleUser": "jupyterhub.singleuser.extension",
    "LocalAuthenticator": "jupyterhub.auth",
    "LocalProcessSpawner": "jupyterhub.spawner",
    "NullAuthenticator": "jupyterhub.auth",
    "PAMAuthenticator": "jupyterhub.auth",
    "PeriodicMetricsCollector": "jupyterhub.metrics",
    "Proxy": "jupyterhub.proxy",
    "Service": "jupyterhub.services.service",
    "SharedPasswordAuthenticator": "jupyterhub.authenticators.shared",
    "SimpleLocalProcessSpawner": "jupyterhub.spawner",
    "Spawner": "jupyterhub.spawner",
}

#: Defaults that are ours on purpose: (section, setting) → why.
DIFFERENT = {
    ("JupyterHub", "proxy_class"): "our own proxy, a ConfigurableHTTPProxy with another program",
}


def section(name: str) -> type[Any]:
    found: type[Any] = getattr(importlib.import_module(HOMES[name]), name)
    return found


#: The single-user server that wraps another application is made when it is asked for.
ALL = [
    (cls, name)
    for cls, traits in SETTINGS.items()
    if cls != "SingleUserNotebookApp"
    for name, facts in traits.items()
]


@pytest.mark.parametrize(("cls", "name"), ALL, ids=[f"{cls}.{name}" for cls, name in ALL])
def test_a_setting_exists_and_a_file_may_set_it(cls: str, name: str):
    facts = SETTINGS[cls][name]
    if facts["config"]:
        assert name in section(cls).class_trait_names(config=True)
    else:
        assert hasattr(section(cls), name)
        assert name not in section(cls).class_trait_names(config=True)


def comparable(value: Any) -> Any:
    if isinstance(value, set | frozenset | tuple):
        return sorted(value) if isinstance(value, set | frozenset) else list(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    return value


#: Defaults that are the same everywhere: no rule behind them, and not made when the module is loaded.
PLAIN = [
    (cls, name)
    for cls, name in ALL
    if cls not in ("EventLogger", "HubAuth", "HubOAuth", "JupyterHubSingleUser")
    and SETTINGS[cls][name]["config"]
    and "rule" not in SETTINGS[cls][name]
    and (cls, name) not in DIFFERENT
    and not SETTINGS[cls][name]["type"].startswith("EntryPointType")
]




@pytest.mark.parametrize("cls", sorted({cls for cls, _ in PLAIN} - {"JupyterHubHTTPClient"}))
def test_defaults(cls: str, monkeypatch: pytest.MonkeyPatch):
    for variable in [name for name in os.environ if name.startswith(("JUPYTERHUB_", "CONFIGPROXY_", "JPY_"))]:
        monkeypatch.delenv(variable)
    instance = section(cls)()
    found = {name: comparable(getattr(instance, name)) for of, name in PLAIN if of == cls}
    wanted = {name: SETTINGS[cls][name]["default"] for name in found}
    assert found == wanted
