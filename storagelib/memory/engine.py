"""Tenants' tables in memory: plain rows under one lock a tenant, a bound on their size, and undo when a verb fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from storagelib.clocks import Clock, system_clock
from storagelib.errors import QuotaExceeded, Unavailable

__all__ = ["Key", "MemoryEngine", "MemorySpace", "Row", "Table", "row_size"]

Row = Mapping[str, Any]
"""One row: the columns of the SQL table of the same name, tenant left out; JSON columns hold canonical text."""
Key = tuple[Any, ...]
"""The primary key of a row, tenant left out."""

_ROW_BYTES: Final = 64
_VALUE_BYTES: Final = 16


@dataclass(slots=True)
class MemorySpace:
    """One tenant's tables. Every verb works inside ``transaction()``; rows are replaced, never changed in place."""

    tenant_id: str
    clock: Clock = system_clock
    most_bytes: int | None = None
    used_bytes: int = 0
    tables: dict[str, Table] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    undo: list[tuple[Table, Key, Row | None]] | None = None
    closed: bool = False

    def now(self) -> datetime:
        """Return the present moment in UTC."""
        return self.clock()

    def table(self, name: str) -> Table:
        """Return a table, made empty when it is asked for first."""
        with self.lock:
            if name not in self.tables:
                self.tables[name] = Table(self)
            return self.tables[name]

    def replace(self, tables: Mapping[str, dict[Key, Row]], used_bytes: int) -> None:
        """Put these rows in the place of all; only where nothing can fail any more, because nothing takes it back."""
        for name in {*self.tables, *tables}:
            table = self.table(name)
            table.rows = tables.get(name, {})
            table.renewals += 1
        self.used_bytes = 0 if self.most_bytes is None else used_bytes

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep every other thread out, and take every change back when the block raises."""
        with self.lock:
            if self.closed:
                raise Unavailable("the store is closed")
            if self.undo is not None:
                yield
                return
            self.undo = []
            try:
                yield
            except BaseException:
                for table, key, before in reversed(self.undo):
                    table.restore(key, before)
                raise
            finally:
                self.undo = None


@dataclass(slots=True)
class Table:
    """Rows by primary key, tenant left out of both."""

    space: MemorySpace
    rows: dict[Key, Row] = field(default_factory=dict)
    renewals: int = 0
    """How often other rows took the place of all."""

    def get(self, *key: Any) -> Row | None:
        """Return the row with this key."""
        return self.rows.get(key)

    def put(self, key: Key, row: Row) -> None:
        """Insert or replace a row; raises ``QuotaExceeded`` when the space is bounded and full."""
        before = self.rows.get(key)
        space = self.space
        if space.most_bytes is not None:
            grown = space.used_bytes + row_size(row) - (0 if before is None else row_size(before))
            if grown > space.most_bytes and grown > space.used_bytes:
                raise QuotaExceeded(f"the memory of this tenant is full: {space.most_bytes} bytes")
            space.used_bytes = grown
        if space.undo is not None:
            space.undo.append((self, key, before))
        self.rows[key] = row

    def delete(self, *key: Any) -> bool:
        """Remove a row; tell whether it was there."""
        before = self.rows.pop(key, None)
        if before is None:
            return False
        if self.space.most_bytes is not None:
            self.space.used_bytes -= row_size(before)
        if self.space.undo is not None:
            self.space.undo.append((self, key, before))
        return True

    def restore(self, key: Key, row: Row | None) -> None:
        """Put back what a change replaced; only for undo."""
        current = self.rows.pop(key, None)
        if row is not None:
            self.rows[key] = row
        if self.space.most_bytes is not None:
            self.space.used_bytes += (0 if row is None else row_size(row)) - (
                0 if current is None else row_size(current)
            )

    def ordered(self) -> list[tuple[Key, Row]]:
        """Return keys and rows in the order of the keys."""
        return sorted(self.rows.items(), key=lambda entry: entry[0])


@dataclass(slots=True)
class MemoryEngine:
    """All tenants of one store in memory. ``most_bytes`` bounds each tenant; None bounds nothing."""

    clock: Clock = system_clock
    most_bytes: int | None = None
    spaces: dict[str, MemorySpace] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def space(self, tenant_id: str) -> MemorySpace:
        """Return one tenant's tables."""
        with self.lock:
            if tenant_id not in self.spaces:
                self.spaces[tenant_id] = MemorySpace(tenant_id, self.clock, self.most_bytes)
            return self.spaces[tenant_id]

    def tenants(self) -> list[str]:
        """Return the tenants that were ever asked for, in order."""
        with self.lock:
            return sorted(self.spaces)

    def close(self) -> None:
        """Forget everything."""
        with self.lock:
            for space in self.spaces.values():
                space.closed = True
                space.tables.clear()
            self.spaces.clear()


def row_size(row: Row) -> int:
    """Return about how many bytes a row takes."""
    return _ROW_BYTES + sum(
        len(value) if isinstance(value, str | bytes) else getattr(value, "nbytes", _VALUE_BYTES)
        for value in row.values()
    )
