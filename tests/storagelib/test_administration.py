"""Administration: what looks at all tenants, with both twins, on PostgreSQL and SQLite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from storagelib import Administration, AsyncAdministration, Store, StoreConfig
from storagelib.conformance.awaited import Awaited
from storagelib.errors import InvalidInput, MigrationError, PermissionDenied, Unavailable
from tests.plugins.conformance import Tenants, opening_of
from tests.plugins.installation import Installation


@pytest_asyncio.fixture(params=["postgres-async", "postgres-sync", "sqlite-async", "sqlite-sync"])
async def opened(request: pytest.FixtureRequest, tmp_path: Path, conformance_tenants: Tenants) -> AsyncIterator[Any]:
    """Give two tenants with rows, and the administration of what they are in."""
    backend, twin = request.param.split("-")
    config, provider = StoreConfig.on_sqlite(tmp_path / "a.db"), None
    tenants = ["acme", "other"]
    where: dict[str, Any] = {"config": config}
    if backend == "postgres":
        opening = opening_of(conformance_tenants, "role", pool_min=0)
        config, provider, tenants = opening.config, opening.provider, [opening.new_tenant(), opening.new_tenant()]
        where = {"url": conformance_tenants.installation.operator_dsn}
    with Store.open(config, provider=provider) as store:
        handles = [store.for_tenant(tenant) for tenant in tenants]
        if twin == "async":
            async with await AsyncAdministration.open(**where) as administration:
                yield administration, handles
        else:
            with Administration.open(**where) as blocking:
                yield Awaited(blocking), handles


async def test_tenants_are_listed_in_pages(opened: Any) -> None:
    """All of them, in order."""
    administration, handles = opened
    for handle in handles:
        handle.kv.set("a", b"1")
    seen: list[str] = []
    cursor = None
    while True:
        page = await administration.tenants(cursor=cursor, limit=1)
        seen += page.items
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == sorted(set(seen))
    assert {handle.tenant_id for handle in handles} <= set(seen)


async def test_statistics_count_rows_and_bytes(opened: Any) -> None:
    """Of each store, of one tenant or of all."""
    administration, (one, other) = opened
    one.kv.set_many({f"k{n}": bytes(1000) for n in range(5)})
    other.kv.set("a", b"1")
    ((found),) = [each for each in await administration.statistics(one.tenant_id) if each.store == "kv"]
    assert found.rows == 5
    assert found.size_bytes > 100
    everybody = {(each.tenant_id, each.store): each.rows for each in await administration.statistics()}
    assert everybody[one.tenant_id, "kv"] == 5
    assert everybody[other.tenant_id, "kv"] == 1
    with pytest.raises(InvalidInput):
        await administration.statistics("Not A Tenant")


async def test_purging_takes_the_expired_of_all_tenants(opened: Any) -> None:
    """And leaves the living."""
    administration, handles = opened
    for handle in handles:
        handle.kv.set("short", b"1", ttl=0.01)
        handle.kv.set("long", b"1")
    await asyncio.sleep(0.05)
    assert await administration.purge_expired(limit=1) == 1
    assert await administration.purge_expired() >= 1
    assert await administration.purge_expired() == 0
    assert [list(handle.kv.list_keys()) for handle in handles] == [["long"], ["long"]]


async def test_the_schema_is_up(opened: Any) -> None:
    """Migrating again does nothing; a version that does not exist is refused."""
    administration, _ = opened
    status = await administration.schema_status()
    assert status.current == status.target
    assert status.pending == ()
    assert await administration.migrate() == status
    with pytest.raises((InvalidInput, MigrationError)):
        await administration.migrate(target=1)


async def test_an_index_is_planned_before_it_is_built(opened: Any) -> None:
    """Few vectors want none; asking for one builds it where there are indexes, and asking again does nothing."""
    administration, (one, _) = opened
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((50, 128), dtype=np.float32)
    one.vectors.insert_many([f"v{n}" for n in range(50)], vectors)
    report = await administration.vector_index(one.tenant_id, 128)
    assert report.observed.rows == 50
    assert report.actions == ()
    from storage_sql.vector_indexes import IndexOptions

    wanted = IndexOptions(exact_scan_threshold=10)
    planned = await administration.vector_index(one.tenant_id, 128, options=wanted)
    if planned.notes:
        assert "scanned" in planned.notes[0]
        return
    assert len(planned.actions) == 1
    built = await administration.vector_index(one.tenant_id, 128, options=wanted, dry_run=False)
    assert built.actions == planned.actions
    again = await administration.vector_index(one.tenant_id, 128, options=wanted, dry_run=False)
    assert again.actions == ()


def test_a_tenants_login_administers_nothing(conformance_tenants: Tenants) -> None:
    """It may not become the maintenance role."""
    own = conformance_tenants.of(conformance_tenants.new("role"))
    with Administration.open(url=own.dsn) as administration, pytest.raises((PermissionDenied, MigrationError)):
        administration.statistics()


def test_what_cannot_be_administered_says_why(conformance_tenants: Tenants, unused_tcp_port: int) -> None:
    """Memory has no outside; a server that is not there is told as such; a database without our schema too."""
    with pytest.raises(InvalidInput, match="url"):
        Administration.open(StoreConfig.in_memory())
    with pytest.raises(Unavailable):
        Administration.open(url=f"postgresql://a:b@127.0.0.1:{unused_tcp_port}/c")
    with pytest.raises(MigrationError):
        Administration.open(url=conformance_tenants.installation.operator_dsn, schema="elsewhere")


def test_a_schema_is_migrated_by_its_operator(bootstrapped_database: Installation) -> None:
    """In steps, forward only."""
    with Administration.open(url=bootstrapped_database.operator_dsn) as administration:
        before = administration.schema_status()
        assert (before.current, len(before.pending)) == (0, before.target)
        assert administration.migrate(target=3).current == 3
        assert administration.migrate().pending == ()
        with pytest.raises(MigrationError):
            administration.migrate(target=2)
