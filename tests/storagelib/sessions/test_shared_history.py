"""Histories that sessions share: nothing is lost that somebody sees, nothing stays that nobody sees."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import closing, suppress

import psycopg
import pytest

from storage_sql.queries import load
from storagelib._async.postgres.database import AsyncDatabase
from storagelib._async.sessions import AsyncSessions
from storagelib._async.store import AsyncStore
from storagelib.components.sessions import Draft
from storagelib.errors import AlreadyExists, Conflict, NotFound
from tests.plugins.conformance import Tenants, opening_of

_ORPHANS = """
SELECT count(*) FROM llmspell.session_messages AS m WHERE m.tenant_id = %s
   AND NOT EXISTS (SELECT FROM llmspell.sessions AS s WHERE s.tenant_id = m.tenant_id AND s.thread_id = m.thread_id)
   AND NOT EXISTS (SELECT FROM llmspell.session_ancestry AS a WHERE a.tenant_id = m.tenant_id
                      AND a.thread_id = m.thread_id AND a.through >= m.sequence)"""
_ROWS = "SELECT count(*) FROM llmspell.session_messages WHERE tenant_id = %s"


def count(tenants: Tenants, query: str, tenant: str) -> int:
    """Return what a statement counts, looking behind row-level security."""
    with closing(psycopg.connect(tenants.installation.superuser_dsn)) as superuser:
        row = superuser.execute(query.encode(), (tenant,)).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("seed", range(3))
async def test_eight_writers_share_and_take_away(conformance_tenants: Tenants, seed: int) -> None:
    """After branching, popping, clearing and deleting at once, every session has what it counts, and no row is left over."""
    opening = opening_of(conformance_tenants, "role")
    tenant_id = opening.new_tenant()
    async with await AsyncStore.open(opening.config, provider=opening.provider) as store:
        sessions = store.for_tenant(tenant_id).sessions

        async def write(chance: random.Random) -> int:
            done = 0
            for _ in range(40):
                one, other = chance.choice("abcdef"), chance.choice("abcdef")
                with suppress(Conflict, NotFound, AlreadyExists):
                    match chance.randrange(10):
                        case 0 | 1 | 2:
                            await sessions.branch(one, new_id=other)
                        case 3 | 4:
                            await sessions.append(one, "user", one, idempotency_key=chance.choice([None, "k"]))
                        case 5 | 6 | 7:
                            await sessions.pop_last(one)
                        case 8:
                            await sessions.delete(one)
                        case _:
                            await (sessions.clear(one) if chance.random() < 0.3 else sessions.create(one))
                    done += 1
            return done

        await sessions.create("a")
        for n in range(20):
            await sessions.append("a", "user", n)
        done = await asyncio.gather(*(write(random.Random(f"{seed} {n}")) for n in range(8)))
        assert sum(done) > 40
        async for session in sessions.sessions():
            seen = [message async for message in sessions.messages(session.session_id)]
            assert len(seen) == session.message_count
            assert [message.sequence for message in seen] == sorted({message.sequence for message in seen})
        assert count(conformance_tenants, _ORPHANS, tenant_id) == 0
        async for session in sessions.sessions():
            await sessions.delete(session.session_id)
    assert count(conformance_tenants, _ROWS, tenant_id) == 0


async def test_what_came_after_the_lock_is_not_touched(conformance_tenants: Tenants) -> None:
    """A session that was not there to be locked loses no message, and is not branched, when it comes a moment later."""
    opening = opening_of(conformance_tenants, "role")
    tenant_id = opening.new_tenant()
    queries = load("sessions")
    async with await AsyncStore.open(opening.config, provider=opening.provider) as store:
        sessions = store.for_tenant(tenant_id).sessions
        for number, (name, before, nothing) in enumerate(
            [
                ("pop_last", "lock", []),
                ("clear", "lock", []),
                ("remove", "lock", [(False, 0)]),
                ("branch", "hold", []),
            ]
        ):
            one = f"late-{number}"
            asked = {"session": one, "sessions": [one], "new_session": "new", "at": None}
            rest = dict.fromkeys(["data", "metadata", "ttl", "expires_at"])
            async with database_of(sessions).transaction() as transaction:
                assert not await transaction.fetch(queries[before], **asked)
                await sessions.create(one)
                await sessions.append(one, "user", "kept")
                assert await transaction.fetch(queries[name], **asked, **rest) == nothing
            assert await sessions.count(one) == 1
            assert await sessions.get("new") is None


@pytest.mark.parametrize("name", ["pop_last", "clear", "remove"])
async def test_a_sight_that_came_after_the_lock_stops_it(conformance_tenants: Tenants, name: str) -> None:
    """Who takes messages away does nothing while a session sees them that nobody has locked; the next try takes them."""
    opening = opening_of(conformance_tenants, "role")
    tenant_id = opening.new_tenant()
    queries = load("sessions")
    async with await AsyncStore.open(opening.config, provider=opening.provider) as store:
        sessions = store.for_tenant(tenant_id).sessions
        await sessions.create("a")
        await sessions.append_many("a", [Draft("user", n) for n in range(3)])
        await sessions.branch("a", new_id="b")
        asked = {"session": "a", "sessions": ["a"]}
        async with database_of(sessions).transaction() as transaction:
            await transaction.run([(queries["lock"], asked), (queries["lock_family"], asked)])
            await sessions.branch("b", new_id="c")
            ((told, *_),) = await transaction.fetch(queries[name], **asked)
            assert told in {"busy", True}
        assert [await sessions.count(one) for one in "abc"] == [3, 3, 3]
        async with database_of(sessions).transaction() as transaction:
            *_, ((told, *_),) = await transaction.run(
                [(queries[step], asked) for step in ("lock", "lock_family", name)]
            )
            assert told in {"active", False}
        assert [len(await sessions.last(one, 9)) for one in "bc"] == [3, 3]
        assert await sessions.get("a") is None or await sessions.count("a") < 3


def database_of(sessions: AsyncSessions) -> AsyncDatabase:
    """Return what the store's statements go through."""
    database: AsyncDatabase = sessions._backend._database  # type: ignore[attr-defined]
    return database


async def test_a_branch_costs_nothing_and_depth_little(conformance_tenants: Tenants) -> None:
    """A branch of 2,000 messages adds no message; reading the end of a branch of the fiftieth degree stays quick."""
    opening = opening_of(conformance_tenants, "role")
    tenant_id = opening.new_tenant()
    async with await AsyncStore.open(opening.config, provider=opening.provider) as store:
        sessions = store.for_tenant(tenant_id).sessions
        await sessions.create("s0")
        await sessions.append_many("s0", [Draft("user", n) for n in range(2_000)])
        for n in range(1, 51):
            await sessions.branch(f"s{n - 1}", new_id=f"s{n}")
            await sessions.append(f"s{n}", "user", n)
        before = count(conformance_tenants, _ROWS, tenant_id)
        await sessions.branch("s50", new_id="end")
        assert count(conformance_tenants, _ROWS, tenant_id) == before == 2_050
        await sessions.create("own")
        await sessions.append_many("own", [Draft("user", n) for n in range(41, 51)])
        times: dict[str, list[float]] = {"own": [], "end": []}
        for session, taken in [*times.items()] * 20:
            begun = time.perf_counter()
            last = await sessions.last(session, 10)
            taken.append(time.perf_counter() - begun)
            assert [message.content for message in last] == list(range(41, 51))
        # Side by side, and each at its best: what else the machine does is not measured.
        assert min(times["end"]) < 10 * min(times["own"])
