"""What people see, and where they land (config §16)."""

import os
from typing import Any

from traitlets import Bool, Callable, Dict, List, Unicode, Union, default

from .._data import DATA_FILES_PATH
from ..traitlets import TopicTraits


class PageSettings(TopicTraits):
    """Templates, landing pages, log-out, additions to the web application."""

    data_files_path = Unicode(
        DATA_FILES_PATH, help="The directory with the package's own templates and static files."
    ).tag(config=True)

    template_paths: Any = List(
        help="""
        Directories in which templates are looked for before those of the package.

        A template of yours may begin with {% extends "templates/page.html" %}: below that name are always the
        originals.
        """
    ).tag(config=True)

    template_vars = Dict(
        help="Further variables for all templates. A function is called with the user and gives the value."
    ).tag(config=True)

    jinja_environment_options = Dict(
        help="Further options for the template environment of Jinja."
    ).tag(config=True)

    logo_file = Unicode(help="The picture at the top of every page.").tag(config=True)

    default_url = Union(
        [Unicode(), Callable()],
        default_value="",
        help="""
        Where people land after log-in when they did not come for something else; by default in their server.

        A path, or a function that is called with the handler and returns one, or nothing for the default.
        """,
    ).tag(config=True)

    redirect_to_server = Bool(
        True,
        help="Take people to their server after log-in, starting it; with False they land on the Hub's home page.",
    ).tag(config=True)

    user_redirect_hook = Callable(
        None,
        allow_none=True,
        help="""
        A function that decides where links to /hub/user-redirect/... lead, which everybody can use for their
        own server.

        It is called as `hook(path, request, user, base_url)`, may be a coroutine function, and returns a URL,
        or None for the user's own server.
        """,
    ).tag(config=True)

    default_server_name = Unicode(
        help="The named server to which /hub/user-redirect/... leads, where named servers are allowed."
    ).tag(config=True)

    shutdown_on_logout = Bool(False, help="Stop a user's servers when the user logs out.").tag(config=True)

    use_legacy_stopped_server_status_code = Bool(
        False,
        help="Deprecated: answer 503 instead of 424 for a server that does not run, as some old programs expect.",
    ).tag(config=True)

    extra_handlers: Any = List(
        help="""
        Deprecated: further (path, handler) pairs below the Hub's prefix. Use a service instead.
        """
    ).tag(config=True)

    tornado_settings = Dict(
        help="Settings for the web application that win over the Hub's own, `headers` and `cookie_options` for example."
    ).tag(config=True)

    @default("template_paths")
    def _template_paths_default(self) -> list[Any]:
        return [os.path.join(self.data_files_path, "templates")]

    @default("logo_file")
    def _logo_file_default(self) -> str:
        return os.path.join(self.data_files_path, "static", "images", "jupyterhub-80.png")
