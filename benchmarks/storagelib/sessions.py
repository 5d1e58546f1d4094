"""Sessions and their messages beside bare prepared statements, in both modes and both twins, and beside raw sqlite3."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from benchmarks.pairs import latency, latency_async
from benchmarks.results import Result
from benchmarks.storagelib.ground import Ground, compared

_TABLES = """CREATE TABLE bare.sessions (LIKE {schema}.sessions INCLUDING ALL);
CREATE TABLE bare.session_messages (LIKE {schema}.session_messages INCLUDING ALL)"""
_COLUMNS = """session_id, session_data, metadata, status, data_version, message_count, last_sequence, artifact_count,
    parent_id, branched_at, expires_at, last_accessed_at, created_at, updated_at"""
_GET = f"SELECT {_COLUMNS} FROM bare.sessions WHERE tenant_id = %s AND session_id = %s"
_APPEND = """INSERT INTO bare.session_messages
    (tenant_id, thread_id, sequence, position, role, content, weight, created_at)
VALUES (%b, %b, %b, %b, %b, %b, %b, clock_timestamp())"""
_LAST = """SELECT sequence, role, content, tokens, idempotency_key, metadata, created_at FROM bare.session_messages
WHERE tenant_id = %s AND thread_id = %s ORDER BY sequence DESC LIMIT 20"""
_SQLITE_GET = f"SELECT {_COLUMNS} FROM sessions WHERE tenant_id = ? AND session_id = ?"
_SQLITE_CREATE = """INSERT INTO sessions
    (tenant_id, session_id, session_data, metadata, last_accessed_at, created_at, updated_at)
VALUES ('acme', 's', ?, '{}', 1, 1, 1)"""
_SQLITE_GROW = """UPDATE sessions SET last_sequence = last_sequence + 1, message_count = message_count + 1, last_accessed_at = ?
WHERE tenant_id = ? AND session_id = ? AND status = 'active' RETURNING last_sequence, message_count"""
_SQLITE_APPEND = """INSERT INTO session_messages
    (tenant_id, thread_id, sequence, position, role, content, weight, metadata, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, '{}', ?)"""
_DATA = {"user": "someone", "topic": "what was asked about", "tools": ["search", "write"], "turns": 12}
_CONTENT = {"text": "the answer was found in the third document, and it was what had been expected " * 3}
_THREAD = UUID(int=7)
_PEER = "bare prepared statement, no row-level security"
_PEER_INSERT = "bare prepared INSERT, no row-level security"
_NUMBERS = itertools.count(1)


def measure(ground: Ground) -> list[Result]:
    """Measure reading a session, appending a message and reading the last ones."""
    with ground.connect() as connection:
        connection.execute("CREATE SCHEMA bare")
        for statement in _TABLES.format(schema=ground.tenants.installation.schema).split(";"):
            connection.execute(statement.encode())
        connection.execute(
            "INSERT INTO bare.sessions (tenant_id, session_id, session_data) VALUES ('acme', 's', %s)", (Jsonb(_DATA),)
        )
    results = [result for mode in ("role", "sealed") for result in _blocking(ground, mode)]
    results += [result for mode in ("role", "sealed") for result in asyncio.run(_awaited(ground, mode))]
    return [*results, *_sqlite(ground)]


def _row() -> tuple[Any, ...]:
    number = next(_NUMBERS)
    return ("acme", _THREAD, number, number, "user", Jsonb(_CONTENT), 60)


def _blocking(ground: Ground, mode: str) -> list[Result]:
    with ground.store(mode) as store, ground.connect() as bare:
        sessions = store.for_tenant(ground.new_tenant(mode)).sessions
        sessions.create("s", _DATA)

        def peer_get() -> Any:
            return bare.execute(_GET, ("acme", "s"), prepare=True, binary=True).fetchone()

        def peer_append() -> Any:
            return bare.execute(_APPEND, _row(), prepare=True, binary=True)

        def peer_last() -> Any:
            return bare.execute(_LAST, ("acme", _THREAD), prepare=True, binary=True).fetchall()

        get = latency(lambda: sessions.get("s"), peer_get)
        append = latency(lambda: sessions.append("s", "user", _CONTENT), peer_append, calls=300)
        last = latency(lambda: sessions.last("s", 20), peer_last, calls=300)
    return [
        compared(f"sessions get, PostgreSQL, {mode} mode, sync", get, _PEER, at_most=1.3),
        compared(f"sessions append, PostgreSQL, {mode} mode, sync", append, _PEER_INSERT),
        compared(
            f"sessions last 20 messages, PostgreSQL, {mode} mode, sync", last, "bare prepared SELECT of one thread"
        ),
    ]


async def _awaited(ground: Ground, mode: str) -> list[Result]:
    bare = await psycopg.AsyncConnection.connect(ground.superuser_dsn, autocommit=True)
    async with await ground.async_store(mode) as store, bare:
        sessions = store.for_tenant(ground.new_tenant(mode)).sessions
        await sessions.create("s", _DATA)

        async def peer_get() -> Any:
            return await (await bare.execute(_GET, ("acme", "s"), prepare=True, binary=True)).fetchone()

        async def peer_append() -> Any:
            return await bare.execute(_APPEND, _row(), prepare=True, binary=True)

        get = await latency_async(lambda: sessions.get("s"), peer_get)
        append = await latency_async(lambda: sessions.append("s", "user", _CONTENT), peer_append, calls=300)
    return [
        compared(f"sessions get, PostgreSQL, {mode} mode, async", get, _PEER, at_most=1.3),
        compared(f"sessions append, PostgreSQL, {mode} mode, async", append, _PEER_INSERT),
    ]


def _sqlite(ground: Ground) -> list[Result]:
    """Compare with sqlite3 on tables that have our columns, keys, indexes and checks.

    An append counts in the session, too, by the peer as by us: without that, two of them could have one number.
    """
    with ground.sqlite("sessions") as store:
        raw = ground.raw_sqlite("sessions", "sessions", "session_messages")
        raw.execute(_SQLITE_CREATE, (json.dumps(_DATA),))

        def peer_get() -> Any:
            session_id, data, metadata, *rest = raw.execute(_SQLITE_GET, ("acme", "s")).fetchone()
            return session_id, json.loads(data), json.loads(metadata), *rest

        def peer_append() -> Any:
            content = json.dumps(_CONTENT)
            raw.execute("BEGIN IMMEDIATE")
            ((number, place),) = raw.execute(_SQLITE_GROW, (1, "acme", "s")).fetchall()
            raw.execute(_SQLITE_APPEND, ("acme", "thread", number, place, "user", content, 60, 1))
            raw.execute("COMMIT")

        sessions = store.for_tenant("acme").sessions
        sessions.create("s", _DATA)
        get = latency(lambda: sessions.get("s"), peer_get, calls=5000)
        append = latency(lambda: sessions.append("s", "user", _CONTENT), peer_append, calls=1000)
        raw.close()
    return [
        compared("sessions get, SQLite", get, "raw sqlite3", at_most=1.5),
        compared("sessions append, SQLite", append, "raw sqlite3, the same two statements"),
    ]
