"""Services, and tokens that are known from the start (config §14, services-and-proxy A)."""

from traitlets import Dict, List, Unicode

from ..traitlets import TopicTraits


class ServiceSettings(TopicTraits):
    """Programs that work with the Hub."""

    services = List(
        Dict(),
        help="""
        Programs that work with the Hub, as dictionaries with at least a `name`.

        With a `command` the Hub runs the program, and runs it again when it ends. With a `url` people reach
        it below /services/<name>/ and can log in to it. With neither, it is a name for a token. Others of
        its keys are `api_token`, `environment`, `cwd`, `user`, `display`, `info`, `timeout`,
        `oauth_client_id`, `oauth_redirect_uri`, `oauth_no_confirm` and `oauth_client_allowed_scopes`. What it
        may do is said in `load_roles`.

        For example, a program that ends servers nobody uses:

            c.JupyterHub.services = [
                {"name": "idle-culler", "command": [sys.executable, "-m", "jupyterhub_idle_culler"]}
            ]
        """,
    ).tag(config=True)

    service_tokens = Dict(
        value_trait=Unicode(),
        help="Tokens of services, as a dictionary from token to the service's name. Tokens are never taken back by it.",
    ).tag(config=True)

    api_tokens = Dict(
        value_trait=Unicode(),
        help="Deprecated: tokens of users, as a dictionary from token to the user's name. Use a service instead.",
    ).tag(config=True)
