"""Which keys a change concerns: the object itself, those that wait for it, and those it stood in the way of."""

from __future__ import annotations

from typing import Any

import pytest

from storage_operator.adapters.kubernetes.cache import ObjectCache
from storage_operator.handlers.lanes import Lane
from storage_operator.handlers.queue import WorkQueue
from storage_operator.handlers.routing import Grouping, Router
from storage_operator.metrics import Metrics
from storage_operator.world import Key, Kind, Outcome
from tests.plugins.operator import ready_status, tenant_manifest

MAIN = Key(Kind.STORAGE_CLUSTER, "a", "main")


class Cluster:
    """A cache with a router on a queue that nobody works on."""

    def __init__(self) -> None:
        self.cache = ObjectCache()
        self.queue = WorkQueue(self._never, group_of=lambda _: None, cap_of=lambda _: 1, metrics=Metrics())
        self.router = Router(self.cache, self.queue)
        self.cache.subscribe(self.router.on_event)
        self._version = 0

    @staticmethod
    async def _never(_: Key) -> Outcome:
        raise AssertionError

    def put(
        self, body: dict[str, Any], *, generation: int = 1, ready: bool = False, own: bool = False, **meta: Any
    ) -> Key:
        """Store the next version of an object."""
        self._version += 1
        name = body["metadata"]["name"]
        body["metadata"] |= {"uid": name, "resourceVersion": str(self._version), "generation": generation, **meta}
        if ready:
            body["status"] = ready_status(generation)
        self.cache.put(body, own=own)
        return Key.of(body)

    def asked(self) -> dict[str, Lane]:
        """Return what was enqueued since the last call."""
        lanes = self.queue._lanes
        found = {}
        while (job := lanes.take(0.0)) is not None:
            found[job.key.name] = job.lane
            lanes.done(job.key, 0.0)
        return found


def storage(kind: Kind, name: str, **spec: Any) -> dict[str, Any]:
    """Write a cluster or a component."""
    reference = {} if kind is Kind.STORAGE_CLUSTER else {"clusterRef": {"name": "main"}}
    return {
        "apiVersion": "storage.llmspell.dev/v1alpha1",
        "kind": kind.value,
        "metadata": {"name": name, "namespace": "a"},
        "spec": {**reference, **spec},
    }


@pytest.fixture
def cluster() -> Cluster:
    """Give a cluster that is not Ready, with two tenants that wait for it."""
    found = Cluster()
    found.put(storage(Kind.STORAGE_CLUSTER, "main"))
    found.put(tenant_manifest("a", "one"))
    found.put(tenant_manifest("a", "two"))
    assert found.asked() == {"main": Lane.CHANGED, "one": Lane.CHANGED, "two": Lane.CHANGED}
    return found


def test_what_is_ready_at_the_first_sight_gives_way(cluster: Cluster) -> None:
    """After a restart ten thousand Ready tenants do not delay one that is new."""
    cluster.put(tenant_manifest("a", "old"), ready=True)
    assert cluster.asked() == {"old": Lane.RESYNC}


def test_a_ready_status_of_an_older_generation_is_not_ready(cluster: Cluster) -> None:
    """What was changed while no operator ran is new."""
    body = tenant_manifest("a", "old") | {"status": ready_status(1)}
    cluster.put(body, generation=2)
    assert cluster.asked() == {"old": Lane.CHANGED}


def test_a_cluster_that_became_ready_wakes_what_waited_for_it(cluster: Cluster) -> None:
    """A tenant made before its cluster becomes Ready by itself, though the change was our own patch."""
    cluster.put(storage(Kind.STORAGE_CLUSTER, "main"), ready=True, own=True)
    assert cluster.asked() == {"one": Lane.RETRY, "two": Lane.RETRY}


def test_a_changed_cluster_concerns_its_tenants(cluster: Cluster) -> None:
    """Allowed namespaces or a pooler are part of every tenant's plan."""
    cluster.put(storage(Kind.STORAGE_CLUSTER, "main"), generation=2)
    assert cluster.asked() == {"main": Lane.CHANGED, "one": Lane.RETRY, "two": Lane.RETRY}


def test_our_own_patches_ask_for_nothing(cluster: Cluster) -> None:
    """Writing a status is no reason to look again; somebody else's edit of it is."""
    cluster.put(tenant_manifest("a", "one"), ready=True, own=True)
    assert cluster.asked() == {}
    cluster.put(tenant_manifest("a", "one"))
    assert cluster.asked() == {"one": Lane.RETRY}


def test_the_last_tenant_of_a_deleted_cluster_lets_it_go(cluster: Cluster) -> None:
    """A blocked deletion goes on without waiting for a resync."""
    cluster.put(storage(Kind.STORAGE_CLUSTER, "main"), deletionTimestamp="2026-01-01T00:00:00Z")
    cluster.asked()
    cluster.cache.drop(Key(Kind.TENANT, "a", "one"), own=True)
    assert cluster.asked() == {"main": Lane.RETRY}


def test_a_freed_tenant_id_is_offered_to_who_was_refused(cluster: Cluster) -> None:
    """Deleting the holder is the change that the second claim waits for."""
    rival = tenant_manifest("b", "rival", tenantId="a-one", clusterRef={"name": "main", "namespace": "a"})
    cluster.put(rival)
    cluster.asked()
    cluster.cache.drop(Key(Kind.TENANT, "a", "one"))
    assert cluster.asked() == {"one": Lane.CHANGED, "rival": Lane.RETRY}


def test_a_component_that_became_ready_or_left_concerns_every_tenant(cluster: Cluster) -> None:
    """Which stores are enabled decides the privileges."""
    component = cluster.put(storage(Kind.STORAGE_COMPONENT, "kv", store="KeyValue"))
    cluster.asked()
    cluster.put(storage(Kind.STORAGE_COMPONENT, "kv", store="KeyValue"), ready=True, own=True)
    assert cluster.asked() == {"one": Lane.RETRY, "two": Lane.RETRY}
    cluster.cache.drop(component, own=True)
    assert cluster.asked() == {"one": Lane.RETRY, "two": Lane.RETRY}


def test_an_edited_secret_is_as_urgent_as_a_change(cluster: Cluster) -> None:
    """An application without its password does not wait for a resync."""
    cluster.router.on_secret(Key(Kind.TENANT, "a", "one"))
    assert cluster.asked() == {"one": Lane.CHANGED}


def test_a_cluster_has_a_slot_of_its_own_and_its_limit_counts_at_once() -> None:
    """Its reconcile does not wait behind its tenants; an edited limit needs no restart."""
    cluster = Cluster()
    grouping = Grouping(cluster.cache, default_cap=4)
    tenant = cluster.put(tenant_manifest("a", "one"))
    assert grouping.group_of(tenant) == MAIN
    assert grouping.cap_of(MAIN) == 4
    cluster.put(storage(Kind.STORAGE_CLUSTER, "main", limits={"concurrency": 9}))
    assert grouping.cap_of(MAIN) == 9
    assert grouping.group_of(MAIN) != MAIN
    assert grouping.cap_of(grouping.group_of(MAIN)) == 1
