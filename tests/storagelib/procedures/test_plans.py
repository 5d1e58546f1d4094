"""At 100,000 transitions and procedures, the statements that matter read what they return."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest

from storage_sql.queries import load
from tests.plugins.conformance import Tenants
from tests.plugins.explained import crowded, plan_of

QUERIES = load("procedures")
MANY = 100_000
# Ten rows changed one by one stay below; an index walked from end to end does not.
BLOCKS_MOST = 500
_FILL = """
INSERT INTO llmspell.procedural_patterns (tenant_id, scope, key, value, frequency)
SELECT t, 's', 'k' || n / 10, 'a->' || n, CASE WHEN n % 1000 = 0 THEN 5 ELSE 1 END
  FROM unnest(ARRAY['{tenant}', '{tenant}-other']) AS t, generate_series(1, {many}) AS n;
INSERT INTO llmspell.procedures (tenant_id, name, version, scope, steps)
SELECT t, 'p' || n, 2, 's' || n % 500, '[]'
  FROM unnest(ARRAY['{tenant}', '{tenant}-other']) AS t, generate_series(1, {many}) AS n;
INSERT INTO llmspell.procedure_versions (tenant_id, name, version, scope, steps)
SELECT tenant_id, name, 1, scope, '[]' FROM llmspell.procedures WHERE tenant_id ^@ '{tenant}';
"""
FIRST = {"most_seen": 2**63 - 1, "after": "", "most": 101}
SEEN = {"scope": "s", "key": "k7", "value": "a->70"}
CONTENT = {"steps": "[]", "trigger": None, "provenance": "[]", "embedding": None, "prior": 0.5, "expected": None}
IDENTITY = "unique_procedural_pattern"
# Statement, variant, values, an index that it must use, and how many rows its scans may look at.
HOT: list[tuple[str, dict[str, bool], dict[str, Any], str, int]] = [
    ("frequency", {}, SEEN, IDENTITY, 1),
    ("transitions", {}, {**SEEN, **FIRST}, IDENTITY, 10),
    ("learned", {"indexed": True, "by_scope": False}, {"least": 3, **FIRST}, "procedural_patterns_learned", 300),
    ("forget", {}, SEEN, IDENTITY, 20),
    ("save", {}, {"name": "p70", "scope": "", **CONTENT}, "procedures_pkey", 10),
    ("load", {}, {"name": "p70"}, "procedures_pkey", 1),
    ("versions", {}, {"name": "p70", "before": 9, "most": 101}, "procedure_versions_pkey", 10),
    ("rollback", {}, {"name": "p70", "version": 1}, "procedures_pkey", 10),
    ("succeed", {"of_version": False}, {"name": "p70"}, "procedures_pkey", 2),
    ("record_late", {}, {"name": "p70", "version": 1, "success": True}, "procedure_versions_pkey", 2),
    ("listing", {"by_scope": False}, {"after": "p5", "most": 101}, "procedures_pkey", 101),
    ("listing", {"by_scope": True}, {"scope": "s70", "after": "", "most": 101}, "procedures_scope", 101),
    ("several", {}, {"names": ["p1", "p2"]}, "procedures_pkey", 4),
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
    asked = {"tenant": tenant, "scope": None, "version": None, **values}
    plan = plan_of(connection, "llmspell", QUERIES[name].variant(**marks), generic=generic, **asked)
    assert index in plan.indexes(), plan.root
    assert plan.scanned() == set(), plan.root
    assert plan.rows() <= most, (plan.rows(), plan.root)
    assert plan.blocks() <= BLOCKS_MOST, (plan.blocks(), plan.root)


def test_an_observation_finds_its_row(connection: psycopg.Connection[Any], tenant: str) -> None:
    """The conflict is settled by the digests, not by a scan."""
    plan = plan_of(connection, "llmspell", QUERIES["observe"], tenant=tenant, id=UUID(int=1), **SEEN)
    assert plan.scanned() == set(), plan.root
    assert plan.blocks() <= BLOCKS_MOST, (plan.blocks(), plan.root)


def test_the_measure_can_fail(connection: psycopg.Connection[Any], tenant: str) -> None:
    """A statement that reads everything is told as one that does."""
    query = QUERIES["listing"].variant(by_scope=False)
    assert plan_of(connection, "llmspell", query, tenant=tenant, scope=None, after="", most=MANY).rows() >= MANY
