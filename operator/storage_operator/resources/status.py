"""The status of each kind as a frozen value, and its form in the object.

A field that is None or empty is written as null or as an empty list, so that a merge patch clears what was there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from storage_operator.resources.conditions import format_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from storage_operator.resources.conditions import Condition
    from storage_operator.resources.names import StoreKind

__all__ = [
    "ConnectionCounts",
    "Extension",
    "Partitions",
    "Status",
    "StorageClusterStatus",
    "StorageComponentStatus",
    "TenantCounts",
    "TenantStatus",
    "Usage",
    "unseen",
]


class Status(Protocol):
    """The status of any kind."""

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What the object's conditions are now."""
        ...

    def as_fields(self) -> dict[str, Any]:
        """Return the form of the object's status."""
        ...


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension of the database and its version."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class TenantCounts:
    """How many tenants a cluster has, and how many of them are Ready."""

    total: int
    ready: int


@dataclass(frozen=True, slots=True)
class ConnectionCounts:
    """The server's max_connections and what limits and reserves add up to."""

    limit: int
    committed: int


@dataclass(frozen=True, slots=True)
class StorageClusterStatus:
    """What was re-read from the database of a StorageCluster."""

    observed_generation: int
    conditions: tuple[Condition, ...]
    server_version: str | None = None
    extensions: tuple[Extension, ...] = ()
    installation: str | None = None
    schema_version: int | None = None
    pending_migrations: tuple[str, ...] = ()
    tenants: TenantCounts | None = None
    connections: ConnectionCounts | None = None
    last_verified_time: datetime | None = None

    def as_fields(self) -> dict[str, Any]:
        """Return the form of the object's status."""
        tenants, connections = self.tenants, self.connections
        return {
            "observedGeneration": self.observed_generation,
            "conditions": _conditions(self.conditions),
            "serverVersion": self.server_version,
            "extensions": [{"name": each.name, "version": each.version} for each in self.extensions],
            "installation": self.installation,
            "schemaVersion": self.schema_version,
            "pendingMigrations": list(self.pending_migrations),
            "tenants": tenants and {"total": tenants.total, "ready": tenants.ready},
            "connections": connections and {"limit": connections.limit, "committed": connections.committed},
            "lastVerifiedTime": _time(self.last_verified_time),
        }


@dataclass(frozen=True, slots=True)
class Partitions:
    """How many partitions the event log has, and the moment up to which they exist."""

    count: int
    horizon: datetime


@dataclass(frozen=True, slots=True)
class StorageComponentStatus:
    """What was re-read from the tables of a StorageComponent."""

    observed_generation: int
    conditions: tuple[Condition, ...]
    tables: tuple[str, ...] = ()
    exact_only_dimensions: tuple[int, ...] = ()
    partitions: Partitions | None = None

    def as_fields(self) -> dict[str, Any]:
        """Return the form of the object's status."""
        partitions = self.partitions
        return {
            "observedGeneration": self.observed_generation,
            "conditions": _conditions(self.conditions),
            "tables": list(self.tables),
            "exactOnlyDimensions": list(self.exact_only_dimensions),
            "partitions": partitions and {"count": partitions.count, "horizon": _time(partitions.horizon)},
        }


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tenant stores, and when that was measured."""

    stored_bytes: int
    rows: int
    measured_time: datetime


@dataclass(frozen=True, slots=True)
class TenantStatus:
    """What was re-read about a Tenant. ``rotation_request`` is the last value of the annotation that was handled."""

    observed_generation: int
    conditions: tuple[Condition, ...]
    role: str | None = None
    secret_name: str | None = None
    schema_version: int | None = None
    components: tuple[StoreKind, ...] = ()
    usage: Usage | None = None
    last_verified_time: datetime | None = None
    last_rotation_time: datetime | None = None
    next_rotation_time: datetime | None = None
    rotation_request: str | None = None

    def as_fields(self) -> dict[str, Any]:
        """Return the form of the object's status."""
        usage = self.usage
        return {
            "observedGeneration": self.observed_generation,
            "conditions": _conditions(self.conditions),
            "role": self.role,
            "secretName": self.secret_name,
            "schemaVersion": self.schema_version,
            "components": [store.value for store in self.components],
            "usage": usage
            and {"bytes": usage.stored_bytes, "rows": usage.rows, "measuredTime": _time(usage.measured_time)},
            "lastVerifiedTime": _time(self.last_verified_time),
            "lastRotationTime": _time(self.last_rotation_time),
            "nextRotationTime": _time(self.next_rotation_time),
            "rotationRequest": self.rotation_request,
        }


def unseen(before: Mapping[str, Any], generation: int, conditions: Iterable[Condition]) -> dict[str, Any]:
    """Return the status of an object that could not be looked at: only its conditions are news."""
    return {**before, "observedGeneration": generation, "conditions": _conditions(conditions)}


def _conditions(conditions: Iterable[Condition]) -> list[dict[str, Any]]:
    return [condition.as_field() for condition in conditions]


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)
