"""What goes wrong on PostgreSQL: a typed error, nothing lost, and the next call works."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from storage_operator.devenv import ownership
from storage_operator.devenv.postgres import EmbeddedPostgres
from storage_sql.queries import Query, load
from storagelib import AsyncStore, Credentials, Store, StoreConfig
from storagelib.errors import Conflict, InvalidInput, PermissionDenied, QuotaExceeded, StorageError, Unavailable
from tests.plugins.conformance import Tenants, opening_of
from tests.plugins.installation import installation_on
from tests.plugins.pgbouncer import PgBouncer
from tests.plugins.tenants import PASSWORD, make_sealed_tenant, make_tenant

SLEEP = Query("test.sleep", "SELECT pg_sleep(:seconds)", {"seconds": "float8"})
PID = Query("test.pid", "SELECT pg_backend_pid()", {})
LOCK = Query(
    "test.lock",
    "SELECT key FROM {{ schema }}.kv_store WHERE tenant_id = :tenant AND key = :key FOR UPDATE",
    {"key": "text"},
)
BROKEN = Query("test.broken", "SELECT 1 / :zero", {"zero": "bigint"})


@pytest.fixture(params=["role", "sealed"])
def opened(request: pytest.FixtureRequest, conformance_tenants: Tenants) -> Iterator[Any]:
    """Give the handle of a tenant on a pool of two connections, in each mode."""
    opening = opening_of(conformance_tenants, request.param, pool_min=0, pool_max=2)
    with Store.open(opening.config, provider=opening.provider) as store:
        yield store.for_tenant(opening.new_tenant())


def database(handle: Any) -> Any:
    """Return the tenant's view of the database, for statements that no store has."""
    return handle.kv._backend._database


def sessions(tenants: Tenants) -> list[int]:
    """Return the backends of this library."""
    with tenants.installation.database.connect() as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'llmspell' AND datname = current_database()"
        )
        return [row[0] for row in rows]


def test_idle_connections_that_the_server_closed_are_replaced(opened: Any, conformance_tenants: Tenants) -> None:
    """A restart between two calls is not seen by the caller."""
    opened.kv.set("a", b"1")
    time.sleep(0.6)
    conformance_tenants.terminate(sessions(conformance_tenants))
    assert opened.kv.get("a") == b"1"
    assert opened.kv.set("a", b"2") == 2


def test_a_connection_that_breaks_in_a_call_leaves_its_outcome_unknown(
    opened: Any, conformance_tenants: Tenants
) -> None:
    """And the next call works on another one."""
    opened.kv.set("a", b"1")
    (pid,) = [row[0] for row in database(opened).fetch(PID)]

    def kill() -> None:
        while pid not in conformance_tenants.asleep():
            time.sleep(0.01)
        conformance_tenants.terminate([pid])

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(Unavailable) as broken:
        database(opened).fetch(SLEEP, seconds=60)
    killer.join()
    assert broken.value.outcome == "unknown"
    assert opened.kv.get("a") == b"1"


def test_a_pool_without_a_free_connection_says_so(opened: Any) -> None:
    """After its timeout, naming the setting; once one is free it goes on."""
    with database(opened).transaction() as one, database(opened).transaction() as other:
        assert one.fetch(PID) != other.fetch(PID)
        # Opening them may take any time.
        database(opened)._logins.login(opened.tenant_id)._pool.timeout = 0.4
        with pytest.raises(Unavailable, match="pool_max") as busy:
            opened.kv.get("a")
        assert busy.value.outcome == "nothing"
    assert opened.kv.get("a") is None


def test_a_statement_that_takes_too_long_is_ended(conformance_tenants: Tenants) -> None:
    """By the server, at the configured time; the connection stays good."""
    opening = opening_of(conformance_tenants, "role", pool_max=1, statement_timeout_seconds=1.0)
    with Store.open(opening.config, provider=opening.provider) as store:
        handle = store.for_tenant(opening.new_tenant())
        started = time.monotonic()
        with pytest.raises(Unavailable, match="timeout"):
            database(handle).fetch(SLEEP, seconds=300)
        assert time.monotonic() - started < 60
        assert handle.kv.set("a", b"1") == 1


