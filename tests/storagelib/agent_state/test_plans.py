"""At 100,000 agents, versions and checkpoints, the statements that matter read what they return."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest

from storage_sql.queries import load
from tests.plugins.conformance import Tenants
from tests.plugins.explained import crowded, plan_of

QUERIES = load("agent_state")
MANY = 100_000
BLOCKS_MOST = 500
CHECKSUM = "0" * 64
_FILL = """
INSERT INTO llmspell.agent_states (tenant_id, agent_id, agent_type, state_data, data_version, checksum, session_id)
SELECT t, 'a' || n, 'type' || n % 50, '{}', CASE WHEN n = 1 THEN {many} + 1 ELSE 1 END, repeat('0', 64), 's' || n % 500
  FROM unnest(ARRAY['{tenant}', '{tenant}-other']) AS t, generate_series(1, {many}) AS n;
INSERT INTO llmspell.agent_state_history
    (tenant_id, agent_id, version, saved_at, schema_version, is_delta, agent_type, checksum, content)
SELECT t, 'a1', n, now(), 1, n % 32 <> 0, 'type1', decode(repeat('00', 32), 'hex'), 'null'
  FROM unnest(ARRAY['{tenant}', '{tenant}-other']) AS t, generate_series(1, {many}) AS n;
INSERT INTO llmspell.agent_state_checkpoints
    (tenant_id, agent_id, label, version, saved_at, schema_version, agent_type, checksum, content)
SELECT t, 'a' || n, 'label', 1, now(), 1, 'type1', decode(repeat('00', 32), 'hex'), 'null'
  FROM unnest(ARRAY['{tenant}', '{tenant}-other']) AS t, generate_series(1, 10000) AS n;
INSERT INTO llmspell.agent_transitions (tenant_id, agent_type, from_phase, to_phase)
SELECT t, 'type' || n % 100, 'p' || n, 'p'
  FROM unnest(ARRAY['{tenant}', '{tenant}-other']) AS t, generate_series(1, 10000) AS n;
INSERT INTO llmspell.agent_thread_checkpoints
    (tenant_id, thread_id, namespace, checkpoint_id, parent_id, run_id, parts, document)
SELECT t, 'thread' || n % 10, '', to_char(n, 'FM000000'), to_char(n - 10, 'FM000000'), 'run' || n / 10,
       ARRAY[md5((n / 100)::text)::uuid], 'x'
  FROM unnest(ARRAY['{tenant}', '{tenant}-other']) AS t, generate_series(1, {many}) AS n;
INSERT INTO llmspell.agent_thread_parts (tenant_id, thread_id, part_id, content)
SELECT DISTINCT tenant_id, thread_id, parts[1], 'x'::bytea FROM llmspell.agent_thread_checkpoints WHERE tenant_id ^@ '{tenant}';
INSERT INTO llmspell.agent_thread_writes
    (tenant_id, thread_id, namespace, checkpoint_id, task_id, position, task_path, channel, kind, content)
SELECT tenant_id, thread_id, namespace, checkpoint_id, 'task', 0, '', 'c', 'k', 'x'
  FROM llmspell.agent_thread_checkpoints WHERE tenant_id ^@ '{tenant}';
"""
PART = UUID(int=1)
SAVED = {
    "agent_id": "a5",
    "agent_type": "type5",
    "state": "{}",
    "checksum": CHECKSUM,
    "schema_version": 1,
    "session_id": None,
    "phase": None,
    "restores": False,
    "expected": 1,
    "past_checksum": CHECKSUM,
    "past": b"null",
    "past_is_delta": True,
    "snapshot_every": 32,
}
PLACE = {"thread_id": "thread3", "namespace": "", "checkpoint_id": "050003"}
PUT = {
    **PLACE,
    "checkpoint_id": "999999",
    "parent_id": "050003",
    "run_id": "run",
    "metadata": "{}",
    "document": b"x",
    "document_base": None,
    "parts": [PART],
    "added": [PART],
    "bases": [None],
    "contents": [b"x"],
    "needed": [],
}
READ = {
    **PLACE,
    "below": "050000",
    "after_thread": None,
    "after_namespace": None,
    "after_id": None,
    "names": [],
    "equals": [],
    "most": 1,
    "known": [],
}
FLAGS = dict.fromkeys(("thread", "namespace", "one", "below", "after", "equal"), False)
THREAD = {**FLAGS, "thread": True, "namespace": True}
AGENTS = dict.fromkeys(("agent_type", "session_id", "phase", "since"), False)
LISTED = {"agent_type": None, "session_id": None, "phase": None, "since": None, "after": "a5", "most": 101}
# Statement, variant, values, an index that it must use, and how many rows its scans may look at.
HOT: list[tuple[str, dict[str, bool], dict[str, Any], str, int]] = [
    ("current", {}, {"agent_id": "a5"}, "agent_states_pkey", 1),
    ("save", {}, SAVED, "agent_states_pkey", 20),
    ("steps", {}, {"agent_id": "a1", "version": 50_001, "last": 50_016}, "agent_state_history_pkey", 40),
    ("versions", {}, {"agent_id": "a1", "before": 50_000, "most": 101}, "agent_state_history_pkey", 420),
    ("agents", AGENTS, LISTED, "agent_states_pkey", 101),
    ("agents", {**AGENTS, "agent_type": True}, {**LISTED, "agent_type": "type7"}, "agent_states_type", 101),
    ("agents", {**AGENTS, "session_id": True}, {**LISTED, "session_id": "s7"}, "agent_states_session", 101),
    ("put_checkpoint", {"needed": True, "added": True}, PUT, "agent_thread_checkpoints_pkey", 10),
    ("read_checkpoints", THREAD, READ, "agent_thread_checkpoints_pkey", 20),
    ("read_checkpoints", {**THREAD, "one": True}, READ, "agent_thread_checkpoints_pkey", 20),
    ("read_checkpoints", {**THREAD, "below": True}, {**READ, "most": 50}, "agent_thread_checkpoints_pkey", 600),
    ("chain", {}, {**PLACE, "most": 32}, "agent_thread_checkpoints_pkey", 400),
    ("threads_of_runs", {}, {"run_ids": ["run7"]}, "agent_thread_checkpoints_run", 20),
]


@pytest.fixture(scope="module")
def tenant(conformance_tenants: Tenants) -> str:
    """Give a tenant with many rows beside another one with as many."""
    return crowded(conformance_tenants, _FILL, MANY)


@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize("case", HOT, ids=lambda case: f"{case[0]}-{'-'.join(k for k, on in case[1].items() if on)}")
def test_a_hot_statement_reads_what_it_returns(
    connection: psycopg.Connection[Any], tenant: str, case: tuple[Any, ...], generic: bool
) -> None:
    """By its index, planned with its values or without them, and with few rows looked at."""
    name, marks, values, index, most = case
    plan = plan_of(connection, "llmspell", QUERIES[name].variant(**marks), generic=generic, tenant=tenant, **values)
    assert index in plan.indexes(), plan.root
    assert plan.scanned() == set(), plan.root
    assert plan.rows() <= most, (plan.rows(), plan.root)
    assert plan.blocks() <= BLOCKS_MOST, (plan.blocks(), plan.root)


def test_the_measure_can_fail(connection: psycopg.Connection[Any], tenant: str) -> None:
    """A statement that reads everything is told as one that does."""
    query = QUERIES["agents"].variant(**AGENTS)
    asked = {**LISTED, "after": "", "most": MANY, "tenant": tenant}
    assert plan_of(connection, "llmspell", query, **asked).rows() >= MANY
