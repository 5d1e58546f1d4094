"""The catalogue of tenants' tables: what a record holds exists in SQLite under the same names, types and keys."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from storage_sql import tables
from storage_sql.catalog import Catalog, Column, Constraint
from storage_sql.stores import PROBE_TABLE, STANDARD_DIMENSIONS, STORES
from storagelib.sqlite.engine import SqliteEngine

KINDS = {
    "bigint": "INTEGER",
    "boolean": "INTEGER",
    "timestamptz": "INTEGER",
    "float8": "REAL",
    "bytea": "BLOB",
    "vector": "BLOB",
}
NAMES = sorted(
    {*tables.tables(), *(f"{tables.VECTOR_FAMILY}_{size}" for size in STANDARD_DIMENSIONS)} - {tables.VECTOR_FAMILY}
)
# SQLite has no tenants of an installation, and derives nothing in the database.
DERIVED = {"terms"}


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """Give a file with the newest schema."""
    path: Path = tmp_path_factory.mktemp("tables") / "a.db"
    SqliteEngine(path).open().close()
    with closing(sqlite3.connect(path)) as connection:
        yield connection


@pytest.mark.parametrize("name", NAMES)
def test_sqlite_has_the_same_columns(sqlite: sqlite3.Connection, name: str) -> None:
    """Names, kinds, NULL or not, and the primary key in its order."""
    found = tables.table(name)
    assert found is not None
    rows = [row for row in sqlite.execute(f"PRAGMA table_info({name})") if row[1] not in DERIVED]
    assert {row[1]: (row[2], not row[3]) for row in rows} == {
        column.name: (KINDS.get(column.type, "TEXT"), column.is_nullable) for column in found.columns
    }
    key = sorted((row[5], row[1]) for row in rows if row[5])
    assert tuple(column for _, column in key) == found.key


def test_every_table_of_sqlite_is_known(sqlite: sqlite3.Connection) -> None:
    """No table that holds rows of tenants is forgotten."""
    made = [name for (name,) in sqlite.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    holding = {
        name
        for name in made
        if any(row[1] == "tenant_id" for row in sqlite.execute(f"PRAGMA table_info({name})"))
        and "VIRTUAL" not in sqlite.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
    }
    assert {name for name in holding if tables.table(name) is None} == {PROBE_TABLE}
    assert {store for found in tables.tables().values() for store in found.stores} == {store.name for store in STORES}


def test_every_key_begins_with_the_tenant() -> None:
    """Whoever imports rows of one tenant can tell from the key alone."""
    assert {found.key[0] for found in tables.tables().values()} == {"tenant_id"}
    assert {found.columns[0].name for found in tables.tables().values()} == {"tenant_id"}


def test_tables_of_vectors_are_one_family() -> None:
    """Any dimension that a table may have, and no other name."""
    wide = tables.table("vector_embeddings_16000")
    assert wide is not None
    assert (wide.dimension, wide.stores) == (16_000, ("vectors",))
    for name in ("vector_embeddings_16001", "vector_embeddings", "vector_embeddings_0", "tenants", PROBE_TABLE, ""):
        assert tables.table(name) is None


COLUMN = Column("kv_store", "tenant_id", "text", True, "", False, '"C"', "", "", "")
KEY = Constraint("kv_store", "kv_store_pkey", "p", "PRIMARY KEY (tenant_id)", "")


def catalog(*columns: Column, keys: tuple[Constraint, ...] = (KEY,)) -> Catalog:
    """Return a catalog of these columns."""
    return Catalog((), columns, keys, (), (), (), ())


def test_what_a_record_cannot_hold_stops_the_generator() -> None:
    """A new table, type or key that nobody thought of is told by name."""
    assert '"tenant_id", "text", "not null"' in tables.tables_json(catalog(COLUMN))
    with pytest.raises(ValueError, match="others holds rows of tenants and belongs to no store"):
        tables.tables_json(catalog(COLUMN, replace(COLUMN, table="others")))
    with pytest.raises(ValueError, match=r"kv_store.price has the type numeric"):
        tables.tables_json(catalog(COLUMN, replace(COLUMN, name="price", type="numeric")))
    with pytest.raises(ValueError, match="kv_store has no primary key"):
        tables.tables_json(catalog(COLUMN, keys=()))
    leaf = replace(COLUMN, table="vector_embeddings_2")
    keys = tuple(replace(KEY, table=f"vector_embeddings_{size}") for size in (2, 3))
    with pytest.raises(ValueError, match="differs from the other tables of vectors"):
        tables.tables_json(
            catalog(leaf, replace(leaf, table="vector_embeddings_3"), replace(leaf, name="x"), keys=keys)
        )
