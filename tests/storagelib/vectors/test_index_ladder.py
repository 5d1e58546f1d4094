"""On a real server: searches are exact until the tenant's own index is ready, use it then, and find min(k, matching) always."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from psycopg import sql

from storage_sql import vector_indexes
from storage_sql.effects import Query, SqlFailure
from storage_sql.renderer import ident
from storage_sql.vector_indexes import BuildIndex, DropIndex, IndexOptions, IndexReport
from storagelib import Administration
from storagelib._sync.store import Store
from storagelib.config import ComponentConfig, PostgresConfig, StoreConfig
from storagelib.credentials import Credentials
from tests.plugins.installation import Installation, drive_on
from tests.plugins.tenants import ALL_STORES, connect, grant_stores, make_tenant

SIZE = 24
ROWS = 3_000
SHORT = 2_100
OPTIONS = IndexOptions(exact_scan_threshold=1_000, pause_seconds=0.1)


def drawn(count: int, seed: int, size: int = SIZE) -> NDArray[np.float32]:
    """Return random vectors."""
    return np.random.default_rng(seed).standard_normal((count, size), dtype=np.float32)


def maintained(
    installation: Installation, tenant: str, options: IndexOptions = OPTIONS, dimension: int = SIZE
) -> IndexReport:
    """Run the procedure as the operator does: under the maintenance role."""

    def procedure() -> Any:
        yield Query(f"SET ROLE {ident(installation.names.maintenance)}")
        return (yield from vector_indexes.maintain_index(installation.schema, "public", tenant, dimension, options))

    report: IndexReport = drive_on(installation.operator_dsn, procedure())
    return report


class Explaining:
    """A tenant's view of the database that notes the plan of every search before it is made."""

    def __init__(self, database: Any) -> None:
        """Take the real view."""
        self._database = database
        self.tenant_id = database.tenant_id
        self.nodes: list[dict[str, Any]] = []

    def run(self, calls: list[Any]) -> Any:
        """Explain what would be run, in the same transaction as its settings, and run it."""
        mixed = [(query if query.name == "vectors.tune" else _explain(query), values) for query, values in calls]
        for (query, _), rows in zip(calls, self._database.run(mixed), strict=True):
            if query.name != "vectors.tune":
                self.nodes += _nodes(rows[0][0][0]["Plan"])
        return self._database.run(calls)

    def indexes(self) -> set[str]:
        """Return the indexes that the plans use, catalogs left out."""
        names = {node["Index Name"] for node in self.nodes if "Index Name" in node}
        return {name for name in names if not name.startswith("pg_")}


def _explain(query: Any) -> Any:
    return replace(query, text=f"EXPLAIN (FORMAT JSON) {query.text}", variants={})


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _nodes(child))]


def watched(vectors: Any) -> Explaining:
    """Have a store's plans noted from now on, and what it knows of indexes forgotten."""
    backend = vectors._backend
    database = backend._database._database if isinstance(backend._database, Explaining) else backend._database
    backend._database = Explaining(database)
    backend._indexes.clear()
    return backend._database  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def dsn(installation: Installation) -> str:
    """Make the tenant, and tables of two small dimensions and one in half precision."""
    dsn = make_tenant(installation, "acme")
    with installation.connect(installation.names.owner) as owner:
        for dimension in (SIZE, SHORT, 8):
            owner.execute("SELECT llmspell.create_vector_table(%s)", (dimension,))
    grant_stores(installation, installation.names.store_set(ALL_STORES), ["vectors"])
    return dsn


