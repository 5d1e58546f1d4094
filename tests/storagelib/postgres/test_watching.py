"""Asynchronous connections, which the loop watches between calls: they end, break, are cancelled and closed as before."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from storage_sql.queries import Query
from storagelib import AsyncStore
from storagelib.errors import Unavailable
from tests.plugins.conformance import Tenants, opening_of
from tests.plugins.operator import until

SLEEP = Query("test.sleep", "SELECT pg_sleep(:seconds)", {"seconds": "float8"})
PID = Query("test.pid", "SELECT pg_backend_pid()", {})


@pytest.fixture(params=["role", "sealed"])
async def opened(request: pytest.FixtureRequest, conformance_tenants: Tenants) -> AsyncIterator[Any]:
    """Give an asynchronous store of two connections at most, and the handle of a tenant."""
    opening = opening_of(conformance_tenants, request.param, pool_min=1, pool_max=2)
    async with await AsyncStore.open(opening.config, provider=opening.provider) as store:
        yield store.for_tenant(opening.new_tenant())


def database(handle: Any) -> Any:
    """Return the tenant's view of the database."""
    return handle.kv._backend._database


async def login_of(handle: Any) -> Any:
    """Return the login that serves a handle."""
    return await database(handle)._logins.login(handle.tenant_id)


def watched() -> set[int]:
    """Return the sockets that the loop watches, but for its own."""
    loop: Any = asyncio.get_running_loop()
    return set(loop._selector.get_map()) - {loop._ssock.fileno()}


async def test_an_idle_connection_that_the_server_ends_is_not_watched_any_more(
    opened: Any, conformance_tenants: Tenants
) -> None:
    """The loop does not spin on a socket that has ended, and the next call has another connection."""
    await opened.kv.set("a", b"1")
    before = watched()
    assert before
    ((pid,),) = await database(opened).fetch(PID)
    await asyncio.to_thread(conformance_tenants.terminate, [pid])
    await until(lambda: watched() < before)
    # A connection that was used a moment ago is not looked at before it is used again.
    await asyncio.sleep(0.6)
    assert await opened.kv.get("a") == b"1"


async def test_a_connection_that_breaks_in_a_call_is_told_and_replaced(
    opened: Any, conformance_tenants: Tenants
) -> None:
    """Nobody waits for an answer that does not come."""
    for _ in range(3):
        ((pid,),) = await database(opened).fetch(PID)
        call = asyncio.create_task(database(opened).fetch(SLEEP, seconds=300))
        await until(lambda pid=pid: pid in conformance_tenants.asleep())
        await asyncio.to_thread(conformance_tenants.terminate, [pid])
        with pytest.raises(Unavailable) as broken:
            await asyncio.wait_for(call, 60)
        assert broken.value.outcome == "unknown"
        assert await opened.kv.get("a") is None


async def test_a_connection_that_is_closed_under_a_call_ends_it(opened: Any, conformance_tenants: Tenants) -> None:
    """With an error, and at once."""
    before = conformance_tenants.asleep()
    login = await login_of(opened)
    connection = await login.lend()
    session = connection.session
    waiting = asyncio.create_task(connection.wait(session.exchange([session.encode((SLEEP, {"seconds": 300}), "t")])))
    await until(lambda: len(conformance_tenants.asleep() - before) == 1)
    number = connection.pgconn.socket
    await connection.close()
    with pytest.raises(Exception, match="closed"):
        await asyncio.wait_for(waiting, 60)
    assert number not in watched()
    await login.take_back(connection)
    assert await opened.kv.get("a") is None


async def test_what_is_larger_than_the_sockets_hold_goes_both_ways(opened: Any) -> None:
    """Sending waits too; other calls go on meanwhile, on the same two connections."""
    large = bytes(range(256)) * (1 << 16)
    await asyncio.gather(*(opened.kv.set(f"large/{n}", large) for n in range(4)))
    read = await asyncio.gather(*(opened.kv.get(f"large/{n % 4}") for n in range(8)))
    assert all(value == large for value in read)
    assert await opened.kv.get("none") is None


async def test_cancelled_calls_leave_nothing_behind(opened: Any, conformance_tenants: Tenants) -> None:
    """At any moment of a call, of sending as of waiting: each counts once or not at all, and is told if it was done."""
    done = 0
    for turn in range(60):
        call = asyncio.create_task(opened.kv.increment("n"))
        await asyncio.sleep(turn * 0.00002)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            done = max(done, await call)
    await opened.kv.increment("n")
    assert done < int(await opened.kv.get("n")) <= 61
    before = conformance_tenants.asleep()
    blocked = [asyncio.create_task(database(opened).fetch(SLEEP, seconds=300)) for _ in range(2)]
    await until(lambda: len(conformance_tenants.asleep() - before) == 2)
    for call in blocked:
        call.cancel()
    ended = await asyncio.wait_for(asyncio.gather(*blocked, return_exceptions=True), 60)
    assert all(isinstance(each, asyncio.CancelledError) for each in ended)
    assert await opened.kv.increment("other") == 1


def test_loops_that_follow_each_other_get_sockets_of_the_same_number(conformance_tenants: Tenants) -> None:
    """A store for each loop; none meets what another watched."""

    async def live(number: int) -> int:
        opening = opening_of(conformance_tenants, "role", pool_min=1, pool_max=2)
        async with await AsyncStore.open(opening.config, provider=opening.provider) as store:
            kv = store.for_tenant(opening.new_tenant()).kv
            await asyncio.gather(*(kv.increment("n") for _ in range(number)))
            total = int(await kv.get("n") or b"0")
        assert watched() == set()
        return total

    assert [asyncio.run(live(number)) for number in (3, 4, 5)] == [3, 4, 5]


async def test_stores_that_follow_each_other_on_one_loop_forget_their_sockets(conformance_tenants: Tenants) -> None:
    """Opened, used and closed in turn: the numbers of their sockets come again."""
    numbers: list[int] = []
    opening = opening_of(conformance_tenants, "role", pool_min=1, pool_max=1)
    tenant = opening.new_tenant()
    for turn in range(6):
        async with await AsyncStore.open(opening.config, provider=opening.provider) as store:
            assert await store.for_tenant(tenant).kv.increment("n") == turn + 1
            numbers += watched()
        assert watched() == set()
    assert len(set(numbers)) < len(numbers)
