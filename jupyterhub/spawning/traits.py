"""The settings of `Spawner` by topic.

The mixins are HasTraits and not Configurable: configuration reaches their traits under the name of the spawner
class (`c.Spawner.mem_limit`), and no section of their own appears.
"""

from traitlets import (
    Any,
    Bool,
    Bunch,
    CaselessStrEnum,
    Dict,
    Float,
    Integer,
    List,
    Unicode,
    Union,
    observe,
    validate,
)

from ..traitlets import ByteSpecification, Callable, Command, TopicTraits
from .options import passthrough

__all__ = [
    "EnvironmentTraits",
    "HealthTraits",
    "HookTraits",
    "NetworkTraits",
    "OAuthTraits",
    "OptionTraits",
    "PollTraits",
    "ResourceTraits",
    "TLSTraits",
]


class NetworkTraits(TopicTraits):
    """Where the server listens, and where it finds the Hub."""

    ip = Unicode(
        "127.0.0.1",
        help="""Address on which the server listens.

        Spawners that run servers elsewhere set it to what the server sees there, for instance '0.0.0.0'.
        """,
    ).tag(config=True)

    port = Integer(0, help="Port on which the server listens; 0 lets the spawner choose a free one.").tag(config=True)

    hub_connect_url = Unicode(
        None,
        allow_none=True,
        help="""Under which scheme, host and port this server reaches the Hub, if that is not the usual one.

        The path of the Hub's API is appended to it.
        """,
    ).tag(config=True)

    @validate("ip")
    def _ip_without_brackets(self, proposal: Bunch) -> str:
        value = str(proposal.value)
        return value[1:-1] if value.startswith("[") and value.endswith("]") else value


class ResourceTraits(TopicTraits):
    """What a server may use."""

    mem_limit = ByteSpecification(
        None,
        help="""Memory the server may use: bytes, or a text such as '512M' or '2G'; None for no limit.

        The server is told by the variable MEM_LIMIT. Whether the limit is enforced depends on the spawner; for local
        processes see `LocalProcessSpawner.enforce_limits`.
        """,
    ).tag(config=True)

    mem_guarantee = ByteSpecification(
        None,
        help="""Memory that is kept for the server, written like mem_limit; None for no guarantee.

        Told by MEM_GUARANTEE. A single machine cannot keep memory free; spawners for clusters can.
        """,
    ).tag(config=True)

    cpu_limit = Float(
        None,
        allow_none=True,
        help="""CPU cores the server may use, in whole or in part (0.5); None for no limit.

        Told by CPU_LIMIT. Whether the limit is enforced depends on the spawner; for local processes see
        `LocalProcessSpawner.enforce_limits`.
        """,
    ).tag(config=True)

    cpu_guarantee = Float(
        None,
        allow_none=True,
        help="CPU cores that are kept for the server; None for no guarantee. Told by CPU_GUARANTEE.",
    ).tag(config=True)


class EnvironmentTraits(TopicTraits):
    """What the server is run as: command, directory, variables."""

    cmd = Command(
        ["jupyterhub-singleuser"],
        allow_none=True,
        help="""Command that runs the server, as a list of words. A single text is the name of one program.""",
    ).tag(config=True)

    args = List(Unicode(), help="Words that are added to the command.").tag(config=True)

    notebook_dir = Unicode(
        "",
        help="""Directory that the server shows as its root; `~` is the user's home.

        {username} stands for the user's name.
        """,
    ).tag(config=True)

    default_url = Unicode(
        "",
        help="""Where a user lands in their server, for instance '/lab' or '/tree'.

        {username} stands for the user's name.
        """,
    ).tag(config=True)

    environment = Dict(
        help="""More environment variables for the server: a text, or a function that gets the spawner.

        They win over all that the Hub sets by itself.
        """
    ).tag(config=True)

    env_keep = List(
        ["JUPYTERHUB_SINGLEUSER_APP"],
        help="Names of variables that are passed on from the Hub's own environment; nothing else is.",
    ).tag(config=True)

    debug = Bool(False, help="Let the server log more.").tag(config=True)

    disable_user_config = Bool(False, help="Let the server ignore configuration files that its user can write.").tag(
        config=True
    )

    env = Dict(help="Old name of `environment` for subclasses; deprecated.")

    @validate("notebook_dir", "default_url")
    def _old_placeholder(self, proposal: Bunch) -> str:
        value = str(proposal.value)
        if "%U" in value:
            self.log.warning(  # type: ignore[attr-defined]
                "%%U in %s is deprecated; write {username}", proposal.trait.name
            )
            value = value.replace("%U", "{username}")
        return value


