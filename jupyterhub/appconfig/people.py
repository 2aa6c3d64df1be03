"""Who may do what: authenticator, spawner, roles, groups, named servers (config §8, §11, §14)."""

from traitlets import Bool, Dict, Enum, HasTraits, List, Set, Unicode, Union

from ..traitlets import EntryPointType


class PeopleSettings(HasTraits):
    """Users, their roles and their servers."""

    authenticator_class = EntryPointType(
        default_value="jupyterhub.auth.PAMAuthenticator",
        klass="jupyterhub.auth.Authenticator",
        entry_point_group="jupyterhub.authenticators",
        help="How people log in: a class, its import path, or a registered name such as 'pam' or 'dummy'.",
    ).tag(config=True)
    spawner_class = EntryPointType(
        default_value="jupyterhub.spawner.LocalProcessSpawner",
        klass="jupyterhub.spawner.Spawner",
        entry_point_group="jupyterhub.spawners",
        help="How servers start: a class, its import path, or a registered name such as 'localprocess' or 'docker'.",
    ).tag(config=True)
    proxy_class = EntryPointType(
        default_value="jupyterhub.proxy.builtin.BuiltinProxy",
        klass="jupyterhub.proxy.Proxy",
        entry_point_group="jupyterhub.proxies",
        help="How requests reach servers: a class, its import path, or a registered name.",
    ).tag(config=True)
    load_roles = List(
        Dict(),
        help="""
        Roles to define at each start: name, description, scopes, and lists of users, groups and services.

        Membership that is listed here is exact; roles that are not listed here are deleted.
        """,
    ).tag(config=True)
    custom_scopes = Dict(
        key_trait=Unicode(), value_trait=Dict(), help="Scopes of your own: name → description and subscopes."
    ).tag(config=True)
    extra_user_scopes = Set(Unicode(), help="Scopes that every user has beside those of the role 'user'.").tag(
        config=True
    )
    load_groups = Dict(
        value_trait=Union([Dict(), List()]),
        help="Groups to define at each start: name → users and properties. Members are added, never removed.",
    ).tag(config=True)
    allow_named_servers = Bool(False, help="Whether people may have more than one server, each with a name.").tag(
        config=True
    )
    allow_existing_invalid_named_servers = Enum(
        ("allow-start", "allow-delete", "autorename"),
        default_value="allow-start",
        help="What to do with named servers whose names were allowed before JupyterHub 6 and are not now.",
    ).tag(config=True)
    admin_access = Bool(False, help="Old: the scope access:servers says who may enter others' servers.").tag(config=True)
    admin_users = Set(help="Old: use Authenticator.admin_users.").tag(config=True)
