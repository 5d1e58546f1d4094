"""A tenant's records are the same bytes on every backend, and so is what the tenant reads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from storage_sql.stores import STORES
from storage_sql.tables import tables
from storagelib import AsyncStore, Store, StoreConfig
from storagelib._async.postgres.admin import AsyncPostgresAdministration
from storagelib._async.postgres.database import AsyncDatabase
from storagelib._async.postgres.rows import AsyncPostgresRows
from storagelib._sync.postgres.admin import PostgresAdministration
from storagelib.codec import Record, decode, encode
from storagelib.conformance.subjects import SettableClock
from storagelib.errors import AlreadyExists, Conflict, InvalidInput, PermissionDenied
from storagelib.memory.rows import records
from storagelib.transfer import PARENTS, in_order
from tests.plugins.conformance import Tenants, opening_of
from tests.storagelib.transfer.backends import InMemory, InPostgres, InSqlite
from tests.storagelib.transfer.filled import DIMENSIONS, Filler, reads

TABLES = {name for name in tables() if name != "vector_embeddings"} | {
    f"vector_embeddings_{each}" for each in DIMENSIONS
}


@pytest_asyncio.fixture
async def memory() -> AsyncIterator[AsyncStore]:
    """Give a store in memory."""
    async with await AsyncStore.open(StoreConfig.in_memory()) as store:
        yield store


@pytest_asyncio.fixture
async def file(tmp_path: Path) -> AsyncIterator[AsyncStore]:
    """Give a store in a file."""
    async with await AsyncStore.open(StoreConfig.on_sqlite(tmp_path / "a.db", durability="normal")) as store:
        yield store


@pytest_asyncio.fixture(params=["role", "sealed"])
async def server(request: pytest.FixtureRequest, conformance_tenants: Tenants) -> AsyncIterator[tuple[AsyncStore, Any]]:
    """Give a store on PostgreSQL, and what makes tenants of it."""
    opening = opening_of(conformance_tenants, request.param, pool_min=0)
    async with await AsyncStore.open(opening.config, provider=opening.provider) as store:
        yield store, opening.new_tenant


def tables_in(lines: list[bytes]) -> set[str]:
    """Return the tables that lines are of."""
    return {decode(line).table for line in lines}


@pytest.mark.parametrize("seed", range(3))
async def test_memory_to_sqlite_to_memory(memory: AsyncStore, file: AsyncStore, seed: int) -> None:
    """Every table, byte for byte; a neighbour stays; public reads, tokens included, say the same."""
    tenant, neighbour = memory.for_tenant("acme"), file.for_tenant("neighbour")
    filler = Filler(tenant, seed)
    await filler.fill()
    await Filler(neighbour, seed).fill()
    before, theirs = await InMemory(memory).lines("acme"), await InSqlite(file).lines("neighbour")
    assert tables_in(before) == TABLES
    assert await InSqlite(file).write("acme", before) == len(before)
    assert await InSqlite(file).lines("acme") == before
    assert await InSqlite(file).lines("neighbour") == theirs
    expected = await reads(tenant)
    assert await reads(file.for_tenant("acme")) == expected
    assert await tenant.kv.clear() > 0
    await tenant.graph.add_entity("kind", "more")
    await tenant.events.append("more", None)
    assert await InMemory(memory).lines("acme") != before
    await InMemory(memory).write("acme", await InSqlite(file).lines("acme"))
    assert await InMemory(memory).lines("acme") == before
    assert await reads(tenant) == expected
    for handle in (tenant, file.for_tenant("acme")):
        for token in filler.tokens:
            assert (await handle.api_keys.verify(token, "read")).tenant_id == "acme"


async def test_postgres_to_sqlite_to_memory_and_back(
    server: tuple[AsyncStore, Any], file: AsyncStore, memory: AsyncStore, conformance_tenants: Tenants
) -> None:
    """The whole way round, in both modes of isolation, with a neighbour on each of the three."""
    store, new_tenant = server
    name, other = new_tenant(), new_tenant()
    postgres, sqlite, ram = InPostgres(conformance_tenants.installation), InSqlite(file), InMemory(memory)
    filler = Filler(store.for_tenant(name), 7)
    await filler.fill()
    for each in (store, file, memory):
        await Filler(each.for_tenant(other), 8).fill()
    neighbours = [await each.lines(other) for each in (postgres, sqlite, ram)]
    first, expected = await postgres.lines(name), await reads(store.for_tenant(name))
    assert tables_in(first) == TABLES
    await sqlite.write(name, first)
    second = await sqlite.lines(name)
    await ram.write(name, second)
    third = await ram.lines(name)
    await postgres.clear(name, TABLES)
    assert await postgres.lines(name) == []
    await postgres.write(name, third)
    assert second == first
    assert third == first
    assert await postgres.lines(name) == first
    for each in (store, file, memory):
        assert await reads(each.for_tenant(name)) == expected
    assert [await each.lines(other) for each in (postgres, sqlite, ram)] == neighbours
    for each in (store, file, memory):
        for token in filler.tokens:
            assert (await each.for_tenant(name).api_keys.verify(token)).scopes == ("read", "write")


async def test_the_tenant_goes_on_where_it_was_written(
    server: tuple[AsyncStore, Any], memory: AsyncStore, conformance_tenants: Tenants
) -> None:
    """Versions, positions, transactions and counts of references go on from the written ones."""
    store, new_tenant = server
    name = new_tenant()
    source, target = memory.for_tenant(name), store.for_tenant(name)
    await Filler(source, 3).fill()
    await InPostgres(conformance_tenants.installation).write(name, await InMemory(memory).lines(name))
    for tenant in (source, target):
        await tenant.kv.set("a", b"again")
        await tenant.agent_state.save("agent", {"n": 99}, agent_type="helper")
        await tenant.events.append("more", None, stream="stream")
        await tenant.graph.add_entity("kind", "new")
        await tenant.sessions.append("session", "user", "more")
        await tenant.artifacts.store("session", "name", b"shared", artifact_id="new")
        await tenant.artifacts.delete("a1")
        await tenant.procedures.save("procedure", {"n": 99})
        await tenant.vectors.upsert("zero", [1.0] * 128, content="new")
    for read in (
        lambda tenant: tenant.events.end(),
        lambda tenant: tenant.events.head("stream"),
        lambda tenant: tenant.graph.last_transaction(),
        lambda tenant: tenant.artifacts.statistics(),
        lambda tenant: tenant.sessions.count("session"),
        lambda tenant: tenant.vectors.count(dimension=128),
    ):
        assert await read(source) == await read(target)
    assert (await source.kv.get_entry("a")).version == (await target.kv.get_entry("a")).version
    assert (await source.agent_state.load("agent")).version == (await target.agent_state.load("agent")).version


async def test_a_tenant_reads_its_own_records(server: tuple[AsyncStore, Any], conformance_tenants: Tenants) -> None:
    """The login of a tenant sees what the operator's sees, of no other; the traces of erasures it cannot write."""
    store, new_tenant = server
    name = new_tenant()
    await Filler(store.for_tenant(name), 5).fill()
    await Filler(store.for_tenant(new_tenant()), 5).fill()
    expected = await InPostgres(conformance_tenants.installation).lines(name)
    database = AsyncDatabase(store._engines["postgres"], name, "kv")
    schema = conformance_tenants.installation.schema
    async with database.transaction() as transaction:
        assert [encode(record) async for record in AsyncPostgresRows(transaction, name, schema).records()] == expected
    trace = next(decode(line) for line in expected if decode(line).table == "erasures")
    with pytest.raises(PermissionDenied):
        async with database.transaction() as transaction:
            await AsyncPostgresRows(transaction, name, schema).write([trace])


