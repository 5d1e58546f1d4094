"""Prometheus metrics of one operator process, on a registry of their own."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from storage_operator.world import Body, Kind

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
PREFIX = "llmspell_operator"
CONDITIONS = f"{PREFIX}_resources"
ConditionsReader = Callable[[Kind], Sequence[Body]]


class Metrics:
    """Everything that is measured; one instance a process, passed to whoever counts."""

    def __init__(self) -> None:
        """Make the registry and its metrics."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.reconcile_seconds = Histogram(
            f"{PREFIX}_reconcile_seconds",
            "Duration of a reconcile, by kind, phase (total, observe, plan, apply, status ...) and result.",
            ("kind", "phase", "result"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.sql_statements = Counter(
            f"{PREFIX}_sql_statements", "SQL statements sent, by purpose.", ("purpose",), registry=self.registry
        )
        self.sql_round_trips = Counter(
            f"{PREFIX}_sql_round_trips", "Round trips to databases, by purpose.", ("purpose",), registry=self.registry
        )
        self.api_requests = Counter(
            f"{PREFIX}_kubernetes_requests",
            "Requests to the API server, by method, resource and code (0: no answer).",
            ("method", "resource", "code"),
            registry=self.registry,
        )
        self.api_seconds = Histogram(
            f"{PREFIX}_kubernetes_request_seconds",
            "Duration of requests to the API server, by method.",
            ("method",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            f"{PREFIX}_queue_depth", "Objects waiting, by lane.", ("lane",), registry=self.registry
        )
        self.queue_running = Gauge(f"{PREFIX}_queue_running", "Reconciles running.", registry=self.registry)
        self.queue_seconds = Histogram(
            f"{PREFIX}_queue_seconds",
            "Time from becoming due to the start of the reconcile, by lane.",
            ("lane",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.retries = Counter(
            f"{PREFIX}_retries",
            "Reconciles that failed and will be retried, by kind.",
            ("kind",),
            registry=self.registry,
        )
        self.leader = Gauge(f"{PREFIX}_leader", "1 while this process holds the lease.", registry=self.registry)
        self.loop_lag = Gauge(
            f"{PREFIX}_event_loop_lag_seconds", "How late the event loop last was.", registry=self.registry
        )
        self.watch_age = Gauge(
            f"{PREFIX}_watch_age_seconds",
            "Seconds since a watch last showed a sign of life.",
            ("resource",),
            registry=self.registry,
        )
        self.cache_repairs = Counter(
            f"{PREFIX}_cache_repairs", "Objects that a watch had missed.", registry=self.registry
        )

    def observe_phase(self, kind: str, phase: str, result: str, seconds: float) -> None:
        """Record how long one phase of a reconcile took."""
        self.reconcile_seconds.labels(kind, phase, result).observe(seconds)

    def count_sql(self, purpose: str, statements: int = 1, round_trips: int = 1) -> None:
        """Count statements and round trips of one call to a database."""
        self.sql_statements.labels(purpose).inc(statements)
        self.sql_round_trips.labels(purpose).inc(round_trips)

    def observe_request(self, method: str, path: str, status: int, seconds: float) -> None:
        """Record one request to the API server."""
        self.api_requests.labels(method, resource_of(path), str(status)).inc()
        self.api_seconds.labels(method).observe(seconds)

    def watch_conditions(self, bodies: ConditionsReader) -> None:
        """Count objects by condition whenever the metrics are read."""
        self.registry.register(_ConditionsCollector(bodies))

    def render(self) -> bytes:
        """Write every metric in the Prometheus text format."""
        return generate_latest(self.registry)


def resource_of(path: str) -> str:
    """Name the resource (and subresource) of an API path, without object names, which would be unbounded."""
    parts = path.strip("/").split("/")
    parts = parts[3:] if parts[0] == "apis" else parts[2:]
    if parts[:1] == ["namespaces"] and len(parts) > 2:  # noqa: PLR2004 - namespaces/<name>/<resource>
        parts = parts[2:]
    resource = parts[0] if parts else "api"
    return f"{resource}/{parts[2]}" if len(parts) > 2 else resource  # noqa: PLR2004 - resource/name/subresource


class _ConditionsCollector(Collector):
    def __init__(self, bodies: ConditionsReader) -> None:
        self._bodies = bodies

    def describe(self) -> Iterable[Metric]:
        """Promise nothing, so that registering reads no objects."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Count the objects of each kind by condition, status and reason."""
        family = GaugeMetricFamily(
            CONDITIONS, "Objects by condition.", labels=("kind", "condition", "status", "reason")
        )
        for kind in Kind:
            for labels, count in count_conditions(self._bodies(kind)).items():
                family.add_metric((kind.value, *labels), count)
        yield family


def count_conditions(bodies: Sequence[Body]) -> Mapping[tuple[str, str, str], int]:
    """Count bodies by (condition, status, reason); one without conditions yet counts as Ready Unknown."""
    tally: Tally[tuple[str, str, str]] = Tally()
    for body in bodies:
        conditions = (body.get("status") or {}).get("conditions")
        if not conditions:
            tally["Ready", "Unknown", "NotReconciled"] += 1
            continue
        for condition in conditions:
            tally[condition["type"], condition["status"], condition.get("reason", "")] += 1
    return tally
