"""A hundred tenants at once, a hundred operations each, on one store: every answer is the asker's own."""

from __future__ import annotations

import asyncio
import resource
import time
from typing import Any

import pytest

from storagelib import AsyncStore
from storagelib.conformance.subjects import Opening, Subject

TENANTS, ROUNDS = 100, 20
SECONDS_MAX, BYTES_MAX = 240.0, 500 << 20


async def live(tenant: Any) -> int:
    """Five operations a round, each compared with what only this tenant can know."""
    own, done = tenant.tenant_id.encode(), 0
    for turn in range(ROUNDS):
        await tenant.kv.set("who", own + str(turn).encode())
        assert await tenant.kv.get("who") == own + str(turn).encode()
        assert await tenant.kv.increment("turns") == turn + 1
        event = await tenant.events.append("turned", {"who": tenant.tenant_id}, stream="all")
        assert event.sequence == turn + 1
        assert event.position == turn + 1
        page = await tenant.events.read_stream("all", limit=1000)
        assert [each.payload["who"] for each in page] == [tenant.tenant_id] * (turn + 1)
        done += 5
    assert list(await tenant.kv.list_keys()) == ["turns", "who"]
    return done


async def test_a_hundred_tenants_do_a_hundred_operations_each(subject: Subject, opening: Opening) -> None:
    """The seeds ask for less than 10 s and 500 MB; the time is bounded loosely here and measured by the benchmark."""
    if subject.blocking:
        pytest.skip("the same statements as behind the asynchronous store, whose tasks are what is tested here")
    tenants = [opening.new_tenant() for _ in range(TENANTS)]
    async with await AsyncStore.open(opening.config, provider=opening.provider) as store:
        handles = [store.for_tenant(tenant) for tenant in tenants]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        started = time.perf_counter()
        gate = asyncio.Semaphore(16)

        async def gated(handle: Any) -> int:
            async with gate:
                return await live(handle)

        assert sum(await asyncio.gather(*map(gated, handles))) == TENANTS * ROUNDS * 5
        took = time.perf_counter() - started
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    assert took < SECONDS_MAX
    assert grown < BYTES_MAX