async def test_one_administration_moves_many(memory: AsyncStore, conformance_tenants: Tenants) -> None:
    """One connection serves tenant after tenant, a failure between them, and the other verbs of the administration."""
    installation, names = conformance_tenants.installation, [conformance_tenants.new("role") for _ in range(3)]
    expected = []
    for name in names:
        await Filler(memory.for_tenant(name), 2).fill()
        expected.append(await InMemory(memory).lines(name))
    administration = await AsyncPostgresAdministration.open(installation.operator_dsn, installation.schema)
    try:
        for name, lines in zip(names, expected, strict=True):
            with pytest.raises(AlreadyExists):
                async with administration.rows(name) as rows:
                    await rows.write(decode(line) for line in [*lines, lines[-1]])
            async with administration.rows(name) as rows:
                assert await rows.write(map(decode, lines)) == len(lines)
            assert sum(each.rows for each in await administration.statistics(name)) == len(lines)
        for name, lines in zip(names, expected, strict=True):
            async with administration.rows(name) as rows:
                assert [encode(record) async for record in rows.records()] == lines
    finally:
        await administration.close()


def test_the_blocking_library_moves_the_same(conformance_tenants: Tenants) -> None:
    """Read and written without an event loop."""
    installation, name = conformance_tenants.installation, conformance_tenants.new("role")
    with Store.open(StoreConfig.in_memory()) as store:
        for number in range(1200):
            store.for_tenant(name).kv.set(f"{number}", b"%d" % number, metadata={"n": number})
            store.for_tenant(name).events.append("made", {"n": number}, stream=f"s{number % 3}")
        lines = [encode(record) for record in records(store._engines["memory"].space(name))]
    administration = PostgresAdministration.open(installation.operator_dsn, installation.schema)
    try:
        with administration.rows(name) as rows:
            assert rows.write(map(decode, lines)) == len(lines) == 2404
        with administration.rows(name) as rows:
            assert [encode(record) for record in rows.records()] == lines
    finally:
        administration.close()


