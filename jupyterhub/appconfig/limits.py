"""How much at once, how long, how often (config §10, §18)."""

from traitlets import Callable, Float, HasTraits, Integer, Tuple, Union


class LimitSettings(HasTraits):
    """Limits, intervals and time-outs of the Hub as a whole."""

    concurrent_spawn_limit = Integer(
        100,
        help="""
        Servers that may be starting at the same time. Further people are asked to try again shortly; 0 is no limit.
        """,
    ).tag(config=True)
    active_server_limit = Integer(0, help="Servers that may be active at the same time; 0 is no limit.").tag(config=True)
    spawn_throttle_retry_range = Tuple(
        Integer(),
        Integer(),
        default_value=(30, 60),
        help="Seconds, shortest and longest, that people over `concurrent_spawn_limit` are told to wait.",
    ).tag(config=True)
    named_server_limit_per_user = Union(
        [Integer(), Callable()],
        default_value=0,
        help="Named servers a user may have; 0 is no limit. Also a function of the handler, which may be async.",
    ).tag(config=True)
    init_spawners_timeout = Integer(
        10, help="Accepted. The Hub does not wait: servers are looked at in the background after a restart."
    ).tag(config=True)
    activity_resolution = Integer(30, help="Seconds within which a second request of a user is not noted.").tag(
        config=True
    )
    last_activity_interval = Integer(
        300, help="Seconds between two looks at the proxy for activity and routes; 0 turns them off."
    ).tag(config=True)
    service_check_interval = Integer(60, help="Seconds between two looks at services; 0 turns them off.").tag(config=True)
    active_user_window = Integer(1800, help="Accepted, does nothing.").tag(config=True)
    api_page_default_limit = Integer(50, help="Entries on a page of a list in the REST API.").tag(config=True)
    api_page_max_limit = Integer(200, help="The most entries that may be asked for at once in the REST API.").tag(
        config=True
    )
    implicit_spawn_seconds = Float(
        0, help="Seconds after which the page of a stopped server starts it without a click; 0 turns that off."
    ).tag(config=True)

