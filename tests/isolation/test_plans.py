"""Plans: isolation that is paid once a statement, and predicates that still reach indexes and prune partitions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from tests.isolation.tenants import provision, row_of
from tests.plugins.installation import Installation

TENANT = "planned-corp"
# Types whose comparison operators are leakproof: an index on anything else is not used under row-level security.
LEAKPROOF_ALIKE = {"text", "uuid", "bigint", "integer", "boolean", "timestamp with time zone", "bytea"}
POINT_READS = {
    "kv": "kv_store WHERE tenant_id = %s AND key = 'k500'",
    "vector": "vector_embeddings_384 WHERE tenant_id = %s AND id = 'k500'",
    "session": "sessions WHERE tenant_id = %s AND session_id = 'k500'",
    "agent state": "agent_states WHERE tenant_id = %s AND agent_id = 'k500'",
    "workflow": "workflow_states WHERE tenant_id = %s AND workflow_id = 'k500'",
    "artifact": "artifacts WHERE tenant_id = %s AND artifact_id = 'k500'",
    "entity": "entities WHERE tenant_id = %s AND entity_id = '00000000-0000-0000-0000-000000000001' AND tx_to = 9223372036854775807",
    "stream head": "event_streams WHERE tenant_id = %s AND stream = 'k500'",
}
_FILL = """
INSERT INTO llmspell.kv_store (tenant_id, key, value) SELECT t, 'k' || n, 'x' FROM {rows};
INSERT INTO llmspell.vector_embeddings_384 (tenant_id, id, embedding)
    SELECT t, 'k' || n, array_fill(0, ARRAY[384])::vector FROM {rows};
INSERT INTO llmspell.sessions (tenant_id, session_id, session_data) SELECT t, 'k' || n, '{}' FROM {rows};
INSERT INTO llmspell.agent_states (tenant_id, agent_id, agent_type, state_data, checksum)
    SELECT t, 'k' || n, 'x', '{}', repeat('0', 64) FROM {rows};
INSERT INTO llmspell.workflow_states (tenant_id, workflow_id, state_data) SELECT t, 'k' || n, '{}' FROM {rows};
INSERT INTO llmspell.event_streams (tenant_id, stream) SELECT t, 'k' || n FROM {rows};
INSERT INTO llmspell.artifact_content (tenant_id, content_hash, storage_type, data, size_bytes, original_size_bytes)
    SELECT DISTINCT t, repeat('a', 64), 'inline', 'x'::bytea, 1, 1 FROM {rows};
INSERT INTO llmspell.artifacts (tenant_id, artifact_id, session_id, sequence, content_hash, name, artifact_type,
    mime_type, size_bytes) SELECT t, 'k' || n, 's', n, repeat('a', 64), 'n' || n, 't', 'm', 1 FROM {rows};
INSERT INTO llmspell.event_log (tenant_id, event_id, event_type, correlation_id, stream, sequence, position, timestamp,
    occurred_at, language, payload) SELECT t, gen_random_uuid(), 'x', 'c', 's' || n % 9, n, n, now(), now(), '', '{}' FROM {rows};
INSERT INTO llmspell.entities (tenant_id, entity_id, entity_type, name, valid_time_start, transaction_time_start, tx_from)
    SELECT t, gen_random_uuid(), 'x', 'n' || n, now(), now(), n FROM {rows};
"""


@pytest.fixture(scope="module")
def session(installation: Installation) -> Iterator[psycopg.Connection[Any]]:
    """Give a tenant's session over tables that hold enough rows of many tenants for an index to pay."""
    (tenant,) = provision(installation, [row_of(TENANT)])
    rows = f"unnest(ARRAY['{TENANT}', 'other-1', 'other-2', 'other-3']) AS t, generate_series(1, 600) AS n"
    with closing(installation.connect(installation.names.maintenance)) as maintenance:
        maintenance.execute("SET search_path = llmspell, public")
        maintenance.execute(_FILL.replace("{rows}", rows).encode())
    with closing(installation.database.connect()) as superuser:
        superuser.execute("ANALYZE")
    with closing(tenant.connect()) as opened:
        yield opened


def _plan(session: psycopg.Connection[Any], statement: str, *values: Any) -> dict[str, Any]:
    row = session.execute(f"EXPLAIN (ANALYZE, VERBOSE, FORMAT JSON) {statement}".encode(), values).fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _nodes(child))]


@pytest.mark.parametrize("name", list(POINT_READS))
def test_point_reads_use_the_primary_key(session: psycopg.Connection[Any], name: str) -> None:
    """A read by key asks one index, the primary key's or one of current versions, with both parts of the key in the index condition."""
    nodes = _nodes(_plan(session, f"SELECT * FROM llmspell.{POINT_READS[name]}", TENANT))
    (asked,) = [node for node in nodes if "Index Name" in node]
    assert asked["Index Name"].endswith(("_pkey", "entities_current", "entities_one_current_version"))
    assert asked["Index Cond"].count(" = ") >= 2
    assert not any(node["Node Type"] == "Seq Scan" for node in nodes)


