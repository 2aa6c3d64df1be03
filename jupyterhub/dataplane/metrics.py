"""Counters in Prometheus' text form (metrics §2)."""

from __future__ import annotations

import os
import resource
import time
from typing import Any

__all__ = ["CONTENT_TYPE", "Metrics", "Summary"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_QUANTILES = (0.01, 0.05, 0.5, 0.9, 0.95, 0.99, 0.999)
_STARTED = time.time()
_START = "process_start_time_seconds"
_COUNTERS = ("api_route_get", "api_route_add", "api_route_delete", "requests_ws", "requests_web")
_BY_STATUS = ("requests_proxy", "requests_api")
_SUMMARIES = ("find_target", "update_activity")


class Summary:
    """Quantiles over the last observations, sum and count over all."""

    __slots__ = ("_next", "_recent", "count", "total")

    def __init__(self, window: int = 1024) -> None:
        self._recent = [0.0] * window
        self._next = 0
        self.count = 0
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Add one observation."""
        self._recent[self._next] = seconds
        self._next = (self._next + 1) % len(self._recent)
        self.count += 1
        self.total += seconds

    def recent(self) -> list[float]:
        """The last observations, in no order."""
        return self._recent[: min(self.count, len(self._recent))]

    @classmethod
    def merged(cls, parts: list[dict[str, Any]]) -> Summary:
        """One of several, as `snapshot` describes them."""
        recent = [seconds for part in parts for seconds in part["recent"]]
        summary = cls(max(1, len(recent)))
        summary._recent = recent or [0.0]
        summary.count = sum(part["count"] for part in parts)
        summary.total = sum(part["total"] for part in parts)
        return summary

    def snapshot(self) -> dict[str, Any]:
        """Everything it knows, for `merged`."""
        return {"recent": self.recent(), "count": self.count, "total": self.total}

    def lines(self, name: str) -> list[str]:
        """Text form."""
        values = sorted(self.recent())
        lines = []
        for quantile in _QUANTILES:
            value = values[min(len(values) - 1, int(quantile * len(values)))] if values else 0
            lines.append(f'{name}{{quantile="{quantile}"}} {value:.9g}')
        return [*lines, f"{name}_sum {self.total:.9g}", f"{name}_count {self.count}"]


class Metrics:
    """What has happened since the start. Plain numbers: the hot path adds to them."""

    def __init__(self, *, enabled: bool = False) -> None:
        #: Times are only taken when somebody can ask for them.
        self.enabled = enabled
        self.api_route_get = 0
        self.api_route_add = 0
        self.api_route_delete = 0
        self.requests_ws = 0
        self.requests_web = 0
        self.requests_proxy: dict[int, int] = {}
        self.requests_api: dict[int, int] = {}
        self.find_target = Summary()
        self.update_activity = Summary()
        #: What the operating system says about processes that are not this one; None: it is this one.
        self.process: dict[str, float] | None = None

    def proxied(self, status: int) -> None:
        """One request got its answer."""
        self.requests_proxy[status] = self.requests_proxy.get(status, 0) + 1

    def snapshot(self) -> dict[str, Any]:
        """Everything this process can say, for `merged` in another."""
        return {
            **{name: getattr(self, name) for name in _COUNTERS},
            **{name: [list(pair) for pair in getattr(self, name).items()] for name in _BY_STATUS},
            **{name: getattr(self, name).snapshot() for name in _SUMMARIES},
            "process": self.process if self.process is not None else dict(_process()),
        }

    @classmethod
    def merged(cls, parts: list[dict[str, Any]]) -> Metrics:
        """The sum of several processes. A process's start is the earliest of them."""
        metrics = cls()
        metrics.process = {}
        for part in parts:
            for name in _COUNTERS:
                setattr(metrics, name, getattr(metrics, name) + part[name])
            for name in _BY_STATUS:
                counts: dict[int, int] = getattr(metrics, name)
                for status, count in part[name]:
                    counts[status] = counts.get(status, 0) + count
            for name, value in part["process"].items():
                before = metrics.process.get(name)
                if before is None:
                    metrics.process[name] = value
                else:
                    metrics.process[name] = min(before, value) if name == _START else before + value
        for name in _SUMMARIES:
            setattr(metrics, name, Summary.merged([part[name] for part in parts]))
        return metrics

    def render(self) -> str:
        """Everything as text."""
        lines: list[str] = []

        def section(name: str, kind: str, text: str, values: list[str]) -> None:
            lines.extend((f"# HELP {name} {text}", f"# TYPE {name} {kind}", *values))

        for name, text in (
            ("api_route_get", "Times the whole table was read"),
            ("api_route_add", "Routes added"),
            ("api_route_delete", "Routes deleted, or asked to be"),
            ("requests_ws", "WebSocket requests"),
            ("requests_web", "HTTP requests"),
        ):
            section(name, "counter", text, [f"{name} {getattr(self, name)}"])
        for name, text in (
            ("requests_proxy", "Requests answered, by status"),
            ("requests_api", "REST API requests answered, by status"),
        ):
            counts: dict[int, int] = getattr(self, name)
            section(
                name,
                "counter",
                text,
                [f'{name}{{status="{code}"}} {n}' for code, n in sorted(counts.items())],
            )
        section(
            "find_target_for_req",
            "summary",
            "Seconds to find a target",
            self.find_target.lines("find_target_for_req"),
        )
        section(
            "last_activity_updating",
            "summary",
            "Seconds to note an activity",
            self.update_activity.lines("last_activity_updating"),
        )
        for name, value in (dict(_process()) if self.process is None else self.process).items():
            kind = "counter" if name.endswith("_total") else "gauge"
            section(name, kind, "As the operating system says", [f"{name} {value}"])
        return "\n".join(lines) + "\n"


def _process() -> list[tuple[str, float]]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    values: list[tuple[str, float]] = [
        ("process_cpu_user_seconds_total", usage.ru_utime),
        ("process_cpu_system_seconds_total", usage.ru_stime),
        ("process_cpu_seconds_total", usage.ru_utime + usage.ru_stime),
        (_START, round(_STARTED, 3)),
        ("process_max_fds", resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
    ]
    try:
        with open("/proc/self/statm") as file:
            virtual, resident = (int(number) for number in file.read().split()[:2])
        page = os.sysconf("SC_PAGE_SIZE")
        values += [
            ("process_virtual_memory_bytes", virtual * page),
            ("process_resident_memory_bytes", resident * page),
            ("process_open_fds", len(os.listdir("/proc/self/fd"))),
        ]
    except OSError:
        # Only Linux keeps these there; elsewhere they are simply not shown.
        pass
    return values
