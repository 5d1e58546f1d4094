"""Why a server lets nobody in is told as what it is, at once, whatever twin asks."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from storagelib import AsyncStore, Credentials, Store, StoreConfig
from storagelib._postgres.faults import translated
from storagelib.errors import (
    Corrupted,
    InvalidInput,
    MigrationError,
    PermissionDenied,
    StorageError,
    Unavailable,
)
from tests.plugins.conformance import Tenants


def refusal(credentials: Credentials) -> StorageError:
    """Return the error with which both twins refuse to open a store."""
    config = StoreConfig.from_credentials(credentials, pool_min=0)
    with pytest.raises(StorageError) as blocking:
        Store.open(config).for_tenant(credentials.tenant_id).kv.get("a")

    async def opened() -> None:
        async with await AsyncStore.open(config) as store:
            await store.for_tenant(credentials.tenant_id).kv.get("a")

    with pytest.raises(type(blocking.value)) as awaited:
        asyncio.run(opened())
    assert str(awaited.value) == str(blocking.value)
    return blocking.value


@contextlib.contextmanager
def altered(tenants: Tenants, credentials: Credentials, change: str, back: str) -> Iterator[None]:
    """Change a login for a while."""
    role = sql.Identifier(credentials.user)
    with tenants.installation.database.connect() as connection:
        connection.execute(sql.SQL("ALTER ROLE {} " + change).format(role))
    try:
        yield
    finally:
        with tenants.installation.database.connect() as connection:
            connection.execute(sql.SQL("ALTER ROLE {} " + back).format(role))


def test_a_login_that_may_not_log_in(conformance_tenants: Tenants) -> None:
    """As the operator leaves the login of a suspended tenant."""
    own = conformance_tenants.of(conformance_tenants.new("role"))
    with altered(conformance_tenants, own, "NOLOGIN", "LOGIN"):
        found = refusal(own)
    assert isinstance(found, PermissionDenied)
    assert "suspended" in str(found)


def test_a_quota_of_connections_that_is_used_up(conformance_tenants: Tenants) -> None:
    """By another process of the tenant."""
    own = conformance_tenants.of(conformance_tenants.new("role"))
    with altered(conformance_tenants, own, "CONNECTION LIMIT 1", "CONNECTION LIMIT -1"), psycopg.connect(own.dsn):
        found = refusal(own)
    assert isinstance(found, Unavailable)
    assert found.outcome == "nothing"
    assert "quotas.connections" in str(found)


def test_a_database_that_is_not_there(conformance_tenants: Tenants) -> None:
    """Trying again does not help."""
    own = conformance_tenants.of(conformance_tenants.new("role"))
    found = refusal(dataclasses.replace(own, dbname="not_here"))
    assert isinstance(found, MigrationError)
    assert not found.retryable


def test_a_login_that_is_taken_away_while_the_store_is_open(conformance_tenants: Tenants) -> None:
    """Whoever waits for a connection is told why there is none, not that the pool is too small."""
    own = conformance_tenants.of(conformance_tenants.new("role"))
    config = StoreConfig.from_credentials(own, pool_max=2, pool_timeout_seconds=60)
    with Store.open(config) as store:
        kv: Any = store.for_tenant(own.tenant_id).kv
        kv.set("a", b"1")
        kv._backend._database._logins.login(own.tenant_id)._pool.timeout = 1
        with altered(conformance_tenants, own, "NOLOGIN", "LOGIN"):
            with conformance_tenants.installation.database.connect() as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE usename = %s", (own.user,)
                )
            with pytest.raises(PermissionDenied, match="suspended") as refused:
                until_refused(kv)
            assert "is not permitted to log in" in str(refused.value.__cause__), "the server's words are the cause"
        with contextlib.suppress(PermissionDenied):  # the pool learns it with its next try
            kv.get("a")


def until_refused(kv: Any) -> None:
    """Call until another connection is needed."""
    for _ in range(3):
        with contextlib.suppress(Unavailable):
            kv.get("a")
    kv.get("a")


def test_more_than_a_value_can_hold_is_the_callers_to_change() -> None:
    """A server that is asked for a gigabyte at once is not damaged, though it says that something internal failed."""
    too_much = psycopg.errors.InternalError_("invalid memory alloc request size 1200000004")
    assert isinstance(translated(too_much), InvalidInput)
    assert isinstance(translated(psycopg.errors.InternalError_("cache lookup failed for type 7")), Corrupted)
    assert isinstance(translated(psycopg.errors.DataCorrupted("invalid page in block 7")), Corrupted)
