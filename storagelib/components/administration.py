"""What administration reports: schema versions, and what tenants store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from storage_sql.stores import STORES

__all__ = ["SchemaStatus", "StoreStatistics", "store_of_table", "totals"]


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """Where the schema stands."""

    current: int
    """The version that is applied; 0 for none."""
    target: int
    """The version that this release brings."""
    pending: tuple[str, ...]
    """What is to be applied, in order, such as ``V16 vector_search``."""


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """What one tenant keeps in one store."""

    tenant_id: str
    """The tenant."""
    store: str
    """The store."""
    rows: int
    """Rows of all its tables."""
    size_bytes: int
    """Bytes of the values as they are stored, without indexes and the storage's own overhead."""


def store_of_table(table: str) -> str:
    """Return the store that a table belongs to, the first one where two share it.

    >>> store_of_table("vector_embeddings_384"), store_of_table("tenant_clock")
    ('vectors', 'graph')
    """
    for store in STORES:
        if any(entry.covers(table) for entry in store.tables):
            return store.name
    return "other"


def totals(measured: Iterable[tuple[str, str, int, int]]) -> list[StoreStatistics]:
    """Sum (table, tenant, rows, bytes) over the tables of each store, in order of tenant and store."""
    summed: dict[tuple[str, str], tuple[int, int]] = {}
    for table, tenant_id, rows, size in measured:
        key = (tenant_id, store_of_table(table))
        before = summed.get(key, (0, 0))
        summed[key] = (before[0] + rows, before[1] + size)
    return [StoreStatistics(*key, *value) for key, value in sorted(summed.items())]