class OAuthTraits(TopicTraits):
    """What the server's own token, and those of its visitors, may do."""

    server_token_scopes = Union(
        [List(Unicode()), Callable()],
        help="""Scopes of the server's own token: a list, or a function of the spawner (also async) that gives one.

        Empty means the scopes of the role 'server'. What the user does not hold is left out.
        """,
    ).tag(config=True)

    oauth_client_allowed_scopes = Union(
        [Callable(), List()],
        help="""Scopes that the server may ask of people who visit it, beyond access to itself: a list, or a function
        of the spawner (also async) that gives one.""",
    ).tag(config=True)

    oauth_roles = Union(
        [Callable(), List()],
        help="Deprecated: roles instead of scopes for oauth_client_allowed_scopes.",
    ).tag(config=True)

    @observe("oauth_roles")
    def _oauth_roles_are_old(self, change: Bunch) -> None:
        if change.new:
            self.log.warning(  # type: ignore[attr-defined]
                "%s.oauth_roles is deprecated; set oauth_client_allowed_scopes to a list of scopes",
                type(self).__name__,
            )


class HookTraits(TopicTraits):
    """Functions of the deployment that are called around a start. All may be async."""

    pre_spawn_hook = Any(
        None,
        allow_none=True,
        help="""Called with the spawner right before the server is started, for instance to prepare a directory.

        If it raises, the server is not started. A subclass may define a method of this name instead.
        """,
    ).tag(config=True)

    post_spawn_hook = Any(
        None,
        allow_none=True,
        help="""Called with the spawner when the server is ready. Its errors are logged; the server stays.

        A subclass may define a method of this name instead.
        """,
    ).tag(config=True)

    spawn_error_hook = Any(
        None,
        allow_none=True,
        help="""Called with the spawner and the exception when a start has failed, before it is cleaned up.

        Its errors are logged. A subclass may define a method of this name instead.
        """,
    ).tag(config=True)

    post_stop_hook = Any(
        None,
        allow_none=True,
        help="Called with the spawner after a server has stopped. Its errors are only logged.",
    ).tag(config=True)

    auth_state_hook = Any(
        None,
        allow_none=True,
        help="""Called with the spawner and the user's auth_state (None if there is none) before each start, and
        before the options form is shown.""",
    ).tag(config=True)

    progress_ready_hook = Any(
        None,
        allow_none=True,
        help="""Called with the spawner and the last event of a successful start; returns the event to be sent.

        If it raises, the event is sent unchanged.
        """,
    ).tag(config=True)


class OptionTraits(TopicTraits):
    """What a user may choose before a start, and what groups get."""

    options_form = Union(
        [Unicode(), Callable()],
        default_value="",
        help="""What users fill in before their server starts: HTML without the <form> element, or a function of the
        spawner (also async) that gives it. Empty: servers start without a question.

        For a choice between a few ready-made settings see `profiles`, which needs no HTML.
        """,
    ).tag(config=True)

    options_from_form = Union(
        [Callable(), Unicode()],
        # Not its name: a value that equals the default is never validated, so that the name would stay a text.
        default_value=passthrough,
        help="""How the submitted form becomes user_options. Forms give lists of texts.

        - 'passthrough': as it is.
        - 'simple': lists of one text become that text, and 'on' becomes True.
        - a function of the form's data, and of the spawner if it has an argument of that name.
        """,
    ).tag(config=True)

    apply_user_options = Union(
        [Callable(), Dict()],
        default_value=None,
        allow_none=True,
        help="""What chosen options do: a function of the spawner and the options (also async), or a dictionary from
        the name of an option to the name of the setting that gets its value.""",
    ).tag(config=True)

    profiles = Union(
        [List(), Callable()],
        default_value=[],
        help="""Ready-made settings that users choose from: a list, or a function of the spawner (also async).

        Each is a dictionary: `display_name`; optional `slug`, `description`, `default` (True for the one that is
        chosen at first), `groups` (names of groups whose members may choose it), `overrides` or
        `kubespawner_override` (settings to values), and `profile_options`: further choices by name, each with
        `display_name`, `choices` (name to `display_name`, `default`, `overrides`) and `unlisted_choice`
        (`enabled`, `display_name`, `validation_regex`, `validation_message`, `overrides` in which {value}
        stands for what was typed).
        """,
    ).tag(config=True)

    group_overrides = Union(
        [Callable(), Dict()],
        default_value={},
        help="""Settings for members of groups: a dictionary, or a function of the spawner (also async).

        Each entry is {"groups": [names], "spawner_override": {setting: value}}. Entries apply in the order of
        their keys, later ones win; dictionaries are merged, and a value may be a function of the spawner.
        """,
    ).tag(config=True)


