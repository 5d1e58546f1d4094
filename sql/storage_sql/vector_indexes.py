"""Indexes on one tenant's vectors: what there is, what should be, and building it beside running traffic.

A tenant's vectors of one dimension stand in one hash leaf. Up to a threshold an exact scan over the primary key is as fast
as an index and finds everything; above it a partial index of the tenant alone is built on the leaf. The procedures here run
with the maintenance role, which owns the tables and sees all rows. They never change a row.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from storage_sql.effects import Effect, Query, Rows, Sleep, SqlFailure
from storage_sql.renderer import ident, literal, render
from storage_sql.roles import TENANT_PATTERN
from storage_sql.stores import DIMENSION_MAX

__all__ = [
    "METHODS",
    "METRICS",
    "BuildIndex",
    "DropIndex",
    "Index",
    "IndexAction",
    "IndexOptions",
    "IndexReport",
    "Method",
    "Metric",
    "ObservedVectors",
    "create_statement",
    "default_build",
    "default_ef_search",
    "exact_scan_threshold",
    "index_name",
    "maintain_index",
    "names_of",
    "observe",
    "plan_index",
    "settled",
]

Metric = Literal["cosine", "l2", "inner_product"]
Method = Literal["hnsw", "vchordrq"]
METRICS: Final[tuple[Metric, ...]] = ("cosine", "l2", "inner_product")
METHODS: Final[tuple[Method, ...]] = ("hnsw", "vchordrq")

LEAF_INDEXES_MAX: Final = 100
"""Partial indexes on one leaf: every plan of a query on the leaf looks at each of them."""

_EF_SEARCH_USUAL: Final = 100
# pgvector's own bound.
_EF_SEARCH_MAX: Final = 1_000
_USUAL_VECTORS: Final = 10_000
_HALF_FROM: Final = 2_001
_INDEXED_TO: Final = 4_000
_THRESHOLDS: Final = ((384, 7_000), (768, 5_000), (1536, 4_000), (3072, 3_000))
_BUILDS: Final = ((384, 16, 64), (768, 16, 128), (DIMENSION_MAX, 24, 256))
# vchordrq without lists scans its quantized vectors; from here on lists pay.
_LISTS_FROM: Final = 100_000
_ROWS_A_LIST: Final = 500
_RETRIED: Final = frozenset({"55P03", "40P01", "57014"})
_SPELLED: Final[dict[str, Metric]] = {"Cosine": "cosine", "L2": "l2", "InnerProduct": "inner_product"}
_OPERATOR_CLASSES: Final[dict[Metric, str]] = {"cosine": "cosine_ops", "l2": "l2_ops", "inner_product": "ip_ops"}


@dataclass(frozen=True, slots=True)
class Index:
    """One index of a tenant, found by its name."""

    name: str
    method: str
    valid: bool
    """Whether it may be used: False for what a build that was broken off left behind, or one that is going on."""
    building: bool = False
    """Whether a session is building it now."""


@dataclass(frozen=True, slots=True)
class ObservedVectors:
    """What there is of one tenant and dimension."""

    rows: int
    leaf: str | None
    """Name of the leaf that the tenant's rows are in; None when the dimension has no table."""
    indexes: tuple[Index, ...] = ()
    leaf_indexes: int = 0
    """Partial indexes of all tenants on the leaf."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """What the cluster's StorageComponent of vectors says."""
    extensions: frozenset[str] = frozenset()
    """The extensions that are installed."""


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """What index is wanted and how patiently it is built. None takes what the cluster says, else the dimension's default."""

    metric: Metric | None = None
    """None takes the cluster's, or cosine."""
    method: Method | Literal["auto"] | None = "auto"
    """``auto`` takes the cluster's, else VectorChord's ``vchordrq`` where that extension is installed, else ``hnsw``; None
    wants no index at all."""
    exact_scan_threshold: int | None = None
    """From how many rows on there is one."""
    m: int | None = None
    ef_construction: int | None = None
    lock_timeout_seconds: float = 60.0
    """How long one wait may take, for a lock or for older transactions; nobody else waits behind it."""
    deadline_seconds: float = 3600.0
    """A build that takes longer is broken off and cleared away; it also waits for older transactions of other tenants."""
    attempts: int = 5
    pause_seconds: float = 2.0
    memory_megabytes: int | None = None
    """``maintenance_work_mem`` of the build; a graph that does not fit is built far more slowly."""


@dataclass(frozen=True, slots=True)
class BuildIndex:
    """Build this index."""

    name: str
    metric: Metric
    method: Method


