"""A key leads to its tenant: over all tenants where one store has them all, and never further than the login may look."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from storagelib import AsyncStore, Store, StoreConfig
from storagelib.backends import register
from storagelib.components.api_keys import token_of
from storagelib.config import ComponentConfig
from storagelib.errors import InvalidInput, PermissionDenied, Unavailable
from tests.plugins.conformance import Tenants, opening_of


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_one_process_finds_all_its_tenants(kind: str, tmp_path: Path) -> None:
    """Each key its own, and a closed store none."""
    config = StoreConfig.in_memory() if kind == "memory" else StoreConfig.on_sqlite(tmp_path / "keys.db")
    with Store.open(config) as store:
        made = {name: store.for_tenant(name).api_keys.create("robot", key_id="same") for name in ("acme", "other")}
        for name, key in made.items():
            assert store.verify_api_key(key.token).tenant_id == name
    with pytest.raises(Unavailable):
        store.verify_api_key(made["acme"].token)


def test_the_shared_login_finds_all_tenants(conformance_tenants: Tenants) -> None:
    """Those of role mode too, with both twins; what is suspended or revoked is not found, and the use is noted."""
    opening = opening_of(conformance_tenants, "sealed")
    acme, other, alone = opening.new_tenant(), opening.new_tenant(), conformance_tenants.new("role")
    with Store.open(StoreConfig.from_credentials(conformance_tenants.of(alone))) as bound:
        theirs = bound.for_tenant(alone).api_keys.create("robot")
    with Store.open(opening.config, provider=opening.provider) as store:
        mine = store.for_tenant(acme).api_keys.create("robot", scopes=["read"])
        found = store.verify_api_key(mine.token, "read")
        assert (found.tenant_id, found.key_id, found.name, found.scopes) == (acme, mine.key_id, "robot", ("read",))
        assert store.verify_api_key(theirs.token).tenant_id == alone
        last_used = store.for_tenant(acme).api_keys.get(mine.key_id)
        assert last_used is not None
        assert last_used.last_used_at is not None
        gone = store.for_tenant(other).api_keys.create("robot")
        store.for_tenant(other).api_keys.revoke(gone.key_id)
        for token in (gone.token, token_of("lsk", mine.key_id, 7)):
            with pytest.raises(PermissionDenied, match="the key is not valid"):
                store.verify_api_key(token)

        async def awaited() -> str:
            async with await AsyncStore.open(opening.config, provider=opening.provider) as twin:
                return (await twin.verify_api_key(mine.token)).tenant_id

        assert asyncio.run(awaited()) == acme
        set_tenant(conformance_tenants, acme, "suspended = true")
        with pytest.raises(PermissionDenied, match="the key is not valid"):
            store.verify_api_key(mine.token)


def test_a_login_of_one_tenant_looks_no_further(conformance_tenants: Tenants) -> None:
    """Its own keys are found, the neighbour's are not valid; and nobody grants it more."""
    acme, other = conformance_tenants.new("role"), conformance_tenants.new("role")
    stores = {name: Store.open(StoreConfig.from_credentials(conformance_tenants.of(name))) for name in (acme, other)}
    try:
        made = {name: store.for_tenant(name).api_keys.create("robot") for name, store in stores.items()}
        assert stores[acme].verify_api_key(made[acme].token).tenant_id == acme
        with pytest.raises(PermissionDenied, match="the key is not valid"):
            stores[acme].verify_api_key(made[other].token)
    finally:
        for store in stores.values():
            store.close()
    call = sql.SQL("SELECT {}.verify_api_key(sha256('x'))").format(
        sql.Identifier(conformance_tenants.installation.schema)
    )
    with (
        psycopg.connect(conformance_tenants.of(acme).conninfo, autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(call)


def test_many_logins_are_told_what_is_needed(conformance_tenants: Tenants) -> None:
    """No login is tried after another."""
    opening = opening_of(conformance_tenants, "role")
    with Store.open(opening.config, provider=opening.provider) as store:
        made = store.for_tenant(opening.new_tenant()).api_keys.create("robot")
        with pytest.raises(PermissionDenied, match="open the store with the shared login"):
            store.verify_api_key(made.token)


@pytest.mark.parametrize("mode", ["role", "sealed"])
def test_a_full_tenants_keys_still_open_its_doors(conformance_tenants: Tenants, mode: str) -> None:
    """Over the quota keys are verified, their use is noted, and they can be removed."""
    opening = opening_of(conformance_tenants, mode)
    tenant = opening.new_tenant()
    with Store.open(opening.config, provider=opening.provider) as store:
        keys = store.for_tenant(tenant).api_keys
        made = keys.create("robot")
        set_tenant(
            conformance_tenants, tenant, "quota_bytes = 10, used_bytes = 20, over_quota = true, quota_enforced = true"
        )
        assert keys.verify(made.token).key_id == made.key_id
        kept = keys.get(made.key_id)
        assert kept is not None
        assert kept.last_used_at is not None
        assert keys.delete(made.key_id)


def test_a_registered_backend_has_one_tenants_keys() -> None:
    """The store says so instead of looking elsewhere."""
    register("api_keys", "elsewhere", lambda _tenant, _options: object())
    components = {"api_keys": ComponentConfig(backend="elsewhere")}
    with (
        Store.open(StoreConfig(backend="memory", components=components)) as store,
        pytest.raises(InvalidInput, match="elsewhere"),
    ):
        store.verify_api_key(token_of("lsk", "a", 7))


def set_tenant(tenants: Tenants, tenant: str, change: str) -> None:
    """Change a tenant's row as the operator does."""
    installation = tenants.installation
    with installation.connect(installation.names.owner) as connection:
        statement: Any = f"UPDATE {installation.schema}.tenants SET {change} WHERE tenant = %s"
        assert connection.execute(statement, (tenant,)).rowcount == 1