def test_what_deadlocks_is_sent_again(opened: Any) -> None:
    """Two transactions that wait for each other: one is a Conflict, both rows are as before, and calls work."""
    opened.kv.set_many({"a": b"1", "b": b"1"})
    both = threading.Barrier(2)
    results: list[object] = []

    def take(first: str, second: str) -> None:
        try:
            with database(opened).transaction() as transaction:
                transaction.fetch(LOCK, key=first)
                both.wait()
                transaction.fetch(LOCK, key=second)
            results.append("done")
        except Conflict as error:
            results.append(error)

    threads = [threading.Thread(target=take, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(result).__name__ for result in results) == ["Conflict", "str"]
    assert all(result == "done" or result.retryable for result in results)  # type: ignore[attr-defined]
    assert opened.kv.get_many(["a", "b"]) == {"a": b"1", "b": b"1"}


def test_an_error_inside_a_batch_undoes_all_of_it(opened: Any) -> None:
    """Statements of one call are one transaction, whatever comes after the error."""
    write = (load("kv")["put"], {"key": "a", "value": b"1", "metadata": "{}", "ttl": None})
    with pytest.raises(InvalidInput):
        database(opened).run([write, (BROKEN, {"zero": 0}), write])
    assert opened.kv.get("a") is None
    with pytest.raises(InvalidInput):
        _write_and_break(opened, write)
    assert opened.kv.get("a") is None
    assert opened.kv.set("a", b"2") == 1


def _write_and_break(opened: Any, write: tuple[Query, dict[str, Any]]) -> None:
    with database(opened).transaction() as transaction:
        transaction.fetch(write[0], **write[1])
        transaction.fetch(BROKEN, zero=0)


def _write_and_raise(opened: Any) -> None:
    with database(opened).transaction() as transaction:
        transaction.fetch(load("kv")["put"], key="a", value=b"1", metadata="{}", ttl=None)
        raise ZeroDivisionError


def test_a_block_that_raises_rolls_back(opened: Any) -> None:
    """The caller's own errors too."""
    with pytest.raises(ZeroDivisionError):
        _write_and_raise(opened)
    assert opened.kv.get("a") is None


@pytest.mark.parametrize("mode", ["role", "sealed"])
async def test_a_cancelled_call_leaves_the_pool_usable(conformance_tenants: Tenants, mode: str) -> None:
    """Again and again, on one connection: the statement is stopped on the server too."""
    opening = opening_of(conformance_tenants, mode, pool_min=0, pool_max=1)
    async with await AsyncStore.open(opening.config, provider=opening.provider) as store:
        handle: Any = store.for_tenant(opening.new_tenant())
        for turn in range(4):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await database(handle).fetch(SLEEP, seconds=30)
            assert await handle.kv.increment("n") == turn + 1
        calls = [asyncio.create_task(handle.kv.increment("n")) for _ in range(20)]
        await asyncio.sleep(0.002)
        for call in calls[::2]:
            call.cancel()
        finished = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, int | asyncio.CancelledError) for result in finished)
        assert int(await handle.kv.get("n")) >= 4 + 10


@pytest.mark.parametrize("mode", ["role", "sealed"])
def test_a_quota_stops_writing_and_nothing_else(conformance_tenants: Tenants, mode: str) -> None:
    """Reading and deleting go on; the message has figures and no neighbour."""
    opening = opening_of(conformance_tenants, mode, pool_min=0, pool_max=1)
    tenant = opening.new_tenant()
    with Store.open(opening.config, provider=opening.provider) as store:
        kv = store.for_tenant(tenant).kv
        kv.set_many({"a": b"1", "b": b"2"})
        with conformance_tenants.installation.connect(conformance_tenants.installation.names.owner) as connection:
            connection.execute(
                "UPDATE llmspell.tenants SET quota_bytes = 10, used_bytes = 20, over_quota = true,"
                " quota_enforced = true WHERE tenant = %s",
                (tenant,),
            )
        for write in (lambda: kv.set("c", b""), lambda: kv.set("a", b""), lambda: kv.increment("n")):
            with pytest.raises(QuotaExceeded, match="20 of 10 bytes"):
                write()
        assert kv.get("a") == b"1"
        assert kv.delete("a")
        assert list(kv.list_keys()) == ["b"]


@pytest.mark.parametrize("mode", ["role", "sealed"])
def test_a_store_that_the_tenant_does_not_have_is_refused(conformance_tenants: Tenants, mode: str) -> None:
    """With PermissionDenied, not as if it were empty."""
    installation = conformance_tenants.installation
    tenant = f"only-graph-{mode}"
    if mode == "role":
        own = Credentials.from_dsn(make_tenant(installation, tenant, ["graph"]), tenant_id=tenant)
    else:
        capability = make_sealed_tenant(installation, tenant, ["graph"])
        dsn = installation.database.dsn_as(installation.names.app, PASSWORD)
        own = Credentials.from_dsn(dsn, tenant_id=tenant, mode="sealed", capability=capability)
    with Store.open(StoreConfig.from_credentials(own)) as store, pytest.raises(PermissionDenied):
        store.for_tenant(tenant).kv.get("a")


def test_a_server_that_is_killed_comes_back_with_everything() -> None:
    """SIGKILL in the middle of writes: what was confirmed is there, what was not is told, and the store goes on."""
    name = f"test-kill-{os.getpid()}"
    ownership.claim(name)
    server = EmbeddedPostgres(name)
    try:
        server.start(durable=True)
        with installation_on(server.dsn()) as installation:
            own = Credentials.from_dsn(make_tenant(installation, "acme"), tenant_id="acme")
            config = StoreConfig.from_credentials(own, pool_min=1, pool_max=2, pool_timeout_seconds=5)
            with Store.open(config) as store:
                _survive(server, store.for_tenant("acme").kv)
    finally:
        server.remove()
        ownership.release(name)


