"""Who logs in how, what they may do, which servers they have (config §8, §11, §14)."""

from typing import Any

from traitlets import Bool, Dict, Enum, List, Set, Union

from ..traitlets import EntryPointType, TopicTraits


class PeopleSettings(TopicTraits):
    """Authenticator, spawner, roles, groups, named servers."""

    authenticator_class = EntryPointType(
        default_value="jupyterhub.auth.PAMAuthenticator",
        klass="jupyterhub.auth.Authenticator",
        entry_point_group="jupyterhub.authenticators",
        help="""
        The class that decides who may log in: a class, its import path, or a name such as 'pam', 'github' or 'ldap'.
        """,
    ).tag(config=True)

    spawner_class = EntryPointType(
        default_value="jupyterhub.spawner.LocalProcessSpawner",
        klass="jupyterhub.spawner.Spawner",
        entry_point_group="jupyterhub.spawners",
        help="""
        The class that starts people's servers: a class, its import path, or a name such as 'simple', 'docker',
        'kubernetes' or 'slurm'.
        """,
    ).tag(config=True)

    load_roles = List(
        Dict(),
        help="""
        The roles of this Hub, as dictionaries.

        Each has a `name`, and may have a `description`, `scopes` (what its members may do), and `users`,
        `groups` and `services` (who has it). At each start the roles become exactly what is here: one that is
        no longer listed is deleted, and a list of members that is given, or missing, is taken as the whole of
        it. The built-in roles `user`, `admin`, `server` and `token` are always there; what is given for them
        is merged over their own definition.

        For example, a role for the people who look after a course:

            c.JupyterHub.load_roles = [
                {
                    "name": "tutor",
                    "scopes": ["read:users!group=course", "access:servers!group=course"],
                    "groups": ["tutors"],
                }
            ]
        """,
    ).tag(config=True)

    load_groups = Dict(
        value_trait=Union([Dict(), List()]),
        help="""
        Groups that exist from the start: a dictionary from name to a dictionary with `users` and
        `properties`.

        Members are added, never taken out; properties replace those that were there.
        """,
    ).tag(config=True)

    config_role_names: Any = List(help="Names of the roles in `load_roles`.")

    admin_users = Set(help="Deprecated: use `Authenticator.admin_users`.").tag(config=True)

    allow_named_servers = Bool(
        False, help="Let people have more servers than one, each with a name that they choose."
    ).tag(config=True)

    allow_existing_invalid_named_servers = Enum(
        ("allow-start", "allow-delete", "autorename"),
        default_value="allow-start",
        help="""
        What becomes of named servers whose names were fine before JupyterHub 6 and are not any more.

        'allow-start' lets them be used as before; 'allow-delete' lets people only stop and delete them;
        'autorename' gives those that do not run a valid name at start, and keeps the old one for display.
        """,
    ).tag(config=True)
