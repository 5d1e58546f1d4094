"""Searching and writing vectors beside hand-written SQL on the best index, raw COPY, and langchain-postgres.

Vectors lie near a space of 32 directions, as embeddings do, which have far fewer degrees of freedom than dimensions; the
queries are drawn like them. Recall is counted against an exact scan by numpy. Peers have no row-level security.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from langchain_core.embeddings import Embeddings
from langchain_postgres import Column, PGEngine, PGVectorStore
from langchain_postgres.v2.indexes import HNSWQueryOptions

from benchmarks.pairs import latency, once
from benchmarks.results import Result, figure
from benchmarks.storagelib.ground import COMMAND, Ground, compared
from benchmarks.vector_scan import scans
from storage_sql.vector_indexes import IndexOptions, default_build, default_ef_search, exact_scan_threshold
from storagelib import Administration
from storagelib.components.distances import Floats
from tests.plugins.postgres import url_with

_K = 10
_QUERIES = 50
_HAND = "hand-written SQL on the best index, psycopg binary, no row-level security"
_LANGCHAIN = "langchain-postgres PGVectorStore"
_DIRECTIONS = 32
_NOISE = 0.3
_LADDER = (20, 40, 100, 200)
# Numbers of candidates among which the first is taken that finds as many neighbours as a peer does.
_STEPS = (20, 30, 40, 45, 50, 60, 80, 100, 150, 200, 400)


@dataclass(frozen=True, slots=True)
class Shape:
    """How many tenants have how many vectors of how many dimensions."""

    tenants: int
    rows: int
    dimension: int

    def __str__(self) -> str:
        if self.tenants == 1:
            return f"one tenant × {self.rows:,} × {self.dimension}"
        return f"{self.tenants} tenants × {self.rows:,} × {self.dimension}"


@dataclass(frozen=True, slots=True)
class Data:
    """The vectors of each tenant, the queries of one of them, and the true neighbours of those."""

    vectors: list[Floats]
    asked: int
    queries: Floats
    nearest: list[set[str]]

    def recall(self, found: Callable[[Floats], Sequence[str]]) -> float:
        """Return the share of the true neighbours that a way of searching finds."""
        hits = sum(len(near & set(found(query))) for query, near in zip(self.queries, self.nearest, strict=True))
        return hits / sum(map(len, self.nearest))


def measure(ground: Ground) -> list[Result]:
    """Measure searches below and above the threshold of an exact scan, searches in SQLite, and a bulk write."""
    with ground.connect() as connection:
        connection.execute("CREATE SCHEMA bare")
    many = Shape(ground.size(100, tiny=3), ground.size(2_000, tiny=60), 384)
    one = Shape(1, ground.size(20_000, full=100_000, tiny=120), 768)
    in_file = scans(ground.folder, ground.size(20_000, full=100_000, tiny=60), 384, command=COMMAND)
    return [*_searches(ground, many), *_searches(ground, one), *in_file, *_writes(ground)]


def drawn(shape: Shape, seed: int = 15) -> Data:
    """Draw the vectors of each tenant, and queries of one, from a space of a few directions of that tenant, and noise."""
    chance = np.random.default_rng(seed)
    asked = shape.tenants // 2
    vectors: list[Floats] = []
    queries = np.empty((0, shape.dimension), np.float32)
    for tenant in range(shape.tenants):
        directions = chance.standard_normal((_DIRECTIONS, shape.dimension), dtype=np.float32)

        def draw(count: int, directions: Floats = directions) -> Floats:
            noise = chance.standard_normal((count, shape.dimension), dtype=np.float32)
            places = chance.standard_normal((count, _DIRECTIONS), dtype=np.float32)
            made: Floats = places @ directions + _NOISE * noise
            return made

        vectors.append(draw(shape.rows))
        if tenant == asked:
            queries = draw(min(_QUERIES, shape.rows))
    rows = vectors[asked] / np.linalg.norm(vectors[asked], axis=1, keepdims=True)
    scores = queries @ rows.T
    nearest = [{f"v{place}" for place in np.argsort(-line)[:_K]} for line in scores]
    return Data(vectors, asked, queries, nearest)


def _searches(ground: Ground, shape: Shape) -> list[Result]:
    data = drawn(shape)
    indexed = shape.rows >= (100 if ground.tiny else exact_scan_threshold(shape.dimension)) and shape.tenants == 1
    least = 0.95 if indexed else 0.99
    with ground.store() as store, ground.connect() as bare, _langchain(ground, shape) as langchain:
        tenants = [ground.new_tenant() for _ in data.vectors]
        ids = [f"v{place}" for place in range(shape.rows)]
        for tenant, rows in zip(tenants, data.vectors, strict=True):
            store.for_tenant(tenant).vectors.insert_many(ids, rows)
            langchain.fill(bare, tenant, ids, rows)
        tenant = tenants[data.asked]
        if indexed:
            _index(ground, tenant, shape)
        hand = _Hand(ground, bare, shape, tenant, indexed=indexed)
        langchain.index(bare)
        vectors = store.for_tenant(tenant).vectors
        mine, theirs, others = (_round(data.queries) for _ in range(3))

        results = [
            compared(
                f"vectors search, {shape}",
                latency(lambda: vectors.search(next(mine), _K), lambda: hand.search(next(theirs)), calls=200),
                _HAND,
                at_most=1.15,
            )
        ]
        recall = data.recall(lambda query: [match.id for match in vectors.search(query, _K)])
        results += [
            _recall(f"vectors search, {shape}: recall@10", recall, f"≥ {least:g}", data.recall(hand.search), _HAND)
        ]
        for name, search in langchain.ways(bare, tenant):
            asked = _as_good(data, vectors, data.recall(search)) if indexed else None

            def ours(query: Floats, asked: int | None = asked) -> list[str]:
                return [match.id for match in vectors.search(query, _K, ef_search=asked)]

            pair = latency(lambda ours=ours: ours(next(mine)), lambda search=search: search(next(others)), calls=50)  # type: ignore[misc]
            how = f"vectors search, {shape}, beside {name}" + (f", ef_search {asked} beside its 40" if asked else "")
            results += [
                compared(how, pair, _LANGCHAIN, at_least=2),
                _recall(f"{how}: recall@10", data.recall(ours), "≥ its recall", data.recall(search), _LANGCHAIN),
            ]
        if indexed:
            results += _ladder(vectors, data, hand, str(shape))
    return results


def _as_good(data: Data, vectors: Any, wanted: float) -> int:
    """Return the least number of candidates with which our searches find as large a share of the neighbours."""
    for candidates in _STEPS:
        found = data.recall(lambda query, size=candidates: [m.id for m in vectors.search(query, _K, ef_search=size)])  # type: ignore[misc]
        if found >= wanted:
            return candidates
    return _STEPS[-1]


def _ladder(vectors: Any, data: Data, hand: _Hand, name: str) -> list[Result]:
    """Measure recall against latency; hand-written SQL goes the same way."""
    results = []
    for candidates in _LADDER:
        mine, theirs = _round(data.queries), _round(data.queries)

        def ours(query: Floats, candidates: int = candidates) -> list[str]:
            return [match.id for match in vectors.search(query, _K, ef_search=candidates)]

        def peer(query: Floats, candidates: int = candidates) -> list[str]:
            return hand.search(query, candidates)

        pair = latency(
            lambda ours=ours, mine=mine: ours(next(mine)),
            lambda peer=peer, theirs=theirs: peer(next(theirs)),
            calls=100,
        )  # type: ignore[misc]
        results += [
            compared(f"vectors search, {name}, ef_search {candidates}", pair, _HAND),
            _recall(
                f"vectors search, {name}, ef_search {candidates}: recall@10",
                data.recall(ours),
                "",
                data.recall(peer),
                _HAND,
            ),
        ]
    return results


def _index(ground: Ground, tenant: str, shape: Shape) -> None:
    """Build the index that the operator would build."""
    options = IndexOptions(exact_scan_threshold=shape.rows // 2) if ground.tiny else IndexOptions(memory_megabytes=1024)
    with Administration.open(
        url=ground.tenants.installation.operator_dsn, schema=ground.tenants.installation.schema
    ) as administration:
        report = administration.vector_index(tenant, shape.dimension, options=options, dry_run=False)
        if not report.actions:
            raise AssertionError(f"no index was built: {report.notes}")


class _Hand:
    """What somebody writes who knows pgvector: the tenant as a literal, on a partial index where there are many rows."""

    def __init__(
        self, ground: Ground, bare: psycopg.Connection[Any], shape: Shape, tenant: str, *, indexed: bool
    ) -> None:
        schema, table = ground.tenants.installation.schema, f"vector_embeddings_{shape.dimension}"
        self._vector = _vector_schema(bare)
        self._connection = bare
        self._indexed = indexed
        self._table = f"bare.{table}"
        bare.execute(
            f"CREATE TABLE {self._table} (LIKE {schema}.{table} INCLUDING STORAGE INCLUDING DEFAULTS)".encode()
        )
        bare.execute(f"INSERT INTO {self._table} SELECT * FROM {schema}.{table}".encode())
        bare.execute(f"ALTER TABLE {self._table} ADD PRIMARY KEY (tenant_id, id)".encode())
        if indexed:
            m, construction = default_build(shape.dimension)
            bare.execute("SET maintenance_work_mem = '1GB'")
            bare.execute(
                f"CREATE INDEX ON {self._table} USING hnsw (embedding {self._vector}.vector_cosine_ops)"
                f" WITH (m = {m}, ef_construction = {construction}) WHERE tenant_id = '{tenant}'".encode()
            )
        bare.execute(f"VACUUM ANALYZE {self._table}".encode())
        bare.execute(f"VACUUM ANALYZE {schema}.{table}".encode())
        self._statement = (
            f"SELECT id, scope, content, metadata, document_id, position, created_at, updated_at,"
            f" embedding OPERATOR({self._vector}.<=>) %b::{self._vector}.vector AS distance"
            f" FROM {self._table} WHERE tenant_id = '{tenant}' ORDER BY distance LIMIT {_K}"
        ).encode()
        self._usual = default_ef_search(shape.rows)
        self._candidates = 0

    def search(self, query: Floats, candidates: int = 0) -> list[str]:
        """Return the ids of the nearest, looking at as many candidates as our searches do by default, or so many."""
        candidates = candidates or self._usual
        if self._indexed and candidates != self._candidates:
            self._connection.execute(f"SET hnsw.ef_search = {candidates}".encode())
            self._candidates = candidates
        rows = self._connection.execute(self._statement, (_Sent(query),), prepare=True, binary=True).fetchall()
        return [row[0] for row in rows]


class _Sent:
    """A vector on its way to the server, in pgvector's binary form."""

    def __init__(self, values: Floats) -> None:
        self.data = len(values).to_bytes(2, "big") + b"\0\0" + values.astype(">f4").tobytes()


