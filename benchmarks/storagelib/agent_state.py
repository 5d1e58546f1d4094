"""Agent state beside a bare prepared statement, and LangGraph's saver beside the official one for PostgreSQL."""

from __future__ import annotations

import asyncio
import importlib
import json
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from langgraph.checkpoint.base.id import uuid6
from psycopg import sql

from benchmarks.pairs import Pair, latency, latency_async
from benchmarks.results import Result, figure
from benchmarks.storagelib.ground import COMMAND, Ground, compared
from storagelib.integrations.langgraph import AsyncStorageSaver

_BARE = "CREATE TABLE public.state_bare (tenant_id text, agent_id text, state jsonb, PRIMARY KEY (tenant_id, agent_id))"
_GET = "SELECT state FROM public.state_bare WHERE tenant_id = %s AND agent_id = %s"
_SQLITE_GET = """SELECT agent_id, agent_type, data_version, schema_version, session_id, phase, checksum, created_at, updated_at,
    state_data FROM agent_states WHERE tenant_id = ? AND agent_id = ?"""
_STATE = {"plan": ["read", "think", "write"], "notes": "x" * 400, "step": 3, "scores": [0.5] * 20}
_PEER = "bare prepared statement, no row-level security"
_SAVER = "langgraph AsyncPostgresSaver"
_STEPS = 1000
_RUNS = 5
_LISTED = 100
_WORDS = [
    "state",
    "agent",
    "tool",
    "answer",
    "plan",
    "because",
    "index",
    "tenant",
    "vector",
    "query",
    "graph",
    "result",
    "event",
    "memory",
    "of",
    "the",
    "and",
    "to",
    "is",
]
_OURS = ("agent_thread_checkpoints", "agent_thread_parts", "agent_thread_writes")
_THEIRS = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")
_HISTORY = ("agent_states", "agent_state_history")


def measure(ground: Ground) -> list[Result]:
    """Measure reading a state in both modes and twins, and a conversation of a thousand steps."""
    with ground.connect() as connection:
        connection.execute(_BARE)
        connection.execute("INSERT INTO public.state_bare VALUES ('acme', 'a', %s)", (psycopg.types.json.Json(_STATE),))
    results = [_blocking(ground, mode) for mode in ("role", "sealed")]
    results += [asyncio.run(_awaited(ground, mode)) for mode in ("role", "sealed")]
    results.append(_sqlite(ground))
    for mode in ("role", "sealed"):
        results += asyncio.run(_conversation(ground, mode))
    return results


def _blocking(ground: Ground, mode: str) -> Result:
    with ground.store(mode) as store, ground.connect() as bare:
        states = store.for_tenant(ground.new_tenant(mode)).agent_state
        states.save("a", _STATE, agent_type="bench")

        def peer() -> Any:
            return bare.execute(_GET, ("acme", "a"), prepare=True, binary=True).fetchone()

        pair = latency(lambda: states.load("a"), peer)
    return compared(f"agent_state load, PostgreSQL, {mode} mode, sync", pair, _PEER, at_most=1.3)


async def _awaited(ground: Ground, mode: str) -> Result:
    bare = await psycopg.AsyncConnection.connect(ground.superuser_dsn, autocommit=True)
    async with await ground.async_store(mode) as store, bare:
        states = store.for_tenant(ground.new_tenant(mode)).agent_state
        await states.save("a", _STATE, agent_type="bench")

        async def peer() -> Any:
            return await (await bare.execute(_GET, ("acme", "a"), prepare=True, binary=True)).fetchone()

        pair = await latency_async(lambda: states.load("a"), peer)
    return compared(f"agent_state load, PostgreSQL, {mode} mode, async", pair, _PEER, at_most=1.3)


def _sqlite(ground: Ground) -> Result:
    """Compare with sqlite3 on a table that has our columns, keys, indexes and checks, and our row."""
    with ground.sqlite("states") as store:
        states = store.for_tenant("acme").agent_state
        states.save("a", _STATE, agent_type="bench")
        raw = ground.raw_sqlite("states", "agent_states", rows=True)

        def peer() -> Any:
            *head, text = raw.execute(_SQLITE_GET, ("acme", "a")).fetchone()
            return *head, json.loads(text)

        pair = latency(lambda: states.load("a"), peer, calls=5000)
        raw.close()
    return compared("agent_state load, SQLite", pair, "raw sqlite3", at_most=1.5)


@dataclass(slots=True)
class _Side:
    """One saver in the middle of a conversation that grows by a message a step."""

    saver: Any
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    config: Any = field(default_factory=lambda: {"configurable": {"thread_id": "t", "checkpoint_ns": ""}})
    messages: list[Any] = field(default_factory=list)
    versions: dict[str, Any] = field(default_factory=dict)
    seen: dict[str, Any] = field(default_factory=dict)

    async def steps(self, count: int) -> list[float]:
        """Go on by that many steps; return the seconds of each put."""
        taken = []
        for _ in range(count):
            step = len(self.messages)
            self.messages = [*self.messages, self._message(step)]
            branch = f"branch:to:node{step % 3}"
            newest = max(self.versions.values(), default=None)
            new = dict.fromkeys(("messages", branch, "turn"), self.saver.get_next_version(newest, None))
            self.versions = {**self.versions, **new}
            self.seen = {**self.seen, f"node{step % 3}": self.versions}
            checkpoint = {
                "v": 4,
                "id": str(uuid6(clock_seq=step)),
                "ts": "2026-01-01T00:00:00+00:00",
                "channel_values": {"messages": self.messages, branch: None, "turn": step},
                "channel_versions": self.versions,
                "versions_seen": self.seen,
                "updated_channels": ["messages", "turn"],
            }
            metadata = {"source": "loop", "step": step, "parents": {}, "run_id": f"run-{step // 10}"}
            started = time.perf_counter()
            self.config = await self.saver.aput(self.config, checkpoint, metadata, new)
            taken.append(time.perf_counter() - started)
            writes = [("messages", [self._message(step)]), (branch, None)]
            await self.saver.aput_writes(self.config, writes, str(uuid6()), "~__pregel_pull, node")
        return taken

    def _message(self, step: int) -> dict[str, Any]:
        content = " ".join(self.chance.choices(_WORDS, k=self.chance.randint(20, 120)))
        return {"role": "assistant", "id": str(self.chance.getrandbits(64)), "content": content, "meta": {"n": step}}


