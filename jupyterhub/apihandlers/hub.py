"""The Hub itself: version, information, shutdown (rest-api §4.1)."""

from __future__ import annotations

import sys
from typing import Any

from tornado import web

from .._version import INTERFACE_VERSION, __version__
from ..handlers.metrics import MetricsHandler
from .base import APIHandler
from .declare import operation, register


class RootAPIHandler(APIHandler):
    """`/hub/api/`: which interface this is. Anybody may ask."""

    def check_xsrf_cookie(self) -> None:
        """Nothing is changed and nothing private is shown."""

    def set_default_headers(self) -> None:
        super().set_default_headers()
        if "Access-Control-Allow-Origin" not in (self.settings.get("headers") or {}):
            self.set_header("Access-Control-Allow-Origin", "*")

    @operation("The version of the interface", public=True, responses={200: "version"})
    def get(self) -> None:
        self.write_json({"version": INTERFACE_VERSION})


class InfoAPIHandler(APIHandler):
    """`/hub/api/info`: versions and classes."""

    @operation("Versions and classes of this Hub", scopes=("read:hub",), responses={200: "information"})
    def get(self) -> None:
        def describe(cls: type[Any]) -> dict[str, str]:
            package = sys.modules.get(cls.__module__.partition(".")[0])
            return {
                "class": f"{cls.__module__}.{cls.__name__}",
                "version": getattr(package, "__version__", "unknown"),
            }

        self.write_json(
            {
                "version": __version__,
                "python": sys.version,
                "sys_executable": sys.executable,
                "spawner": describe(self.spawner_class),
                "authenticator": describe(type(self.authenticator)),
            }
        )


class ShutdownAPIHandler(APIHandler):
    """`/hub/api/shutdown`: end the Hub."""

    @operation("End the Hub", scopes=("shutdown",), body="proxy, servers", responses={202: "the Hub ends"})
    def post(self) -> None:
        app = self.app
        body = self.get_json_body()
        chosen = {}
        if isinstance(body, dict):
            for name in ("proxy", "servers"):
                if name in body:
                    if body[name] not in (True, False):
                        raise web.HTTPError(400, f"{name} must be true or false, not {body[name]!r}")
                    chosen[name] = bool(body[name])
        if app is None:
            raise web.HTTPError(500, "There is no application to end")
        app.cleanup_proxy = chosen.get("proxy", app.cleanup_proxy)
        app.cleanup_servers = chosen.get("servers", app.cleanup_servers)
        self.write_json({"message": "Shutting down Hub"}, status=202)
        app.stop()


default_handlers = [
    *register(
        [
            (r"/api/?", RootAPIHandler),
            (r"/api/info", InfoAPIHandler),
            (r"/api/shutdown", ShutdownAPIHandler),
        ]
    ),
    (r"/api/metrics", MetricsHandler),
]
