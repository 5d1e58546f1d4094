"""Two at once on one agent, type or thread: one waits for the other, and what either leaves is whole."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, closing
from typing import Any

import psycopg
import pytest

from storagelib import AsyncStore
from storagelib._async.agent_state import AsyncAgentState
from storagelib.errors import AlreadyExists, QuotaExceeded
from tests.plugins.conformance import Tenants, opening_of

_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE usename = current_user AND wait_event_type = 'Lock'"
_LOST_PARTS = """
SELECT count(*) FROM llmspell.agent_thread_parts AS p WHERE p.tenant_id = %s
   AND NOT EXISTS (SELECT FROM llmspell.agent_thread_checkpoints AS c
                    WHERE c.tenant_id = p.tenant_id AND c.thread_id = p.thread_id AND p.part_id = ANY (c.parts))"""
_GUARDS = """
SELECT (SELECT count(*) FROM llmspell.agent_thread_writes WHERE tenant_id = %(tenant)s AND channel = '')
     + (SELECT count(*) FROM llmspell.agent_transitions WHERE tenant_id = %(tenant)s AND length(to_phase) = 100)"""
_FULL = """
UPDATE llmspell.tenants SET quota_bytes = 10, used_bytes = 20, over_quota = %s, quota_enforced = true WHERE tenant = %s"""
_VALUE = random.Random(5).randbytes(3000)


class Handles:
    """One tenant's agents, as many handles as are asked for."""

    def __init__(self, tenants: Tenants, store: AsyncStore, tenant_id: str) -> None:
        """Take the open store."""
        self._tenants = tenants
        self._store = store
        self.tenant_id = tenant_id

    def new(self) -> AsyncAgentState:
        """Give a handle that remembers nothing."""
        return self._store.for_tenant(self.tenant_id).agent_state

    async def wait_for(self, task: asyncio.Task[Any]) -> None:
        """Return when one of the tenant's statements waits for another, or when the task is done without."""
        async with asyncio.timeout(60):
            async with await psycopg.AsyncConnection.connect(
                self._tenants.of(self.tenant_id).conninfo, autocommit=True
            ) as watcher:
                while not task.done():
                    row = await (await watcher.execute(_WAITING)).fetchone()
                    if row is not None and row[0]:
                        return
                    await asyncio.sleep(0.01)

    def sql(self, statement: str, values: Any) -> Any:
        """Run a statement that looks behind row-level security."""
        installation = self._tenants.installation
        with closing(psycopg.connect(installation.superuser_dsn, autocommit=True)) as superuser:
            done = superuser.execute(statement.encode(), values)
            return done.fetchall()[0][0] if done.description else None


@pytest.fixture
async def handles(conformance_tenants: Tenants) -> AsyncIterator[Handles]:
    """Give handles of a tenant that has nothing; no verb of theirs may leave a guard."""
    opening = opening_of(conformance_tenants, "role")
    tenant_id = opening.new_tenant()
    async with await AsyncStore.open(opening.config, provider=opening.provider) as store:
        made = Handles(conformance_tenants, store, tenant_id)
        yield made
        assert made.sql(_GUARDS, {"tenant": tenant_id}) == 0


@asynccontextmanager
async def held(agents: AsyncAgentState, verb: Awaitable[Any]) -> AsyncIterator[None]:
    """Run a verb of these agents in a transaction that commits when the block ends."""
    database = database_of(agents)
    async with database.transaction() as transaction:
        database.run = transaction.run
        try:
            await verb
        finally:
            del database.run
        yield


def database_of(agents: AsyncAgentState) -> Any:
    """Give what a handle's statements go through."""
    backend: Any = agents._backend
    return backend._database


async def put(agents: AsyncAgentState, thread: str, name: str, size: int, **options: Any) -> None:
    """Keep a checkpoint of one value of so many bytes more than the first."""
    await agents.threads.put(
        thread,
        "",
        name,
        head=("json", b"{}"),
        versions={"v": size},
        value_of=lambda _: ("bytes", _VALUE + b"+" * size),
        changed={"v"},
        **options,
    )


