"""What is done for a cluster as a whole, on a real PostgreSQL: usage, quotas, the watchdog, retention."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from storage_operator.adapters.postgres.retention import expire
from storage_operator.adapters.postgres.usage import Owner, measure
from storage_operator.adapters.postgres.watchdog import end_offenders
from storage_operator.reconcile import housekeeping
from storage_operator.reconcile.fleet import Tended
from storage_operator.reconcile.housekeeping import Housekeeper
from storage_operator.resources.kinds import Kind
from storage_operator.world import Key
from storagelib import Credentials, Store, StoreConfig
from tests.plugins.installation import Installation
from tests.reconcile.stage import NAMESPACE, Stage, staged


@pytest.fixture
async def stage(installation: Installation) -> AsyncIterator[Stage]:
    """Give a connected reconciler on the file's database."""
    async with staged(installation, limits={"usageInterval": "1s"}) as made:
        yield made


def put(session: psycopg.Connection[Any], tenant: str, count: int) -> None:
    """Write keys."""
    session.execute(
        "INSERT INTO llmspell.kv_store (tenant_id, key, value) "
        "SELECT %s, 'k' || n, convert_to(repeat(md5(n::text), 4), 'UTF8') FROM generate_series(1, %s) n",
        (tenant, count),
    )


async def test_usage_is_measured_for_each_tenant(stage: Stage) -> None:
    """One pass counts rows and bytes of every tenant, and names those that came over their quota."""
    key = await stage.ready("measured", quotas={"storage": "1Ki"})
    await stage.ready("unmeasured")
    with psycopg.connect(stage.dsn(key), autocommit=True) as session:
        put(session, "measured", 50)
    assert Owner(NAMESPACE, "measured") in await measure(stage.tended)
    await stage.run(key)
    usage = stage.world.bodies[key]["status"]["usage"]
    assert usage["rows"] == 50
    assert 50 * 128 < usage["bytes"] < 50 * 512
    assert stage.condition(key, "QuotaExceeded") == ("True", "OverQuota")
    assert Owner(NAMESPACE, "measured") not in await measure(stage.tended)


async def test_an_enforced_quota_refuses_writes_by_name(stage: Stage) -> None:
    """Over it INSERT and UPDATE are refused with the quota's name, DELETE works, and then writing works again."""
    key = await stage.ready("enforced", quotas={"storage": "1Ki", "enforceStorage": True})
    with psycopg.connect(stage.dsn(key), autocommit=True) as session:
        put(session, "enforced", 50)
        await measure(stage.tended)
        for statement in (
            "INSERT INTO kv_store (tenant_id, key, value) VALUES ('enforced', 'x', '')",
            "UPDATE kv_store SET key = key",
        ):
            with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="storage quota exceeded"):
                session.execute(statement.encode())
        session.execute("DELETE FROM kv_store")
        await measure(stage.tended)
        put(session, "enforced", 1)


async def test_a_raised_quota_works_at_once(stage: Stage) -> None:
    """A bigger quota in the manifest lets writes through without waiting for the next measurement."""
    key = await stage.ready("raised", quotas={"storage": "1Ki", "enforceStorage": True})
    with psycopg.connect(stage.dsn(key), autocommit=True) as session:
        put(session, "raised", 50)
        await measure(stage.tended)
        stage.tenant("raised", quotas={"storage": "1Gi", "enforceStorage": True})
        await stage.run(key)
        session.execute("INSERT INTO kv_store (tenant_id, key, value) VALUES ('raised', 'more', '')")


@pytest.mark.parametrize(
    ("name", "statements", "limit"),
    [
        ("slow", ["SET statement_timeout = 0", "SELECT pg_sleep(60)"], "statementTimeout"),
        ("idle", ["SET idle_in_transaction_session_timeout = 0", "BEGIN", "SELECT 1"], "idleInTransactionTimeout"),
        ("locker", ["BEGIN", "LOCK TABLE llmspell.kv_store IN ACCESS EXCLUSIVE MODE"], "strong lock"),
    ],
    ids=["statement-over-its-time", "idle-in-transaction", "strong-lock"],
)
async def test_the_watchdog_ends_who_breaks_a_limit(stage: Stage, name: str, statements: list[str], limit: str) -> None:
    """A session that switched its own limit off, or stops everybody with a lock, is ended; its neighbour is not."""
    quotas = {"statementTimeout": "1s", "idleInTransactionTimeout": "1s"}
    offender = await stage.ready(f"watched-{name}", quotas=quotas)
    neighbour = await stage.ready(f"watched-{name}-neighbour", quotas=quotas)
    session = await psycopg.AsyncConnection.connect(stage.dsn(offender), autocommit=True)
    running = asyncio.create_task(_run(session, statements))
    with psycopg.connect(stage.dsn(neighbour), autocommit=True) as other:
        ended: list[str] = []
        for _ in range(600):
            ended += [each.limit for each in await end_offenders(stage.tended, grace_seconds=0.2)]
            if ended:
                break
            await asyncio.sleep(0.1)
        assert ended == [limit]
        await asyncio.wait_for(running, 60)
        assert other.execute("SELECT 1").fetchone() == (1,)
    await session.close()


async def _run(session: psycopg.AsyncConnection[Any], statements: list[str]) -> None:
    try:
        for statement in statements:
            await session.execute(statement.encode())
    except psycopg.OperationalError:
        return  # the session was ended, as it should be


