"""At 100,000 entities and 200,000 relationships every hot statement of the graph reads what it returns, by its index."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from storage_sql.queries import Query, compile_query, load
from storage_sql.renderer import ident
from storagelib.clocks import LONG_AGO
from tests.plugins.conformance import Tenants
from tests.plugins.explained import plan_of
from tests.plugins.installation import Installation, installation_on
from tests.plugins.tenants import make_tenant

QUERIES = load("graph")
NODES, EDGES = 100_000, 200_000
# Constraints and triggers are left out while the rows go in: what is measured here is reading.
_FILL = """
SET session_replication_role = replica;
INSERT INTO llmspell.tenant_clock (tenant_id, n, at)
SELECT t, 7, '2021-01-01' FROM unnest(ARRAY['{tenant}', '{tenant}-other']) AS t ON CONFLICT DO NOTHING;
INSERT INTO llmspell.entities (tenant_id, entity_id, entity_type, name, properties, valid_time_start,
                               transaction_time_start, transaction_time_end, tx_from, tx_to)
SELECT t, md5('e' || n)::uuid, 'type' || n % 50, 'name ' || n, jsonb_build_object('n', n), '-infinity',
       '2020-01-01'::timestamptz + v * interval '1 day',
       CASE v WHEN 1 THEN '2020-01-03'::timestamptz ELSE 'infinity' END, v, CASE v WHEN 1 THEN 2 ELSE 9223372036854775807 END
  FROM unnest(ARRAY['{tenant}', '{tenant}-other']) AS t, generate_series(1, {nodes}) AS n, generate_series(1, 2) AS v
 WHERE (v = 2 OR n % 10 = 0) AND (t = '{tenant}' OR n % 10 = 0);
INSERT INTO llmspell.relationships (tenant_id, relationship_id, from_entity, to_entity, relationship_type,
                                    valid_time_start, transaction_time_start, tx_from)
SELECT t, md5('r' || n)::uuid, md5('e' || (1 + n % {nodes}))::uuid,
       md5('e' || (1 + (hashint8(n)::bigint & 2147483647) % {nodes}))::uuid,
       'r' || n % 3, '-infinity', '2020-01-03', 2
  FROM unnest(ARRAY['{tenant}', '{tenant}-other']) AS t, generate_series(1, {edges}) AS n
 WHERE t = '{tenant}' OR n % 10 = 0;
INSERT INTO llmspell.graph_transactions (tenant_id, tx, at, actor)
SELECT t, n, '2020-01-01'::timestamptz + n * interval '1 second', 'importer'
  FROM unnest(ARRAY['{tenant}', '{tenant}-other']) AS t, generate_series(1, 10000) AS n;
RESET session_replication_role;
"""
_SMALL = """
SET session_replication_role = replica;
INSERT INTO llmspell.entities (tenant_id, entity_id, entity_type, name, valid_time_start, transaction_time_start, tx_from)
SELECT 'small-' || t, gen_random_uuid(), 'type' || n, 'name ' || n, '-infinity', '2020-01-03', 2
  FROM generate_series(1, {tenants}) AS t, generate_series(1, 3) AS n;
INSERT INTO llmspell.relationships (tenant_id, relationship_id, from_entity, to_entity, relationship_type,
                                    valid_time_start, transaction_time_start, tx_from)
SELECT 'small-' || t, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'r' || n, '-infinity', '2020-01-03', 2
  FROM generate_series(1, {tenants}) AS t, generate_series(1, 3) AS n;
RESET session_replication_role;
"""
# In the order in which they were made. An exclusion constraint comes back as its index, which plans cannot tell from it:
# the constraint would look for each row among all others.
_INDEXES = """
SELECT pg_get_indexdef(i.indexrelid),
       CASE WHEN c.oid IS NULL THEN format('DROP INDEX %s', i.indexrelid::regclass)
            ELSE format('ALTER TABLE %s DROP CONSTRAINT %I', i.indrelid::regclass, c.conname) END,
       i.indisunique OR i.indisexclusion
  FROM pg_index AS i LEFT JOIN pg_constraint AS c ON c.conindid = i.indexrelid
 WHERE i.indrelid IN ('llmspell.entities'::regclass, 'llmspell.relationships'::regclass) ORDER BY i.indexrelid