async def _conversation(ground: Ground, mode: str) -> list[Result]:
    async with await ground.async_store(mode) as store, _official(ground) as official:
        tenant_id = ground.new_tenant(mode)
        ours, theirs = _Side(AsyncStorageSaver(store.for_tenant(tenant_id))), _Side(official)
        put = await _in_turns(ours, theirs)
        thread = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}

        def fresh() -> Any:
            """Give a saver that remembers nothing, as after a restart."""
            return AsyncStorageSaver(store.for_tenant(tenant_id))

        async def listed(saver: Any) -> int:
            return sum([1 async for _ in saver.alist(thread, limit=_LISTED)])

        get = await latency_async(
            lambda: ours.saver.aget_tuple(thread), lambda: official.aget_tuple(thread), calls=20, runs=_RUNS
        )
        first = await latency_async(
            lambda: fresh().aget_tuple(thread), lambda: official.aget_tuple(thread), calls=20, runs=_RUNS
        )
        listing = await _few(lambda: listed(fresh()), lambda: listed(official))
        states = store.for_tenant(tenant_id).agent_state
        for count in range(1, _STEPS + 1):
            await states.save("a", {"messages": ours.messages[:count], "turn": count}, agent_type="bench")
    schema = ground.tenants.installation.schema
    with ground.connect() as connection:
        kept = _bytes(connection, schema, _OURS)
        peers = _bytes(connection, "peer", _THEIRS)
        history = _bytes(connection, schema, _HISTORY)
        for table in (*_OURS, *_HISTORY):
            connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(schema, table)))
    where = f"PostgreSQL, {mode} mode"
    return [
        compared(f"agent_state put, {_STEPS} steps, {where}", put, _SAVER, at_least=1.5),
        compared(f"agent_state get, {where}", get, _SAVER, at_least=1.5),
        compared(f"agent_state get after a restart, {where}", first, _SAVER, at_least=1.5),
        compared(f"agent_state list {_LISTED}, {where}", listing, _SAVER, at_least=1.5),
        _size(f"agent_state as LangGraph's checkpoints after {_STEPS} steps, {where}", kept, peers),
        _size(f"agent_state with {_STEPS} versions of the same states, {where}", history, peers),
    ]


async def _in_turns(ours: _Side, theirs: _Side) -> Pair:
    taken = []
    for run in range(_RUNS):
        count = _STEPS // _RUNS
        mine: list[float] = []
        yours: list[float] = []
        for _ in range(4):
            for side, times in ((ours, mine), (theirs, yours))[:: -1 if run % 2 else 1]:
                times.extend(await side.steps(count // 4))
        taken.append((statistics.median(mine), statistics.median(yours)))
    return _pair(taken)


async def _few(ours: Callable[[], Awaitable[int]], theirs: Callable[[], Awaitable[int]]) -> Pair:
    taken = []
    for run in range(_RUNS):
        times = {}
        for name, call in (("ours", ours), ("theirs", theirs))[:: -1 if run % 2 else 1]:
            started = time.perf_counter()
            assert await call() == _LISTED
            times[name] = time.perf_counter() - started
        taken.append((times["ours"], times["theirs"]))
    return _pair(taken)


def _pair(taken: list[tuple[float, float]]) -> Pair:
    mine, yours = (statistics.median(side) for side in zip(*taken, strict=True))
    return Pair(mine, yours, statistics.median(one / other for one, other in taken), len(taken))


@asynccontextmanager
async def _official(ground: Ground) -> AsyncIterator[Any]:
    """Give the official saver on tables of its own, without row-level security."""
    with ground.connect() as connection:
        connection.execute("DROP SCHEMA IF EXISTS peer CASCADE")
        connection.execute("CREATE SCHEMA peer")
    module = importlib.import_module("langgraph.checkpoint.postgres.aio")
    dsn = psycopg.conninfo.make_conninfo(ground.superuser_dsn, options="-csearch_path=peer")
    async with module.AsyncPostgresSaver.from_conn_string(dsn) as saver:
        await saver.setup()
        yield saver


def _bytes(connection: psycopg.Connection[Any], schema: str, tables: tuple[str, ...]) -> int:
    """Return what tables and their indexes take once what is dead is gone."""
    total = 0
    for table in tables:
        name = sql.Identifier(schema, table)
        connection.execute(sql.SQL("VACUUM FULL {}").format(name))
        size = connection.execute(
            "SELECT pg_total_relation_size(%s::regclass)", (name.as_string(connection),)
        ).fetchone()
        total += size[0] if size else 0
    return total


def _size(name: str, ours: int, theirs: int) -> Result:
    return figure(
        name,
        "MB",
        ours / 1e6,
        "≤ 0.5× the bytes",
        lambda mine: mine <= theirs / 1e6 / 2,
        peer=theirs / 1e6,
        peer_name=_SAVER,
        command=COMMAND,
    )
