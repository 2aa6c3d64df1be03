"""What runs outside the Hub stays free of the Hub: a fresh interpreter imports it and is looked at.

import-linter sees what one module imports from another, but not that importing a package runs its parents.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HUB = (
    "sqlalchemy", "alembic", "jinja2", "oauthlib", "prometheus_client", "pamela", "certipy", "jupyter_events",
    "jupyterhub.orm", "jupyterhub.store", "jupyterhub.runtime", "jupyterhub.handlers", "jupyterhub.apihandlers",
    "jupyterhub.app", "jupyterhub.spawner", "jupyterhub.proxy", "jupyterhub.user",
)

DATA_PLANE = (
    *HUB, "tornado", "traitlets", "aiohttp", "jupyterhub.web", "jupyterhub.services", "jupyterhub.singleuser",
    "jupyterhub.aio", "jupyterhub.net", "jupyterhub.httpclient",
)

#: The single-user server brings Jupyter Server, which has templates, metrics and events of its own.
BESIDE_JUPYTER_SERVER = tuple(
    name for name in HUB if name not in ("jinja2", "prometheus_client", "jupyter_events")
)

#: Libraries that cost a second or tens of megabytes, and that a Hub's start must not need.
HEAVY = ("jupyter_events", "alembic", "certipy", "aiohttp", "cryptography", "requests", "jupyter_server")

ISLANDS = {
    "jupyterhub": (*HUB, "tornado", "traitlets"),
    "jupyterhub.core.scopes.algebra": (*HUB, "tornado", "traitlets"),
    "jupyterhub.dataplane.cli": DATA_PLANE,
    "jupyterhub.services.auth": HUB,
    "jupyterhub.utils": HUB,
    "jupyterhub.slugs": HUB,
    "jupyterhub.traitlets": HUB,
    "jupyterhub.log": HUB,
    "jupyterhub.singleuser": BESIDE_JUPYTER_SERVER,
    "jupyterhub.singleuser.extension": BESIDE_JUPYTER_SERVER,
    "jupyterhub.app": HEAVY,
}


def modules_after_importing(module: str) -> set[str]:
    program = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("module", ISLANDS)
def test_an_island_brings_nothing_along(module: str):
    loaded = modules_after_importing(module)
    assert module in loaded
    assert not loaded & set(ISLANDS[module])
