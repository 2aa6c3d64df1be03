"""What people see, and where they land (config §16)."""

from typing import Any

from traitlets import Bool, Callable, Dict, HasTraits, List, Unicode, Union, default

from .._data import DATA_FILES_PATH


class PageSettings(HasTraits):
    """Templates, landing pages, log-out."""

    data_files_path = Unicode(DATA_FILES_PATH, help="Directory with the package's templates and static files.").tag(
        config=True
    )
    template_paths = List(help="Directories with templates of yours; they are searched before the package's.").tag(
        config=True
    )
    template_vars = Dict(help="Further variables for templates; functions are called with the user.").tag(config=True)
    jinja_environment_options = Dict(help="Further options of the template environments.").tag(config=True)
    logo_file = Unicode(help="Picture shown in the top left corner.").tag(config=True)
    default_url = Union(
        [Unicode(), Callable()],
        default_value="",
        help="Where people land after log-in: a path, or a function of the handler that returns one.",
    ).tag(config=True)
    redirect_to_server = Bool(
        True, help="Whether people land in their server (which is started) instead of on the home page."
    ).tag(config=True)
    user_redirect_hook = Callable(
        None, allow_none=True,
        help="Function of path, request, user and base_url that says where /hub/user-redirect/… leads; may be async.",
    ).tag(config=True)
    default_server_name = Unicode(help="Named server to which /hub/user-redirect/ leads.").tag(config=True)
    shutdown_on_logout = Bool(False, help="Whether logging out stops the user's servers.").tag(config=True)
    use_legacy_stopped_server_status_code = Bool(
        False, help="Answer 503 instead of 424 where a server does not run, as JupyterHub 1 did."
    ).tag(config=True)
    extra_handlers = List(help="Old: further (path, handler) pairs below the Hub's prefix. Better a service.").tag(
        config=True
    )
    tornado_settings = Dict(help="Overrides for the settings of the web application.").tag(config=True)

    @default("template_paths")
    def _template_paths_default(self) -> list[Any]:
        import os

        return [os.path.join(self.data_files_path, "templates")]

    @default("logo_file")
    def _logo_file_default(self) -> str:
        import os

        return os.path.join(self.data_files_path, "static", "images", "jupyterhub-80.png")