"""
_PROTECT = (
    "SELECT llmspell.protect_table('llmspell.entities', true), llmspell.protect_table('llmspell.relationships', true)"
)
FIRST = UUID(int=0)
NOW: dict[str, Any] = {"valid": None, "tx": None, "at": None}
COUNTED: dict[str, Any] = {"valid": datetime(2020, 6, 1, tzinfo=UTC), "tx": 2, "at": None}
TIMED: dict[str, Any] = {"valid": datetime(2020, 6, 1, tzinfo=UTC), "tx": None, "at": datetime(2020, 6, 1, tzinfo=UTC)}
KNOWN: list[tuple[dict[str, bool], dict[str, Any]]] = [
    ({"counted": False, "timed": False}, NOW),
    ({"counted": True, "timed": False}, COUNTED),
    ({"counted": False, "timed": True}, TIMED),
]
OUT = {"outward": True, "inward": False, "typed": False}
BOTH = {"outward": True, "inward": True, "typed": True}
ANY_TYPE = ["r0", "r1", "r2"]
A_PLACE = {"type": "r0", "start": LONG_AGO, "id": FIRST, "types": ANY_TYPE}


def subject(kind: str, number: int) -> UUID:
    """Return the id of a row by its number."""
    return UUID(hashlib.md5(f"{kind}{number}".encode(), usedforsecurity=False).hexdigest())


ONE, EDGE = subject("e", 500), subject("r", 500)
# Statement, flags, values, an index that must be used now and as of the past, how many rows its scans may look at.
HOT: list[tuple[str, dict[str, bool], dict[str, Any], tuple[str, str], int]] = [
    ("entity", {"dated": False}, {"subject": ONE}, ("entities_current", "entities_pkey"), 10),
    (
        "entity",
        {"dated": True},
        {"subject": ONE, "valid": TIMED["valid"]},
        ("entities_current", "entities_pkey"),
        10,
    ),
    ("relationship", {"dated": False}, {"subject": EDGE}, ("relationships_current", "relationships_pkey"), 10),
    (
        "relationship",
        {"dated": True},
        {"subject": EDGE, "valid": TIMED["valid"]},
        ("relationships_current", "relationships_pkey"),
        10,
    ),
    ("entities", {}, {"ids": [ONE]}, ("entities_current", "entities_pkey"), 10),
    ("relationships", {}, {"ids": [EDGE]}, ("relationships_current", "relationships_pkey"), 10),
    (
        "neighbours",
        {**OUT, "later": False},
        {"subject": ONE, "most": 101, **A_PLACE},
        ("relationships_current_from", "relationships_from"),
        100,
    ),
    (
        "neighbours",
        {**BOTH, "later": True},
        {"subject": ONE, "most": 101, **A_PLACE},
        ("relationships_current_to", "relationships_to"),
        200,
    ),
    (
        "step",
        {**BOTH, "fanned": False},
        {"ids": [ONE, subject("e", 501)], "types": ANY_TYPE, "fanout": None},
        ("relationships_current_from", "relationships_from"),
        300,
    ),
    (
        "traverse",
        {**OUT, "fanned": False},
        {"begin": ONE, "types": None, "fanout": None, "depth": 4, "most": 1001},
        ("relationships_current_from", "relationships_from"),
        6_000,
    ),
    (
        "traverse",
        {**BOTH, "fanned": True},
        {"begin": ONE, "types": ANY_TYPE, "fanout": 3, "depth": 4, "most": 101},
        ("relationships_current_to", "relationships_to"),
        6_000,
    ),
    (
        "entity_timeline",
        {},
        {"subject": ONE, "past": None, "most": 101},
        ("entities_current", "entities_pkey"),
        10,
    ),
]
SEARCHES: list[tuple[dict[str, bool], dict[str, Any], str, int]] = [
    (
        {"typed": True, "named": False, "prefixed": False, "later": False},
        {"type": "type7"},
        "entities_current_type",
        300,
    ),
    (
        {"typed": False, "named": True, "prefixed": False, "later": False},
        {"name": "name 77"},
        "entities_current_name",
        10,
    ),
    (
        {"typed": False, "named": False, "prefixed": True, "later": False},
        {"prefix": "name 77", "ending": "name 78"},
        "entities_current_name",
        300,
    ),
    (
        {"typed": True, "named": False, "prefixed": False, "later": True},
        {"type": "type7"},
        "entities_current_type",
        300,
    ),
    (
        {"typed": False, "named": True, "prefixed": False, "later": True},
        {"name": "name 77"},
        "entities_current_name",
        10,
    ),
    (
        {"typed": False, "named": False, "prefixed": True, "later": True},
        {"prefix": "name 77", "ending": "name 78", "name_after": "name 77"},
        "entities_current_name",
        300,
    ),
    ({"typed": False, "named": False, "prefixed": False, "later": True}, {}, "entities_current", 300),
    ({"typed": False, "named": False, "prefixed": False, "later": False}, {}, "entities_current", 300),
]
PLAIN: list[tuple[str, dict[str, Any], str, int]] = [
    ("entity_history", {"subject": ONE, "tx": 0, "start": LONG_AGO, "most": 101}, "entities_pkey", 10),
    ("relationship_history", {"subject": EDGE, "tx": 0, "start": LONG_AGO, "most": 101}, "relationships_pkey", 10),
    ("entity_opened", {"tx": 1, "id": ONE, "start": LONG_AGO, "most": 101}, "entities_changes", 300),
    ("relationship_opened", {"tx": 1, "id": ONE, "start": LONG_AGO, "most": 101}, "relationships_changes", 300),
    ("entity_closed", {"tx": 1, "id": ONE, "start": LONG_AGO, "most": 101}, "entities_closed", 300),
    ("relationship_closed", {"tx": 1, "id": ONE, "start": LONG_AGO, "most": 101}, "relationships_closed", 10),
    ("why", {"subject": ONE, "past": 0, "most": 101}, "entities_pkey", 20),
]


@pytest.fixture(scope="module")
def conformance_tenants(superuser_url: str) -> Iterator[Tenants]:
    """Give what makes tenants on a database of this file's own, whose indexes are not always there."""
    with installation_on(superuser_url) as made:
        yield Tenants(made)


