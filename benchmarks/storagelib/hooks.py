"""The hook history beside a bare INSERT of the same row, packed beforehand, into an unprotected table, fsync on."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from benchmarks.pairs import latency, latency_async
from benchmarks.results import Result
from benchmarks.storagelib.ground import Ground, compared
from storagelib.compression import compress
from storagelib.documents import encode
from storagelib.identifiers import uuid7

_TABLE = "CREATE TABLE bare.hook_history (LIKE {schema}.hook_history INCLUDING ALL)"
_INSERT = """INSERT INTO bare.hook_history
    (tenant_id, execution_id, hook_id, hook_type, correlation_id, hook_context, is_compressed, original_size_bytes,
     result_data, timestamp, duration_ms, duration_us, failed, triggering_component, tags, retention_priority, metadata)
VALUES (%b, %b, %b, %b, %b, %b, true, 1000, %b, clock_timestamp(), 1, 1234, false, %b, %b, 0, '{}')"""
_GET = "SELECT * FROM bare.hook_history WHERE tenant_id = %s AND execution_id = %s"
_INPUT = {"tool": "search", "arguments": {"query": "what is known of it", "limit": 10}, "history": ["a step"] * 40}
_PEER = "bare prepared INSERT, no row-level security"


def measure(ground: Ground) -> list[Result]:
    """Measure recording and reading."""
    with ground.connect() as connection:
        connection.execute("CREATE SCHEMA bare")
        connection.execute(_TABLE.format(schema=ground.tenants.installation.schema).encode())
    return [
        *(result for mode in ("role", "sealed") for result in _blocking(ground, mode)),
        asyncio.run(_awaited(ground)),
    ]


def _peer_row() -> tuple[Any, ...]:
    packed = compress(encode(_INPUT).encode())
    return ("acme", uuid7(), "hook", "before_tool", "run", packed, Jsonb({"output": 1, "error": None}), "agent", ["t"])


def _blocking(ground: Ground, mode: str) -> list[Result]:
    with ground.store(mode) as store, ground.connect() as bare:
        hooks = store.for_tenant(ground.new_tenant(mode)).hooks

        def ours() -> Any:
            return hooks.record(
                "hook",
                "before_tool",
                triggering_component="agent",
                input=_INPUT,
                output=1,
                duration_ms=1.234,
                correlation_id="run",
                tags=["t"],
            )

        def peer() -> Any:
            return bare.execute(_INSERT, _peer_row(), prepare=True, binary=True)

        recorded = latency(ours, peer, calls=400)
        execution_id = ours()
        row = _peer_row()
        bare.execute(_INSERT, row, binary=True)
        got = latency(
            lambda: hooks.get(execution_id),
            lambda: bare.execute(_GET, row[:2], prepare=True, binary=True).fetchone(),
            calls=500,
        )
    return [
        compared(f"hooks record, PostgreSQL, {mode} mode, sync", recorded, _PEER, at_most=1.3),
        compared(f"hooks get, PostgreSQL, {mode} mode, sync", got, "bare prepared SELECT, not unpacked"),
    ]


async def _awaited(ground: Ground) -> Result:
    bare = await psycopg.AsyncConnection.connect(ground.superuser_dsn, autocommit=True)
    async with await ground.async_store() as store, bare:
        hooks = store.for_tenant(ground.new_tenant()).hooks

        async def peer() -> Any:
            return await bare.execute(_INSERT, _peer_row(), prepare=True, binary=True)

        pair = await latency_async(
            lambda: hooks.record(
                "hook",
                "before_tool",
                triggering_component="agent",
                input=_INPUT,
                output=1,
                duration_ms=1.234,
                correlation_id="run",
                tags=["t"],
            ),
            peer,
            calls=400,
        )
    return compared("hooks record, PostgreSQL, role mode, async", pair, _PEER, at_most=1.3)
