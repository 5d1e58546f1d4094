"""Who may use the library on PostgreSQL: exactly the tenant that the credentials are for, with no login that is more."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import psycopg_pool
import pytest
from psycopg import sql

from storagelib import AsyncStore, Credentials, Store, StoreConfig
from storagelib._sync.postgres.database import Login
from storagelib.config import PostgresConfig
from storagelib.errors import InvalidInput, MigrationError, PermissionDenied, StorageError, Unavailable
from tests.plugins.conformance import Tenants, opening_of
from tests.plugins.installation import Installation
from tests.plugins.postgres import Database, database_on
from tests.plugins.tenants import PASSWORD


def config_of(credentials: Credentials, **options: Any) -> StoreConfig:
    """Return the configuration of one tenant's store."""
    return StoreConfig.from_credentials(credentials, pool_min=0, **options)


def refusal(credentials: Credentials, **options: Any) -> StorageError:
    """Return the error with which a store refuses to open, which is the same for both twins."""
    with pytest.raises(StorageError) as blocking:
        Store.open(config_of(credentials, **options))

    async def opened() -> None:
        with pytest.raises(type(blocking.value)) as awaited:
            await AsyncStore.open(config_of(credentials, **options))
        assert str(awaited.value) == str(blocking.value)

    asyncio.run(opened())
    assert PASSWORD not in str(blocking.value)
    return blocking.value


@contextlib.contextmanager
def login(installation: Installation, name: str, *options: str) -> Iterator[Credentials]:
    """Make a login that no tenant has."""
    role = sql.Identifier(name)
    with installation.database.connect() as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} {}").format(
                role, sql.Literal(PASSWORD), sql.SQL(" ".join(options))
            )
        )
        connection.execute(
            sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(installation.database.name), role)
        )
    try:
        dsn = installation.database.dsn_as(name, PASSWORD)
        yield Credentials.from_dsn(dsn, tenant_id="acme", schema=installation.schema)
    finally:
        with installation.database.connect() as connection:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
            connection.execute(sql.SQL("DROP ROLE {}").format(role))


@pytest.mark.parametrize(("options", "what"), [(("SUPERUSER",), "superuser"), (("BYPASSRLS",), "row-level security")])
def test_a_login_above_the_policies_is_refused(
    conformance_tenants: Tenants, options: tuple[str, ...], what: str
) -> None:
    """Nothing is read as superuser, and nothing by who may bypass the policies."""
    with login(conformance_tenants.installation, "too_much", *options) as credentials:
        found = refusal(credentials)
    assert isinstance(found, PermissionDenied)
    assert what in str(found)


def test_a_member_of_the_owner_is_refused(conformance_tenants: Tenants) -> None:
    """An owner may change the policies."""
    installation = conformance_tenants.installation
    with login(installation, "almost_owner") as credentials:
        with installation.database.connect() as connection:
            connection.execute(sql.SQL("GRANT {} TO almost_owner").format(sql.Identifier(installation.names.owner)))
        found = refusal(credentials)
    assert isinstance(found, PermissionDenied)
    assert "owner" in str(found)


def test_a_login_of_no_tenant_is_refused(conformance_tenants: Tenants) -> None:
    """It would see nothing, and say nothing of it."""
    with login(conformance_tenants.installation, "nobody_here") as credentials:
        assert isinstance(refusal(credentials), PermissionDenied)


def test_a_login_of_another_tenant_is_refused(conformance_tenants: Tenants) -> None:
    """A Secret whose tenant was exchanged opens nothing."""
    own = conformance_tenants.of(conformance_tenants.new("role"))
    found = refusal(dataclasses.replace(own, tenant_id=conformance_tenants.new("role")))
    assert isinstance(found, PermissionDenied)
    assert "another tenant" in str(found)


def test_the_modes_are_not_mixed(conformance_tenants: Tenants) -> None:
    """A tenant's own login enters no other tenant by capability."""
    own = conformance_tenants.of(conformance_tenants.new("role"))
    sealed = conformance_tenants.of(conformance_tenants.new("sealed"))
    mixed = dataclasses.replace(own, mode="sealed", capability=sealed.capability, tenant_id=sealed.tenant_id)
    assert isinstance(refusal(mixed), PermissionDenied)


def test_a_suspended_tenant_is_refused(conformance_tenants: Tenants) -> None:
    """At opening; and in a store that is open nothing is seen."""
    installation, tenant = conformance_tenants.installation, conformance_tenants.new("role")
    with installation.connect(installation.names.owner) as connection:
        connection.execute(
            sql.SQL("UPDATE {}.tenants SET suspended = true WHERE tenant = %s").format(
                sql.Identifier(installation.schema)
            ),
            (tenant,),
        )
    assert isinstance(refusal(conformance_tenants.of(tenant)), PermissionDenied)


def test_a_wrong_password_is_told_as_such(conformance_tenants: Tenants) -> None:
    """At once, not when the pool gives up."""
    own = conformance_tenants.of(conformance_tenants.new("role"))
    found = refusal(dataclasses.replace(own, password="guessed"))
    assert isinstance(found, PermissionDenied)
    assert "guessed" not in str(found)