@pytest.mark.parametrize("name", list(POINT_READS))
def test_the_policy_is_asked_once(session: psycopg.Connection[Any], name: str) -> None:
    """The policy is an init plan that runs once, and with the tenant predicate a one-time filter beside the rows."""
    table = POINT_READS[name].partition(" ")[0]
    plan = _plan(session, f"SELECT * FROM llmspell.{table} WHERE tenant_id = %s", TENANT)
    asked = [node for node in _nodes(plan) if node.get("Parent Relationship") == "InitPlan"]
    assert [node["Actual Loops"] for node in asked] == [1]
    assert any("current_tenant()" in str(node.get("Output")) for node in asked)
    assert any("InitPlan" in str(node.get("One-Time Filter")) for node in _nodes(plan))


def _relations(plan: dict[str, Any]) -> set[str]:
    return {node["Relation Name"] for node in _nodes(plan) if "Relation Name" in node}


def test_the_tenant_predicate_prunes_leaves(session: psycopg.Connection[Any]) -> None:
    """With the predicate one of the 32 hash leaves is planned; the policy alone prunes only when it runs."""
    predicate = _plan(session, "SELECT id FROM llmspell.vector_embeddings_384 WHERE tenant_id = %s", TENANT)
    assert len(_relations(predicate)) == 1
    scanned = [
        node
        for node in _nodes(_plan(session, "SELECT id FROM llmspell.vector_embeddings_384"))
        if "Relation Name" in node and node["Actual Loops"] > 0
    ]
    assert len(scanned) == 1


def test_reading_from_a_position_prunes_time(session: psycopg.Connection[Any]) -> None:
    """A time bound leaves only the partitions from that time on."""
    statement = "SELECT 1 FROM llmspell.event_log WHERE tenant_id = %s AND timestamp >= {} AND position > 1"
    every = _relations(_plan(session, statement.format("'2000-01-01'"), TENANT))
    later = _relations(_plan(session, statement.format("now() + interval '70 days'"), TENANT))
    assert len(later) < len(every)


# Without statistics but those of tenant_id: reads that begin with a key's prefix, and the exact search of vectors.
PREFIX_READS = {
    "event position": ("event_log WHERE tenant_id = %s AND position > 500 ORDER BY position LIMIT 50", "position"),
    "event stream": ("event_log WHERE tenant_id = %s AND stream = 's1' AND sequence > 5 ORDER BY sequence", "stream"),
    "keys by prefix": ("kv_store WHERE tenant_id = %s AND key ^@ 'k59' ORDER BY key", "kv_store_pkey"),
    "session status": ("sessions WHERE tenant_id = %s AND status = 'archived'", "sessions_status"),
    "entity by name": (
        "entities WHERE tenant_id = %s AND name = 'n17' AND tx_to = 9223372036854775807",
        "current_name",
    ),
}


@pytest.mark.parametrize("name", list(PREFIX_READS))
def test_reads_by_a_prefix_use_its_index(session: psycopg.Connection[Any], name: str) -> None:
    """The tenants' share alone leads to the index whose columns the read names."""
    statement, index = PREFIX_READS[name]
    nodes = _nodes(_plan(session, f"SELECT * FROM llmspell.{statement}", TENANT))
    assert any(index in node.get("Index Name", "") for node in nodes)


def test_an_exact_search_reads_one_tenants_leaf(session: psycopg.Connection[Any]) -> None:
    """All of a tenant's vectors are compared and sorted for the nearest, and no other leaf is planned."""
    nearest = "ORDER BY embedding <-> array_fill(0.5, ARRAY[384])::public.vector LIMIT 10"
    plan = _plan(session, f"SELECT id FROM llmspell.vector_embeddings_384 WHERE tenant_id = %s {nearest}", TENANT)
    assert [node["Sort Method"] for node in _nodes(plan) if "Sort Method" in node] == ["top-N heapsort"]
    assert len(_relations(plan)) == 1


def test_keys_are_of_leakproof_types(installation: Installation) -> None:
    """Every btree key column compares by a leakproof operator, or the policy would keep its index from being used."""
    with closing(installation.database.connect()) as superuser:
        rows = superuser.execute(
            "SELECT DISTINCT i.indexrelid::regclass::text, a.attname, format_type(a.atttypid, NULL), p.proleakproof"
            " FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam AND m.amname = 'btree'"
            " JOIN pg_namespace n ON n.oid = x.relnamespace JOIN pg_attribute a ON a.attrelid = i.indrelid"
            " AND a.attnum = ANY (i.indkey) AND array_position(i.indkey::int2[], a.attnum) < i.indnkeyatts"
            " JOIN pg_operator o ON o.oprname = '=' AND o.oprleft = a.atttypid AND o.oprright = a.atttypid"
            " JOIN pg_proc p ON p.oid = o.oprcode WHERE n.nspname = %s",
            (installation.schema,),
        ).fetchall()
    assert rows
    assert [row for row in rows if not row[3] or row[2] not in LEAKPROOF_ALIKE] == []
