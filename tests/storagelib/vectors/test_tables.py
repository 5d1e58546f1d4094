"""The tables of vectors: any row fits, older tables are brought up, and each read asks the index that is meant for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from storage_sql.runner import RunOptions, migrate_postgres
from storagelib._sync.store import Store
from storagelib.config import PostgresConfig, StoreConfig
from storagelib.credentials import Credentials
from storagelib.errors import InvalidInput
from tests.plugins.installation import Installation, drive_on
from tests.plugins.tenants import ALL_STORES, grant_stores, make_tenant

EDGES = (1, 128, 384, 768, 1536, 1970, 1971, 2000, 2001, 3072, 3940, 3941, 4000, 4001, 16_000)
WIDEST = "\U0001f600" * 255
SMALL = 8


@pytest.fixture(scope="module")
def dsn(installation: Installation) -> str:
    """Make a tenant with the longest name, and tables at the edges of every way of storage."""
    dsn = make_tenant(installation, "t" * 255)
    with installation.connect(installation.names.owner) as owner:
        for dimension in (*EDGES, SMALL):
            owner.execute("SELECT llmspell.create_vector_table(%s)", (dimension,))
    grant_stores(installation, installation.names.store_set(ALL_STORES), ["vectors"])
    return dsn


@pytest.fixture(scope="module")
def vectors(installation: Installation, dsn: str) -> Iterator[Any]:
    """Give that tenant's vectors."""
    credentials = Credentials.from_dsn(dsn, tenant_id="t" * 255, schema=installation.schema)
    with Store.open(StoreConfig(backend="postgres", postgres=PostgresConfig(credentials=credentials))) as store:
        yield store.for_tenant("t" * 255).vectors


@pytest.mark.parametrize("length", [1, 16, 64, 255])
@pytest.mark.parametrize("dimension", EDGES)
def test_the_widest_row_fits(vectors: Any, dimension: int, length: int) -> None:
    """Ids, scopes, documents, texts and metadata of any length beside a vector of any dimension, bit for bit."""
    values = np.random.default_rng(dimension).standard_normal(dimension, dtype=np.float32)
    text = WIDEST[:length]
    content = " ".join(f"{text}{n}" for n in range(length))
    metadata = {f"{n}": text for n in range(length)}
    vectors.upsert(text, values, scope=text, content=content, metadata=metadata, document_id=text, position=2**62)
    found = vectors.get(text, dimension=dimension)
    assert found.embedding.tobytes() == values.tobytes()
    assert (found.scope, found.content, dict(found.metadata), found.document_id) == (text, content, metadata, text)
    assert [match.id for match in vectors.search(values, 1, scope=text)] == [text]


def test_a_table_of_an_earlier_version_is_brought_up(bootstrapped_database: Installation) -> None:
    """Rows that are there stay as they are, and can be given what is new."""
    made = bootstrapped_database
    drive_on(made.operator_dsn, migrate_postgres(made.schema, RunOptions(release="test", target=15)))
    with made.connect(made.names.owner) as owner:
        for dimension in (4, 1980, 3960):
            owner.execute("SELECT llmspell.create_vector_table(%s)", (dimension,))
    insert = (
        "INSERT INTO llmspell.vector_embeddings_{0} (tenant_id, id, embedding) VALUES"
        " ('acme', 'old', array_fill(0.5, ARRAY[{0}])::public.vector)"
    )
    with made.connect(made.names.maintenance) as maintenance:
        for dimension in (4, 1980, 3960):
            maintenance.execute(insert.format(dimension).encode())
    drive_on(made.operator_dsn, migrate_postgres(made.schema, RunOptions(release="test")))
    dsn = make_tenant(made, "acme")
    credentials = Credentials.from_dsn(dsn, tenant_id="acme", schema=made.schema)
    with Store.open(StoreConfig(backend="postgres", postgres=PostgresConfig(credentials=credentials))) as store:
        found = store.for_tenant("acme").vectors
        for dimension in (4, 1980, 3960):
            assert found.get("old", dimension=dimension).embedding.tolist() == [0.5] * dimension
            changed = found.update(
                "old", dimension=dimension, content="x" * 5_000, document_id=WIDEST, scope=WIDEST, position=1
            )
            assert (changed.document_id, changed.position) == (WIDEST, 1)
            assert changed.embedding.tolist() == [0.5] * dimension


