"""Walks over the graph beside a hand-written recursive CTE over the same rows without row-level security."""

from __future__ import annotations

import random
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg

from benchmarks.pairs import Pair, latency
from benchmarks.results import Result, figure
from benchmarks.storagelib.ground import COMMAND, Ground, compared
from storagelib.components.graph import Entity, NewEntity, NewRelationship, Relationship

_HOPS = 4
_MOST = 1000
_BATCH = 20_000
_DEGREE = 4
_STARTS = 50
_PEER = "hand-written recursive CTE, no row-level security"
_COPY = """
CREATE TABLE bare.entities (LIKE {schema}.entities INCLUDING ALL);
CREATE TABLE bare.relationships (LIKE {schema}.relationships INCLUDING ALL);
INSERT INTO bare.entities SELECT * FROM {schema}.entities WHERE tenant_id = '{tenant}';
INSERT INTO bare.relationships SELECT * FROM {schema}.relationships WHERE tenant_id = '{tenant}'
"""
# The same question: each entity once, by the fewest hops, with its row and that of the relationship, at most so many.
# It asks less than the library: not whether what lies between is seen itself, because here all of it is.
_WALK = """
WITH RECURSIVE walk (id, edge, depth) AS (
    SELECT %b::uuid, NULL::uuid, 0
    UNION
    SELECT r.to_entity, r.relationship_id, w.depth + 1
      FROM walk AS w
      JOIN bare.relationships AS r ON r.tenant_id = %b AND r.from_entity = w.id AND {relationship}
     WHERE w.depth < %b
), nearest AS (
    SELECT DISTINCT ON (id) id, edge, depth FROM walk ORDER BY id, depth, edge
)
SELECT n.depth, {entity_columns}, {relationship_columns}
  FROM nearest AS n
  JOIN bare.entities AS e ON e.tenant_id = %b AND e.entity_id = n.id AND {entity}
  LEFT JOIN bare.relationships AS r ON r.tenant_id = %b AND r.relationship_id = n.edge AND {relationship}
 ORDER BY n.depth, n.id LIMIT %b
"""
_ENTITY = """e.entity_id, e.entity_type, e.name, e.properties, e.valid_time_start, nullif(e.valid_time_end, 'infinity'),
    e.tx_from, e.transaction_time_start, nullif(e.tx_to, 9223372036854775807),
    nullif(e.transaction_time_end, 'infinity'), e.embedding_hash"""
_RELATIONSHIP = """r.relationship_id, r.from_entity, r.to_entity, r.relationship_type, r.properties, r.valid_time_start,
    nullif(r.valid_time_end, 'infinity'), r.tx_from, r.transaction_time_start, nullif(r.tx_to, 9223372036854775807),
    nullif(r.transaction_time_end, 'infinity')"""
_NOW = "{0}.tx_to = 9223372036854775807 AND {0}.valid_time_start <= now() AND {0}.valid_time_end > now()"
_THEN = "{0}.tx_from <= {tx} AND {0}.tx_to > {tx} AND {0}.valid_time_start <= now() AND {0}.valid_time_end > now()"


def measure(ground: Ground) -> list[Result]:
    """Measure walks of up to four hops, now and as of a transaction, and reading one entity as of then."""
    nodes = ground.size(10_000, full=100_000, tiny=200)
    with ground.store() as store, ground.connect() as bare:
        tenant = ground.new_tenant()
        graph = store.for_tenant(tenant).graph
        chance = random.Random(4)
        ids = _fill(graph, nodes, chance)
        then = graph.last_transaction()
        _change(graph, ids, chance)
        _copy(ground, bare, tenant)
        starts = chance.sample(ids, min(_STARTS, len(ids)))
        past = graph.as_of(tx=then)
        size = f"{nodes:,} nodes, {nodes * _DEGREE:,} edges"
        results = []
        for hops in (1, 2, _HOPS):
            pair = _walks(graph, bare, tenant, starts, hops, _walk(_NOW))
            results.append(_ratio(f"graph {hops} hops, {size}", pair))
            if hops == _HOPS:
                results.append(_absolute(f"graph {hops} hops, {size}, p50", pair))
        pair = _walks(past, bare, tenant, starts, _HOPS, _walk(_THEN, tx=then))
        results += [
            _ratio(f"graph {_HOPS} hops as of a transaction, {size}", pair),
            _absolute(f"graph {_HOPS} hops as of a transaction, {size}, p50", pair),
        ]
        visible = _THEN.format("e", tx=then)
        look = f"SELECT {_ENTITY} FROM bare.entities AS e WHERE e.tenant_id = %b AND e.entity_id = %b AND {visible}"

        def peer() -> Any:
            return bare.execute(look.encode(), (tenant, starts[0]), prepare=True, binary=True).fetchone()

        _check_equal(_told(past.get_entity(starts[0])), peer())
        pair = latency(lambda: past.get_entity(starts[0]), peer, calls=500)
        results.append(compared("graph one entity as of a transaction", pair, "the bare prepared SELECT", at_most=1.2))
    return results