@dataclass(frozen=True, slots=True)
class DropIndex:
    """Drop this index; ``why`` says what is wrong with it."""

    name: str
    why: str


IndexAction = BuildIndex | DropIndex


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What was found, what was done, and why nothing was."""

    observed: ObservedVectors
    actions: tuple[IndexAction, ...] = ()
    notes: tuple[str, ...] = field(default=())


def exact_scan_threshold(dimension: int) -> int:
    """Return from how many rows of a tenant on an index is worth building: what a scan of about 5 ms reads.

    >>> exact_scan_threshold(384), exact_scan_threshold(576), exact_scan_threshold(9_000)
    (7000, 6000, 3000)
    """
    below = _THRESHOLDS[0]
    for above in _THRESHOLDS:
        if dimension <= above[0]:
            share = 1.0 if above == below else (dimension - below[0]) / (above[0] - below[0])
            return round(below[1] + share * (above[1] - below[1]))
        below = above
    return below[1]


def default_ef_search(vectors: float) -> int:
    """Return how many candidates a search of an index of so many vectors keeps, where nobody says.

    100 find 99 of 100 true neighbours among 10,000 vectors; among ten times as many it takes twice the candidates.

    >>> [default_ef_search(count) for count in (0, 10_000, 100_000, 1_000_000, 1e12)]
    [100, 100, 200, 400, 1000]
    """
    tens = math.log10(max(vectors, _USUAL_VECTORS) / _USUAL_VECTORS)
    return min(round(_EF_SEARCH_USUAL * math.exp2(tens)), _EF_SEARCH_MAX)


def default_build(dimension: int) -> tuple[int, int]:
    """Return ``m`` and ``ef_construction`` of an HNSW index.

    >>> default_build(384), default_build(768), default_build(1536)
    ((16, 64), (16, 128), (24, 256))
    """
    return next((m, construction) for most, m, construction in _BUILDS if dimension <= most)


def index_name(tenant: str, dimension: int, metric: Metric, method: Method = "hnsw") -> str:
    """Return the name of a tenant's index, at most 63 bytes: the catalogs are readable, so it tells no tenant.

    >>> index_name("acme", 768, "cosine")
    'vector_768_hnsw_cosine_38e5b3fb3cc4574b7415dfb9'
    """
    digest = hashlib.sha256(f"vector index of {tenant}".encode()).hexdigest()[:24]
    return f"vector_{dimension}_{method}_{metric}_{digest}"


def names_of(tenant: str, dimension: int) -> dict[str, tuple[Metric, Method]]:
    """Return every name that an index of this tenant and dimension may have, with what it says."""
    return {index_name(tenant, dimension, metric, method): (metric, method) for metric in METRICS for method in METHODS}


def plan_index(
    tenant: str, dimension: int, observed: ObservedVectors, options: IndexOptions
) -> tuple[tuple[IndexAction, ...], tuple[str, ...]]:
    """Return what to do, in order, and notes on why something is not done; nothing is asked or changed here."""
    actions: list[IndexAction] = [
        DropIndex(index.name, "its build was broken off")
        for index in observed.indexes
        if not index.valid and not index.building
    ]
    chosen = settled(options, dimension, observed)
    metric, method, threshold = chosen.metric or "cosine", chosen.method, chosen.exact_scan_threshold
    if threshold is None:
        threshold = exact_scan_threshold(dimension)
    good = {index.name for index in observed.indexes if index.valid or index.building}
    wanted = None if method is None or method == "auto" else index_name(tenant, dimension, metric, method)
    if observed.leaf is None:
        return (), (f"there is no table of {dimension} dimensions",)
    if wanted is None:
        return (*actions, *(DropIndex(name, "no index is wanted") for name in sorted(good))), ()
    if dimension > _INDEXED_TO:
        return tuple(actions), (f"no method indexes more than {_INDEXED_TO} dimensions: searches stay exact",)
    if wanted in good:
        # Kept down to half of the threshold, so that a tenant at the threshold does not build and drop in turns.
        if observed.rows * 2 < threshold:
            actions.append(DropIndex(wanted, f"{observed.rows} rows are scanned faster"))
        return tuple(actions), ()
    if observed.rows <= threshold:
        return tuple(actions), ()
    if observed.leaf_indexes - len([a for a in actions if isinstance(a, DropIndex)]) >= LEAF_INDEXES_MAX:
        return tuple(actions), (
            f"leaf {observed.leaf} has {observed.leaf_indexes} indexes already: searches stay exact",
        )
    assert method is not None and method != "auto"  # noqa: S101, PT018 - there is a wanted name
    return (*actions, BuildIndex(wanted, metric, method)), ()


def settled(options: IndexOptions, dimension: int, observed: ObservedVectors) -> IndexOptions:
    """Return options in which the cluster, and the extensions that it has, have answered what was left open.

    >>> settled(IndexOptions(), 384, ObservedVectors(0, None, extensions=frozenset({"vector", "vchord"}))).method
    'vchordrq'
    """
    said = observed.parameters
    own = said.get("dimensions", {}).get(str(dimension), {})
    method = options.method
    if method == "auto":
        usual: Method = "vchordrq" if "vchord" in observed.extensions else "hnsw"
        method = said.get("index_method", usual)
    return replace(
        options,
        metric=options.metric or _SPELLED.get(said.get("metric", ""), "cosine"),
        method=method,
        exact_scan_threshold=_first(options.exact_scan_threshold, own.get("exact_scan_threshold")),
        m=_first(options.m, own.get("m")),
        ef_construction=_first(options.ef_construction, own.get("ef_construction") if options.m is None else None),
    )


def maintain_index(
    schema: str, extensions: str, tenant: str, dimension: int, options: IndexOptions | None = None
) -> Generator[Effect, Rows, IndexReport]:
    """Observe, plan and act for one tenant and dimension; asking again finds nothing to do.

    Runs outside any transaction, under the maintenance role. The index is built CONCURRENTLY: writers go on. A build that
    fails or passes its deadline leaves no invalid index behind, and its error is raised.
    """
    if not TENANT_PATTERN.fullmatch(tenant):
        raise ValueError("the tenant must be 3 to 255 of a-z, 0-9 and -")
    if not 1 <= dimension <= DIMENSION_MAX:
        raise ValueError(f"the dimension must be from 1 to {DIMENSION_MAX}")
    observed = yield from observe(schema, tenant, dimension)
    chosen = settled(options or IndexOptions(), dimension, observed)
    actions, notes = plan_index(tenant, dimension, observed, chosen)
    for action in actions:
        if isinstance(action, DropIndex):
            yield from _retried(_drop(schema, action.name), chosen)
        else:
            yield from _build(schema, extensions, tenant, dimension, observed, action, chosen)
    return IndexReport(observed, actions, notes)


def observe(schema: str, tenant: str, dimension: int) -> Generator[Effect, Rows, ObservedVectors]:
    """Read how many rows the tenant has, where they are, and which indexes there are."""
    table = f"vector_embeddings_{dimension}"
    found = yield Query(
        """SELECT leaf.relname, (SELECT count(*) FROM pg_catalog.pg_index AS i
                           WHERE i.indrelid = leaf.oid AND i.indpred IS NOT NULL AND EXISTS (
                               SELECT FROM pg_catalog.pg_class AS c WHERE c.oid = i.indexrelid
                                  AND c.relname ~ '^vector_[0-9]+_(hnsw|vchordrq)_'))
             FROM pg_catalog.pg_class AS parent
             JOIN pg_catalog.pg_namespace AS n ON n.oid = parent.relnamespace AND n.nspname = %s
             JOIN pg_catalog.pg_inherits AS h ON h.inhparent = parent.oid
             JOIN pg_catalog.pg_class AS leaf ON leaf.oid = h.inhrelid
            WHERE parent.relname = %s AND parent.relkind = 'p' AND satisfies_hash_partition(
                parent.oid, (SELECT count(*)::integer FROM pg_catalog.pg_inherits WHERE inhparent = parent.oid),
                substring(pg_catalog.pg_get_expr(leaf.relpartbound, leaf.oid) FROM 'remainder ([0-9]+)')::integer,
                %s::text)""",
        (schema, table, tenant),
    )
    if not found:
        return ObservedVectors(0, None)
    ((leaf, leaf_indexes),) = found
    count = render(
        "SELECT count(*) FROM {{ schema }}.{{ table }} WHERE tenant_id = {{ tenant }}",
        schema=ident(schema),
        table=ident(table),
        tenant=literal(tenant),
    )
    ((rows,),) = yield Query(count)
    told = render("SELECT parameters::text FROM {{ schema }}.components WHERE store = 'vectors'", schema=ident(schema))
    parameters = yield Query(told)
    installed = yield Query("SELECT extname FROM pg_catalog.pg_extension")
    indexes = yield Query(
        """SELECT c.relname, m.amname, i.indisvalid AND i.indisready,
                  EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index AS p WHERE p.index_relid = c.oid)
             FROM pg_catalog.pg_class AS c
             JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = %s
             JOIN pg_catalog.pg_index AS i ON i.indexrelid = c.oid
             JOIN pg_catalog.pg_am AS m ON m.oid = c.relam
            WHERE c.relname = ANY (%s) ORDER BY 1""",
        (schema, sorted(names_of(tenant, dimension))),
    )
    return ObservedVectors(
        int(rows),
        str(leaf),
        tuple(Index(*row) for row in indexes),
        int(leaf_indexes),
        json.loads(parameters[0][0]) if parameters else {},
        frozenset(name for (name,) in installed),
    )


def create_statement(
    schema: str,
    extensions: str,
    tenant: str,
    dimension: int,
    observed: ObservedVectors,
    action: BuildIndex,
    options: IndexOptions,
) -> str:
    """Return the statement that builds an index."""
    m, construction = default_build(dimension)
    half = dimension >= _HALF_FROM
    template = (
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS {{ name }} ON {{ schema }}.{{ leaf }} USING {{ method }}"
        " ({{ column }} {{ extensions }}.{{ operators }})"
        "{% if hnsw %} WITH (m = {{ m }}, ef_construction = {{ construction }}){% endif %}"
        "{% if lists %} WITH (options = {{ lists_options }}, probes = {{ probes }}){% endif %}"
        " WHERE tenant_id = {{ tenant }}"
    )
    lists = max(1, observed.rows // _ROWS_A_LIST) if observed.rows >= _LISTS_FROM else 0
    return render(
        template,
        name=ident(action.name),
        schema=ident(schema),
        leaf=ident(observed.leaf),
        method=ident(action.method),
        column=ident("embedding_half" if half else "embedding"),
        extensions=ident(extensions),
        operators=ident(f"{'halfvec' if half else 'vector'}_{_OPERATOR_CLASSES[action.metric]}"),
        hnsw=action.method == "hnsw",
        m=literal(options.m or m),
        construction=literal(options.ef_construction or max(construction, 2 * (options.m or m))),
        lists=action.method == "vchordrq" and lists > 0,
        lists_options=literal(f"build.internal.lists = [{lists}]"),
        # Kept with the index: as a setting it would have to fit every index that a session touches.
        probes=literal(str(max(10, lists // 20))),
        tenant=literal(tenant),
    )


def _first(given: int | None, said: int | None) -> int | None:
    return said if given is None else given


def _build(
    schema: str,
    extensions: str,
    tenant: str,
    dimension: int,
    observed: ObservedVectors,
    action: BuildIndex,
    options: IndexOptions,
) -> Generator[Effect, Rows, None]:
    statement = create_statement(schema, extensions, tenant, dimension, observed, action, options)
    for attempt in range(1, options.attempts + 1):
        try:
            yield from _patiently(statement, options)
        except SqlFailure as failure:
            # What was begun is in the way of the next attempt, and slows every write.
            yield from _retried(_drop(schema, action.name), options)
            if failure.sqlstate not in _RETRIED or failure.sqlstate == "57014" or attempt == options.attempts:
                raise
            yield Sleep(options.pause_seconds * attempt)
        else:
            return


def _retried(statement: str, options: IndexOptions) -> Generator[Effect, Rows, None]:
    for attempt in range(1, options.attempts + 1):
        try:
            yield from _patiently(statement, options)
        except SqlFailure as failure:
            if failure.sqlstate not in _RETRIED or attempt == options.attempts:
                raise
            yield Sleep(options.pause_seconds * attempt)
        else:
            return


def _patiently(statement: str, options: IndexOptions) -> Generator[Effect, Rows, None]:
    settings = {
        "lock_timeout": f"{round(options.lock_timeout_seconds * 1000)}ms",
        "statement_timeout": f"{round(options.deadline_seconds * 1000)}ms",
    }
    if options.memory_megabytes is not None:
        settings["maintenance_work_mem"] = f"{options.memory_megabytes}MB"
    for name, value in settings.items():
        yield Query(f"SET {name} = {literal(value)}")
    try:
        yield Query(statement)
    finally:
        for name in settings:
            yield Query(f"RESET {name}")


def _drop(schema: str, name: str) -> str:
    return render("DROP INDEX CONCURRENTLY IF EXISTS {{ schema }}.{{ name }}", schema=ident(schema), name=ident(name))