@pytest.fixture(scope="module")
def vectors(installation: Installation, dsn: str) -> Iterator[Any]:
    """Give the tenant's vectors, beside those of others in the same leaf."""
    credentials = Credentials.from_dsn(dsn, tenant_id="acme", schema=installation.schema)
    config = StoreConfig(backend="postgres", postgres=PostgresConfig(credentials=credentials))
    with installation.connect(installation.names.maintenance) as maintenance:
        others = neighbours(maintenance, "acme", 2)
        for number, other in enumerate(others):
            maintenance.execute(
                f"INSERT INTO llmspell.vector_embeddings_{SIZE} (tenant_id, id, embedding) SELECT %s, 'v' || n,"
                f" ARRAY(SELECT random() - 0.5 + 0 * n FROM generate_series(1, {SIZE}))::real[]::public.vector"
                " FROM generate_series(1, %s) AS n".encode(),
                (other, 4_000 + number),
            )
    with Store.open(config) as store:
        found = store.for_tenant("acme").vectors
        found.insert_many(
            [f"v{n}" for n in range(ROWS)],
            drawn(ROWS, 1),
            scope=["a", "b"] * (ROWS // 2),
            metadata=[{"n": n} for n in range(ROWS)],
            contents=[f"word{n % 7}" for n in range(ROWS)],
        )
        with installation.connect(installation.names.maintenance) as maintenance:
            maintenance.execute(f"ANALYZE llmspell.vector_embeddings_{SIZE}".encode())
        yield found


def neighbours(connection: psycopg.Connection[Any], tenant: str, count: int, dimension: int = SIZE) -> list[str]:
    """Return tenants whose rows are in the same leaf."""
    rows = connection.execute(
        "WITH leaf AS (SELECT r FROM generate_series(0, 31) AS r WHERE satisfies_hash_partition(%(table)s::regclass, 32, r, %(t)s::text))"
        " SELECT 'other-' || n FROM generate_series(1, 1000) AS n, leaf"
        " WHERE satisfies_hash_partition(%(table)s::regclass, 32, leaf.r, ('other-' || n)::text) LIMIT %(count)s",
        {"table": f"llmspell.vector_embeddings_{dimension}", "t": tenant, "count": count},
    ).fetchall()
    return [row[0] for row in rows]


@pytest.fixture(scope="module")
def indexed(installation: Installation, vectors: Any) -> str:
    """Build the tenant's index and return its name."""
    report = maintained(installation, "acme")
    (action,) = report.actions
    assert isinstance(action, BuildIndex)
    assert (report.observed.rows, report.notes) == (ROWS, ())
    return action.name


def test_without_an_index_one_tenants_rows_are_scanned(vectors: Any, installation: Installation) -> None:
    """Exact, one leaf, found by the tenant; statistics say that every search is exact."""
    if vectors.stats(SIZE).indexes:
        maintained(installation, "acme", replace(OPTIONS, method=None))
    plans = watched(vectors)
    assert len(vectors.search(drawn(1, 2)[0])) == 10
    assert not any("hnsw" in name for name in plans.indexes())
    assert (
        len({node["Relation Name"] for node in plans.nodes if "vector_embeddings" in node.get("Relation Name", "")})
        == 1
    )
    assert vectors.stats(SIZE).exact
    assert vectors.measure_recall(SIZE).recall == 1.0


def test_a_ready_index_is_used(vectors: Any, indexed: str) -> None:
    """By the application's role, under row-level security, for this metric; an exact search leaves it aside."""
    plans = watched(vectors)
    assert len(vectors.search(drawn(1, 2)[0])) == 10
    assert indexed in plans.indexes()
    plans = watched(vectors)
    assert len(vectors.search_many(drawn(3, 2))) == 3
    assert indexed in plans.indexes()
    plans = watched(vectors)
    vectors.hybrid_search("word1", drawn(1, 2)[0])
    assert indexed in plans.indexes()
    for search in ({"exact": True}, {"metric": "l2"}):
        plans = watched(vectors)
        vectors.search(drawn(1, 2)[0], **search)
        assert indexed not in plans.indexes()
    stats = vectors.stats(SIZE)
    assert not stats.exact
    assert [(index.name, index.metric, index.ready) for index in stats.indexes] == [(indexed, "cosine", True)]


def test_what_one_handle_learned_serves_the_next(vectors: Any, indexed: str) -> None:
    """A handle for each request does not ask for indexes each time."""
    del indexed
    watched(vectors)
    vectors.search(drawn(1, 2)[0])
    backend = vectors._backend
    another = type(backend)(backend._database._database)
    assert SIZE in another._indexes
    assert another._indexes is backend._indexes


def test_recall_with_an_index(vectors: Any, indexed: str) -> None:
    """At least 0.95 of the exact neighbours, and more with more candidates."""
    del indexed
    watched(vectors)
    few = vectors.measure_recall(SIZE, sample=100, ef_search=10)
    usual = vectors.measure_recall(SIZE, sample=100)
    many = vectors.measure_recall(SIZE, sample=100, ef_search=400)
    assert usual.recall >= 0.95
    assert many.recall >= max(0.99, few.recall)


def test_as_many_as_match_are_found_with_an_index(vectors: Any, indexed: str) -> None:
    """However few rows meet the condition: where the index gives up, the scan goes on."""
    del indexed
    watched(vectors)
    query = drawn(1, 3)[0]
    for narrowed, expected in (
        ({"filter": {"n": {"$lt": 1}}}, 1),
        ({"filter": {"n": {"$lt": 30}}}, 30),
        ({"filter": {"n": {"$gte": 100}}}, 100),
        ({"filter": {"n": {"$lt": 50}}, "scope": "a"}, 25),
        ({"filter": {"n": -1}}, 0),
        ({}, 100),
    ):
        found = vectors.search(query, 100, **narrowed)
        assert len(found) == expected
        exact = vectors.search(query, 100, exact=True, **narrowed)
        if expected < 100:
            assert [match.id for match in found] == [match.id for match in exact]
    assert len(vectors.search(query, ROWS + 5)) == ROWS
    hybrid = vectors.hybrid_search("word3", query, 20, filter={"n": {"$lt": 20}})
    assert len(hybrid) == 20


def test_a_pooled_generic_plan_never_misses_the_index(vectors: Any, indexed: str) -> None:
    """The twentieth search is planned with its values like the first."""
    plans = watched(vectors)
    for seed in range(20):
        plans.nodes.clear()
        vectors.search(drawn(1, seed)[0])
        assert indexed in plans.indexes()


def test_writes_reach_the_index(vectors: Any, indexed: str) -> None:
    """What is inserted is found at once, what is deleted never again."""
    plans = watched(vectors)
    query = drawn(1, 99)[0]
    vectors.upsert("new", query)
    assert vectors.search(query)[0].id == "new"
    vectors.delete("new", dimension=SIZE)
    assert "new" not in {match.id for match in vectors.search(query)}
    assert indexed in plans.indexes()


def test_asking_again_finds_nothing_to_do(installation: Installation, indexed: str) -> None:
    """The index stays, for its tenant; a neighbour of the same leaf has none."""
    assert [index.name for index in maintained(installation, "acme").observed.indexes] == [indexed]
    assert maintained(installation, "acme").actions == ()
    assert maintained(installation, "nobody").observed.rows == 0


def test_what_a_broken_build_left_is_cleared(installation: Installation, dsn: str) -> None:
    """A deadline breaks a build off: nothing invalid stays, and the error says so; a leftover is replaced."""
    with connect(dsn) as session:
        session.execute(
            "INSERT INTO llmspell.vector_embeddings_8 (tenant_id, id, embedding) SELECT 'acme', 'v' || n,"
            " ARRAY(SELECT random() - 0.5 + 0 * n FROM generate_series(1, 8))::real[]::public.vector"
            " FROM generate_series(1, 1500) AS n"
        )
    name = vector_indexes.index_name("acme", 8, "cosine")
    with installation.connect(installation.names.maintenance) as other:
        # An older transaction that can see the table: a concurrent build has to wait for it.
        with other.transaction():
            other.execute("LOCK TABLE llmspell.vector_embeddings_8 IN ROW EXCLUSIVE MODE")
            started = time.monotonic()
            with pytest.raises(SqlFailure) as failure:
                maintained(installation, "acme", replace(OPTIONS, deadline_seconds=0.5), 8)
            assert failure.value.sqlstate in {"57014", "55P03"}
            assert time.monotonic() - started < 60
        report = maintained(installation, "acme", dimension=8)
        assert isinstance(report.actions[-1], BuildIndex)
        found = other.execute(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", (f"llmspell.{name}",)
        ).fetchall()
        assert found == [(True,)]
    dropped = maintained(installation, "acme", replace(OPTIONS, method=None), 8)
    assert dropped.actions == (DropIndex(name, "no index is wanted"),)
    assert maintained(installation, "acme", replace(OPTIONS, method=None), 8).observed.indexes == ()


def test_writers_go_on_while_an_index_is_built(installation: Installation, vectors: Any) -> None:
    """No insert waits for the build, or fails."""
    errors: list[Exception] = []
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            try:
                vectors.upsert(f"beside{number % 50}", drawn(1, number)[0])
            except Exception as error:  # noqa: BLE001 - told below
                errors.append(error)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        report = maintained(installation, "acme", replace(OPTIONS, metric="l2"))
    finally:
        done.set()
        writer.join()
    assert [type(action) for action in report.actions] == [BuildIndex]
    assert errors == []
    vectors.delete_many([f"beside{number}" for number in range(50)], dimension=SIZE)
    with installation.connect(installation.names.maintenance) as maintenance:
        name = sql.Identifier(installation.schema, report.actions[0].name)
        maintenance.execute(sql.SQL("DROP INDEX {}").format(name))


def test_half_precision_has_an_index_too(installation: Installation, vectors: Any) -> None:
    """From 2,001 dimensions on the index is of halves, and what is told is compared in single precision."""
    basis = drawn(12, 5, SHORT)
    matrix = (drawn(400, 6, 12) @ basis).astype(np.float32)
    vectors.insert_many([f"v{n}" for n in range(400)], matrix)
    report = maintained(installation, "acme", replace(OPTIONS, exact_scan_threshold=100), SHORT)
    (action,) = report.actions
    plans = watched(vectors)
    query = (drawn(1, 7, 12) @ basis).astype(np.float32)[0]
    found = vectors.search(query)
    assert action.name in plans.indexes()
    rows, wanted = matrix.astype(np.float64), query.astype(np.float64)
    far = 1 - rows @ wanted / (np.linalg.norm(rows, axis=1) * np.linalg.norm(wanted))
    by_id = {f"v{n}": distance for n, distance in enumerate(far.tolist())}
    assert [match.distance for match in found] == pytest.approx(
        [by_id[match.id] for match in found], rel=1e-5, abs=1e-6
    )
    assert vectors.measure_recall(SHORT, sample=50).recall >= 0.95
    assert len(vectors.search(query, 400)) == 400


def told(installation: Installation, parameters: str) -> None:
    """Write what a StorageComponent of vectors says, as the operator does."""
    with installation.connect(installation.names.maintenance) as maintenance:
        maintenance.execute("UPDATE llmspell.components SET parameters = %s WHERE store = 'vectors'", (parameters,))


def candidates(vectors: Any, **search: Any) -> str:
    """Return how many candidates the index keeps in a search."""
    watching = watched(vectors)
    calls: list[tuple[Any, Any]] = []
    run = watching.run
    watching.run = lambda wanted: calls.extend(wanted) or run(wanted)  # type: ignore[method-assign]
    vectors.search(drawn(1, 2)[0], **search)
    return next(str(values["ef_search"]) for query, values in reversed(calls) if query.name == "vectors.tune")


def test_the_cluster_says_how_many_candidates_a_search_keeps(
    installation: Installation, vectors: Any, indexed: str
) -> None:
    """A call's own number goes before the cluster's, and the cluster's before 100; never fewer than twice ``k``."""
    del indexed
    assert candidates(vectors) == "100"
    told(installation, '{"ef_search": 77, "dimensions": {"24": {"exact_scan_threshold": 1234}}}')
    try:
        assert candidates(vectors) == "77"
        assert candidates(vectors, k=60) == "120"
        assert candidates(vectors, ef_search=33) == "33"
        vectors._ef_search = 55
        assert candidates(vectors) == "55"
        assert candidates(vectors, ef_search=33) == "33"
        assert vectors.stats(SIZE).exact_scan_threshold == 1234
        assert vectors.stats(8).exact_scan_threshold == 7_000
    finally:
        vectors._ef_search = None
        told(installation, "{}")


def test_many_vectors_are_searched_among_more_candidates(
    installation: Installation, vectors: Any, indexed: str
) -> None:
    """An index is asked how many vectors it has; what is set by somebody does not grow."""
    count = "UPDATE pg_catalog.pg_class SET reltuples = %s WHERE relname = %s"
    with psycopg.connect(installation.superuser_dsn, autocommit=True) as superuser:
        ((before,),) = superuser.execute("SELECT reltuples FROM pg_class WHERE relname = %s", (indexed,)).fetchall()
        try:
            superuser.execute(count, (100_000, indexed))
            assert candidates(vectors) == "200"
            assert candidates(vectors, ef_search=33) == "33"
            told(installation, '{"ef_search": 77}')
            assert candidates(vectors) == "77"
        finally:
            told(installation, "{}")
            superuser.execute(count, (before, indexed))


def test_the_configuration_says_how_many_candidates_a_search_keeps(installation: Installation, dsn: str) -> None:
    """Where a call says nothing."""
    credentials = Credentials.from_dsn(dsn, tenant_id="acme", schema=installation.schema)
    components = {"vectors": ComponentConfig(options={"hnsw_ef_search": 55})}
    config = StoreConfig(backend="postgres", postgres=PostgresConfig(credentials=credentials), components=components)
    with Store.open(config) as store:
        assert store.for_tenant("acme").vectors._ef_search == 55


@pytest.mark.parametrize("named", [True, False])
def test_an_index_is_built_as_the_configuration_or_the_cluster_says(
    installation: Installation, vectors: Any, dsn: str, named: bool
) -> None:
    """Links and candidates: of the configuration, else of the cluster; and the cluster's threshold and metric."""
    del vectors
    told(
        installation,
        '{"metric": "InnerProduct", "dimensions": {"24": {"m": 5, "ef_construction": 50, "exact_scan_threshold": 100}}}',
    )
    credentials = Credentials.from_dsn(dsn, tenant_id="acme", schema=installation.schema)
    options = {"hnsw_m": 7, "hnsw_ef_construction": 70} if named else {}
    config = StoreConfig(
        backend="postgres",
        postgres=PostgresConfig(credentials=credentials),
        components={"vectors": ComponentConfig(options=options)},
    )
    try:
        with Administration.open(config, url=installation.operator_dsn, schema=installation.schema) as administration:
            planned = administration.vector_index("acme", SIZE)
            report = administration.vector_index("acme", SIZE, dry_run=False)
        assert planned.actions == report.actions
        (action,) = report.actions
        assert isinstance(action, BuildIndex)
        assert (action.metric, action.method) == ("inner_product", "hnsw")
        with installation.connect(installation.names.maintenance) as maintenance:
            (found,) = maintenance.execute(
                "SELECT reloptions FROM pg_class WHERE relname = %s", (action.name,)
            ).fetchall()
            maintenance.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(installation.schema, action.name)))
        assert set(found[0]) == ({"m=7", "ef_construction=70"} if named else {"m=5", "ef_construction=50"})
    finally:
        told(installation, "{}")


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("{}", (None, None)),
        ('{"ef_search": "drop table", "dimensions": []}', (None, None)),
        ('{"ef_search": 1e300, "dimensions": {"24": {"exact_scan_threshold": -1e300}}}', (1000, 0)),
        ('{"ef_search": null, "dimensions": {"24": {"exact_scan_threshold": true}}}', (None, None)),
        ('{"ef_search": 40, "secret": "of another", "dimensions": {"384": {"exact_scan_threshold": 5}}}', (40, None)),
    ],
)
def test_a_tenant_sees_two_numbers_whatever_the_cluster_says(
    installation: Installation, dsn: str, parameters: str, expected: tuple[int | None, int | None]
) -> None:
    """The function answers one row in bounds, the table itself stays closed, and objects of one's own change nothing."""
    told(installation, parameters)
    try:
        with connect(dsn) as session:
            session.execute("SET search_path = pg_temp")
            asked = session.execute("SELECT * FROM llmspell.vector_settings(24)")
            assert asked.fetchall() == [expected]
            assert [column.name for column in asked.description or ()] == ["ef_search", "exact_scan_threshold"]
            for odd in (None, -1, 2**62):
                assert session.execute("SELECT * FROM llmspell.vector_settings(%s)", (odd,)).rowcount == 1
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute("SELECT * FROM llmspell.components")
    finally:
        told(installation, "{}")


def test_searches_go_on_where_the_function_is_not_granted_yet(
    installation: Installation, vectors: Any, indexed: str
) -> None:
    """Between a migration and the operator's grants the defaults hold."""
    del indexed
    role = sql.Identifier(installation.names.store_set(ALL_STORES))
    with installation.connect(installation.names.owner) as owner:
        owner.execute(sql.SQL("REVOKE EXECUTE ON FUNCTION llmspell.vector_settings(bigint) FROM {}").format(role))
    try:
        assert len(vectors.search(drawn(1, 2)[0])) == 10
        assert candidates(vectors) == "100"
        assert vectors.stats(SIZE).vectors == ROWS
    finally:
        grant_stores(installation, installation.names.store_set(ALL_STORES), ["vectors"])
