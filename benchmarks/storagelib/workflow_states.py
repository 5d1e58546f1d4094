"""Workflow states beside the bare statement in an unprotected table with the same keys, indexes and checks."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from benchmarks.pairs import latency, latency_async
from benchmarks.results import Result
from benchmarks.storagelib.ground import Ground, compared

_TABLE = "CREATE TABLE bare.workflow_states (LIKE {schema}.workflow_states INCLUDING ALL)"
_SAVE = b"""INSERT INTO bare.workflow_states AS old (tenant_id, workflow_id, state_data) VALUES (%b, %b, %b)
ON CONFLICT (tenant_id, workflow_id) DO UPDATE
SET state_data = excluded.state_data, data_version = old.data_version + 1, last_updated = now()
RETURNING data_version"""
_LOAD = """SELECT workflow_id, workflow_name, state_data, current_step, status, steps_completed, last_step, error, attempts,
    data_version, fencing_token, lease_owner, lease_expires_at, started_at, completed_at, created_at, last_updated
FROM bare.workflow_states WHERE tenant_id = %s AND workflow_id = %s"""
# The verb returns the whole workflow, and so does the bare statement.
_STATUS = """UPDATE bare.workflow_states
SET status = %b, data_version = data_version + 1, last_updated = now() WHERE tenant_id = %b AND workflow_id = %b
RETURNING workflow_id, workflow_name, state_data, current_step, status, steps_completed, last_step, error, attempts,
    data_version, fencing_token, lease_owner, lease_expires_at, started_at, completed_at, created_at, last_updated"""
_SQLITE_SAVE = """INSERT INTO workflow_states AS old (tenant_id, workflow_id, state_data, last_updated, created_at)
VALUES (?, ?, ?, 1, 1)
ON CONFLICT (tenant_id, workflow_id) DO UPDATE
SET state_data = excluded.state_data, data_version = old.data_version + 1, last_updated = excluded.last_updated
RETURNING data_version"""
_STATE = {"inputs": {"question": "what is known of it"}, "results": ["found", "read", "kept"] * 20, "cost": 0.25}
_PEER = "the bare prepared statement, no row-level security"
_TURNS = ("failed", "running")


def measure(ground: Ground) -> list[Result]:
    """Measure saving, loading and changing the status."""
    with ground.connect() as connection:
        connection.execute("CREATE SCHEMA bare")
        connection.execute(_TABLE.format(schema=ground.tenants.installation.schema).encode())
    results = [result for mode in ("role", "sealed") for result in _blocking(ground, mode)]
    return [*results, *asyncio.run(_awaited(ground)), _sqlite(ground)]


def _blocking(ground: Ground, mode: str) -> list[Result]:
    with ground.store(mode) as store, ground.connect() as bare:
        workflows = store.for_tenant(ground.new_tenant(mode)).workflow_states
        workflows.save("w", _STATE, status="running")

        def peer_save() -> Any:
            return bare.execute(_SAVE, ("acme", "w", Jsonb(_STATE)), prepare=True, binary=True).fetchone()

        peer_save()
        ours, theirs = itertools.cycle(_TURNS), itertools.cycle(_TURNS)

        def update() -> Any:
            # A workflow that failed runs again, so that the two follow each other for ever.
            return workflows.update_status("w", next(ours))  # type: ignore[arg-type]

        def peer_update() -> Any:
            return bare.execute(_STATUS, (next(theirs), "acme", "w"), prepare=True, binary=True).fetchone()

        def peer_load() -> Any:
            return bare.execute(_LOAD, ("acme", "w"), prepare=True, binary=True).fetchone()

        save = latency(lambda: workflows.save("w", _STATE), peer_save, calls=300)
        load = latency(lambda: workflows.load("w"), peer_load)
        status = latency(update, peer_update, calls=300)
    return [
        compared(f"workflow_states save, PostgreSQL, {mode} mode, sync", save, _PEER, at_most=1.3),
        compared(f"workflow_states update_status, PostgreSQL, {mode} mode, sync", status, _PEER, at_most=1.3),
        compared(f"workflow_states load, PostgreSQL, {mode} mode, sync", load, _PEER, at_most=1.3),
    ]


async def _awaited(ground: Ground) -> list[Result]:
    bare = await psycopg.AsyncConnection.connect(ground.superuser_dsn, autocommit=True)
    async with await ground.async_store() as store, bare:
        workflows = store.for_tenant(ground.new_tenant()).workflow_states
        await workflows.save("w", _STATE, status="running")

        async def peer_save() -> Any:
            return await (await bare.execute(_SAVE, ("acme", "w", Jsonb(_STATE)), prepare=True, binary=True)).fetchone()

        save = await latency_async(lambda: workflows.save("w", _STATE), peer_save, calls=300)
    return [compared("workflow_states save, PostgreSQL, role mode, async", save, _PEER, at_most=1.3)]


def _sqlite(ground: Ground) -> Result:
    """Compare with sqlite3 on a table that has our columns, keys, indexes and checks."""
    with ground.sqlite("workflows") as store:
        raw = ground.raw_sqlite("workflows", "workflow_states")
        workflows = store.for_tenant("acme").workflow_states
        pair = latency(
            lambda: workflows.save("w", _STATE),
            lambda: raw.execute(_SQLITE_SAVE, ("acme", "w", json.dumps(_STATE))).fetchall(),
            calls=1000,
        )
        raw.close()
    return compared("workflow_states save, SQLite", pair, "raw sqlite3")