async def test_retention_deletes_what_is_old(stage: Stage) -> None:
    """Rows older than the declared age go, younger ones and other stores' rows stay."""
    key = await stage.ready("aging")
    await stage.run(stage.component("KV", retention={"maxAge": "1h"}))
    with psycopg.connect(stage.dsn(key), autocommit=True) as session:
        put(session, "aging", 3)
        session.execute("UPDATE kv_store SET updated_at = now() - interval '2 hours' WHERE key IN ('k1', 'k2')")
    assert await expire(stage.tended) == {"kv_store": 2}
    assert stage.superuser("SELECT count(*) FROM llmspell.kv_store WHERE tenant_id = 'aging'") == [(1,)]
    assert await expire(stage.tended) == {}


async def test_retention_takes_what_hangs_on_it(stage: Stage) -> None:
    """Old sessions go with their messages and old agents with their history; what is in use stays whole."""
    key = await stage.ready("hanging")
    await stage.run(stage.component("Sessions", retention={"maxAge": "1h"}))
    await stage.run(stage.component("AgentState", retention={"maxAge": "1h"}))
    credentials = Credentials.from_dsn(stage.dsn(key), tenant_id="hanging")
    with Store.open(StoreConfig.from_credentials(credentials)) as store:
        tenant = store.for_tenant("hanging")
        for name in ("old", "young"):
            tenant.sessions.create(name)
            tenant.sessions.append(name, "user", "hello")
            for version in range(3):
                tenant.agent_state.save(name, {"n": version}, agent_type="helper")
        for table, column, row in (
            ("session_messages", "created_at", "true"),
            ("sessions", "last_accessed_at", "session_id = 'old'"),
            ("agent_state_history", "saved_at", "true"),
            ("agent_states", "updated_at", "agent_id = 'old'"),
        ):
            stage.superuser(
                f"UPDATE llmspell.{table} SET {column} = now() - interval '2 hours' WHERE {row} RETURNING 1"
            )
        gone = await expire(stage.tended)
        assert gone == {"sessions": 1, "session_messages": 1, "agent_states": 1, "agent_state_history": 2}
        assert [message.content for message in tenant.sessions.last("young")] == ["hello"]
        assert tenant.agent_state.load("young", version=1).state == {"n": 0}
        assert await expire(stage.tended) == {}


async def test_housekeeping_wakes_whose_quota_flipped(stage: Stage) -> None:
    """A pass over the cluster measures, and asks for a reconcile of the tenant whose condition changes."""
    key = await stage.ready("flipping", quotas={"storage": "1Ki"})
    with psycopg.connect(stage.dsn(key), autocommit=True) as session:
        put(session, "flipping", 50)
    woken: list[Key] = []
    stage.reconciler.context.wake = woken.append
    (tended,) = stage.reconciler.context.fleet.all()
    await Housekeeper(stage.reconciler.context).look_after(tended)
    assert key in woken


async def test_the_count_of_tenants_follows_between_reconciles(stage: Stage) -> None:
    """A tenant that becomes Ready is counted in the cluster's status at the next pass, without a reconcile of it."""
    await stage.run(stage.cluster)
    before = stage.world.bodies[stage.cluster]["status"]["tenants"]
    await stage.ready("counted")
    (tended,) = stage.reconciler.context.fleet.all()
    await Housekeeper(stage.reconciler.context).look_after(tended)
    after = stage.world.bodies[stage.cluster]["status"]["tenants"]
    assert after == {"total": before["total"] + 1, "ready": before["ready"] + 1}


async def test_neither_a_stuck_nor_a_broken_cluster_keeps_the_others_from_being_looked_after(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each cluster has its own pace: one that never ends and one that fails cost only themselves."""
    monkeypatch.setattr(housekeeping, "PASS_SECONDS", 0.01)
    entry = stage.reconciler.context.fleet.get(stage.cluster)
    assert entry is not None
    stuck, broken = (replace(entry, key=Key(Kind.STORAGE_CLUSTER, "n", name)) for name in ("stuck", "broken"))
    monkeypatch.setattr(stage.reconciler.context.fleet, "all", lambda: (stuck, broken, entry))
    looked: Counter[str] = Counter()
    enough = asyncio.Event()

    async def look_after(_self: Housekeeper, tended: Tended) -> None:
        looked[tended.key.name] += 1
        if looked["main"] >= 3 and looked["broken"] >= 2:
            enough.set()
        if tended is stuck:
            await asyncio.Event().wait()
        if tended is broken:
            raise KeyError("nonsense")

    monkeypatch.setattr(Housekeeper, "look_after", look_after)
    running = asyncio.create_task(Housekeeper(stage.reconciler.context).run())
    await asyncio.wait_for(enough.wait(), 60)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert looked["stuck"] == 1


async def test_a_lock_does_not_put_off_the_measurement_for_an_interval(installation: Installation) -> None:
    """Who holds a table at the moment of the measurement escapes it only until the next pass."""
    async with staged(installation) as stage:
        key = await stage.ready("dodger", components=["KV"])
        entry = stage.reconciler.context.fleet.get(stage.cluster)
        assert entry is not None
        housekeeper = Housekeeper(stage.reconciler.context)
        with psycopg.connect(stage.dsn(key)) as session:
            session.execute("LOCK TABLE llmspell.kv_store IN ACCESS EXCLUSIVE MODE")
            await housekeeper.look_after(entry)
            assert entry.measured_at is None
        await housekeeper.look_after(entry)
        assert entry.measured_at is not None
