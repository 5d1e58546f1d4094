"""A StorageComponent as it was asked for: one of the eleven stores of a StorageCluster and its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from storage_operator.resources.kinds import Kind
from storage_operator.resources.metadata import Metadata, read_header
from storage_operator.resources.names import StoreKind
from storage_operator.resources.reader import Reader
from storage_operator.resources.references import ClusterReference, read_cluster_reference
from storage_sql.stores import DIMENSION_MAX, STANDARD_DIMENSIONS

if TYPE_CHECKING:
    from storage_operator.resources.faults import Faults

__all__ = [
    "RETENTION_STORES",
    "Artifacts",
    "Autovacuum",
    "EventInterval",
    "Events",
    "Metric",
    "StorageComponentSpec",
    "Vectors",
    "parse",
]

RETENTION_STORES: Final = frozenset(
    {
        StoreKind.AGENT_STATE,
        StoreKind.KEY_VALUE,
        StoreKind.WORKFLOW_STATES,
        StoreKind.SESSIONS,
        StoreKind.ARTIFACTS,
        StoreKind.HOOKS,
    }
)
"""The stores whose rows may go by age: not knowledge (Vectors, Graph, Procedures), not Events, which has dropAfter,
not ApiKeys, where each key has its own expiry."""

_HOUR: Final = 3_600_000
_CENTURY: Final = 100 * 366 * 24 * _HOUR
_MAX_DIMENSIONS: Final = 32


class Metric(StrEnum):
    """The distance that ranks vectors."""

    COSINE = "Cosine"
    L2 = "L2"
    INNER_PRODUCT = "InnerProduct"


class EventInterval(StrEnum):
    """The span of one partition of the event log."""

    DAILY = "Daily"
    WEEKLY = "Weekly"
    MONTHLY = "Monthly"


@dataclass(frozen=True, slots=True)
class Vectors:
    """Parameters of the vectors; None is the default for the dimension, that of ``ef_search`` for the number of vectors."""

    dimensions: tuple[int, ...] = STANDARD_DIMENSIONS
    metric: Metric = Metric.COSINE
    m: int | None = None
    ef_construction: int | None = None
    ef_search: int | None = None
    exact_scan_threshold_rows: int | None = None


@dataclass(frozen=True, slots=True)
class Events:
    """Partitions of the event log; None in an age means never."""

    interval: EventInterval = EventInterval.MONTHLY
    create_ahead: int = 3
    archive_after_seconds: float | None = 2160 * 3600.0
    drop_after_seconds: float | None = 8760 * 3600.0


@dataclass(frozen=True, slots=True)
class Artifacts:
    """Compression and size of artifacts; a maximum of 0 bytes means no limit."""

    compression_threshold_bytes: int = 2048
    compression_level: int = 3
    max_size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Autovacuum:
    """Storage parameters of the component's tables; None keeps what the migrations set."""

    vacuum_scale_factor: float | None = None
    analyze_scale_factor: float | None = None
    cost_delay_milliseconds: int | None = None
    cost_limit: int | None = None


@dataclass(frozen=True, slots=True)
class StorageComponentSpec:
    """A valid StorageComponent with every default in place.

    ``vectors``, ``events`` and ``artifacts`` are set exactly when ``store`` is that kind.
    """

    metadata: Metadata
    cluster: ClusterReference
    store: StoreKind
    enabled: bool
    vectors: Vectors | None
    events: Events | None
    artifacts: Artifacts | None
    autovacuum: Autovacuum
    retention_seconds: float | None


def parse(body: object, *, strict: bool = False) -> StorageComponentSpec | Faults:
    """Return the spec, or every fault of the document. Never raises.

    ``strict`` reports unknown fields as well, for files that people type; see Reader.
    """
    document = Reader.of(body, strict=strict)
    metadata = read_header(document, body, Kind.STORAGE_COMPONENT)
    spec = document.child("spec", required=True)
    cluster = read_cluster_reference(spec, metadata.namespace)
    store = spec.required_choice("store", StoreKind)
    if store is not None:
        _check_blocks(spec, store)
    parsed = StorageComponentSpec(
        metadata=metadata,
        cluster=cluster,
        store=store or StoreKind.VECTORS,
        enabled=spec.boolean("enabled", default=True),
        vectors=_read_vectors(spec.child("vectors")) if spec.has("vectors") else None,
        events=_read_events(spec.child("events")) if spec.has("events") else None,
        artifacts=_read_artifacts(spec.child("artifacts")) if spec.has("artifacts") else None,
        autovacuum=_read_autovacuum(spec.child("autovacuum")),
        retention_seconds=_read_retention(spec),
    )
    spec.finish()
    document.finish()
    return document.faults or parsed


