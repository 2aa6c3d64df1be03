"""A Jupyter server without a front end, for JUPYTERHUB_SINGLEUSER_APP=jupyterhub.tests.mockserverapp.MockServerApp."""

from typing import Any

from jupyter_server.serverapp import ServerApp
from tornado import web

from jupyterhub.utils import url_path_join


class TreeHandler(web.RequestHandler):
    """Answers where the classic file browser used to be."""

    def get(self) -> None:
        self.write("mock tree")


class MockServerApp(ServerApp):
    """A ServerApp with something to see at `/tree`."""

    def initialize(self, argv: Any = None, **kwargs: Any) -> None:
        super().initialize(argv, **kwargs)
        self.web_app.add_handlers(".*$", [(url_path_join(self.base_url, "tree/?"), TreeHandler)])
