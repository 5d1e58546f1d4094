"""Counting transitions beside the bare upsert into an unprotected table with the same keys and checks."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import psycopg

from benchmarks.pairs import latency, latency_async
from benchmarks.results import Result
from benchmarks.storagelib.ground import Ground, compared

_TABLE = "CREATE TABLE bare.procedural_patterns (LIKE {schema}.procedural_patterns INCLUDING ALL)"
_RECORD = """INSERT INTO bare.procedural_patterns AS old (tenant_id, scope, key, value) VALUES (%b, %b, %b, %b)
ON CONFLICT (tenant_id, identity) DO UPDATE SET frequency = old.frequency + 1, last_seen = now(), updated_at = now()
RETURNING frequency"""
_PEER = "the bare prepared upsert, no row-level security"
_STATES = ("planning", "searching", "reading", "writing", "done")


def measure(ground: Ground) -> list[Result]:
    """Measure recording a transition that was seen before."""
    with ground.connect() as connection:
        connection.execute("CREATE SCHEMA bare")
        connection.execute(_TABLE.format(schema=ground.tenants.installation.schema).encode())
    results = [_blocking(ground, mode) for mode in ("role", "sealed")]
    return [*results, asyncio.run(_awaited(ground))]


def _steps() -> Any:
    """Give steps from one state to the next, round and round."""
    return itertools.cycle(itertools.pairwise((*_STATES, _STATES[0])))


def _blocking(ground: Ground, mode: str) -> Result:
    with ground.store(mode) as store, ground.connect() as bare:
        procedures = store.for_tenant(ground.new_tenant(mode)).procedures
        mine, theirs = _steps(), _steps()

        def ours() -> Any:
            before, after = next(mine)
            return procedures.record_transition("agent", "state", before, after)

        def peer() -> Any:
            before, after = next(theirs)
            values = ("acme", "agent", f"state:{before}", after)
            return bare.execute(_RECORD, values, prepare=True, binary=True).fetchone()

        pair = latency(ours, peer, calls=300)
    return compared(f"procedures record, PostgreSQL, {mode} mode, sync", pair, _PEER, at_most=1.3)


async def _awaited(ground: Ground) -> Result:
    bare = await psycopg.AsyncConnection.connect(ground.superuser_dsn, autocommit=True)
    async with await ground.async_store() as store, bare:
        procedures = store.for_tenant(ground.new_tenant()).procedures
        mine, theirs = _steps(), _steps()

        async def ours() -> Any:
            before, after = next(mine)
            return await procedures.record_transition("agent", "state", before, after)

        async def peer() -> Any:
            before, after = next(theirs)
            values = ("acme", "agent", f"state:{before}", after)
            return await (await bare.execute(_RECORD, values, prepare=True, binary=True)).fetchone()

        pair = await latency_async(ours, peer, calls=300)
    return compared("procedures record, PostgreSQL, role mode, async", pair, _PEER, at_most=1.3)
