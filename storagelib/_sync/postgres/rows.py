# Made from storagelib/_async/postgres/rows.py by scripts/sync; change that file instead.
"""The rows of a tenant in PostgreSQL as records, and records as rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final

from storage_sql.queries import Query, load
from storage_sql.renderer import ident
from storage_sql.tables import TenantTable, table
from storagelib._postgres.session import Call
from storagelib._sync.postgres.database import Transaction
from storagelib.codec import Record
from storagelib.errors import InvalidInput
from storagelib.transfer import COUNTED, check_record, derived, in_order, table_of

__all__ = ["PostgresRows"]

_QUERIES: Final = load("transfer")
_PAGE_ROWS: Final = 500
_PAGE_VALUES: Final = 20
"""Rows that are read at once of a table whose columns may be large."""
_LARGE: Final = frozenset({"bytea", "vector", "jsonb"})
_BATCH_ROWS: Final = 200
_BATCH_BYTES: Final = 1 << 22
_PARTITIONS_MAX: Final = 240
_EVENTS: Final = "event_log"
_TERMS: Final = "array_to_tsvector(string_to_array(btrim(:terms), ' '))"


class PostgresRows:
    """Every row of one tenant, of all stores that the transaction's role may see.

    A tenant's own login reads all of its stores, and may not insert what only the schema's functions write; the maintenance
    role, of ``PostgresAdministration.rows``, may do both.
    """

    def __init__(
        self, transaction: Transaction, tenant_id: str, schema: str, roles: tuple[Query, Query] | None = None
    ) -> None:
        """Take an open transaction that is the tenant's or maintenance's.

        ``roles`` become the one who may make partitions of the log, and maintenance again.
        """
        self._transaction = transaction
        self._tenant_id = tenant_id
        self._schema = schema
        self._roles = roles

    def records(self) -> Iterator[Record]:
        """Return them in the order of all backends."""
        for found in map(table_of, in_order(self._tables())):
            names = [column.name for column in found.columns]
            lists = {column.name for column in found.columns if column.type.endswith("[]")}
            most = _PAGE_VALUES if any(column.type in _LARGE for column in found.columns) else _PAGE_ROWS
            after: Mapping[str, Any] = {}
            while True:
                rows = self._transaction.fetch(_page(found, bool(after)), most=most, **after)
                for row in rows:
                    columns = dict(zip(names, row, strict=True))
                    for name in lists:
                        columns[name] = tuple(columns[name])
                    yield Record(found.stores[0], found.name, columns)
                if len(rows) < most or not found.own_key:
                    break
                last = dict(zip(names, rows[-1], strict=True))
                after = {f"after_{name}": last[name] for name in found.own_key}

    def write(self, records: Iterable[Record]) -> int:
        """Insert records in the order that ``records`` gives them; return how many. The caller's transaction holds them all.

        Raises ``AlreadyExists`` when a key is taken, ``InvalidInput`` for a row that the tables refuse, that is another
        tenant's or whose table is not there, ``Conflict`` for one that depends on a row that is not there, and
        ``PermissionDenied`` for a role that may not insert into its table.
        """
        known = set(self._tables())
        batch: list[Call] = []
        counted: list[Call] = []
        count = size = made = 0
        days: set[object] = set()
        for record in records:
            found = check_record(record, self._tenant_id)
            if found.name not in known:
                raise InvalidInput("the records cannot be used", [f"{found.name}: is not there, or not of this login"])
            columns = {name: value for name, value in record.columns.items() if name != "tenant_id"}
            if found.name == _EVENTS and self._roles is not None:
                at: Any = columns["timestamp"]
                if at.date() not in days:
                    days.add(at.date())
                    made += self._make_partition(at, *self._roles)
                    if made > _PARTITIONS_MAX:
                        raise InvalidInput("the records cannot be used", [f"{_EVENTS}: is of too many months"])
            batch.append((_insert(found), {**columns, **derived(found, record.columns)}))
            if found.name in COUNTED:
                wanted = (*found.own_key, *COUNTED[found.name])
                counted.append((_count(found), {name: columns[name] for name in wanted}))
            size += sum(len(value) for value in columns.values() if isinstance(value, str | bytes))
            count += 1
            if len(batch) >= _BATCH_ROWS or size >= _BATCH_BYTES:
                self._transaction.run(batch)
                batch, size = [], 0
        batch += counted
        for start in range(0, len(batch), _BATCH_ROWS):
            self._transaction.run(batch[start : start + _BATCH_ROWS])
        return count

    def _tables(self) -> list[str]:
        rows = self._transaction.fetch(_QUERIES["tables"], schema=self._schema)
        return [name for (name,) in rows if table(name) is not None]

    def _make_partition(self, at: object, owner: Query, maintenance: Query) -> int:
        """Have the month of a time taken; count what had to be made. Partitions are the owner's, as all tables."""
        found = self._transaction.run([(owner, {}), (_QUERIES["partition"], {"at": at}), (maintenance, {})])
        return len(found[1])


@cache
def _page(found: TenantTable, follows: bool) -> Query:
    types = {column.name: column.type for column in found.columns}
    keys = found.own_key
    before, after = ", ".join(map(_quoted, keys)), ", ".join(f":after_{name}" for name in keys)
    return _made(
        "page",
        found,
        {f"after_{name}": types[name] for name in keys if follows},
        columns=", ".join(map(_quoted, types)),
        after=f"AND ({before}) > ({after})" if follows else "",
        key=", ".join(map(_quoted, found.key)),
    )


@cache
def _insert(found: TenantTable) -> Query:
    types: dict[str, str] = {column.name: column.type for column in found.columns if column.name != "tenant_id"}
    values = {"tenant_id": ":tenant", **{name: f":{name}" for name in types}}
    if found.dimension is not None:
        types["terms"], values["terms"] = "text", _TERMS
    return _made("insert", found, types, columns=", ".join(map(_quoted, values)), values=", ".join(values.values()))


@cache
def _count(found: TenantTable) -> Query:
    types = {column.name: column.type for column in found.columns}
    return _made(
        "count",
        found,
        {name: types[name] for name in (*found.own_key, *COUNTED[found.name])},
        changes=", ".join(f"{_quoted(name)} = :{name}" for name in COUNTED[found.name]),
        key="".join(f" AND {_quoted(name)} = :{name}" for name in found.own_key),
    )


def _made(name: str, found: TenantTable, types: Mapping[str, str], **slots: str) -> Query:
    """Return a statement for one table: kept, so that it is prepared, and made only of names in ``tables.json``."""
    query = _QUERIES[name]
    text = query.text
    for slot, clause in slots.items():
        text = text.replace(f"/* {slot} */", clause)
    return Query(f"{query.name}.{found.name}", text, {**query.types, **types}, marks={"table": ident(found.name)})


def _quoted(name: str) -> str:
    return f'"{name}"'