async def test_what_is_put_while_a_thread_goes_is_whole(handles: Handles) -> None:
    """A checkpoint on one that came after the deletion's lock stays, with the parts that it leans on."""
    agent, remover = handles.new(), handles.new()
    database = database_of(remover)
    real = database.run
    await put(agent, "t", "1", 0)

    async def torn(calls: Any) -> Any:
        first, *rest = calls
        async with database.transaction() as transaction:
            found = await transaction.run([first])
            await put(agent, "t", "2", 1)
            async with held(agent, put(agent, "t", "3", 2, parent_id="2")):
                going = asyncio.create_task(transaction.run(rest))
                await handles.wait_for(going)
            return [*found, *await going]

    database.run = torn
    assert await remover.threads.delete_thread("t") == 2
    database.run = real
    left = [found async for found in handles.new().threads.find("t")]
    assert [(found.checkpoint_id, found.values["v"][1]) for found in left] == [("3", _VALUE + b"++")]
    assert handles.sql(_LOST_PARTS, (handles.tenant_id,)) == 0
    assert await remover.threads.delete_thread("t") == 1
    assert handles.sql(_LOST_PARTS, (handles.tenant_id,)) == 0


async def test_a_run_that_comes_to_another_thread_meanwhile_stays(handles: Handles) -> None:
    """Runs are removed from the threads that were locked, and nothing of them is left over anywhere."""
    agent, remover = handles.new(), handles.new()
    database = database_of(remover)
    real = database.run
    await put(agent, "t", "1", 0, run_id="run")

    async def late(calls: Any) -> Any:
        if len(calls) > 1:
            await put(agent, "u", "1", 1, run_id="run")
        return await real(calls)

    database.run = late
    assert await remover.threads.delete_runs(["run"]) == 1
    database.run = real
    assert [found.thread_id async for found in handles.new().threads.find()] == ["u"]
    assert handles.sql(_LOST_PARTS, (handles.tenant_id,)) == 0
    assert await remover.threads.delete_runs(["run"]) == 1
    assert handles.sql(_LOST_PARTS, (handles.tenant_id,)) == 0


async def test_a_checkpoint_waits_for_a_save(handles: Handles) -> None:
    """The version that is being replaced is kept all the same, and its checkpoint is made."""
    saving, keeping = handles.new(), handles.new()
    await saving.save("a", {"n": 1}, agent_type="t")
    async with held(saving, saving.save("a", {"n": 2}, agent_type="t")):
        made = asyncio.create_task(keeping.checkpoint("a", "first"))
        await handles.wait_for(made)
    assert await made == 1
    assert (await keeping.load_checkpoint("a", "first")).state == {"n": 1}
    assert (await keeping.load("a")).version == 2


@pytest.mark.parametrize("before", [{}, {"": ["a"]}, {"": ["a"], "a": ["b"]}], ids=["new", "one", "two"])
async def test_of_two_declarations_the_later_one_holds(handles: Handles, before: dict[str, list[str]]) -> None:
    """Never a mixture of both."""
    one, other = handles.new(), handles.new()
    if before:
        await one.declare("t", before)
    async with held(one, one.declare("t", {"": ["a"], "a": ["one"]})):
        later = asyncio.create_task(other.declare("t", {"": ["a", "other"]}))
        await handles.wait_for(later)
        # Types do not wait for each other.
        await handles.new().declare("u", {"": ["a"]})
    await later
    assert await one.transitions("t") == {"": ("a", "other")}
    assert await one.transitions("u") == {"": ("a",)}


async def test_a_declaration_is_taken_back_over_the_quota(handles: Handles) -> None:
    """Removing is always possible, declaring is not."""
    agents = handles.new()
    await agents.declare("t", {"": ["a"]})
    handles.sql(_FULL, (True, handles.tenant_id))
    with pytest.raises(QuotaExceeded):
        await agents.declare("t", {"": ["b"]})
    assert await agents.transitions("t") == {"": ("a",)}
    await agents.declare("t", None)
    assert await agents.transitions("t") == {}


async def test_two_threads_are_not_copied_to_one(handles: Handles) -> None:
    """The later copy is told that there is a thread already."""
    one, other = handles.new(), handles.new()
    await put(one, "one", "1", 1)
    await put(one, "other", "2", 2)
    await one.threads.put_writes("other", "", "2", "task", [(0, "c", ("k", b"w"))])
    async with held(one, one.threads.copy_thread("one", "new")):
        later = asyncio.create_task(other.threads.copy_thread("other", "new"))
        await handles.wait_for(later)
    with pytest.raises(AlreadyExists):
        await later
    found = [found async for found in handles.new().threads.find("new")]
    assert [(each.checkpoint_id, each.values["v"][1], each.writes) for each in found] == [("1", _VALUE + b"+", ())]
    assert await other.threads.delete_thread("new") == 1
    await other.threads.copy_thread("other", "new")
    assert [len(found.writes) async for found in one.threads.find("new")] == [1]