class _SentDumper(psycopg.adapt.Dumper):
    """Sends it as it is; the statement says which type it is."""

    format = psycopg.pq.Format.BINARY

    def dump(self, obj: _Sent) -> bytes:
        return obj.data


psycopg.adapters.register_dumper(_Sent, _SentDumper)


class _Langchain:
    """PGVectorStore on one table of all tenants, with the tenant as a column, as its documentation has metadata columns."""

    def __init__(self, store: Any, table: str, shape: Shape) -> None:
        self.store = store
        self.table = table
        self._shape = shape

    def fill(self, bare: psycopg.Connection[Any], tenant: str, ids: list[str], rows: Floats) -> None:
        """Write a tenant's rows by COPY, which is faster than its own way and gives the same rows."""
        prefix = f"{tenant}/"
        columns = "langchain_id, content, embedding, tenant"
        with (
            bare.cursor() as cursor,
            cursor.copy(f"COPY {self.table} ({columns}) FROM STDIN (FORMAT binary)".encode()) as copy,
        ):
            for id_, row in zip(ids, rows, strict=True):
                copy.write_row(((prefix + id_).encode(), b"", _Sent(row), tenant.encode()))

    def index(self, bare: psycopg.Connection[Any]) -> None:
        """Give it an index of the tenants, and one of the vectors of all of them."""
        m, construction = default_build(self._shape.dimension)
        vector = _vector_schema(bare)
        bare.execute("SET maintenance_work_mem = '1GB'")
        bare.execute(f"CREATE INDEX ON {self.table} (tenant)".encode())
        bare.execute(
            f"CREATE INDEX {self.table.partition('.')[2]}_hnsw ON {self.table} USING hnsw"
            f" (embedding {vector}.vector_cosine_ops) WITH (m = {m}, ef_construction = {construction})".encode()
        )
        bare.execute(f"VACUUM ANALYZE {self.table}".encode())

    def ways(self, bare: psycopg.Connection[Any], tenant: str) -> Iterator[tuple[str, Callable[[Floats], list[str]]]]:
        """Give its ways of searching for one tenant, each as the next is asked for.

        An index of all tenants' vectors finds few rows of one; without it, all rows of one are compared.
        """
        many = self._shape.tenants > 1

        def search(query: Floats) -> list[str]:
            chosen = {"tenant": tenant} if many else None
            found = self.store.similarity_search_by_vector(query.tolist(), k=_K, filter=chosen)
            return [document.id.partition("/")[2] for document in found]

        yield "an index of all tenants" if many else "its index", search
        if many:
            bare.execute(f"DROP INDEX {self.table}_hnsw".encode())
            yield "its exact scan of one tenant", search


