"""Verifying an API key beside one look-up by primary key in an unprotected table, in both modes and both twins."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg

from benchmarks.pairs import latency, latency_async
from benchmarks.results import Result
from benchmarks.storagelib.ground import Ground, compared
from storagelib.components.api_keys import key_hash

_TABLE = """CREATE TABLE bare.api_keys (
    key_hash bytea PRIMARY KEY, tenant_id text NOT NULL, key_id text NOT NULL, name text NOT NULL,
    scopes text[] NOT NULL, expires_at timestamptz, revoked_at timestamptz)"""
_GET = "SELECT tenant_id, key_id, name, scopes, expires_at, revoked_at FROM bare.api_keys WHERE key_hash = %s"
_PEER = "one look-up by primary key, no row-level security"


def measure(ground: Ground) -> list[Result]:
    """Measure verifying; the peer hashes the token, too."""
    with ground.connect() as connection:
        connection.execute("CREATE SCHEMA bare")
        connection.execute(_TABLE)
    results = [_blocking(ground, mode) for mode in ("role", "sealed")]
    return [*results, *(asyncio.run(_awaited(ground, mode)) for mode in ("role", "sealed"))]


def _blocking(ground: Ground, mode: str) -> Result:
    with ground.store(mode) as store, ground.connect() as bare:
        keys = store.for_tenant(ground.new_tenant(mode)).api_keys
        token = keys.create("gateway", scopes=["read"]).token
        _fill(bare, token)

        def peer() -> Any:
            return bare.execute(_GET, (key_hash(token),), prepare=True, binary=True).fetchone()

        pair = latency(lambda: keys.verify(token), peer)
    return compared(f"api_keys verify, PostgreSQL, {mode} mode, sync", pair, _PEER, at_most=1.2)


async def _awaited(ground: Ground, mode: str) -> Result:
    bare = await psycopg.AsyncConnection.connect(ground.superuser_dsn, autocommit=True)
    async with await ground.async_store(mode) as store, bare:
        keys = store.for_tenant(ground.new_tenant(mode)).api_keys
        created = await keys.create("gateway", scopes=["read"])
        with ground.connect() as connection:
            _fill(connection, created.token)

        async def peer() -> Any:
            return await (await bare.execute(_GET, (key_hash(created.token),), prepare=True, binary=True)).fetchone()

        pair = await latency_async(lambda: keys.verify(created.token), peer)
    return compared(f"api_keys verify, PostgreSQL, {mode} mode, async", pair, _PEER, at_most=1.2)


def _fill(bare: psycopg.Connection[Any], token: str) -> None:
    bare.execute("TRUNCATE bare.api_keys")
    bare.execute(
        "INSERT INTO bare.api_keys VALUES (%s, 'acme', 'id', 'gateway', '{read}', NULL, NULL)", (key_hash(token),)
    )