@pytest.fixture(scope="module")
def filled(conformance_tenants: Tenants) -> str:
    """Give a tenant with a large graph beside another one with the same; each index is built once, from all rows."""
    tenant = conformance_tenants.new("role")
    fill = _FILL.replace("{tenant}", tenant).replace("{nodes}", str(NODES)).replace("{edges}", str(EDGES))
    with closing(psycopg.connect(conformance_tenants.installation.superuser_dsn, autocommit=True)) as superuser:
        with _without(superuser, superuser.execute(_INDEXES).fetchall()):
            superuser.execute(fill.encode())
        # Without this the planner would know more of what an index computes than it ever does.
        superuser.execute(_PROTECT)
    return tenant


@pytest.fixture(scope="module", params=[0, 3000], ids=["few-tenants", "many-tenants"])
def tenant(request: pytest.FixtureRequest, conformance_tenants: Tenants, filled: str) -> str:
    """Give the tenant with the large graph, alone or among so many small ones that any tenant is expected to be small.

    Among these the newest index is the one that was the oldest: of two that cost the same the planner takes by age, and
    an index that is built again is the newest.
    """
    with closing(psycopg.connect(conformance_tenants.installation.superuser_dsn, autocommit=True)) as superuser:
        if request.param:
            found = superuser.execute(_INDEXES).fetchall()
            with _without(superuser, [index for index in reversed(found) if not index[2]]):
                superuser.execute(_SMALL.replace("{tenants}", str(request.param)).encode())
        superuser.execute("VACUUM ANALYZE")
    return filled