def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _survive(server: EmbeddedPostgres, kv: Any) -> None:
    confirmed: list[str] = []
    failures: list[Unavailable] = []
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                kv.set(f"k/{number:06d}", b"x")
                confirmed.append(f"k/{number:06d}")
            except Unavailable as error:
                failures.append(error)
                time.sleep(0.05)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        until(lambda: len(confirmed) >= 20)
        server.kill()
        until(lambda: failures)
        server.start()
        seen = len(confirmed)
        until(lambda: len(confirmed) >= seen + 20)
    finally:
        stop.set()
        writer.join()
    assert set(confirmed) <= set(kv.keys("k/"))


@pytest.mark.parametrize("pipeline", ["auto", "off"])
@pytest.mark.parametrize("mode", ["role", "sealed"])
def test_a_real_pgbouncer_in_transaction_mode(
    conformance_tenants: Tenants, start_pgbouncer: Callable[..., PgBouncer], mode: str, pipeline: str
) -> None:
    """Many clients on one server connection: no prepared name collides, and every tenant sees its own."""
    tenants = [conformance_tenants.new(mode) for _ in range(4)]
    users = {conformance_tenants.of(tenant).user: PASSWORD for tenant in tenants}
    pooler = start_pgbouncer(conformance_tenants.installation.database, users, default_pool_size="1")

    def pooled(tenant: str) -> Credentials:
        direct = conformance_tenants.of(tenant)
        return Credentials.from_dsn(
            pooler.dsn_of(direct.dsn),
            tenant_id=tenant,
            mode=direct.mode,
            schema=direct.schema,
            capability=direct.capability,
        )

    config = StoreConfig.from_credentials(
        pooled(tenants[0]), pooler="transaction", pipeline=pipeline, pool_min=1, pool_max=3
    )
    with Store.open(config, provider=pooled) as store:
        failures: list[BaseException] = []

        def live(tenant: str) -> None:
            try:
                kv = store.for_tenant(tenant).kv
                for turn in range(15):
                    assert kv.increment("turns") == turn + 1
                    kv.set("who", tenant.encode())
                    assert kv.get_many(["who", "turns"]) == {"who": tenant.encode(), "turns": str(turn + 1).encode()}
                    with database(store.for_tenant(tenant)).transaction() as transaction:
                        assert transaction.fetch(LOCK, key="who") == [("who",)]
            except BaseException as error:  # noqa: BLE001 - told below, in the test's own thread
                failures.append(error)

        threads = [threading.Thread(target=live, args=(tenant,)) for tenant in tenants]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


@pytest.mark.parametrize("mode", ["role", "sealed"])
def test_a_pooler_that_nobody_told_of_gives_no_wrong_answer(
    conformance_tenants: Tenants, start_pgbouncer: Callable[..., PgBouncer], mode: str
) -> None:
    """Stores that share connections of the server without knowing run their own statements or fail, never another's."""
    tenants = [conformance_tenants.new(mode) for _ in range(3)]
    users = {conformance_tenants.of(tenant).user: PASSWORD for tenant in tenants}
    pooler = start_pgbouncer(conformance_tenants.installation.database, users, default_pool_size="2")
    wrong: list[object] = []
    right: list[int] = []

    def live(place: int, tenant: str) -> None:
        direct = conformance_tenants.of(tenant)
        given = Credentials.from_dsn(
            pooler.dsn_of(direct.dsn),
            tenant_id=tenant,
            mode=direct.mode,
            schema=direct.schema,
            capability=direct.capability,
        )
        with Store.open(StoreConfig.from_credentials(given, pool_min=1, pool_max=2)) as store:
            kv = store.for_tenant(tenant).kv
            verbs: list[tuple[Callable[[], object], object]] = [
                (lambda: kv.get("who"), tenant.encode()),
                (lambda: kv.exists("who"), True),
                (lambda: kv.get("nothing"), None),
                (lambda: list(kv.keys("wh")), ["who"]),
            ]
            while True:
                with contextlib.suppress(StorageError):
                    kv.set("who", tenant.encode())
                    break
            # Each begins with another verb, so that equal numbers would be different statements.
            for turn in range(60):
                verb, answer = verbs[(turn + place) % len(verbs)]
                try:
                    found = verb()
                except StorageError:
                    continue
                right.append(place)
                if found != answer:
                    wrong.append((tenant, turn, found))

    threads = [threading.Thread(target=live, args=(place, tenant)) for place, tenant in enumerate(tenants)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert set(right) == {0, 1, 2}