def _check_blocks(spec: Reader, store: StoreKind) -> None:
    for owner, block in (
        (StoreKind.VECTORS, "vectors"),
        (StoreKind.EVENTS, "events"),
        (StoreKind.ARTIFACTS, "artifacts"),
    ):
        if spec.has(block) != (store is owner):
            spec.refuse(block, f"is given exactly when store is {owner}; an empty object takes the defaults")
    if spec.has("retention") and store not in RETENTION_STORES:
        spec.refuse("retention", f"does not apply to the store {store}")


def _read_vectors(vectors: Reader) -> Vectors:
    dimensions = tuple(
        vectors.checked_integer(f"dimensions[{index}]", item, least=1, most=DIMENSION_MAX)
        for index, item in enumerate(vectors.items("dimensions", most=_MAX_DIMENSIONS, least=1))
    )
    if len(set(dimensions)) < len(dimensions):
        vectors.refuse("dimensions", "must not name a dimension twice")
    parsed = Vectors(
        dimensions=tuple(sorted(dimensions)) if vectors.has("dimensions") else STANDARD_DIMENSIONS,
        metric=vectors.choice("metric", Metric, default=Metric.COSINE),
        m=vectors.optional_integer("m", least=2, most=100),
        ef_construction=vectors.optional_integer("efConstruction", least=4, most=1000),
        ef_search=vectors.optional_integer("efSearch", least=1, most=1000),
        exact_scan_threshold_rows=vectors.optional_integer("exactScanThreshold", least=0, most=100_000_000),
    )
    if parsed.m is not None and parsed.ef_construction is not None and parsed.ef_construction < 2 * parsed.m:
        vectors.refuse("efConstruction", "must be at least twice m")
    vectors.finish()
    return parsed


def _read_events(events: Reader) -> Events:
    archive = events.duration("archiveAfter", least=0, most=_CENTURY, default="2160h")
    drop = events.duration("dropAfter", least=0, most=_CENTURY, default="8760h")
    if 0 < drop < archive:
        events.refuse("dropAfter", "must not be shorter than archiveAfter")
    parsed = Events(
        interval=events.choice("interval", EventInterval, default=EventInterval.MONTHLY),
        create_ahead=events.integer("createAhead", least=1, most=60, default=3),
        archive_after_seconds=archive / 1000 if archive else None,
        drop_after_seconds=drop / 1000 if drop else None,
    )
    events.finish()
    return parsed


def _read_artifacts(artifacts: Reader) -> Artifacts:
    parsed = Artifacts(
        compression_threshold_bytes=artifacts.integer(
            "compressionThresholdBytes", least=0, most=1_073_741_824, default=2048
        ),
        compression_level=artifacts.integer("compressionLevel", least=1, most=22, default=3),
        max_size_bytes=artifacts.integer("maxSizeBytes", least=0, most=1_125_899_906_842_624, default=0),
    )
    artifacts.finish()
    return parsed


def _read_autovacuum(autovacuum: Reader) -> Autovacuum:
    parsed = Autovacuum(
        vacuum_scale_factor=autovacuum.optional_number("vacuumScaleFactor", least=0, most=100),
        analyze_scale_factor=autovacuum.optional_number("analyzeScaleFactor", least=0, most=100),
        cost_delay_milliseconds=autovacuum.optional_integer("costDelayMilliseconds", least=0, most=100),
        cost_limit=autovacuum.optional_integer("costLimit", least=1, most=10_000),
    )
    autovacuum.finish()
    return parsed


def _read_retention(spec: Reader) -> float | None:
    retention = spec.child("retention")
    if not spec.has("retention"):
        return None
    if not retention.has("maxAge"):
        retention.raw("maxAge", required=True)
    age = retention.optional_duration("maxAge", least=_HOUR, most=_CENTURY)
    retention.finish()
    return None if age is None else age / 1000