def test_no_server_is_told_as_such(conformance_tenants: Tenants, unused_tcp_port: int) -> None:
    """With its address, and with nothing done, so that the call may be made again."""
    own = conformance_tenants.of(conformance_tenants.new("role"))
    found = refusal(dataclasses.replace(own, port=unused_tcp_port))
    assert isinstance(found, Unavailable)
    assert str(unused_tcp_port) in str(found)
    assert own.password not in str(found)
    assert own.user not in str(found)
    assert found.retryable
    assert found.outcome == "nothing"


def test_a_host_that_nobody_knows_is_named(conformance_tenants: Tenants) -> None:
    """The name that stands in the Secret is what is wrong."""
    own = conformance_tenants.of(conformance_tenants.new("role"))
    found = refusal(dataclasses.replace(own, host="postgres.nowhere.invalid"))
    assert isinstance(found, Unavailable)
    assert "postgres.nowhere.invalid" in str(found)


def test_another_database_is_told_as_such(conformance_tenants: Tenants, superuser_url: str) -> None:
    """One without our schema."""
    own = conformance_tenants.of(conformance_tenants.new("role"))
    with database_on(superuser_url) as other:
        assert isinstance(other, Database)
        found = refusal(dataclasses.replace(own, dbname=other.name))
    assert isinstance(found, MigrationError)


@pytest.mark.parametrize("mode", ["role", "sealed"])
def test_the_credentials_of_one_tenant_serve_no_other(conformance_tenants: Tenants, mode: str) -> None:
    """``for_tenant`` refuses before anything is sent: the server is not even asked."""
    own, other = conformance_tenants.new(mode), conformance_tenants.new(mode)
    with Store.open(config_of(conformance_tenants.of(own))) as store:
        store.for_tenant(own).kv.set("a", b"1")
        with pytest.raises(PermissionDenied, match="another tenant"):
            store.for_tenant(other)
        with pytest.raises(InvalidInput):
            store.for_tenant("Not A Tenant")


def test_a_wrong_capability_enters_nothing(conformance_tenants: Tenants) -> None:
    """Nor does the one of another tenant."""
    own = conformance_tenants.of(conformance_tenants.new("sealed"))
    other = conformance_tenants.of(conformance_tenants.new("sealed"))
    for capability in (f"v1.{'0' * 64}", other.capability, f"v999999999.{'f' * 64}"):
        forged = dataclasses.replace(own, capability=capability)
        with Store.open(config_of(forged)) as store, pytest.raises(PermissionDenied) as refused:
            store.for_tenant(own.tenant_id).kv.get("a")
        assert str(capability) not in str(refused.value)


def test_a_rotated_capability_is_followed(conformance_tenants: Tenants) -> None:
    """When the old one is refused, the provider is asked again; a call that succeeds was made once."""
    installation, tenant = conformance_tenants.installation, conformance_tenants.new("sealed")
    told = [conformance_tenants.of(tenant)]
    config = StoreConfig(backend="postgres", postgres=PostgresConfig(pool_min=0))
    with Store.open(config, provider=lambda _tenant: told[-1]) as store:
        kv = store.for_tenant(tenant).kv
        assert kv.increment("n") == 1
        schema = sql.Identifier(installation.schema)
        with installation.connect(installation.names.owner) as connection:
            connection.execute(
                sql.SQL("UPDATE {}.tenants SET capability_version = 2 WHERE tenant = %s").format(schema), (tenant,)
            )
            row = connection.execute(sql.SQL("SELECT {}.capability(%s, 2)").format(schema), (tenant,)).fetchone()
        assert row is not None
        with pytest.raises(PermissionDenied):
            kv.increment("n")
        told.append(dataclasses.replace(told[0], capability=row[0]))
        assert kv.increment("n") == 2


def test_a_provider_serves_many_tenants_with_few_pools(conformance_tenants: Tenants) -> None:
    """More tenants than pools: each call sees its own tenant, and the connections stay bounded."""
    opening = opening_of(conformance_tenants, "role", pools_max=2, pool_min=0, pool_max=2)
    tenants = [opening.new_tenant() for _ in range(5)]
    with Store.open(opening.config, provider=opening.provider) as store:
        handles = [store.for_tenant(tenant) for tenant in tenants]
        for handle in handles * 2:
            handle.kv.increment(handle.tenant_id)
        assert [handle.kv.get(handle.tenant_id) for handle in handles] == [b"2"] * 5
        assert [list(handle.kv.list_keys()) for handle in handles] == [[tenant] for tenant in tenants]
        with conformance_tenants.installation.database.connect() as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'llmspell' AND datname = current_database()"
            ).fetchone()
    assert row is not None
    assert row[0] <= 4


