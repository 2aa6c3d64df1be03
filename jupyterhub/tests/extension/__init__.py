"""A Jupyter server extension that tells how the server around it is set up, at `jupyterhub-test-info`."""

import json
from typing import Any

from tornado import web

from jupyterhub.utils import url_path_join


class JupyterHubTestHandler(web.RequestHandler):
    """Tells what a test of a single-user server wants to know, as JSON."""

    def initialize(self, app: Any) -> None:
        self.app = app

    def get(self) -> None:
        extensions = getattr(self.app, "extension_manager", None)
        info = {
            "config": self.app.config,
            "config_file_paths": list(self.app.config_file_paths),
            "config_files": list(getattr(self.app, "loaded_config_files", ())),
            "root_dir": str(self.app.root_dir),
            "default_url": self.app.default_url,
            "extensions": sorted(extensions.extensions) if extensions is not None else [],
            "template_path": self.app.web_app.settings.get("template_path"),
        }
        self.finish(json.loads(json.dumps(info, default=repr)))


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "jupyterhub.tests.extension"}]


def _load_jupyter_server_extension(serverapp: Any) -> None:
    path = url_path_join(serverapp.base_url, "jupyterhub-test-info")
    serverapp.web_app.add_handlers(".*$", [(path, JupyterHubTestHandler, {"app": serverapp})])
