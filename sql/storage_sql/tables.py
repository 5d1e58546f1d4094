"""The columns of every table that holds tenants' rows, the same on PostgreSQL, SQLite and in memory; pure.

``tables.json`` beside this module is generated from the catalog of a migrated database, with ``schema.sql``.

>>> table("kv_store").key
('tenant_id', 'key')
>>> table("vector_embeddings_768").dimension
768
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Final, Literal, get_args

from storage_sql.stores import DIMENSION_MAX, PROBE_TABLE, VECTOR_TABLE, store_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from storage_sql.catalog import Catalog

__all__ = ["ColumnType", "TableColumn", "TenantTable", "table", "tables", "tables_json"]

ColumnType = Literal[
    "text", "bigint", "float8", "boolean", "timestamptz", "uuid", "bytea", "jsonb", "vector", "text[]", "uuid[]"
]
"""What a column holds, by PostgreSQL's name."""

VECTOR_FAMILY: Final = "vector_embeddings"
"""Stands for the tables of all dimensions."""
_TYPES: Final[Mapping[str, ColumnType]] = {
    "double precision": "float8",
    "timestamp with time zone": "timestamptz",
}
_VECTOR: Final = re.compile(r"(?:\w+\.)?vector(?:\([0-9]+\))?")
# The library makes these of other columns of the row.
_DERIVED: Final = frozenset({(VECTOR_FAMILY, "terms")})
_KEY: Final = re.compile(r"PRIMARY KEY \((.+)\)")


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column that has to be kept; what follows from other columns is left out."""

    name: str
    type: ColumnType
    is_nullable: bool


@dataclass(frozen=True, slots=True)
class TenantTable:
    """One table of tenants' rows: its stores, its columns in order, the columns of its primary key."""

    name: str
    stores: tuple[str, ...]
    columns: tuple[TableColumn, ...]
    key: tuple[str, ...]
    dimension: int | None = None
    """How long the vectors are, in a table of one dimension."""

    @property
    def own_key(self) -> tuple[str, ...]:
        """The key of a row among those of its tenant."""
        return tuple(column for column in self.key if column != "tenant_id")


@cache
def tables() -> Mapping[str, TenantTable]:
    """Return every table by name; the tables of vectors are one, ``vector_embeddings``."""
    text = resources.files("storage_sql").joinpath("tables.json").read_text(encoding="utf-8")
    return {
        name: TenantTable(
            name,
            store_of(name) or store_of(f"{name}_1"),
            tuple(TableColumn(column, kind, nullable == "null") for column, kind, nullable in entry["columns"]),
            tuple(entry["key"]),
        )
        for name, entry in json.loads(text).items()
    }


@lru_cache(1024)
def table(name: str) -> TenantTable | None:
    """Return a table by the name it has in a database, or None for one that holds no rows of tenants."""
    vectors = VECTOR_TABLE.fullmatch(name)
    if vectors is None:
        return None if name == VECTOR_FAMILY else tables().get(name)
    dimension = int(vectors[1])
    return replace(tables()[VECTOR_FAMILY], name=name, dimension=dimension) if dimension <= DIMENSION_MAX else None


def tables_json(catalog: Catalog) -> str:
    """Return the text of ``tables.json``; raises ``ValueError`` for a table whose store or type nobody knows."""
    tenants = {column.table for column in catalog.columns if column.name == "tenant_id"} - {PROBE_TABLE}
    keys = {one.table: one.definition for one in catalog.constraints if one.kind == "p"}
    found: dict[str, dict[str, list[object]]] = {}
    for name in sorted(tenants):
        if not store_of(name):
            raise ValueError(f"{name} holds rows of tenants and belongs to no store: see storage_sql/stores.py")
        family = VECTOR_FAMILY if VECTOR_TABLE.fullmatch(name) else name
        columns: list[object] = [
            [column.name, _type(name, column.name, column.type), "not null" if column.not_null else "null"]
            for column in catalog.columns
            if column.table == name and not column.generated and (family, column.name) not in _DERIVED
        ]
        match = _KEY.match(keys.get(name, ""))
        if match is None:
            raise ValueError(f"{name} has no primary key")
        entry = {"key": list[object](match[1].replace('"', "").split(", ")), "columns": columns}
        if found.setdefault(family, entry) != entry:
            raise ValueError(f"{name} differs from the other tables of vectors")
    return _lines(found)


def _type(table_name: str, column: str, declared: str) -> str:
    known = "vector" if _VECTOR.fullmatch(declared) else _TYPES.get(declared, declared)
    if known not in get_args(ColumnType):
        raise ValueError(f"{table_name}.{column} has the type {declared}, which no record can hold")
    return known


def _lines(found: Mapping[str, Mapping[str, list[object]]]) -> str:
    """Write JSON with one column a line, so that a change is one line."""
    parts = []
    for name, entry in found.items():
        columns = ",\n".join(f"      {json.dumps(column)}" for column in entry["columns"])
        head = f"    {json.dumps('key')}: {json.dumps(entry['key'])},\n    {json.dumps('columns')}: [\n"
        parts.append(f"  {json.dumps(name)}: {{\n{head}{columns}\n    ]\n  }}")
    return "{\n" + ",\n".join(parts) + "\n}\n"
