"""Plan one StorageComponent: its row, the tables of its dimensions, its partitions, its tables' vacuum settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from storage_operator.resources.cluster import VectorIndexMethod
from storage_operator.resources.component import EventInterval, StorageComponentSpec

HALF_DIMENSIONS_MAX = 4000
"""Above this many dimensions there is no short form to index: exact scans only."""
_DEFAULT_INDEX = ((384, 16, 64), (768, 16, 128), (16_000, 24, 256))
_DEFAULT_THRESHOLD = ((384, 7000), (768, 5000), (1536, 4000), (16_000, 3000))
_PARTITION_UNITS = {EventInterval.DAILY: "day", EventInterval.WEEKLY: "week", EventInterval.MONTHLY: "month"}
_VACUUM = {
    "vacuum_scale_factor": "autovacuum_vacuum_scale_factor",
    "analyze_scale_factor": "autovacuum_analyze_scale_factor",
    "cost_delay_milliseconds": "autovacuum_vacuum_cost_delay",
    "cost_limit": "autovacuum_vacuum_cost_limit",
}

Parameters: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SaveComponent:
    """Write the store's switch and parameters, which the library reads."""

    store: str
    enabled: bool
    parameters: tuple[tuple[str, Any], ...]
    why: str


@dataclass(frozen=True, slots=True)
class CreateVectorTable:
    """Create the table of one more dimension, from the template that made the standard ones."""

    dimension: int
    why: str


@dataclass(frozen=True, slots=True)
class CreatePartitions:
    """Create the event log's partitions up to ``ahead`` intervals from now."""

    unit: str
    ahead: int
    why: str


@dataclass(frozen=True, slots=True)
class SetStorageParameters:
    """Set a leaf table's autovacuum parameters."""

    table: str
    parameters: tuple[tuple[str, float], ...]
    why: str


ComponentAction: TypeAlias = SaveComponent | CreateVectorTable | CreatePartitions | SetStorageParameters


@dataclass(frozen=True, slots=True)
class ObservedComponent:
    """A store as the database has it: its row, its tables, their storage parameters, and its partitions ahead.

    ``options`` maps each leaf table to its reloptions; ``ahead`` counts the event partitions that begin after now.
    """

    enabled: bool
    parameters: Parameters
    tables: frozenset[str]
    options: Mapping[str, Mapping[str, str]]
    ahead: int = 0


def index_method(wanted: VectorIndexMethod, extensions: Mapping[str, str]) -> str | None:
    """Return the access method that vectors are indexed with above the threshold, None for exact scans only.

    ``Auto`` takes VectorChord where it is installed. VectorChord that is asked for and missing is no method either;
    ``missing_method`` says so.
    """
    chord = "vchord" in extensions
    if wanted is VectorIndexMethod.NONE or (wanted is VectorIndexMethod.VECTOR_CHORD and not chord):
        return None
    return "vchordrq" if chord and wanted is not VectorIndexMethod.HNSW else "hnsw"


def missing_method(wanted: VectorIndexMethod, extensions: Mapping[str, str]) -> str | None:
    """Say what is missing for the method that the cluster asks for, None when nothing is."""
    if wanted is VectorIndexMethod.VECTOR_CHORD and "vchord" not in extensions:
        return "spec.vectors.indexMethod of the StorageCluster is VectorChord, and extension vchord is not installed"
    return None


def parameters_of(spec: StorageComponentSpec, method: str | None = None) -> dict[str, Any]:
    """Return what the library reads about a store, defaults of each dimension included."""
    if spec.vectors is not None:
        vectors = spec.vectors
        return {
            "metric": vectors.metric.value,
            "index_method": method,
            "ef_search": vectors.ef_search,
            "dimensions": {
                str(dimension): {
                    "m": vectors.m or _by_size(_DEFAULT_INDEX, dimension)[1],
                    "ef_construction": vectors.ef_construction or _by_size(_DEFAULT_INDEX, dimension)[2],
                    "exact_scan_threshold": (
                        _by_size(_DEFAULT_THRESHOLD, dimension)[1]
                        if vectors.exact_scan_threshold_rows is None
                        else vectors.exact_scan_threshold_rows
                    ),
                }
                for dimension in vectors.dimensions
            },
        }
    if spec.events is not None:
        events = spec.events
        return {
            "interval": _PARTITION_UNITS[events.interval],
            "create_ahead": events.create_ahead,
            "archive_after_seconds": events.archive_after_seconds,
            "drop_after_seconds": events.drop_after_seconds,
        }
    if spec.artifacts is not None:
        artifacts = spec.artifacts
        return {
            "compression_threshold_bytes": artifacts.compression_threshold_bytes,
            "compression_level": artifacts.compression_level,
            "max_size_bytes": artifacts.max_size_bytes,
        }
    return {} if spec.retention_seconds is None else {"retention_seconds": spec.retention_seconds}


def exact_only(spec: StorageComponentSpec) -> tuple[int, ...]:
    """Return the dimensions that can only be scanned exactly."""
    dimensions = spec.vectors.dimensions if spec.vectors is not None else ()
    return tuple(dimension for dimension in dimensions if dimension > HALF_DIMENSIONS_MAX)


def plan_component(
    spec: StorageComponentSpec, observed: ObservedComponent, method: str | None = None
) -> tuple[ComponentAction, ...]:
    """Return what makes the store equal to the manifest; empty when nothing differs. Tables are never dropped."""
    actions: list[ComponentAction] = []
    if spec.vectors is not None:
        actions += [
            CreateVectorTable(dimension, "no table of this dimension exists")
            for dimension in spec.vectors.dimensions
            if f"vector_embeddings_{dimension}" not in observed.tables
        ]
    if spec.events is not None and observed.ahead < spec.events.create_ahead:
        unit = _PARTITION_UNITS[spec.events.interval]
        actions.append(CreatePartitions(unit, spec.events.create_ahead, "fewer partitions ahead than declared"))
    wanted = parameters_of(spec, method)
    if (observed.enabled, dict(observed.parameters)) != (spec.enabled, wanted):
        actions.append(
            SaveComponent(spec.store.database_name, spec.enabled, tuple(wanted.items()), "the declaration changed")
        )
    return (*actions, *_vacuum(spec, observed))


def _vacuum(spec: StorageComponentSpec, observed: ObservedComponent) -> list[ComponentAction]:
    given = {
        option: getattr(spec.autovacuum, field)
        for field, option in _VACUUM.items()
        if getattr(spec.autovacuum, field) is not None
    }
    return [
        SetStorageParameters(table, tuple(given.items()), "autovacuum parameters differ")
        for table, options in sorted(observed.options.items())
        if any(float(options.get(option, "nan")) != float(value) for option, value in given.items())
    ]


def _by_size(table: tuple[tuple[int, ...], ...], dimension: int) -> tuple[int, ...]:
    return next(row for row in table if dimension <= row[0])