@contextmanager
def _without(superuser: psycopg.Connection[Any], indexes: list[tuple[Any, ...]]) -> Iterator[None]:
    """Take indexes away, and build them again in their order."""
    for _, taking, _ in indexes:
        superuser.execute(taking)
    yield
    superuser.execute("SET maintenance_work_mem = '256MB'")
    for making, _, _ in indexes:
        superuser.execute(making)


@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize("known", [0, 1, 2], ids=["current", "by-counter", "by-time"])
@pytest.mark.parametrize("case", HOT, ids=[f"{case[0]}-{number}" for number, case in enumerate(HOT)])
def test_views_use_their_indexes(
    connection: psycopg.Connection[Any], tenant: str, case: tuple[Any, ...], known: int, generic: bool
) -> None:
    """The partial indexes now, the others in the past; never a whole table, whatever the planner knows."""
    name, marks, values, indexes, most = case
    flags, point = KNOWN[known]
    asked = {"tenant": tenant, **point, **values}
    plan = plan_of(connection, "llmspell", QUERIES[name].variant(**flags, **marks), generic=generic, **asked)
    assert indexes[known > 0] in plan.indexes(), plan.root
    assert plan.scanned() <= {"tenant_clock"}, plan.root
    assert plan.rows() <= most, (plan.rows(), plan.root)


@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize("case", SEARCHES, ids=range(len(SEARCHES)))
def test_searches_use_their_indexes(
    connection: psycopg.Connection[Any], tenant: str, case: tuple[Any, ...], generic: bool
) -> None:
    """By type, name, prefix and id, a page is read and no more."""
    marks, values, index, most = case
    asked = {
        "tenant": tenant,
        **NOW,
        "type": None,
        "name": None,
        "prefix": None,
        "ending": None,
        "name_after": None,
        "id": FIRST,
        "most": 101,
    }
    query = QUERIES["search"].variant(counted=False, timed=False, **marks)
    plan = plan_of(connection, "llmspell", query, generic=generic, **{**asked, **values})
    assert index in plan.indexes(), plan.root
    assert plan.scanned() <= {"tenant_clock"}, plan.root
    assert plan.rows() <= most, (plan.rows(), plan.root)


@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize("case", PLAIN, ids=lambda case: str(case[0]))
def test_looking_back_uses_its_indexes(
    connection: psycopg.Connection[Any], tenant: str, case: tuple[Any, ...], generic: bool
) -> None:
    """History, changes and provenance read their own rows."""
    name, values, index, most = case
    plan = plan_of(connection, "llmspell", QUERIES[name], generic=generic, tenant=tenant, **values)
    assert index in plan.indexes(), plan.root
    assert plan.scanned() <= {"tenant_clock"}, plan.root
    assert plan.rows() <= most, (plan.rows(), plan.root)


@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize(
    ("kind", "table", "key"), [("entity", "entities", ONE), ("relationship", "relationships", EDGE)]
)
def test_large_documents_are_read_by_the_keys_of_their_versions(
    connection: psycopg.Connection[Any], tenant: str, kind: str, table: str, key: UUID, generic: bool
) -> None:
    """By the primary key, or by the index of changes, which begins with tenant, transaction and id."""
    values = {"tenant": tenant, "ids": [key], "txs": [2], "starts": ["-infinity"]}
    plan = plan_of(connection, "llmspell", QUERIES[f"{kind}_documents"], generic=generic, **values)
    assert plan.indexes() & {f"{table}_pkey", f"{table}_changes"}, plan.root
    assert not plan.scanned(), plan.root
    assert 0 < plan.rows() <= 10, (plan.rows(), plan.root)


