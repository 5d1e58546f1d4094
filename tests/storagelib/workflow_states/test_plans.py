"""At 100,000 workflows, the statements that matter read what they return."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from storage_sql.queries import load
from storagelib.clocks import FOREVER, LONG_AGO
from tests.plugins.conformance import Tenants
from tests.plugins.explained import crowded, plan_of

QUERIES = load("workflow_states")
MANY = 100_000
# Ten rows changed one by one stay below; an index walked from end to end does not.
BLOCKS_MOST = 1000
_FILL = """
INSERT INTO llmspell.workflow_states
    (tenant_id, workflow_id, workflow_name, state_data, status, created_at, fencing_token, lease_owner, lease_seconds,
     lease_expires_at, steps_completed, last_step)
SELECT t, 'w' || n, 'name' || n % 50, '{}', CASE WHEN n % 10 = 0 THEN 'pending' WHEN n % 10 < 4 THEN 'running'
       WHEN n % 10 = 4 THEN 'failed' ELSE 'completed' END,
       now() - n * interval '1 second', (n % 10 BETWEEN 1 AND 3)::integer, CASE WHEN n % 10 BETWEEN 1 AND 3 THEN 'me' END,
       CASE WHEN n % 10 BETWEEN 1 AND 3 THEN 60 END,
       CASE WHEN n % 10 BETWEEN 1 AND 3 THEN now() + CASE WHEN n < 500 THEN -1 ELSE 1 END * interval '1 hour' END,
       2, 'step2'
  FROM unnest(ARRAY['{tenant}', '{tenant}-other']) AS t, generate_series(1, {many}) AS n;
INSERT INTO llmspell.workflow_steps (tenant_id, workflow_id, step, position, output)
SELECT tenant_id, workflow_id, 'step' || n, n, '1' FROM llmspell.workflow_states, generate_series(1, 2) AS n
 WHERE right(workflow_id, 1) = '1' AND tenant_id ^@ '{tenant}';
INSERT INTO llmspell.workflow_steps (tenant_id, workflow_id, step, position, output)
SELECT tenant_id, 'w2', 'step' || n, n, '1' FROM llmspell.workflow_states, generate_series(1, {many}) AS n
 WHERE workflow_id = 'w2' AND tenant_id = '{tenant}';
"""
SOON = datetime.now(UTC) + timedelta(days=1)
NEWEST = {"since": LONG_AGO + timedelta(days=300_000), "until": SOON, "before": SOON, "before_id": "", "most": 101}
GUARD = {"expected": None, "token": 1}
LEASED = {"owner": "you", "seconds": 60.0}
# Statement, variant, values, an index that it must use, and how many rows its scans may look at.
HOT: list[tuple[str, dict[str, bool], dict[str, Any], str, int]] = [
    ("load", {}, {"workflow": "w500"}, "workflow_states_pkey", 1),
    (
        "save",
        {},
        {"workflow": "w11", "state": "{}", "name": None, "step": 3, "status": None, "sources": [], **GUARD},
        "workflow_states_pkey",
        10,
    ),
    (
        "change",
        {},
        {"workflow": "w11", "status": "failed", "sources": ["running"], "stay": False, "error": "1", **GUARD},
        "workflow_states_pkey",
        10,
    ),
    (
        "complete_step",
        {},
        {"workflow": "w11", "step": "new", "output": "1", "state": None, "token": 1},
        "workflow_states_pkey",
        10,
    ),
    (
        "steps",
        {},
        {"workflow": "w2", "after": 90_000, "most": 101},
        "workflow_steps_tenant_id_workflow_id_position_key",
        101,
    ),
    ("lease", {}, {"workflow": "w4", **LEASED}, "workflow_states_pkey", 10),
    ("renew", {}, {"workflow": "w11", "token": 1, "seconds": None}, "workflow_states_pkey", 10),
    ("release", {}, {"workflow": "w11", "token": 1}, "workflow_states_pkey", 10),
    ("claim_pending", {"by_name": True}, {"name": "name10", **LEASED, "most": 1}, "workflow_states_pending", 10),
    ("claim_pending", {"by_name": False}, {"name": None, **LEASED, "most": 1}, "workflow_states_status", 10),
    ("claim_stalled", {}, {**LEASED, "most": 10}, "workflow_states_lease", 50),
    ("stalled", {}, {"after": NEWEST["since"], "after_id": "", "most": 10}, "workflow_states_lease", 10),
    ("listing", {"by_status": False, "by_name": False}, NEWEST, "workflow_states_created", 101),
    ("listing", {"by_status": True, "by_name": False}, {**NEWEST, "status": "failed"}, "workflow_states_status", 101),
    ("listing", {"by_status": False, "by_name": True}, {**NEWEST, "name": "name7"}, "workflow_states_name", 101),
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
    asked = {"tenant": tenant, "status": None, "name": None, **values}
    plan = plan_of(connection, "llmspell", QUERIES[name].variant(**marks), generic=generic, **asked)
    assert index in plan.indexes(), plan.root
    assert plan.scanned() == set(), plan.root
    assert plan.rows() <= most, (plan.rows(), plan.root)
    assert plan.blocks() <= BLOCKS_MOST, (plan.blocks(), plan.root)


def test_a_put_finds_its_row(connection: psycopg.Connection[Any], tenant: str) -> None:
    """The conflict is settled by the key, not by a scan."""
    asked = {"tenant": tenant, "workflow": "w11", "state": "{}", "name": None, "step": 3}
    plan = plan_of(connection, "llmspell", QUERIES["put"], generic=True, **asked)
    assert plan.scanned() == set(), plan.root
    assert plan.blocks() <= BLOCKS_MOST, (plan.blocks(), plan.root)
    assert any(node.get("Conflict Arbiter Indexes") == ["workflow_states_pkey"] for node in plan.nodes())


def test_the_measure_can_fail(connection: psycopg.Connection[Any], tenant: str) -> None:
    """A statement that reads everything is told as one that does."""
    asked = {"tenant": tenant, **NEWEST, "most": MANY, "status": None, "name": None}
    query = QUERIES["listing"].variant(by_status=False, by_name=False)
    assert plan_of(connection, "llmspell", query, **asked).rows() >= MANY
    assert FOREVER > SOON