def test_an_upgraded_table_is_like_a_new_one(installation: Installation, dsn: str) -> None:
    """Columns, their storage, statistics and policies are those of a table made today."""
    with closing(installation.database.connect()) as superuser:
        columns = superuser.execute(
            "SELECT c.relname, array_agg((a.attname, a.attstorage, a.attstattarget)::text ORDER BY a.attname)"
            " FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid"
            " WHERE c.relname IN ('vector_embeddings_128', 'vector_embeddings_8') AND a.attnum > 0"
            " AND NOT a.attisdropped GROUP BY 1"
        ).fetchall()
    first, second = (sorted(shown) for _, shown in columns)
    assert first == second
    assert "(terms,x,0)" in first


class Explaining:
    """A tenant's view of the database that explains every statement instead of running it."""

    def __init__(self, database: Any) -> None:
        """Take the real view."""
        self._database = database
        self.tenant_id = database.tenant_id
        self.nodes: list[dict[str, Any]] = []

    def run(self, calls: list[Any]) -> Any:
        """Note the plan of each statement and answer with nothing."""
        explained = [
            (replace(query, text=f"EXPLAIN (FORMAT JSON) {query.text}", variants={}), values) for query, values in calls
        ]
        for rows in self._database.run(explained):
            self.nodes += _nodes(rows[0][0][0]["Plan"])
        raise LookupError


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _nodes(child))]


@pytest.fixture(scope="module")
def crowded(installation: Installation, dsn: str) -> Iterator[Any]:
    """Give the tenant's vectors, 2,000 of the 100,000 in their leaf."""
    tenant = "t" * 255
    credentials = Credentials.from_dsn(dsn, tenant_id=tenant, schema=installation.schema)
    with installation.connect(installation.names.maintenance) as maintenance:
        (other,) = maintenance.execute(
            "WITH leaf AS (SELECT r FROM generate_series(0, 31) AS r"
            f" WHERE satisfies_hash_partition('llmspell.vector_embeddings_{SMALL}'::regclass, 32, r, %s::text))"
            " SELECT 'other-' || n FROM generate_series(1, 1000) AS n, leaf WHERE satisfies_hash_partition("
            f"'llmspell.vector_embeddings_{SMALL}'::regclass, 32, leaf.r, ('other-' || n)::text) LIMIT 1".encode(),
            (tenant,),
        ).fetchone() or ("",)
        for name, count in ((other, 98_000), (tenant, 2_000)):
            maintenance.execute(
                f"INSERT INTO llmspell.vector_embeddings_{SMALL} (tenant_id, id, scope, embedding, document_id, position)"
                " SELECT %s, 'v' || n, 's' || n %% 50,"
                f" ARRAY(SELECT random() - 0.5 + 0 * n FROM generate_series(1, {SMALL}))::real[]::public.vector,"
                " 'd' || n %% 100, n FROM generate_series(1, %s) AS n".encode(),
                (name, count),
            )
        maintenance.execute(f"ANALYZE llmspell.vector_embeddings_{SMALL}".encode())
    with Store.open(StoreConfig(backend="postgres", postgres=PostgresConfig(credentials=credentials))) as store:
        yield store.for_tenant(tenant).vectors


QUERY = [0.5] * SMALL
READS: dict[str, tuple[str, dict[str, Any], str]] = {
    "get": ("get", {"id": "v7", "dimension": SMALL}, "_pkey"),
    "get_many": ("get_many", {"ids": ["v7", "v8"], "dimension": SMALL}, "_pkey"),
    "delete": ("delete", {"id": "v7", "dimension": SMALL}, "_pkey"),
    "update": ("update", {"id": "v7", "dimension": SMALL, "scope": "a"}, "_pkey"),
    "search": ("search", {"query": QUERY, "exact": True}, "tenant_id"),
    "search in a scope": ("search", {"query": QUERY, "exact": True, "scope": "s3"}, "_scope_"),
    "hybrid": ("hybrid_search", {"text": "word", "embedding": QUERY, "exact": True}, "tenant_id"),
    "page of a scope": ("list_vectors", {"dimension": SMALL, "scope": "s3"}, "_scope_"),
    "count of a prefix": ("count", {"dimension": SMALL, "scope_prefix": "s3"}, "_scope_"),
    "document": ("list_document", {"document_id": "d3", "dimension": SMALL}, "_document_id_"),
    "delete of a document": ("delete_document", {"document_id": "d3", "dimension": SMALL}, "_document_id_"),
    "scopes": ("scopes", {"dimension": SMALL}, "_scope_"),
}