def _fill(graph: Any, nodes: int, chance: random.Random) -> list[UUID]:
    """Write nodes and four edges from each; the ends are drawn from all, so that four hops reach hundreds."""
    ids: list[UUID] = []
    for start in range(0, nodes, _BATCH):
        count = min(_BATCH, nodes - start)
        ids += graph.add_entities([NewEntity("thing", f"thing {start + i}", {"n": start + i}) for i in range(count)])
    edges = [
        NewRelationship(each, chance.choice(ids), chance.choice(("knows", "uses")))
        for each in ids
        for _ in range(_DEGREE)
    ]
    for start in range(0, len(edges), _BATCH):
        graph.add_relationships(edges[start : start + _BATCH])
    return ids


def _change(graph: Any, ids: list[UUID], chance: random.Random) -> None:
    """Revise some, so that the past differs from the present."""
    for each in chance.sample(ids, min(100, len(ids) // 10)):
        graph.update_entity(each, properties={"changed": datetime.now(UTC).isoformat()})


def _copy(ground: Ground, bare: psycopg.Connection[Any], tenant: str) -> None:
    bare.execute("CREATE SCHEMA bare")
    for statement in _COPY.format(schema=ground.tenants.installation.schema, tenant=tenant).split(";"):
        bare.execute(statement.encode())
    for table in ("bare.entities", "bare.relationships"):
        bare.execute(f"VACUUM ANALYZE {table}".encode())
    schema = ground.tenants.installation.schema
    for table in ("entities", "relationships"):
        bare.execute(f"VACUUM ANALYZE {schema}.{table}".encode())


def _walk(visible: str, **values: Any) -> bytes:
    return _WALK.format(
        entity=visible.format("e", **values),
        relationship=visible.format("r", **values),
        entity_columns=_ENTITY,
        relationship_columns=_RELATIONSHIP,
    ).encode()


def _walks(
    view: Any, bare: psycopg.Connection[Any], tenant: str, starts: list[UUID], hops: int, statement: bytes
) -> Pair:
    """Walk from each start in turn, the same ones on both sides; both must tell the same of each."""
    # The start is one of the peer's rows.
    most = _MOST + 1

    def peer(start: UUID) -> list[Any]:
        return bare.execute(
            statement, (start, tenant, hops, tenant, tenant, most), prepare=True, binary=True
        ).fetchall()

    nothing = (None,) * len(fields(Relationship))
    for start in starts:
        walked = view.traverse(start, depth=hops, limit=_MOST)
        told = [(each.depth, *_told(each.entity), *_told(each.path[-1])) for each in walked]
        _check_equal([(0, *_told(walked.start), *nothing), *told], peer(start))
    ours, theirs = _round(starts), _round(starts)
    return latency(
        lambda: view.traverse(next(ours), depth=hops, limit=_MOST), lambda: peer(next(theirs)), calls=len(starts) * 2
    )


def _told(version: Entity | Relationship) -> tuple[Any, ...]:
    """Return what a record says, in the order of the peer's columns."""
    return tuple(getattr(version, field.name) for field in fields(version))


def _check_equal(ours: Any, theirs: Any) -> None:
    if ours != theirs:
        raise AssertionError(f"{ours} is not what the hand-written statement returns: {theirs}")


def _round(starts: list[UUID]) -> Any:
    while True:
        yield from starts


def _ratio(name: str, pair: Pair) -> Result:
    return compared(name, pair, _PEER, at_most=1.2)


def _absolute(name: str, pair: Pair) -> Result:
    return figure(name, "ms", pair.ours * 1e3, "< 50 ms", lambda taken: taken < 50, runs=pair.runs, command=COMMAND)