@pytest.mark.parametrize("statistics", ["none", "analyzed", "analyzed-again"])
@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize("nodes", [0, 10, 1000])
def test_no_size_makes_the_constraint_an_index_to_read_by(
    installation: Installation, nodes: int, generic: bool, statistics: str
) -> None:
    """Where all rows are few every plan costs alike: even then what keeps versions apart is left alone."""
    tenant = f"sized-{nodes}-{generic}-{statistics}".lower()
    dsn = make_tenant(installation, tenant)
    with closing(psycopg.connect(installation.superuser_dsn, autocommit=True)) as superuser:
        fill = _FILL.replace("{tenant}", tenant).replace("{nodes}", str(nodes)).replace("{edges}", str(2 * nodes))
        superuser.execute(fill.encode() if nodes else b"SELECT")
        for _ in range(["none", "analyzed", "analyzed-again"].index(statistics)):
            superuser.execute("ANALYZE")
    with closing(psycopg.connect(dsn)) as connection:
        for name, marks, values, _, _ in HOT:
            query = QUERIES[name].variant(counted=False, timed=False, **marks)
            plan = plan_of(connection, "llmspell", query, generic=generic, **{"tenant": tenant, **NOW, **values})
            assert not any(index.endswith("_one_current_version") for index in plan.indexes()), plan.root


@pytest.mark.parametrize("known", [0, 1, 2], ids=["current", "by-counter", "by-time"])
@pytest.mark.parametrize("case", HOT, ids=[f"{case[0]}-{number}" for number, case in enumerate(HOT)])
def test_no_statement_is_planned_with_each_call(
    connection: psycopg.Connection[Any], tenant: str, case: tuple[Any, ...], known: int
) -> None:
    """After five calls the server keeps a plan: it does not know the length of a list, which would make it doubt."""
    name, marks, values, _, _ = case
    flags, point = KNOWN[known]
    assert _kept(connection, QUERIES[name].variant(**flags, **marks), {"tenant": tenant, **point, **values})


def test_a_plan_made_with_each_call_is_told(connection: psycopg.Connection[Any], tenant: str) -> None:
    """A list whose length the server knows makes it plan anew."""
    query = QUERIES["entities"].variant(counted=False, timed=False)
    known = replace(query, text=query.text.replace("unnest((SELECT :ids))", "unnest(:ids)"))
    assert known.text != query.text
    assert not _kept(connection, known, {"tenant": tenant, **NOW, "ids": [ONE]})


def _kept(connection: psycopg.Connection[Any], query: Query, values: dict[str, Any]) -> bool:
    """Call a prepared statement often enough for the server to choose, and tell whether it has kept a plan."""
    compiled = compile_query(query, {"schema": ident("llmspell"), "extensions": ident("public")})
    types = ", ".join(kind for _, kind in compiled.parameters)
    literals = sql.SQL(", ").join(sql.Literal(values[name]) for name, _ in compiled.parameters)
    connection.execute(f"PREPARE called ({types}) AS {compiled.text}".encode(), prepare=False)
    for _ in range(8):
        connection.execute(sql.SQL("EXECUTE called ({})").format(literals), prepare=False)
    found = connection.execute("SELECT generic_plans FROM pg_prepared_statements WHERE name = 'called'").fetchall()
    connection.rollback()
    connection.execute("DEALLOCATE called")
    connection.rollback()
    return bool(found[0][0])


def test_the_measure_can_fail(connection: psycopg.Connection[Any], tenant: str) -> None:
    """A statement that reads everything is told as one that does."""
    values = {"tx": 1, "id": FIRST, "start": LONG_AGO, "most": EDGES}
    plan = plan_of(connection, "llmspell", QUERIES["relationship_opened"], tenant=tenant, **values)
    assert plan.rows() >= EDGES