@contextmanager
def _langchain(ground: Ground, shape: Shape) -> Iterator[_Langchain]:
    """Open the peer on a table of its own."""

    class _None(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            raise AssertionError(f"vectors are given, not {texts}")

        def embed_query(self, text: str) -> list[float]:
            raise AssertionError(f"vectors are given, not {text}")

    with ground.connect() as connection:
        vector = _vector_schema(connection)
    url = url_with(ground.superuser_dsn, options=f"-csearch_path=public,{vector}")
    engine = PGEngine.from_connection_string("postgresql+psycopg://" + url.partition("://")[2])
    table = f"langchain_{shape.tenants}_{shape.rows}_{shape.dimension}"
    engine.init_vectorstore_table(
        table,
        shape.dimension,
        schema_name="bare",
        id_column=Column("langchain_id", "TEXT"),
        metadata_columns=[Column("tenant", "TEXT")],
        overwrite_existing=True,
    )
    store = PGVectorStore.create_sync(
        engine,
        _None(),
        table,
        schema_name="bare",
        metadata_columns=["tenant"],
        index_query_options=HNSWQueryOptions(ef_search=40),
    )
    try:
        yield _Langchain(store, f"bare.{table}", shape)
    finally:
        asyncio.run(engine.close())


def _writes(ground: Ground) -> list[Result]:
    """Measure a batch into an empty table; rows are as many as one call takes."""
    shape = Shape(1, ground.size(10_000, tiny=100), 768)
    rows = drawn(shape).vectors[0]
    ids = [f"v{place}" for place in range(shape.rows)]
    name = f"vectors insert_many, {shape.rows:,} × {shape.dimension}"
    with ground.store() as store, ground.connect() as bare, _langchain(ground, shape) as langchain:
        vectors = store.for_tenant(ground.new_tenant()).vectors
        schema = ground.tenants.installation.schema
        bare.execute(
            f"CREATE TABLE bare.written (LIKE {schema}.vector_embeddings_768 INCLUDING STORAGE INCLUDING DEFAULTS,"
            " PRIMARY KEY (tenant_id, id))".encode()
        )

        def clear() -> None:
            # Not by deleting: what is left of rows is in the way of the next ones, of ours alone.
            bare.execute(f"TRUNCATE {schema}.vector_embeddings_768, bare.written, {langchain.table}".encode())

        def copy() -> None:
            with (
                bare.cursor() as cursor,
                cursor.copy(b"COPY bare.written (tenant_id, id, embedding) FROM STDIN (FORMAT binary)") as target,
            ):
                for id_, row in zip(ids, rows, strict=True):
                    target.write_row((b"acme", id_.encode(), _Sent(row)))

        def peer() -> None:
            langchain.store.add_embeddings(
                [""] * len(ids), [row.tolist() for row in rows], [{"tenant": "acme"}] * len(ids), ids
            )

        raw = once(lambda: vectors.insert_many(ids, rows), copy, before=clear)
        library = once(lambda: vectors.insert_many(ids, rows), peer, before=clear, runs=3)
    return [
        compared(name, raw, "raw binary COPY into an unprotected table", share=0.7, of="COPY"),
        compared(name + ", beside PGVectorStore", library, _LANGCHAIN, at_least=5),
    ]


def _round(queries: Floats) -> Iterator[Floats]:
    return itertools.cycle(queries)


def _vector_schema(connection: psycopg.Connection[Any]) -> str:
    row = connection.execute(
        "SELECT n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace"
        " WHERE e.extname = 'vector'"
    ).fetchone()
    if row is None:
        raise AssertionError("pgvector is not installed")
    return str(row[0])


def _recall(name: str, ours: float, wanted: str, peer: float, peer_name: str) -> Result:
    least = peer if wanted == "≥ its recall" else float(wanted.removeprefix("≥ ") or 0)
    holds = (lambda share: share >= least) if wanted else None
    return figure(name, "share", ours, wanted, holds, peer=peer, peer_name=peer_name, command=COMMAND)
