"""The Hub's Prometheus metrics by their public names, and the collector of those that are sampled (metrics §1)."""

from __future__ import annotations

import asyncio
import math
import os
import random
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from enum import Enum
from typing import Any

from prometheus_client import Counter, Gauge, Histogram
from traitlets import Any as AnyTrait
from traitlets import Bool, Float, Integer
from traitlets.config import LoggingConfigurable

from .aio import BackgroundTasks, maybe_future

metrics_prefix = os.getenv("JUPYTERHUB_METRICS_PREFIX", "jupyterhub")


def _buckets(variable: str, default: tuple[float, ...]) -> tuple[float, ...]:
    """Histogram bounds from an environment variable of comma-separated numbers, else the default; +Inf is added.

    Raises ValueError that names the variable.
    """
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    try:
        bounds = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError(f"{variable} must be numbers separated by commas, not {text!r}") from None
    return bounds if bounds[-1] == math.inf else (*bounds, math.inf)


SPAWN_DURATION_BUCKETS = _buckets(
    "JUPYTERHUB_SERVER_SPAWN_DURATION_SECONDS_BUCKETS",
    (0.5, 1, 2.5, 5, 10, 15, 30, 60, 120, 180, 300, 600, math.inf),
)
STOP_DURATION_BUCKETS = _buckets("JUPYTERHUB_SERVER_STOP_DURATION_SECONDS_BUCKETS", tuple(Histogram.DEFAULT_BUCKETS))


class _Word(str, Enum):
    """An enumeration whose members are shown as their value, on every Python version."""

    __str__ = str.__str__


class ServerSpawnStatus(_Word):
    """How a start ended."""

    success = "success"
    failure = "failure"
    error = "error"


class ServerSpawnFailureReason(_Word):
    """Why a start was refused or failed, where a reason is known."""

    throttled = "throttled"
    too_many_users = "too-many-users"
    already_pending = "already-pending"
    error = "error"
    exited = "exited"


class ProxyAddStatus(_Word):
    """Whether the proxy took a route."""

    success = "success"
    failure = "failure"


class ProxyDeleteStatus(_Word):
    """Whether the proxy gave up a route."""

    success = "success"
    failure = "failure"


class ServerStopStatus(_Word):
    """How a stop ended."""

    success = "success"
    failure = "failure"


class ServerPollStatus(str, Enum):
    """What a poll found. As a label the name of the class is part of the text; dashboards depend on it."""

    running = "running"
    stopped = "stopped"

    @classmethod
    def from_status(cls, status: int | None) -> ServerPollStatus:
        """From the result of `Spawner.poll`: None means running."""
        return cls.running if status is None else cls.stopped

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


class LoginStatus(str, Enum):
    """How a log-in ended; labelled like ServerPollStatus."""

    success = "success"
    failure = "failure"

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


class ServerRestartReason(_Word):
    """Why a server was started again although nobody asked for it."""

    unhealthy = "unhealthy"
    exited = "exited"
    spawner = "spawner"


class ActiveUserPeriods(_Word):
    """The periods over which active users are counted."""

    twenty_four_hours = "24h"
    seven_days = "7d"
    thirty_days = "30d"

    @property
    def length(self) -> timedelta:
        """The period as a time difference."""
        return {"24h": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}[self.value]


REQUEST_DURATION_SECONDS = Histogram(
    "request_duration_seconds",
    "Seconds to answer an HTTP request",
    ["method", "handler", "code"],
    namespace=metrics_prefix,
)
SERVER_SPAWN_DURATION_SECONDS = Histogram(
    "server_spawn_duration_seconds",
    "Seconds from the request to start a server until it answered or failed",
    ["status", "reason"],
    namespace=metrics_prefix,
    buckets=SPAWN_DURATION_BUCKETS,
)
RUNNING_SERVERS = Gauge("running_servers", "Servers that are active", namespace=metrics_prefix)
TOTAL_USERS = Gauge("total_users", "Users known to the Hub", namespace=metrics_prefix)
ACTIVE_USERS = Gauge("active_users", "Users who were active within a period", ["period"], namespace=metrics_prefix)
CHECK_ROUTES_DURATION_SECONDS = Histogram(
    "check_routes_duration_seconds",
    "Seconds to compare and repair the proxy's routes",
    namespace=metrics_prefix,
)
HUB_STARTUP_DURATION_SECONDS = Histogram(
    "hub_startup_duration_seconds", "Seconds until the Hub had started", namespace=metrics_prefix
)
INIT_SPAWNERS_DURATION_SECONDS = Histogram(
    "init_spawners_duration_seconds",
    "Seconds to look at every server after a start of the Hub",
    namespace=metrics_prefix,
)
PROXY_POLL_DURATION_SECONDS = Histogram(
    "proxy_poll_duration_seconds", "Seconds to read all routes from the proxy", namespace=metrics_prefix
)
LOGIN_DURATION_SECONDS = Histogram(
    "login_duration_seconds", "Seconds that a log-in took", ["status"], namespace=metrics_prefix
)
LOGOUT_DURATION_SECONDS = Histogram("logout_duration_seconds", "Seconds that a log-out took", namespace=metrics_prefix)
CSP_REPORTS_TOTAL = Counter(
    "csp_reports_total",
    "Violations of the content security policy reported by browsers",
    namespace=metrics_prefix,
)
PROXY_ADD_DURATION_SECONDS = Histogram(
    "proxy_add_duration_seconds", "Seconds to add a server's route", ["status"], namespace=metrics_prefix
)
PROXY_DELETE_DURATION_SECONDS = Histogram(
    "proxy_delete_duration_seconds",
    "Seconds to remove a server's route",
    ["status"],
    namespace=metrics_prefix,
)
SERVER_POLL_DURATION_SECONDS = Histogram(
    "server_poll_duration_seconds",
    "Seconds to ask whether a server runs",
    ["status"],
    namespace=metrics_prefix,
)
SERVER_FAILURES_TOTAL = Counter(
    "server_failures_total",
    "Starts that failed, and running servers that ended by themselves, by cause",
    ["cause"],
    namespace=metrics_prefix,
)
SERVER_RESTARTS_TOTAL = Counter(
    "server_restarts_total",
    "Servers started again although nobody asked for it",
    ["reason"],
    namespace=metrics_prefix,
)
SERVER_STOP_DURATION_SECONDS = Histogram(
    "server_stop_seconds",
    "Seconds to stop a server, its route included",
    ["status"],
    namespace=metrics_prefix,
    buckets=STOP_DURATION_BUCKETS,
)
EVENT_LOOP_INTERVAL_SECONDS = Histogram(
    "event_loop_interval_seconds",
    "Seconds between two turns of the event loop, at least the resolution",
    namespace=metrics_prefix,
    buckets=(0.05, 0.055, 0.06, 0.065, 0.07, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, math.inf),
)


