"""A process that forks with an open store, or goes on in another event loop: nobody takes another's answers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from storagelib import AsyncStore, StoreConfig, Unavailable
from tests.plugins.conformance import Tenants

SCRIPT = """
import gc, os, sys
from storagelib import Credentials, Store, StoreConfig, Unavailable

dsn, tenant, mode, capability, path = sys.argv[1:]
if dsn:
    own = Credentials.from_dsn(dsn, tenant_id=tenant, mode=mode, capability=capability or None)
    config = StoreConfig.from_credentials(own, pool_min=1, pool_max=1)
else:
    config = StoreConfig.on_sqlite(path, durability="normal")
store = Store.open(config)
kv = store.for_tenant(tenant).kv
kv.set("who", b"parent")
for ending in ("exit", "close", "collect"):
    child = os.fork()
    if not child:
        try:
            kv.get("who")
        except Unavailable as error:
            refused = "fork" in str(error)
        else:
            refused = False
        if ending == "collect":
            del kv, store
            gc.collect()
        os._exit(0 if refused else 7)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, (ending, status)
    for turn in range(3):
        kv.set("turn", str(turn).encode())
        assert kv.get("turn") == str(turn).encode()
    assert kv.get("who") == b"parent"
store.close()
print("whole")
"""


@pytest.mark.parametrize("mode", ["role", "sealed", "sqlite"])
def test_a_child_leaves_its_parents_connections_alone(conformance_tenants: Tenants, mode: str, tmp_path: Path) -> None:
    """The child is told; what the parent asks afterwards is answered as if there had been no child."""
    arguments = ["", "acme", "", "", str(tmp_path / "a.db")]
    if mode != "sqlite":
        own = conformance_tenants.of(conformance_tenants.new(mode))
        arguments = [own.dsn, own.tenant_id, mode, own.capability or "", ""]
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=False, timeout=200
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "whole"


def test_a_store_of_another_event_loop_is_told(conformance_tenants: Tenants) -> None:
    """Nothing waits there for answers that come elsewhere; in its own loop the store goes on."""
    own = conformance_tenants.of(conformance_tenants.new("role"))

    async def opened() -> AsyncStore:
        return await AsyncStore.open(StoreConfig.from_credentials(own))

    async def used(store: AsyncStore) -> bytes | None:
        return await store.for_tenant(own.tenant_id).kv.get("who")

    home = asyncio.new_event_loop()
    store = home.run_until_complete(opened())
    try:
        with pytest.raises(Unavailable, match="another event loop"):
            asyncio.run(asyncio.wait_for(used(store), 60))
        assert home.run_until_complete(used(store)) is None
    finally:
        home.run_until_complete(store.aclose())
        home.close()
