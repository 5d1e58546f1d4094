"""At 100,000 sessions, and 100,000 messages of one of them, the statements that matter read what they return."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from storage_sql.queries import load
from storagelib.clocks import FOREVER
from tests.plugins.conformance import Tenants
from tests.plugins.explained import crowded, plan_of

QUERIES = load("sessions")
MANY = 100_000
# A hundred rows changed one by one stay below; an index walked from end to end does not.
BLOCKS_MOST = 500
_FILL = """
INSERT INTO llmspell.sessions (tenant_id, session_id, session_data, status, expires_at, created_at, thread_id)
SELECT t, 's' || n, '{}', CASE WHEN n % 10 = 0 THEN 'archived' WHEN n % 10 = 1 THEN 'expired' ELSE 'active' END,
       CASE WHEN n % 10 = 1 OR n > 99990 THEN now() - interval '1 day' WHEN n % 2 = 0 THEN now() + interval '1 day' END,
       now() - n * interval '1 second', gen_random_uuid()
  FROM unnest(ARRAY['{tenant}', '{tenant}-other']) AS t, generate_series(1, {many}) AS n;
INSERT INTO llmspell.session_messages
    (tenant_id, thread_id, sequence, position, role, content, weight, idempotency_key)
SELECT s.tenant_id, s.thread_id, n, n, CASE WHEN n % 1000 = 0 THEN 'system' ELSE 'user' END, '"hello"', 100, 'k' || n
  FROM llmspell.sessions AS s, generate_series(1, {many}) AS n WHERE s.session_id = 's7' AND s.tenant_id ^@ '{tenant}';
INSERT INTO llmspell.session_messages (tenant_id, thread_id, sequence, position, role, content, weight)
SELECT s.tenant_id, s.thread_id, n, n, 'user', '"hello"', 100
  FROM llmspell.sessions AS s, generate_series(1, 20) AS n WHERE s.tenant_id ^@ '{tenant}' AND right(s.session_id, 1) = '4';
UPDATE llmspell.sessions SET last_sequence = {many}, message_count = {many} WHERE session_id = 's7' AND tenant_id ^@ '{tenant}';
INSERT INTO llmspell.session_ancestry (tenant_id, session_id, thread_id, through)
SELECT tenant_id, 's5', thread_id, 50000 FROM llmspell.sessions WHERE session_id = 's7' AND tenant_id ^@ '{tenant}';
INSERT INTO llmspell.session_ancestry (tenant_id, session_id, thread_id, through)
SELECT tenant_id, session_id, gen_random_uuid(), 10 FROM llmspell.sessions WHERE right(session_id, 1) = '4' AND tenant_id ^@ '{tenant}';
"""
ANY_MESSAGE = {"after": 0, "before": 2**63 - 1, "role": None}
ANY_SESSION = {"status": None, "before": FOREVER - timedelta(days=1), "before_id": "", "most": 101}
APPENDED: dict[str, Any] = {
    "session": "s7",
    "thread": uuid4(),
    "roles": ["user"],
    "contents": ['"hi"'],
    "tokens": [3],
    "weights": [3],
    "keys": ["k77"],
    "metadata": ["{}"],
}
# Statement, variant, values, an index that it must use, and how many rows its scans may look at.
HOT: list[tuple[str, dict[str, bool], dict[str, Any], str, int]] = [
    ("get", {}, {"session": "s500"}, "sessions_pkey", 1),
    ("messages", {"newest": True, "by_role": False}, {"session": "s7", "most": 20}, "session_messages_pkey", 50),
    ("messages", {"newest": False, "by_role": False}, {"session": "s7", "most": 20}, "session_messages_pkey", 50),
    ("messages", {"newest": True, "by_role": False}, {"session": "s5", "most": 20}, "session_messages_pkey", 50),
    (
        "messages",
        {"newest": True, "by_role": True},
        {"session": "s7", "most": 20, "role": "system"},
        "session_messages_role",
        50,
    ),
    ("window", {}, {"session": "s7", "most_tokens": 5_000, "most": 1_000}, "session_messages_pkey", 2_100),
    ("count", {}, {"session": "s7", "role": "system"}, "session_messages_role", 150),
    ("append", {"keyed": False}, {**APPENDED, "keys": [None]}, "sessions_pkey", 10),
    ("append", {"keyed": True}, {**APPENDED, "keys": ["new"]}, "session_messages_key", 10),
    ("append", {"keyed": True}, APPENDED, "session_messages_key", 10),
    ("listing", {"expired": False, "by_status": False}, ANY_SESSION, "sessions_created", 110),
    ("listing", {"expired": False, "by_status": True}, {**ANY_SESSION, "status": "active"}, "sessions_status", 150),
    ("listing", {"expired": False, "by_status": True}, {**ANY_SESSION, "status": "archived"}, "sessions_status", 110),
    ("listing", {"expired": True, "by_status": True}, {**ANY_SESSION, "status": "expired"}, "sessions_status", 250),
    ("expire", {}, {"most": 100}, "sessions_expiry", 60),
    ("due", {}, {"older_than": 1.0, "most": 100}, "sessions_status", 250),
    ("branch", {}, {"session": "s7", "at": 60_000, "new_session": "n"}, "session_messages_pkey", 10),
    ("pop_last", {}, {"session": "s7"}, "session_messages_pkey", 30),
    ("lock_family", {}, {"sessions": ["s5"]}, "session_ancestry_thread", 20),
    ("remove", {}, {"sessions": ["s4"]}, "session_messages_pkey", 60),
]
TAKING = {"pop_last", "remove"}
UNSAID = {"data": None, "metadata": None, "ttl": None, "expires_at": None}


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
    asked = {"tenant": tenant, **UNSAID, **ANY_MESSAGE, **values}
    for locked in ["sessions", "session_ancestry"] if name in TAKING else []:
        # They act on what their transaction has locked.
        connection.execute(f"SELECT FROM llmspell.{locked} WHERE session_id = ANY (%s) FOR UPDATE", (["s4", "s7"],))
    plan = plan_of(connection, "llmspell", QUERIES[name].variant(**marks), generic=generic, **asked)
    assert index in plan.indexes(), plan.root
    assert plan.scanned() == set(), plan.root
    assert plan.rows() <= most, (plan.rows(), plan.root)
    assert plan.blocks() <= BLOCKS_MOST, (plan.blocks(), plan.root)


def test_the_measure_can_fail(connection: psycopg.Connection[Any], tenant: str) -> None:
    """A statement that reads everything is told as one that does."""
    asked = {"tenant": tenant, **ANY_MESSAGE, "session": "s7", "most": MANY}
    plan = plan_of(connection, "llmspell", QUERIES["messages"].variant(newest=True, by_role=False), **asked)
    assert plan.rows() > MANY