class PollTraits(TopicTraits):
    """How long things may take, and how often is looked."""

    start_timeout = Integer(
        60, help="Seconds until a spawner must have started the server, that is until `start` returns."
    ).tag(config=True)

    http_timeout = Integer(
        30, help="Seconds until a started server must answer over HTTP, or it counts as failed."
    ).tag(config=True)

    poll_interval = Integer(30, help="Seconds between two looks at whether the server still runs; 0 for none.").tag(
        config=True
    )

    poll_jitter = Float(
        0.1,
        min=0,
        max=1,
        help="By which part of poll_interval single looks vary, so that not all servers are looked at at once.",
    ).tag(config=True)

    consecutive_failure_limit = Integer(
        0,
        help="""After so many failed starts in a row, of whichever users, the Hub ends, for its supervisor to start it
        afresh; 0 for never. Refusals do not count.""",
    ).tag(config=True)

    death_interval = Float(0.1, help="Seconds between two looks while a server is being stopped.")


class HealthTraits(TopicTraits):
    """Whether a server that runs also works, and what happens when it does not (spawner-system S9)."""

    health_check = Union(
        [Bool(), Callable()],
        default_value=False,
        help="""Ask running servers every now and then whether they still work.

        True asks for the server's own `api` address, which has to answer below 500. A function is given the spawner
        (also async) and returns whether the server works. A class that defines a method of this name does its own
        checks, in its own `poll`.
        """,
    ).tag(config=True)

    health_interval = Float(60, min=0.1, help="Seconds between two health checks of a server.").tag(config=True)

    health_timeout = Float(10, min=0.1, help="Seconds a health check may take; a longer one has failed.").tag(
        config=True
    )

    health_failure_limit = Integer(
        3, min=1, help="Health checks that must fail in a row before a server counts as not working."
    ).tag(config=True)

    restart_policy = CaselessStrEnum(
        ["never", "on-failure"],
        default_value="never",
        help="""What to do about a server that fails its health checks, or ends by itself with an exit status other
        than 0: 'never' only says so, 'on-failure' starts it again with the same options.
        """,
    ).tag(config=True)

    restart_limit = Integer(
        3, min=1, help="Restarts of one server within restart_window after which it is not restarted again."
    ).tag(config=True)

    restart_window = Float(600, min=1, help="Seconds for which a restart counts towards restart_limit.").tag(
        config=True
    )


class TLSTraits(TopicTraits):
    """Certificates for traffic between Hub, proxy and servers."""

    ssl_alt_names = Union(
        [List(Unicode()), Callable()],
        help="""Names for the server's certificate ('DNS:host', 'IP:address'): a list, or a function of the spawner
        (also async). By default those of JupyterHub.trusted_alt_names and the user's own domain.""",
    ).tag(config=True)

    ssl_alt_names_include_local = Bool(
        True, help="Whether the certificate is also good for localhost and 127.0.0.1."
    ).tag(config=True)

    internal_ssl = Bool(False)
    internal_trust_bundles = Dict(allow_none=True)
    internal_certs_location = Unicode("")
    trusted_alt_names = List(Unicode())
    cert_paths = Dict()