def test_a_provider_that_mixes_tenants_up_is_caught(conformance_tenants: Tenants) -> None:
    """The credentials must name the tenant that was asked for."""
    one, other = conformance_tenants.new("role"), conformance_tenants.new("role")
    config = StoreConfig(backend="postgres", postgres=PostgresConfig(pool_min=0))
    with Store.open(config, provider=lambda _tenant: conformance_tenants.of(other)) as store:
        with pytest.raises(PermissionDenied):
            store.for_tenant(one).kv.get("a")
        assert store.for_tenant(other).kv.get("a") is None
        # With the other's pool open already, it is still not taken for one's own.
        with pytest.raises(PermissionDenied):
            store.for_tenant(one).kv.get("a")


def test_a_shared_login_lives_as_long_as_any_tenant_of_it(conformance_tenants: Tenants) -> None:
    """The tenant that opened the pool may go: new connections are made with the credentials of another."""
    first, second = conformance_tenants.new("sealed"), conformance_tenants.new("sealed")
    gone: set[str] = set()

    def provider(tenant: str) -> Credentials:
        if tenant in gone:
            raise PermissionDenied("its Secret is gone")
        return conformance_tenants.of(tenant)

    config = StoreConfig(backend="postgres", postgres=PostgresConfig(pool_min=0, pool_max=1, pool_timeout_seconds=60))
    with Store.open(config, provider=provider) as store:
        for tenant in (first, second):
            store.for_tenant(tenant).kv.set("a", b"1")
        gone.add(first)
        with conformance_tenants.installation.database.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = 'llmspell'"
                " AND datname = current_database()"
            )
        # A connection that was used a moment ago is not looked at before it is used again.
        time.sleep(0.6)
        assert store.for_tenant(second).kv.get("a") == b"1"


async def test_concurrent_tenants_share_connections_and_nothing_else(conformance_tenants: Tenants) -> None:
    """Sealed tenants on two connections: every answer of 30 tenants at once is the asker's own."""
    opening = opening_of(conformance_tenants, "sealed", pool_min=0, pool_max=2)
    tenants = [opening.new_tenant() for _ in range(30)]
    async with await AsyncStore.open(opening.config, provider=opening.provider) as store:

        async def live(tenant: str) -> None:
            kv = store.for_tenant(tenant).kv
            for turn in range(10):
                await kv.set("who", tenant.encode())
                assert await kv.increment("turns") == turn + 1
                assert await kv.get("who") == tenant.encode()
                assert list(await kv.list_keys()) == ["turns", "who"]

        await asyncio.gather(*(live(tenant) for tenant in tenants))


def test_a_pool_that_cannot_open_leaves_no_connection(
    conformance_tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that was tried is closed, which nobody else would do before it is collected."""
    tried: list[Any] = []
    trying = Login._try_connections

    def try_connections(login: Login) -> None:
        trying(login)
        tried.append(login._tried)

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    opening = opening_of(conformance_tenants, "role", pool_min=1)
    with monkeypatch.context() as patched:
        patched.setattr(Login, "_try_connections", try_connections)
        patched.setattr(psycopg_pool.ConnectionPool, "open", refuse)
        with pytest.raises(RuntimeError, match="thread"):
            Store.open(opening.config, provider=opening.provider)
    assert [connection.closed for connection in tried] == [True]


def test_a_closed_store_says_so(conformance_tenants: Tenants) -> None:
    """Instead of hanging or opening itself again."""
    store = Store.open(config_of(conformance_tenants.of(conformance_tenants.new("role"))))
    handle = store.for_tenant(store.config.postgres.credentials.tenant_id)  # type: ignore[union-attr]
    assert handle.kv.get("a") is None
    store.close()
    with pytest.raises(Unavailable, match="closed"):
        handle.kv.get("a")


def test_nothing_of_a_secret_is_shown(conformance_tenants: Tenants) -> None:
    """By no repr of what a debugger prints."""
    credentials = conformance_tenants.of(conformance_tenants.new("sealed"))
    with Store.open(config_of(credentials)) as store:
        handle = store.for_tenant(credentials.tenant_id)
        shown = " ".join(map(repr, (store, store.config, handle, handle.kv)))
    assert PASSWORD not in shown
    assert str(credentials.capability) not in shown


def test_auto_migrate_brings_the_schema_up_first(bootstrapped_database: Installation) -> None:
    """With its own login; the application's one may not, and finds no tables without it."""
    from tests.plugins.tenants import make_tenant

    nobody = Credentials.from_dsn(
        bootstrapped_database.operator_dsn, tenant_id="acme", schema=bootstrapped_database.schema
    )
    options = {"auto_migrate": True, "migrate_url": bootstrapped_database.operator_dsn}
    with pytest.raises(StorageError):
        Store.open(config_of(nobody, **options))
    dsn = make_tenant(bootstrapped_database, "acme")
    own = Credentials.from_dsn(dsn, tenant_id="acme", schema=bootstrapped_database.schema)
    with Store.open(config_of(own, **options)) as store:
        assert store.for_tenant("acme").kv.set("a", b"1") == 1
    with psycopg.connect(bootstrapped_database.superuser_dsn) as connection:
        row = connection.execute("SELECT max(version), count(*) FROM llmspell.schema_migrations").fetchone()
    assert row is not None
    assert row[0] == row[1]
    assert row[0] >= 15
