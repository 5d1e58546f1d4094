"""The rows of tenants in memory as records, and records in the place of all their rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack

from storagelib.codec import Record
from storagelib.errors import Corrupted, QuotaExceeded
from storagelib.memory.engine import Key, MemoryEngine, MemorySpace, Row, row_size
from storagelib.transfer import PARENTS, check_record, derived, in_order, table_of

__all__ = ["MemoryRows", "records", "replace"]


def records(space: MemorySpace) -> Iterator[Record]:
    """Return every row of a tenant as it is at one moment, which is when the first one is asked for."""
    with space.transaction():
        kept = {name: table.ordered() for name, table in space.tables.items() if table.rows}
    for name in in_order(kept):
        found = table_of(name)
        for _, row in kept.pop(name):
            columns = {column.name: row.get(column.name) for column in found.columns}
            yield Record(found.stores[0], name, {**columns, "tenant_id": space.tenant_id})


class MemoryRows:
    """The tables of one tenant that are to take the place of those in memory: collected first, and then checked."""

    def __init__(self, tenant_id: str, most_bytes: int | None) -> None:
        """Take whose they are, and how many bytes they may have."""
        self.tenant_id = tenant_id
        self.tables: dict[str, dict[Key, Row]] = {}
        self.used_bytes = 0
        self.count = 0
        self._most_bytes = most_bytes

    def add(self, record: Record) -> None:
        """Take a record; raises ``Corrupted`` for a key that came before, ``QuotaExceeded`` when it is too much."""
        found = check_record(record, self.tenant_id)
        row: Row = {**record.columns, **derived(found, record.columns)}
        row = {name: value for name, value in row.items() if name != "tenant_id"}
        rows, key = self.tables.setdefault(found.name, {}), tuple(row[column] for column in found.own_key)
        if key in rows:
            raise Corrupted(f"{found.name}: two records have one key")
        self.used_bytes += row_size(row)
        if self._most_bytes is not None and self.used_bytes > self._most_bytes:
            raise QuotaExceeded(f"the memory of this tenant is full: {self._most_bytes} bytes")
        rows[key] = row
        self.count += 1

    def check(self) -> None:
        """Raise ``Corrupted`` when a row depends on one that is not there."""
        for name, parent in PARENTS.items():
            known = self.tables.get(parent.table, {})
            for row in self.tables.get(name, {}).values():
                wanted = tuple(row[column] for column in parent.columns)
                if None not in wanted and wanted not in known:
                    raise Corrupted(f"{name}: a record depends on one of {parent.table} that is not there")


def replace(engine: MemoryEngine, tenants: Iterable[MemoryRows]) -> None:
    """Put what was collected in the place of everything that these tenants have, of all of them at once."""
    chosen: Mapping[str, MemoryRows] = {rows.tenant_id: rows for rows in tenants}
    with ExitStack() as together:
        # One order for everybody, so that two who do this never wait for each other.
        spaces = [engine.space(tenant_id) for tenant_id in sorted(chosen)]
        for space in spaces:
            together.enter_context(space.transaction())
        for space in spaces:
            rows = chosen[space.tenant_id]
            space.replace(rows.tables, rows.used_bytes)
