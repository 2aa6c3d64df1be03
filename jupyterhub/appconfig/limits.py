"""How much at once, how long, how often (config §10, §18)."""

from typing import Any

from traitlets import Bool, Callable, Float, Integer, Tuple, Union, validate

from ..traitlets import TopicTraits


class LimitSettings(TopicTraits):
    """Limits, intervals and time-outs of the Hub as a whole. Intervals are in seconds."""

    concurrent_spawn_limit = Integer(
        100,
        help="""
        How many servers may be starting at the same time; 0 is no limit.

        Whoever comes when the limit is reached waits in line in the browser; programs get status 429 and are
        told when to come again.
        """,
    ).tag(config=True)

    spawn_throttle_retry_range = Tuple(
        Integer(),
        Integer(),
        default_value=(30, 60),
        help="Shortest and longest time after which a program should come again. Put it into `tornado_settings`.",
    )

    active_server_limit = Integer(
        0, help="How many servers may be active (starting, running, stopping) at the same time; 0 is no limit."
    ).tag(config=True)

    named_server_limit_per_user = Union(
        [Integer(), Callable()],
        default_value=0,
        help="""
        How many named servers one user may have, running or not; 0 is no limit.

        A function is called with the handler of the request and returns the number; it may be a coroutine
        function.
        """,
    ).tag(config=True)

    init_spawners_timeout = Integer(
        10,
        help="""
        How long the start of the Hub may wait for a look at the servers that an earlier one left running.

        Accepted for old files: the looking goes on in the background from the first moment, and nothing waits
        for it.
        """,
    ).tag(config=True)

    cleanup_servers = Bool(
        True,
        help="""
        Stop everybody's servers when the Hub is stopped.

        With False they go on running, and the next Hub finds them again. See `cleanup_proxy`.
        """,
    ).tag(config=True)

    activity_resolution = Integer(
        30, help="Requests of the same user or token within this time count as one activity; 0 notes every one."
    ).tag(config=True)

    last_activity_interval = Integer(
        300, help="How often the proxy is asked for activity, and its routes are checked. 0 turns both off."
    ).tag(config=True)

    active_user_window = Integer(1800, help="Accepted, without effect.").tag(config=True)

    service_check_interval = Integer(
        60, help="How often services with a URL are looked at; what is found is logged. 0 turns it off."
    ).tag(config=True)

    api_page_default_limit = Integer(
        50, help="Entries on one page of a list in the REST API, for programs that know of pages and name no number."
    ).tag(config=True)

    api_page_max_limit = Integer(
        200, help="The most entries that a program gets at once in a list of the REST API."
    ).tag(config=True)

    implicit_spawn_seconds = Float(
        0, help="When somebody opens a server that is stopped, start it by itself after so long; 0 waits for a click."
    ).tag(config=True)

    @validate("init_spawners_timeout")
    def _check_init_spawners_timeout(self, proposal: Any) -> int:
        return 86400 if proposal.value < 0 else proposal.value or 1
