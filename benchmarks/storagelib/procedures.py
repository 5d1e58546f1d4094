"""Transitions and outcomes beside the bare statement in an unprotected table with the same keys, indexes and checks."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any
from uuid import UUID

import psycopg

from benchmarks.pairs import latency, latency_async
from benchmarks.results import Result
from benchmarks.storagelib.ground import Ground, compared

_TABLES = """CREATE TABLE bare.procedural_patterns (LIKE {schema}.procedural_patterns INCLUDING ALL);
CREATE TABLE bare.procedures (LIKE {schema}.procedures INCLUDING ALL)"""
_OBSERVE = """INSERT INTO bare.procedural_patterns AS old (tenant_id, pattern_id, scope, key, value)
VALUES (%b, %b, %b, %b, %b)
ON CONFLICT (tenant_id, identity) DO UPDATE SET frequency = old.frequency + 1, last_seen = now(), updated_at = now()
RETURNING frequency"""
_SAVE = "INSERT INTO bare.procedures (tenant_id, name, version, scope, steps) VALUES ('acme', 'p', 1, '', '[]')"
_SUCCEED = """UPDATE bare.procedures
SET successes = successes + 1, revision = revision + 1, last_outcome_at = greatest(last_outcome_at, now())
WHERE tenant_id = %b AND name = %b RETURNING version, prior, successes, failures, last_outcome_at, now()"""
_SQLITE_OBSERVE = """INSERT INTO procedural_patterns AS old
    (tenant_id, pattern_id, scope, key, value, first_seen, last_seen, created_at, updated_at)
VALUES (?, ?, ?, ?, ?, 1, 1, 1, 1)
ON CONFLICT (tenant_id, scope, key, value) DO UPDATE
SET frequency = old.frequency + 1, last_seen = excluded.last_seen, updated_at = excluded.updated_at
RETURNING frequency"""
_PEER = "the bare prepared statement, no row-level security"
_STATES = ("planning", "searching", "reading", "writing", "done")


def measure(ground: Ground) -> list[Result]:
    """Measure counting a transition and an outcome."""
    with ground.connect() as connection:
        connection.execute("CREATE SCHEMA bare")
        connection.execute(_TABLES.format(schema=ground.tenants.installation.schema).encode())
        connection.execute(_SAVE)
    results = [result for mode in ("role", "sealed") for result in _blocking(ground, mode)]
    return [*results, *asyncio.run(_awaited(ground)), _sqlite(ground)]


def _steps() -> Any:
    """Give steps from one state to the next, round and round."""
    return itertools.cycle(itertools.pairwise((*_STATES, _STATES[0])))


def _bare(before: str, after: str) -> tuple[str, UUID, str, str, str]:
    return "acme", UUID(int=_STATES.index(before)), "agent", "state", f"{before}->{after}"


def _blocking(ground: Ground, mode: str) -> list[Result]:
    with ground.store(mode) as store, ground.connect() as bare:
        procedures = store.for_tenant(ground.new_tenant(mode)).procedures
        procedures.save("p", [])

        mine, theirs = _steps(), _steps()

        def peer_observe() -> Any:
            return bare.execute(_OBSERVE, _bare(*next(theirs)), prepare=True, binary=True).fetchone()

        def peer_succeed() -> Any:
            return bare.execute(_SUCCEED, ("acme", "p"), prepare=True, binary=True).fetchone()

        observed = latency(lambda: procedures.record_transition("agent", "state", *next(mine)), peer_observe, calls=300)
        outcome = latency(lambda: procedures.record_outcome("p", True), peer_succeed, calls=300)
    return [
        compared(f"procedures record_transition, PostgreSQL, {mode} mode, sync", observed, _PEER, at_most=1.3),
        compared(f"procedures record_outcome, PostgreSQL, {mode} mode, sync", outcome, _PEER, at_most=1.3),
    ]


async def _awaited(ground: Ground) -> list[Result]:
    bare = await psycopg.AsyncConnection.connect(ground.superuser_dsn, autocommit=True)
    async with await ground.async_store() as store, bare:
        procedures = store.for_tenant(ground.new_tenant()).procedures

        mine, theirs = _steps(), _steps()

        async def peer_observe() -> Any:
            values = _bare(*next(theirs))
            return await (await bare.execute(_OBSERVE, values, prepare=True, binary=True)).fetchone()

        observed = await latency_async(
            lambda: procedures.record_transition("agent", "state", *next(mine)), peer_observe, calls=300
        )
    return [compared("procedures record_transition, PostgreSQL, role mode, async", observed, _PEER, at_most=1.3)]


def _sqlite(ground: Ground) -> Result:
    """Compare with sqlite3 on a table that has our columns, keys, indexes and checks."""
    mine, theirs = _steps(), _steps()

    def peer() -> Any:
        tenant, known, *values = _bare(*next(theirs))
        return raw.execute(_SQLITE_OBSERVE, (tenant, str(known), *values)).fetchall()

    with ground.sqlite("procedures") as store:
        raw = ground.raw_sqlite("procedures", "procedural_patterns")
        procedures = store.for_tenant("acme").procedures
        pair = latency(
            lambda: procedures.record_transition("agent", "state", *next(mine)),
            peer,
            calls=1000,
        )
        raw.close()
    return compared("procedures record_transition, SQLite", pair, "raw sqlite3")
