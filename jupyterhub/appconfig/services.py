"""Services and tokens from the configuration (config §14)."""

from traitlets import Dict, HasTraits, List, Unicode


class ServiceSettings(HasTraits):
    """Services and the tokens that are known from the start."""

    services = List(
        Dict(),
        help="""
        Services: each a dictionary with at least a name. With a command the Hub runs it, with a url people reach it.

        For example {'name': 'cull', 'command': ['python', '-m', 'jupyterhub_idle_culler']}.
        """,
    ).tag(config=True)
    service_tokens = Dict(value_trait=Unicode(), help="Tokens of services: token → name of the service.").tag(config=True)
    api_tokens = Dict(value_trait=Unicode(), help="Old: tokens of users: token → user name. Use services.").tag(
        config=True
    )