def _create_series() -> None:
    """Let every outcome that can be foreseen be there from the start, so that rates of the first one are seen."""
    for status in ServerSpawnStatus:
        SERVER_SPAWN_DURATION_SECONDS.labels(status=status, reason="")
    for reason in (
        ServerSpawnFailureReason.throttled,
        ServerSpawnFailureReason.too_many_users,
        ServerSpawnFailureReason.already_pending,
    ):
        SERVER_SPAWN_DURATION_SECONDS.labels(status=ServerSpawnStatus.failure, reason=reason)
    for restart_reason in ServerRestartReason:
        SERVER_RESTARTS_TOTAL.labels(reason=restart_reason)
    for poll_status in ServerPollStatus:
        SERVER_POLL_DURATION_SECONDS.labels(status=poll_status)
    for added in ProxyAddStatus:
        PROXY_ADD_DURATION_SECONDS.labels(status=added)
    for deleted in ProxyDeleteStatus:
        PROXY_DELETE_DURATION_SECONDS.labels(status=deleted)
    for stopped in ServerStopStatus:
        SERVER_STOP_DURATION_SECONDS.labels(status=stopped)


_create_series()


def prometheus_log_method(handler: Any) -> None:
    """Observe one finished request under its method, the handler's path and its status (metrics §1.2)."""
    kind = type(handler)
    REQUEST_DURATION_SECONDS.labels(
        method=handler.request.method,
        handler=f"{kind.__module__}.{kind.__name__}",
        code=handler.get_status(),
    ).observe(handler.request.request_time())


class PeriodicMetricsCollector(LoggingConfigurable):
    """Samples what does not follow from events: active users, and how late the event loop is.

    `count_active_users(since: timedelta)` is given by whoever knows the users; it may be a coroutine function.
    """

    count_active_users: Callable[[timedelta], Awaitable[int] | int] | None = AnyTrait(  # type: ignore[assignment]
        None, allow_none=True, help="Function from a period to the number of users active within it."
    )

    active_users_enabled = Bool(True, help="Publish how many users were active lately.").tag(config=True)
    active_users_update_interval = Integer(
        3600, help="Seconds between two counts of the active users; varied by one percent."
    ).tag(config=True)
    event_loop_interval_enabled = Bool(True, help="Measure how late the event loop gets to what is due.").tag(
        config=True
    )
    event_loop_interval_resolution = Float(0.05, help="Seconds between two samples of the event loop's lateness.").tag(
        config=True
    )
    event_loop_interval_log_threshold = Float(
        1.0, help="Log a warning when the event loop was held up for this many seconds or longer."
    ).tag(config=True)

    _tasks: BackgroundTasks | None = None

    async def update_active_users(self) -> None:
        """Count and publish the active users of every period."""
        count = self.count_active_users
        if count is None:
            return
        for period in ActiveUserPeriods:
            ACTIVE_USERS.labels(period=period).set(await maybe_future(count(period.length)))

    def start(self) -> None:
        """Begin to sample; needs a running loop."""
        if self._tasks is not None:
            return
        self._tasks = BackgroundTasks(self.log)
        if self.active_users_enabled and self.count_active_users is not None:
            interval = self.active_users_update_interval

            def next_pause() -> float:
                return interval * random.uniform(0.99, 1.01)

            self._tasks.repeat(self.update_active_users, every=next_pause, first=0, name="count active users")
        if self.event_loop_interval_enabled:
            self._tasks.start(self._watch_loop(), name="measure the event loop")

    async def stop(self) -> None:
        """End sampling."""
        tasks, self._tasks = self._tasks, None
        if tasks is not None:
            await tasks.close()

    async def _watch_loop(self) -> None:
        resolution = self.event_loop_interval_resolution
        observe = EVENT_LOOP_INTERVAL_SECONDS.observe
        while True:
            began = time.perf_counter()
            await asyncio.sleep(resolution)
            interval = time.perf_counter() - began
            observe(max(resolution, interval))
            if interval - resolution >= self.event_loop_interval_log_threshold:
                self.log.warning("The event loop was held up for %.2f s", interval - resolution)
