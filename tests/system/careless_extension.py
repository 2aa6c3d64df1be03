"""A server extension whose author forgot to ask who is there; for tests. Its routes are below ``careless/``.

It also writes the list of all routes of the server as JSON to the file that TEST_ROUTES names.
"""

from __future__ import annotations

import json
import os
from typing import Any

from jupyter_server.base.handlers import JupyterHandler
from tornado import web, websocket


class PlainPage(web.RequestHandler):
    def get(self) -> None:
        self.write("secret")

    def post(self) -> None:
        self.write("secret")


class PlainSocket(websocket.WebSocketHandler):
    def open(self) -> None:
        self.write_message("secret")


class JupyterPage(JupyterHandler):
    def get(self) -> None:
        self.write("secret")


class OtherUser(JupyterHandler):
    @web.authenticated
    def get(self) -> None:
        self.write("secret")


def _routes(router: Any) -> list[dict[str, Any]]:
    found = []
    for rule in router.rules:
        if hasattr(rule.target, "rules"):
            found += _routes(rule.target)
            continue
        pattern = getattr(getattr(rule.matcher, "regex", None), "pattern", None)
        if pattern is None or not isinstance(rule.target, type):
            continue
        methods = [
            name
            for name in rule.target.SUPPORTED_METHODS
            if getattr(rule.target, name.lower()) is not web.RequestHandler._unimplemented_method
        ]
        socket = issubclass(rule.target, websocket.WebSocketHandler)
        found.append({"pattern": pattern, "name": rule.target.__name__, "methods": methods, "socket": socket})
    return found


def _load_jupyter_server_extension(serverapp: Any) -> None:
    base = serverapp.web_app.settings["base_url"]
    serverapp.web_app.add_handlers(
        ".*$",
        [
            (base + "careless/page", PlainPage),
            (base + "careless/socket", PlainSocket),
            (base + "careless/jupyter", JupyterPage),
            (base + "careless/other", OtherUser),
        ],
    )
    with open(os.environ["TEST_ROUTES"], "w") as file:
        json.dump(_routes(serverapp.web_app.default_router), file)
