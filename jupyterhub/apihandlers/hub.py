"""The Hub itself: version, information, shutdown (rest-api §4.1)."""

from __future__ import annotations

import sys
from typing import Any

from tornado import web

from .._version import INTERFACE_VERSION, __version__
from ..core.errors import InvalidRequest
from ..handlers.metrics import MetricsHandler
from ..handlers.pages import HealthCheckHandler
from .base import APIHandler
from .declare import Operation, document, operation, register
from .schemas import InfoModel, ShutdownBody, VersionModel


class RootAPIHandler(APIHandler):
    """`/hub/api/`: which interface this is. Anybody may ask."""

    async def prepare(self) -> None:
        """Ask nobody who they are: it makes no difference."""
        self._jupyterhub_user = None

    def set_default_headers(self) -> None:
        super().set_default_headers()
        if "Access-Control-Allow-Origin" not in (self.settings.get("headers") or {}):
            self.set_header("Access-Control-Allow-Origin", "*")

    @operation("The version of the interface", who="anyone", responses={200: VersionModel})
    def get(self) -> None:
        self.write_json({"version": INTERFACE_VERSION})


class InfoAPIHandler(APIHandler):
    """`/hub/api/info`: versions and classes."""

    @operation("Versions and classes of this Hub", scopes=("read:hub",), responses={200: InfoModel})
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

    @operation(
        "End the Hub", scopes=("shutdown",), request=ShutdownBody, responses={202: dict[str, str]},
        errors={400: "a member is neither true nor false"},
    )
    def post(self) -> None:
        app = self.app
        body = self.get_json_body()
        given = body if isinstance(body, dict) else {}
        for name in ("proxy", "servers"):
            # 0 and 1 count as well, as they always have.
            if name in given and given[name] not in (True, False):
                raise InvalidRequest(f"{name} must be true or false, not {given[name]!r}")
        if app is None:
            raise web.HTTPError(500, "There is no application here that could end")
        for name in given.keys() & {"proxy", "servers"}:
            setattr(app, f"cleanup_{name}", bool(given[name]))
        self.write_json({"message": "Shutting down Hub"}, status=202)
        app.stop()


default_handlers = register(
    [
        (r"/api/?", RootAPIHandler),
        (r"/api/info", InfoAPIHandler),
        (r"/api/shutdown", ShutdownAPIHandler),
    ]
)

# Registered with the pages, because their errors are pages.
document(
    r"/api/health",
    HealthCheckHandler,
    get=Operation("Whether the Hub answers", who="anyone", responses={200: None}),
    head=Operation("Whether the Hub answers", who="anyone", responses={200: None}),
)
document(
    r"/api/metrics",
    MetricsHandler,
    get=Operation(
        "Metrics for Prometheus", scopes=("read:metrics",), responses={200: "text/plain"},
        errors={403: "not allowed, while JupyterHub.authenticate_prometheus is on"},
    ),
)
