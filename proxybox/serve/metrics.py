"""The counters of the service, for Prometheus and for its status page."""

from collections import deque
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from proxybox.serve.workeranswers import ResultFacts

#: Bounds of the histograms of latencies, in seconds.
_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
#: How many of the latest runs the status page includes.
_LATEST: Final = 200


class Metrics:
    """The counters of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "proxybox_requests_total", "Requests by route and HTTP status.", ("route", "status"), registry=self.registry
        )
        self.latency = Histogram(
            "proxybox_request_seconds",
            "Time to answer a request.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.runs = Counter("proxybox_runs_total", "Runs by how they ended.", ("status",), registry=self.registry)
        self.wall = Histogram(
            "proxybox_run_wall_seconds", "Wall time of boxes.", buckets=_SECONDS, registry=self.registry
        )
        self.queue = Histogram(
            "proxybox_run_overhead_seconds", "Time of a run outside of its box, waiting for one included.",
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.workers_lost = Counter("proxybox_workers_lost_total", "Workers that have died.", registry=self.registry)
        self.pool_hits = Counter(
            "proxybox_pool_takes_total", "Boxes by whether one stood ready.", ("ready",), registry=self.registry
        )
        self.waiting = Gauge("proxybox_waiting", "Requests that wait for a box.", ("kind",), registry=self.registry)
        self.in_use = Gauge("proxybox_in_use", "Boxes in use.", ("kind",), registry=self.registry)
        self.sessions = Gauge("proxybox_sessions", "Sessions that live.", ("state",), registry=self.registry)
        self.ready = Gauge(
            "proxybox_pool_ready", "Boxes that stand ready.", ("policy", "language"), registry=self.registry
        )
        self.up = Gauge("proxybox_ready", "Whether the service takes requests.", registry=self.registry)
        self.latest: deque[dict[str, Any]] = deque(maxlen=_LATEST)

    def ran(self, facts: ResultFacts, seconds: float) -> None:
        """Counts a run. seconds: from the request to the result."""
        self.runs.labels(facts.status.value).inc()
        self.wall.observe(facts.wall)
        self.queue.observe(max(0.0, seconds - facts.wall))
        self.pool_hits.labels("yes" if facts.start == 0 else "no").inc()
        self.latest.append({"status": facts.status.value, "wall": facts.wall, "seconds": seconds})

    def text(self) -> bytes:
        """Returns all counters in Prometheus's text format."""
        return generate_latest(self.registry)