@pytest.mark.parametrize("read", list(READS))
def test_reads_ask_an_index_of_the_tenants(crowded: Any, read: str) -> None:
    """As the application's role, at 100,000 rows in the leaf, no verb reads what is another tenant's."""
    verb, arguments, index = READS[read]
    backend = crowded._backend
    database, backend._database = backend._database, Explaining(backend._database)
    try:
        with pytest.raises(LookupError):
            getattr(crowded, verb)(**arguments)
        nodes = backend._database.nodes
    finally:
        backend._database = database
    asked = {node["Index Name"]: node.get("Index Cond", "") for node in nodes if "Index Name" in node}
    asked = {name: condition for name, condition in asked.items() if not name.startswith("pg_")}
    assert asked
    assert all("tenant_id = " in condition for condition in asked.values())
    assert any(index in f"{name} {condition}" for name, condition in asked.items())
    read_in_full = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
    assert not any("vector" in name for name in read_in_full)
    leaves = {node["Relation Name"] for node in nodes if "Scan" in node["Node Type"] and "Relation Name" in node}
    leaves = {name for name in leaves if not name.startswith("pg_")}
    assert len(leaves) == 1


def test_a_table_that_sqlite_makes_is_like_a_migrated_one(tmp_path: Path) -> None:
    """The first vector of a dimension makes the table that the migrations make for others."""
    with Store.open(StoreConfig.on_sqlite(tmp_path / "vectors.db")) as store:
        store.for_tenant("acme").vectors.insert("a", [1.0, 2.0, 3.0])
    with closing(sqlite3.connect(tmp_path / "vectors.db")) as database:

        def shape(dimension: int) -> tuple[Any, ...]:
            name = f"vector_embeddings_{dimension}"
            columns = database.execute(f"PRAGMA table_xinfo({name})").fetchall()
            indexes = sorted(
                (text or "").replace(str(dimension), "").replace("IF NOT EXISTS ", "").replace("\n", "").split()
                for (text,) in database.execute(
                    "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ?", (name,)
                )
            )
            strict = database.execute("SELECT strict FROM pragma_table_list WHERE name = ?", (name,)).fetchall()
            return columns, indexes, strict

        assert shape(3) == shape(128)
        with pytest.raises(sqlite3.IntegrityError):
            database.execute(
                "INSERT INTO vector_embeddings_3 (tenant_id, id, embedding, created_at, updated_at)"
                " VALUES ('acme', 'short', x'00', 0, 0)"
            )


def test_a_table_that_a_failed_write_would_have_made_is_not_there(tmp_path: Path) -> None:
    """Making a table is part of the transaction that needs it."""
    with Store.open(StoreConfig.on_sqlite(tmp_path / "vectors.db")) as store:
        vectors = store.for_tenant("acme").vectors
        backend = vectors._backend
        broken = backend._write
        backend._write = lambda *_: (_ for _ in ()).throw(psycopg.DataError)
        with pytest.raises(psycopg.DataError):
            vectors.insert("a", [1.0, 2.0, 3.0])
        backend._write = broken
        assert vectors.count(dimension=3) == 0
        vectors.insert("a", [1.0, 2.0, 3.0])
        assert vectors.dimensions() == (3,)


def test_an_sqlite_file_has_tables_of_so_many_dimensions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused, with nothing written; those that are there go on, for every tenant."""
    monkeypatch.setattr("storagelib.sqlite.vectors.DIMENSIONS_MAX", 8)
    with Store.open(StoreConfig.on_sqlite(tmp_path / "x.db")) as store:
        vectors = store.for_tenant("acme").vectors
        for dimension in range(1, 30):
            try:
                vectors.insert("one", np.ones(dimension, np.float32))
            except InvalidInput as error:
                assert "8 dimensions" in str(error)  # noqa: PT017 - which one is the first depends on the migrations
        made = vectors.dimensions()
        assert 1 <= len(made) <= 8
        assert all(store.for_tenant("other").vectors.upsert("one", np.ones(size, np.float32)) for size in made)
        with pytest.raises(InvalidInput, match="8 dimensions"):
            vectors.upsert("one", np.ones(77, np.float32))
        assert vectors.count(dimension=77) == 0
