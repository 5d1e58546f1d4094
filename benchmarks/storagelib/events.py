"""The event log beside a bare INSERT and COPY into an unprotected table with the same keys and indexes, fsync on."""

from __future__ import annotations

import asyncio
import itertools
import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from benchmarks.pairs import latency, latency_async
from benchmarks.results import Result, figure
from benchmarks.storagelib.ground import COMMAND, Ground, compared
from storagelib.components.events import NewEvent
from storagelib.identifiers import uuid7

_COLUMNS = "tenant_id, event_id, event_type, correlation_id, stream, sequence, position, timestamp, occurred_at, language, payload"
_TYPES = ["text", "uuid", "text", "text", "text", "int8", "int8", "timestamptz", "timestamptz", "text", "jsonb"]
_TABLE = """
CREATE TABLE bare.event_log (LIKE {schema}.event_log INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)
PARTITION BY RANGE (timestamp);
CREATE TABLE bare.event_log_all PARTITION OF bare.event_log FOR VALUES FROM ('2020-01-01') TO ('2100-01-01')
"""
_INSERT = f"""INSERT INTO bare.event_log ({_COLUMNS})
VALUES (%b, %b, %b, %b, %b, %b, %b, clock_timestamp(), clock_timestamp(), %b, %b)"""
_COPY = f"COPY bare.event_log ({_COLUMNS}) FROM STDIN (FORMAT binary)"
_SQLITE_TABLE = """CREATE TABLE bare (
    tenant_id TEXT NOT NULL, event_id TEXT NOT NULL, event_type TEXT NOT NULL, correlation_id TEXT NOT NULL,
    stream TEXT NOT NULL, sequence INTEGER NOT NULL, position INTEGER NOT NULL, timestamp INTEGER NOT NULL,
    occurred_at INTEGER NOT NULL, language TEXT NOT NULL, payload TEXT NOT NULL,
    PRIMARY KEY (tenant_id, timestamp, event_id)) STRICT;
CREATE INDEX bare_position ON bare (tenant_id, position);
CREATE UNIQUE INDEX bare_stream ON bare (tenant_id, stream, sequence);
CREATE INDEX bare_correlation ON bare (tenant_id, correlation_id, timestamp);
CREATE INDEX bare_type ON bare (tenant_id, event_type, timestamp);"""
_PAYLOAD = {"agent": "planner", "step": 12, "text": "the tool answered in time and said what was expected of it"}
_PEER = "bare prepared INSERT, no row-level security"
_NUMBERS = itertools.count(1)


def measure(ground: Ground) -> list[Result]:
    """Measure single appends, batches and reading."""
    with ground.connect() as connection:
        connection.execute("CREATE SCHEMA bare")
        for statement in _TABLE.format(schema=ground.tenants.installation.schema).split(";"):
            connection.execute(statement.encode())
    return [
        *(result for mode in ("role", "sealed") for result in _single(ground, mode)),
        asyncio.run(_awaited(ground)),
        *_batches(ground),
        *_sqlite(ground),
    ]


def _peer_row() -> tuple[Any, ...]:
    number = next(_NUMBERS)
    return ("acme", uuid7(), "agent.step", "run", "run", number, number, "python", Jsonb(_PAYLOAD))


def _single(ground: Ground, mode: str) -> list[Result]:
    with ground.store(mode) as store, ground.connect() as bare:
        log = store.for_tenant(ground.new_tenant(mode)).events
        heads = itertools.count(0)

        def peer() -> Any:
            return bare.execute(_INSERT, _peer_row(), prepare=True, binary=True)

        ways: dict[str, Callable[[], object]] = {
            "append": lambda: log.append("agent.step", _PAYLOAD, stream="run", correlation_id="run"),
            "append with an expected version": lambda: log.append(
                "agent.step", _PAYLOAD, stream="decided", correlation_id="run", expected_version=next(heads)
            ),
            "append with an id": lambda: log.append(
                "agent.step", _PAYLOAD, stream="keyed", correlation_id="run", event_id=uuid7()
            ),
        }
        chosen = ways if mode == "role" else {"append": ways["append"]}
        return [
            compared(f"events {name}, PostgreSQL, {mode} mode, sync", latency(way, peer, calls=400), _PEER, at_most=1.5)
            for name, way in chosen.items()
        ]


