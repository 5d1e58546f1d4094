"""The absolute targets the library was asked for, beside what was measured. They depend on the machine, ratios do not."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import Result, figure, percentile
from benchmarks.storagelib.ground import COMMAND, Ground
from storage_sql.vector_indexes import IndexOptions
from storagelib import Administration, Store, StoreConfig

_STATE = {"plan": ["read", "think", "write"], "notes": "x" * 400, "step": 3}
_DATA = {"user": "someone", "topic": "what was asked about"}
_SLOWEST = 0.95


def measure(ground: Ground) -> list[Result]:
    """Measure single calls, searches, many tenants at once, and memory."""
    return [
        *_calls(ground),
        *_searches(ground),
        *_connecting(ground),
        *asyncio.run(_many_tenants(ground)),
        _memory(ground),
    ]


def _calls(ground: Ground) -> list[Result]:
    chance = np.random.default_rng(1)
    numbers = itertools.count()
    calls = ground.size(400, tiny=3)
    with ground.store() as store:
        handle = store.for_tenant(ground.new_tenant())
        embedding = chance.standard_normal(384, dtype=np.float32)
        handle.sessions.create("s", _DATA)
        first = handle.graph.add_entity("thing", "the first").entity_id
        tx = handle.graph.last_transaction()
        ways: list[tuple[str, float, Callable[[], object]]] = [
            (
                "state write",
                10,
                lambda: handle.agent_state.save("a", {**_STATE, "n": next(numbers)}, agent_type="bench"),
            ),
            ("state read", 5, lambda: handle.agent_state.load("a")),
            ("session create", 5, lambda: handle.sessions.create(None, _DATA)),
            ("session get", 5, lambda: handle.sessions.get("s")),
            ("session update", 5, lambda: handle.sessions.update("s", _DATA)),
            (
                "hook record",
                1,
                lambda: handle.hooks.record(
                    "hook", "before_tool", triggering_component="agent", input=_DATA, output=1, duration_ms=1.0
                ),
            ),
            ("event append", 2, lambda: handle.events.append("step", _DATA, stream="s", correlation_id="s")),
            ("vector insert, 384 dimensions", 2, lambda: handle.vectors.insert(f"v{next(numbers)}", embedding)),
            ("graph entity insert", 3, lambda: handle.graph.add_entity("thing", f"thing {next(numbers)}")),
            ("graph entity as of a transaction", 10, lambda: handle.graph.as_of(tx=tx).get_entity(first)),
        ]
        return [_timed(name, limit, way, calls) for name, limit, way in ways]


def _searches(ground: Ground) -> list[Result]:
    """Search exactly where rows are few, and on the tenant's index where they are many."""
    results = []
    sizes = [ground.size(10_000, tiny=60), *([100_000] if ground.full else [])]
    chance = np.random.default_rng(2)
    with ground.store() as store:
        for rows in sizes:
            tenant = ground.new_tenant()
            vectors = store.for_tenant(tenant).vectors
            centres = chance.standard_normal((200, 384), dtype=np.float32)
            for start in range(0, rows, 10_000):
                count = min(10_000, rows - start)
                noise = chance.standard_normal((count, 384), dtype=np.float32)
                vectors.insert_many(
                    [f"v{start + place}" for place in range(count)],
                    centres[chance.integers(0, 200, count)] + 0.5 * noise,
                )
            _index(ground, tenant)
            queries = itertools.cycle(centres)
            search = lambda queries=queries, vectors=vectors: vectors.search(next(queries), 10)  # noqa: E731
            results.append(_timed(f"vector search, {rows:,} × 384", 10, search, ground.size(200, tiny=3)))
    return results


def _index(ground: Ground, tenant: str) -> None:
    installation = ground.tenants.installation
    with ground.connect() as superuser:
        superuser.execute(f"ANALYZE {installation.schema}.vector_embeddings_384".encode())
    with Administration.open(url=installation.operator_dsn, schema=installation.schema) as administration:
        administration.vector_index(tenant, 384, options=IndexOptions(memory_megabytes=1024), dry_run=False)


def _connecting(ground: Ground) -> list[Result]:
    """Enter a tenant, and take a connection, each with a whole call; and open a first connection."""
    results = []
    calls = ground.size(500, tiny=3)
    for mode, name, limit in (
        ("sealed", "tenant entry, with a whole call", 1),
        ("role", "connection of the pool, with a whole call", 5),
    ):
        with ground.store(mode) as store:
            kv = store.for_tenant(ground.new_tenant(mode)).kv
            kv.set("k", b"v")
            results.append(_timed(name, limit, lambda kv=kv: kv.get("k"), calls))  # type: ignore[misc]
    return results


async def _many_tenants(ground: Ground) -> list[Result]:
    """Let 100 tenants do 100 things each at once, over one pool."""
    tenants, operations = ground.size(100, tiny=3), ground.size(100, tiny=4)
    async with await ground.async_store("sealed") as store:
        handles = [store.for_tenant(ground.new_tenant("sealed")) for _ in range(tenants)]

        async def work(number: int, handle: Any) -> None:
            mine = f"only {number}".encode()
            for place in range(operations // 2):
                await handle.kv.set(f"k{place}", mine)
                if await handle.kv.get(f"k{place}") != mine:
                    raise AssertionError("a tenant read what another wrote")

        before, started = _resident(), time.perf_counter()
        await asyncio.gather(*(work(number, handle) for number, handle in enumerate(handles)))
        taken, grown = time.perf_counter() - started, _resident() - before
    what = f"target: {tenants} tenants × {operations} operations at once"
    return [
        figure(what, "s", taken, "< 10 s", lambda seconds: seconds < 10, command=COMMAND),
        figure(f"{what}, memory", "MB", grown, "< 500 MB", lambda megabytes: megabytes < 500, command=COMMAND),
    ]


def _memory(ground: Ground) -> Result:
    """Keep entries in memory: a vector of 768 dimensions and a kilobyte of value for each."""
    entries = ground.size(10_000, tiny=50)
    chance = np.random.default_rng(3)
    before = _resident()
    with Store.open(StoreConfig(backend="memory")) as store:
        handle = store.for_tenant("acme")
        handle.vectors.insert_many(
            [f"v{place}" for place in range(entries)],
            chance.standard_normal((entries, 768), dtype=np.float32),
            metadata={"kind": "entry"},
        )
        for place in range(entries):
            handle.kv.set(f"k{place}", b"x" * 1024)
        grown = _resident() - before
    return figure(
        f"target: {entries:,} entries in memory",
        "MB",
        grown,
        "< 500 MB",
        lambda megabytes: megabytes < 500,
        command=COMMAND,
    )


def _timed(name: str, limit: float, call: Callable[[], object], calls: int) -> Result:
    """Time single calls; the 95th of a hundred has to stay below the limit."""
    for _ in range(max(1, calls // 10)):
        call()
    taken = []
    for _ in range(calls):
        started = time.perf_counter()
        call()
        taken.append((time.perf_counter() - started) * 1e3)
    return figure(
        f"target: {name}, p95",
        "ms",
        percentile(taken, _SLOWEST),
        f"< {limit:g} ms",
        lambda slowest: slowest < limit,
        runs=calls,
        command=COMMAND,
    )


def _resident() -> float:
    """Return this process's memory in megabytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
