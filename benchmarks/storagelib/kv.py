"""The key-value store beside a bare prepared statement, in both modes and both twins, and beside raw sqlite3."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import psycopg

from benchmarks.pairs import latency, latency_async
from benchmarks.results import Result
from benchmarks.storagelib.ground import Ground, compared

_TABLE = """CREATE TABLE {schema}kv_bare (
    tenant_id text, key text, value {bytes} NOT NULL, version {integer} NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, key))"""
_GET = "SELECT value FROM public.kv_bare WHERE tenant_id = %s AND key = %s"
_SET = """INSERT INTO public.kv_bare AS old (tenant_id, key, value) VALUES (%s, %s, %s)
ON CONFLICT (tenant_id, key) DO UPDATE SET value = excluded.value, version = old.version + 1 RETURNING version"""
_SQLITE_GET = "SELECT value FROM kv_bare WHERE tenant_id = ? AND key = ?"
_SQLITE_SET = """INSERT INTO kv_bare AS old (tenant_id, key, value) VALUES (?, ?, ?)
ON CONFLICT (tenant_id, key) DO UPDATE SET value = excluded.value, version = old.version + 1 RETURNING version"""
_VALUE = bytes(range(256))
_PEER = "bare prepared statement, no row-level security"


def measure(ground: Ground) -> list[Result]:
    """Measure get and set."""
    with ground.connect() as connection:
        connection.execute(_TABLE.format(schema="public.", bytes="bytea", integer="bigint"))
        connection.execute(_SET, ("acme", "k", _VALUE))
    results = [result for mode in ("role", "sealed") for result in _blocking(ground, mode)]
    results += [result for mode in ("role", "sealed") for result in asyncio.run(_awaited(ground, mode))]
    return [*results, *_sqlite(ground)]


def _blocking(ground: Ground, mode: str) -> list[Result]:
    with ground.store(mode) as store, ground.connect() as bare:
        kv = store.for_tenant(ground.new_tenant(mode)).kv
        kv.set("k", _VALUE)

        def peer_get() -> Any:
            return bare.execute(_GET, ("acme", "k"), prepare=True, binary=True).fetchone()

        def peer_set() -> Any:
            return bare.execute(_SET, ("acme", "k", _VALUE), prepare=True, binary=True).fetchone()

        get = latency(lambda: kv.get("k"), peer_get)
        put = latency(lambda: kv.set("k", _VALUE), peer_set, calls=300)
    return [
        compared(f"kv get, PostgreSQL, {mode} mode, sync", get, _PEER, at_most=1.3),
        compared(f"kv set, PostgreSQL, {mode} mode, sync", put, _PEER, at_most=1.3),
    ]


async def _awaited(ground: Ground, mode: str) -> list[Result]:
    bare = await psycopg.AsyncConnection.connect(ground.superuser_dsn, autocommit=True)
    async with await ground.async_store(mode) as store, bare:
        kv = store.for_tenant(ground.new_tenant(mode)).kv
        await kv.set("k", _VALUE)

        async def peer_get() -> Any:
            return await (await bare.execute(_GET, ("acme", "k"), prepare=True, binary=True)).fetchone()

        async def peer_set() -> Any:
            return await (await bare.execute(_SET, ("acme", "k", _VALUE), prepare=True, binary=True)).fetchone()

        get = await latency_async(lambda: kv.get("k"), peer_get)
        put = await latency_async(lambda: kv.set("k", _VALUE), peer_set, calls=300)
    return [
        compared(f"kv get, PostgreSQL, {mode} mode, async", get, _PEER, at_most=1.3),
        compared(f"kv set, PostgreSQL, {mode} mode, async", put, _PEER, at_most=1.3),
    ]


def _sqlite(ground: Ground) -> list[Result]:
    raw = sqlite3.connect(ground.folder / "raw-kv.db", isolation_level=None)
    raw.execute("PRAGMA journal_mode = WAL")
    raw.execute("PRAGMA synchronous = NORMAL")
    raw.execute(_TABLE.format(schema="", bytes="blob", integer="integer") + " STRICT")
    raw.execute(_SQLITE_SET, ("acme", "k", _VALUE)).fetchone()
    with ground.sqlite("kv") as store:
        kv = store.for_tenant("acme").kv
        kv.set("k", _VALUE)
        get = latency(lambda: kv.get("k"), lambda: raw.execute(_SQLITE_GET, ("acme", "k")).fetchone(), calls=5000)
        put = latency(
            lambda: kv.set("k", _VALUE), lambda: raw.execute(_SQLITE_SET, ("acme", "k", _VALUE)).fetchone(), calls=2000
        )
    raw.close()
    return [
        compared("kv get, SQLite", get, "raw sqlite3", at_most=1.5),
        compared("kv set, SQLite", put, "raw sqlite3", at_most=1.5),
    ]
