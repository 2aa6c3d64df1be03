"""Run in the environment of the packages: import every class that has a short name, and tell about it as JSON."""

import asyncio
import json
import os
import pwd
from importlib.metadata import entry_points
from types import SimpleNamespace

from traitlets.utils.importstring import import_item

from jupyterhub.app import JupyterHub
from jupyterhub.core.known_plugins import KNOWN_PACKAGES
from jupyterhub.objects import Hub, Server

SETTINGS = {
    "jupyterhub.spawners": "spawner_class",
    "jupyterhub.authenticators": "authenticator_class",
    "jupyterhub.proxies": "proxy_class",
}


def about_spawner(cls):
    """What a spawner says of itself before any Hub runs."""
    # Some of them look the account up.
    name = pwd.getpwuid(os.getuid()).pw_name
    user = SimpleNamespace(name=name, url=f"/user/{name}/", id=1, escaped_name=name, state=None, server=None, settings={})
    more = {"_mock": True} if cls.__name__ == "KubeSpawner" else {}
    spawner = cls(user=user, hub=Hub(ip="127.0.0.1", port=8081, base_url="/hub/"), **more)
    spawner.server = Server(ip="127.0.0.1", port=1, base_url=user.url)
    spawner.api_token = "secret"
    spawner.load_state({})
    return {"user": name, "env": spawner.get_env(), "state": spawner.get_state()}


def path_of(cls):
    return f"{cls.__module__}.{cls.__qualname__}"


async def main():
    """Some of them want a loop that runs."""
    told = {}
    for group, packages in KNOWN_PACKAGES.items():
        points = [point for point in entry_points(group=group) if point.dist.name != "jupyterhub"]
        chosen, listed, spawners = {}, {}, {}
        for package in packages:
            for name, path in package.classes.items():
                cls = getattr(JupyterHub(**{SETTINGS[group]: name}), SETTINGS[group])
                chosen[name], listed[name] = path_of(cls), path_of(import_item(path))
                if group == "jupyterhub.spawners":
                    spawners[path_of(cls)] = cls
        told[group] = {
            "registered": {point.name.lower(): path_of(point.load()) for point in points},
            "chosen": chosen,
            "listed": listed,
            "spawners": {path: about_spawner(cls) for path, cls in spawners.items()},
        }
    return told


print(json.dumps(asyncio.run(main())))
