"""What is done about a tenant's vector index is decided from what was observed, and every name fits."""

from __future__ import annotations

import itertools

import pytest

from storage_sql import vector_indexes
from storage_sql.vector_indexes import BuildIndex, DropIndex, Index, IndexOptions, ObservedVectors

TENANT = "acme"
COSINE = vector_indexes.index_name(TENANT, 384, "cosine")
L2 = vector_indexes.index_name(TENANT, 384, "l2")
LEAF = "vector_embeddings_384_p03"


def planned(observed: ObservedVectors, dimension: int = 384, **options: object) -> list[str]:
    """Return the actions of a plan in words."""
    actions, _ = vector_indexes.plan_index(TENANT, dimension, observed, IndexOptions(**options))  # type: ignore[arg-type]
    return [f"{'build' if isinstance(action, BuildIndex) else 'drop'} {action.name}" for action in actions]


@pytest.mark.parametrize(
    ("rows", "expected"), [(0, []), (7_000, []), (7_001, [f"build {COSINE}"]), (1_000_000, [f"build {COSINE}"])]
)
def test_an_index_is_built_above_the_threshold(rows: int, expected: list[str]) -> None:
    """At the threshold a scan still is as good."""
    assert planned(ObservedVectors(rows, LEAF)) == expected


def test_the_threshold_may_be_chosen() -> None:
    """A component may say from how many rows on there is an index; 0 is from the first row on."""
    assert planned(ObservedVectors(100, LEAF), exact_scan_threshold=99) == [f"build {COSINE}"]
    assert planned(ObservedVectors(1, LEAF), exact_scan_threshold=0) == [f"build {COSINE}"]
    assert planned(ObservedVectors(0, LEAF), exact_scan_threshold=0) == []


def test_a_ready_or_growing_index_is_left_alone() -> None:
    """Nothing is done twice, and a build of another session is not torn down."""
    for index in (Index(COSINE, "hnsw", valid=True), Index(COSINE, "hnsw", valid=False, building=True)):
        assert planned(ObservedVectors(9_000, LEAF, (index,))) == []


def test_what_a_broken_build_left_is_cleared_first() -> None:
    """An invalid index slows every write and serves nobody."""
    broken = Index(COSINE, "hnsw", valid=False)
    assert planned(ObservedVectors(9_000, LEAF, (broken,))) == [f"drop {COSINE}", f"build {COSINE}"]
    assert planned(ObservedVectors(10, LEAF, (broken,))) == [f"drop {COSINE}"]


def test_an_index_goes_when_the_rows_are_gone() -> None:
    """Not at the threshold, where it would come and go, but at half of it."""
    ready = (Index(COSINE, "hnsw", valid=True),)
    assert planned(ObservedVectors(3_500, LEAF, ready)) == []
    assert planned(ObservedVectors(3_499, LEAF, ready)) == [f"drop {COSINE}"]


def test_indexes_of_other_metrics_stay() -> None:
    """An application may search by two metrics; no method at all drops every one."""
    observed = ObservedVectors(9_000, LEAF, (Index(COSINE, "hnsw", valid=True),))
    assert planned(observed, metric="l2") == [f"build {L2}"]
    assert planned(observed, method=None) == [f"drop {COSINE}"]


def test_a_full_leaf_gets_no_more() -> None:
    """Every plan looks at each partial index of the leaf; a note says why there is none."""
    observed = ObservedVectors(9_000, LEAF, (), vector_indexes.LEAF_INDEXES_MAX)
    actions, notes = vector_indexes.plan_index(TENANT, 384, observed, IndexOptions())
    assert actions == ()
    assert "100 indexes" in notes[0]


def test_above_4000_dimensions_there_is_none() -> None:
    """No method indexes them; a missing table is told too."""
    for dimension, observed, note in (
        (4_001, ObservedVectors(9_000, LEAF), "4000"),
        (7, ObservedVectors(0, None), "table"),
    ):
        actions, notes = vector_indexes.plan_index(TENANT, dimension, observed, IndexOptions())
        assert actions == ()
        assert note in notes[0]


def test_acting_on_a_plan_leaves_nothing_to_do() -> None:
    """Whatever is observed, the plan after the plan is empty."""
    for rows, valid, method in itertools.product(
        (0, 3_000, 7_000, 9_000), (None, True, False), ("hnsw", "vchordrq", None)
    ):
        name = vector_indexes.index_name(TENANT, 384, "cosine", method or "hnsw")  # type: ignore[arg-type]
        indexes = () if valid is None else (Index(name, method or "hnsw", valid),)
        observed, options = ObservedVectors(rows, LEAF, indexes), IndexOptions(method=method)  # type: ignore[arg-type]
        actions, _ = vector_indexes.plan_index(TENANT, 384, observed, options)
        gone = {action.name for action in actions if isinstance(action, DropIndex)}
        built = tuple(Index(a.name, a.method, valid=True) for a in actions if isinstance(a, BuildIndex))
        after = ObservedVectors(rows, LEAF, (*(index for index in indexes if index.name not in gone), *built))
        assert vector_indexes.plan_index(TENANT, 384, after, options) == ((), ())


