"""The rows of a tenant in an SQLite file as records, and records as rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from sqlite3 import Connection
from typing import Any, Final
from uuid import UUID

from storage_sql.tables import ColumnType, TenantTable, table
from storagelib.clocks import from_microseconds, to_microseconds
from storagelib.codec import Record
from storagelib.sqlite.engine import SqliteStore
from storagelib.sqlite.vectors import make_table
from storagelib.transfer import COUNTED, check_record, derived, in_order, table_of

__all__ = ["SqliteRows"]


class SqliteRows(SqliteStore):
    """Every row of one tenant, of all stores."""

    def records(self) -> Iterator[Record]:
        """Return them in the order of all backends, as they are at the moment when the first one is asked for."""
        with self.engine.reading() as database:
            names = (name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))
            for found in map(table_of, in_order([name for name in names if table(name) is not None])):
                for row in database.execute(_select(found), (self.tenant_id,)):
                    values = (
                        value if value is None or read is None else read(value)
                        for value, read in zip(row, _readers(found), strict=True)
                    )
                    columns = dict(zip((column.name for column in found.columns), values, strict=True))
                    yield Record(found.stores[0], found.name, columns)

    def write(self, records: Iterable[Record]) -> int:
        """Insert records in the order that ``records`` gives them, all or none; return how many.

        Raises ``AlreadyExists`` when a key is taken, ``InvalidInput`` for a row that the tables refuse or that is another
        tenant's, and ``Conflict`` for one that depends on a row that is not there.
        """
        return self.engine.write(lambda database: self._write(database, records))

    def _write(self, database: Connection, records: Iterable[Record]) -> int:
        count = 0
        counted: list[tuple[TenantTable, Mapping[str, Any]]] = []
        made: set[str] = set()
        for record in records:
            found = check_record(record, self.tenant_id)
            if found.dimension is not None and found.name not in made:
                make_table(database, found.dimension)
                made.add(found.name)
            values = _values(found, record)
            names = ", ".join(f'"{name}"' for name in values)
            marks = ", ".join("?" * len(values))
            database.execute(f'INSERT INTO "{found.name}" ({names}) VALUES ({marks})', tuple(values.values()))
            if found.name in COUNTED:
                counted.append((found, {name: values[name] for name in (*found.key, *COUNTED[found.name])}))
            count += 1
        for found, right in counted:
            changes = ", ".join(f'"{name}" = :{name}' for name in COUNTED[found.name])
            where = " AND ".join(f'"{name}" = :{name}' for name in found.key)
            database.execute(f'UPDATE "{found.name}" SET {changes} WHERE {where}', right)
        return count


def _values(found: TenantTable, record: Record) -> dict[str, Any]:
    values = {
        column.name: value if value is None or column.type not in _WRITERS else _WRITERS[column.type](value)
        for column in found.columns
        for value in [record.columns[column.name]]
    }
    return {**values, **derived(found, record.columns)}


@cache
def _select(found: TenantTable) -> str:
    columns = ", ".join(f'"{column.name}"' for column in found.columns)
    order = ", ".join(f'"{name}"' for name in found.key)
    return f'SELECT {columns} FROM "{found.name}" WHERE tenant_id = ? ORDER BY {order}'


@cache
def _readers(found: TenantTable) -> tuple[Callable[[Any], Any] | None, ...]:
    return tuple(_READERS.get(column.type) for column in found.columns)


def _texts(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def _uuids(text: str) -> tuple[UUID, ...]:
    return tuple(map(UUID, json.loads(text)))


def _list(values: Iterable[object]) -> str:
    return json.dumps([str(value) for value in values], ensure_ascii=False, separators=(",", ":"))


_READERS: Final[Mapping[ColumnType, Callable[[Any], Any]]] = {
    "boolean": bool,
    "timestamptz": from_microseconds,
    "uuid": UUID,
    "text[]": _texts,
    "uuid[]": _uuids,
}
_WRITERS: Final[Mapping[ColumnType, Callable[[Any], Any]]] = {
    "boolean": int,
    "timestamptz": to_microseconds,
    "uuid": str,
    "text[]": _list,
    "uuid[]": _list,
}
"""What is not the same in SQLite as in a record."""