@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
async def test_all_or_nothing(file: AsyncStore, memory: AsyncStore, conformance_tenants: Tenants, backend: str) -> None:
    """A taken key, another tenant's row, a missing parent, a bad value: an error of ours, and nothing is written."""
    target: Any = InSqlite(file) if backend == "sqlite" else InPostgres(conformance_tenants.installation)
    name = conformance_tenants.new("role")
    await Filler(memory.for_tenant(name), 1).fill()
    lines = await InMemory(memory).lines(name)
    rows = [decode(line) for line in lines]
    orphan = [line for line, row in zip(lines, rows, strict=True) if row.table != "artifact_content"]
    bad = next(row for row in rows if row.table == "kv_store")
    for wrong, error in (
        ([*lines, lines[0]], AlreadyExists),
        ([*lines, encode(changed(bad, tenant_id="another", key="x"))], InvalidInput),
        (orphan, Conflict),
        ([*lines, encode(changed(bad, version=-1, key="x"))], InvalidInput),
        ([*lines, encode(changed(bad, key=""))], InvalidInput),
    ):
        with pytest.raises(error):
            await target.write(name, wrong)
        assert await target.lines(name) == []
    assert await target.write(name, lines) == len(lines)
    with pytest.raises(AlreadyExists):
        await target.write(name, lines[:1])
    assert await target.lines(name) == lines


def changed(record: Record, **columns: Any) -> Record:
    """Return a record with other columns."""
    return Record(record.store, record.table, {**record.columns, **columns})


async def test_a_dimension_without_a_table(memory: AsyncStore, file: AsyncStore, conformance_tenants: Tenants) -> None:
    """SQLite makes it; PostgreSQL, where the operator makes it, names it."""
    name = conformance_tenants.new("role")
    await memory.for_tenant(name).vectors.insert("a", [1.0, 2.0, 3.0], content="word")
    lines = await InMemory(memory).lines(name)
    await InSqlite(file).write(name, lines)
    assert await InSqlite(file).lines(name) == lines
    with pytest.raises(InvalidInput, match="vector_embeddings_3: is not there"):
        await InPostgres(conformance_tenants.installation).write(name, lines)


async def test_events_of_other_years_get_their_partition(conformance_tenants: Tenants) -> None:
    """The log of PostgreSQL is made ready for times that nobody thought of, by who owns it."""
    name, clock = conformance_tenants.new("role"), SettableClock()
    async with await AsyncStore.open(StoreConfig.in_memory(), clock=clock) as store:
        events = store.for_tenant(name).events
        for _ in range(3):
            await events.append("made", None, stream="s")
            clock.advance(days=20)
        lines = await InMemory(store).lines(name)
    postgres = InPostgres(conformance_tenants.installation)
    await postgres.write(name, lines)
    assert await postgres.lines(name) == lines
    with conformance_tenants.installation.connect() as connection:
        owners = connection.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE tablename LIKE 'event_log_2030%'")
        assert owners.fetchall() == [(conformance_tenants.installation.names.owner,)]


def test_what_is_depended_on_comes_first(conformance_tenants: Tenants) -> None:
    """The order of tables knows every foreign key of PostgreSQL, whose tables SQLite has too."""
    with conformance_tenants.installation.database.connect() as connection:
        keys = connection.execute(
            "SELECT DISTINCT c.conrelid::regclass::text, c.confrelid::regclass::text FROM pg_constraint c"
            " WHERE c.contype = 'f' AND c.conparentid = 0 AND c.connamespace = %s::regnamespace"
            " AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.conrelid AND a.attname = 'tenant_id')",
            (conformance_tenants.installation.schema,),
        ).fetchall()
    found = {(child.rpartition(".")[2], parent.rpartition(".")[2]) for child, parent in keys}
    assert found
    assert {(child, parent.table) for child, parent in PARENTS.items()} - found == {("entities", "graph_embeddings")}
    assert found <= {(child, parent.table) for child, parent in PARENTS.items()}
    order = in_order(name for name in tables() if name != "vector_embeddings")
    assert all(order.index(parent) < order.index(child) for child, parent in found)


def test_records_go_by_store() -> None:
    """Stores come in their own order, dimensions by size."""
    order = in_order([*(TABLES - {"vector_embeddings_384"}), "vector_embeddings_384", "vector_embeddings_1536"])
    assert order[:3] == ["vector_embeddings_128", "vector_embeddings_384", "vector_embeddings_1536"]
    stores = [next(store.name for store in STORES if any(each.covers(name) for each in store.tables)) for name in order]
    assert list(dict.fromkeys(stores)) == [store.name for store in STORES]
