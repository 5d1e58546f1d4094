"""StorageComponents on a real PostgreSQL: parameters, tables, partitions, and stores that are switched off and on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest

from storage_operator.reconcile import components
from storage_operator.resources.kinds import Kind
from tests.plugins.installation import Installation
from tests.reconcile.stage import CLUSTER_NAMESPACE, Stage, staged


@pytest.fixture
async def stage(installation: Installation) -> AsyncIterator[Stage]:
    """Give a connected reconciler on the file's database."""
    async with staged(installation) as made:
        await made.tended.ensure_app()
        yield made


def reads(dsn: str, table: str) -> bool:
    """Whether a login may read a table."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        try:
            connection.execute(f"SELECT count(*) FROM llmspell.{table}".encode())
        except psycopg.errors.InsufficientPrivilege:
            return False
    return True


async def test_a_store_that_is_switched_off_is_out_of_reach(stage: Stage) -> None:
    """No tenant reaches a disabled store, in role mode or sealed; switched on again, each does."""
    tenant = await stage.ready("switched", components=["KV", "Sessions"])
    sealed = await stage.ready("switched-sealed", isolation="Sealed")
    key = stage.component("KV", enabled=False)
    await stage.run(key)
    assert stage.condition(key, "Applied") == ("True", "Disabled")
    assert [reads(stage.dsn(each), "kv_store") for each in (tenant, sealed)] == [False, False]
    assert reads(stage.dsn(tenant), "sessions")
    await stage.run(stage.component("KV", enabled=True))
    assert [reads(stage.dsn(each), "kv_store") for each in (tenant, sealed)] == [True, True]
    assert (await stage.run(key)).result == "unchanged"


async def test_a_component_from_another_namespace_takes_no_place(stage: Stage) -> None:
    """It is refused itself, and an older one there does not keep the cluster's own from being applied or undone."""
    declared = {"clusterRef": {"name": "main", "namespace": CLUSTER_NAMESPACE}, "store": "Procedures"}
    stranger = stage.world.put(Kind.STORAGE_COMPONENT, "a-stranger", "first", declared)
    stage.world.bodies[stranger]["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    await stage.run(stranger)
    assert stage.condition(stranger, "Accepted") == ("False", "NamespaceNotAllowed")
    own = stage.component("Procedures", enabled=False)
    await stage.run(own)
    assert stage.condition(own, "Applied") == ("True", "Disabled")
    stage.world.delete(own)
    await stage.run(own)
    enabled = "SELECT enabled FROM llmspell.components WHERE store = 'procedures'"
    assert stage.superuser(enabled) == [(True,)]


async def test_a_switch_that_was_interrupted_is_finished(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a run ends between the component's row and the grants, the next run takes the grants away."""
    tenant = await stage.ready("half-switched", components=["Hooks"])
    key = stage.component("Hooks", enabled=False)
    original = components.database.apply

    async def crash(*arguments: object) -> None:
        await original(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(components.database, "apply", crash)
    with pytest.raises(KeyboardInterrupt):
        await stage.run(key)
    monkeypatch.undo()
    await stage.run(key)
    assert not reads(stage.dsn(tenant), "hook_history")
    await stage.run(stage.component("Hooks", enabled=True))


async def test_a_new_dimension_gets_a_protected_table(stage: Stage) -> None:
    """A dimension nobody had is a table like the standard ones: reachable for its tenants, and sound in the audit."""
    tenant = await stage.ready("dimensions", components=["Vectors"])
    key = stage.component("Vectors", vectors={"dimensions": [384, 5000]})
    await stage.run(key)
    assert stage.condition(key) == ("True", "Ready")
    assert "5000" in stage.message(key, "Applied")
    assert reads(stage.dsn(tenant), "vector_embeddings_5000")
    assert await stage.tended.audit() == ()
    assert (await stage.run(key)).result == "unchanged"


async def test_events_are_partitioned_ahead(stage: Stage) -> None:
    """As many partitions as declared begin in the future, and the status tells how far they reach."""
    key = stage.component("Events", events={"createAhead": 6})
    await stage.run(key)
    partitions = stage.world.bodies[key]["status"]["partitions"]
    assert partitions["count"] >= 6
    assert (await stage.run(key)).result == "unchanged"


async def test_a_second_component_of_a_store_is_refused(stage: Stage) -> None:
    """The older component keeps the store; the younger is Duplicate and changes nothing."""
    first = stage.component("Graph")
    stage.world.bodies[first]["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
    await stage.run(first)
    declared = {"clusterRef": {"name": "main"}, "store": "Graph", "enabled": False}
    second = stage.world.put(first.kind, first.namespace, "graph-two", declared)
    await stage.run(second)
    assert stage.condition(second) == ("False", "Duplicate")
    stage.world.delete(second)
    await stage.run(second)
    enabled = stage.superuser("SELECT enabled FROM llmspell.components WHERE store = 'graph'")
    assert enabled == [(True,)]


async def test_a_deleted_component_leaves_its_defaults(stage: Stage) -> None:
    """The store is enabled again without parameters; its tables and rows stay."""
    key = stage.component("Artifacts", enabled=False, artifacts={"compressionLevel": 9})
    await stage.run(key)
    stage.world.delete(key)
    assert (await stage.run(key)).result == "deleted"
    row = stage.superuser("SELECT enabled, parameters FROM llmspell.components WHERE store = 'artifacts'")
    assert row == [(True, {})]


async def test_a_component_is_not_let_go_while_its_cluster_is_out_of_reach(stage: Stage) -> None:
    """Otherwise the store would stay switched off; once the cluster serves again the deletion ends by itself."""
    key = stage.component("AgentState", enabled=False)
    await stage.run(key)
    entry = stage.reconciler.context.fleet.get(stage.cluster)
    assert entry is not None
    entry.serving = False
    stage.world.delete(key)
    assert (await stage.run(key)).result == "failed"
    assert stage.condition(key, "DeletionBlocked") == ("True", "CleanupFailed")
    entry.serving = True
    assert (await stage.run(key)).result == "deleted"
    assert stage.superuser("SELECT enabled FROM llmspell.components WHERE store = 'agent_state'") == [(True,)]


async def test_autovacuum_parameters_reach_every_leaf(stage: Stage) -> None:
    """Storage parameters stand on the tables that hold rows, and a second run finds them."""
    key = stage.component("Sessions", autovacuum={"vacuumScaleFactor": 0.05, "costLimit": 500})
    await stage.run(key)
    ((options,),) = stage.superuser("SELECT reloptions FROM pg_class WHERE oid = 'llmspell.sessions'::regclass")
    assert {"autovacuum_vacuum_scale_factor=0.05", "autovacuum_vacuum_cost_limit=500"} <= set(options)
    assert (await stage.run(key)).result == "unchanged"


async def test_a_tenant_of_a_disabled_store_is_told(stage: Stage) -> None:
    """A tenant that names a store which is off is provisioned and not Ready, with the store's name."""
    await stage.run(stage.component("Procedures", enabled=False))
    key = stage.tenant("asks-too-much", components=["Procedures", "KV"])
    await stage.run(key)
    assert stage.condition(key) == ("False", "ComponentUnknown")
    assert "Procedures" in stage.message(key, "Provisioned")
    await stage.run(stage.component("Procedures", enabled=True))
    await stage.run(key)
    assert stage.condition(key) == ("True", "Ready")