async def _awaited(ground: Ground) -> Result:
    bare = await psycopg.AsyncConnection.connect(ground.superuser_dsn, autocommit=True)
    async with await ground.async_store() as store, bare:
        log = store.for_tenant(ground.new_tenant()).events

        async def peer() -> Any:
            return await bare.execute(_INSERT, _peer_row(), prepare=True, binary=True)

        pair = await latency_async(
            lambda: log.append("agent.step", _PAYLOAD, stream="run", correlation_id="run"), peer, calls=400
        )
    return compared("events append, PostgreSQL, role mode, async", pair, _PEER, at_most=1.5)


def _batches(ground: Ground) -> list[Result]:
    results = []
    with ground.store() as store, ground.connect() as bare:
        log = store.for_tenant(ground.new_tenant()).events

        def copy(size: int) -> None:
            now = datetime.now(UTC)
            with bare.cursor() as cursor, cursor.copy(_COPY.encode()) as rows:
                rows.set_types(_TYPES)
                for _ in range(size):
                    tenant, event_id, *same, language, payload = _peer_row()
                    rows.write_row((tenant, event_id, *same, now, now, language, payload))

        def append(size: int) -> None:
            log.append_many([NewEvent("agent.step", _PAYLOAD, stream="run", correlation_id="run") for _ in range(size)])

        for size in (100, 1000, 10_000):
            calls = max(2, 10_000 // size)
            pair = latency(lambda size=size: append(size), lambda size=size: copy(size), calls=calls)
            results += [
                compared(
                    f"events append_many, {size:,} at once, PostgreSQL",
                    pair,
                    "raw binary COPY of the same rows, no row-level security",
                    share=0.6,
                    of="COPY",
                ),
                figure(
                    f"events append_many, {size:,} at once, PostgreSQL, events a second",
                    "1/s",
                    size / pair.ours,
                    "≥ 10,000",
                    lambda rate: rate >= 10_000,
                    runs=pair.runs,
                    command=COMMAND,
                ),
            ]
        reading = latency(
            lambda: log.read(after=5000, limit=100),
            lambda: bare.execute(
                f"SELECT {_COLUMNS} FROM bare.event_log WHERE tenant_id = %s AND position > %s"
                " ORDER BY position LIMIT 101",
                ("acme", 5000),
                prepare=True,
                binary=True,
            ).fetchall(),
            calls=300,
        )
        results.append(compared("events read, a page of 100, PostgreSQL", reading, "the bare statement", at_most=1.5))
    return results


def _sqlite(ground: Ground) -> list[Result]:
    raw = sqlite3.connect(ground.folder / "raw-events.db", isolation_level=None)
    raw.execute("PRAGMA journal_mode = WAL")
    raw.execute("PRAGMA synchronous = NORMAL")
    raw.executescript(_SQLITE_TABLE)
    insert = f"INSERT INTO bare ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

    def row() -> tuple[Any, ...]:
        number = next(_NUMBERS)
        tenant, event_id, *same = ("acme", str(uuid7()), "agent.step", "run", "run", number, number)
        return (tenant, event_id, *same, number, number, "python", json.dumps(_PAYLOAD))

    def batch() -> None:
        raw.execute("BEGIN IMMEDIATE")
        raw.executemany(insert, [row() for _ in range(1000)])
        raw.execute("COMMIT")

    with ground.sqlite("events") as store:
        log = store.for_tenant("acme").events
        one = latency(
            lambda: log.append("agent.step", _PAYLOAD, stream="run", correlation_id="run"),
            lambda: raw.execute(insert, row()),
            calls=1000,
        )
        many = latency(
            lambda: log.append_many(
                [NewEvent("agent.step", _PAYLOAD, stream="run", correlation_id="run") for _ in range(1000)]
            ),
            batch,
            calls=10,
        )
    raw.close()
    return [
        compared("events append, SQLite", one, "raw sqlite3 INSERT"),
        compared("events append_many, 1,000 at once, SQLite", many, "raw sqlite3 executemany"),
    ]