def test_names_fit_and_tell_no_tenant() -> None:
    """At most 63 bytes for any tenant, different for everything that differs."""
    names: list[str] = []
    for tenant, dimension in itertools.product(("acme", "a" * 255, "b" * 255), (1, 16_000)):
        found = vector_indexes.names_of(tenant, dimension)
        assert len(found) == 6
        names += found
    assert len(set(names)) == len(names)
    assert max(len(name) for name in names) <= 63
    assert not any("acme" in name for name in names)


def test_every_value_is_quoted() -> None:
    """Neither a schema nor a tenant can end its quotes."""
    statement = vector_indexes.create_statement(
        'sch"ema',
        "exten sions",
        "acme",
        3072,
        ObservedVectors(9_000, "vector_embeddings_3072_p00"),
        BuildIndex("name", "inner_product", "hnsw"),
        IndexOptions(m=8),
    )
    assert statement == (
        'CREATE INDEX CONCURRENTLY IF NOT EXISTS "name" ON "sch""ema"."vector_embeddings_3072_p00" USING "hnsw"'
        ' ("embedding_half" "exten sions"."halfvec_ip_ops") WITH (m = 8, ef_construction = 256)'
        " WHERE tenant_id = 'acme'"
    )
    for tenant in ("a'; DROP TABLE x; --", "A", ""):
        with pytest.raises(ValueError, match="tenant"):
            next(vector_indexes.maintain_index("llmspell", "public", tenant, 384))


def test_vectorchord_keeps_its_probes_with_the_index() -> None:
    """Lists come from 100,000 rows on."""
    action = BuildIndex("name", "cosine", "vchordrq")
    small, large = (
        vector_indexes.create_statement("s", "e", "acme", 768, ObservedVectors(rows, "leaf"), action, IndexOptions())
        for rows in (99_999, 1_000_000)
    )
    assert "WITH" not in small
    assert "WITH (options = 'build.internal.lists = [2000]', probes = '100')" in large


def test_what_is_left_open_the_cluster_says() -> None:
    """Metric, method, threshold, links and candidates; what a caller gives goes before."""
    said = {
        "metric": "L2",
        "index_method": "vchordrq",
        "dimensions": {"384": {"m": 9, "ef_construction": 99, "exact_scan_threshold": 10}},
    }
    observed = ObservedVectors(11, LEAF, parameters=said)
    actions, _ = vector_indexes.plan_index(TENANT, 384, observed, IndexOptions())
    name = vector_indexes.index_name(TENANT, 384, "l2", "vchordrq")
    assert actions == (BuildIndex(name, "l2", "vchordrq"),)
    found = vector_indexes.settled(IndexOptions(), 384, observed)
    assert (found.m, found.ef_construction, found.exact_scan_threshold) == (9, 99, 10)
    own = IndexOptions(metric="cosine", method="hnsw", exact_scan_threshold=5, m=7)
    assert vector_indexes.settled(own, 384, observed) == own
    assert vector_indexes.settled(IndexOptions(), 768, observed).m is None
    closed = ObservedVectors(10_000, LEAF, parameters={"index_method": None})
    assert vector_indexes.plan_index(TENANT, 384, closed, IndexOptions()) == ((), ())


@pytest.mark.parametrize(
    ("extensions", "said", "expected"),
    [
        ({"vector"}, {}, "hnsw"),
        ({"vector", "vchord"}, {}, "vchordrq"),
        ({"vector", "vchord"}, {"index_method": "hnsw"}, "hnsw"),
        ({"vector", "vchord"}, {"index_method": None}, None),
    ],
)
def test_vectorchord_is_taken_where_it_is_installed(
    extensions: set[str], said: dict[str, object], expected: str | None
) -> None:
    """As the server's extensions say; the cluster may say otherwise, and no method is an answer too."""
    observed = ObservedVectors(10_000, LEAF, parameters=said, extensions=frozenset(extensions))
    assert vector_indexes.settled(IndexOptions(), 384, observed).method == expected
    assert vector_indexes.settled(IndexOptions(method="hnsw"), 384, observed).method == "hnsw"
